"""A training of a server, without the minutes that it takes."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path


class Pretended:
    """In place of the process: waits for its end, and leaves what it would have left.

    Attributes:
        words: words of the command line.
        reason: why it fails; empty if it does not.
        compared: content of `before_after.json`.
        model: model that it has "trained".
    """

    def __init__(self, model: Path) -> None:
        self.words: list[str] = []
        self.reason, self.model = "", model
        self.compared: dict[str, object] | None = None
        self.go, self.ended = threading.Event(), threading.Event()

    def __call__(
        self,
        words: Sequence[str],
        on_line: Callable[[str], object],
        begun: Callable[[Callable[[], None]], object],
    ) -> str:
        self.words = list(words)
        begun(self.ended.set)
        out = Path(self.words[self.words.index("--out") + 1])
        out.mkdir(parents=True)
        rows = [{"step": k, "generator": 1 / k, "discriminator": 9.0} for k in range(1, 1001)]
        rows.append({"step": 1000, "test": 0.8, "test/a": 0.7})
        text = "".join(json.dumps(row) + "\n" for row in rows) + '{"step": 1001, "gener'
        (out / "metrics.jsonl").write_text(text)
        while not self.go.wait(0.02):
            if self.ended.is_set():
                return "stopped. The same command resumes it."
        if self.compared is not None:
            (out / "before_after.json").write_text(json.dumps(self.compared))
        shutil.copy(self.model, out / "model.safetensors")
        return self.reason
