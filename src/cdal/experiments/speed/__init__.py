"""Speed and cost, measured: `cdal bench`. Nothing else of the package leans on this room."""

from __future__ import annotations
