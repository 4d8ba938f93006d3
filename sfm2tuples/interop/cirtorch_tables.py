"""Between our tables and cirtorch's lists, both ways. Pure: photos and files are for the caller."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from sfm2tuples.errors import DataError, PhotoError, first_three
from sfm2tuples.files.columns import indptr_of
from sfm2tuples.index.schema import SPLITS, TRAIN, VAL
from sfm2tuples.interop.cirtorch_files import CirtorchSplit, photo_path
from sfm2tuples.mining.tuple_file import UNKNOWN_SHARED, Candidates, ImageTable, PlaceTable, TupleFile, TupleSet


@dataclass(frozen=True)
class SplitPairs:
    """The pairs of a split in the file's order."""

    query: np.ndarray
    """(t,) int64, row of the image table; a query may have several pairs."""
    edge: np.ndarray
    """(t,) int64, position of the positive in the candidates' columns."""


@dataclass
class Omissions:
    """What of a pickle did not become tuples, counted."""

    self_pairs: int = 0
    """Pairs of an image with itself."""
    duplicate_pairs: int = 0
    """Pairs that are there already."""
    pairs_across_places: int = 0
    """Pairs whose images are of two places."""
    pairs_without_photo: int = 0
    """Pairs one of whose images is left out."""
    listed_twice: int = 0
    """Images whose id the split has already: one image."""
    in_training_too: int = 0
    """Validation images of a photo, or with `global_clusters` of a cluster, that is trained on."""
    missing: list[str] = field(default_factory=list)
    """Keys of the photos that are not there."""
    unreadable: list[str] = field(default_factory=list)
    """What is wrong with each photo that cannot be read."""


@dataclass(frozen=True)
class CirtorchTables:
    """A pickle as tables."""

    images: ImageTable
    places: PlaceTable
    candidates: dict[str, Candidates]
    """By split name; the evidence is unknown."""
    pairs: dict[str, SplitPairs]
    """By split name."""
    left_out: Omissions
    barred: None = None
    """Other places alone have negatives."""


def to_cirtorch(tuples: TupleFile, cids: Sequence[str]) -> dict[str, CirtorchSplit]:
    """The images and the (query, positive) pairs of a tuple file as cirtorch's lists.

    Parameters
    ----------
    tuples : TupleFile
    cids : sequence of str
        Id of every image; "" for one that is to be left out, with its pairs.

    Returns
    -------
    dict of str to CirtorchSplit
        A place's number is its row; an image of a training place is in ``train``, whether a tuple has it or not. Of
        tuples that were mined inside, a whole place is one cluster: the format has no pairs that are unknown.
    """
    cluster = tuples.image_place
    written = np.array([bool(cid) for cid in cids], bool)
    splits = {}
    for number, name in enumerate(SPLITS):
        rows = np.flatnonzero((tuples.image_split == number) & written)
        position = np.full(len(cids), -1, np.int64)
        position[rows] = np.arange(len(rows))
        query, positive = tuple_pairs(tuples.tuples[name])
        query, positive = position[query], position[positive]
        keep = (query >= 0) & (positive >= 0)
        splits[name] = CirtorchSplit([cids[row] for row in rows.tolist()], cluster[rows], query[keep], positive[keep])
    return splits


def tuple_pairs(tuples: TupleSet) -> tuple[np.ndarray, np.ndarray]:
    """Query and positive of every pair of a set of tuples, in their order: two (m,) int64."""
    row, slot = np.nonzero(tuples.positive >= 0)
    return tuples.query[row], tuples.positive[row, slot]


def from_cirtorch(
    splits: dict[str, CirtorchSplit],
    root: Path,
    photo_size: Callable[[Path], tuple[int, int]],
    leave_out: Collection[str] = (),
    global_clusters: bool = False,
) -> CirtorchTables:
    """Make image table, place table, candidates and pairs.

    Parameters
    ----------
    splits : dict of str to CirtorchSplit
    root : Path
        Folder of the photos' tree.
    photo_size : callable
        Reads width and height of a photo; raises PhotoError.
    leave_out : collection of str
        Keys of photos that turned out to be unreadable.
    global_clusters : bool
        A cluster's number means the same place in both splits. Such a place is trained on, and its validation images
        are left out. Else the same number in the two splits is two places.

    Raises
    ------
    DataError
        None of the photos can be read.
    """
    table = _Table(root, photo_size, frozenset(leave_out))
    trained = set(splits[SPLITS[TRAIN]].cluster.tolist()) if global_clusters else set()
    rows = [table.add(number, splits[name], trained if number == VAL else set()) for number, name in enumerate(SPLITS)]
    total = sum(len(split.cids) for split in splits.values())
    if not table.key and total:
        bad = table.left_out.missing or table.left_out.unreadable
        raise DataError(
            root, f"none of {total:,} photos can be read here, first {first_three(bad)}", "give --images DIR"
        )
    images, places = table.images(), table.places()
    candidates, pairs = {}, {}
    for name, row in zip(SPLITS, rows, strict=True):
        query, positive = _clean_pairs(row[splits[name].qidxs], row[splits[name].pidxs], images.place, table.left_out)
        candidates[name], pairs[name] = _candidates(query, positive)
    return CirtorchTables(images, places, candidates, pairs, table.left_out)


