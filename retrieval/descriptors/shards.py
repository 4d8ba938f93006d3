"""A shard: some photos that one worker of a Dask cluster describes and writes as one part.

Every shard runs on one thread of one worker, so that the bits of a descriptor do not depend on the worker's machine
having many cores or few; a worker with several threads describes as many shards at a time.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from retrieval.descriptors.extraction import ExtractionOptions, extract_readable
from retrieval.descriptors.shard_parts import Stamp, write_shard_part
from retrieval.networks.choice import load_network
from retrieval.networks.devices import choose_device
from retrieval.networks.network import Network
from retrieval.photos.decoding import PhotoSource
from retrieval.photos.sources import SourceColumns
from sfm2tuples.errors import DataError
from sfm2tuples.files.remote.address import Address
from sfm2tuples.files.remote.reading import FetchError, file_facts, in_threads, version_of

LARGEST, SMALLEST, SHARDS = 256, 16, 256
"""Photos of a shard, at most and at least; of few photos so many shards are made, for as many workers."""
THREADS = 1
"""Of a forward pass. PyTorch sums in another order with more of them, and the last bits change."""
_LOADING = threading.Lock()
_NUMBERED = re.compile(r"(?:.*-)?(\d{1,4})")
"""How Dask calls the workers that one command starts: 3, or NAME-3."""


@dataclass(frozen=True)
class ShardWork:
    """What all shards of a command have in common."""

    network: Path
    """A checkpoint that all workers see; an absolute path. Parts are written beside it."""
    fingerprint: str
    """Of the network."""
    options: ExtractionOptions
    """How photos are described."""
    device: str | None
    """Where the network is to run; None: on the worker's own GPU, where there is one."""
    parent: str
    """Fingerprint of the file that names the photos; "" for folders and lists."""
    key: str
    """Hash of all that changes a descriptor besides the photo."""


@dataclass(frozen=True)
class Shard:
    """Work for one worker."""

    work: ShardWork
    """What it shares with the others."""
    rows: np.ndarray
    """(k,) int64: which of the command's photos these are."""
    names: list[str]
    """What they are called."""
    sources: SourceColumns
    """Where they lie."""

    @property
    def photos(self) -> list[str]:
        """What tells each photo from all others."""
        return [identity(name, source, self.work.parent) for name, source in zip(self.names, self.sources, strict=True)]

    @property
    def part(self) -> Path:
        """The file it writes; the same work has the same name."""
        content = "\n".join([self.work.key, *self.photos]).encode("utf-8", "surrogateescape")
        return self.work.network.with_name(f"{hashlib.sha256(content).hexdigest()[:32]}.part")


def identity(name: str, source: PhotoSource, parent: str) -> str:
    """What tells a photo from all others: its name, and where it lies."""
    where = parent if callable(source) or isinstance(source, bytes) else str(source)
    return f"{name}\0{where}"


def photo_stamp(source: PhotoSource) -> Stamp:
    """Size and time of a photo's file, or what its server says in their place; None where there is no such file."""
    if isinstance(source, Address):
        try:
            return version_of(file_facts(source))
        except FetchError:
            return None
    try:
        status = os.stat(source) if isinstance(source, Path) else None
    except (OSError, ValueError):
        return None
    return None if status is None else (status.st_size, status.st_mtime_ns)


def shards_of(work: ShardWork, names: Sequence[str], sources: SourceColumns, rows: np.ndarray) -> list[Shard]:
    """Cut photos into shards.

    Parameters
    ----------
    work : ShardWork
    names, sources
        Of all n photos of the command, on whose number the size of a shard depends.
    rows : (m,) int64
        Those that are to be described; no shard where there are none.
    """
    size = min(LARGEST, max(SMALLEST, -(-len(names) // SHARDS)))
    pieces = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [Shard(work, piece, [names[row] for row in piece.tolist()], sources.portable(piece)) for piece in pieces]


def split_shard(shard: Shard) -> list[Shard]:
    """A shard for each photo; none where there is one photo already."""
    if len(shard.rows) == 1:
        return []
    return [
        replace(shard, rows=shard.rows[[at]], names=[name], sources=shard.sources.portable(np.array([at])))
        for at, name in enumerate(shard.names)
    ]


def describe_shard(shard: Shard) -> int:
    """Describe a shard's photos in whatever process this is, and write its part; gives the number of photos.

    Raises
    ------
    DataError
        This machine does not see the folder of the work, or the part cannot be written.
    NotFiniteError
        The network's descriptor of a photo is not finite.
    """
    torch.set_num_threads(THREADS)
    network = _network(shard.work)
    stamps = list(in_threads(photo_stamp, shard.sources))
    sideways: list[str] = []
    values, readable, failures = extract_readable(
        network, shard.sources, shard.work.options, shard.names, sideways=sideways
    )
    write_shard_part(shard.part, shard.work.key, shard.photos, stamps, values, readable, failures, sideways)
    return len(shard.rows)


def _network(work: ShardWork) -> Network:
    """The network of the work: loaded once in a process, however many shards that describes, one after another."""
    if not work.network.exists():
        what = "is not there on the machine of a worker"
        raise DataError(work.network.parent, what, "photos and output must lie under the same paths everywhere")
    with _LOADING:
        return _loaded(work.network, work.fingerprint, work.device)


@functools.lru_cache(maxsize=1)
def _loaded(path: Path, fingerprint: str, device: str | None) -> Network:
    """Load a network; `fingerprint` tells a newer file of the same name from an older one."""
    return load_network(path).to(_device(device))


def _device(asked: str | None) -> torch.device:
    """The device that is asked for; else the GPU of this worker's number, where there are GPUs."""
    if asked is not None or not torch.cuda.is_available():
        return choose_device(asked)
    from distributed import get_worker

    try:
        name = get_worker().name
    except ValueError:
        name = 0
    return torch.device("cuda", gpu_of(name, torch.cuda.device_count()))


def gpu_of(worker: object, gpus: int) -> int:
    """Number of the GPU of a worker, by its name: workers 0 to 3 of a machine of four GPUs have one each.

    Examples
    --------
    >>> gpu_of("node-6", 4), gpu_of(1, 4), gpu_of("tcp://10.0.0.2:41234", 4)
    (2, 1, 0)
    """
    numbered = _NUMBERED.fullmatch(str(worker))
    return int(numbered[1]) % gpus if numbered else 0
