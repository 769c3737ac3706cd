"""The modules of the page that need no screen, against NumPy, SciPy, scikit-image and Pillow."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as Pillow
from scipy import ndimage

from helpers.page import Watched


@pytest.fixture
def blank(page: Watched) -> Watched:
    """An empty page at the server's address."""
    empty = "<!doctype html><link rel=icon href=data:,>"
    page.page.route("**/blank", lambda route: route.fulfill(body=empty, content_type="text/html"))
    page.page.goto(f"{page.address}/blank")
    return page


def numbers(shape: tuple[int, ...], most: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, most, shape).astype(np.uint8)


@pytest.mark.parametrize("level", [0, 6])
@pytest.mark.parametrize("smooth", [False, True])
def test_png_is_read_as_pillow_wrote_it(blank: Watched, level: int, smooth: bool):
    array = numbers((37, 53), 256)
    if smooth:  # then the encoder chooses other filters
        array = ndimage.gaussian_filter(array.astype(float), 4).astype(np.uint8)
    stream = io.BytesIO()
    Pillow.fromarray(array).save(stream, "PNG", compress_level=level, optimize=bool(level))
    found = blank.module(
        """const { decodeGrey } = await import('/png.js')
        const png = await decodeGrey(new Uint8Array(given).buffer)
        return [png.height, png.width, ...png.values]""",
        list(stream.getvalue()),
    )
    assert found[:2] == [37, 53]
    assert np.array_equal(np.array(found[2:]).reshape(37, 53), array)


def test_png_is_written_so_that_pillow_reads_it(blank: Watched):
    array = numbers((20, 31), 256)
    written = blank.module(
        """const { encodeGrey } = await import('/png.js')
        const blob = await encodeGrey(new Uint8Array(given), 31, 20)
        return [...new Uint8Array(await blob.arrayBuffer())]""",
        array.ravel().tolist(),
    )
    picture = Pillow.open(io.BytesIO(bytes(written)))
    assert picture.mode == "L"
    assert np.array_equal(np.asarray(picture), array)


EDIT = """
const { Edit } = await import('/edit.js')
const labels = new Uint8Array(given.labels)
const edit = new Edit(labels, given.size, given.spacing)
"""


def edited(page: Watched, labels: np.ndarray, code: str, **given: object) -> np.ndarray:
    """Labels `[z, y, x]` after some code with `edit`."""
    size = list(labels.shape[::-1])
    about = {"labels": labels.ravel().tolist(), "size": size, "spacing": [1, 1, 1], **given}
    found = page.module(f"{EDIT}{code}\nreturn [...labels]", about)
    return np.array(found, np.uint8).reshape(labels.shape)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("width", [1, 3, 7])
def test_a_brush_is_a_disc_in_its_plane(blank: Watched, axis: int, width: int):
    point = [2, 4, 6]
    code = f"edit.begin({axis}, 0); edit.stamp({point}, {axis}, {width}, 2); edit.end()"
    found = edited(blank, np.zeros((9, 8, 7), np.uint8), code)
    z, y, x = np.indices(found.shape)
    offsets = np.stack([x, y, z]) - np.array(point)[:, None, None, None]
    disc = ((offsets**2).sum(axis=0) <= (width / 2) ** 2) & (offsets[axis] == 0)
    assert np.array_equal(found, 2 * disc)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_fill_takes_the_connected_area_of_the_plane(blank: Watched, axis: int):
    labels = numbers((9, 10, 11), 2, seed=axis)
    code = f"edit.begin({axis}, 5); edit.fill([5, 5, 5], {axis}, 3); edit.end()"
    found = edited(blank, labels, code)
    plane = np.take(labels, 5, axis=2 - axis)  # arrays are z, y, x
    parts, _ = ndimage.label(plane == plane[5, 5])
    expected = labels.copy()
    view = np.moveaxis(expected, 2 - axis, 0)[5]
    view[parts == parts[5, 5]] = 3
    assert np.array_equal(found, expected)


