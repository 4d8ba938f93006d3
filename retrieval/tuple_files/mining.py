"""From an index to a tuple file: photos, network, descriptors, mining, writing."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from retrieval.descriptors.extraction import ExtractionOptions
from retrieval.networks.choice import NetworkChoice, load_chosen
from retrieval.networks.devices import FP32, choose_device
from retrieval.photos.decoding import photo_size
from retrieval.photos.packing import PackedStore
from retrieval.search.torch_similarity import exact_search
from retrieval.tuple_files.descriptor_store import DescriptorStore, FileDescriptors, NetworkDescriptors, seen_with
from retrieval.tuple_files.distractors import read_distractors
from sfm2tuples.errors import PhotoError, UsageError
from sfm2tuples.files.descriptors import read_descriptors
from sfm2tuples.index.schema import SPLITS, Index, read_index
from sfm2tuples.mining.photo_table import NO_DISTRACTORS, Prepared, key_root, prepare
from sfm2tuples.mining.queries import rank_in_run
from sfm2tuples.mining.rounds import MiningOptions, Plan, choose_tuples, plan_round, search_for
from sfm2tuples.mining.suspicious_places import SuspiciousPair, suspicious_places
from sfm2tuples.mining.tuple_file import TupleSet, write_tuples
from sfm2tuples.similarity.exact_search import BLOCK, Search
from sfm2tuples.similarity.ivf_search import IvfSearch, SearchReport
from sfm2tuples.similarity.rows import Matrix, block_of

FIRST_ROUND = 0
"""The round whose tuples the file holds; training mines later ones itself."""


COMPARED = 30_000
"""Images that are compared with one another in the search for places that look alike; time grows with the square."""


@dataclass(frozen=True)
class MiningMeans:
    """With what tuples are mined; none of it changes them."""

    device: str | None = None
    """Where the network runs and pools are compared, such as ``cpu`` or ``cuda``; None: cuda where there is one."""
    block: int = BLOCK
    """Pool images compared at once; bounds the memory."""


@dataclass(frozen=True)
class TupleSources:
    """What tuples are mined from, and what is packed."""

    index: Path
    """The index file."""
    choice: NetworkChoice
    """The network that describes photos, where no file of descriptors is given."""
    descriptors: Path | None = None
    """A file of descriptors, in place of a network."""
    image_size: int = 362
    """Longest side in pixels at which the network sees photos; the papers' training size."""
    distractors: Path | None = None
    """Photos without a model, see `retrieval.tuple_files.distractors`."""
    pack_images: int = 0
    """Longest side of the photos packed into the file, in pixels; 0 packs none."""
    precision: str = FP32
    """Of the network that describes photos, see `ExtractionOptions`."""


@dataclass(frozen=True)
class MinedTuples:
    """What mining made, for people."""

    prepared: Prepared
    """The tables, and what was left out of them."""
    plans: dict[str, Plan]
    """By split name."""
    tuples: dict[str, TupleSet]
    """By split name."""
    suspicious: list[SuspiciousPair]
    """Pairs of places that may be one; empty where no descriptors were used."""
    searches: dict[str, SearchReport]
    """How well the negatives were found, by split name; of the splits whose pool was searched by inverted lists."""


def mine_tuple_file(
    sources: TupleSources, target: Path, options: MiningOptions, means: MiningMeans | None = None
) -> MinedTuples:
    """Mine the tuples of both splits and write them.

    A photo that turns out to be unreadable, at packing or at description, is left out, and the plan made again without
    it: nothing depends on when it was noticed.

    Parameters
    ----------
    sources : TupleSources
    target : Path
        The file to write; an existing one is replaced once the new one is whole.
    options : MiningOptions
    means : MiningMeans, optional
        Defaults where left out.

    Raises
    ------
    DataError
        A file is absent, torn, or does not fit the others.
    MiningError
        Too few places for the negatives asked, no image with a positive, no photos.
    UsageError
        Descriptors are needed, and neither a network nor a file is named; or both are. There is no such device.
    """
    means = means or MiningMeans()
    device = choose_device(means.device)
    index = read_index(sources.index)
    store = _descriptor_store(sources, options, device)
    with ExitStack() as stack:
        packed = None
        if sources.pack_images:
            packed = stack.enter_context(PackedStore(target.parent, sources.pack_images))
        prepared, plans = _plan(index, sources, options, store, packed)
        tuples, reports = _choose(prepared, plans, store, options, exact_search(device, means.block))
        write_tuples(
            target,
            prepared.images,
            prepared.places,
            tuples,
            prepared.candidates,
            asdict(options) | {"pack_images": sources.pack_images} | seen_with(store),
            [made_from.fingerprint for made_from in (index.header, store) if made_from is not None],
            packed.photos(prepared.images.key) if packed else None,
            sources.pack_images,
            {split: asdict(report) for split, report in reports.items()},
        )
    return MinedTuples(prepared, plans, tuples, _suspicious(store, prepared, plans), reports)


