"""Formats, folders, geometry, folds, batches, augmentation and phantoms."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Orientation, Spacing, SpatialResample
from scipy import ndimage
from skimage.color import rgb_from_hed

from cdal.datasets.cases import BatchSource, Case, load_cases
from cdal.datasets.folder import open_folder
from cdal.datasets.layout import CaseFiles, DataFolder
from cdal.datasets.partition import split_cases
from cdal.datasets.phantoms import make_phantom, write_phantoms
from cdal.datasets.reading import read_case
from cdal.imaging.augment import augment
from cdal.imaging.grid import Frame, label_to_grid, resized, to_grid
from cdal.imaging.image import Image
from cdal.imaging.intensities import match_channels, normalise
from cdal.imaging.slices import slices_with_neighbours
from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError
from cdal.runtime.files import replacing
from helpers.files import affines, ball, save_nifti
from helpers.recipes import small_recipe


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path):
    (tmp_path / "a.txt").write_text("before")
    with pytest.raises(RuntimeError), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


# Folders


def make_folder(root: Path, count: int = 8, classes: int = 3) -> Path:
    rng = np.random.default_rng(0)
    for i in range(count):
        save_nifti(root / "imagesTr" / f"c{i}.nii.gz", rng.normal(size=(6, 7, 8)).astype(np.float32))
        save_nifti(root / "labelsTr" / f"c{i}.nii.gz", rng.integers(classes, size=(6, 7, 8)).astype(np.uint8))
    (root / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "a", "2": "b"}, "licence": "free"}))
    return root


def test_a_decathlon_folder_is_understood(tmp_path: Path):
    folder = open_folder(make_folder(tmp_path))
    assert [case.name for case in folder.cases] == [f"c{i}" for i in range(8)]
    assert folder.classes == ("background", "a", "b")
    assert folder.licence == "free"


def test_class_names_may_be_the_keys(tmp_path: Path):
    (make_folder(tmp_path) / "dataset.json").write_text('{"labels": {"background": 0, "b": 2, "a": 1}}')
    assert open_folder(tmp_path).classes == ("background", "a", "b")


def test_annotators_belong_to_their_image(phantoms: Path):
    folder = open_folder(phantoms)
    assert len(folder.cases) == 16
    assert [a.paths[0].name for a in folder.cases[3].labels] == [f"phantom_0003_rater{r}.png" for r in range(3)]


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda r: (r / "labelsTr" / "c2.nii.gz").unlink(), "image without a label: c2"),
        (lambda r: (r / "imagesTr" / "c2.nii.gz").unlink(), "label without an image: c2"),
        (lambda r: [p.unlink() for p in r.glob("*Tr/*")], "holds no image"),
        (lambda r: (r / "imagesTr").rename(r / "pictures"), "expected imagesTr/ and labelsTr/"),
        (lambda r: (r / "dataset.json").write_text("{"), "cannot be read as JSON"),
        (lambda r: (r / "dataset.json").write_text('{"labels": {"1": "b", "2": "a"}}'), "0 for the background"),
        (lambda r: (r / "dataset.json").write_text('{"labels": ["b", "a"]}'), "expected"),
    ],
)
def test_folders_that_cannot_be_used_are_refused(break_it, said: str, tmp_path: Path):
    break_it(make_folder(tmp_path))
    with pytest.raises(UserError, match=said):
        open_folder(tmp_path)


def test_an_empty_or_missing_folder_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="it holds nothing"):
        open_folder(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        open_folder(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("label", "affine", "said"),
    [
        (np.zeros((6, 7, 9), np.uint8), np.eye(4), "expected the shape of its image"),
        (np.zeros((6, 7, 8), np.uint8), np.diag([2.0, 1, 1, 1]), "affine"),
        (np.full((6, 7, 8), 3, np.uint8), np.eye(4), r"expected classes 0 \(background\), 1 \(a\), 2 \(b\); it holds 3"),
    ],
)
def test_labels_that_do_not_fit_are_refused(label: np.ndarray, affine: np.ndarray, said: str, tmp_path: Path):
    path = save_nifti(make_folder(tmp_path) / "labelsTr" / "c1.nii.gz", label, affine)
    folder = open_folder(tmp_path)
    with pytest.raises(UserError, match=said) as caught:
        read_case(folder.cases[1], folder)
    assert str(path) in str(caught.value)


def test_a_constant_image_is_refused(tmp_path: Path):
    save_nifti(make_folder(tmp_path) / "imagesTr" / "c1.nii.gz", np.full((6, 7, 8), 4.0, np.float32))
    folder = open_folder(tmp_path)
    with pytest.raises(UserError, match=r"c1\.nii\.gz: expected an image with some contrast"):
        load_cases(folder.cases, folder, DataSettings(size=(8, 8, 8)))


@given(st.integers(3, 60), st.integers(3, 6), st.integers(0, 5))
def test_the_parts_of_a_fold_are_a_partition(count: int, folds: int, fold: int):
    count, fold = max(count, folds), fold % folds
    cases = tuple(CaseFiles(f"{i:03d}", (Path(),), ()) for i in range(count))
    folder = DataFolder(Path(), cases, ("a", "b"))
    parts = split_cases(folder, DataSettings(folds=folds, fold=fold))
    together = sorted(case.name for case in (*parts.train, *parts.validation, *parts.test))
    assert together == [case.name for case in cases]
    assert [case.name for case in parts.test] == [f"{i:03d}" for i in range(fold, count, folds)]
    assert parts.validation == split_cases(folder, DataSettings(folds=folds, fold=(fold + 1) % folds)).test


# Geometry


def brought_back(frame: Frame, values: np.ndarray) -> np.ndarray:
    """Values on the network's grid on the image's own."""
    return frame.straight(np.concatenate(list(frame.back([values])), axis=1))


@given(affines(), st.tuples(*[st.integers(16, 24)] * 3), st.sampled_from([None, (1.0, 1.0, 1.0), (1.3, 0.9, 1.1)]))
@settings(max_examples=25)
def test_what_goes_to_the_network_comes_back_in_its_place(affine: np.ndarray, shape: tuple[int, ...], spacing):
    truth = ball(shape, affine)
    image = Image(truth[None].astype(np.float32), affine)
    frame = Frame(image, DataSettings(spacing=spacing))
    back = brought_back(frame, frame.read(0, frame.shape[0]))[0]
    assert back.shape == shape
    if spacing is None:
        np.testing.assert_allclose(back, truth, atol=1e-3)
    else:
        kept = back > 0.5
        assert 2 * (kept & truth).sum() / (kept.sum() + truth.sum()) > 0.85


@given(affines())
@settings(max_examples=15)
def test_the_networks_axes_are_nearest_to_right_anterior_superior(affine: np.ndarray):
    """Each voxel holds its millimetres to the right, to the front and upwards, which grow along the axes."""
    index = np.stack(np.meshgrid(*map(np.arange, (6, 7, 8)), indexing="ij"))
    places = (np.tensordot(affine[:3, :3], index, 1) + affine[:3, 3].reshape(3, 1, 1, 1)).astype(np.float32)
    grid = to_grid(Image(places, affine), DataSettings())
    steps = np.array([[np.diff(grid[i], axis=k).mean() for k in range(3)] for i in range(3)])
    assert (np.abs(steps).argmax(axis=0) == np.arange(3)).all()
    assert (np.diag(steps) > 0).all()


@given(affines(), st.tuples(*[st.integers(6, 14)] * 3), st.sampled_from([None, (1.0, 1.0, 1.0), (1.3, 0.9, 2.1)]))
@settings(max_examples=25)
def test_the_networks_grid_is_that_of_monai(affine: np.ndarray, shape: tuple[int, ...], spacing):
    values = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    image = Image(values, affine)
    grid = to_grid(image, DataSettings(spacing=spacing))
    expected = Orientation(axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))(
        MetaTensor(torch.from_numpy(values), affine=torch.from_numpy(affine))
    )
    if spacing is not None:
        steps = (np.array(expected.shape[1:]) - 1) * expected.pixdim.numpy() / spacing
        assume((np.abs(steps % 1 - 0.5) > 1e-6).all())  # half a voxel may be rounded either way
        expected = Spacing(pixdim=spacing, mode="bilinear", padding_mode="border", dtype=np.float64)(expected)
    np.testing.assert_allclose(grid, expected.numpy(), atol=1e-3)
    back = SpatialResample(mode="bilinear", padding_mode="border", align_corners=True, dtype=np.float64)(
        MetaTensor(torch.from_numpy(np.ascontiguousarray(grid)), affine=expected.affine),
        dst_affine=torch.from_numpy(affine),
        spatial_size=shape,
    )
    np.testing.assert_allclose(brought_back(Frame(image, DataSettings(spacing=spacing)), grid), back.numpy(), atol=1e-3)


@pytest.mark.parametrize("size", [(20, 31), (97, 64), (50, 50)])
def test_pictures_are_resized_as_pytorch_does(size: tuple[int, int], rng: torch.Generator):
    values = torch.randn(2, 50, 70, generator=rng)
    expected = torch.nn.functional.interpolate(values[None], size, mode="bilinear", antialias=True, align_corners=False)[0]
    np.testing.assert_allclose(resized(values.numpy(), size), expected.numpy(), atol=1e-4)


def test_labels_are_resampled_as_probabilities():
    """A one-voxel gap between two classes does not become a third class in between, and half a voxel does not vanish."""
    label = np.zeros((1, 12, 12, 12), np.uint8)
    label[0, :6], label[0, 6:] = 1, 3
    moved = label_to_grid(Image(label, np.eye(4)), 4, DataSettings(spacing=(0.7, 0.7, 0.7)))
    assert set(np.unique(moved).tolist()) == {1, 3}


def test_normalisation_is_that_of_the_clipped_values(rng: torch.Generator):
    values = 1e6 * torch.rand(1, 10, 11, 12, generator=rng).exp()
    clipped = np.clip(values.numpy(), *np.percentile(values.numpy(), [0.5, 99.5])).astype(np.float64)
    expected = (clipped - clipped.mean()) / clipped.std()
    image = Image(values.numpy(), np.eye(4))
    np.testing.assert_allclose(normalise(to_grid(image, DataSettings()), "image", image.stored, "x"), expected, atol=1e-3)


# Batches and augmentation

STILL = DataSettings(size=(8, 8, 8), rotation=0, scaling=0, shift=0, intensity=0)


def make_case(name: str, shape: tuple[int, ...] = (12, 10, 8), raters: int = 1) -> Case:
    generator = torch.Generator().manual_seed(len(name))
    image = torch.randn(1, *shape, generator=generator)
    return Case(name, image, torch.randint(3, (raters, *shape), generator=generator, dtype=torch.uint8))


def augment_one(
    image: torch.Tensor, label: torch.Tensor, settings_: DataSettings, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = augment([image], [label], settings_, [rng])
    return images[0], labels[0]


def test_patches_of_a_batch_are_those_of_its_images_alone():
    """Images of different sizes are moved in one call, and each as if it were alone."""
    settings_ = DataSettings(size=(12, 16, 12), flips=(0, 1), intensity=0.5)
    cases = [make_case("a", (20, 18, 22)), make_case("bb", (10, 30, 13)), make_case("ccc", (12, 16, 12))]
    rngs = [[torch.Generator().manual_seed(seed) for seed in range(3)] for _ in range(2)]
    images, labels = augment([case.image for case in cases], [case.labels[0] for case in cases], settings_, rngs[0])
    for case, rng, image, label in zip(cases, rngs[1], images, labels, strict=True):
        alone, alone_label = augment_one(case.image, case.labels[0], settings_, rng)
        torch.testing.assert_close(image, alone, rtol=1e-3, atol=1e-3)
        assert (label == alone_label).float().mean() > 0.999  # a tie may fall either way


def test_without_augmentation_a_patch_is_the_centre(rng: torch.Generator):
    case = make_case("a")
    still = replace(STILL, size=(12, 10, 8))
    image, label = augment_one(case.image, case.labels[0], still, rng)
    torch.testing.assert_close(image, case.image, rtol=1e-4, atol=1e-4)
    assert torch.equal(label, case.labels[0].long())


def test_beyond_the_edge_the_image_repeats_and_the_label_is_background(rng: torch.Generator):
    image, label = torch.full((1, 4, 4, 4), 5.0), torch.full((4, 4, 4), 2, dtype=torch.uint8)
    wide, wide_label = augment_one(image, label, STILL, rng)
    torch.testing.assert_close(wide, torch.full((1, 8, 8, 8), 5.0))
    assert int((wide_label == 2).sum()) == 64
    assert torch.equal(wide_label[2:6, 2:6, 2:6], torch.full((4, 4, 4), 2))


@pytest.mark.parametrize("dims", [2, 3])
def test_image_and_label_move_together(dims: int):
    """The label of a smooth blob, moved, is where the moved image is bright."""
    settings_ = DataSettings(
        spatial_dims=dims, size=(32,) * dims, flips=tuple(range(dims)), rotation=30, scaling=0.2, shift=3, intensity=0
    )
    axes = torch.meshgrid(*[torch.arange(36.0)] * dims, indexing="ij")
    blob = 10 - sum((axis - centre) ** 2 for axis, centre in zip(axes, (12, 20, 17), strict=False)).sqrt()
    for seed in range(5):
        image, label = augment_one(blob[None], (blob > 0).byte(), settings_, torch.Generator().manual_seed(seed))
        bright, marked = image[0] > 0, label > 0
        assert 2 * (bright & marked).sum() / (bright.sum() + marked.sum()) > 0.95


def test_a_batch_is_a_function_of_seed_and_step():
    cases = [make_case(name) for name in ("a", "bb", "ccc")]
    moving = replace(STILL, rotation=20, intensity=1, flips=(0, 1))
    first, again, other = (BatchSource(cases, moving, 2, seed)(5) for seed in (1, 1, 2))
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.label, again.label)
    assert not torch.equal(first.image, other.image)


def test_each_case_is_drawn_once_before_any_is_drawn_again():
    cases = [make_case("x" * i) for i in range(1, 8)]
    source = BatchSource(cases, STILL, 3, seed=0)
    drawn = [name for step in range(7) for name in source(step).cases]
    for epoch in range(3):
        assert sorted(drawn[7 * epoch : 7 * epoch + 7]) == sorted(case.name for case in cases)


def test_annotators_take_turns():
    case = make_case("a", raters=3)
    source = BatchSource([case], replace(STILL, size=(12, 10, 8)), 1, seed=0)
    seen = {next(r for r in range(3) if torch.equal(source(step).label[0], case.labels[r].long())) for step in range(20)}
    assert seen == {0, 1, 2}


def test_slices_bring_their_neighbours(rng: torch.Generator):
    volume = torch.randn(1, 4, 5, 6, generator=rng)
    slices = torch.from_numpy(slices_with_neighbours(volume.numpy(), 2, 1, np.array([0, 3])))
    assert slices.shape == (2, 3, 4, 5)
    torch.testing.assert_close(slices[1], volume[0, :, :, 2:5].movedim(-1, 0))
    torch.testing.assert_close(slices[0, 0], volume[0, :, :, 0])


# Phantoms


def test_phantoms_are_a_function_of_their_seed(tmp_path: Path):
    for name in ("a", "b"):
        write_phantoms(tmp_path / name, 2, seed=5, size=32, raters=2)
    files = [sorted(p for p in (tmp_path / name).rglob("*.png")) for name in ("a", "b")]
    assert len(files[0]) == 2 * (1 + 1 + 2)
    assert all(first.read_bytes() == second.read_bytes() for first, second in zip(*files, strict=True))


def test_annotators_agree_inside_and_outside_and_differ_between():
    for seed in range(5):
        phantom = make_phantom(np.random.default_rng(seed), 64, 8)
        share = phantom.raters.mean(axis=0)
        assert 0 < ((share > 0) & (share < 1)).mean() < 0.4
        assert (share == 0).any()
        # The strict lie within the generous, but for their unsteady hands.
        by_size = sorted(phantom.raters, key=np.sum)
        for strict, generous in itertools.pairwise(by_size):
            assert (strict & ~generous & 1).sum() < 0.1 * strict.sum() + 10


def test_the_small_recipe_fits_the_phantoms(phantoms: Path):
    folder = open_folder(phantoms)
    assert load_cases(folder.cases[:1], folder, small_recipe().data)[0].image.shape == (1, 32, 32)


# Pictures on the network's grid, intensities, stains


def test_pictures_are_resized_and_come_back():
    y, x = np.mgrid[:90, :120]
    truth = (np.hypot(y - 45, x - 60) < 30).astype(np.uint8)
    settings_ = DataSettings(spatial_dims=2, size=(48, 64), resize=(48, 64))
    frame = Frame(Image(100.0 * truth[None].astype(np.float32)), settings_)
    grid = frame.read(0, 48)
    assert grid.shape == (1, 48, 64)
    back = brought_back(frame, grid / 100)[0] > 0.5
    assert 2 * (back & (truth > 0)).sum() / (back.sum() + truth.sum()) > 0.98
    label = label_to_grid(Image(truth[None]), 2, settings_)
    assert label.mean() == pytest.approx(truth.mean(), rel=0.02)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_range_means_the_same_in_every_image(kind: type):
    top = np.iinfo(kind).max
    dark = np.array([[[0.0, top / 2], [top / 4, top / 8]]])
    np.testing.assert_allclose(normalise(dark, "range", np.dtype(kind), "x"), [[[-2, 0], [-1, -1.5]]], atol=1e-5)


def test_gray_pictures_and_colours_meet():
    gray, colours = np.random.default_rng(0).integers(0, 255, size=(2, 3, 5, 6)).astype(np.float32)
    one = Image(gray[:1], stored=np.dtype(np.uint8))
    assert match_channels(one, 3, "x").array.shape == (3, 5, 6)
    alike = Image(gray[:1].repeat(3, axis=0) + np.array([0, 2, -2])[:, None, None], stored=np.dtype(np.uint8))
    np.testing.assert_array_equal(match_channels(alike, 1, "x").array, alike.array[:1])
    with pytest.raises(UserError, match="turn it to gray"):
        match_channels(Image(colours, stored=np.dtype(np.uint8)), 1, "x")


def test_stains_change_along_their_own_directions(rng: torch.Generator):
    """In scikit-image's own unmixing of stains, a jitter is a linear map of each stain's amount; white may take a tint, no more."""
    rgb = np.random.default_rng(0).uniform(0.2, 0.9, size=(24, 24, 3))
    settings_ = DataSettings(
        spatial_dims=2, size=(24, 24), intensities="range", rotation=0, scaling=0, shift=0, intensity=0, stain=1.0
    )
    image = torch.from_numpy(np.moveaxis(rgb, -1, 0)).float() * 4 - 2
    moved, _ = augment_one(image, torch.zeros(24, 24, dtype=torch.uint8), settings_, rng)
    after = np.moveaxis(((moved + 2) / 4).numpy(), 0, -1)
    whole = ((after > 0.005) & (after < 0.995)).all(axis=-1)  # not clipped
    assert whole.mean() > 0.8
    assert np.abs(after - rgb).max() > 0.02
    inverse = np.linalg.inv(rgb_from_hed)
    before_amounts, after_amounts = (-np.log(x[whole]) @ inverse for x in (rgb, after))
    for k in range(3):
        slope, offset = np.polyfit(before_amounts[:, k], after_amounts[:, k], 1)
        assert 0.74 < slope < 1.26
        np.testing.assert_allclose(after_amounts[:, k], slope * before_amounts[:, k] + offset, atol=2e-2)


def test_beyond_a_narrow_field_it_is_dark_and_the_foreground_lies_within(rng: torch.Generator):
    image = torch.randn(1, 40, 32, generator=rng).exp()
    label = torch.zeros(40, 32, dtype=torch.int64)
    label[12:25, 8:20] = 1
    settings_ = replace(STILL, spatial_dims=2, size=(40, 32), collimation=1.0)
    for seed in range(20):
        seen, moved = augment_one(image, label, settings_, torch.Generator().manual_seed(seed))
        torch.testing.assert_close(moved, label)
        assert float(seen.mean()) == pytest.approx(0, abs=1e-5)
        assert float(seen.std()) == pytest.approx(1, abs=1e-4)
        level = seen[0, 0, 0] if (seen[0, 0] == seen[0, 0, 0]).all() else seen[0, -1, -1]
        field = (seen[0] != level).nonzero()
        inside = tuple(slice(int(field[:, axis].min()), int(field[:, axis].max()) + 1) for axis in range(2))
        assert label[inside].sum() == label.sum()
        assert seen[0][inside].numel() < image.numel()
        # Within it is the image, brighter or darker as a whole; beyond it as dark as the foreground at most.
        assert np.corrcoef(seen[0][inside].flatten(), image[0][inside].flatten())[0, 1] == pytest.approx(1, abs=1e-5)
        assert seen.min() - 1e-5 <= level <= seen[0][label > 0].mean()
    never, _ = augment_one(image, label, replace(settings_, collimation=0.0), rng)
    torch.testing.assert_close(never, image, rtol=1e-3, atol=1e-3)


def test_some_patches_are_centred_on_the_foreground():
    label = torch.zeros(200, 200, dtype=torch.uint8)
    label[150:153, 20:23] = 2
    image = torch.randn(1, 200, 200)
    settings_ = DataSettings(spatial_dims=2, size=(32, 32), shift=0, foreground=0.5)
    hits = [bool((augment_one(image, label, settings_, torch.Generator().manual_seed(seed))[1] == 2).any()) for seed in range(100)]
    assert 0.35 < np.mean(hits) < 0.75


def test_a_patch_of_a_large_image_is_that_of_the_whole():
    """What lies out of a patch's reach is left out before it is moved; SciPy on the whole image gives the same patch."""
    image = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(300, 280)), 2).astype(np.float32)
    settings_ = DataSettings(spatial_dims=2, size=(32, 40), rotation=45, scaling=0.25, shift=5, intensity=0)
    for seed in range(10):
        rng = torch.Generator().manual_seed(seed)
        patch, _ = augment_one(torch.from_numpy(image)[None], torch.zeros(image.shape, dtype=torch.uint8), settings_, rng)
        rng = torch.Generator().manual_seed(seed)  # the same draws again: rotation, size, place
        turn, size, *place = (2 * float(torch.rand((), generator=rng)) - 1 for _ in range(4))
        move = [p * ((s - w) / 2 + 5) for p, s, w in zip(place, image.shape, (32, 40), strict=True)]
        turn, size = turn * np.pi / 4, 1 + 0.25 * size
        y, x = np.mgrid[:32, :40] - np.array([15.5, 19.5])[:, None, None]
        rows = size * (np.cos(turn) * y - np.sin(turn) * x) + 149.5 + move[0]
        columns = size * (np.sin(turn) * y + np.cos(turn) * x) + 139.5 + move[1]
        expected = ndimage.map_coordinates(image, [rows, columns], order=1, mode="nearest")[None]
        np.testing.assert_allclose(patch.numpy(), np.asarray(expected), atol=2e-3)
