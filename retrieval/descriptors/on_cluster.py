"""Photos described by the workers of a Dask cluster: shards, their parts, and one stream of descriptors at the end."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from retrieval.descriptors.described_photos import REMEDY, refuse_none_readable
from retrieval.descriptors.extraction import ExtractionOptions, extract_settings
from retrieval.descriptors.shard_parts import ShardPart, read_shard_part
from retrieval.descriptors.shards import ShardWork, describe_shard, identity, photo_stamp, shards_of, split_shard
from retrieval.descriptors.soundness import COMPARED, warn_of_collapse, warn_of_sideways
from retrieval.networks.checkpoints import save_checkpoint
from retrieval.networks.network import Network
from retrieval.photos.sources import PhotoSources
from retrieval.whitening.linear_algebra import BLOCK_ROWS
from sfm2tuples.compute.dask_cluster import DASK_TIMEOUT, DaskCluster
from sfm2tuples.compute.progress_bars import ProgressBar
from sfm2tuples.compute.worker_pools import run_jobs
from sfm2tuples.errors import DataError, PhotoError
from sfm2tuples.files.columns import ColumnStream
from sfm2tuples.files.container import SOFTWARE
from sfm2tuples.files.descriptors import DescriptorStream
from sfm2tuples.files.room import require_room
from sfm2tuples.parts.part_files import read_made_part
from sfm2tuples.parts.work_folder import read_whole_parts, work_folder

log = logging.getLogger(__name__)

NETWORK = "network.pt"
"""The network's name in the work folder: workers load it from there, wherever it came from."""
LOOKERS = 16
"""Threads that ask for the sizes and times of files, which a file server answers slowly but many at a time."""
DIED = "the worker that described it died each time, perhaps for want of memory"


@dataclass(frozen=True)
class ClusterOptions:
    """Who describes photos; the result has the same bytes for any cluster of machines of one kind."""

    url: str
    """Address of a Dask scheduler, whose workers see photos and output under the same paths as this machine."""
    timeout: float = DASK_TIMEOUT
    """Seconds after which a cluster that has no workers is given up."""
    device: str | None = None
    """Where workers run the network; None: each on the GPU of its own number, where there is one."""
    resume: bool = False
    """Go on with the parts of an interrupted extraction to the same target."""


@contextmanager
def described_on_cluster(
    network: Network,
    photos: PhotoSources,
    options: ExtractionOptions,
    target: Path,
    cluster: ClusterOptions,
    progress: str | None = "extract",
) -> Iterator[tuple[DescriptorStream, list[PhotoError]]]:
    """Describe the photos of a source, as `describe_photos` does, by shards that workers write as parts.

    The parts lie in a work folder beside the target: removed when the block ends, kept where it fails.

    Parameters
    ----------
    network : Network
        On the CPU; a copy of it in the work folder is what workers load.
    photos, options, progress
        As of `describe_photos`.
    target : Path
        The file that will be made of the descriptors.
    cluster : ClusterOptions

    Yields
    ------
    descriptors : DescriptorStream
        Of the photos that could be read, in the order of the source; to be read before the block ends.
    failures : list of PhotoError
        One for each photo that could not, or that killed every worker.

    Raises
    ------
    DataError
        No photo could be read, no cluster or no room, or workers do not see what this machine sees.
    NotFiniteError
        The network's descriptor of a photo is not finite.
    """
    settings = extract_settings(network, options)
    distinct, which = np.unique(photos.same_as, return_inverse=True)
    with work_folder(target, cluster.resume) as folder:
        work = ShardWork(
            folder / NETWORK, network.fingerprint(), options, cluster.device, photos.parent, _key(settings)
        )
        found = _Found(photos, distinct, network.dimension)
        if cluster.resume:
            found.take_up(folder, work)
        missing = np.flatnonzero(~found.done)
        require_room(target, 4 * len(missing) * network.dimension)
        if len(missing):
            save_checkpoint(work.network, network)
            _describe(work, found, missing, cluster.url, cluster.timeout, progress)
        yield found.stream(which, settings), found.failures_in_order()


def _key(settings: dict[str, object]) -> str:
    """Hash of all that changes a descriptor besides the photo, this program among it."""
    return hashlib.sha256(repr((SOFTWARE, sorted(settings.items()))).encode()).hexdigest()


def _describe(
    work: ShardWork, found: _Found, missing: np.ndarray, url: str, timeout: float, progress: str | None
) -> None:
    """Describe the photos that have no part yet."""
    shards = shards_of(work, found.names, found.sources, missing)
    bar = ProgressBar(
        total=len(found.names),
        initial=len(found.names) - len(missing),
        desc=progress,
        unit="photo",
        disable=progress is None,
    )
    pool = DaskCluster(url, timeout)
    try:
        with bar:
            for shard, count in run_jobs(shards, describe_shard, pool, split_shard):
                if count is None:
                    found.lose(shard.rows, shard.names)
                else:
                    found.add(read_made_part(shard.part, read_shard_part, url), shard.rows)
                    found.refuse_unseen(shard.rows, url)
                bar.update(len(shard.rows))
    finally:
        pool.close()


