"""What is in a file of ours: its header, and the few figures that say what it holds, as plain values."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from retrieval.local_features import bag_of_words, feature_files
from retrieval.reports.checkpoint_inspection import Facts, checkpoint_facts, header_facts, network_of_run
from retrieval.search import ranks_file
from retrieval.whitening import projection
from sfm2tuples.errors import FileFormatError
from sfm2tuples.files import descriptors
from sfm2tuples.files.checked_columns import CheckedColumns
from sfm2tuples.files.container import open_file, read_header
from sfm2tuples.files.opening import is_hdf5
from sfm2tuples.files.regular_files import require_file
from sfm2tuples.files.tables import read_table
from sfm2tuples.index import schema
from sfm2tuples.index.schema import SPLITS, Models, Places
from sfm2tuples.index.splits import SIDES
from sfm2tuples.mining import tuple_file
from sfm2tuples.mining.doubtful_pairs import doubtful_of_tuples
from sfm2tuples.mining.summary import distributions, share_across
from sfm2tuples.places.grouping import reasons_of

JOINED = "joined places"
"""Title of the table that says which models were joined to a place, and why."""
DOUBTFUL = 5
"""Pairs of a tuple file that are named, of each kind."""
LEAST_ALIKE, MOST_ALIKE = "positives that look least alike", "negatives that look most alike"
"""Titles of their tables."""
_TEXT = re.compile(rb'^\s*\{\s*"format":\s*"(sfm2tuples-[a-z-]+)"')
"""How a JSON file of ours begins: an evaluation, or a table of a site."""
_REMEDY = (
    "inspect reads an index, tuples, descriptors, ranked lists, a whitening, features, a bag of words or a checkpoint"
)


def inspect_file(path: Path) -> dict[str, Facts]:
    """Say what a file of ours holds; large columns are not read.

    Parameters
    ----------
    path : Path
        A file of a format in `FORMATS`, a checkpoint of ours or of cirtorch, or the folder of a run.

    Returns
    -------
    dict of str to Facts
        ``file`` (what every kind of file says of itself), ``options``, then what the format holds.

    Raises
    ------
    DataError
        There is no such file, it is torn, newer than this program, or no file of ours.
    """
    path = network_of_run(path)
    require_file(path)
    # PyTorch writes a zip archive; a torn or an old one is known by its suffix alone. All else of ours is HDF5.
    if path.suffix in (".pt", ".pth", ".ckpt", ".safetensors") or zipfile.is_zipfile(path):
        return checkpoint_facts(path)
    if not is_hdf5(path):
        with path.open("rb") as opened:
            text = _TEXT.match(opened.read(100))
        what = f"is text, {text[1].decode()}; any editor shows it" if text else "is no file of sfm2tuples"
        raise FileFormatError(path, what, _REMEDY)
    header = read_header(path)
    if header.format not in FORMATS:
        raise FileFormatError(path, f"is {header.format}, which this program does not know")
    file = header_facts(path, header.format, header.version, header.software, header.fingerprint, header.parents)
    return {"file": file, "options": header.options, **FORMATS[header.format](path)}


def _index(path: Path) -> dict[str, Facts]:
    with open_file(path, schema.FORMAT, schema.VERSION) as file:
        columns = CheckedColumns(path, file, schema.RULES)
        models, places = read_table(columns, "models", Models), read_table(columns, "places", Places)
        image_model, photo = columns.read("images/model"), columns.read("images/photo")
        has_photo = columns.read("images/has_photo")
        content = {
            "models": len(models.name),
            "places": len(places.name),
            "images": len(image_model),
            "images with a photo": int(has_photo.sum()),
            "different photos": len(np.unique(photo[has_photo])),
            "cameras": columns.sizes["cameras"],
            "points": int(models.point_start[-1]),
            "observations": columns.sizes.get("observations", "left out by --keep graph, as the points are"),
            "pairs that share points": columns.sizes["pairs"] // 2,
        }
        if columns.has("inside/split"):
            content |= {
                "spots": columns.sizes["spots"],
                "images that take part in proven negatives": int(columns.read("inside/takes_part").sum()),
                "unknown pairs within a model": columns.sizes["unknown pairs"] // 2,
                **_sides(columns.read("inside/split")),
            }
    table = _places(models, places, image_model, has_photo)
    return {"content": content, "places": table, JOINED: _joined(models, places, table)}


def _sides(split: np.ndarray) -> Facts:
    """How many images are on each side, where one place may be on several."""
    counts = np.bincount(split, minlength=len(SIDES)).tolist()
    return {f"images, {name}": count for name, count in zip(SIDES, counts, strict=True)}


def _places(models: Models, places: Places, image_model: np.ndarray, has_photo: np.ndarray) -> Facts:
    """A row for each place: those of many models first, then those of many images."""
    num_models = np.bincount(models.place, minlength=len(places.name))
    num_images = np.bincount(models.place[image_model], minlength=len(places.name))
    with_photo = np.bincount(models.place[image_model[has_photo]], minlength=len(places.name))
    return {
        places.name[row]: {
            "split": SPLITS[places.split[row]],
            "models": int(num_models[row]),
            "images": int(num_images[row]),
            "with a photo": int(with_photo[row]),
        }
        for row in np.lexsort((-num_images, -num_models)).tolist()
    }


def _joined(models: Models, places: Places, order: Iterable[str]) -> Facts:
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


def _tuples(path: Path) -> dict[str, Facts]:
    file = tuple_file.read_tuples(path)
    packed: Facts = {"packed photos": "none"}
    inside: Facts = {} if file.barred is None else {"barred pairs inside places": len(file.barred.image) // 2}
    if file.packed_size:
        photos, size = len(file.photo_indptr) - 1, int(file.photo_indptr[-1])
        packed = {"packed photos": photos, "packed size in pixels": file.packed_size, "packed bytes": size}
    columns = {
        split: split_counts(file, split) | _medians(file.tuples[split]) | _across(file, split) for split in SPLITS
    }
    of_split = {split: distributions(file.tuples[split]) for split in SPLITS}
    return {
        "content": {"images": len(file.images.key), "places": len(file.places.name), **inside, **packed},
        "tuples": {label: {split: columns[split][label] for split in SPLITS} for label in columns[SPLITS[0]]},
        "evidence": {f"{split}: {name}": row for split, rows in of_split.items() for name, row in rows.items()},
        **_doubtful(file),
        **{f"search of {split} by lists": report for split, report in file.searches.items()},
    }


def split_counts(file: tuple_file.TupleFile, split: str) -> dict[str, int]:
    """How much of what there is in a split of a tuple file, by label."""
    rows = file.tuples[split]
    return {
        "places": int((file.places.split == SPLITS.index(split)).sum()),
        "images": int((file.image_split == SPLITS.index(split)).sum()),
        "tuples": len(rows.query),
        "different queries": len(np.unique(rows.query)),
        "places of queries": len(np.unique(file.images.place[rows.query])),
        "positives": int((rows.positive >= 0).sum()),
        "negatives": int((rows.negative >= 0).sum()),
        "negatives missing": int((rows.negative < 0).sum()),
        "images in the pool": len(rows.pool),
        "possible queries": len(file.candidates[split].query),
        "candidates": len(file.candidates[split].image),
    }


def _medians(rows: tuple_file.TupleSet) -> Facts:
    positive, negative = rows.positive >= 0, rows.negative >= 0
    return {
        "median shared points": _median(rows.shared[positive & (rows.shared != tuple_file.UNKNOWN_SHARED)], 0),
        "median overlap": _median(rows.overlap[positive]),
        "median scale change": _median(rows.scale_change[positive]),
        "median angle in degrees": _median(np.degrees(rows.angle[positive]), 1),
        "median similarity of positives": _median(rows.positive_similarity[positive]),
        "median similarity of negatives": _median(rows.negative_similarity[negative]),
    }


def _doubtful(file: tuple_file.TupleFile) -> dict[str, Facts]:
    """The first few pairs whose descriptors disagree most with the tuples; `report` shows more, with pictures."""
    key, found = file.images.key, doubtful_of_tuples(file)
    return {
        title: {
            f"{key[pairs.first[i]]}  {key[pairs.second[i]]}": {"similarity": round(float(pairs.similarity[i]), 3)}
            for i in pairs.shown(DOUBTFUL).tolist()
        }
        for title, pairs in ((LEAST_ALIKE, found["positive"]), (MOST_ALIKE, found["negative"]))
    }


def _across(file: tuple_file.TupleFile, split: str) -> Facts:
    """Of a file that prefers positives of other sequences; nothing of others."""
    if file.candidates[split].across is None:
        return {}
    share = share_across(file.tuples[split], file.candidates[split])
    return {"share of positives of another sequence": None if share is None else round(share, 3)}


def _median(values: np.ndarray, digits: int = 3) -> float | None:
    """Median of the finite values, rounded; None where there is none, since JSON has no NaN."""
    finite = values[np.isfinite(values)]
    return round(float(np.median(finite)), digits) if len(finite) else None


def _descriptors(path: Path) -> dict[str, Facts]:
    with open_file(path, descriptors.FORMAT, descriptors.VERSION) as file:
        if descriptors.is_columnar(path, file):
            columns = CheckedColumns(path, file, descriptors.RULES)
            names, dataset = columns.read("names"), columns.dataset("descriptors")
            (count, dimension), layout, kind = dataset.shape, "columnar", str(dataset.dtype)
        else:
            found = descriptors.hloc_datasets(path, file)
            names, count, layout, first = list(found), len(found), "hloc", next(iter(found.values()))
            dimension, kind = int(first.size), str(first.dtype)
    descriptors.check_names(path, names)
    content = {"descriptors": count, "dimensions": dimension, "layout": layout, "type": kind}
    return {"content": {**content, "first": names[0], "last": names[-1]}}


def _whitening(path: Path) -> dict[str, Facts]:
    learned = projection.read_whitening(path)
    content = {
        "method": learned.method,
        "dimensions of descriptors": len(learned.mean),
        "dimensions kept": learned.dim,
        "shrinkage": learned.shrinkage,
        "pairs" if learned.method == "lw" else "images": learned.num_pairs,
        "rank of the covariance": learned.rank,
    }
    return {"content": content}


def _ranks(path: Path) -> dict[str, Facts]:
    found = ranks_file.read_ranks(path)
    content = {
        "queries": len(found.queries),
        "images of the database": len(found.names),
        "results of each query": found.row.shape[1],
        "found": int((found.row >= 0).sum()),
    }
    if found.inliers is not None:
        content["verified"] = int((found.inliers > 0).sum())
    return {"content": content}


def _features(path: Path) -> dict[str, Facts]:
    found = feature_files.map_features(path)
    return {"content": {"photos": len(found.names), "features": len(found.descriptors)}}


def _bag_of_words(path: Path) -> dict[str, Facts]:
    with open_file(path, bag_of_words.FORMAT, bag_of_words.VERSION) as file:
        names = ("names/offsets", "word", "words")
        shapes: list[tuple[int, ...]] = [getattr(file[name], "shape", ()) for name in names]
    offsets, word, words = shapes
    if (len(offsets), len(word), len(words)) != (1, 2, 2):
        raise FileFormatError(path, "its features and their words do not fit together", "make it again")
    content = {"photos": offsets[0] - 1, "features": word[0], "words": words[0], "words of each feature": word[1]}
    return {"content": content}


FORMATS: dict[str, Callable[[Path], dict[str, Facts]]] = {
    schema.FORMAT: _index,
    tuple_file.FORMAT: _tuples,
    descriptors.FORMAT: _descriptors,
    projection.FORMAT: _whitening,
    ranks_file.FORMAT: _ranks,
    feature_files.FORMAT: _features,
    bag_of_words.FORMAT: _bag_of_words,
}
"""Format of an HDF5 file to the function that reads what such a file holds."""
