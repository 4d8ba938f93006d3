"""Descriptors of the photos by the network, kept in parts so that a killed run goes on."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.descriptors.extraction import ExtractionOptions, extract_readable, extract_settings
from retrieval.networks.choice import NetworkChoice, load_on
from retrieval.reconstruction.photo_table import PhotoTable
from retrieval.reconstruction.progress import Report, told
from sfm2tuples.errors import DataError
from sfm2tuples.files.descriptors import Descriptors, read_descriptors, write_descriptors

PART = 256
"""Photos of a part: a killed run loses at most so many."""


def described(
    folder: Path,
    table: PhotoTable,
    choice: NetworkChoice,
    options: ExtractionOptions,
    device: str | None,
    report: Report | None,
) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """Descriptors of the distinct photos: those of the parts that are there, and of the others by the network.

    Parameters
    ----------
    folder : Path
        Where the parts lie; those of another network, or of photos that all are gone or were changed, are removed.
    table, choice, options, device
    report : Report or None

    Returns
    -------
    rows : (m,) int64
        Photos that could be read, rising.
    values : (m, D) float32
    unreadable : dict
        The other photos: name to message.
    """
    folder.mkdir(exist_ok=True)
    network = load_on(device, choice)
    settings = extract_settings(network, options)
    values = np.zeros((len(table), network.dimension), np.float32)
    known = np.zeros(len(table), bool)
    row_of = {_key(table, row): row for row in table.distinct.tolist()}
    for path, part in _parts(folder):
        held = [(position, row_of[key]) for position, key in enumerate(part.names if part else []) if key in row_of]
        if part is None or part.settings != settings or not held:
            path.unlink()
            continue
        positions, rows = np.array(held, np.int64).reshape(-1, 2).T
        values[rows], known[rows] = part.values[positions], True
    unreadable: dict[str, str] = {}
    missing = table.distinct[~known[table.distinct]]
    number = max([int(path.stem) for path, _ in _parts(folder)], default=-1) + 1
    with told("describe", len(table.distinct) - len(missing), len(table.distinct), "photo", report) as add:
        for start in range(0, len(missing), PART):
            rows = missing[start : start + PART]
            names = [table.names[row] for row in rows.tolist()]
            sources = table.sources().sources.take(rows)
            found, readable, failures = extract_readable(network, sources, options, names)
            unreadable |= {error.path: str(error) for error in failures}
            if len(readable):
                kept = [_key(table, row) for row in rows[readable].tolist()]
                write_descriptors(folder / f"{number}.h5", Descriptors(kept, found, settings))
                number += 1
            values[rows[readable]], known[rows[readable]] = found, True
            add(len(rows))
    rows = table.distinct[known[table.distinct]]
    return rows, values[rows], unreadable


def network_key(choice: NetworkChoice) -> dict[str, Any]:
    """What tells one choice of a network from another without loading it: its words, and the state of its files."""
    key: dict[str, Any] = {}
    for field in fields(choice):
        value = getattr(choice, field.name)
        if value is not None and value is not False and value != ():
            key[field.name] = str(value)
            try:
                status = Path(str(value)).stat()
            except (OSError, ValueError):
                continue
            key[f"{field.name} file"] = [status.st_size, status.st_mtime_ns]
    return key


def _key(table: PhotoTable, row: int) -> str:
    """What a part calls a photo: by its file's bytes and time too, so that one that was changed is described anew."""
    return "{}-{}/{}".format(*table.state[row].tolist(), table.names[row])


def _parts(folder: Path) -> list[tuple[Path, Descriptors | None]]:
    """The parts in the order of their numbers; None for a torn one."""
    found: list[tuple[Path, Descriptors | None]] = []
    for path in sorted((p for p in folder.glob("*.h5") if p.stem.isdecimal()), key=lambda p: int(p.stem)):
        try:
            found.append((path, read_descriptors(path)))
        except DataError:
            found.append((path, None))
    return found
