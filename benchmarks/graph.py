"""Co-visibility of one model: shared points, the full graph, the whole `build-index`, and how the cost grows.

Every number is taken in a fresh process, after one run that is not counted. Peak memory is that of the process, so
it holds the interpreter and its libraries too.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.street import write_street
from benchmarks.timing import Row, command_seconds, median_seconds, peak_of_process
from sfm2tuples.compute.threads import default_threads

OBSERVATIONS_AN_IMAGE = 1900
SCALES = (250, 500, 1000, 2000, 4000, 8000)


def run(work: Path, quick: bool) -> Iterator[Row]:
    """Rows of the bench; models are written below `work`."""
    threads = default_threads()
    yield first_run(work, 50 if quick else 250)
    images = 100 if quick else 2000
    for mean_track, goal in ((6.4, 8), (14.0, 20)):
        yield from ways_to_one_graph(work, images, mean_track, goal, threads)
    yield from whole_command(work, images, "goal: no slower than MVSModel")
    for size in (50, 100) if quick else SCALES:
        yield scale(work, size, threads)
    if not quick:
        yield from whole_command(work, SCALES[-1], "goal: MVSModel at least 2x")


def first_run(work: Path, images: int) -> Row:
    """The first command on a machine, with nothing compiled."""
    folder, _ = street_of(work, images)
    arguments = ["build-index", str(folder), "-o", str(work / "first.h5"), "--force"]
    warm = command_seconds(arguments)
    with tempfile.TemporaryDirectory() as empty:
        before = os.environ.get("NUMBA_CACHE_DIR")
        os.environ["NUMBA_CACHE_DIR"] = empty
        try:
            cold = command_seconds(arguments, repeats=1, warm=False)
        finally:
            del os.environ["NUMBA_CACHE_DIR"]
            if before is not None:
                os.environ["NUMBA_CACHE_DIR"] = before
    return Row(f"build-index, {images:,} images, nothing compiled", "ours", cold, None, f"{warm:.2f} s once compiled")


def ways_to_one_graph(work: Path, images: int, mean_track: float, goal: int, threads: int) -> Iterator[Row]:
    """Ours and the usual ways to the shared points of all pairs, reading included."""
    folder, name = street_of(work, images, mean_track)
    measured = partial(measure, name, folder)
    yield measured("ours", partial(ours_shared, threads=threads), f"shared points, {threads} threads; times for others")
    yield measured("ours, 1 thread", partial(ours_shared, threads=1))
    yield measured("ours with figures", partial(ours_graph, threads=threads), "reading, scale change, angles")
    yield measured("our columns + SciPy product", scipy_product)
    yield measured("pycolmap.MVSModel", mvs_model, f"read + shared points; goal {goal}x")
    yield measured("loop over pycolmap.Reconstruction", python_loop, "once; goal 150x", repeats=0)


def whole_command(work: Path, images: int, goal: str) -> Iterator[Row]:
    """The command from the start of its process to the finished file, against MVSModel's shared points in memory."""
    folder, name = street_of(work, images)
    seconds = command_seconds(["build-index", str(folder), "-o", str(work / "index.h5"), "--force"])
    yield Row(f"whole index: {name}", "ours", seconds, None, "process, figures, places, file")
    yield measure(f"whole index: {name}", folder, "pycolmap.MVSModel", mvs_model, f"shared points only; {goal}")


def scale(work: Path, images: int, threads: int) -> Row:
    """Time and memory of the full graph at one size."""
    folder, name = street_of(work, images)
    _, squares = write_street(folder, images, OBSERVATIONS_AN_IMAGE * images)
    row = measure(name, folder, "ours with figures", partial(ours_graph, threads=threads))
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    note = (
        f"{squares / 1e6:,.1f} M squared tracks, {1e9 * row.seconds / squares:.2f} ns each; "
        f"files {size:,.0f} MB, 3x + 400 MB = {3 * size + 400:,.0f}"
    )
    return Row(row.work, row.way, row.seconds, row.peak_mb, note)


def street_of(work: Path, images: int, mean_track: float = 6.4) -> tuple[Path, str]:
    """Folder and name of a street, written where it is not there yet."""
    folder = work / f"street_{images}_{mean_track}"
    observations, _ = write_street(folder, images, OBSERVATIONS_AN_IMAGE * images, mean_track)
    return folder, f"{images:,} images, {observations / 1e6:.2f} M obs., tracks of {mean_track}"


def measure(
    work: str, folder: Path, way: str, function: Callable[[Path], Any], note: str = "", repeats: int = 3
) -> Row:
    """Time a function of a folder in a fresh process; without repeats, by its only run."""
    peak, seconds = peak_of_process(timed, function, folder, repeats)
    return Row(work, way, seconds, peak, note)


def timed(function: Callable[[Path], Any], folder: Path, repeats: int) -> float:
    """Seconds of `function(folder)`."""
    if repeats:
        return median_seconds(lambda: function(folder), repeats)
    start = time.perf_counter()
    function(folder)
    return time.perf_counter() - start


def ours_shared(folder: Path, threads: int) -> int:
    """Read the images and count shared points."""
    from sfm2tuples.covisibility.shared_points import shared_points

    return len(shared_points(folder, threads=threads).neighbour)


def ours_graph(folder: Path, threads: int) -> int:
    """Read the whole model and make the graph with its figures."""
    from sfm2tuples.covisibility.graph import covisibility
    from sfm2tuples.readers import colmap_binary

    return len(covisibility(colmap_binary.read(folder, threads), threads=threads).neighbour)


def scipy_product(folder: Path) -> int:
    """Read with our reader, and multiply the matrix of images and points by its transpose."""
    from scipy.sparse import csr_matrix

    from sfm2tuples.readers import colmap_binary

    model = colmap_binary.read(folder, 1)
    sees = csr_matrix(
        (np.ones(len(model.observation_points), np.int32), model.observation_points, model.observation_indptr),
        shape=(len(model.image_names), len(model.points)),
    )
    return (sees @ sees.T).nnz - len(model.image_names)


def mvs_model(folder: Path) -> int:
    """COLMAP's own shared points."""
    import pycolmap

    model = pycolmap.MVSModel()
    model.read_from_colmap(str(folder), ".", "images")
    return sum(len(row) for row in model.compute_shared_points())


def python_loop(folder: Path) -> int:
    """The loop over images, points and track elements that pipelines write in Python."""
    import pycolmap

    model = pycolmap.Reconstruction(folder)
    edges = 0
    for number, image in model.images.items():
        shared: dict[int, int] = defaultdict(int)
        for point in image.points2D:
            if point.has_point3D():
                for element in model.points3D[point.point3D_id].track.elements:
                    if element.image_id != number:
                        shared[element.image_id] += 1
        edges += len(shared)
    return edges
