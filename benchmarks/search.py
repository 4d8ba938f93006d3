"""Search: a million descriptors in a mapped file, exactly, by faiss's inverted lists and by its graph."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import Row, peak_of_process

RESULTS = 100
"""Images found for each query, and those that recall counts."""
SIZE = (1_000_000, 1_000, 128, 5_000)
"""Images, queries, dimension, clusters."""
QUICK = (5_000, 50, 32, 50)
INSIDE = 0.4
"""Mean cosine of two images of a cluster."""
WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ours", {"engine": "flat"}),
    ("ours, faiss IVF, a 16th of the lists", {"engine": "ivf"}),
    ("ours, faiss IVF, 24 lists", {"engine": "ivf", "nprobe": 24}),
    ("ours, faiss HNSW", {"engine": "hnsw"}),
)


def run(work: Path, quick: bool) -> Iterator[Row]:
    """Yield the rows of the table."""
    size = QUICK if quick else SIZE
    images, queries, dimension, _ = size
    title = f"{images:,} x {queries:,} x {dimension} from a mapped file"
    files = work / "database.h5", work / "queries.h5"
    try:
        peak_of_process(write_files, files, size)
        exact = None
        for name, options in WAYS:
            peak, (reading, building, searching, rows) = peak_of_process(search_file, files, options)
            exact = rows if exact is None else exact
            recall = np.mean([len(np.intersect1d(a, b)) / RESULTS for a, b in zip(rows, exact, strict=True)])
            note = f"recall@{RESULTS} {recall:.3f}; opened in {reading:.1f} s, built and compiled in {building:.1f} s"
            yield Row(title, name, searching, peak, note + ("; goal 4 GB in all" if name == "ours" else ""))
    finally:
        for file in files:
            file.unlink(missing_ok=True)


def search_file(files: tuple[Path, Path], options: dict[str, Any]) -> tuple[float, float, float, np.ndarray]:
    """Seconds to open, to build, to search, and the rows found, as `sfm2tuples search` does it."""
    from retrieval.search.engines import make_engine
    from sfm2tuples.files.descriptors import read_descriptors

    start = time.perf_counter()
    database, queries = (read_descriptors(file) for file in files)
    opened = time.perf_counter()
    engine = make_engine(database=database.values, name=options["engine"], nprobe=options.get("nprobe"))
    nobody = np.full(len(queries.names), -1)
    engine.search(queries.values[:1], 1, nobody[:1])  # compiles
    built = time.perf_counter()
    rows, _ = engine.search(queries.values, RESULTS, nobody)
    return opened - start, built - opened, time.perf_counter() - built, rows


def write_files(files: tuple[Path, Path], size: tuple[int, int, int, int]) -> None:
    """A database and queries around the same centres; row r belongs to cluster r modulo their number."""
    from sfm2tuples.files.descriptors import Descriptors, write_descriptors

    images, queries, dimension, clusters = size
    rng = np.random.default_rng(0)
    centre = rng.standard_normal((clusters, dimension), dtype=np.float32)
    centre /= np.linalg.norm(centre, axis=1, keepdims=True)
    noise = np.sqrt((1 - INSIDE) / INSIDE / dimension).astype(np.float32)
    for file, count in zip(files, (images, queries), strict=True):
        values = rng.standard_normal((count, dimension), dtype=np.float32)
        for start in range(0, count, 1 << 16):
            part = values[start : start + (1 << 16)]
            part *= noise
            part += centre[np.arange(start, start + len(part)) % clusters]
            part /= np.linalg.norm(part, axis=1, keepdims=True)
        write_descriptors(file, Descriptors([f"{file.stem}/{row:07d}.jpg" for row in range(count)], values))