def without_negatives(tables: CirtorchTables, name: str, num_negatives: int) -> TupleSet:
    """A tuple for each pair of a split, with room for negatives and none in it."""
    pairs, candidates = tables.pairs[name], tables.candidates[name]
    positive = candidates.image[pairs.edge][:, None]
    unknown = np.full(positive.shape, np.nan, np.float32)
    return TupleSet(
        query=pairs.query,
        positive=positive,
        negative=np.full((len(positive), num_negatives), -1, np.int64),
        shared=np.full(positive.shape, UNKNOWN_SHARED),
        overlap=unknown,
        scale_change=unknown,
        angle=unknown,
        positive_similarity=np.full(positive.shape, -np.inf, np.float32),
        negative_similarity=np.full((len(positive), num_negatives), -np.inf, np.float32),
        pool=np.zeros(0, np.int64),
    )


class _Table:
    """The image table as it grows, a split after the other."""

    def __init__(self, root: Path, photo_size: Callable[[Path], tuple[int, int]], leave_out: frozenset[str]) -> None:
        self.key: list[str] = []
        self.left_out = Omissions()
        self._size: list[tuple[int, int]] = []
        self._cluster: list[tuple[int, int]] = []
        self._number: list[int] = []
        self._row: dict[str, int] = {}
        self._listed = 0
        self._root, self._photo_size, self._leave_out = root, photo_size, leave_out

    def add(self, split: int, part: CirtorchSplit, trained: set[int]) -> np.ndarray:
        """Add the photos of a split; the table's row of each of its images, -1 for none: (n,) int64."""
        rows = np.full(len(part.cids), -1, np.int64)
        for i, (cid, cluster) in enumerate(zip(part.cids, part.cluster.tolist(), strict=True)):
            key = photo_path(cid)
            known = self._row.get(key, -1)
            if cluster in trained or (known >= 0 and self._cluster[known][0] != split):
                self.left_out.in_training_too += 1
            elif known >= 0:
                self.left_out.listed_twice += 1
                rows[i] = known
            elif self._read(key):
                rows[i] = self._row[key] = len(self.key)
                self.key.append(key)
                self._cluster.append((split, cluster))
                self._number.append(self._listed + i)
        self._listed += len(rows)
        return rows

    def _read(self, key: str) -> bool:
        if key in self._leave_out:
            return False
        path = self._root / key
        try:
            self._size.append(self._photo_size(path))
        except PhotoError as error:
            if path.exists():
                self.left_out.unreadable.append(str(error))
            else:
                self.left_out.missing.append(key)
            return False
        return True

    def images(self) -> ImageTable:
        places = {cluster: row for row, cluster in enumerate(sorted(set(self._cluster)))}
        return ImageTable(
            key=self.key,
            root=[str(self._root)] * len(self.key),
            name=self.key,
            place=np.array([places[cluster] for cluster in self._cluster], np.int64),
            size=np.array(self._size, np.int64).reshape(-1, 2),
            index_row=np.array(self._number, np.int64),
        )

    def places(self) -> PlaceTable:
        clusters = sorted(set(self._cluster))
        names = [f"{SPLITS[split]}/{cluster}" for split, cluster in clusters]
        return PlaceTable(names, np.array([split for split, _ in clusters], np.int8))


def _clean_pairs(
    query: np.ndarray, positive: np.ndarray, place: np.ndarray, left_out: Omissions
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of two different photos of one place, each once, in the file's order; the others are counted."""
    keep = (query >= 0) & (positive >= 0)
    left_out.pairs_without_photo += int(np.count_nonzero(~keep))
    query, positive = query[keep], positive[keep]
    keep = query != positive
    left_out.self_pairs += int(np.count_nonzero(~keep))
    query, positive = query[keep], positive[keep]
    keep = place[query] == place[positive]
    left_out.pairs_across_places += int(np.count_nonzero(~keep))
    query, positive = query[keep], positive[keep]
    _, first = np.unique(query * np.int64(len(place)) + positive, return_index=True)
    left_out.duplicate_pairs += len(query) - len(first)
    first = np.sort(first)
    return query[first], positive[first]


def _candidates(query: np.ndarray, positive: np.ndarray) -> tuple[Candidates, SplitPairs]:
    """The positives of each query as its candidates, without evidence; and where each pair's positive lies in them."""
    order = np.lexsort((positive, query))
    edge = np.empty(len(order), np.int64)
    edge[order] = np.arange(len(order))
    rows, counts = np.unique(query, return_counts=True)
    unknown = np.full(len(order), np.nan, np.float32)
    candidates = Candidates(
        query=rows.astype(np.int64),
        indptr=indptr_of(counts),
        image=positive[order],
        shared=np.full(len(order), UNKNOWN_SHARED),
        overlap=unknown,
        scale_change=unknown,
        angle=unknown,
    )
    return candidates, SplitPairs(query, edge)


def counts_of(left_out: Omissions) -> dict[str, int]:
    """Every count by its field's name; lists by their length."""
    values = {item.name: getattr(left_out, item.name) for item in fields(left_out)}
    return {name: len(value) if isinstance(value, list) else value for name, value in values.items()}
