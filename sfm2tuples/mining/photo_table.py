"""From an index to what mining works on: each readable photo once, its place, and the candidates of each split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sfm2tuples.errors import MiningError, PhotoError, first_three, told_of
from sfm2tuples.files.columns import gather_rows
from sfm2tuples.files.remote.address import (
    Address,
    AnyPath,
    any_elsewhere,
    is_address,
    path_or_address,
    photo_at,
)
from sfm2tuples.index.opened import OpenedIndex
from sfm2tuples.index.schema import SPLITS, TRAIN, VAL
from sfm2tuples.mining.barred import NO_FRAGMENT, VAL_NAMES, Barred, barred_of_index
from sfm2tuples.mining.left_out_pairs import without_pairs
from sfm2tuples.mining.options import NO, MiningOptions
from sfm2tuples.mining.positives import Homes, count_near_duplicates, find_candidates
from sfm2tuples.mining.sequences import Sequences, TakenBy, sequences_of
from sfm2tuples.mining.spots import places_of_index, spots_of_index
from sfm2tuples.mining.tuple_file import Candidates, ImageTable, PlaceTable
from sfm2tuples.places.photo_contents import number_photos

PhotoSize = Callable[[AnyPath], tuple[int, int]]
"""Reads width and height of a photo from its header; raises PhotoError."""


@dataclass(frozen=True)
class Distractors:
    """Photos without a model, for negatives only."""

    key: list[str]
    """Key of each photo, as in descriptor files."""
    root: list[str]
    """Folder that its name is relative to."""
    name: list[str]
    """Path of the photo below `root`."""
    place: list[str]
    """What it shows; a place of the index of the same name is the same place."""


NO_DISTRACTORS = Distractors([], [], [], [])


@dataclass(frozen=True)
class IndexTables:
    """All that mining chooses from."""

    images: ImageTable
    places: PlaceTable
    candidates: dict[str, Candidates]
    """By split name."""
    without_photo: int
    """Images of the index that have no photo: left out."""
    same_photo: int
    """Images of the index whose photo another row shows too: one row of the table."""
    unreadable: list[str]
    """What is wrong with each photo that cannot be read: left out."""
    known_distractors: int
    """Distractors whose photo is in the index, or among the distractors, already: left out."""
    near_duplicates: int = 0
    """Pairs of photos that are no positives because they see almost only the same points: `max_overlap`."""
    left_out_pairs: int = 0
    """Pairs of photos that are no positives because the user says so."""
    sequences: Sequences | None = None
    """Of every image, where positives across them are preferred: `across`."""
    barred: Barred | None = None
    """Pairs of one place that are not proven negatives; None where negatives are of other places alone."""
    num_left_out: int = 0
    """Images that take no part, or that the index leaves out of both splits."""


def tables_of_index(
    index: OpenedIndex,
    options: MiningOptions,
    photo_size: PhotoSize,
    distractors: Distractors = NO_DISTRACTORS,
    leave_out: Collection[str] = (),
    taken: TakenBy | None = None,
    left_out_pairs: np.ndarray | None = None,
) -> IndexTables:
    """Make the image table, the place table and the candidates.

    Parameters
    ----------
    index : OpenedIndex
    options : MiningOptions
        With `inside`, spots take the part of places, and images that take no part are left out.
    photo_size : callable
        Reads width and height of a photo; one that raises PhotoError is left out.
    distractors : Distractors
        Their places follow those of the index, as training places.
    leave_out : collection of str
        Keys of photos that turned out to be unreadable.
    taken : callable, optional
        Reads EXIF, for `across`.
    left_out_pairs : (k, 2) int64, optional
        Rows of the index whose photos are no positives of each other, whatever the models say.

    Raises
    ------
    MiningError
        The index has no photo that can be read; the pattern of `across` tells none apart.
    """
    table = _Table(photo_size, frozenset(leave_out))
    belongs = spots_of_index(index) if options.inside else places_of_index(index)
    table_row = table.add_index(index, belongs.place)
    table.refuse_empty(len(table_row), belongs.num_left_out)
    place_name = list(belongs.name)
    known = table.add_distractors(index, distractors, place_name)
    split = np.pad(belongs.split, (0, len(place_name) - len(belongs.name)), constant_values=TRAIN)
    images, places = table.images(), PlaceTable(place_name, split)
    sequences, pairs = _sequences(index, images, options, taken), _pairs_of_photos(table_row, left_out_pairs)
    barred = _barred(index, table_row, images, place_name, pairs) if options.inside else None
    homes = _homes(index, images, places, barred)
    everything = without_pairs(find_candidates(index, table_row, homes, options), pairs)
    if sequences is not None:
        everything = replace(everything, across=sequences.across(everything.queries, everything.image))
    return IndexTables(
        images=images,
        places=places,
        candidates=_by_split(everything, places.split[images.place]),
        without_photo=int(np.count_nonzero(~index.images.has_photo[:])),
        same_photo=int(np.count_nonzero(table_row >= 0)) - table.registered,
        unreadable=table.unreadable,
        known_distractors=known,
        near_duplicates=count_near_duplicates(index, table_row, homes, options),
        left_out_pairs=len(pairs),
        sequences=sequences,
        barred=barred,
        num_left_out=belongs.num_left_out,
    )


def _pairs_of_photos(table_row: np.ndarray, pairs: np.ndarray | None) -> np.ndarray:
    """Rows of the table for rows of the index, each pair of two photos once: (k, 2) int64."""
    photos = table_row[np.zeros((0, 2), np.int64) if pairs is None else pairs]
    photos = np.sort(photos[(photos >= 0).all(axis=1) & (photos[:, 0] != photos[:, 1])], axis=1)
    return np.unique(photos, axis=0)


def _sequences(
    index: OpenedIndex, images: ImageTable, options: MiningOptions, taken: TakenBy | None
) -> Sequences | None:
    """Sequences of the table's photos; None where nobody asks. Distractors, which come last, have none."""
    if options.across in (None, NO):
        return None
    count = int(np.count_nonzero(images.index_row >= 0))
    row = images.index_row[:count]
    place, camera = index.images.place[row], index.images.camera[row]
    found = sequences_of(str(options.across), images.key[:count], place, camera, images.path, taken)
    return replace(found, of_image=np.pad(found.of_image, (0, len(images.key) - count), constant_values=-1))


