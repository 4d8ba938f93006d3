"""Pairs of photos to verified matches, in processes of their own; the database holds each pair whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from retrieval.local_features.spatial_verification import match_unit_features
from retrieval.local_features.vocabulary import unit_length
from retrieval.reconstruction.cameras import PhotoCamera
from retrieval.reconstruction.database import (
    VerifiedMatches,
    add_pairs,
    compared_pairs,
    open_database,
    pair_numbers,
    read_features_of,
    remove_pairs,
)
from retrieval.reconstruction.options import MOST_ANGLE, RATIO
from retrieval.reconstruction.progress import Report, told
from sfm2tuples.compute.worker_pools import LocalProcesses, run_jobs
from sfm2tuples.readers.colmap_database import MIN_INLIERS

BLOCK = 32
"""Pairs of a job: a second of work."""
HELD = 128
"""Photos whose features a worker keeps at hand, about a megabyte each."""
NO_GEOMETRY = 1
"""COLMAP's kind of two views that have nothing in common."""


@dataclass(frozen=True)
class _Block:
    """Some pairs of photos."""

    database: str
    pairs: np.ndarray
    cameras: dict[int, PhotoCamera]
    seed: int


def add_matches(
    database: Path,
    pairs: np.ndarray,
    cameras: dict[int, PhotoCamera],
    seed: int,
    jobs: int,
    report: Report | None,
) -> None:
    """Compare the pairs that the database does not hold yet, and forget those that are not asked for any more.

    Parameters
    ----------
    database : Path
    pairs : (m, 2) int64
        Rows of photos that the database holds, the lower first.
    cameras : dict
        Row of a photo to its camera.
    seed : int
        Of RANSAC.
    jobs : int
        Processes.
    report : Report or None
    """
    numbers = pair_numbers(pairs)
    with open_database(database) as connection:
        there = compared_pairs(connection)
        remove_pairs(connection, np.setdiff1d(there, numbers))
        missing = pairs[~np.isin(numbers, there)]
        pool = LocalProcesses(jobs)
        try:
            with told("matches", len(pairs) - len(missing), len(pairs), "pair", report) as add:
                for block, found in run_jobs(_blocks(database, missing, cameras, seed), _compare, pool, _one_by_one):
                    add_pairs(connection, found or [_nothing(int(n)) for n in pair_numbers(block.pairs)])
                    add(len(block.pairs))
        finally:
            pool.close()


def _blocks(database: Path, pairs: np.ndarray, cameras: dict[int, PhotoCamera], seed: int) -> list[_Block]:
    """Jobs of neighbouring pairs, so that a worker reads a photo's features seldom."""
    blocks = (pairs[start : start + BLOCK] for start in range(0, len(pairs), BLOCK))
    return [
        _Block(str(database), block, {row: cameras[row] for row in np.unique(block).tolist()}, seed) for block in blocks
    ]


def _one_by_one(block: _Block) -> list[_Block]:
    return [_Block(block.database, block.pairs[i : i + 1], block.cameras, block.seed) for i in range(len(block.pairs))]


def _compare(block: _Block) -> list[VerifiedMatches]:
    """What a worker does."""
    numbers = pair_numbers(block.pairs)
    return [
        _verify(block, int(number), first, second)
        for number, (first, second) in zip(numbers, block.pairs.tolist(), strict=True)
    ]


def _verify(block: _Block, number: int, first: int, second: int) -> VerifiedMatches:
    """Match two photos and look for one geometry that explains the matches, as COLMAP does."""
    import pycolmap

    pycolmap.logging.minloglevel = 2
    (left, left_unit), (right, right_unit) = (_features(block.database, row) for row in (first, second))
    matches = mutual_matches(left_unit, right_unit).astype(np.uint32)
    if len(matches) < MIN_INLIERS:
        return VerifiedMatches(number, matches, matches[:0], NO_GEOMETRY, {})
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.random_seed = block.seed
    cameras = [
        pycolmap.Camera(
            model=camera.model,
            width=camera.width,
            height=camera.height,
            params=camera.parameters,
            has_prior_focal_length=camera.known,
        )
        for camera in (block.cameras[row] for row in (first, second))
    ]
    found = pycolmap.estimate_two_view_geometry(cameras[0], left, cameras[1], right, matches, options)
    matrices = {name: getattr(found, name) for name in ("F", "E", "H")}
    inliers = np.asarray(found.inlier_matches, np.uint32).reshape(-1, 2)
    config = int(found.config)
    geometry = {name: np.array(matrix) for name, matrix in matrices.items() if matrix is not None}
    return VerifiedMatches(number, matches, inliers, config, geometry)


def mutual_matches(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Features that are near each other, and nearer by far than the second for either: COLMAP's rules of a match.

    They are strict so that photos that have nothing in common have next to no matches: RANSAC would take ten times as
    long on them as on others.

    Parameters
    ----------
    left, right : (m, 128), (n, 128) float32
        Descriptors of length 1.

    Returns
    -------
    (k, 2) int64
        Rows of left and right.
    """
    matches = match_unit_features(left, right, RATIO)
    similarity = right[matches[:, 1]] @ left.T
    own = np.arange(len(matches)), matches[:, 0]
    best = similarity[own]
    similarity[own] = -np.inf
    second = similarity.max(axis=1, initial=-np.inf)
    near = np.maximum(2 - 2 * best, 0) < RATIO**2 * np.maximum(2 - 2 * second, 0)
    return matches[near & (best > np.cos(MOST_ANGLE))]


@lru_cache(HELD)
def _features(database: str, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions, and descriptors of length 1, of a photo."""
    with open_database(Path(database)) as connection:
        points, descriptors = read_features_of(connection, row)
    return points, unit_length(descriptors)


def _nothing(number: int) -> VerifiedMatches:
    """A pair that ended the process that compared it."""
    none = np.zeros((0, 2), np.uint32)
    return VerifiedMatches(number, none, none, NO_GEOMETRY, {})
