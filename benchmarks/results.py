"""What commands of ours have written: whether it is whole, and a checksum of its content that holds no times."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np

from sfm2tuples.files.container import content_fingerprint

OURS = (".lock", ".steps", ".*.tracks")
"""Hidden names that commands leave on purpose: a lock, what `reconstruct` goes on from, and tracks that were made."""
FINITE = ("descriptors", "mean", "projection")
"""Datasets that hold finite numbers."""


class BrokenResultError(Exception):
    """A file that is not whole, or not finite; the message is one of those words of `mutations.FAILURES`."""


def contents(folder: Path, parts: bool = False, named_only: Sequence[str] = ()) -> dict[str, str]:
    """Checksum of each file below a folder.

    Parameters
    ----------
    folder : Path
    parts : bool
        Whether hidden files and folders are let pass: what a killed command had begun.
    named_only : sequence of str
        Patterns of names of files that hold times, or what threads decide: of these it counts that they are there.

    Raises
    ------
    BrokenResultError
        One is half-written, or holds numbers that are not finite.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            parts_of_name = path.relative_to(folder).parts
            if any(fnmatch(part, name) for part in parts_of_name for name in OURS):
                continue
            hidden = any(part.startswith(".") for part in parts_of_name)
            if hidden and parts:
                continue
            if hidden:
                raise BrokenResultError("half-written")
            if any(fnmatch("/".join(parts_of_name), pattern) for pattern in named_only):
                found["/".join(parts_of_name)] = "there"
                continue
            look = LOOKS.get(path.suffix, _of_bytes)
            try:
                found[path.relative_to(folder).as_posix()] = look(path)
            except BrokenResultError:
                raise
            except Exception as error:  # whatever a torn file makes a library say
                raise BrokenResultError("half-written") from error
    return found


def _of_bytes(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _of_hdf5(path: Path) -> str:
    with h5py.File(path, "r") as file:
        for name in FINITE:
            item = file.get(name)
            if isinstance(item, h5py.Dataset) and not np.isfinite(item[()]).all():
                raise BrokenResultError("not finite")
        attributes = sorted((key, str(value)) for key, value in file.attrs.items())
        if not file.attrs["fingerprint"]:
            raise ValueError("no fingerprint")
        return hashlib.sha256((repr(attributes) + content_fingerprint(file)).encode()).hexdigest()


def _of_json(path: Path) -> str:
    def refuse(constant: str) -> NoReturn:
        raise BrokenResultError("not finite")

    json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    return _of_bytes(path)


def _of_checkpoint(path: Path) -> str:
    """Of everything but the seconds of each round."""
    import torch

    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise BrokenResultError("not finite")
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode() + value.contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key, item in value.items():
                if key not in ("seconds", "software"):
                    digest.update(repr(key).encode())
                    add(item)
        elif isinstance(value, (list, tuple)):
            digest.update(b"[")
            for item in value:
                add(item)
        else:
            digest.update(repr(value).encode())

    add(torch.load(path, map_location="cpu", weights_only=True))
    return digest.hexdigest()


def _of_curves(path: Path) -> str:
    """Of the columns but the seconds."""
    rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    if "seconds" not in rows[0]:
        return _of_bytes(path)
    at = rows[0].index("seconds")
    return repr([row[:at] + row[at + 1 :] for row in rows])


LOOKS: dict[str, Callable[[Path], str]] = {
    ".h5": _of_hdf5, ".json": _of_json, ".pt": _of_checkpoint, ".pth": _of_checkpoint, ".csv": _of_curves,
}  # fmt: skip
"""By suffix; of other files the bytes are compared."""
