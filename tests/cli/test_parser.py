"""What the command line says of wrong values."""

from __future__ import annotations

import pytest

from cdal.cli import main


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["predict", "m", "i", "--workers", "x"], "--workers: expected a whole number; it is 'x'."),
        (["predict", "m", "i", "--temperature", "hot"], "--temperature: expected a number; it is"),
        (["train", "r", "--steps", "1.5"], "--steps: expected a whole number; it is '1.5'."),
        (["train", "r", "--steps", "no"], "--steps: expected a whole number; it is 'no'."),
        (["export", "m", "--to", "x"], "--to: expected one of onnx, openvino, torch, bundle,"),
        (["predict", "m", "i", "--review-below", "x"], "--review-below: expected a number; it is"),
        (["check"], "the following arguments are required: DATA\n"),
        (["predict"], "the following arguments are required: MODEL, INPUTS\n"),
        (["evaluate", "m"], "the following arguments are required: --data\n"),
        (["data", "prepare", "cxr"], "the following arguments are required: SOURCE, TARGET\n"),
        (["data"], "expected one of list, prepare, convert, phantoms after data."),
        (["predict", "m", "i", "--no-such"], "unrecognized arguments: --no-such"),
    ],
)
def test_a_wrong_value_is_told_with_its_option(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        main(words)
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert f"error: {says}" in told
    assert "usage: cdal" in told
    assert "<class" not in told and "Union" not in told


@pytest.mark.parametrize("words", [["check"], ["data"], ["data", "prepare", "cxr"]])
def test_the_usage_that_is_printed_is_that_of_the_verb(
    words: list[str], capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        main(words)
    named = " ".join(word for word in words if word != "cxr")
    assert f"run: cdal {named} --help\n" in capsys.readouterr().err
