"""A made-up heap of ever more photos through the whole road: seconds, peak memory, bytes, their slopes, what bends.

``python -m benchmarks scale --work DIR -o results.json [--images 10000,100000,1000000]``. Every step is the real
program in a process of its own. Each result is written as soon as it is there, and is not measured again.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from benchmarks.dask_processes import dask_processes
from benchmarks.heap import OBSERVATIONS, Heap, make_heap
from benchmarks.process_trees import Watched, watch
from benchmarks.slopes import print_slopes

WORKERS = 2
"""Of the Dask cluster on this machine, one thread each."""
STEPS = ("build-index", "mine-tuples", "dry round", "whiten", "search", "evaluate")
"""In the order in which they need one another's files."""
VALIDATION = 30_012
"""Images that are held out at most, by default as many as the paper's [E16]; up to five times as many a fifth is."""


@dataclass(frozen=True)
class Bench:
    """One size of the heap, and where its files go."""

    heap: Heap
    """The input."""
    observations: int
    """Of an image."""
    limit_gib: float
    """Memory that no step may exceed."""
    build_flags: tuple[str, ...]
    """Added to `build-index`."""
    val_images: int = VALIDATION
    """Images that are held out at most, about."""

    def output(self, step: str) -> Path:
        """The file that a step makes."""
        names = {"build-index": "index.h5", "mine-tuples": "tuples.h5", "whiten": "whitening.h5"}
        names |= {"search": "ranks.h5", "evaluate": "evaluation.json"}
        return self.heap.folder / names.get(step, "nothing")

    def command(self, step: str, scheduler: str = "") -> list[str]:
        """Its command line."""
        index, tuples = self.output("build-index"), self.output("mine-tuples")
        share = min(0.2, self.val_images / self.heap.num_images)
        words: dict[str, list[str | Path]] = {
            "build-index": ["build-index", self.heap.models, "--dask", scheduler, "--val-share", f"{share:.4g}"],
            "mine-tuples": ["mine-tuples", index, "--descriptors", self.heap.descriptors],
            "whiten": ["whiten", index, "--descriptors", self.heap.descriptors],
            "search": ["search", "--queries", self.heap.queries, "--database", self.heap.descriptors],
            "evaluate": ["evaluate", "--index", index, "--descriptors", self.heap.descriptors],
        }
        words["build-index"] += self.build_flags
        if step == "dry round":
            return _python("benchmarks.dry_round", tuples, self.heap.descriptors)
        return _python("cli", *words[step], "-o", self.output(step), "--force", "--quiet")


def _python(module: str, *words: str | Path) -> list[str]:
    return [sys.executable, "-m", module, *map(str, words)]


@click.command()
@click.option("--work", type=click.Path(path_type=Path), required=True, help="folder for the heaps and what is made")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="JSON; what is in it stays")
@click.option("--images", default="10000,100000,1000000", show_default=True, help="sizes of the heap")
@click.option("--observations", default=OBSERVATIONS, show_default=True, help="of an image; real models have 2,000")
@click.option("--dimension", default=512, show_default=True, help="of the descriptors")
@click.option("--limit", default=24.0, show_default=True, help="GiB that no step may exceed")
@click.option("--build-flags", default="", help="added to build-index, such as '--keep graph'")
@click.option("--val-images", default=VALIDATION, show_default=True, help="held out at most; a fifth of fewer")
@click.option("--steps", default=",".join(STEPS), show_default=True)
@click.option("--again", is_flag=True, help="measure these steps anew")
@click.option("--throw-away", is_flag=True, help="delete a heap when its steps are done")
@click.option("--only-table", is_flag=True, help="print what is in the JSON, and run nothing")
def main(
    work: Path,
    output: Path,
    images: str,
    observations: int,
    dimension: int,
    limit: float,
    build_flags: str,
    val_images: int,
    steps: str,
    again: bool,
    throw_away: bool,
    only_table: bool,
) -> None:
    """Measure the road at several sizes, and name what bends."""
    results = _Results(output)
    wanted = [step for step in STEPS if step in steps.split(",")]
    for least in [] if only_table else map(int, images.split(",")):
        folder = work / f"{least}_{observations}_{dimension}"
        known = {"least": least, "observations": observations, "dimension": dimension, "flags": build_flags}
        known["val_images"] = val_images
        missing = [step for step in wanted if again or not results.has(step, known)]
        if not missing:
            continue
        click.echo(f"{least:,} images, {observations} observations each, limit {limit:g} GiB: {', '.join(missing)}")
        started = time.monotonic()
        heap = make_heap(folder, least, observations, dimension)
        known |= {"images": heap.num_images, "models": len(heap.sizes), "limit_gib": limit}
        click.echo(f"  {heap.num_images:,} images in {len(heap.sizes):,} models, {time.monotonic() - started:.0f} s")
        bench = Bench(heap, observations, limit, tuple(build_flags.split()), val_images)
        for step in missing:
            results.add(measure(bench, step) | known)
        if throw_away:
            shutil.rmtree(folder)
    print_slopes(results.runs)


def measure(bench: Bench, step: str) -> dict[str, Any]:
    """Run a step; its figures for the file of results, also where it failed."""
    with ExitStack() as held:
        scheduler, others = "", {}
        if step == "build-index":
            cluster = held.enter_context(dask_processes(WORKERS, {"SFM2TUPLES_THREADS": "1"}))
            cluster.wait_for_workers()
            scheduler, others = cluster.address, cluster.processes
        command = bench.command(step, scheduler)
        watched = watch(command, bench.limit_gib, others, {"SFM2TUPLES_THREADS": "1"} if others else None)
    output = bench.output(step)
    figures = {
        "step": step,
        "command": " ".join(command[1:]),
        "bytes": output.stat().st_size if output.exists() else 0,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu_seconds": watched.cpu_seconds,
        **asdict(watched),
    }
    click.echo(_line(step, watched, figures["bytes"]))
    return figures


def _line(step: str, watched: Watched, size: int) -> str:
    peaks = ", ".join(f"{name} {peak.peak_mb:,.0f}" for name, peak in watched.peaks.items())
    end = "" if watched.end == "done" else f"  {watched.end.upper()}: {watched.said.strip()[-300:]}"
    took = f"{watched.seconds:9.1f} s, {watched.cpu_seconds:9.1f} s of processors"
    return f"  {step:12} {took}, MB at most: {peaks}  {size / 1e6:,.1f} MB on disk{end}"


class _Results:
    """The file of results."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.runs: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []

    def has(self, step: str, known: dict[str, Any]) -> bool:
        """Whether a step was measured on such a heap."""
        asked = {"step": step, "end": "done", **known}
        return any(all(run.get(name) == value for name, value in asked.items()) for run in self.runs)

    def add(self, run: dict[str, Any]) -> None:
        """Add a result, in the place of an older one, and write the file."""
        same = ("step", "least", "observations", "dimension", "flags", "val_images")
        self.runs = [old for old in self.runs if any(old.get(name) != run.get(name) for name in same)] + [run]
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps(self.runs, indent=1))
        beside.replace(self._path)
