"""Shared points alone: which images of a model are co-visible, from its images only, at the speed of reading them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sfm2tuples.compute.threads import over_blocks
from sfm2tuples.covisibility.pair_loops import pairs_of
from sfm2tuples.covisibility.tracks import Tracks, tracks_of
from sfm2tuples.readers import kernels
from sfm2tuples.readers.any_kind import read_model
from sfm2tuples.readers.assembly import names_in_order
from sfm2tuples.readers.colmap_binary import read_images
from sfm2tuples.readers.discover import ModelLocation
from sfm2tuples.readers.model_kinds import BINARY, folder_kind
from sfm2tuples.readers.records import observations_with_point
from sfm2tuples.readers.sparse_model import SparseModel

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class SharedPoints:
    """How many points each pair of images shares: CSR, symmetric, without the images themselves."""

    image_names: list[str]
    """n names, in the order of their bytes, which is that of the rows."""
    indptr: np.ndarray
    """(n + 1,) int64, where each image's neighbours start."""
    neighbour: np.ndarray
    """(e,) int64, row of the other image, rising within an image."""
    shared: np.ndarray
    """(e,) int32, shared points; a point that an image observes twice counts once."""

    def matrix(self) -> csr_matrix:
        """Shared points as an n x n SciPy matrix; the arrays are shared, not copied."""
        from scipy.sparse import csr_matrix

        n = len(self.image_names)
        return csr_matrix((self.shared, self.neighbour, self.indptr), (n, n))


def shared_points(
    model: SparseModel | ModelLocation | Path, min_shared: int = 1, threads: int | None = None
) -> SharedPoints:
    """Count the shared points of every pair of images that has some.

    Of a binary COLMAP model only `images.bin` is read, where each of its images observes a point. An observation is
    believed there: one of a point that is not in `points3D.bin`, which `covisibility` leaves out, is counted.

    Parameters
    ----------
    model : SparseModel, ModelLocation or Path
        A model as read, or where it is.
    min_shared : int
        Pairs that share fewer points are left out as they are made.
    threads : int, optional
        By default `sfm2tuples.compute.threads.default_threads()`; the result has the same bits for any number.

    Returns
    -------
    SharedPoints

    Raises
    ------
    ModelError
        One line that names the file and the fault.

    Examples
    --------
    >>> pairs = shared_points(Path("sparse/0"), min_shared=15)            # doctest: +SKIP
    >>> first, others = pairs.image_names[0], pairs.matrix()[0].indices   # doctest: +SKIP
    """
    folder = _binary_folder(model)
    found = None if folder is None else _tracks_of_images(folder / "images.bin", threads)
    if found is not None:
        names, tracks = found
    else:
        whole = model if isinstance(model, SparseModel) else read_model(model)
        names = whole.image_names
        tracks = tracks_of(whole.observation_indptr, whole.observation_points, len(whole.points), threads)
    pairs = pairs_of(tracks, min_shared, None, threads)
    return SharedPoints(names, pairs.indptr, pairs.neighbour, pairs.shared)


def _binary_folder(model: SparseModel | ModelLocation | Path) -> Path | None:
    """The folder of a binary COLMAP model; None for any other model, though an `images.bin` be left beside it."""
    if isinstance(model, ModelLocation):
        folder, kind = model.path, model.kind if model.tracks is None else ""
    elif isinstance(model, Path):
        found = folder_kind(model)
        folder, kind = model, "" if found is None else found.reader
    else:
        return None
    return folder if kind == BINARY and (folder / "images.bin").is_file() else None


def _tracks_of_images(path: Path, threads: int | None) -> tuple[list[str], Tracks] | None:
    """Names of the images in order, and the tracks that their observations make; None where the points may know more.

    An image without observations of points may still be named by the tracks in `points3D.bin`.
    """
    images = read_images(path)
    names, order = names_in_order(images)
    starts, counts = images.starts[order], images.counts[order]
    indptr = observations_with_point(images, order, threads)
    if (np.diff(indptr) == 0).any() and path.with_name("points3D.bin").is_file():
        return None
    ids = np.empty(indptr[-1], np.int64)

    def one_block(begin: int, end: int) -> None:
        kernels.gather_point_ids(begin, end, images.buffer, starts, counts, indptr, ids)

    over_blocks(one_block, indptr, threads)
    largest = int(ids.max(initial=0))
    # An id serves as a row where a table of all ids is not much larger than they are; else they are numbered.
    if largest > 8 * len(ids) + 65536 or ids.min(initial=0) < 0:
        unique, ids = np.unique(ids, return_inverse=True)
        largest = len(unique) - 1
    return [names[row] for row in order.tolist()], tracks_of(indptr, ids, largest + 1, threads)
