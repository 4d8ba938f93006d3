"""What decodes photos in tests of processes; it imports little, as every worker must import it."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval.photos.decoding_processes import Change
from sfm2tuples.errors import PhotoError

DEADLY, UNREADABLE = 666, 404
"""Rows that kill whoever decodes them, and that cannot be decoded."""


@dataclass(frozen=True)
class Spy:
    """Makes photos of one pixel, which is the row, and leaves a file for each."""

    folder: Path

    def __call__(self, row: int, change: Change | None = None) -> np.ndarray:
        """Row to photo (1, 1, 3) uint8."""
        if row == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        if row == UNREADABLE:
            raise PhotoError("404.jpg", "no such photo")
        (self.folder / f"{row}").write_text(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']}")
        return np.full((1, 1, 3), row, np.uint8)
