"""From an index to a tuple file: photos, network, descriptors, mining, writing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.networks.devices import choose_device
from retrieval.photos.origins import origins_of_index
from retrieval.photos.sizes import PhotoSizes
from retrieval.photos.taken import taken
from retrieval.search.torch_similarity import exact_search
from retrieval.tuple_files.descriptor_store import FileDescriptors
from retrieval.tuple_files.distractors import read_distractors
from retrieval.tuple_files.readable_photos import FIRST_ROUND, PhotoOptions, ReadablePhotos, rows_needed
from sfm2tuples.files.remote.address import AnyPath
from sfm2tuples.index.opened import OpenedIndex, open_index
from sfm2tuples.index.schema import SPLITS
from sfm2tuples.mining.amounts import settled, with_queries
from sfm2tuples.mining.barred import VAL_NAMES
from sfm2tuples.mining.left_out_pairs import read_left_out_pairs
from sfm2tuples.mining.options import MiningOptions
from sfm2tuples.mining.photo_keys import key_root
from sfm2tuples.mining.photo_table import NO_DISTRACTORS, IndexTables, photos_elsewhere, tables_of_index
from sfm2tuples.mining.queries import rank_in_run
from sfm2tuples.mining.rounds import Plan, plan_round
from sfm2tuples.mining.spots import whole_place
from sfm2tuples.mining.suspicious_places import SuspiciousPair, suspicious_places
from sfm2tuples.mining.tuple_file import TupleSet
from sfm2tuples.similarity.exact_search import BLOCK
from sfm2tuples.similarity.ivf_search import SearchReport
from sfm2tuples.similarity.rows import block_of

COMPARED = 30_000
"""Images that are compared with one another in the search for places that look alike; time grows with the square."""


@dataclass(frozen=True)
class MinedTuples:
    """What mining made, for people."""

    tables: IndexTables
    """The tables, and what was left out of them."""
    plans: dict[str, Plan]
    """By split name."""
    tuples: dict[str, TupleSet]
    """By split name."""
    suspicious: list[SuspiciousPair]
    """Pairs of places that may be one; empty where no descriptors were used."""
    searches: dict[str, SearchReport]
    """How well the negatives were found, by split name; of the splits whose pool was searched by inverted lists."""
    options: MiningOptions
    """By which they were mined: `inside` is decided, and the amounts of one site stand where nobody chose any."""

    @property
    def alike(self) -> list[tuple[str, str, float]]:
        """Names of the two places of each suspicious pair, the whole place's for a spot, and their likeness."""
        tables, names = self.tables, self.tables.places.name
        spots = set() if tables.barred is None else set(tables.images.place[tables.images.index_row >= 0].tolist())
        whole = [whole_place(name) if row in spots else name for row, name in enumerate(names)]
        return [(whole[pair.first], whole[pair.second], pair.likeness) for pair in self.suspicious]

    @property
    def without_negative(self) -> int:
        """Queries for training that found no negative and are left out: inside, or under `max_negative_similarity`."""
        return len(self.plans["train"].query) - len(self.tuples["train"].query)