class _Found:
    """What is known of each of some photos: the part and the row of its descriptor, or why it has none.

    Parameters
    ----------
    photos : PhotoSources
    distinct : (n,) int64
        Those of different content, of which each is described once.
    dimension : int
        D.
    """

    def __init__(self, photos: PhotoSources, distinct: np.ndarray, dimension: int) -> None:
        self.photos, self.dimension = photos, dimension
        self.names = [photos.keys[row] for row in distinct.tolist()]
        self.sources = photos.sources.portable(distinct)
        self.done = np.zeros(len(distinct), bool)
        self._part = np.zeros(len(distinct), np.int32)
        self._row = np.full(len(distinct), -1, np.int64)
        self._parts: list[ShardPart] = []
        self._failures: dict[int, PhotoError] = {}

    def take_up(self, folder: Path, work: ShardWork) -> None:
        """Take the parts of an interrupted extraction, as far as they were made alike and their photos are as then."""
        parts = read_whole_parts(folder, partial(read_shard_part, check=True))
        alike = [part for part in parts if part.key == work.key]
        if len(alike) < len(parts):
            what = "%s: %d of %d parts were made by another network or other options, and are not used"
            log.warning(what, folder, len(parts) - len(alike), len(parts))
        if not alike:
            return
        pairs = zip(self.names, self.sources, strict=True)
        row_of = {identity(*pair, work.parent): row for row, pair in enumerate(pairs)}
        with ThreadPoolExecutor(LOOKERS) as pool:
            for part in alike:
                rows = np.array([row_of.get(photo, -1) for photo in part.photos], np.int64)
                now = pool.map(lambda row: photo_stamp(self.sources[row]) if row >= 0 else None, rows.tolist())
                rows[[before != after for before, after in zip(part.stamps, now, strict=True)]] = -1
                self.add(part, rows)

    def add(self, part: ShardPart, rows: np.ndarray) -> None:
        """Note what a part has of photos; -1 for those of its photos that are not wanted."""
        wanted = rows >= 0
        self._part[rows[wanted]] = len(self._parts)
        self._row[rows[wanted]] = part.row[wanted]
        self.done[rows[wanted]] = True
        self._failures |= {int(rows[at]): error for at, error in part.failures.items() if wanted[at]}
        self._parts.append(part)

    def lose(self, rows: np.ndarray, names: Sequence[str]) -> None:
        """Note photos that killed every worker."""
        for row, name in zip(rows.tolist(), names, strict=True):
            self._failures[row] = PhotoError(name, DIED)
            log.warning("%s", self._failures[row])

    def refuse_unseen(self, rows: np.ndarray, url: str) -> None:
        """Refuse a cluster one of whose workers found no photo where this machine finds one."""
        last = self._parts[-1]
        for at in last.failures:
            source = self.sources[int(rows[at])]
            if last.stamps[at] is None and isinstance(source, Path) and os.path.exists(source):
                what = f"a worker does not see {source}, which is there"
                raise DataError(url, what, "photos and output must lie under the same paths everywhere")

    def failures_in_order(self) -> list[PhotoError]:
        """Why photos have no descriptor, in the order of the source."""
        return [self._failures[row] for row in sorted(self._failures)]

    def stream(self, which: np.ndarray, settings: dict[str, object]) -> DescriptorStream:
        """The descriptors of all photos of the source; `which` of the photos of different content each one is."""
        readable = np.flatnonzero(self._row >= 0)
        origin, failures = self.photos.origin, self.failures_in_order()
        refuse_none_readable(self.photos, len(readable), failures)
        sideways = {name for part in self._parts for name in part.sideways}
        warn_of_sideways(list(sideways), len(self.names))
        some = readable[:: -(-len(readable) // COMPARED)]
        warn_of_collapse(self._values(some), f"{origin}", REMEDY)
        kept = np.flatnonzero(self._row[which] >= 0)

        def blocks() -> Iterator[np.ndarray]:
            # Of the length that a whitening computes at once, so that its products are those of a whole array.
            for start in range(0, len(kept), BLOCK_ROWS):
                yield self._values(which[kept[start : start + BLOCK_ROWS]])

        keys = [self.photos.keys[row] for row in kept.tolist()]
        values = ColumnStream(np.dtype(np.float32), (len(kept), self.dimension), blocks)
        return DescriptorStream(keys, values, settings)

    def _values(self, rows: np.ndarray) -> np.ndarray:
        """Descriptors (m, D) of photos that have one."""
        values = np.empty((len(rows), self.dimension), np.float32)
        parts = self._part[rows]
        for number in np.unique(parts).tolist():
            here = np.flatnonzero(parts == number)
            values[here] = self._parts[number].values()[self._row[rows[here]]]
        return values
