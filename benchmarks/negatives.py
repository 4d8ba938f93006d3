"""Negatives: N1 and N2 against the bare product, and against the usual way, to sort the pool and walk down."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import Row, own_peak_mb, peak_of_process
from sfm2tuples.similarity.best_rows import PoolRules
from sfm2tuples.similarity.exact_search import most_similar
from sfm2tuples.similarity.ivf_search import IvfSearch

NEGATIVES = 5
PLACES = 551
BLOCK = 4096
SIZES = ((20_000, 2_000, 512), (92_000, 2_000, 512))
"""Pool, queries, dimension; BENCH.md."""
BY_LISTS = (7_000_000, 2_000, 128, 20_000)
"""Pool, queries, dimension, clusters, for faiss's inverted lists."""
INSIDE = 0.6
"""Mean cosine of two images of a cluster."""
REPEATS = 5


def run(work: Path, quick: bool) -> Iterator[Row]:
    """Yield the rows of the table."""
    for pool, queries, dimension in ((2_000, 200, 64),) if quick else SIZES:
        yield from _exact(f"{pool:,} x {queries:,} x {dimension}, {PLACES} places", (pool, queries, dimension))
    yield from _by_lists(work, (20_000, 200, 32, 200) if quick else BY_LISTS)


def _exact(work: str, size: tuple[int, int, int]) -> Iterator[Row]:
    """All ways in turn, several times over, since a ratio of one moment is what counts on a noisy machine."""
    data = _random_world(*size)
    ways: dict[str, Callable[[Any], Any]] = {
        "ours": n2,
        "bare blocked product": bare_product,
        "ours, N1": n1,
        "torch: sort and walk": sort_and_walk,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(REPEATS + 1):
        for name, way in ways.items():
            # The walk is slow and does not vary; the first turn of the others compiles and warms up.
            if name.startswith("torch") and turn > 1:
                continue
            start = time.perf_counter()
            way(data)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    if not np.array_equal(n2(data), sort_and_walk(data)):
        raise RuntimeError("N2 is not what sort and walk finds")
    product = statistics.median(seconds["bare blocked product"])
    del data
    for name, way in ways.items():
        took = statistics.median(seconds[name])
        peak = peak_of_process(_beyond_inputs, way, size)[1]
        goal = "; goal 1.6x and 300 MB" if name == "ours" else ""
        yield Row(work, name, took, peak, f"{took / product:.2f}x the product; peak beyond the inputs{goal}")


def bare_product(data: tuple[np.ndarray, ...]) -> None:
    """The product alone, block by block."""
    queries, pool = data[:2]
    for start in range(0, len(pool), BLOCK):
        queries @ pool[start : start + BLOCK].T


def n2(data: tuple[np.ndarray, ...]) -> np.ndarray:
    """Our N2."""
    queries, pool, own, place = data
    return most_similar(queries, pool, NEGATIVES, PoolRules(own, place, place))[0]


def n1(data: tuple[np.ndarray, ...]) -> np.ndarray:
    """Our N1."""
    queries, pool, own, place = data
    return most_similar(queries, pool, NEGATIVES, PoolRules(own, place, np.arange(len(pool))))[0]


def sort_and_walk(data: tuple[np.ndarray, ...]) -> np.ndarray:
    """N2 as cirtorch has it: sort the whole pool for every query, walk down, skip places already used."""
    import torch

    queries, pool, own, place = data
    ranks = torch.sort(torch.from_numpy(pool) @ torch.from_numpy(queries).T, dim=0, descending=True)[1]
    chosen = []
    for q in range(len(queries)):
        seen, r = {int(own[q])}, 0
        negatives: list[int] = []
        while len(negatives) < NEGATIVES:
            image = int(ranks[r, q])
            if int(place[image]) not in seen:
                negatives.append(image)
                seen.add(int(place[image]))
            r += 1
        chosen.append(negatives)
    return np.array(chosen)


def _random_world(pool: int, queries: int, dimension: int) -> tuple[np.ndarray, ...]:
    """Queries, pool, places of the queries and of the pool."""
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal((n, dimension), dtype=np.float32) for n in (queries, pool)]
    for values in rows:
        values /= np.sqrt(np.einsum("nd,nd->n", values, values))[:, None]
    return *rows, rng.integers(PLACES, size=queries), rng.integers(PLACES, size=pool)


def _beyond_inputs(way: Callable[[Any], Any], size: tuple[int, int, int]) -> float:
    """MB that a way takes beyond its inputs and the modules it needs, in a process of its own."""
    if way is sort_and_walk:
        import torch  # noqa: F401
    way(_random_world(1_000, 50, size[2]))
    data = _random_world(*size)
    before = own_peak_mb()
    way(data)
    return own_peak_mb() - before


def _by_lists(work: Path, size: tuple[int, int, int, int]) -> Iterator[Row]:
    pool, queries, dimension, clusters = size
    title = f"{pool:,} x {queries:,} x {dimension} from a mapped file"
    file = work / "pool.npy"
    try:
        _write_clusters(file, *size)
        peak, (seconds, report) = peak_of_process(search_by_lists, file, clusters, queries)
        note = (
            f"recall {report.recall:.3f} over {report.sampled} queries; {report.probes} of {report.lists:,} lists, "
            f"{report.doubled} times doubled; goal 8 GB in all"
        )
        yield Row(title, "ours, faiss IVF, lists made anew", seconds, peak, note)
        peak, seconds = peak_of_process(search_exactly, file, clusters, queries)
        yield Row(title, "ours", seconds, peak, "exact")
    finally:
        file.unlink(missing_ok=True)


def search_by_lists(file: Path, clusters: int, queries: int) -> tuple[float, Any]:
    """N2 by inverted lists, the exact search of a sample included: seconds, and the report."""
    data = _mapped_world(file, clusters, queries)
    search = IvfSearch()
    start = time.perf_counter()
    search(*data)
    return time.perf_counter() - start, search.report


def search_exactly(file: Path, clusters: int, queries: int) -> float:
    """Exact N2 from the mapped file: seconds."""
    data = _mapped_world(file, clusters, queries)
    start = time.perf_counter()
    most_similar(*data)
    return time.perf_counter() - start


def _mapped_world(file: Path, clusters: int, queries: int) -> tuple[Any, ...]:
    """The arguments of a search: some images of the pool ask, each cluster is a place."""
    pool = np.load(file, mmap_mode="r")
    place = np.arange(len(pool)) % clusters
    asking = np.random.default_rng(1).choice(len(pool), queries, replace=False)
    return np.array(pool[np.sort(asking)]), pool, NEGATIVES, PoolRules(place[np.sort(asking)], place, place)


def _write_clusters(file: Path, pool: int, queries: int, dimension: int, clusters: int) -> None:
    """Images around centres; row r belongs to cluster r modulo their number."""
    rng = np.random.default_rng(0)
    centre = rng.standard_normal((clusters, dimension), dtype=np.float32)
    centre /= np.linalg.norm(centre, axis=1, keepdims=True)
    noise = np.sqrt((1 - INSIDE) / INSIDE / dimension).astype(np.float32)
    rows = np.lib.format.open_memmap(file, "w+", np.float32, (pool, dimension))
    for start in range(0, pool, 1 << 17):
        number = np.arange(start, min(start + (1 << 17), pool))
        values = centre[number % clusters] + noise * rng.standard_normal((len(number), dimension), dtype=np.float32)
        rows[number[0] : number[-1] + 1] = values / np.linalg.norm(values, axis=1, keepdims=True)
    rows.flush()
