"""The two sides that places and images are on, as numbers in files and as words."""

from __future__ import annotations

TRAIN, VAL, LEFT_OUT = 0, 1, 2
SPLITS = ("train", "val")
"""Their names, by number. An image that is `LEFT_OUT` is on neither side; no place is."""
SIDES = (*SPLITS, "left out")
"""Where an image may be, by number."""
