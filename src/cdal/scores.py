"""The names of scores, for those that only tell them."""

from __future__ import annotations

SCORES = {"dice": "Dice", "iou": "IoU", "precision": "precision", "recall": "recall", "hd95": "HD95", "assd": "ASSD"}
"""Every score of a class and how it is written."""

DISTANCES = ("hd95", "assd")
"""Those that have a unit."""
