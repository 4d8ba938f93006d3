"""The bytes of a file of a model, and the advice where they end too early."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sfm2tuples.errors import ModelError
from sfm2tuples.files.regular_files import refuse_odd_file

CUT = "was it copied in full?"


def load_bytes(path: Path) -> np.ndarray:
    """Bytes of a file of a model as (n,) uint8."""
    refuse_odd_file(path, ModelError)
    try:
        return np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise ModelError(path, "is missing", "a model needs cameras, images and points3D") from None
    except OSError as error:
        raise ModelError(path, f"cannot be read ({error.strerror or error})") from None
