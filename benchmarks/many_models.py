"""Many models in one build: one worker against two, and twenty thousand tiny models.

Workers have one kernel thread each. What two workers gain is taken after start-up: the time of all models less that of
the first two, by the same command, so that what remains is the cost of the other models, the merge and the file.
"""

from __future__ import annotations

import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.street import write_street
from benchmarks.timing import Row, peak_of_process

MODELS, IMAGES, OBSERVATIONS_AN_IMAGE = 200, 100, 1900
TINY_IMAGES, TINY_OBSERVATIONS = 4, 80
TINY = (2000, 6000, 20000)


def run(work: Path, quick: bool) -> Iterator[Row]:
    """Rows of the bench; models are written below `work`."""
    yield from one_and_two_workers(work, *((8, 20) if quick else (MODELS, IMAGES)), repeats=1 if quick else 3)
    for count in (50, 100) if quick else TINY:
        yield tiny_models(work, count)


def one_and_two_workers(work: Path, models: int, images: int, repeats: int) -> Iterator[Row]:
    """The same models read by one worker and by two, runs in turn."""
    first, others = work / f"streets_{images}/first", work / f"streets_{images}/others"
    for row in range(models):
        folder = (first if row < 2 else others) / f"{row:04d}/sparse/0"
        write_street(folder, images, OBSERVATIONS_AN_IMAGE * images, seed=row)
    name = f"{models:,} models of {images:,} images"
    two, one = [], []
    for _ in range(repeats + 1):
        for jobs, seconds in ((2, two), (1, one)):
            start_up = command_once(work, jobs, first)
            seconds.append((command_once(work, jobs, first, others) - start_up, start_up))
    # The first run of each fills the cache of files and is not counted.
    (after_two, start_two), (after_one, start_one) = (
        [statistics.median(column) for column in zip(*runs[1:], strict=True)] for runs in (two, one)
    )
    yield Row(name, "ours", after_two, None, f"2 workers; start-up and the first two models {start_two:.2f} s more")
    note = f"start-up {start_one:.2f} s more; goal: at least 1.7x two workers"
    yield Row(name, "ours, 1 worker", after_one, None, note)


def command_once(work: Path, jobs: int, *folders: Path) -> float:
    """Seconds of one command with one kernel thread a process."""
    command = [sys.executable, "-m", "cli", "build-index", *map(str, folders), "-o", str(work / "index.h5")]
    environment = {**os.environ, "SFM2TUPLES_THREADS": "1"}
    start = time.perf_counter()
    subprocess.run(
        [*command, "--jobs", str(jobs), "--force", "--quiet"],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def tiny_models(work: Path, count: int) -> Row:
    """A build of as many copies of a tiny model, each a scene of its own."""
    folder = work / f"tiny_{count}"
    write_street(work / "tiny", TINY_IMAGES, TINY_OBSERVATIONS)
    files = {path.name: path.read_bytes() for path in (work / "tiny").iterdir()}
    for row in range(count):
        model = folder / f"{row // 1000:03d}/{row:06d}/sparse/0"
        if not (model / "points3D.bin").exists():
            model.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                (model / name).write_bytes(content)
    peak, seconds = peak_of_process(build_seconds, folder, work / "tiny.h5")
    note = f"{1e3 * seconds / count:.2f} ms a model; goal: the same at any number"
    return Row(f"{count:,} models of {TINY_IMAGES} images", "ours, 1 worker", seconds, peak, note)


def build_seconds(folder: Path, target: Path) -> float:
    """Seconds of a build in this process, its compiled loops being loaded before."""
    from sfm2tuples.ingest.build import IngestOptions, build_index

    logging.disable()  # That there are no photos is said once for each build.
    build_index([next(folder.glob("*/*"))], target, IngestOptions())
    start = time.perf_counter()
    build_index([folder], target, IngestOptions())
    return time.perf_counter() - start