def _barred(
    index: OpenedIndex, table_row: np.ndarray, images: ImageTable, place_name: list[str], pairs: np.ndarray
) -> Barred:
    """What may be no negative among the images of a table, and what the user left out.

    A distractor of a place of the index is unknown to all of it.
    """
    barred = barred_of_index(index, table_row, len(images.key), pairs)
    is_of_index = images.index_row >= 0
    place_of = dict(zip(images.place[is_of_index].tolist(), barred.place[is_of_index].tolist(), strict=True))
    numbers = {name: row for row, name in enumerate(index.places.name)}
    for row in np.flatnonzero(~is_of_index).tolist():
        place = int(images.place[row])
        barred.place[row] = place_of.get(place, numbers.get(place_name[place], -1))
        barred.fragment[row] = NO_FRAGMENT
    return barred


def _homes(index: OpenedIndex, images: ImageTable, places: PlaceTable, barred: Barred | None) -> Homes:
    """Place of each image as a query and as a candidate, as `find_candidates` takes them.

    Inside, candidates are of the index's place, whatever their spot, and of the query's split. A held-out walk is
    searched for among the images for training, and none of its images is anybody's positive.
    """
    if barred is None:
        return images.place, images.place
    split = places.split[images.place].astype(np.int64)
    if index.header.options.get(VAL_NAMES):
        return barred.place, np.where(split == VAL, -1, barred.place)
    return 2 * barred.place + split, 2 * barred.place + split


