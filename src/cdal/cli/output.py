"""Text for the terminal: no name from a file can control it, and a closed pipe ends no work."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.markup import escape

from cdal.runtime.text import printable


def plain(text: object) -> str:
    r"""Text with control characters and halves of characters written as `\x1b`.

    New lines and tabs stay. Names of classes, cases and files come from files, and could otherwise
    move the cursor, or change what was printed before.
    """
    return printable(str(text))


def marked(text: object) -> str:
    """Text as `plain` gives it, in which rich sees no markup either."""
    return escape(plain(text))


def counted(number: int, what: str) -> str:
    """A number of things, such as `1 case` or `2 cases`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def tell(text: object, error: bool = False) -> None:
    """Print a line on standard output, or on standard error."""
    print(plain(text), file=sys.stderr if error else sys.stdout, flush=error)


class _Output:
    """A stream that goes on if its reader has left, and writes what its encoding lacks as code."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text."""
        try:
            self._stream.write(text)
        except BrokenPipeError:
            self._leave()
        except UnicodeEncodeError as error:
            safe = text.encode(error.encoding, "backslashreplace").decode(error.encoding)
            return self.write(safe)
        return len(text)

    def flush(self) -> None:
        """Write what is in the buffer."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._leave()

    def _leave(self) -> None:
        """Send everything to nowhere from now on; the interpreter flushes again at its end."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def steady_output() -> Iterator[None]:
    """Within the block, no closed pipe and no encoding can stop what is printed."""
    before = sys.stdout, sys.stderr
    outputs = [_Output(stream) for stream in before if stream is not None]
    if len(outputs) == len(before):  # a program without a terminal may have none
        sys.stdout, sys.stderr = outputs
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for output in outputs:
            output.flush()
