"""The images of an index behind a protocol's photos: their points, poses and the depth of what they see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sfm2tuples.errors import DataError
from sfm2tuples.files.columns import gather_rows, indptr_of
from sfm2tuples.index.opened import OpenedIndex


@dataclass(frozen=True)
class DatabaseImages:
    """Images by photo, as CSR: a photo that is in two models is two images of the index."""

    index: OpenedIndex
    """Where they are from."""
    indptr: np.ndarray
    """(d + 1,) int64, where the images of each photo start."""
    image: np.ndarray
    """(i,) int64, rows of the index."""
    model: np.ndarray
    """(i,) int64, the model of each."""
    pose: np.ndarray
    """(i, 3, 4) float64, world-to-camera."""
    observed_indptr: np.ndarray
    """(i + 1,) int64, where the points of each image start."""
    point: np.ndarray
    """(m,) int64, rows of the points that they observe."""

    @classmethod
    def of_photos(cls, index: OpenedIndex, keys: Sequence[str]) -> DatabaseImages:
        """Read what belongs to the photos of some keys: memory of their observations, 8 bytes each."""
        images, row_of = index.images, dict[str, int]()
        for row, key in enumerate(images.key[:]):
            row_of.setdefault(key, row)
        photo = images.photo[:]
        try:
            wanted = photo[[row_of[key] for key in keys]]
        except KeyError as error:
            raise DataError(index.path, f"has no image {error.args[0]}", "is it another index?") from error
        order = np.argsort(photo, kind="stable")
        first, ends = (np.searchsorted(photo[order], wanted, side) for side in ("left", "right"))
        indptr = indptr_of(ends - first)
        image = order[np.repeat(first - indptr[:-1], np.diff(indptr)) + np.arange(indptr[-1])]
        observed, positions = gather_rows(index.observations.indptr[:], image)
        whole = np.array_equal(image, np.arange(len(photo)))  # then nothing need be looked for
        point = index.observations.point[:] if whole else index.observations.point[positions]
        return cls(index, indptr, image, images.model[image], index.poses(image), observed, point)

    @property
    def point_indptr(self) -> np.ndarray:
        """(d + 1,) int64, where the points of each photo start in `point`: those of all its images."""
        return self.observed_indptr[self.indptr]

    def points_of(self, position: int) -> np.ndarray:
        """The points of the image at a position of `image`, each once, rising."""
        return np.unique(self.point[self.observed_indptr[position] : self.observed_indptr[position + 1]])

    def rows_of(self, photo: int) -> tuple[int, ...]:
        """Rows of a photo's images in the index."""
        return tuple(self.image[self.indptr[photo] : self.indptr[photo + 1]].tolist())

    def depths(self, photos: np.ndarray) -> np.ndarray:
        """Scene depth of the images of some photos: the median depth along the optical axis of what they see.

        Returns
        -------
        (i,) float64
            At the positions of their images, in the unit of the model; NaN elsewhere, and where no point is in front.
        """
        depth = np.full(len(self.image), np.nan)
        wanted = np.unique(gather_rows(self.indptr, photos)[1])
        starts = self.index.models.point_start
        for model in np.unique(self.model[wanted]).tolist():
            xyz = self.index.points.xyz[int(starts[model]) : int(starts[model + 1])]
            for position in wanted[self.model[wanted] == model].tolist():
                rotation, shift = self.pose[position, 2, :3], self.pose[position, 2, 3]
                along = xyz[self.points_of(position) - starts[model]] @ rotation + shift
                in_front = along[along > 0]
                depth[position] = np.median(in_front) if len(in_front) else np.nan
        return depth

    def pairs(self, queries: np.ndarray, results: np.ndarray) -> tuple[np.ndarray, ...]:
        """Images of queries and of their results that are in one model, where alone poses compare.

        Parameters
        ----------
        queries : (q,) int64
            Rows of the photos that ask.
        results : (q, K) int64
            Rows of the photos found; others, such as -1 or a distractor's, have no image.

        Returns
        -------
        query, rank, own, other : (m,) int64
            Numbers of the query and of the result, and positions of their images.
        """
        query, rank = np.nonzero((results >= 0) & (results < len(self.indptr) - 1))
        counts, other = gather_rows(self.indptr, results[query, rank])
        query, rank = (np.repeat(column, np.diff(counts)) for column in (query, rank))
        counts, own = gather_rows(self.indptr, queries[query])
        query, rank, other = (np.repeat(column, np.diff(counts)) for column in (query, rank, other))
        comparable = self.model[own] == self.model[other]
        return query[comparable], rank[comparable], own[comparable], other[comparable]
