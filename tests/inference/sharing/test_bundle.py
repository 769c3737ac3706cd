"""MONAI runs the bundles, and its masks are those of `cdal predict`."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import cdal
from cdal.cli import main
from cdal.imaging.open import open_mask
from cdal.inference.sharing.bundle import write_bundle
from cdal.inference.sharing.card import open_shared
from cdal.inference.sharing.network import BundleNetwork
from helpers.data import real
from helpers.files import OBLIQUE

REQUIRED = {
    *("version", "monai_version", "pytorch_version", "numpy_version", "task", "description"),
    *("required_packages_version", "authors", "copyright", "network_data_format"),
}
"""What the specification demands of metadata.json."""


def run(bundle: Path, images: Path, results: Path) -> None:
    """What `python -m monai.bundle run` does, without the loop of pytorch-ignite."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's own, of readers that are not installed
        from monai.bundle import ConfigParser

        parser = ConfigParser()
        parser.read_config(str(bundle / "configs" / "inference.json"))
        parser.read_meta(str(bundle / "configs" / "metadata.json"))
        parser["bundle_root"] = str(bundle)
        parser["dataset_dir"], parser["output_dir"] = str(images), str(results)
        parser["device"] = "cpu"
        network, inferer, after = (
            parser.get_parsed_content(name) for name in ("network", "inferer", "postprocessing")
        )
        from monai.data import decollate_batch

        for batch in parser.get_parsed_content("dataloader"):
            batch["pred"] = inferer(batch["image"], network)
            for case in decollate_batch(batch):
                after(case)


@pytest.fixture(scope="module")
def volumes(volume_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a model of volumes."""
    folder = tmp_path_factory.mktemp("bundles") / "volumes"
    write_bundle(open_shared(volume_model), folder)
    return folder


def test_monai_gives_the_mask_of_a_volume(volumes: Path, volume_model: Path, tmp_path: Path):
    images = tmp_path / "images"
    images.mkdir()
    values = np.random.default_rng(0).normal(size=(20, 24, 16)).astype(np.float32)
    affine = OBLIQUE @ np.diag([1.2, 0.9, 1.0, 1.0])
    for name in ("a", "b"):
        nib.save(nib.Nifti1Image(values, affine), images / f"{name}.nii.gz")
    run(volumes, images, tmp_path / "monai")
    cdal.predict(volume_model, [images], tmp_path / "ours")
    for name in ("a_mask.nii.gz", "b_mask.nii.gz"):
        theirs, ours = nib.load(tmp_path / "monai" / name), nib.load(tmp_path / "ours" / name)
        np.testing.assert_array_equal(theirs.get_fdata(), ours.get_fdata())
        np.testing.assert_allclose(theirs.affine, ours.affine, atol=1e-6)
        assert len(np.unique(ours.get_fdata())) > 1


def test_monai_gives_the_mask_of_a_picture(trained: Path, phantoms: Path, tmp_path: Path):
    assert main(["export", str(trained), "--to", "bundle", "--out", str(tmp_path)]) == 0
    images = tmp_path / "images"
    images.mkdir()
    picture = np.random.default_rng(0).integers(0, 255, (50, 36)).astype(np.uint8)
    Pillow.fromarray(picture).save(images / "a.png")
    run(tmp_path / f"{trained.name}-bundle", images, tmp_path / "monai")
    cdal.predict(trained, [images], tmp_path / "ours")
    theirs, ours = (
        np.asarray(Pillow.open(tmp_path / place / "a_mask.png")) for place in ("monai", "ours")
    )
    np.testing.assert_array_equal(theirs, ours)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "image"),
    [
        ("hippocampus", "hippocampus/imagesTr/hippocampus_001.nii.gz"),
        ("cxr", "cxr/images/CHNCXR_0001_0.png"),
    ],
)
def test_monai_gives_the_masks_of_shipped_models(model: str, image: str, tmp_path: Path):
    """On real images, all votes."""
    folder, _, file = image.partition("/")
    source = real(folder) / file
    write_bundle(open_shared(model), tmp_path / "bundle")
    (tmp_path / "images").mkdir()
    shutil.copy(source, tmp_path / "images")
    run(tmp_path / "bundle", tmp_path / "images", tmp_path / "monai")
    cdal.predict(model, [source], tmp_path / "ours")
    (ours,) = (tmp_path / "ours").glob("*_mask.*")
    with open_mask(ours) as mine, open_mask(tmp_path / "monai" / ours.name) as theirs:
        expected = mine.rows(0, mine.shape[0])
        np.testing.assert_array_equal(theirs.rows(0, theirs.shape[0]), expected)
    assert expected.any()


def test_the_files_are_those_of_the_specification(volumes: Path, volume_model: Path):
    for name in ("LICENSE", "docs/README.md", "models/model.pt", "configs/inference.json"):
        assert (volumes / name).stat().st_size
    metadata: dict[str, Any] = json.loads((volumes / "configs/metadata.json").read_text())
    assert set(metadata) >= REQUIRED
    data = metadata["network_data_format"]
    assert data["inputs"]["image"]["num_channels"] == 1
    assert data["outputs"]["pred"]["channel_def"] == {"0": "background", "1": "a", "2": "b"}
    assert (volumes / "models/model.safetensors").read_bytes() == volume_model.read_bytes()


def test_the_state_dictionary_is_that_of_the_network(volumes: Path, volume_model: Path):
    weights = torch.load(volumes / "models/model.pt", weights_only=True)
    network = BundleNetwork(volume_model)
    assert set(weights) == set(network.state_dict())
    network.load_state_dict(weights)


def test_monai_loads_the_bundle(volumes: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.bundle import load

        network = load(
            volumes.name,
            bundle_dir=str(volumes.parent),
            workflow_type="inference",
            net_override={"path": str(volumes / "models/model.safetensors")},
            device="cpu",
        )
    assert isinstance(network, BundleNetwork)
