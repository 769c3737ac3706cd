"""What a process holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cdal.runtime import memory
from cdal.runtime.memory import free_memory

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux and glibc keep memory and say how much"
)

BLOCKS = """
import json, sys
import numpy as np
from cdal.runtime.memory import give_back, held, keep_freed_memory, peak_memory

if "keep" in sys.argv:
    keep_freed_memory()
    keep_freed_memory()
before, least = peak_memory(), held("VmRSS")
block = np.ones(2**25)  # a quarter of a GiB
peak = peak_memory() - before
del block
kept = held("VmRSS") - least
block = np.ones(2**25)
again = peak_memory() - before
del block
given_back = give_back() and held("VmRSS") - least
print(json.dumps({"peak": peak, "kept": kept, "again": again, "given back": given_back}))
"""


@pytest.mark.parametrize("keep", [True, False])
def test_memory_that_is_kept_is_still_counted(keep: bool):
    """A block of a quarter of a GiB is made twice: freed memory is held for the second, or given
    back and taken anew.
    """
    words = [sys.executable, "-c", BLOCKS, *(["keep"] if keep else [])]
    found = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert found["peak"] == pytest.approx(0.25, abs=0.05)
    assert found["again"] == pytest.approx(0.25, abs=0.05)
    assert found["kept"] == pytest.approx(0.25 if keep else 0, abs=0.05)
    assert found["given back"] == pytest.approx(0, abs=0.05)


LIMITED = """
import resource, sys
from cdal.runtime.memory import free_memory, held

resource.setrlimit(resource.RLIMIT_AS, (int(held("VmSize") * 2**30) + 2**28,) * 2)
print(free_memory())
"""


def test_what_is_free_lies_below_the_limit_of_the_process():
    code = [sys.executable, "-c", LIMITED]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(0.25, abs=0.02)


def test_what_is_free_is_less_than_what_the_machine_has():
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    assert 0 < free_memory() < total


def test_a_container_has_less_than_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Files that the system keeps in memory (`inactive_file`) give way."""
    monkeypatch.setattr(memory, "_CONTAINER", tmp_path)
    (tmp_path / "memory.current").write_text(f"{3 * 2**20}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {2**20}\nactive_file 7\n")
    (tmp_path / "memory.max").write_text(f"{4 * 2**20}\n")
    assert free_memory() == pytest.approx(2 * 2**20 / 2**30)
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory() > 0.01
