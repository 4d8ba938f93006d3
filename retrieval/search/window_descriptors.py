"""Windows of photos for re-ranking: maps by a network, the best window for each query, and the window's descriptor.

Each photo of the short lists is decoded and put through the network once, for all queries together. Its map is dropped
again. What stays is a descriptor for each query and photo of its short list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from retrieval.descriptors.extraction import (
    DECODERS,
    ExtractionOptions,
    combine_scales,
    feature_map,
    photo_pyramids,
    scale_exponent,
    seen_by,
)
from retrieval.descriptors.query_crops import check_crop, crop_maps
from retrieval.descriptors.soundness import require_finite
from retrieval.networks.network import Network
from retrieval.photos.decoding import PhotoSource
from retrieval.photos.sources import PhotoSources
from retrieval.search.window_search import integral_image, locate, mac_of
from retrieval.whitening.projection import Whitening, apply
from sfm2tuples.compute.progress_bars import ProgressBar
from sfm2tuples.compute.threads import over_blocks
from sfm2tuples.errors import PhotoError, UsageError
from sfm2tuples.files.columns import indptr_of

MOST_BYTES = 1 << 32
"""Memory that the windows' descriptors may take."""


@dataclass(frozen=True)
class Describer:
    """A network, the options and the whitening that made the descriptors that are re-ranked."""

    network: Network
    options: ExtractionOptions
    whitening: Whitening | None = None
    dim: int | None = None
    """Dimensions of the whitening kept; all by default."""

    def __post_init__(self) -> None:
        """Refuse a network whose map's parts do not describe parts of the photo."""
        if not self.network.describes_parts:
            raise UsageError(f"--rerank looks for windows of a map; {self.network.whole_photos_only}")

    @property
    def largest(self) -> int:
        """The position of the largest scale, at which windows are looked for."""
        return int(np.argmax(self.options.scales))

    @property
    def dimension(self) -> int:
        """Dimension of what is described."""
        if self.whitening is None:
            return self.network.dimension
        return self.dim or self.whitening.dim

    def maps(self, sources: Sequence[PhotoSource], names: Sequence[str]) -> Iterator[list[Tensor]]:
        """Maps (1, K, h, w) of photos, one after the other, at each scale.

        Raises
        ------
        PhotoError
            A photo cannot be read.
        """
        network = self.network
        threads = DECODERS["cpu" if network.device.type == "cpu" else "cuda"]
        options = seen_by(network, self.options)
        for levels in photo_pyramids(sources, names, options, network.backbone.smallest, threads):
            if isinstance(levels, PhotoError):
                raise levels
            yield [feature_map(network, [level], self.options) for level in levels]

    def describe(self, maps: list[Tensor], windows: np.ndarray) -> np.ndarray:
        """Descriptors (m, D) float32 of windows (m, 4) of one photo, in cells of its map at the largest scale."""
        distinct, which = np.unique(windows, axis=0, return_inverse=True)
        height, width = maps[self.largest].shape[2:]
        share = distinct / np.array([height, width, height, width])
        scales = [self._of_map(features, share) for features in maps]
        found = combine_scales(torch.stack(scales), scale_exponent(self.network, self.options)).cpu().numpy()
        if self.whitening is not None:
            found = apply(self.whitening, found, self.dim)
        return found[which.ravel()]

    def _of_map(self, features: Tensor, share: np.ndarray) -> Tensor:
        """Descriptors (m, D) of windows given by their shares of the map's sides."""
        sides = share * np.tile(features.shape[2:], 2)
        first = np.floor(sides[:, :2] + ROUNDING).astype(int)
        last = np.maximum(np.ceil(sides[:, 2:] - ROUNDING).astype(int), first + 1)
        parts = [
            features[:, :, top:bottom, left:right] for (top, left), (bottom, right) in zip(first, last, strict=True)
        ]
        return torch.cat([self.network.describe_map(part) for part in parts])


ROUNDING = 1e-6
"""Of a window's sides in cells of another scale: a side that is a whole number of cells stays one."""


@dataclass(frozen=True)
class QueryRegions:
    """What is looked for: the queries, or their boxes."""

    mac: np.ndarray
    """(q, K) float64: the unwhitened MAC of each query's map, L2-normalised."""
    ratio: np.ndarray
    """(q,) float64: width / height of each query's map."""


