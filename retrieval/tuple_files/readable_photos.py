"""The road that all tuple files take, from tables of photos to the file, whichever file the tables come from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from retrieval.descriptors.extraction import ExtractionOptions
from retrieval.networks.choice import NetworkChoice, load_on
from retrieval.networks.devices import FP32
from retrieval.photos.decoding import try_photo
from retrieval.photos.packing import PackedStore
from retrieval.photos.sizes import PhotoSizes
from retrieval.tuple_files.descriptor_store import DescriptorStore, FileDescriptors, NetworkDescriptors, seen_with
from sfm2tuples.compute.progress_bars import ProgressBar
from sfm2tuples.compute.threads import map_in_order, own_cores
from sfm2tuples.errors import MiningError, PhotoError
from sfm2tuples.files.descriptors import read_descriptors
from sfm2tuples.files.remote.address import AnyPath, any_elsewhere, path_or_address
from sfm2tuples.files.remote.reading import in_threads
from sfm2tuples.interop.cirtorch_tables import CirtorchTables
from sfm2tuples.mining.options import MiningOptions
from sfm2tuples.mining.photo_table import IndexTables
from sfm2tuples.mining.rounds import Plan, choose_tuples, search_for
from sfm2tuples.mining.tuple_file import ImageTable, TupleSet, write_tuples
from sfm2tuples.similarity.exact_search import Search
from sfm2tuples.similarity.ivf_search import IvfSearch, SearchReport
from sfm2tuples.similarity.rows import Matrix

FIRST_ROUND = 0
"""The round whose tuples the file holds; training mines later ones itself."""


Tables = IndexTables | CirtorchTables
"""What tuples are chosen from: images that can be read, as far as is known, places, and candidates by split."""
AnyTables = TypeVar("AnyTables", IndexTables, CirtorchTables)
Plans = dict[str, Plan]
"""By split name."""


@dataclass(frozen=True)
class PhotoOptions:
    """How photos are described, and whether they are packed."""

    choice: NetworkChoice
    """The network that describes them, where no file of descriptors is given; nothing named: the default network."""
    descriptors: Path | None = None
    """A file of descriptors, in place of a network."""
    image_size: int = 362
    """Longest side in pixels at which the network sees photos; the papers' training size."""
    upright: str | None = None
    """How the network sees photos, see `ExtractionOptions`; a training on the file sees them likewise."""
    precision: str = FP32
    """Of the network, see `ExtractionOptions`."""
    device: str | None = None
    """Where the network runs and pools are compared, such as ``cpu`` or ``cuda``; None: cuda where there is one."""
    pack_images: int = 0
    """Longest side of the photos packed into the file, in pixels; 0 packs none."""

    @contextmanager
    def open(
        self, source: Path, target: Path, options: MiningOptions, may_do_without: bool = False
    ) -> Iterator[ReadablePhotos]:
        """The photos of a tuple file in the making: `source` is what it is made from, for messages.

        With `may_do_without` nothing is described where neither a network nor a file of descriptors is named.

        Raises
        ------
        DataError
            The file of descriptors is absent or torn.
        MiningError
            What the caller does with the photos raises it; it gets the name of `source`.
        UsageError
            Both a network and a file of descriptors are named; there is no such device.
        """
        descriptors = self._descriptors(source, options, may_do_without)
        try:
            with PackedStore(target, self.pack_images) if self.pack_images else nullcontext() as packed:
                yield ReadablePhotos(descriptors, packed, self.upright)
        except MiningError as error:
            raise MiningError(f"{source}: {error}") from error

    def _descriptors(self, source: Path, options: MiningOptions, may_do_without: bool) -> DescriptorStore | None:
        """Where descriptors come from; None where no choice looks at any, or none are given and none are needed."""
        if self.descriptors is not None:
            self.choice.refuse_beside_descriptors()
        if not options.needs_descriptors:
            return None
        if self.descriptors is not None:
            return FileDescriptors(read_descriptors(self.descriptors), source, self.upright)
        if may_do_without and not self.choice.named:
            return None
        extraction = ExtractionOptions(self.image_size, precision=self.precision, upright=self.upright)
        return NetworkDescriptors(load_on(self.device, self.choice), extraction)