def mine_tuple_file(
    source: Path,
    target: Path,
    options: MiningOptions,
    photos: PhotoOptions,
    distractors: AnyPath | None = None,
    block: int = BLOCK,
    left_out_pairs: Path | None = None,
    chosen: Collection[str] | None = None,
) -> MinedTuples:
    """Mine the tuples of both splits and write them, with the photos that can be read.

    Parameters
    ----------
    source, target : Path
        The index; the tuple file to write, which replaces an existing one once it is whole.
    options : MiningOptions
    photos : PhotoOptions
    distractors : Path or Address, optional
        Photos without a model, see `read_distractors`.
    block : int
        Pool images compared at once: bounds the memory, changes no result.
    left_out_pairs : Path, optional
        CSV of pairs of photos that are no positives, see `read_left_out_pairs`.
    chosen : collection of str, optional
        Fields of `options` that somebody chose: inside a place, `mining.amounts` gives the others. All where left out.

    Raises
    ------
    DataError
        A file is absent, torn, or does not fit the others.
    MiningError
        Too few places for the negatives asked, no image with a positive, no photos.
    UsageError
        Descriptors are needed, and neither a network nor a file is named, or both; no such device or relations.
    """
    device = choose_device(photos.device)
    with open_index(source) as index:
        exif = cache(taken)
        unknown = None if left_out_pairs is None else read_left_out_pairs(left_out_pairs, index)
        others = NO_DISTRACTORS if distractors is None else read_distractors(distractors, key_root(index))
        options = settled(options, index, chosen)

        def tables_of(size_of: PhotoSizes, leave_out: Collection[str]) -> IndexTables:
            size_of.look_at(photos_elsewhere(index, others))
            return tables_of_index(index, options, size_of, others, leave_out, exif, unknown)

        def plans_of(tables: IndexTables) -> dict[str, Plan]:
            return _plans(tables, with_queries(options, tables.images, tables.places, chosen))

        with photos.open(source, target, options) as readable:
            if isinstance(readable.descriptors, FileDescriptors):
                readable.descriptors.refuse_others(source, index.header.fingerprint)
            tables, plans, unreadable = readable.plan(tables_of, plans_of)
            tables = replace(tables, unreadable=tables.unreadable + unreadable)
            options = with_queries(options, tables.images, tables.places, chosen)
            tuples, searches = readable.choose(tables, plans, options, exact_search(device, block))
            described, origins = _described(options, index, unknown), origins_of_index(index)
            readable.write(target, tables, tuples, described, [index.header.fingerprint], searches, origins)
        return MinedTuples(tables, plans, tuples, _suspicious(readable, tables, plans), searches, options)


def _plans(tables: IndexTables, options: MiningOptions) -> dict[str, Plan]:
    """The plan of the file's round, by split name."""
    of_all, of_split = (tables.images, tables.places), tables.candidates
    return {s: plan_round(*of_all, of_split[s], options, s, FIRST_ROUND, tables.barred) for s in SPLITS}


def _described(options: MiningOptions, index: OpenedIndex, unknown: np.ndarray | None) -> dict[str, Any]:
    """What the file says of how it was mined; inside, by which names the index was split too."""
    described, names = options.as_dict(), index.header.options.get(VAL_NAMES)
    if unknown is not None:
        described["left_out_pairs"] = len(unknown)
    return described | ({VAL_NAMES: names} if options.inside and names else {})


def _suspicious(photos: ReadablePhotos, tables: IndexTables, plans: dict[str, Plan]) -> list[SuspiciousPair]:
    rows, images = rows_needed(plans), tables.images
    # Spots of one place may look alike: geometry has proven what they show.
    place = images.place if tables.barred is None else tables.barred.whole_places(images.place)
    rows = _first_of_places(rows, place[rows], COMPARED)
    values = photos.values(images, rows) if len(rows) else None
    if values is None:
        return []
    negatives_only = images.index_row[rows] < 0
    found = suspicious_places(block_of(values, slice(None)), place[rows], distractor=negatives_only)
    row_of = dict(zip(place.tolist(), images.place.tolist(), strict=True))
    return [replace(pair, first=row_of[pair.first], second=row_of[pair.second]) for pair in found]


def _first_of_places(rows: np.ndarray, place: np.ndarray, most: int) -> np.ndarray:
    """The first few of every place: as many of each as keep all within `most`, but two at least, to compare them.

    Parameters
    ----------
    rows, place : (n,) int64
    most : int
    """
    order = np.argsort(place, kind="stable")
    turn = np.empty(len(rows), np.int64)
    turn[order] = rank_in_run(place[order])
    allowed = int(np.searchsorted(np.cumsum(np.bincount(turn)), most, side="right"))
    return rows[turn < max(2, allowed)]
