"""Descriptors of the photos that a source names, each photo described once, under the names that files use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.descriptors.extraction import ExtractionOptions, extract_readable, extract_settings
from retrieval.descriptors.soundness import warn_of_collapse, warn_of_sideways
from retrieval.networks.choice import NetworkChoice, load_on
from retrieval.networks.network import Network
from retrieval.photos.origins import refuse_others
from retrieval.photos.sources import PhotoSources
from retrieval.whitening.projection import Whitening, apply, check_applicable, settings_mismatch
from sfm2tuples.errors import DataError, PhotoError, UsageError
from sfm2tuples.files.descriptors import Descriptors, DescriptorStream, align, read_descriptors

REMEDY = "choose another network, or an earlier checkpoint of its training"
"""For descriptors that are all alike."""


def describe_photos(
    network: Network,
    photos: PhotoSources,
    options: ExtractionOptions,
    progress: str | None = "extract",
    strict: bool = False,
) -> tuple[Descriptors, list[PhotoError]]:
    """Describe the photos of a source; photos of the same content are run through the network once.

    Parameters
    ----------
    network : Network
    photos : PhotoSources
    options : ExtractionOptions
    progress : str, optional
        Title of the progress bar; none without.
    strict : bool
        Raise the first photo's error, in place of going on without it.

    Returns
    -------
    descriptors : Descriptors
        Of the photos that could be read, in the order of the source.
    failures : list of PhotoError
        One for each photo that could not.

    Raises
    ------
    DataError
        No photo could be read.
    PhotoError
        A photo could not be, and `strict` is set.
    """
    distinct, which = np.unique(photos.same_as, return_inverse=True)
    names = [photos.keys[row] for row in distinct]
    sideways: list[str] = []
    sources = photos.sources.take(distinct)
    values, rows, failures = extract_readable(network, sources, options, names, progress, strict, sideways)
    warn_of_sideways(sideways, len(distinct))
    refuse_none_readable(photos, len(rows), failures)
    found = np.full(len(distinct), -1, np.int64)
    found[rows] = np.arange(len(rows))
    row_of = found[which]
    kept = np.flatnonzero(row_of >= 0)
    keys = [photos.keys[row] for row in kept]
    warn_of_collapse(values, f"{photos.origin}", REMEDY)
    return Descriptors(keys, values[row_of[kept]], extract_settings(network, options)), failures


def refuse_none_readable(photos: PhotoSources, readable: int, failures: Sequence[PhotoError]) -> None:
    """Refuse a source none of whose photos has a descriptor.

    Raises
    ------
    DataError
    """
    if not photos.keys:
        raise DataError(photos.origin, "there are no photos to describe")
    if not readable:
        raise DataError(photos.origin, f"none of its {len(photos.keys):,} photos can be read", str(failures[0]))


def descriptors_of(
    path: Path | None,
    choice: NetworkChoice,
    photos: PhotoSources,
    options: ExtractionOptions,
    device: str | None = None,
    check: Callable[[int], None] | None = None,
) -> Descriptors:
    """Descriptors of all photos of a source, in its order: read from a file, or made by a network.

    Parameters
    ----------
    path : Path, optional
        A descriptor file; it may hold more photos.
    choice : NetworkChoice
        Looked at where no file is given.
    photos : PhotoSources
    options : ExtractionOptions
        For the network.
    device : str, optional
        Where the network runs; cuda where there is one.
    check : callable, optional
        Gets their dimension before a photo is described, and may refuse it.

    Raises
    ------
    UsageError
        Both a file and a network are named, or neither.
    DataError
        A photo has no descriptor in the file, or it was made of another index.
    PhotoError
        A photo cannot be read.
    """
    if path is None:
        network = load_on(device, choice)
        if check is not None:
            check(network.dimension)
        return describe_photos(network, photos, options, strict=True)[0]
    choice.refuse_beside_descriptors()
    descriptors = read_descriptors(path)
    if check is not None:
        check(descriptors.values.shape[1])
    if photos.parent:
        refuse_others(descriptors, photos.origin, photos.parent)
    warn_of_collapse(descriptors.values, f"{path}", "extract them with another network")
    rows = align(descriptors, photos.keys, str(photos.origin))
    return replace(descriptors, names=photos.keys, values=descriptors.values[rows])


def whiten_descriptors(descriptors: Descriptors, whitening: Whitening, dim: int | None = None) -> Descriptors:
    """Apply a whitening; the result's settings say which.

    Raises
    ------
    UsageError
        The descriptors are whitened already, or of another dimension than the whitening.
    """
    if "whitening" in descriptors.settings:
        raise UsageError(f"{descriptors.path or 'these descriptors'}: whitened already; extract without --whitening")
    values = apply(whitening, descriptors.values, dim)
    return replace(descriptors, values=values, settings=_whitened_settings(descriptors.settings, whitening, dim))


def whiten_stream(stream: DescriptorStream, whitening: Whitening, dim: int | None = None) -> DescriptorStream:
    """As `whiten_descriptors`, block after block: the same values, where blocks have `BLOCK_ROWS` rows."""
    check_applicable(whitening, stream.values.shape[1], dim)
    blocks = stream.values.blocks

    def whitened() -> Iterator[np.ndarray]:
        return (apply(whitening, block, dim) for block in blocks())

    settings = _whitened_settings(stream.settings, whitening, dim)
    values = replace(stream.values, shape=(len(stream.names), settings["dim"]), blocks=whitened)
    return replace(stream, values=values, settings=settings)


def _whitened_settings(settings: dict[str, Any], whitening: Whitening, dim: int | None) -> dict[str, Any]:
    return {**settings, "whitening": whitening.fingerprint, "dim": whitening.dim if dim is None else dim}


def mismatch_warning(
    whitening_path: Path, whitening: Whitening, descriptors: Descriptors | DescriptorStream
) -> str | None:
    """One line where the descriptors were made otherwise than those that the whitening was learned on."""
    difference = settings_mismatch(whitening.settings, descriptors.settings)
    return f"{whitening_path}: {difference}" if difference else None
