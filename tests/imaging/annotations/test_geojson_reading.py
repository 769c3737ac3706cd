"""GeoJSON as QuPath writes it, against shapely."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import LineString, MultiPolygon, Point, box, mapping

from cdal.imaging.annotations.geojson import write_geojson
from cdal.runtime.errors import UserError
from helpers.annotations import drawn, known, picture_of

SHAPE = (40, 50)


def feature(geometry: Any, name: str | None = "Tumor", **properties: Any) -> dict[str, Any]:
    own = {"objectType": "annotation"} | properties
    if name is not None:
        own["classification"] = {"name": name, "color": [200, 0, 0]}
    shape = geometry if isinstance(geometry, dict) else mapping(geometry)
    return {"type": "Feature", "id": "0b1f", "geometry": shape, "properties": own}


def save(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def by_shapely(geometry: Any) -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return shapely.contains_xy(geometry, x + 0.5, y + 0.5)


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_polygons_multipolygons_and_holes(tmp_path_factory: Any, seed: int):
    """Writer: shapely's `mapping`. Oracle: shapely's `contains_xy` of the centres."""
    rng = np.random.default_rng(seed)
    discs = [Point(*rng.uniform(0, 45, 2)).buffer(rng.uniform(3, 12)) for _ in range(6)]
    first = shapely.unary_union(discs[:4]).difference(discs[4])
    second = discs[5].difference(Point(*discs[5].centroid.coords[0]).buffer(2))
    path = save(
        tmp_path_factory.mktemp("geojson") / "a.geojson",
        {"type": "FeatureCollection", "features": [feature(first), feature(second, "Stroma")]},
    )
    expected = np.where(by_shapely(second), 2, by_shapely(first))
    np.testing.assert_array_equal(drawn(path, SHAPE, ("", "Tumor", "Stroma")), expected)


def test_collections_lists_single_features_and_both_spellings_of_the_type(tmp_path: Path):
    one = feature(box(2, 3, 9, 12))
    old = feature(box(2, 3, 9, 12), object_type="annotation")
    del old["properties"]["objectType"]
    contents = [{"type": "FeatureCollection", "features": [one]}, [one], one, [old]]
    for number, content in enumerate(contents):
        path = save(tmp_path / f"{number}.json", content)
        assert known(path).name == "GeoJSON"
        mask = drawn(path, SHAPE, ("", "Tumor"))
        assert mask[3:12, 2:9].all()
        assert mask.sum() == 63
        assert known(path).class_names(path) == ("Tumor",)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"name": "Tumor: Positive"}, "Tumor: Positive"),
        ({"names": ["Tumor", "Positive"]}, "Tumor: Positive"),
        ("Tumor", "Tumor"),
        ({"name": None}, ""),
        (None, ""),
        ({}, ""),
    ],
)
def test_classes_in_each_form_that_qupath_had(given: Any, name: str, tmp_path: Path):
    path = save(tmp_path / "a.geojson", [feature(box(0, 0, 5, 5), None, classification=given)])
    (segment,) = known(path).read(path, picture_of(SHAPE))
    assert segment.name == name
    assert known(path).class_names(path) == ((name,) if name else ())


def test_a_collection_of_geometries_is_one_object(tmp_path: Path):
    parts = {
        "type": "GeometryCollection",
        "geometries": [mapping(box(0, 0, 5, 5)), mapping(box(9, 0, 12, 5))],
    }
    path = save(tmp_path / "a.geojson", [feature(parts)])
    (segment,) = known(path).read(path, picture_of(SHAPE))
    assert segment.inside.sum() == 40


def test_tiles_are_passed_over_and_points_and_lines_cover_nothing(tmp_path: Path):
    features = [
        feature(box(0, 0, 50, 40), objectType="tile"),
        feature(box(0, 0, 50, 40), objectType="root"),
        feature(Point(3, 3)),
        feature(LineString([(0, 0), (9, 9), (3, 9)])),
        feature({}, "None drawn"),
        feature(MultiPolygon()),
        feature(box(60, 60, 70, 70)),
    ]
    path = save(tmp_path / "a.geojson", features)
    segments = list(known(path).read(path, picture_of(SHAPE)))
    assert [segment.inside.any() for segment in segments] == [False] * 5


def test_a_later_object_covers_an_earlier_one_and_a_volume_has_none(tmp_path: Path):
    path = save(tmp_path / "a.geojson", [feature(box(0, 0, 9, 9)), feature(box(5, 0, 12, 9), "B")])
    mask = drawn(path, SHAPE, ("", "Tumor", "B"))
    assert [(mask == k).sum() for k in (1, 2)] == [45, 63]
    with pytest.raises(UserError, match=r"a\.geojson: GeoJSON lies on a picture"):
        list(known(path).read(path, picture_of((4, 5, 6))))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"type": "FeatureCollection"}, "expected GeoJSON"),
        ({"type": "FeatureCollection", "features": [1]}, "expected GeoJSON"),
        ({"type": "Polygon", "coordinates": []}, "expected GeoJSON"),
        ({}, "expected GeoJSON"),
        ([feature({"type": "Polygon"})], "cannot be read as GeoJSON"),
        ([feature({"type": "Polygon", "coordinates": [[["a", 1]]]})], "expected pairs of numbers"),
        ([feature({"type": "Polygon", "coordinates": [[[1e99, 1], [0, 0], [0, 1]]]})], "in pixels"),
        ([feature(mapping(box(0, 0, 5, 5)) | {"plane": {"c": -1, "z": 2, "t": 0}})], "one lies on"),
    ],
)
def test_damaged_files_are_refused(content: Any, message: str, tmp_path: Path):
    path = save(tmp_path / "a.geojson", content)
    with pytest.raises(UserError, match=message) as caught:
        list(known(path).read(path, picture_of(SHAPE)))
    assert str(path) in str(caught.value)


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_what_we_write_is_read_to_the_same_pixels(tmp_path_factory: Any, seed: int):
    mask = np.random.default_rng(seed).integers(0, 3, (13, 17)).astype(np.uint8)
    path = tmp_path_factory.mktemp("own") / "a.geojson"
    write_geojson(path, lambda a, b: mask[a:b], mask.shape, ("background", "x", "y"))
    np.testing.assert_array_equal(drawn(path, mask.shape, ("background", "x", "y")), mask)
