"""Ground truth of Oxford and Paris, original and revisited: `gnd_*.pkl`, JSON of the same content, original texts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfm2tuples.errors import DataError, first_three, shown, told_of
from sfm2tuples.files.regular_files import require_file
from sfm2tuples.files.safe_pickle import read_plain_pickle
from sfm2tuples.files.text import read_json, read_text

KINDS = ("ok", "easy", "hard", "junk")
TEXT_KINDS = ("good", "ok", "junk")
QUERY_PREFIX = "oxc1_"
"""Stands before the query's name in Oxford's texts, from the features that they were published with."""


@dataclass(frozen=True)
class ListedTruth:
    """What a file of ground truth says, before a protocol's rules."""

    path: Path
    """The file, or the folder of texts."""
    imlist: list[str]
    """The database's names; of texts, only the names that some list holds."""
    is_whole: bool
    """Whether `imlist` is the whole database."""
    qimlist: list[str]
    """Names of the queries."""
    topics: list[str]
    """What each query is called beside its photo's name: ``all_souls_1``; empty where the file has no topics."""
    boxes: np.ndarray | None
    """(q, 4) float64: left, top, right, bottom in pixels; None where some query has none."""
    lists: dict[str, list[np.ndarray]]
    """By kind (``ok``, ``easy``, ``hard``, ``junk``): rows of `imlist` for each query, rising, int64."""

    @property
    def boxless(self) -> str:
        """Why there are no boxes, for the one who asks for them; empty where there are."""
        return "" if self.boxes is not None else f"{self.path}: some of its queries have no bbx"

    def topic_names(self) -> tuple[np.ndarray, list[str]]:
        """Group of each query, and the groups' names: the topics without their numbers."""
        names = [topic.rpartition("_")[0] or topic for topic in self.topics] or ["all"] * len(self.qimlist)
        groups, rows = np.unique(names, return_inverse=True)
        return rows, [str(name) for name in groups]


def find_ground_truth(data: Path, name: str, has_texts: bool) -> Path:
    """Find the ground truth of a data set.

    Parameters
    ----------
    data : Path
        The file itself, or a folder with ``gnd_NAME.pkl``, ``gnd_NAME.json``, ``NAME.json`` or (where the data set
        has them) ``TOPIC_query.txt`` anywhere below it; the first of these is taken.
    name : str
        Of the data set: ``oxford5k``.
    has_texts : bool
        Whether the data set was published as texts too.

    Returns
    -------
    Path
        The file, or the folder of the texts.

    Raises
    ------
    DataError
        There is none, or texts in several folders.
    """
    if data.is_file():
        return data
    if not data.is_dir():
        raise DataError(data, "no such folder")
    wanted = [f"gnd_{name}.pkl", f"gnd_{name}.json", f"{name}.json"]
    for file in wanted:
        found = sorted(data.rglob(file))
        if found:
            return found[0]
    folders = sorted({path.parent for path in data.rglob("*_query.txt")}) if has_texts else []
    if len(folders) > 1:
        raise DataError(
            data, f"texts of queries in {len(folders)} folders, first {first_three([str(f) for f in folders])}"
        )
    if folders:
        return folders[0]
    texts = " or the texts TOPIC_query.txt, _good.txt, _ok.txt, _junk.txt" if has_texts else ""
    raise DataError(data, f"holds no ground truth of {name}", f"put {', '.join(wanted)}{texts} below it")


def read_ground_truth(path: Path) -> ListedTruth:
    """Read ground truth from ``.pkl``, ``.json`` or a folder of texts.

    Pickles are read as plain values; nothing in them is run.

    Raises
    ------
    DataError
        The file is torn, lacks a part, names a row beyond its list, or holds a box without area; no box at all is none.
    """
    if path.is_dir():
        return _read_texts(path)
    values = read_json(path) if path.suffix == ".json" else read_plain_pickle(path)
    if not isinstance(values, dict):
        raise DataError(path, "is no dict of imlist, qimlist and gnd")
    absent = [key for key in ("imlist", "qimlist", "gnd") if key not in values]
    if absent:
        raise DataError(path, f"has no {', '.join(absent)}")
    imlist, qimlist = (_names(path, key, values[key]) for key in ("imlist", "qimlist"))
    entries = _plain_list(path, "gnd", values["gnd"])
    if len(entries) != len(qimlist) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(path, f"{len(qimlist):,} queries in qimlist, but {len(entries):,} entries of gnd")
    base = values.get("index_base", 0)
    if not isinstance(base, int) or base not in (0, 1):
        raise DataError(path, f"index_base is {shown(base)}, not 0 or 1")
    lists = {
        kind: [_rows(path, kind, entry.get(kind, []), base, len(imlist)) for entry in entries]
        for kind in KINDS
        if any(kind in entry for entry in entries)
    }
    boxes = _boxes(path, qimlist, [entry.get("bbx") for entry in entries])
    topics = _names(path, "topic", [entry["topic"] for entry in entries if "topic" in entry])
    return ListedTruth(path, imlist, True, qimlist, topics if len(topics) == len(entries) else [], boxes, lists)


