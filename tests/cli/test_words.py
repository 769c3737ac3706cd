"""The words of the command line: fields of the recipe, lists, numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdal.cli.words import read_numbers, split_fields, split_list
from cdal.runtime.errors import UserError


@pytest.mark.parametrize(
    ("words", "rest", "fields"),
    [
        (["train", "hippocampus", "--fold", "1"], ["train", "hippocampus", "--fold", "1"], {}),
        (["train", "--training.batch", "4", "x"], ["train", "x"], {"training.batch": "4"}),
        (["--data.size=[40,56,40]"], [], {"data.size": "[40,56,40]"}),
        (["--training.steps="], [], {"training.steps": ""}),
        (["--segmenter.options", '{"a": "b=c"}'], [], {"segmenter.options": '{"a": "b=c"}'}),
        (["--segmenter.name=x=y"], [], {"segmenter.name": "x=y"}),
        (["--training.learning_rate", "-1"], [], {"training.learning_rate": "-1"}),
        (["--training.batch", "4", "--training.batch=5"], [], {"training.batch": "5"}),
        (
            ["predict", "scan.nii.gz", "--out", "a.b"],
            ["predict", "scan.nii.gz", "--out", "a.b"],
            {},
        ),
        (["--out=runs/a.b"], ["--out=runs/a.b"], {}),
    ],
)
def test_options_with_a_dot_in_their_name_are_fields(
    words: list[str], rest: list[str], fields: dict[str, str]
):
    assert split_fields(words) == (rest, fields)


@pytest.mark.parametrize("words", [["--training.batch"], ["--training.batch", "--fold", "1"]])
def test_a_field_without_a_value_is_refused(words: list[str]):
    with pytest.raises(
        SystemExit, match=r"--training\.batch needs a value: --training\.batch VALUE"
    ):
        split_fields(words)


NAMES = st.sampled_from(["training.batch", "training.steps", "data.size", "segmenter.options"])
VALUES = st.sampled_from(["4", "", "[1,2]", "a=b", "x.y"])


@given(st.dictionaries(NAMES, VALUES), st.data())
def test_fields_are_found_among_all_other_words(fields: dict[str, str], data: st.DataObject):
    rest = ["train", "phantoms", "--dry-run", "--fold", "2"]
    ours = [
        [f"--{name}={value}"] if data.draw(st.booleans()) else [f"--{name}", value]
        for name, value in fields.items()
    ]
    words = data.draw(st.permutations([*[[word] for word in rest[:3]], rest[3:], *ours]))
    found, by_name = split_fields([word for some in words for word in some])
    assert sorted(found) == sorted(rest)
    assert by_name == fields


def test_lists_are_names_with_commas():
    assert split_list("cdal, unet ,,dynunet,") == ["cdal", "unet", "dynunet"]
    assert split_list(" ,") == []


def test_numbers_are_read_or_refused_with_the_name_of_the_option():
    assert read_numbers("--folds", "0, 2,10") == [0, 2, 10]
    with pytest.raises(
        UserError, match=r"--folds must be numbers with commas \(0,2\); it is '0,two'"
    ):
        read_numbers("--folds", "0,two")
