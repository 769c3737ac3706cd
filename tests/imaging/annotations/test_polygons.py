"""Filled polygons, against matplotlib, scikit-image and their own area."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from skimage.draw import ellipse as drawn_ellipse
from skimage.draw import polygon2mask

from cdal.imaging.annotations import Segment, draw
from cdal.imaging.annotations.polygons import (
    bitmap,
    ellipse,
    fill,
    fill_parts,
    need_points,
    rectangle,
)
from cdal.runtime.errors import UserError

SHAPE = (23, 31)


def on_picture(segment: Segment, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """The segment on its picture."""
    return draw([segment], shape, ("", segment.name))[0] > 0


def by_matplotlib(ring: np.ndarray, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (
        Outline(ring, closed=False)
        .contains_points(np.c_[x.ravel(), y.ravel()] + 0.5)
        .reshape(shape)
    )


def by_scikit_image(ring: np.ndarray, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Its coordinates are row and column, and whole at the centres of pixels."""
    return polygon2mask(shape, ring[:, ::-1] - 0.5)


def star(
    rng: np.random.Generator, corners: int, centre: tuple[float, float], size: float
) -> np.ndarray:
    """A polygon that does not cross itself."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = rng.uniform(0.3, 1, corners) * size
    return np.c_[np.cos(angles), np.sin(angles)] * radii[:, None] + centre


@given(st.integers(0, 10_000), st.integers(3, 12), st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_ring_is_filled_as_by_matplotlib_and_scikit_image(seed: int, corners: int, plain: bool):
    """Corners at random places lie on no centre. Rings that cross themselves too, and such that
    leave the picture.
    """
    rng = np.random.default_rng(seed)
    ring = star(rng, corners, (15, 11), 14) if plain else rng.uniform(-8, 38, (corners, 2))
    ours = on_picture(fill("a", [ring], SHAPE))
    np.testing.assert_array_equal(ours, by_matplotlib(ring))
    np.testing.assert_array_equal(ours, by_scikit_image(ring))


@given(st.integers(0, 10_000), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_rings_within_rings_are_holes(seed: int, holes: int):
    rng = np.random.default_rng(seed)
    rings = [star(rng, 9, (15, 11), 13), *(star(rng, 7, (15, 11), 6) for _ in range(holes))]
    expected = np.logical_xor.reduce([by_matplotlib(ring) for ring in rings])
    np.testing.assert_array_equal(on_picture(fill("a", rings, SHAPE)), expected)
    union = np.logical_or.reduce([by_matplotlib(ring) for ring in rings])
    np.testing.assert_array_equal(
        on_picture(fill_parts("a", [[ring] for ring in rings], SHAPE)), union
    )


@given(st.integers(0, 10_000), st.integers(3, 20))
@settings(max_examples=100, deadline=None)
def test_the_area_is_right_to_half_a_pixel_of_the_boundary(seed: int, corners: int):
    ring = star(np.random.default_rng(seed), corners, (50, 50), 45)
    x, y = ring.T
    area = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    boundary = np.linalg.norm(ring - np.roll(ring, -1, axis=0), axis=1).sum()
    assert (
        abs(on_picture(fill("a", [ring], (100, 100)), (100, 100)).sum() - area) <= boundary / 2 + 1
    )


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_polygons_with_common_edges_share_no_pixel_and_leave_no_gap(seed: int):
    """Also where edges run through centres: corners lie on halves of pixels."""
    rng = np.random.default_rng(seed)
    left, right = np.array([[0, 0], [0, 23]]), np.array([[31, 23], [31, 0]])
    middle = np.c_[rng.integers(2, 60, 7) / 2, np.sort(rng.integers(0, 46, 7) / 2)]
    middle[[0, -1], 1] = 0, 23
    first = on_picture(fill("a", [np.r_[left, middle[::-1]]], SHAPE)).astype(int)
    second = on_picture(fill("a", [np.r_[right, middle]], SHAPE)).astype(int)
    assert (first + second == 1).all()


def test_a_keyhole_is_a_hole_and_a_closed_ring_is_the_open_one():
    """One ring that goes in to the hole and out again on the same way."""
    outer = [[2, 2], [20, 2], [20, 20], [2, 20], [2, 2]]
    inner = [[8, 8], [8, 14], [14, 14], [14, 8], [8, 8]]
    expected = np.zeros(SHAPE, bool)
    expected[2:20, 2:20] = True
    expected[8:14, 8:14] = False
    np.testing.assert_array_equal(on_picture(fill("a", [np.array(outer + inner)], SHAPE)), expected)
    np.testing.assert_array_equal(
        on_picture(fill("a", [np.array(outer), np.array(inner)[:-1]], SHAPE)), expected
    )


def test_what_lies_outside_is_cut_off_and_what_encloses_nothing_covers_nothing():
    big = np.array([[-1e6, -1e6], [1e6, -1e6], [1e6, 1e6], [-1e6, 1e6]])
    assert on_picture(fill("a", [big], SHAPE)).all()
    for ring in (big[:2], big[:0], big + 5e6, np.array([[3.1, 3.1], [3.2, 3.1], [3.2, 3.2]])):
        assert not fill("a", [ring], SHAPE).inside.any()


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e12, -1e300])
def test_absurd_coordinates_are_refused(number: float):
    with pytest.raises(UserError, match="expected coordinates in pixels"):
        fill("a", [np.array([[0, 0], [5, number], [5, 5]])], SHAPE)


@pytest.mark.parametrize(
    "points", [[[1, 2], [3]], [["a", "b"]], [1, 2, 3], [[1], [2]], [[10**400, 1]]]
)
def test_coordinates_are_pairs_of_numbers(points: list):
    with pytest.raises(UserError, match="expected pairs of numbers"):
        need_points(points)


@given(st.floats(3, 9), st.floats(3, 9), st.floats(-90, 90))
@settings(max_examples=40, deadline=None)
def test_an_ellipse_is_that_of_scikit_image(along: float, across: float, turn: float):
    """Its angle is counted the other way, and it takes in no centre at its very edge."""
    expected = np.zeros(SHAPE, bool)
    expected[drawn_ellipse(11.3 - 0.5, 15.2 - 0.5, across, along, SHAPE, -np.deg2rad(turn))] = True
    ours = on_picture(ellipse("a", (15.2, 11.3), (along, across), SHAPE, turn))
    assert (ours != expected).sum() <= 2


def test_a_turned_rectangle_is_its_polygon():
    ring = np.array([[12, 6], [16, 6], [16, 16], [12, 16]])
    np.testing.assert_array_equal(
        on_picture(rectangle("a", ring[[0, 2]], SHAPE)), by_matplotlib(ring)
    )
    quarter = np.array([[9, 9], [19, 9], [19, 13], [9, 13]])
    np.testing.assert_array_equal(
        on_picture(rectangle("a", ring[[0, 2]], SHAPE, 90.0)), by_matplotlib(quarter)
    )


def test_a_mask_is_put_in_its_place_and_cut_at_the_border():
    mask = np.arange(12).reshape(3, 4) % 2 == 0
    placed = on_picture(bitmap("a", mask, 21, -1, SHAPE))
    np.testing.assert_array_equal(placed[21:, :3], mask[:2, 1:])
    assert placed.sum() == mask[:2, 1:].sum()
    assert not bitmap("a", mask, 23, 0, SHAPE).inside.size


def test_a_small_polygon_on_a_large_picture_needs_its_own_box_only():
    """Thousands of nuclei on a slide of 400 million pixels."""
    rng = np.random.default_rng(0)
    rings = [star(rng, 12, tuple(rng.uniform(50, 19_950, 2)), 12) for _ in range(2000)]
    sizes = [fill("a", [ring], (20_000, 20_000)).inside.size for ring in rings]
    assert max(sizes) <= 26**2
