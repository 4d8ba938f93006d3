"""Local features of photos: decoded by us and found by pycolmap, in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.local_features.feature_files import DIMENSIONS, LocalFeatures
from retrieval.local_features.sift import SiftOptions, extract_sift
from retrieval.photos.decoding import PhotoSource, load_photo, photo_size
from retrieval.photos.elsewhere import photo_bytes, threads_for
from retrieval.photos.sources import PhotoSources
from sfm2tuples.compute.progress_bars import ProgressBar
from sfm2tuples.compute.worker_pools import LocalProcesses, run_jobs
from sfm2tuples.errors import DataError, PhotoError, UsageError
from sfm2tuples.files.columns import indptr_of
from sfm2tuples.files.remote.address import Address

AT_ONCE = 64
"""Photos that are under way at a time."""
GREY = np.array([0.299, 0.587, 0.114])
"""Shares of red, green and blue in grey (ITU-R 601)."""


@dataclass(frozen=True)
class FeatureOptions:
    """How large photos are looked at, and what is found in them."""

    image_size: int = 1024
    """Longest side in pixels; smaller photos stay as they are."""
    sift: SiftOptions = field(default_factory=SiftOptions)
    """What is detected."""

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        if self.image_size < 1:
            raise UsageError(f"image size must be at least 1 pixel, not {self.image_size}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a file's header."""
        return {"kind": "rootsift", "image_size": self.image_size, **asdict(self.sift)}


@dataclass(frozen=True)
class _Waiting:
    """A photo on its way to a worker: a file, or the bytes of one."""

    row: int
    source: str | Path | bytes
    name: str
    options: FeatureOptions


@dataclass(frozen=True)
class FoundFeatures:
    """Features of one photo."""

    size: tuple[int, int]
    """Width and height of its file in pixels."""
    zoom: float
    """Pixels of the file that one pixel of the photo was that was looked at."""
    keypoints: np.ndarray
    """(m, 4) float32, see `LocalFeatures.keypoints`: in pixels of the file."""
    descriptors: np.ndarray
    """(m, 128) uint8."""


def extract_features(
    photos: PhotoSources, options: FeatureOptions, jobs: int = 1, strict: bool = False
) -> tuple[LocalFeatures, list[PhotoError]]:
    """Find the features of photos; a photo of the same content as another is looked at once.

    Parameters
    ----------
    photos : PhotoSources
    options : FeatureOptions
    jobs : int
        Processes that decode photos and run pycolmap, each on one core.
    strict : bool
        Stop at the first photo that cannot be read.

    Returns
    -------
    LocalFeatures
        Of the photos that could be read, in their order; in memory.
    list of PhotoError
        One for each of the others.

    Raises
    ------
    UsageError
        pycolmap is absent or too old, or `jobs` is below 1.
    PhotoError
        With `strict`, a photo cannot be read.
    DataError
        No photo could be read.
    """
    wanted = np.unique(photos.same_as).tolist()
    found: dict[int, FoundFeatures] = {}
    failures: dict[int, PhotoError] = {}
    with ProgressBar(total=len(wanted), desc="features", unit="photo") as bar:
        for row, result in features_in_turn(photos, wanted, options, jobs):
            if isinstance(result, PhotoError):
                if strict:
                    raise result
                failures[row] = result
            else:
                found[row] = result
            bar.update()
    if not found:
        first = str(failures[min(failures)]) if failures else ""
        raise DataError(photos.origin, f"none of its {len(photos.keys):,} photos can be read", first)
    return _together(photos, options, found), [failures[row] for row in sorted(failures)]


def features_in_turn(
    photos: PhotoSources, rows: Sequence[int], options: FeatureOptions, jobs: int = 1
) -> Iterator[tuple[int, FoundFeatures | PhotoError]]:
    """Find the features of some photos, and give each photo's as they come, so that memory stays small.

    Parameters
    ----------
    photos, options, jobs
        As `extract_features`.
    rows : sequence of int
        Which photos.

    Yields
    ------
    (row, FoundFeatures or PhotoError)
        Once for each row; `AT_ONCE` photos are under way at a time.

    Raises
    ------
    UsageError
        As `extract_features`.
    """
    if jobs < 1:
        raise UsageError(f"jobs must be at least 1, not {jobs}")
    pool = LocalProcesses(jobs)
    try:
        for start in range(0, len(rows), AT_ONCE):
            waiting, failures = _fetched(photos, rows[start : start + AT_ONCE], options)
            yield from failures
            for job, result in run_jobs(waiting, _found, pool, lambda job: ()):
                yield job.row, result or PhotoError(job.name, "pycolmap ended the process that looked at it")
    finally:
        pool.close()


def _fetched(
    photos: PhotoSources, rows: Sequence[int], options: FeatureOptions
) -> tuple[list[_Waiting], list[tuple[int, PhotoError]]]:
    """Photos for the workers, which read files themselves and are sent other photos; and what cannot be fetched."""
    waiting, failures = [], []
    with ThreadPoolExecutor(threads_for(photos.sources, 1)) as threads:
        for row, source in zip(rows, threads.map(_for_worker, [photos.sources[row] for row in rows]), strict=True):
            if isinstance(source, PhotoError):
                failures.append((row, source))
            else:
                waiting.append(_Waiting(row, source, photos.keys[row], options))
    return waiting, failures


def _for_worker(source: PhotoSource) -> str | Path | bytes | PhotoError:
    """A photo as a worker gets it: its path, or its bytes where they are packed or lie elsewhere; or why not."""
    try:
        if isinstance(source, Address):
            return photo_bytes(source)
        return source() if callable(source) else source
    except PhotoError as error:
        return error


def _found(photo: _Waiting) -> FoundFeatures | PhotoError:
    """What a worker does."""
    options, name = photo.options, photo.name
    try:
        pixels = load_photo(photo.source, options.image_size, name)
        size = photo_size(photo.source, name)
        _check_sides(pixels, options.sift.smallest_side, name)
    except PhotoError as error:
        return error
    grey, zoom = np.round(pixels @ GREY).astype(np.uint8), max(size) / max(pixels.shape[:2])
    keypoints, descriptors = extract_sift((grey, options.sift))
    return FoundFeatures(size, zoom, keypoints * np.array([zoom, zoom, zoom, 1], np.float32), descriptors)


def _check_sides(photo: np.ndarray, smallest: int, name: str) -> None:
    height, width = photo.shape[:2]
    if min(height, width) < smallest:
        raise PhotoError(
            name, f"{width} x {height} pixels are too few for local features, which need {smallest} a side"
        )


def _together(photos: PhotoSources, options: FeatureOptions, found: dict[int, FoundFeatures]) -> LocalFeatures:
    """One table of the features of all photos that have them."""
    kept = [row for row in range(len(photos.keys)) if int(photos.same_as[row]) in found]
    each = [found[int(photos.same_as[row])] for row in kept]
    return LocalFeatures(
        [photos.keys[row] for row in kept],
        np.array([one.size for one in each], np.int32).reshape(-1, 2),
        np.array([one.zoom for one in each], np.float64),
        indptr_of(np.array([len(one.keypoints) for one in each], np.int64)),
        np.concatenate([np.empty((0, 4), np.float32), *(one.keypoints for one in each)]),
        np.concatenate([np.empty((0, DIMENSIONS), np.uint8), *(one.descriptors for one in each)]),
        options.as_dict(),
    )
