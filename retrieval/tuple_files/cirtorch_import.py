"""From cirtorch's pickle and photos to a tuple file; negatives are mined where descriptors are at hand."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from retrieval.descriptors.extraction import ExtractionOptions
from retrieval.networks.choice import NetworkChoice, load_on
from retrieval.networks.devices import FP32
from retrieval.photos.decoding import photo_size
from retrieval.photos.packing import PackedStore
from retrieval.tuple_files.descriptor_store import DescriptorStore, FileDescriptors, NetworkDescriptors, seen_with
from retrieval.tuple_files.mining import FIRST_ROUND
from sfm2tuples.compute.random_draws import item_numbers
from sfm2tuples.errors import DataError, PhotoError, UsageError
from sfm2tuples.files.descriptors import read_descriptors
from sfm2tuples.index.schema import SPLITS, TRAIN
from sfm2tuples.interop.cirtorch_files import CirtorchSplit, read_cirtorch
from sfm2tuples.interop.cirtorch_tables import Imported, from_cirtorch, without_negatives
from sfm2tuples.mining.negatives import choose_pool
from sfm2tuples.mining.options import parse_pool
from sfm2tuples.mining.rounds import MiningOptions, Plan, choose_tuples
from sfm2tuples.mining.tuple_file import TupleSet, write_tuples


@dataclass(frozen=True)
class ImportSources:
    """What is imported, and what is packed."""

    pickle: Path
    """The file of pairs."""
    images: Path
    """Folder of the photos' tree."""
    choice: NetworkChoice
    """A network that describes photos, so that the file gets negatives; it may be none."""
    descriptors: Path | None = None
    """A file of descriptors, in place of a network."""
    image_size: int = 362
    """Longest side in pixels at which the network sees photos."""
    pack_images: int = 0
    """Longest side of the photos packed into the file, in pixels; 0 packs none."""
    precision: str = FP32
    """Of the network, see `ExtractionOptions`."""
    device: str | None = None
    """Where the network runs; cuda where there is one."""
    global_clusters: bool = False
    """A cluster's number means the same place in both splits; see `from_cirtorch`."""


@dataclass(frozen=True)
class ImportOptions:
    """How negatives are mined, now and in each round of a training; fields of `MiningOptions`."""

    negatives: str = "N2"
    """How negatives are chosen."""
    num_negatives: int = 5
    """Negatives of a tuple."""
    pool: str = "random:22000"
    """What negatives are chosen from; cirtorch's by default (METHOD.md section 7)."""
    seed: int = 0
    """Seed of every draw."""

    def mining(self, imported: Imported) -> MiningOptions:
        """All options of mining: every query of the file takes part, m3 draws among its positives."""
        queries = [np.bincount(imported.images.place[c.query]) for c in imported.candidates.values() if len(c.query)]
        positives = [np.diff(c.indptr) for c in imported.candidates.values() if len(c.query)]
        return MiningOptions(
            positives="m3",
            min_overlap=0.0,
            query_share=1.0,
            queries_per_place=max((int(count.max()) for count in queries), default=1),
            num_candidates=max((int(count.max()) for count in positives), default=1),
            **asdict(self),
        )


@dataclass(frozen=True)
class ImportedTuples:
    """What an import made, for people."""

    imported: Imported
    """The tables, and what was left out of them."""
    tuples: dict[str, TupleSet]
    """By split name."""
    has_negatives: bool
    """Whether negatives were mined; else each round of a training mines them, and validation has none."""


