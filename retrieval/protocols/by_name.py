"""The protocols by name."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import h5py

from retrieval.photos.labels import read_labels
from retrieval.photos.names import photos_below
from retrieval.photos.sources import photos_of_labels
from retrieval.protocols import oxford_paris, revisited
from retrieval.protocols.benchmark import Benchmark, PhotoNames
from retrieval.protocols.holidays import holidays_benchmark
from retrieval.protocols.labels import labels_benchmark
from retrieval.protocols.place_recognition import (
    MAX_DISTANCE,
    index_positions_benchmark,
    named_positions_benchmark,
)
from retrieval.protocols.sfm import MIN_SHARED, sfm_benchmark
from retrieval.protocols.ukbench import ukbench_benchmark
from sfm2tuples.errors import DataError, UsageError
from sfm2tuples.index.opened import open_index
from sfm2tuples.index.schema import SPLITS

PROTOCOLS = (
    "sfm",
    "labels",
    *oxford_paris.NAMES,
    *revisited.NAMES,
    "holidays",
    "ukbench",
    "place-recognition",
)
"""Names of the protocols, as `--protocol` takes them."""


@dataclass(frozen=True)
class ProtocolChoice:
    """A protocol, its data, and the numbers that define what is right."""

    name: str
    """One of `PROTOCOLS`."""
    data: Path
    """Its folder or file."""
    split: str = "val"
    """Places of an index that are measured."""
    min_shared: int = MIN_SHARED
    """Shared points that make a positive of the SfM protocol."""
    max_distance: float = MAX_DISTANCE
    """Distance within which a photo is right in place recognition."""
    unit_length: float = 1.0
    """Length of a unit of an index's models, in the unit of `max_distance`."""
    images: Path | None = None
    """Folder that the labelled photos' names start from; the CSV's own by default."""

    @property
    def folder(self) -> Path:
        """The folder that names of photos start from."""
        return self.data if self.data.is_dir() else self.data.parent

    @property
    def lists_photos(self) -> bool:
        """Whether the data itself says which photos there are, as an index and a table of labels do."""
        return self.name in ("sfm", "labels") or (self.name == "place-recognition" and self.data.is_file())


def load_benchmark(choice: ProtocolChoice, names: PhotoNames) -> Benchmark:
    """Read a protocol's ground truth.

    Parameters
    ----------
    choice : ProtocolChoice
    names : PhotoNames
        The photos that there are; not looked at where the data itself lists them.

    Raises
    ------
    UsageError
        There is no such protocol, or no query in its data.
    DataError
        The data is absent or torn, or photos are absent.
    """
    _check_exists(choice)
    split = SPLITS.index(choice.split)
    if choice.name == "sfm":
        with open_index(choice.data) as index:
            return sfm_benchmark(index, split, choice.min_shared)
    if choice.name == "labels":
        labels = read_labels(choice.data)
        return replace(labels_benchmark(labels), photos=photos_of_labels(labels, choice.data, choice.images))
    if choice.name in oxford_paris.NAMES:
        return oxford_paris.landmarks_benchmark(choice.name, choice.data, names)
    if choice.name in revisited.NAMES:
        return revisited.revisited_benchmark(choice.name, choice.data, names)
    if choice.name == "holidays":
        return holidays_benchmark(names)
    if choice.name == "ukbench":
        return ukbench_benchmark(names)
    if choice.name != "place-recognition":
        raise UsageError(f"no protocol is called {choice.name}; there are {', '.join(PROTOCOLS)}")
    if choice.data.is_dir():
        return named_positions_benchmark(names, choice.max_distance)
    if not h5py.is_hdf5(choice.data):
        raise DataError(choice.data, "is neither an index nor a folder of photos with positions in their names")
    with open_index(choice.data) as index:
        return index_positions_benchmark(index, split, choice.max_distance, choice.unit_length)


def photos_in(choice: ProtocolChoice) -> PhotoNames:
    """Names of the photos below a protocol's folder.

    Raises
    ------
    DataError
        There is no such folder, or no photo in it.
    """
    _check_exists(choice)
    names = photos_below(choice.folder)
    if not names:
        raise DataError(choice.folder, f"holds no photos of {choice.name}", "see docs/protocols.md, or --descriptors")
    return PhotoNames(names, str(choice.folder))


def known_names(choice: ProtocolChoice, ranked: list[str], origin: str) -> PhotoNames:
    """Names that rankings may hold: photos of the folder, names of ``NAME.json`` in it, and what is ranked."""
    _check_exists(choice)
    listed = choice.folder / f"{choice.name}.json"
    names = photos_below(choice.folder)
    for more in (_imlist(listed), ranked):
        known = PhotoNames(names, origin)
        names = names + [name for name in dict.fromkeys(more) if known.find(name) is None]
    return PhotoNames(names, origin, whole=False)


def _check_exists(choice: ProtocolChoice) -> None:
    if not choice.data.exists():
        raise DataError(choice.data, "no such file or folder")


def _imlist(path: Path) -> list[str]:
    if not path.is_file():
        return []
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["imlist"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(path, "is no JSON with an imlist") from error
    return [str(name) for name in names]
