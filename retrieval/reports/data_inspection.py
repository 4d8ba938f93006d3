"""What is in a file of ours: its header, and the few figures that say what it holds, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sfm2tuples.errors import FileFormatError
from sfm2tuples.files import descriptors
from sfm2tuples.files.columns import read_strings
from sfm2tuples.files.container import Header, open_file, read_header
from sfm2tuples.files.tables import read_table
from sfm2tuples.index import schema
from sfm2tuples.index.schema import SPLITS, Models, Places
from sfm2tuples.mining import tuple_file
from sfm2tuples.mining.summary import distributions
from sfm2tuples.places.grouping import reasons_of

Section = dict[str, Any]
"""Label to value; a section whose values are all sections is a table, a row for each."""
JOINED = "joined places"
"""Title of the section that says which models were joined, and why."""
Describe = Callable[[Path], dict[str, Section]]
"""The sections of a file of one format, by title."""


def inspect_file(path: Path, more: Mapping[str, Describe] | None = None) -> dict[str, Section]:
    """Describe an HDF5 file of ours; large columns are not read.

    Parameters
    ----------
    path : Path
        An index, tuples, descriptors, or a file of a format in `more`.
    more : mapping of str to Describe, optional
        How to describe other formats.

    Returns
    -------
    dict of sections
        ``file`` (the header), ``options``, then what the format holds.

    Raises
    ------
    DataError
        There is no such file.
    FileFormatError
        It is torn, newer than this program, or no file of ours.
    """
    header = read_header(path)
    describe = {**_DESCRIBE, **(more or {})}.get(header.format)
    if describe is None:
        raise FileFormatError(path, f"is {header.format}, which this program does not know")
    return {**_header_sections(path, header), **describe(path)}


def file_section(path: Path, format: str, version: int, software: str, fingerprint: str) -> Section:
    """What every kind of file says of itself."""
    return {
        "name": path.name,
        "format": format,
        "version": version,
        "bytes": path.stat().st_size,
        "fingerprint": fingerprint,
        "software": software,
    }


def _header_sections(path: Path, header: Header) -> dict[str, Section]:
    file = file_section(path, header.format, header.version, header.software, header.fingerprint)
    return {"file": {**file, "parents": list(header.parents)}, "options": header.options}


def _describe_index(path: Path) -> dict[str, Section]:
    with open_file(path, schema.FORMAT, schema.VERSION) as file:
        models, places = read_table(file["models"], Models), read_table(file["places"], Places)
        image_model, photo = file["images/model"][()], file["images/photo"][()]
        has_photo = file["images/has_photo"][()]
        content = {
            "models": len(models.name),
            "places": len(places.name),
            "images": len(image_model),
            "images with a photo": int(has_photo.sum()),
            "different photos": len(np.unique(photo[has_photo])),
            "cameras": len(file["cameras/id"]),
            "points": len(file["points/id"]),
            "observations": len(file["observations/point"]),
            "pairs that share points": len(file["covisibility/neighbour"]) // 2,
        }
    table = _places(models, places, image_model)
    return {"content": content, "places": table, JOINED: _joined(models, places, list(table))}


def _places(models: Models, places: Places, image_model: np.ndarray) -> Section:
    """A row for each place: those of many models first, then those of many images."""
    num_models = np.bincount(models.place, minlength=len(places.name))
    num_images = np.bincount(models.place[image_model], minlength=len(places.name))
    return {
        places.name[row]: {
            "split": SPLITS[places.split[row]],
            "models": int(num_models[row]),
            "images": int(num_images[row]),
        }
        for row in np.lexsort((-num_images, -num_models)).tolist()
    }


def _joined(models: Models, places: Places, order: Sequence[str]) -> Section:
    """Models of each place that has several, and why they were joined, in the order of the table of places."""
    members: dict[str, list[str]] = {}
    for model, place in zip(models.name, models.place.tolist(), strict=True):
        members.setdefault(places.name[place], []).append(model)
    reason = dict(zip(places.name, places.reason, strict=True))
    return {
        name: {"models": members[name], "why": reasons_of(reason[name])}
        for name in order
        if len(members.get(name, ())) > 1
    }


def _describe_tuples(path: Path) -> dict[str, Section]:
    file = tuple_file.read_tuples(path)
    content = {"images": len(file.images.key), "places": len(file.places.name), **_packed(file)}
    columns = {split: _split_column(file, split) for split in SPLITS}
    table = {label: {split: columns[split][label] for split in SPLITS} for label in columns[SPLITS[0]]}
    of_split = {split: distributions(file.tuples[split]) for split in SPLITS}
    evidence = {f"{split}: {name}": row for split, rows in of_split.items() for name, row in rows.items()}
    searches = {f"search of {split} by lists": report for split, report in file.searches.items()}
    return {"content": content, "tuples": table, "evidence": evidence, **searches}


def _packed(file: tuple_file.TupleFile) -> Section:
    if not file.packed_size:
        return {"packed photos": "none"}
    return {
        "packed photos": len(file.photo_indptr) - 1,
        "packed size in pixels": file.packed_size,
        "packed bytes": int(file.photo_indptr[-1]),
    }


def _split_column(file: tuple_file.TupleFile, split: str) -> Section:
    """Counts and medians of one split."""
    rows = file.tuples[split]
    positive, negative = rows.positive >= 0, rows.negative >= 0
    return {
        "places": int((file.places.split == SPLITS.index(split)).sum()),
        "images": int((file.image_split == SPLITS.index(split)).sum()),
        "tuples": len(rows.query),
        "different queries": len(np.unique(rows.query)),
        "places of queries": len(np.unique(file.images.place[rows.query])),
        "positives": int(positive.sum()),
        "negatives": int(negative.sum()),
        "negatives missing": int((~negative).sum()),
        "images in the pool": len(rows.pool),
        "possible queries": len(file.candidates[split].query),
        "candidates": len(file.candidates[split].image),
        "median shared points": _median(rows.shared[positive & (rows.shared != tuple_file.UNKNOWN_SHARED)], 0),
        "median overlap": _median(rows.overlap[positive]),
        "median scale change": _median(rows.scale_change[positive]),
        "median angle in degrees": _median(np.degrees(rows.angle[positive]), 1),
        "median similarity of positives": _median(rows.positive_similarity[positive]),
        "median similarity of negatives": _median(rows.negative_similarity[negative]),
    }


def _median(values: np.ndarray, digits: int = 3) -> float | None:
    """Median of the finite values, rounded; None where there is none, since JSON has no NaN."""
    finite = values[np.isfinite(values)]
    return round(float(np.median(finite)), digits) if len(finite) else None


def _describe_descriptors(path: Path) -> dict[str, Section]:
    with open_file(path, descriptors.FORMAT, descriptors.VERSION) as file:
        if isinstance(file.get("descriptors"), h5py.Dataset):
            (count, dimension), names = file["descriptors"].shape, read_strings(file, "names")
            layout, kind = "columnar", str(file["descriptors"].dtype)
        else:
            found = _global_descriptors(file)
            names, count, layout = list(found), len(found), "hloc"
            dimension, kind = next(iter(found.values()), (0, "none"))
    content = {"descriptors": count, "dimensions": dimension, "layout": layout, "type": kind}
    return {"content": {**content, "first": names[0] if names else "none", "last": names[-1] if names else "none"}}


def _global_descriptors(file: h5py.File) -> dict[str, tuple[int, str]]:
    """Length and type of the descriptor of each image in hloc's layout."""
    found: dict[str, tuple[int, str]] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and name.endswith("/global_descriptor"):
            found[name.rpartition("/")[0]] = (int(item.size), str(item.dtype))

    file.visititems(visit)
    return found


_DESCRIBE: dict[str, Describe] = {
    schema.FORMAT: _describe_index,
    tuple_file.FORMAT: _describe_tuples,
    descriptors.FORMAT: _describe_descriptors,
}
