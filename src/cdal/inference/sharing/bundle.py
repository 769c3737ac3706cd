"""A model as a MONAI bundle.

The layout is that of the MONAI Bundle Specification (docs/source/mb_specification.rst of MONAI). It
demands the weights as a pickled state dictionary, `models/model.pt`. The bundle itself is run from
`models/model.safetensors`, and nothing of ours reads the other.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from cdal.inference.sharing.card import AUTHORS, PAPER, Shared, needs_code, readme, trusting
from cdal.recipes.settings import DataSettings
from cdal.runtime.files import encoded, write_bytes, write_json, write_text
from cdal.runtime.version import __version__

_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
_WEIGHTS = "models/model.safetensors"

_USE = """    pip install cdal "monai[fire,ignite]"
    {trusted}python -m monai.bundle run --config_file configs/inference.json \\
        --meta_file configs/metadata.json --bundle_root . --dataset_dir IMAGES --output_dir RESULTS

IMAGES is a folder of `{pattern}` files. The network of the bundle is `cdal.BundleNetwork`: it takes
the image as it is stored and gives the mask that `cdal predict` writes, so the bundle needs neither
resampling nor windows. With `--network_def#output probability` and without `AsDiscreted` it gives
probabilities, with `--network_def#votes 5` fewer votes.

    import cdal
{trusting}    network = cdal.BundleNetwork("models/model.safetensors")
    mask = network(image).argmax(dim=1)  # image [B, C, *S], as it is stored

`models/model.pt` is there because the specification demands a pickled state dictionary. It holds
the same weights and is not needed.{needs}"""


def write_bundle(shared: Shared, folder: Path) -> list[Path]:
    """Write a bundle.

    Args:
        shared: the model.
        folder: folder of the bundle.

    Returns:
        The files.

    Raises:
        UserError: the model cannot be loaded, or the folder cannot be written.
    """
    import torch

    from cdal.inference.sharing.network import BundleNetwork

    weights = BundleNetwork(shared.path).state_dict()
    write_bytes(folder / _WEIGHTS, shared.path.read_bytes())
    with encoded(folder / "models/model.pt") as buffer:
        torch.save(weights, buffer)
    write_json(folder / "configs/metadata.json", metadata(shared))
    write_json(folder / "configs/inference.json", inference(shared))
    networks = shared.networks
    use = _USE.format(
        pattern=_pattern(shared.header.recipe.data),
        trusted="CDAL_TRUST_OWN_NETWORK=1 " if networks else "",
        trusting=trusting(networks),
        needs=f"\n\n{needs_code(networks)}" if networks else "",
    )
    write_text(folder / "docs/README.md", readme(shared, use))
    write_text(folder / "LICENSE", licence_text(shared))
    return sorted(path for path in folder.rglob("*") if path.is_file())


def metadata(shared: Shared) -> dict[str, Any]:
    """Content of `configs/metadata.json`."""
    import monai
    import numpy
    import torch

    header, data = shared.header, shared.header.recipe.data
    classes = {str(k): name for k, name in enumerate(header.classes)}
    space = ["*"] * (3 if _volumes(data) else 2)
    ranged = data.intensities == "range"
    image = {
        "type": "image",
        "format": "magnitude" if _volumes(data) or header.image_channels == 1 else "RGB",
        "modality": "n/a",
        "num_channels": header.image_channels,
        "spatial_shape": space,
        "dtype": "float32",
        "value_range": [0, 255] if ranged else [],
        "is_patch_data": False,
        "channel_def": {str(c): f"channel {c}" for c in range(header.image_channels)},
    }
    mask = {
        "type": "image",
        "format": "segmentation",
        "num_channels": len(classes),
        "spatial_shape": space,
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": False,
        "channel_def": classes,
    }
    return {
        "schema": _SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": f"written by cDAL {__version__}"},
        "monai_version": monai.__version__,
        "pytorch_version": re.sub(r"\+.*", "", torch.__version__),
        "numpy_version": numpy.__version__,
        "required_packages_version": {"cdal": __version__, "pytorch-ignite": "0.5.1"},
        "name": shared.name,
        "task": f"segmentation of {shared.structures}",
        "description": shared.about,
        "authors": AUTHORS,
        "copyright": header.licence or "not declared",
        "data_source": str(header.data.get("name") or "not named"),
        "image_classes": "the image as it is stored",
        "pred_classes": "a channel for each class, the background first; 1 where a voxel is of it",
        "eval_metrics": {f"mean_dice_{name}": score for name, score in header.scores.items()},
        "intended_use": "research; it is no medical device",
        "references": [PAPER],
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": mask}},
    }


def inference(shared: Shared) -> dict[str, Any]:
    """Content of `configs/inference.json`."""
    data = shared.header.recipe.data
    volumes = _volumes(data)
    saved = _part(
        "SaveImaged",
        keys="pred",
        output_dir="@output_dir",
        output_postfix="mask",
        output_ext=".nii.gz" if volumes else ".png",
        output_dtype="$numpy.uint8",
        resample=False,
        separate_folder=False,
    )
    before = [_part("LoadImaged", keys="image"), _part("EnsureChannelFirstd", keys="image")]
    after = [_part("AsDiscreted", keys="pred", argmax=True)]
    if not volumes:  # MONAI has the axes of a picture as x and y; ours are row and column
        before.append(_part("Transposed", keys="image", indices=[0, 2, 1]))
        after.append(_part("Transposed", keys="pred", indices=[0, 2, 1]))
    return {
        "imports": ["$import glob", "$import numpy"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/results'",
        "data": f"$sorted(glob.glob(@dataset_dir + '/{_pattern(data)}'))",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": {
            "_target_": "cdal.BundleNetwork",
            "path": f"$@bundle_root + '/{_WEIGHTS}'",
            "output": "mask",
        },
        "network": "$@network_def.to(@device)",
        "preprocessing": _compose(before),
        "dataset": _part(
            "Dataset", data="$[{'image': path} for path in @data]", transform="@preprocessing"
        ),
        "dataloader": _part("DataLoader", dataset="@dataset", batch_size=1, num_workers=0),
        "inferer": _part("SimpleInferer"),
        "postprocessing": _compose([*after, saved]),
        "evaluator": _part(
            "SupervisedEvaluator",
            device="@device",
            val_data_loader="@dataloader",
            network="@network",
            inferer="@inferer",
            postprocessing="@postprocessing",
        ),
        "run": ["$@evaluator.run()"],
    }


def licence_text(shared: Shared) -> str:
    """Under what a shared model may be used."""
    declared = shared.header.licence or "not declared"
    identifier = shared.licence
    link = f" (https://spdx.org/licenses/{identifier}.html)" if identifier else ""
    return (
        f"Weights of the model {shared.name}\n\nLicence of the data that they were trained on, "
        f"under which the weights are given: {declared}{link}\n\nThe program that runs "
        "them, cDAL, is under the Apache License 2.0 (https://www.apache.org/licenses/LICENSE-2.0).\n"
    )


def _part(kind: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": kind, **arguments}


def _compose(transforms: list[dict[str, Any]]) -> dict[str, Any]:
    return _part("Compose", transforms=transforms)


def _volumes(data: DataSettings) -> bool:
    """Whether the images are volumes."""
    return data.spatial_dims == 3 or data.neighbours > 0


def _pattern(data: DataSettings) -> str:
    return "*.nii.gz" if _volumes(data) else "*.png"
