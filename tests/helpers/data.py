"""Where the real data are."""

from __future__ import annotations

import os
from pathlib import Path

SHARED = Path(os.environ.get("CDAL_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
