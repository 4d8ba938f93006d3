"""The file of an evaluation: what `evaluate -o` writes and `report` reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.metrics.kept_images import VERDICTS
from retrieval.photos.names import photos_below, short_name
from retrieval.photos.sources import photos_of
from sfm2tuples.errors import DataError, FileFormatError, UsageError
from sfm2tuples.files.remote.address import Address, AnyPath, is_folder, path_or_address, written
from sfm2tuples.files.text import read_json

FORMAT = "sfm2tuples-evaluation"
VERSION = 3
SUFFIX = ", teacher"
"""What follows a setup's name where it is the teacher's."""
USUAL_SETUP = "medium"
"""Of several setups the one that is looked at, where there is one of this name: the revisited benchmarks' [R18]."""


@dataclass(frozen=True)
class PhotoFolders:
    """Where the photos of an evaluation lie, as `evaluate` was told."""

    data: AnyPath
    """An index, a table of labels, or the folder of the protocol's photos."""
    images: AnyPath | None = None
    """Folder that names of a table start from; the table's own by default."""
    distractors: AnyPath | None = None
    """Folder of photos that were added to the database, or a file of their descriptors."""

    def as_dict(self) -> dict[str, str | None]:
        """As plain values, whatever folder the reader is called in."""
        return {name: None if path is None else written(path) for name, path in vars(self).items()}

    def find(self, images: AnyPath | None = None) -> PhotoFinder:
        """Look for the photos: below `images` where that is given, else where `evaluate` found them."""
        if images is not None:
            if not is_folder(images):
                raise DataError(images, "no such folder")
            return PhotoFinder([_below(images)])
        is_there = isinstance(self.data, Address) or self.data.exists()
        tables = [_listed(self.data, self.images)] if is_there else []
        if self.distractors is not None and is_folder(self.distractors):
            tables.append(_below(self.distractors))
        return PhotoFinder(tables)


Photos = dict[str, AnyPath]
"""Name to file, here or elsewhere."""


class PhotoFinder:
    """Files of photos by the names that an evaluation has for them.

    Parameters
    ----------
    tables : list of dict
        Names to files; the first that knows a name is taken.
    """

    def __init__(self, tables: list[Photos]) -> None:
        self._tables = [(table, _by_short_name(table)) for table in tables]

    def path(self, name: str) -> AnyPath | None:
        """File of a photo, with or without suffix and all folders in its name; None where there is none, or several."""
        for table, short in self._tables:
            fitting = [known for known in short.get(short_name(name), []) if _same_folders(known, name)]
            if name in table:
                return table[name]
            if len(fitting) == 1:
                return table[fitting[0]]
        return None


def _by_short_name(table: Photos) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name in table:
        names.setdefault(short_name(name), []).append(name)
    return names


def _same_folders(one: str, other: str) -> bool:
    """Whether two names agree in the folders that both have, from the innermost; 0000.jpg is in many."""
    pairs = zip(one.split("/")[-2::-1], other.split("/")[-2::-1], strict=False)
    return all(a == b for a, b in pairs)


def _below(folder: AnyPath) -> Photos:
    return {name: folder / name for name in photos_below(folder)}


def _listed(data: AnyPath, images: AnyPath | None) -> Photos:
    """Photos of an index, a table or a folder."""
    if is_folder(data):
        return _below(data)
    photos = photos_of(data, images)
    found = zip(photos.keys, photos.sources, strict=True)
    return {key: source for key, source in found if isinstance(source, Path | Address)}


@dataclass(frozen=True)
class EvaluationFile:
    """An evaluation, read again."""

    path: Path
    """Its file."""
    content: dict[str, Any]
    """Everything that it holds."""
    setups: dict[str, dict[str, Any]]
    """Results by setup: `groups`, `per_query`, and the means."""

    @property
    def photos(self) -> PhotoFolders:
        """Where its photos lay."""
        where = self.content["photos"]
        images, distractors = (path_or_address(where[n]) if where.get(n) else None for n in ("images", "distractors"))
        return PhotoFolders(path_or_address(where["data"]), images, distractors)

    def setup(self, name: str | None) -> str:
        """The setup to look at: the one of that name; else the usual one, or the first.

        Raises
        ------
        UsageError
            There is no such setup.
        """
        if name is not None:
            if name not in self.setups:
                raise UsageError(f"{self.path}: has no setup {name}; it has {', '.join(self.setups)}")
            return name
        return USUAL_SETUP if USUAL_SETUP in self.setups else next(iter(self.setups))