class _Table:
    """The image table as it grows."""

    def __init__(self, photo_size: PhotoSize, leave_out: frozenset[str]) -> None:
        self.key: list[str] = []
        self._root: list[str] = []
        self._name: list[str] = []
        self._place: list[int] = []
        self._size: list[tuple[int, int]] = []
        self._index_row: list[int] = []
        self.unreadable: list[str] = []
        self.registered = 0
        self._photo_size = photo_size
        self._leave_out = set(leave_out)

    def add_index(self, index: OpenedIndex, place: np.ndarray) -> np.ndarray:
        """Add the photos of an index, each once, and return the table's row of every image; -1 for none: (n,) int64.

        `place`: (n,) int64, the place of each image; -1 for one that is left out.
        """
        images, models = index.images, index.models
        key, name, model = images.key[:], images.name[:], images.model[:]
        photo, has_photo = images.photo[:], images.has_photo[:] & (place >= 0)
        row_of_photo = np.full(len(key), -1, np.int64)
        for row in np.flatnonzero(has_photo).tolist():
            added = row_of_photo[photo[row]] >= 0
            if not added and self._add(key[row], models.photo_root[model[row]], name[row], int(place[row]), row):
                row_of_photo[photo[row]] = len(self.key) - 1
        self.registered = len(self.key)
        return np.where(has_photo, row_of_photo[photo], -1)

    def add_distractors(self, index: OpenedIndex, distractors: Distractors, place_name: list[str]) -> int:
        """Add distractors and the names of their places; return how many photos were there already.

        A photo of the index that was left out is none: it would be a negative of images that share points with it.
        """
        if not distractors.key:
            return 0
        images, root_of = index.images, index.models.photo_root
        key, name, model = images.key[:], images.name[:], images.model[:]
        rows = np.flatnonzero(images.has_photo[:]).tolist()
        paths = [photo_at(root_of[model[row]], name[row]) for row in rows]
        paths += [photo_at(root, name) for root, name in zip(distractors.root, distractors.name, strict=True)]
        files = [path if isinstance(path, Address) else str(path) for path in paths]
        photo, has_photo = number_photos(files, [key[row] for row in rows] + distractors.key)
        place_of = {name: row for row, name in enumerate(place_name)}
        known, first = 0, len(rows)
        for i, name in enumerate(distractors.place):
            if has_photo[first + i] and photo[first + i] != first + i:
                known += 1
                continue
            if name not in place_of:
                place_of[name] = len(place_name)
                place_name.append(name)
            self._add(distractors.key[i], distractors.root[i], distractors.name[i], place_of[name], -1)
        return known

    def refuse_empty(self, images: int, left_out: int) -> None:
        """Refuse an index of which no photo is there, or all are left out."""
        if self.key:
            return
        if left_out and not self.unreadable:
            raise MiningError(
                f"none of the {left_out:,} images with a photo can be mined: they take no part, for want of 15 points, "
                "a focal length or a picture's size, or belong to neither split; give --no-inside, with photos of "
                "other places by --distractors, or build the index again with other models or --val-names"
            )
        what = f"first: {first_three(self.unreadable)}" if self.unreadable else "build it again with --images"
        raise MiningError(f"none of its {images:,} images has a photo that can be read; {what}")

    def images(self) -> ImageTable:
        """The finished table."""
        _check_keys(self.key)
        return ImageTable(
            key=self.key,
            root=self._root,
            name=self._name,
            place=np.array(self._place, np.int64),
            size=np.array(self._size, np.int64).reshape(-1, 2),
            index_row=np.array(self._index_row, np.int64),
        )

    def _add(self, key: str, root: str, name: str, place: int, index_row: int) -> bool:
        if key in self._leave_out:
            return False
        try:
            self._size.append(self._photo_size(photo_at(root, name)))
        except PhotoError as error:
            self.unreadable.append(str(error))
            self._leave_out.add(key)  # it may stand in other models too, and is told once
            return False
        self.key.append(key)
        self._root.append(root)
        self._name.append(name)
        self._place.append(place)
        self._index_row.append(index_row)
        return True


def _by_split(candidates: Candidates, split: np.ndarray) -> dict[str, Candidates]:
    """The candidates by the split of their queries; `split` (n,) is that of each image."""
    return {name: _of_queries(candidates, split[candidates.query] == i) for i, name in enumerate(SPLITS)}


def _of_queries(candidates: Candidates, chosen: np.ndarray) -> Candidates:
    """The candidates of the queries where `chosen` (c,) is true."""
    indptr, position = gather_rows(candidates.indptr, np.flatnonzero(chosen))
    return Candidates(
        query=candidates.query[chosen],
        indptr=indptr,
        image=candidates.image[position],
        shared=candidates.shared[position],
        overlap=candidates.overlap[position],
        scale_change=candidates.scale_change[position],
        angle=candidates.angle[position],
        across=None if candidates.across is None else candidates.across[position],
    )


def photos_elsewhere(index: OpenedIndex, distractors: Distractors) -> Iterator[Address]:
    """Photos of an index and of distractors that lie on other machines; of one content the first."""
    roots = [path_or_address(root) for root in index.models.photo_root]
    if any_elsewhere(roots):
        images = index.images
        photo, has_photo, model = images.photo[:], images.has_photo[:], images.model[:]
        for row in np.flatnonzero(has_photo & (photo == np.arange(len(photo)))).tolist():
            root = roots[model[row]]
            if isinstance(root, Address):
                yield root / images.name[row]
    for text, name in zip(distractors.root, distractors.name, strict=True):
        if is_address(text):
            yield Address.parse(text) / name


def _check_keys(keys: Sequence[str]) -> None:
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        what = told_of(len(twice), "distractors have the key of another photo")
        raise MiningError(f"{what}, first {first_three(twice)}; rename their folder")
