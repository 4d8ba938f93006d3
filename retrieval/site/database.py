"""The photos that a site is asked for: described once by its network, and added to when photos come."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.descriptors.extraction import ExtractionOptions, extract_readable, extract_settings
from retrieval.networks.network import Network
from retrieval.photos.sources import PhotoSources, SourceColumns
from retrieval.site.photo_list import PhotoList, read_photo_list, write_photo_list
from retrieval.site.site_files import SiteFiles
from sfm2tuples.errors import DataError, PhotoError, UsageError
from sfm2tuples.files.descriptors import Descriptors, read_descriptors, write_descriptors


@dataclass(frozen=True)
class KnownPhotos:
    """Photos that were described before, by the same network in the same way."""

    photos: PhotoList
    """What they are."""
    values: np.ndarray
    """(n, D) float32, in their order."""

    def rows_of(self, wanted: PhotoList) -> np.ndarray:
        """Row of each wanted photo, (m,) int64; -1 where it is not here, or has changed since."""
        seen = [(name, file, tuple(stamp)) for name, file, _, stamp in zip(*vars(self.photos).values(), strict=True)]
        row_of = {photo: row for row, photo in enumerate(seen)}
        asked = zip(*vars(wanted).values(), strict=True)
        return np.array([row_of.get((name, file, tuple(stamp)), -1) for name, file, _, stamp in asked], np.int64)


def write_database(
    files: SiteFiles, network: Network, extraction: ExtractionOptions, photos: PhotoList, known: Sequence[KnownPhotos]
) -> list[PhotoError]:
    """Describe what is not described yet, and write `photos.json` and `descriptors.h5`.

    Parameters
    ----------
    files : SiteFiles
    network : Network
        The site's, with its whitening inside.
    extraction : ExtractionOptions
    photos : PhotoList
        All that is to be searched.
    known : sequence of KnownPhotos
        Looked into in their order.

    Returns
    -------
    list of PhotoError
        One for each photo that cannot be read, which is left out.
    """
    values = np.zeros((len(photos.names), network.dimension), np.float32)
    described = np.zeros(len(photos.names), bool)
    for part in known:
        rows = part.rows_of(photos)
        new = ~described & (rows >= 0)
        values[new] = part.values[rows[new]]
        described |= new
    failures: list[PhotoError] = []
    waiting = np.flatnonzero(~described)
    if len(waiting):
        some = photos.take(waiting.tolist())
        sources = sources_of(some, files.photos).sources
        found, rows, failures = extract_readable(network, sources, extraction, some.names, "describe")
        values[waiting[rows]] = found
        described[waiting[rows]] = True
    kept = np.flatnonzero(described).tolist()
    shown = photos.take(kept)
    # The list first: a site whose list knows more photos than are described can be asked. Until these are described
    # their stamps are those of no file: after a kill here an earlier descriptor is not taken for a changed photo's.
    fresh = set(waiting.tolist())
    stamps = [[-1, -1] if row in fresh else stamp for row, stamp in zip(kept, shown.stamps, strict=True)]
    write_photo_list(files.photos, replace(shown, stamps=stamps))
    settings = extract_settings(network, extraction)
    write_descriptors(files.descriptors, Descriptors(shown.names, values[kept], settings))
    if fresh:
        write_photo_list(files.photos, shown)
    return failures


def sources_of(photos: PhotoList, listed: Path) -> PhotoSources:
    """The photos that a file lists, for those who decode them."""
    everything = np.arange(len(photos.names))
    sources = SourceColumns.below(["/"], np.zeros(len(everything), np.int64), photos.files)
    return PhotoSources(photos.names, sources, everything, listed)


def whitened_known(photos: PhotoList, described: Descriptors, values: np.ndarray) -> KnownPhotos:
    """What a candidate described of a site's photos, whitened: (n, D) float32 in the order of `described`."""
    row_of = {name: row for row, name in enumerate(described.names)}
    kept = [row for row, name in enumerate(photos.names) if name in row_of]
    return KnownPhotos(photos.take(kept), values[[row_of[photos.names[row]] for row in kept]])


def extraction_of(settings: dict[str, object]) -> ExtractionOptions:
    """How descriptors were made, from what their file says."""
    base = ExtractionOptions()
    values = {
        "image_size": settings.get("image_size", base.image_size),
        "scales": tuple(settings.get("scales", base.scales)),  # type: ignore[arg-type]
        "exponent": settings.get("exponent"),
        "precision": settings.get("precision", base.precision),
        "resize_filter": settings.get("filter", base.resize_filter),
        "upright": settings.get("upright", base.upright),
    }
    return replace(base, **values)  # type: ignore[arg-type]


def known_before(files: SiteFiles, settings: dict[str, Any]) -> Sequence[KnownPhotos]:
    """What the site's file of descriptors holds, where its descriptors were made as these settings say."""
    try:
        before, photos = read_descriptors(files.descriptors), read_photo_list(files.photos)
    except (DataError, UsageError):
        return []
    if before.settings != json.loads(json.dumps(settings)):
        return []
    row_of = {name: row for row, name in enumerate(before.names)}
    kept = [row for row, name in enumerate(photos.names) if name in row_of]
    return [KnownPhotos(photos.take(kept), before.values[[row_of[photos.names[row]] for row in kept]])]
