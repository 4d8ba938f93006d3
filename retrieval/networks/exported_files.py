"""Networks that `export --format safetensors` wrote, read again; and folders as the Hugging Face hub keeps networks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from retrieval.networks.description import NetworkDescription
from retrieval.networks.weights import CHECKPOINT_FORMAT, read_content
from sfm2tuples.errors import DataError, WeightsError
from sfm2tuples.files.text import read_json

FORMAT, VERSION = "sfm2tuples-network", 1
"""What a description calls itself; a reader refuses a newer one."""
WEIGHTS, CONFIG = "model.safetensors", "config.json"
"""The two files of the folder."""
LARGEST_CONFIG = 1 << 20
"""Bytes of a description at most: one of ours has less than a thousand."""


def file_of(path: str | Path) -> Path:
    """The file of weights in a network's folder: an export of ours, or what the hub has of another one's.

    Any other path stays what it is.
    """
    inside = Path(path) / WEIGHTS
    return inside if os.path.isfile(inside) else Path(path)


def safetensors_content(path: Path) -> Any:
    """What a file of safetensors holds: named arrays; as a checkpoint of ours where its description lies beside it.

    Raises
    ------
    WeightsError
        Absent, torn, or described by a newer version of this program.
    """
    config = _description_beside(path)
    weights = read_content(path)
    if config is None:
        return weights
    network = {name: config[name] for name in NetworkDescription.__dataclass_fields__ if name in config}
    entries = {name: config[name] for name in ("software", "fingerprint", "upright") if name in config}
    return {"format": CHECKPOINT_FORMAT, "version": 1, "network": network, "weights": weights, **entries}


def _description_beside(path: Path) -> dict[str, Any] | None:
    """Our description of the weights in a file; None where there is none, or another program's."""
    config = path.with_name(CONFIG)
    try:
        if config.stat().st_size > LARGEST_CONFIG:
            return None
        found = read_json(config)
    except (OSError, DataError):
        return None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        return None
    version = found.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise WeightsError(config, f"its version is newer than this program reads ({VERSION})", "upgrade")
    return found