@dataclass(frozen=True)
class ReadablePhotos:
    """The photos of a tuple file in the making: all of them tried, some of them described or packed."""

    descriptors: DescriptorStore | None
    """Where descriptors come from; None where there are none."""
    packed: PackedStore | None
    """Where packed photos wait, as they are stored and with their EXIF's orientation; None where none are packed."""
    upright: str | None = None
    """How photos are to be seen, where no descriptors say it."""

    def plan(
        self,
        tables_of: Callable[[PhotoSizes, Collection[str]], AnyTables],
        plans_of: Callable[[AnyTables], Plans],
    ) -> tuple[AnyTables, Plans, list[str]]:
        """Plan a round with the photos that can be read.

        Every photo is decoded once: packed ones as they are packed, ones that a network describes then, and all others
        at the least size. Those that cannot be are left out, and the plan is made again without them, as if they had
        never been in the tables. This ends, because each turn leaves out at least one photo more.

        Parameters
        ----------
        tables_of : callable
            Makes the tables from a function that reads a photo's size, and the keys of photos to leave out.
        plans_of : callable
            Makes the plan of each split from the tables.

        Returns
        -------
        tables, plans
        unreadable : list of str
            What is wrong with each photo that was left out here.
        """
        size_of = PhotoSizes()
        unreadable: dict[str, PhotoError] = {}
        tried: set[str] = set()
        while True:
            tables, plans = tables_of(size_of, unreadable), {}
            failures = _add(self.packed, tables.images, np.arange(len(tables.images.key)))
            if not failures:
                plans = plans_of(tables)
                needed = rows_needed(plans)
                failures = _add(self.descriptors, tables.images, needed)
                seen = self.descriptors is not None and self.descriptors.options is not None
                read = needed if seen else needed[:0]
            if not failures and self.packed is None:
                failures = _try(tables.images, read, tried)
            if not failures:
                return tables, plans, [str(error) for error in unreadable.values()]
            unreadable |= failures

    def values(self, images: ImageTable, rows: np.ndarray) -> Matrix | None:
        """Descriptors of planned rows: (n, D) float32; None where there are none."""
        return None if self.descriptors is None else self.descriptors.values([images.key[row] for row in rows.tolist()])

    def choose(
        self, tables: Tables, plans: Plans, options: MiningOptions, exact: Search
    ) -> tuple[dict[str, TupleSet], dict[str, SearchReport]]:
        """The tuples of each split, and the reports of the searches by lists.

        Raises
        ------
        MiningError
            A training query finds fewer negatives than asked in the pool; inside, none finds any.
        """
        tuples, reports = {}, {}
        for split, plan in plans.items():
            search = search_for(options.search, exact)
            values, candidates = self.values(tables.images, plan.rows_needed), tables.candidates[split]
            tuples[split] = choose_tuples(plan, values, tables.images, candidates, options, search, tables.barred)
            if isinstance(search, IvfSearch) and search.report is not None:
                reports[split] = search.report
        return tuples, reports

    def write(
        self,
        target: Path,
        tables: Tables,
        tuples: dict[str, TupleSet],
        options: Mapping[str, Any],
        parents: Sequence[str],
        reports: Mapping[str, SearchReport] | None = None,
        origins: Sequence[str] = (),
    ) -> None:
        """Write the tuple file; an existing one is replaced once the new one is whole.

        Parameters
        ----------
        target, tables, tuples
        options : mapping
            What the file says of how it was mined.
        parents : sequence of str
            Fingerprint of the file that the tuples are made from.
        reports : mapping, optional
            Of the searches by lists, by split name.
        origins : sequence of str
            Whose photos these are, for the header.
        """
        size = self.packed.size if self.packed else 0
        write_tuples(
            target,
            tables.images,
            tables.places,
            tuples,
            tables.candidates,
            {**options, "pack_images": size, **seen_with(self.descriptors, self.upright)},
            [*parents, *([self.descriptors.fingerprint] if self.descriptors else [])],
            self.packed.photos(tables.images.key) if self.packed else None,
            size,
            {split: asdict(report) for split, report in (reports or {}).items()},
            origins,
            tables.barred,
        )


def rows_needed(plans: Plans) -> np.ndarray:
    """Rows whose descriptors the choice of any split looks at: (m,) int64, rising."""
    return np.unique(np.concatenate([plan.rows_needed for plan in plans.values()]))


def _try(images: ImageTable, read: np.ndarray, tried: set[str]) -> dict[str, PhotoError]:
    """Decode the photos of a table that were not read nor tried before; what is wrong with those that cannot be."""
    tried.update(images.key[row] for row in read.tolist())
    rows = [row for row, key in enumerate(images.key) if key not in tried]
    paths = (images.path(row) for row in rows)
    with ThreadPoolExecutor(own_cores(), thread_name_prefix="try") as pool:
        elsewhere = any_elsewhere(map(path_or_address, set(images.root)))
        trials = in_threads(_trial, paths) if elsewhere else map_in_order(pool, _trial, paths)
        found = ProgressBar(trials, "try photos", len(rows), unit="photo")
        errors = {images.key[row]: error for row, error in zip(rows, found, strict=True) if error is not None}
    tried.update(images.key[row] for row in rows)
    return errors


def _trial(path: AnyPath) -> PhotoError | None:
    try:
        try_photo(path)
    except PhotoError as error:
        return error
    return None


def _add(store: DescriptorStore | PackedStore | None, images: ImageTable, rows: np.ndarray) -> dict[str, PhotoError]:
    if store is None:
        return {}
    return store.add([images.key[row] for row in rows.tolist()], [images.path(row) for row in rows.tolist()])
