"""What a process holds."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

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
