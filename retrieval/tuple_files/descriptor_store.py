"""Descriptors on demand for mining: from a network, which describes each photo once, or from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from retrieval.descriptors.extraction import ExtractionOptions, extract_readable, seen_by
from retrieval.descriptors.soundness import warn_of_collapse, warn_of_sideways
from retrieval.networks.network import Network
from retrieval.photos.choices import EXIF, STORED
from retrieval.photos.origins import refuse_others
from sfm2tuples.errors import PhotoError, UsageError
from sfm2tuples.files.descriptors import Descriptors, align
from sfm2tuples.files.remote.address import AnyPath
from sfm2tuples.similarity.rows import Matrix, MatrixRows


class DescriptorStore(Protocol):
    """Where mining gets its descriptors."""

    fingerprint: str
    """Of the network or the file."""
    options: ExtractionOptions | None
    """How a network sees the photos; None where none does, so that nobody has tried to read them."""
    upright: str | None
    """How the photos were seen, one of `UPRIGHT`; None where nothing says it."""

    def add(self, keys: Sequence[str], paths: Sequence[AnyPath]) -> dict[str, PhotoError]:
        """Make sure that these photos are described; return what is wrong with those that cannot be, by key."""

    def values(self, keys: Sequence[str]) -> Matrix:
        """Descriptors of photos that were added: (n, D) float32."""


class NetworkDescriptors:
    """Descriptors that a network makes when they are first asked for.

    Parameters
    ----------
    network : Network
    options : ExtractionOptions
    """

    def __init__(self, network: Network, options: ExtractionOptions) -> None:
        self.fingerprint = network.fingerprint()
        self.description = network.description
        self.options: ExtractionOptions | None = seen_by(network, options)
        self.upright: str | None = self.options.upright
        self._network = network
        self._row: dict[str, int] = {}
        self._warned = False
        self._values = np.zeros((0, network.dimension), np.float32)

    def add(self, keys: Sequence[str], paths: Sequence[AnyPath]) -> dict[str, PhotoError]:
        """Describe the photos that are not described yet."""
        waiting = [(key, path) for key, path in zip(keys, paths, strict=True) if key not in self._row]
        if not waiting:
            return {}
        sources = [path for _, path in waiting]
        sideways: list[str] = []
        described = extract_readable(self._network, sources, self.options, progress="describe", sideways=sideways)
        values, readable, errors = described
        warn_of_sideways(sideways, len(sources))
        for position, i in enumerate(readable.tolist()):
            self._row[waiting[i][0]] = len(self._values) + position
        self._values = np.concatenate([self._values, values])
        if not self._warned:
            remedy = "choose another network, or an earlier checkpoint of its training"
            self._warned = warn_of_collapse(self._values, "the photos", remedy)
        failed = np.setdiff1d(np.arange(len(waiting)), readable).tolist()
        return {waiting[i][0]: error for i, error in zip(failed, errors, strict=True)}

    def values(self, keys: Sequence[str]) -> np.ndarray:
        """Descriptors of photos that were added: (n, D) float32."""
        return self._values[[self._row[key] for key in keys]]


class FileDescriptors:
    """Descriptors that were made before.

    Parameters
    ----------
    descriptors : Descriptors
    index_path : Path
        The index whose images are asked for, for messages.
    upright : str, optional
        How photos are to be seen, see `ExtractionOptions`.

    Raises
    ------
    UsageError
        The descriptors were made of photos that were seen otherwise.
    """

    def __init__(self, descriptors: Descriptors, index_path: Path, upright: str | None = None) -> None:
        self.fingerprint = descriptors.fingerprint
        self.options: ExtractionOptions | None = None
        # Foreign files do not say how they were made.
        own = descriptors.settings.get("upright", STORED) if "network" in descriptors.settings else None
        if own and upright and own != upright:
            raise UsageError(f"{descriptors.path}: was extracted with --upright {own}; leave out --upright {upright}")
        self.upright = own or upright
        warn_of_collapse(descriptors.values, descriptors.path, "extract them with another network")
        self._descriptors = descriptors
        self._index_path = index_path

    def refuse_others(self, index: Path, fingerprint: str) -> None:
        """Raise DataError where the file was made of another index."""
        refuse_others(self._descriptors, index, fingerprint)

    def add(self, keys: Sequence[str], paths: Sequence[AnyPath]) -> dict[str, PhotoError]:
        """Check that the file holds them all; a DataError says which it does not."""
        align(self._descriptors, keys, self._index_path)
        return {}

    def values(self, keys: Sequence[str]) -> Matrix:
        """Descriptors of photos: (n, D) float32, not copied, since they may lie in a file larger than memory."""
        return MatrixRows(self._descriptors.values, align(self._descriptors, keys, self._index_path))


def seen_with(store: DescriptorStore | None, upright: str | None = None) -> dict[str, Any]:
    """Which network looked at photos, and how, for the options of the file that is made; None each where none did.

    Where photos are turned, that is said too: by the descriptors, or by `upright` where there are none.
    """
    made_of = store.description if isinstance(store, NetworkDescriptors) else None
    options = None if store is None else store.options
    seen = {name: getattr(made_of, name, None) for name in ("backbone", "pooling")}
    seen |= {name: getattr(options, name, None) for name in ("image_size", "precision")}
    upright = upright if store is None else store.upright
    return seen | ({"upright": EXIF} if upright == EXIF else {})
