"""What a process holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cdal.runtime import memory
from cdal.runtime.errors import UserError
from cdal.runtime.memory import is_shortage, need_memory

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
import resource
from cdal.runtime.errors import UserError
from cdal.runtime.memory import free_memory, need_memory

resource.setrlimit(resource.RLIMIT_AS, (2**30, resource.RLIM_INFINITY))
free = free_memory()
assert free is not None and 0 < free < 2**30
block = bytearray(free * 3 // 4)  # as much is free as was promised
assert free_memory() <= free - len(block)
try:
    need_memory(2**30, "The work", "Do less.")
except UserError as error:
    print(error)
"""


def test_the_limit_of_a_process_bounds_what_is_free():
    ran = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True)
    assert ran.stdout.startswith("The work: about 1.0 GiB of memory are needed;"), ran.stderr
    assert "Do less." in ran.stdout


def test_the_memory_of_a_container_counts_with_those_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The files of control groups as Linux writes them: the outer one leaves less."""
    inner = tmp_path / "groups/outer/inner"
    inner.mkdir(parents=True)
    for folder, limit in ((inner, "max"), (inner.parent, "1000")):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("900\n")
        (folder / "memory.stat").write_text("anon 300\ninactive_file 50\n")
    (tmp_path / "cgroup").write_text("0::/outer/inner\n")
    monkeypatch.setattr(memory, "_GROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "groups")
    assert memory.free_memory() == 150
    need_memory(150, "Work", "")
    with pytest.raises(UserError, match="Work: about"):
        need_memory(151, "Work", "")


@pytest.mark.parametrize(
    ("error", "shortage"),
    [
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("can't start new thread"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("memory"), False),
    ],
)
def test_libraries_say_in_many_words_that_memory_ran_out(error: Exception, shortage: bool):
    assert is_shortage(error) == shortage
