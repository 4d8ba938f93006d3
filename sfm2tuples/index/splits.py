"""The two sides that places are on, as numbers in files and as words."""

from __future__ import annotations

TRAIN, VAL = 0, 1
SPLITS = ("train", "val")
"""Their names, by number."""