def _choose(
    prepared: Prepared, plans: dict[str, Plan], store: DescriptorStore | None, options: MiningOptions, exact: Search
) -> tuple[dict[str, TupleSet], dict[str, SearchReport]]:
    """The tuples of each split, and the reports of the searches by lists."""
    tuples, reports = {}, {}
    for split, plan in plans.items():
        search = search_for(options.search, exact)
        values = _values(store, prepared, plan.rows_needed)
        candidates = prepared.candidates[split]
        tuples[split] = choose_tuples(plan, values, prepared.images, candidates, options, search)
        if isinstance(search, IvfSearch) and search.report is not None:
            reports[split] = search.report
    return tuples, reports


def _descriptor_store(sources: TupleSources, options: MiningOptions, device: torch.device) -> DescriptorStore | None:
    """Where descriptors come from; None where no choice looks at any."""
    if sources.descriptors is not None and sources.choice.named:
        raise UsageError("--descriptors are there already: leave out --network and --backbone, or --descriptors")
    if not options.needs_descriptors:
        return None
    if sources.descriptors is not None:
        return FileDescriptors(read_descriptors(sources.descriptors), sources.index)
    if not sources.choice.named and sources.choice.weights is None:
        raise UsageError(
            f"{options.positives} with {options.negatives} looks at descriptors: give --network CHECKPOINT, "
            "--backbone NAME with --weights FILE, or --descriptors FILE"
        )
    extraction = ExtractionOptions(sources.image_size, precision=sources.precision)
    return NetworkDescriptors(load_chosen(sources.choice).to(device), extraction)


def _plan(
    index: Index,
    sources: TupleSources,
    options: MiningOptions,
    store: DescriptorStore | None,
    packed: PackedStore | None,
) -> tuple[Prepared, dict[str, Plan]]:
    """Plan with the photos that can be read; ends because each turn leaves out at least one photo more."""
    distractors = NO_DISTRACTORS
    if sources.distractors is not None:
        distractors = read_distractors(sources.distractors, key_root(index))
    size_of = cache(photo_size)
    unreadable: dict[str, PhotoError] = {}
    while True:
        prepared = prepare(index, options, size_of, distractors, unreadable)
        everything = np.arange(len(prepared.images.key))
        failures = _add(packed, prepared, everything) if packed else {}
        if not failures:
            plans = {
                split: plan_round(
                    prepared.images, prepared.places, prepared.candidates[split], options, split, FIRST_ROUND
                )
                for split in SPLITS
            }
            needed = np.unique(np.concatenate([plan.rows_needed for plan in plans.values()]))
            failures = _add(store, prepared, needed) if store else {}
        if not failures:
            messages = [str(error) for error in unreadable.values()]
            return replace(prepared, unreadable=prepared.unreadable + messages), plans
        unreadable |= failures


def _add(store: DescriptorStore | PackedStore, prepared: Prepared, rows: np.ndarray) -> dict[str, PhotoError]:
    keys = [prepared.images.key[row] for row in rows]
    return store.add(keys, [prepared.images.path(row) for row in rows])


def _values(store: DescriptorStore | None, prepared: Prepared, rows: np.ndarray) -> Matrix | None:
    return None if store is None else store.values([prepared.images.key[row] for row in rows])


def _suspicious(store: DescriptorStore | None, prepared: Prepared, plans: dict[str, Plan]) -> list[SuspiciousPair]:
    rows = np.unique(np.concatenate([plan.rows_needed for plan in plans.values()]))
    if store is None or not len(rows):
        return []
    rows = _first_of_places(rows, prepared.images.place[rows], COMPARED)
    values = store.values([prepared.images.key[row] for row in rows])
    return suspicious_places(block_of(values, slice(None)), prepared.images.place[rows])


def _first_of_places(rows: np.ndarray, place: np.ndarray, most: int) -> np.ndarray:
    """The first few of every place, as many of each as keep the number of all within `most`."""
    order = np.argsort(place, kind="stable")
    turn = np.empty(len(rows), np.int64)
    turn[order] = rank_in_run(place[order])
    allowed = int(np.searchsorted(np.cumsum(np.bincount(turn)), most, side="right"))
    return rows[turn < max(2, allowed)]