def test_undo_takes_back_stroke_by_stroke(blank: Watched):
    labels = numbers((3, 12, 12), 4)
    strokes = """
    for (const k of [1, 2, 3]) {
      edit.begin(2, 1)
      edit.stamp([k, k, 1], 2, 5, k)
      edit.line([k, k, 1], [9, 2, 1], 2, 3, k)
      edit.end()
    }
    """
    twice = edited(blank, labels, strokes.replace("1, 2, 3", "1, 2"))
    assert not np.array_equal(twice, labels)
    assert np.array_equal(edited(blank, labels, strokes + "edit.undo()"), twice)
    assert np.array_equal(edited(blank, labels, strokes + "while (edit.undo());"), labels)


def test_slices_between_two_corrected_ones_follow_the_signed_distances(blank: Watched):
    labels, spacing = np.zeros((7, 24, 30), np.uint8), (0.5, 1.5)
    y, x = np.ogrid[:24, :30]
    ends = {1: (y - 9) ** 2 + (x - 9) ** 2 < 30, 5: (y - 14) ** 2 + (x - 19) ** 2 < 60}
    labels[3, :2] = 2  # another class, and a third one in the way
    labels[3, 20:] = 1
    code = """
    for (const slice of [1, 5]) {
      edit.begin(2, slice)
      const shape = new Uint8Array(given.shapes[slice])
      edit.put(2, slice, 1, shape)
      edit.end()
    }
    if (edit.interpolate(2, 1) !== 3) throw new Error('not three slices')
    """
    shapes = {str(k): shape.astype(int).ravel().tolist() for k, shape in ends.items()}
    found = edited(blank, labels, code, spacing=[*spacing, 2], shapes=shapes)

    def signed(shape: np.ndarray) -> np.ndarray:
        inside = ndimage.distance_transform_edt(shape, spacing[::-1])
        return np.where(shape, inside, -ndimage.distance_transform_edt(~shape, spacing[::-1]))

    for slice_ in (2, 3, 4):
        share = (slice_ - 1) / 4
        mixed = (1 - share) * signed(ends[1]) + share * signed(ends[5])
        differs = (found[slice_] == 1) != (mixed > 0)
        assert not differs[abs(mixed) > 1e-9].any()
    assert (found[3, :2] == 2).all()
    back = edited(blank, labels, code + "edit.undo()", spacing=[*spacing, 2], shapes=shapes)
    assert np.array_equal(back[[2, 3, 4]], labels[[2, 3, 4]])


def test_one_corrected_slice_is_not_enough_to_interpolate(blank: Watched):
    code = "edit.begin(2, 1); edit.stamp([3, 3, 1], 2, 3, 1); edit.end(); edit.interpolate(2, 1)"
    found = edited(blank, np.zeros((4, 8, 8), np.uint8), code)
    assert found.any(axis=(1, 2)).tolist() == [False, True, False, False]


def test_a_threshold_moves_one_class_and_leaves_the_others(blank: Watched):
    mask, values = numbers((6, 7), 3), numbers((6, 7), 256, seed=1)
    found = blank.module(
        """const { thresholded } = await import('/labels.js')
        const probability = { values: new Uint8Array(given[1]), scale: 1 / 255 }
        return [...thresholded(new Uint8Array(given[0]), probability, 2, 0.4)]""",
        [mask.ravel().tolist(), values.ravel().tolist()],
    )
    expected = np.where(values / 255 >= 0.4, 2, np.where(mask == 2, 0, mask))
    assert np.array_equal(np.array(found).reshape(mask.shape), expected)


def test_volumes_are_told_in_their_unit(blank: Watched):
    told = blank.module(
        """const { score, volume } = await import('/format.js')
        return [volume(3412.4, [3000, 4000], 'mm3'), volume(12.34, null, 'mm3'),
                volume(9216, null, 'pixels'), score(0.8567, [0.8, 0.91]), score(null, null)]"""
    )
    assert told == ["3.41 (3–4) ml", "12.3 mm³", "9,216 px", "0.86 (0.80–0.91)", "-"]  # noqa: RUF001
