"""Measurements of speed and cost (`cdal bench`); no other part of the package depends on them."""

from __future__ import annotations
