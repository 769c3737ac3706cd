"""What names from files may do to the terminal: nothing. What a closed pipe ends: nothing."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from cdal.cli import main
from cdal.cli.console import show_check, show_tables
from cdal.cli.output import marked, plain, steady_output, tell
from cdal.datasets.check import check_folder
from cdal.runtime.errors import UserError
from helpers.files import disc_folder

HOSTILE = "\x1b[2J[/red]\u202e\r\x07\udc80"


def test_names_keep_their_letters_and_lose_their_control():
    assert (
        plain("Schädel 0.5 µm, 脑\u3000部\u00a0x\n\ty") == "Schädel 0.5 µm, 脑\u3000部\u00a0x\n\ty"
    )
    assert plain(HOSTILE) == r"\x1b[2J[/red]\u202e\r\x07\udc80"
    assert plain(Path("b\x00")) == r"b\x00"
    assert marked("[/red][left]") == r"\[/red]\[left]"


def test_names_of_classes_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    disc_folder(tmp_path)
    content = r'{"labels": {"background": 0, "[/red][left]": 1}}'
    (tmp_path / "dataset.json").write_text(content)
    with steady_output():
        show_check(check_folder(tmp_path))
        show_tables([[["system", HOSTILE], ["[left]", "1"]]], [HOSTILE])
    output = capsys.readouterr().out
    assert "\x1b" not in output
    assert "[left]" in output
    assert "[/red]" in output


def test_messages_are_plain_too(capsys: pytest.CaptureFixture[str]):
    tell(HOSTILE)
    assert main(["info", f"no{HOSTILE[:4]}"]) == 2
    out, error = capsys.readouterr()
    assert out == r"\x1b[2J[/red]\u202e\r\x07\udc80" + "\n"
    assert r"no\x1b[2J" in error
    assert "\x1b" not in error


def test_an_encoding_that_lacks_letters_gets_their_numbers(monkeypatch: pytest.MonkeyPatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    with steady_output():
        sys.stdout.write("1.5 µm \udc80")
    assert raw.getvalue() == rb"1.5 \xb5m \udc80"


CLOSED = """
import sys
from cdal.cli import VERBS, main
from cdal.cli.console import show_values
from cdal.cli.words import IN_PART

class Verb:
    @staticmethod
    def run(options):
        show_values({str(number): "x" * 100 for number in range(2000)})
        for number in range(2000):
            print("x" * 100)
        sys.stderr.write("the work is done")
        return IN_PART

VERBS["info"].run = Verb.run
sys.exit(main(["info"]))
"""


def test_the_work_goes_on_when_the_reader_has_left():
    """As with `| head -1`; the exit code is that of the work."""
    with subprocess.Popen(
        [sys.executable, "-c", CLOSED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == "the work is done"
    assert process.returncode == 3


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("could not create a primitive"), "not enough memory"),
        (UserError("wrong"), "cdal info: wrong"),
        (OSError(28, "No space left"), "Free some space"),
        (OSError(5, "Input/output error"), "Is the disk full, or"),
        (OSError(24, "Too many open files"), "Raise the limit of open files"),
    ],
)
def test_errors_of_the_machine_are_messages(
    error: Exception,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    def fail(options: object) -> int:
        raise error

    monkeypatch.setattr("cdal.cli.info.run", fail)
    assert main(["info"]) == 2
    assert message in capsys.readouterr().err


def test_a_bug_is_no_message(monkeypatch: pytest.MonkeyPatch):
    def fail(options: object) -> int:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr("cdal.cli.info.run", fail)
    with pytest.raises(RuntimeError):
        main(["info"])
