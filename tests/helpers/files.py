"""Files that several tests make."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
from hypothesis import strategies as st
from PIL import Image as Pillow
from pydicom.uid import CTImageStorage

from cdal.datasets.check import check_folder
from cdal.datasets.folder import open_folder
from cdal.datasets.reading import read_case
from helpers.slices import new_slices


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """While it lasts no file can grow beyond so many bytes, which stands for the
    end of the disk.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def visible(folder: Path) -> set[str]:
    """Names of what a user sees in a folder."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def write_series(
    folder: Path,
    volume: np.ndarray,
    spacing: tuple[float, float, float] = (0.8, 0.7, 2.5),
    description: str = "T1",
    number: int = 3,
    first: int = 0,
    order: Iterable[int] | None = None,
) -> Path:
    """An oblique DICOM series of `[slices, rows, columns]`; file names say nothing of the order,
    values are 2 x - 1000.
    """
    folder.mkdir(parents=True, exist_ok=True)
    c, s = np.cos(0.2), np.sin(0.2)
    along_row, along_column = np.array([c, s, 0]), np.array([-s, c * np.cos(0.1), np.sin(0.1)])
    along_column -= along_row * (along_row @ along_column)
    along_column /= np.linalg.norm(along_column)
    normal = np.cross(along_row, along_column)
    places = list(np.random.default_rng(1).permutation(len(volume)) if order is None else order)
    planes = [volume[k].astype("<u2") for k in places]
    for i, (k, file) in enumerate(
        zip(places, new_slices(CTImageStorage, "CT", planes), strict=True)
    ):
        file.SeriesDescription, file.SeriesNumber = description, number
        file.PixelSpacing, file.SliceThickness = [spacing[1], spacing[0]], spacing[2]
        file.ImageOrientationPatient = [float(x) for x in (*along_row, *along_column)]
        file.ImagePositionPatient = [
            float(x) for x in np.array([-40.0, -30, 10]) + normal * spacing[2] * k
        ]
        file.RescaleSlope, file.RescaleIntercept = "2", "-1000"
        file.save_as(folder / f"IM{first + i:04d}", enforce_file_format=True)
    return folder


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Any orientation, some obliqueness, any spacing, any origin.

    Angles are whole millionths of a degree: with angles of 1e-300 degrees the decomposition in
    SimpleITK, the oracle of many tests, fails and its resampling finds no voxel.
    """
    turn = np.deg2rad([draw(st.integers(-25_000_000, 25_000_000)) / 1e6 for _ in range(3)])
    c, s = np.cos(turn), np.sin(turn)
    x = np.array([[1, 0, 0], [0, c[0], -s[0]], [0, s[0], c[0]]])
    y = np.array([[c[1], 0, s[1]], [0, 1, 0], [-s[1], 0, c[1]]])
    z = np.array([[c[2], -s[2], 0], [s[2], c[2], 0], [0, 0, 1]])
    axes = np.eye(3)[draw(st.permutations(range(3)))] * [
        draw(st.sampled_from([-1, 1])) for _ in range(3)
    ]
    affine = np.eye(4)
    affine[:3, :3] = x @ y @ z @ axes @ np.diag([draw(st.floats(0.6, 2.5)) for _ in range(3)])
    affine[:3, 3] = [draw(st.floats(-100, 100)) for _ in range(3)]
    return affine


def ball(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """A ball of a third of the field's smallest extent, off its centre, in millimetres."""
    extent = np.linalg.norm(affine[:3, :3], axis=0) * shape
    voxels = np.stack(np.meshgrid(*[np.arange(s) for s in shape], indexing="ij"), axis=-1)
    world = voxels @ affine[:3, :3].T + affine[:3, 3]
    centre = (np.array(shape) * [0.45, 0.5, 0.55]) @ affine[:3, :3].T + affine[:3, 3]
    return np.linalg.norm(world - centre, axis=-1) < extent.min() / 3


def picture(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(array).save(path)
    return path


def disc(size: int = 64, radius: float = 20, value: int = 1) -> np.ndarray:
    y, x = np.ogrid[:size, :size]
    return (((y - size / 2) ** 2 + (x - size / 2) ** 2 < radius**2) * value).astype(np.uint8)


def disc_folder(
    root: Path, count: int = 6, size: int = 64, value: int = 1, radius: float = 20
) -> Path:
    rng = np.random.default_rng(0)
    for i in range(count):
        noise = rng.integers(0, 60, size=(size, size))
        picture(
            root / "images" / f"c{i}.png", (noise + 120 * disc(size, radius + i)).astype(np.uint8)
        )
        picture(root / "masks" / f"c{i}.png", disc(size, radius + i, value))
    return root


def make_folder(root: Path, count: int = 8, classes: int = 3) -> Path:
    """Volumes of noise in the layout of the Decathlon."""
    rng = np.random.default_rng(0)
    for i in range(count):
        save_nifti(
            root / "imagesTr" / f"c{i}.nii.gz", rng.normal(size=(6, 7, 8)).astype(np.float32)
        )
        save_nifti(
            root / "labelsTr" / f"c{i}.nii.gz",
            rng.integers(classes, size=(6, 7, 8)).astype(np.uint8),
        )
    (root / "dataset.json").write_text(
        json.dumps({"labels": {"0": "background", "1": "a", "2": "b"}, "licence": "free"})
    )
    return root


def classes_of(root: Path, case: int = 0) -> np.ndarray:
    """What the first annotator of a case of a folder chose."""
    folder = open_folder(root)
    return read_case(folder.cases[case], folder)[1][0].array[0]


def kinds(root: Path, level: str) -> dict[str, str]:
    """Kind and message of the findings of a level."""
    found: dict[str, str] = {}
    for finding in check_folder(root).findings:
        if finding.level == level:
            found[finding.kind] = found.get(finding.kind, "") + finding.message + "\n"
    return found


def change(root: Path, name: str, function: Callable[[np.ndarray], np.ndarray]) -> None:
    path = root / name
    picture(path, function(np.asarray(Pillow.open(path))))


SHAPE = (14, 19, 11)
OBLIQUE = np.array(
    [[0.1, -1.9, 0.2, 30.0], [1.2, 0.1, 0.1, -20.0], [0, 0.15, -2.4, 12.0], [0, 0, 0, 1]]
)


def volume(path: Path, affine: np.ndarray = OBLIQUE, shape: tuple[int, ...] = SHAPE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(0).normal(100, 20, shape).astype(np.float32)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def numbers(shape: tuple[int, ...], kind: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, size=shape).astype(kind)