def import_tuple_file(sources: ImportSources, target: Path, options: ImportOptions) -> ImportedTuples:
    """Read cirtorch's training data and write a tuple file: one tuple a pair.

    A photo that is missing or turns out to be unreadable is left out with its pairs.

    Parameters
    ----------
    sources : ImportSources
    target : Path
        The file to write; an existing one is replaced once the new one is whole.
    options : ImportOptions

    Raises
    ------
    DataError
        The pickle is torn, hostile, empty or of another layout; none of its photos is there; descriptors do not fit.
    MiningError
        Negatives are to be mined, and the pool has too few.
    UsageError
        Both a network and a file of descriptors are named.
    """
    # Now, and again with what was really imported: an option without meaning is refused before the work.
    MiningOptions(**asdict(options))
    store = _descriptor_store(sources, options)
    splits = read_cirtorch(sources.pickle)
    if not any(len(split.qidxs) for split in splits.values()):
        raise DataError(sources.pickle, "holds no pairs")
    with ExitStack() as stack:
        packed = None
        if sources.pack_images:
            packed = stack.enter_context(PackedStore(target.parent, sources.pack_images))
        imported, plans, mining = _read_photos(splits, sources, options, store, packed)
        has_negatives = store is not None or not mining.needs_descriptors
        tuples = {
            name: _mine(imported, plans[name], mining, store)
            if has_negatives
            else without_negatives(imported, name, mining.num_negatives)
            for name in SPLITS
        }
        write_tuples(
            target,
            imported.images,
            imported.places,
            tuples,
            imported.candidates,
            asdict(mining) | {"imported": "cirtorch", "pack_images": sources.pack_images} | seen_with(store),
            [_hash(sources.pickle)] + ([store.fingerprint] if store else []),
            packed.photos(imported.images.key) if packed else None,
            sources.pack_images,
        )
    return ImportedTuples(imported, tuples, has_negatives)


def _descriptor_store(sources: ImportSources, options: ImportOptions) -> DescriptorStore | None:
    """Where descriptors come from; None where there are none, or none are needed."""
    if sources.descriptors is not None and sources.choice.named:
        raise UsageError("--descriptors are there already: leave out --network and --backbone, or --descriptors")
    if not MiningOptions(negatives=options.negatives).needs_descriptors:
        return None
    if sources.descriptors is not None:
        return FileDescriptors(read_descriptors(sources.descriptors), sources.pickle)
    if sources.choice.named or sources.choice.weights is not None:
        extraction = ExtractionOptions(sources.image_size, precision=sources.precision)
        return NetworkDescriptors(load_on(sources.device, sources.choice), extraction)
    return None


def _read_photos(
    splits: dict[str, CirtorchSplit],
    sources: ImportSources,
    options: ImportOptions,
    store: DescriptorStore | None,
    packed: PackedStore | None,
) -> tuple[Imported, dict[str, Plan], MiningOptions]:
    """Import with the photos that can be read; ends because each turn leaves out at least one photo more."""
    size_of = cache(photo_size)
    unreadable: dict[str, PhotoError] = {}
    while True:
        imported = from_cirtorch(splits, sources.images.absolute(), size_of, unreadable, sources.global_clusters)
        mining = options.mining(imported)
        plans = {name: _plan(imported, name, mining) for name in SPLITS}
        failures = _add(packed, imported, np.arange(len(imported.images.key))) if packed else {}
        if not failures and store:
            failures = _add(store, imported, np.unique(np.concatenate([p.rows_needed for p in plans.values()])))
        if not failures:
            left_out = imported.left_out
            said = left_out.unreadable + [str(error) for error in unreadable.values()]
            return replace(imported, left_out=replace(left_out, unreadable=said)), plans, mining
        unreadable |= failures


def _plan(imported: Imported, name: str, options: MiningOptions) -> Plan:
    """Every pair of the file as a tuple, and the pool of the first round, drawn as `plan_round` draws it."""
    images, candidates, pairs = imported.images, imported.candidates[name], imported.pairs[name]
    ends = np.concatenate([pairs.query, candidates.image[pairs.edge]])
    is_trained = imported.places.split[images.place] == TRAIN
    may_be_in_pool = np.flatnonzero(is_trained) if name == SPLITS[TRAIN] else np.arange(len(images.key))
    number = item_numbers(images.key)
    pool = choose_pool(parse_pool(options.pool), may_be_in_pool, images.place, number, ends, options.seed, FIRST_ROUND)
    needed = np.union1d(ends, pool) if options.needs_descriptors else np.zeros(0, np.int64)
    return Plan(name, FIRST_ROUND, pairs.query, pairs.edge[:, None], pool, needed, without_positive=0)


def _mine(imported: Imported, plan: Plan, options: MiningOptions, store: DescriptorStore | None) -> TupleSet:
    values = store.values([imported.images.key[row] for row in plan.rows_needed.tolist()]) if store else None
    return choose_tuples(plan, values, imported.images, imported.candidates[plan.split], options)


def _add(store: DescriptorStore | PackedStore, imported: Imported, rows: np.ndarray) -> dict[str, PhotoError]:
    keys = [imported.images.key[row] for row in rows.tolist()]
    return store.add(keys, [imported.images.path(row) for row in rows.tolist()])


def _hash(path: Path) -> str:
    """The pickle's fingerprint: SHA-256 of its bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