def query_regions(
    describer: Describer, photos: PhotoSources, boxes: np.ndarray | None = None, crop: str = "none"
) -> QueryRegions:
    """Look at the queries.

    Parameters
    ----------
    describer : Describer
    photos : PhotoSources
        The queries' photos, in their order.
    boxes : (q, 4) float, optional
        What of each photo is asked for, in its pixels.
    crop : str
        One of `cropping.CROPS`; the boxes are not looked at where it is ``none``.

    Raises
    ------
    PhotoError
        A photo cannot be read.
    """
    macs, ratios = [], []
    with torch.inference_mode():
        for maps in _maps_of_queries(describer, photos, boxes, crop):
            features = maps[describer.largest][0].float().cpu().numpy()
            macs.append(mac_of(features))
            ratios.append(features.shape[2] / features.shape[1])
    return QueryRegions(np.array(macs), np.array(ratios))


def _maps_of_queries(
    describer: Describer, photos: PhotoSources, boxes: np.ndarray | None, crop: str
) -> Iterator[list[Tensor]]:
    if boxes is None or crop == "none":
        yield from describer.maps(photos.sources, photos.keys)
        return
    check_crop(describer.network, crop)
    for source, name, box in zip(photos.sources, photos.keys, boxes, strict=True):
        yield crop_maps(describer.network, source, name, box, crop, describer.options)


class PhotoWindows:
    """Finds windows in photos of a database, see `window_search.WindowFinder`.

    Parameters
    ----------
    describer : Describer
        Its network is in evaluation mode.
    regions : QueryRegions
        Of the queries, in their order.
    photos : PhotoSources
        Photos of the database, or more.
    names : sequence of str
        Names of the database's rows, by which their photos are found.
    progress : str, optional
        Title of a progress bar on stderr; none without.
    """

    def __init__(
        self,
        describer: Describer,
        regions: QueryRegions,
        photos: PhotoSources,
        names: Sequence[str],
        progress: str | None = "re-rank",
    ) -> None:
        self._describer = describer
        self._regions = regions
        self._photos = photos
        self._names = names
        self._progress = progress

    def find(self, row: np.ndarray) -> np.ndarray:
        """Descriptors of the best windows, see `window_search.WindowFinder.find`.

        Raises
        ------
        UsageError
            They would take more than `MOST_BYTES`.
        DataError
            A photo of a short list is not among the photos.
        PhotoError
            A photo cannot be read.
        """
        shape = (*row.shape, self._describer.dimension)
        if 4 * int(np.prod(shape)) > MOST_BYTES:
            raise UsageError(
                f"re-ranking {row.shape[1]:,} photos for each of {row.shape[0]:,} queries takes more than "
                f"{MOST_BYTES >> 30} GiB; re-rank fewer (--rerank R:N), or ask in parts"
            )
        photos, photo_of = self._photos_of(row)
        query, column = np.nonzero(row >= 0)
        asked = photo_of[row[query, column]]
        order = np.argsort(asked, kind="stable")
        query, column = query[order], column[order]
        start = np.searchsorted(asked[order], np.arange(len(photos.keys) + 1))
        found = np.zeros(shape, np.float32)
        bar = ProgressBar(total=len(photos.keys), desc=self._progress, unit="photo", disable=self._progress is None)
        with torch.inference_mode(), bar:
            for number, maps in enumerate(self._describer.maps(photos.sources, photos.keys)):
                part = slice(start[number], start[number + 1])
                windows, name = self._describe(maps, query[part]), photos.keys[number]
                precision = self._describer.options.precision
                found[query[part], column[part]] = require_finite(windows, [name] * len(windows), precision)
                bar.update()
        return found

    def _describe(self, maps: list[Tensor], query: np.ndarray) -> np.ndarray:
        """Descriptors (m, D) of the windows of one photo for some queries."""
        sums = integral_image(maps[self._describer.largest][0].float().cpu().numpy())
        windows = np.empty((len(query), 4), np.int64)

        def locate_some(first: int, end: int) -> None:
            for i in range(first, end):
                windows[i] = locate(sums, self._regions.mac[query[i]], self._regions.ratio[query[i]])

        over_blocks(locate_some, indptr_of(np.full(len(query), sums.size)), None)
        return self._describer.describe(maps, windows)

    def _photos_of(self, row: np.ndarray) -> tuple[PhotoSources, np.ndarray]:
        """The distinct photos of short lists, and the number of the photo of each row of the database, -1 for none."""
        rows = np.unique(row[row >= 0])
        names = [self._names[r] for r in rows.tolist()]
        remedy = "give the folder that the descriptors' names start from"
        photos = self._photos.only(names, "photos to re-rank are not here", remedy)
        distinct, which = np.unique(photos.same_as, return_inverse=True)
        photo_of = np.full(len(self._names), -1)
        photo_of[rows] = which
        return photos.only([photos.keys[first] for first in distinct]), photo_of
