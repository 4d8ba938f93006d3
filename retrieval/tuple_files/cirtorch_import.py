"""From cirtorch's pickle and photos to a tuple file; negatives are mined where descriptors are at hand."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from retrieval.networks.devices import choose_device
from retrieval.search.torch_similarity import exact_search
from retrieval.tuple_files.readable_photos import FIRST_ROUND, PhotoOptions
from sfm2tuples.compute.random_draws import item_numbers
from sfm2tuples.errors import DataError
from sfm2tuples.index.schema import SPLITS, TRAIN
from sfm2tuples.interop.cirtorch_files import read_cirtorch
from sfm2tuples.interop.cirtorch_tables import CirtorchTables, from_cirtorch, without_negatives
from sfm2tuples.mining.negatives import choose_pool
from sfm2tuples.mining.options import MiningOptions, mining_options
from sfm2tuples.mining.photo_table import PhotoSize
from sfm2tuples.mining.rounds import Plan
from sfm2tuples.mining.tuple_file import TupleSet


@dataclass(frozen=True)
class ImportOptions:
    """How negatives are mined, now and in each round of a training; fields of `MiningOptions`."""

    negatives: str = "N2"
    """How negatives are chosen."""
    num_negatives: int = 5
    """Negatives of a tuple."""
    pool: str = "random:22000"
    """What negatives are chosen from; cirtorch's by default (method.md section 7)."""
    seed: int = 0
    """Seed of every draw."""

    def mining(self, tables: CirtorchTables) -> MiningOptions:
        """All options of mining: every query of the file takes part, m3 draws among its positives."""
        queries = [np.bincount(tables.images.place[c.query]) for c in tables.candidates.values() if len(c.query)]
        positives = [np.diff(c.indptr) for c in tables.candidates.values() if len(c.query)]
        whole = {
            "positives": "m3",
            "min_overlap": 0.0,
            "query_share": 1.0,
            "queries_per_place": max((int(count.max()) for count in queries), default=1),
            "num_candidates": max((int(count.max()) for count in positives), default=1),
        }
        return mining_options(asdict(self) | whole)


@dataclass(frozen=True)
class ImportedTuples:
    """What an import made, for people."""

    tables: CirtorchTables
    """The tables, and what was left out of them."""
    tuples: dict[str, TupleSet]
    """By split name."""
    has_negatives: bool
    """Whether negatives were mined; else each round of a training mines them, and validation has none."""


def import_tuple_file(
    source: Path,
    images: Path,
    target: Path,
    options: ImportOptions,
    photos: PhotoOptions,
    global_clusters: bool = False,
) -> ImportedTuples:
    """Read cirtorch's training data and write a tuple file: one tuple a pair.

    A photo that is missing or turns out to be unreadable is left out with its pairs. Negatives are mined where
    descriptors are at hand, or none are needed.

    Parameters
    ----------
    source, images : Path
        The pickle; the folder of the photos' tree.
    target : Path
        The file to write; an existing one is replaced once the new one is whole.
    options : ImportOptions
    photos : PhotoOptions
    global_clusters : bool
        A cluster's number means the same place in both splits; see `from_cirtorch`.

    Raises
    ------
    DataError
        The pickle is torn, hostile, empty or of another layout; none of its photos is there; descriptors do not fit.
    MiningError
        Negatives are to be mined, and the pool has too few.
    UsageError
        Both a network and a file of descriptors are named. There is no such device.
    """
    device = choose_device(photos.device)
    # Now, and again with what was really imported: an option without meaning is refused before the work.
    asked = mining_options(asdict(options))
    splits = read_cirtorch(source)
    if not any(len(split.qidxs) for split in splits.values()):
        raise DataError(source, "holds no pairs")

    def tables_of(size_of: PhotoSize, leave_out: Collection[str]) -> CirtorchTables:
        return from_cirtorch(splits, images.absolute(), size_of, leave_out, global_clusters)

    def plans_of(tables: CirtorchTables) -> dict[str, Plan]:
        return {split: _plan(tables, split, options.mining(tables)) for split in SPLITS}

    with photos.open(source, target, asked, may_do_without=True) as readable:
        tables, plans, unreadable = readable.plan(tables_of, plans_of)
        if not len(tables.pairs["train"].query):
            raise DataError(source, "no training pair is left, since photos are absent or unreadable", "give --images")
        left_out = replace(tables.left_out, unreadable=tables.left_out.unreadable + unreadable)
        tables, mining = replace(tables, left_out=left_out), options.mining(tables)
        has_negatives = readable.descriptors is not None or not mining.needs_descriptors
        if has_negatives:
            tuples, _ = readable.choose(tables, plans, mining, exact_search(device))
        else:
            tuples = {split: without_negatives(tables, split, mining.num_negatives) for split in SPLITS}
        parents = [hashlib.sha256(source.read_bytes()).hexdigest()]
        readable.write(target, tables, tuples, mining.as_dict() | {"imported": "cirtorch"}, parents)
    return ImportedTuples(tables, tuples, has_negatives)


def _plan(tables: CirtorchTables, name: str, options: MiningOptions) -> Plan:
    """Every pair of the file as a tuple, and the pool of the first round, drawn as `plan_round` draws it."""
    images, candidates, pairs = tables.images, tables.candidates[name], tables.pairs[name]
    ends = np.concatenate([pairs.query, candidates.image[pairs.edge]])
    is_trained = tables.places.split[images.place] == TRAIN
    may_be_in_pool = np.flatnonzero(is_trained) if name == SPLITS[TRAIN] else np.arange(len(images.key))
    number = item_numbers(images.key)
    pool = choose_pool(options.pool, may_be_in_pool, images.place, number, ends, options.seed, FIRST_ROUND)
    needed = np.union1d(ends, pool) if options.needs_descriptors else np.zeros(0, np.int64)
    return Plan(name, FIRST_ROUND, pairs.query, pairs.edge[:, None], pool, needed, without_positive=0)
