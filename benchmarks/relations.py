"""What one model proves: the relations of its images against twice the time of its graph, and memory as it grows.

Every number is taken in a fresh process that has the model and its graph, after one run that is not counted. Peak
memory is that of the process; the note says how much of it is not yet there before the relations.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.graph import street_of
from benchmarks.timing import Row, median_seconds, own_peak_mb, peak_of_process
from sfm2tuples.compute.threads import default_threads

SIZES = (1250, 2500, 5000, 10000)


def run(work: Path, quick: bool) -> Iterator[Row]:
    """Rows of the bench; models are written below `work`."""
    for images in (50, 100) if quick else SIZES:
        yield from relations_and_graph(work, images, 6.4)
    if not quick:
        yield from relations_and_graph(work, SIZES[-1], 14.0)


def relations_and_graph(work: Path, images: int, mean_track: float) -> Iterator[Row]:
    """Relations and graph of one street."""
    folder, name = street_of(work, images, mean_track)
    for way in ("ours", "the graph, made twice"):
        peak, (seconds, before, said) = peak_of_process(timed, way == "ours", folder)
        yield Row(name, way, seconds, peak, f"{peak - before:,.0f} MB above what was there; {said}")


def timed(relations: bool, folder: Path) -> tuple[float, float, str]:
    """Seconds of the relations of a model, or of its graph twice; peak memory in MB before that; what was found."""
    from sfm2tuples.covisibility.graph import covisibility
    from sfm2tuples.readers import colmap_binary
    from sfm2tuples.relations.model_relations import relations_of_model
    from sfm2tuples.relations.unknown_pairs import Graph

    threads = default_threads()
    model = colmap_binary.read(folder, threads)
    graph = covisibility(model, threads=threads)
    before = own_peak_mb()
    if not relations:
        seconds = median_seconds(lambda: covisibility(model, threads=threads))
        return 2 * seconds, before, f"{len(graph.neighbour) // 2:,} pairs share points"
    found = relations_of_model(model, Graph(graph.indptr, graph.neighbour), threads=threads)
    seconds = median_seconds(
        lambda: relations_of_model(model, Graph(graph.indptr, graph.neighbour), threads=threads), warm=False
    )
    unknown, n = len(found.unknown.other) // 2, int(found.takes_part.sum())
    proven = n * (n - 1) // 2 - unknown - len(graph.neighbour) // 2
    return seconds, before, f"{unknown:,} unknown, {proven:,} proven negative, {threads} threads"
