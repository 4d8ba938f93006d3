"""`tuples.h5`: tuples with the evidence for each choice; all that training needs, photos included if packed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sfm2tuples.errors import FileFormatError, first_three
from sfm2tuples.files.checked_columns import CheckedColumns
from sfm2tuples.files.container import (
    Header,
    create_file,
    header_of,
    json_attribute,
    number_attribute,
    open_file,
)
from sfm2tuples.files.lazy_file import LazyFile
from sfm2tuples.files.new_file import NewFile
from sfm2tuples.files.plain_items import plain_group, plain_item
from sfm2tuples.files.rules import Rule, Rules, below, text_rules
from sfm2tuples.files.tables import read_table, write_table
from sfm2tuples.index.schema import SPLITS, TRAIN, VAL
from sfm2tuples.mining import barred as barred_pairs
from sfm2tuples.mining.barred import Barred
from sfm2tuples.mining.tuple_tables import UNKNOWN_SHARED as UNKNOWN_SHARED
from sfm2tuples.mining.tuple_tables import Candidates as Candidates
from sfm2tuples.mining.tuple_tables import ImageTable as ImageTable
from sfm2tuples.mining.tuple_tables import PlaceTable as PlaceTable
from sfm2tuples.mining.tuple_tables import TupleSet as TupleSet

FORMAT = "sfm2tuples-tuples"
VERSION = 1
UNHASHED = ("images/root",)
"""What the fingerprint does not cover: where photos lie on this machine."""


@dataclass(frozen=True)
class TupleFile:
    """A whole tuple file without its packed photos, which `PackedPhotos` reads one at a time."""

    path: Path
    header: Header
    images: ImageTable
    places: PlaceTable
    tuples: dict[str, TupleSet]
    """By split name."""
    candidates: dict[str, Candidates]
    """By split name."""
    packed_size: int
    """Longest side of the packed photos in pixels; 0 where none are packed."""
    photo_indptr: np.ndarray = field(repr=False)
    """(n + 1,) int64, where each packed photo's JPEG bytes start; empty where none are packed."""
    barred: Barred | None = None
    """Pairs of one place that are not proven negatives; None where tuples were not mined inside."""
    searches: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By split name, fields of `ivf_search.SearchReport`: of the splits whose pool was searched by inverted lists."""

    @property
    def image_split(self) -> np.ndarray:
        """(n,) int8, split of each image."""
        return self.places.split[self.images.place]

    @property
    def image_place(self) -> np.ndarray:
        """(n,) int64, number of each image's whole place: the row of `/places`, or inside, where that is a spot's,
        one for all its spots."""
        return self.images.place if self.barred is None else self.barred.whole_places(self.images.place)


def _rules_of_split(split: str) -> dict[str, Rule]:
    tuples, pairs, candidates = f"{split} tuples", f"positives of a {split} tuple", f"{split} candidates"
    negatives, queries = f"negatives of a {split} tuple", f"{split} queries"
    evidence = Rule((tuples, pairs), "float32", unknown=np.nan)
    each = Rule((candidates,), "float32", unknown=np.nan)
    rules = {
        "query": Rule((tuples,), "int64", row_of="images"),
        "positive": Rule((tuples, pairs), "int64", row_of="images", or_none=True),
        "negative": Rule((tuples, negatives), "int64", row_of="images", or_none=True),
        "shared": Rule((tuples, pairs), "int32", least=-1),
        "overlap": evidence,
        "scale_change": evidence,
        "angle": evidence,
        "positive_similarity": Rule((tuples, pairs), "float32", unknown=-np.inf),
        "negative_similarity": Rule((tuples, negatives), "float32", unknown=-np.inf),
        "pool": Rule((f"images of the {split} pool",), "int64", row_of="images"),
        "candidates/query": Rule((queries,), "int64", row_of="images"),
        "candidates/indptr": Rule((queries + " + 1",), "int64", starts_of=candidates),
        "candidates/image": Rule((candidates,), "int64", row_of="images"),
        "candidates/shared": Rule((candidates,), "int32", least=-1),
        "candidates/overlap": each,
        "candidates/scale_change": each,
        "candidates/angle": each,
        "candidates/across": Rule((candidates,), "bool", only_with=f"{split}/candidates/across"),
    }
    return below(split, rules)


RULES: Rules = {
    **text_rules("images/key", "images"),
    **text_rules("images/root", "images"),
    **text_rules("images/name", "images"),
    **text_rules("places/name", "places"),
    "places/split": Rule(("places",), "int8", least=TRAIN, most=VAL),
    "images/place": Rule(("images",), "int64", row_of="places"),
    "images/size": Rule(("images", 2), "int64", least=1),
    "images/index_row": Rule(("images",), "int64", least=-1),
    **{name: rule for split in SPLITS for name, rule in _rules_of_split(split).items()},
    **barred_pairs.RULES,
}
"""What is true of every column but those of packed photos."""

PHOTO_RULES: Rules = {
    "photos/indptr": Rule(("images + 1",), "int64", starts_of="bytes of photos"),
    "photos/jpeg": Rule(("bytes of photos",), "uint8"),
}


def write_tuples(
    path: str | Path,
    images: ImageTable,
    places: PlaceTable,
    tuples: dict[str, TupleSet],
    candidates: dict[str, Candidates],
    options: dict[str, Any],
    parents: Sequence[str],
    photos: Iterable[bytes] | None = None,
    packed_size: int = 0,
    searches: Mapping[str, Mapping[str, Any]] | None = None,
    origins: Sequence[str] = (),
    barred: Barred | None = None,
) -> None:
    """Write `tuples.h5`; `photos` gives the JPEG bytes of every image, in order, where they are to be packed.

    `searches`: by split name, how well its negatives were found, where they were searched by inverted lists.
    `origins`: whose photos these are, for the header. `barred`: of tuples that were mined inside.
    """
    with create_file(path, FORMAT, VERSION, options, parents, leave_out=UNHASHED, origins=origins) as file:
        write_table(file.create_group("images"), images)
        write_table(file.create_group("places"), places)
        if barred is not None:
            write_table(file.create_group("barred"), barred)
        for split in SPLITS:
            group = file.create_group(split)
            write_table(group, tuples[split])
            write_table(group.create_group("candidates"), candidates[split])
            if searches and split in searches:
                group.attrs["search"] = json.dumps(searches[split], sort_keys=True)
        if photos is not None:
            _write_photos(file, photos, packed_size)


def read_tuples(path: str | Path) -> TupleFile:
    """Read `tuples.h5`, all but the packed photos.

    Raises
    ------
    DataError, FileFormatError
        The file is absent, torn, of another format or newer than this program.
    """
    with open_file(path, FORMAT, VERSION) as file:
        packed = None if plain_item(path, file, "photos") is None else plain_group(path, file, "photos")
        columns = CheckedColumns(path, file, RULES if packed is None else {**RULES, **PHOTO_RULES})
        groups = {split: plain_group(path, file, split) for split in SPLITS}
        tuples = TupleFile(
            path=Path(path),
            header=header_of(path, file),
            images=read_table(columns, "images", ImageTable),
            places=read_table(columns, "places", PlaceTable),
            tuples={split: read_table(columns, split, TupleSet) for split in SPLITS},
            candidates={split: read_table(columns, f"{split}/candidates", Candidates) for split in SPLITS},
            packed_size=0 if packed is None else number_attribute(path, packed, "size"),
            photo_indptr=np.zeros(0, np.int64) if packed is None else columns.read("photos/indptr"),
            barred=read_table(columns, "barred", Barred) if columns.has("barred/image") else None,
            searches={s: json_attribute(path, g, "search", dict) for s, g in groups.items() if "search" in g.attrs},
        )
    _check_tuples(tuples)
    return tuples


def _check_tuples(file: TupleFile) -> None:
    """Refuse tuples that mix the splits, whose positives are of another place than the query, or negatives of its.

    Validation's negatives may be of any split, as those of cirtorch are. Inside, positives are of the index's place,
    whatever their spot, and a negative is neither of the query's spot nor barred.

    Raises
    ------
    FileFormatError
        They are so.
    """
    if file.barred is not None and not file.barred.is_sound:
        what = "barred/image is not symmetric, or does not rise within an image's rows"
        raise FileFormatError(file.path, what, "make it again")
    split_of, spot_of, place_of, barred = file.image_split, file.images.place, file.image_place, file.barred
    for number, split in enumerate(SPLITS):
        tuples, candidates = file.tuples[split], file.candidates[split]
        query, asked = tuples.query[:, None], np.repeat(candidates.query, np.diff(candidates.indptr))
        of_split = {"query": tuples.query, "candidates/query": candidates.query}
        if number == TRAIN:
            of_split["pool"] = tuples.pool
        if number == TRAIN and barred is not None:
            of_split |= {"positive": tuples.positive, "candidates/image": candidates.image}
        for column, rows in of_split.items():
            _refuse_images(
                file, f"{split}/{column}", rows, (rows >= 0) & (split_of[rows] != number), "of the other split"
            )
        for column, of, rows in (("positive", query, tuples.positive), ("candidates/image", asked, candidates.image)):
            elsewhere = (rows >= 0) & (place_of[rows] != place_of[of])
            _refuse_images(file, f"{split}/{column}", rows, elsewhere, "of another place than their query")
        of_place = (tuples.negative >= 0) & (spot_of[tuples.negative] == spot_of[query])
        _refuse_images(file, f"{split}/negative", tuples.negative, of_place, "of the place of their query")
        if barred is not None:
            held = (tuples.negative >= 0) & barred.holds(np.broadcast_to(query, tuples.negative.shape), tuples.negative)
            _refuse_images(file, f"{split}/negative", tuples.negative, held, "that are barred for their query")


def _refuse_images(file: TupleFile, column: str, rows: np.ndarray, off: np.ndarray, what: str) -> None:
    if off.any():
        first = first_three([file.images.key[row] for row in rows[off][:4].tolist()])
        what = f"{column} has {np.count_nonzero(off):,} images {what}, first {first}"
        raise FileFormatError(file.path, what, "make it again")


class PackedPhotos:
    """The packed photos of a tuple file: JPEG bytes by row, read from the file in whichever process asks."""

    def __init__(self, tuples: TupleFile) -> None:
        # Without a cache: a tenth of the time of a photo, all of which other threads wait for HDF5's lock.
        self._file = LazyFile(tuples.path, FORMAT, VERSION, PHOTO_RULES, tuples.header.content, cache=False)
        self._start, self._stop = tuples.photo_indptr[:-1], tuples.photo_indptr[1:]

    def __getitem__(self, row: int) -> bytes:
        """JPEG bytes of one photo."""
        photo: np.ndarray = self._file.read("photos/jpeg", slice(self._start[row], self._stop[row]))
        return photo.tobytes()

    def take(self, rows: np.ndarray) -> PackedPhotos:
        """Those of chosen rows alone, numbered from 0: small enough to travel to another machine."""
        taken = copy.copy(self)
        taken._start, taken._stop = self._start[rows], self._stop[rows]
        return taken


def _write_photos(file: NewFile, photos: Iterable[bytes], size: int) -> None:
    """Append photo after photo, so that a collection larger than memory can be packed."""
    group = file.create_group("photos")
    jpeg = group.create_dataset("jpeg", (0,), np.uint8, maxshape=(None,), chunks=(1 << 18,))
    indptr = [0]
    for photo in photos:
        indptr.append(indptr[-1] + len(photo))
        jpeg.resize(indptr[-1], axis=0)
        jpeg[indptr[-2] :] = np.frombuffer(photo, np.uint8)
        file.check()
    group["indptr"] = np.array(indptr, np.int64)
    group.attrs["size"] = size