def read_evaluation(path: Path) -> EvaluationFile:
    """Read what `evaluate -o` wrote.

    Raises
    ------
    FileFormatError
        It is no such file, or of another version.
    """
    remedy = "give what evaluate -o wrote"
    content = read_json(path, remedy)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise FileFormatError(path, "is no evaluation", remedy)
    if content.get("version") != VERSION:
        raise FileFormatError(
            path, f"is an evaluation of version {content.get('version')}, not {VERSION}", "run evaluate again"
        )
    try:
        setups = content.get("setups") or {next(iter(content["figures"])): content}
        named = set(setups) == set(content["figures"])
        complete = named and _is_complete(content) and all(_has_queries(setup) for setup in setups.values())
        complete = complete and _is_localisable(content, setups)
    except (KeyError, TypeError, AttributeError, StopIteration):
        complete = False
    if not complete:
        raise FileFormatError(path, "lacks the results of its queries", remedy)
    return EvaluationFile(path, content, setups)


def _is_complete(content: dict[str, Any]) -> bool:
    """Whether the parts that a page shows are there, each of its kind."""
    kinds = {"protocol": str, "software": str, "settings": dict, "figures": dict, "photos": dict}
    kinds |= dict.fromkeys(("parents", "warnings", "notes"), list)
    alike = len({tuple(figures) for figures in content["figures"].values()}) == 1
    where, numbers = content["photos"], [value for f in content["figures"].values() for value in f.values()]
    texts = [one for name in ("parents", "warnings", "notes") for one in content[name]]
    return (
        all(isinstance(content[name], kind) for name, kind in kinds.items())
        and isinstance(where["data"], str)
        and all(isinstance(where.get(name), str | None) for name in ("images", "distractors"))
        and all(isinstance(value, int | float | None) for value in numbers)
        and all(isinstance(text, str) for text in texts)
        and alike
    )


def _has_queries(setup: dict[str, Any]) -> bool:
    return isinstance(setup["per_query"], list) and all(map(_is_result, setup["per_query"]))


def _is_result(entry: dict[str, Any]) -> bool:
    """Whether what a query found is all there, each of its kind; a KeyError or TypeError where it is nothing of it."""
    first, last = entry["first"], entry["last"]
    similarities, box = entry.get("similarities"), entry.get("box")
    names = [entry["query"], entry["group"], *first, *(one["image"] for one in last)]
    return (
        all(isinstance(part, list) for part in (first, last, entry["verdicts"], entry["ranks"]))
        and all(isinstance(name, str) or _is_count(name) for name in names)
        and (entry.get("nearest") is None or isinstance(entry["nearest"], str | int))
        and (entry["average_precision"] is None or _is_number(entry["average_precision"]))
        and all(map(_is_count, [entry["positives"], *entry["ranks"]]))
        and all(one["rank"] is None or _is_count(one["rank"]) for one in last)
        and len(first) == len(entry["verdicts"])
        and all(verdict in VERDICTS for verdict in entry["verdicts"])
        and (similarities is None or _are_numbers(similarities, len(first)))
        and (box is None or _are_numbers(box, 4))
    )


def _is_localisable(content: dict[str, Any], setups: dict[str, dict[str, Any]]) -> bool:
    """Whether what a localiser gets is all there, each of its kind, in the file and of each query; or nothing of it."""
    if "localisable" not in content:
        return True
    found = content["localisable"]
    parts = found["setups"]
    return (
        isinstance(found["unit"], str)
        and (found["metres_per_unit"] is None or _is_number(found["metres_per_unit"]))
        and all(_are_numbers(threshold, 2) for threshold in found["thresholds"])
        and set(parts) <= set(setups)
        and all(map(_has_intervals, parts.values()))
        and all(_is_seen(entry["localisable"]) for setup in parts for entry in setups[setup]["per_query"])
    )


def _has_intervals(part: dict[str, Any]) -> bool:
    intervals = [one for by_k in part["figures"].values() for one in by_k.values()]
    named = all(k == "all" or k.isdecimal() for by_k in part["figures"].values() for k in by_k)
    numbers = [one[name] for one in intervals for name in ("mean", "low", "high")]
    return named and all(n is None or _is_number(n) for n in numbers) and all(map(_is_count, _failures(part).values()))


def _failures(part: dict[str, Any]) -> dict[str, Any]:
    return dict(part.get("failures", {}))


def _is_seen(entry: dict[str, Any]) -> bool:
    """Whether a query's part is whole."""
    counts = [entry["points"], *entry["seen"].values()]
    ranks = [rank for rank in entry["first_within"] if rank is not None]
    return all(map(_is_count, counts + ranks)) and ("pose" not in entry or _is_pose(entry["pose"]))


def _is_pose(pose: dict[str, Any]) -> bool:
    apart = [pose[name] for name in ("distance", "degrees") if pose[name] is not None]
    counts = [pose[name] for name in ("matches", "inliers")]
    return isinstance(pose["reason"], str) and all(map(_is_number, apart)) and all(map(_is_count, counts))


def _are_numbers(values: object, count: int) -> bool:
    return isinstance(values, list) and len(values) == count and all(map(_is_number, values))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
