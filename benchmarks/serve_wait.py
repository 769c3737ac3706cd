"""How long a person waits at the page of `cdal serve`, from a dropped image to its mask.

    python benchmarks/serve_wait.py [--repeats 5] [--volume hippocampus] [--picture cxr]
        [--volume-shape 64 64 64] [--slice 64 64] [--slices 200] [--side 2000] [--seed 0]

Three images are drawn: a NIfTI volume of 16 bits (64 x 64 x 64 are 500 kB), a DICOM series, and a
square PNG. Each is sent as the page sends it, all layers asked for; its job is followed to the end,
and the image and the mask are fetched as the page fetches them. The models are loaded, and each
image was sent once before. The table has the medians in seconds, in Markdown. What the browser
takes to draw is not in it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import httpx
import nibabel as nib
import numpy as np
import pydicom
from PIL import Image as Pillow
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.ndimage import gaussian_filter
from serving import server

from cdal.runtime.execution.processes import terminated_is_interrupted

_WAIT = 600.0


def drawn(shape: tuple[int, ...], seed: int, highest: int) -> np.ndarray:
    """Something bright and smooth in the middle, with noise, that no packing makes small."""
    rng = np.random.default_rng(seed)
    bright = np.zeros(shape, np.float32)
    bright[tuple(slice(n // 3, 2 * n // 3) for n in shape)] = 1
    smooth = gaussian_filter(bright, [n / 16 for n in shape])
    return (highest * (0.6 * smooth + 0.4 * rng.random(shape, np.float32))).astype(np.uint16)


def write_series(folder: Path, array: np.ndarray) -> list[Path]:
    """Write a volume `[N, H, W]` as a DICOM series of N slices of 1 mm."""
    folder.mkdir()
    series, study, frame, paths = generate_uid(), generate_uid(), generate_uid(), []
    for number, plane in enumerate(array):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
            CTImageStorage,
            generate_uid(),
        )
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one = pydicom.Dataset()
        one.file_meta = meta
        one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        one.SeriesInstanceUID, one.StudyInstanceUID, one.FrameOfReferenceUID = series, study, frame
        one.Modality, one.PatientID, one.InstanceNumber = "CT", "drawn", number + 1
        one.ImagePositionPatient = [0, 0, number]
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.PixelSpacing, one.SliceThickness = [1, 1], 1
        one.Rows, one.Columns = plane.shape
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
        one.RescaleIntercept, one.RescaleSlope = 0, 1
        one.PixelData = plane.astype("<u2").tobytes()
        paths.append(folder / f"{number:04d}.dcm")
        one.save_as(paths[-1], enforce_file_format=True)
    return paths


def images(options: argparse.Namespace, folder: Path) -> dict[str, tuple[str, list[Path]]]:
    """Model and files of each image, by what it is."""
    volume = drawn(tuple(options.volume_shape), options.seed, 1000).astype(np.int16)
    nifti = folder / "volume.nii.gz"
    nib.save(nib.Nifti1Image(volume, np.eye(4)), nifti)
    size = (options.slices, *options.slice)
    series = write_series(folder / "series", drawn(size, options.seed, 1000))
    picture = folder / "picture.png"
    side = (options.side, options.side)
    Pillow.fromarray(drawn(side, options.seed, 255).astype(np.uint8)).save(picture)
    return {
        f"NIfTI {' x '.join(map(str, options.volume_shape))}": (options.volume, [nifti]),
        f"DICOM series {' x '.join(map(str, size))}": (options.volume, series),
        f"PNG {options.side} x {options.side}": (options.picture, [picture]),
    }


def wait(client: httpx.Client, model: str, paths: list[Path]) -> tuple[float, float, float]:
    """Seconds until an image was sent, until it was segmented, and until its layers had come."""
    parts = [("file", (f"{path.parent.name}/{path.name}", path.read_bytes())) for path in paths]
    if len(paths) == 1:
        parts = [("file", (paths[0].name, paths[0].read_bytes()))]
    began = time.perf_counter()
    reply = client.post(f"v1/predict/{model}?wait=false", files=parts, data={"save": "layers"})
    reply.raise_for_status()
    sent, told = time.perf_counter(), reply.json()
    with client.stream("GET", f"v1/jobs/{told['job']}/events") as events:
        states = [json.loads(line[6:]) for line in events.iter_lines() if line.startswith("data:")]
    if states[-1]["state"] != "done":
        raise SystemExit(f"{paths[0].name}: {states[-1]['message']}")
    done, case = time.perf_counter(), f"v1/cases/{told['case']}"
    client.get(case).raise_for_status()
    for layer in ("image", "mask"):
        client.get(f"{case}/layers/{layer}").raise_for_status()
    came = time.perf_counter()
    client.delete(case)
    return sent - began, done - began, came - began


def main() -> None:
    """Draw, ask and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--volume", default="hippocampus", help="model of volumes")
    parser.add_argument("--picture", default="cxr", help="model of pictures")
    parser.add_argument("--volume-shape", type=int, nargs=3, default=[64, 64, 64])
    parser.add_argument("--slice", type=int, nargs=2, default=[64, 64])
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--side", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with terminated_is_interrupted(), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print("| image | MB | sent | segmented | image and mask there |\n|---|---|---|---|---|")
        with (
            server(folder, options.volume, options.picture) as (_, address),
            httpx.Client(base_url=address, timeout=_WAIT) as client,
        ):
            known = [model["name"] for model in client.get("v1/models").json()["models"]]
            given = dict(zip((options.volume, options.picture), known, strict=True))
            for what, (model, paths) in images(options, folder).items():
                wait(client, given[model], paths)
                times = [wait(client, given[model], paths) for _ in range(options.repeats)]
                medians = [statistics.median(column) for column in zip(*times, strict=True)]
                size = sum(path.stat().st_size for path in paths) / 1e6
                told = " | ".join(f"{seconds:.2f}" for seconds in medians)
                print(f"| {what} | {size:.2f} | {told} |", flush=True)


if __name__ == "__main__":
    main()
