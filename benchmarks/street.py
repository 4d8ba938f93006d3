"""A street of cameras as a COLMAP binary model of any size: the input of the benches, the same for the same numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOCAL, WIDTH, HEIGHT = 900.0, 1024, 768
LONGEST_TRACK = 120
POINTS_A_BLOCK = 1 << 16
HALF_TURN = np.sqrt(0.5)

IMAGE = np.dtype([("id", "<u4"), ("q", "<f8", 4), ("t", "<f8", 3), ("camera", "<u4")])
OBSERVATION = np.dtype([("xy", "<f8", 2), ("point", "<u8")])
POINT = np.dtype([("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("length", "<u8")])
ELEMENT = np.dtype([("image", "<u4"), ("index", "<u4")])


@dataclass(frozen=True)
class Street:
    """Cameras in a row, looking at the houses of one side; each point is seen by a run of cameras."""

    centres: np.ndarray
    """(n, 3) float64; all cameras look along +y with z up."""
    points: np.ndarray
    """(p, 3) float64."""
    indptr: np.ndarray
    """(p + 1,) int64, where each point's track starts."""
    images: np.ndarray
    """(m,) int64, rising within a track: the images that see the point."""

    @property
    def squares(self) -> int:
        """Sum of squared track lengths: what a graph of shared points costs."""
        return int((np.diff(self.indptr) ** 2).sum())


def street(num_images: int, num_observations: int, mean_track: float = 6.4, seed: int = 0) -> Street:
    """Draw a street.

    Parameters
    ----------
    num_images : int
    num_observations : int
        About as many are made.
    mean_track : float
        Mean track length: 2, and a geometric number more.
    seed : int

    Returns
    -------
    Street
    """
    random = np.random.default_rng([seed, num_images, num_observations])
    num_points = round(num_observations / mean_track)
    steps = np.arange(num_images) + random.normal(0, 0.2, num_images)
    centres = np.stack([steps, random.uniform(-6, 4, num_images), np.zeros(num_images)], axis=1)
    along = random.uniform(0, num_images, num_points)
    points = np.stack([along, random.uniform(12, 25, num_points), random.normal(0, 3, num_points)], axis=1)
    longest = min(num_images // 2, LONGEST_TRACK)
    lengths = np.minimum(1 + random.geometric(1 / (mean_track - 1), num_points), longest)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    # Every other camera of a run sees the point; runs are pushed back into the street at its ends.
    first = np.clip(along.astype(np.int64) - lengths, 0, num_images - 2 * lengths + 1)
    within = np.arange(indptr[-1]) - np.repeat(indptr[:-1], lengths)
    return Street(centres, points, indptr, np.repeat(first, lengths) + 2 * within)


def write_street(
    folder: Path, num_images: int, num_observations: int, mean_track: float = 6.4, seed: int = 0
) -> tuple[int, int]:
    """Write a street as cameras.bin, images.bin and points3D.bin, unless it is there; see `street`.

    Returns
    -------
    tuple
        Observations, and the sum of squared track lengths.
    """
    drawn = street(num_images, num_observations, mean_track, seed)
    if not (folder / "points3D.bin").exists():
        folder.mkdir(parents=True, exist_ok=True)
        camera = np.array([1, 1], "<u4").tobytes() + np.array([WIDTH, HEIGHT], "<u8").tobytes()
        params = np.array([FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2], "<f8").tobytes()
        (folder / "cameras.bin").write_bytes(np.uint64(1).tobytes() + camera + params)
        order = np.argsort(drawn.images, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(drawn.images, minlength=num_images))])
        _write_images(folder / "images.bin", drawn, order, starts)
        _write_points(folder / "points3D.bin", drawn, order, starts)
    return len(drawn.images), drawn.squares


def _write_images(path: Path, drawn: Street, order: np.ndarray, starts: np.ndarray) -> None:
    """Images in their order, observations in that of the points."""
    track = np.repeat(np.arange(len(drawn.points)), np.diff(drawn.indptr))
    seen = drawn.points[track[order]] - drawn.centres[drawn.images[order]]
    observations = np.empty(len(order), OBSERVATION)
    observations["xy"][:, 0] = WIDTH / 2 + FOCAL * seen[:, 0] / seen[:, 1]
    observations["xy"][:, 1] = HEIGHT / 2 - FOCAL * seen[:, 2] / seen[:, 1]
    observations["point"] = track[order] + 1
    head = np.empty(len(drawn.centres), IMAGE)
    head["id"], head["camera"] = np.arange(1, len(head) + 1), 1
    # A quarter turn about x: the camera's x, y, z are the world's x, -z, y.
    head["q"] = HALF_TURN, HALF_TURN, 0, 0
    head["t"] = -drawn.centres[:, [0, 2, 1]] * (1, -1, 1)
    with path.open("wb") as file:
        file.write(np.uint64(len(head)).tobytes())
        for row in range(len(head)):
            part = observations[starts[row] : starts[row + 1]]
            file.write(head[row].tobytes() + f"street/{row:06d}.jpg\0".encode() + np.uint64(len(part)).tobytes())
            file.write(part.tobytes())


def _write_points(path: Path, drawn: Street, order: np.ndarray, starts: np.ndarray) -> None:
    """Points with their tracks, a block of points at a time."""
    index = np.empty(len(order), np.int64)
    index[order] = np.arange(len(order)) - starts[drawn.images[order]]
    lengths = np.diff(drawn.indptr)
    with path.open("wb") as file:
        file.write(np.uint64(len(lengths)).tobytes())
        for begin in range(0, len(lengths), POINTS_A_BLOCK):
            rows = slice(begin, begin + POINTS_A_BLOCK)
            head = np.zeros(len(lengths[rows]), POINT)
            head["id"], head["xyz"] = np.arange(begin + 1, begin + 1 + len(head)), drawn.points[rows]
            head["rgb"], head["error"], head["length"] = 128, 0.5, lengths[rows]
            part = slice(drawn.indptr[begin], drawn.indptr[begin + len(head)])
            elements = np.empty(part.stop - part.start, ELEMENT)
            elements["image"], elements["index"] = drawn.images[part] + 1, index[part]
            # Where each head stands between the elements, in bytes.
            at = (
                np.arange(len(head)) * POINT.itemsize
                + (drawn.indptr[rows] - part.start)[: len(head)] * ELEMENT.itemsize
            )
            is_head = np.zeros(head.nbytes + elements.nbytes, bool)
            is_head[(at[:, None] + np.arange(POINT.itemsize)).ravel()] = True
            block = np.empty(len(is_head), np.uint8)
            block[is_head], block[~is_head] = head.view(np.uint8), elements.view(np.uint8)
            file.write(block.tobytes())