def _read_texts(folder: Path) -> ListedTruth:
    """The original texts: of each topic a line with the query and its box, and three lists of names."""
    topics = sorted(path.name.removesuffix("_query.txt") for path in folder.glob("*_query.txt"))
    queries, corners = [], []
    named: dict[str, list[set[str]]] = {kind: [] for kind in TEXT_KINDS}
    for topic in topics:
        words = _words(folder / f"{topic}_query.txt")
        if len(words) != 5:
            raise DataError(folder / f"{topic}_query.txt", f"{len(words)} words, not a name and four numbers")
        queries.append(words[0].removeprefix(QUERY_PREFIX))
        corners.append(words[1:])
        for kind in TEXT_KINDS:
            named[kind].append(set(_words(folder / f"{topic}_{kind}.txt")))
    imlist = sorted(set(queries).union(*(names for lists in named.values() for names in lists)))
    row_of = {name: row for row, name in enumerate(imlist)}
    right = [good | ok for good, ok in zip(named["good"], named["ok"], strict=True)]
    lists = {
        kind: [np.array(sorted(row_of[name] for name in names), np.int64) for names in sets]
        for kind, sets in (("ok", right), ("junk", named["junk"]))
    }
    return ListedTruth(folder, imlist, False, queries, topics, _boxes(folder, queries, corners), lists)


def _words(path: Path) -> list[str]:
    require_file(path, remedy="each topic has _query, _good, _ok and _junk")
    return read_text(path).split()


def _plain_list(path: Path, key: str, value: Any) -> list[Any]:
    values = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(values, (list, tuple)):
        raise DataError(path, f"{key} is no list")
    return list(values)


def _rows(path: Path, kind: str, value: Any, base: int, count: int) -> np.ndarray:
    values = _plain_list(path, kind, value)
    if not all(_is_number(row) for row in values):
        raise DataError(path, f"{kind} holds something else than rows of imlist")
    rows = np.unique(np.array(values, np.int64)) - base
    outside = rows[(rows < 0) | (rows >= count)]
    if len(outside):
        numbered = f"which is numbered from {base}" if base else "numbered from 0 unless index_base says 1"
        raise DataError(path, f"{kind} names row {outside[0] + base} of an imlist of {count:,}, {numbered}")
    return rows


def _is_number(value: object) -> bool:
    """Whether it is a whole number of at most 53 bits: a message prints it."""
    return isinstance(value, (int, float)) and abs(value) < 1 << 53 and value == int(value)


def _boxes(path: Path, queries: list[Any], corners: list[Any]) -> np.ndarray | None:
    """(q, 4) float64; a box must have an area. None where a query has none, as in sets that take whole photos."""
    if any(box is None for box in corners):
        return None
    boxes = np.empty((len(queries), 4))
    bad = []
    for row, (query, box) in enumerate(zip(queries, corners, strict=True)):
        try:
            boxes[row] = [float(corner) for corner in _plain_list(path, "bbx", box)]
            fits = all(map(math.isfinite, boxes[row])) and bool(np.all(boxes[row, 2:] > boxes[row, :2]))
        except (TypeError, ValueError, OverflowError, DataError):
            fits = False
        if not fits:
            bad.append(str(query))
    if bad:
        raise DataError(path, f"{told_of(len(bad), 'queries have no box with an area')}, first {first_three(bad)}")
    return boxes


def _names(path: Path, key: str, value: Any) -> list[str]:
    """Names of photos or topics: text, bytes of Python 2, or numbers."""
    values = _plain_list(path, key, value)
    odd = [name for name in values if not (isinstance(name, (str, bytes)) or _is_number(name))]
    if odd:
        raise DataError(path, f"{len(odd):,} entries of {key} are no names, first {shown(odd[0])}")
    return [name.decode("latin-1") if isinstance(name, bytes) else str(name) for name in values]
