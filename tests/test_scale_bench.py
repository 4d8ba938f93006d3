"""The bench of scale: sizes as the paper's, slopes of known lines, peaks and ends of processes, results that stay."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.heap import FEWEST, MEAN, MOST, make_heap, model_sizes
from benchmarks.process_trees import watch
from benchmarks.scale import _Results
from benchmarks.slopes import bends, slope
from sfm2tuples.files.descriptors import read_descriptors
from sfm2tuples.readers.any_kind import read_model
from sfm2tuples.readers.discover import find_models


def test_models_are_as_large_as_the_papers() -> None:
    sizes = model_sizes(163_671)
    assert FEWEST <= sizes.min() < 30
    assert 5_000 < sizes.max() <= MOST
    assert sizes.sum() >= 163_671
    assert abs(sizes.mean() / MEAN - 1) < 0.02
    np.testing.assert_array_equal(sizes, model_sizes(163_671))
    assert not np.array_equal(sizes, model_sizes(163_671, seed=1))


def test_a_heap_has_models_photos_and_descriptors_of_the_same_names(tmp_path: Path) -> None:
    heap = make_heap(tmp_path, 80, 20, 8, processes=1)
    made = {path: path.stat().st_mtime_ns for path in heap.models.rglob("*") if path.is_file()}
    models = find_models([heap.models])
    assert len(models) == len(heap.sizes)
    names = read_descriptors(heap.descriptors).names
    assert len(set(names)) == heap.num_images == sum(len(read_model(model).image_names) for model in models)
    photos = {(heap.models / name).read_bytes() for name in names}
    assert len(photos) == heap.num_images
    make_heap(tmp_path, 80, 20, 8, processes=1)
    assert made == {path: path.stat().st_mtime_ns for path in heap.models.rglob("*") if path.is_file()}


def test_a_slope_is_that_of_the_line_and_a_bend_is_named_where_it_begins() -> None:
    sizes = [10, 100, 1000, 10_000]
    assert slope(sizes, [3 * size**2 for size in sizes]) == pytest.approx(2)
    assert np.isnan(slope(sizes[:2], [0, 5]))
    assert bends(sizes, [5 + size for size in sizes]) is None
    assert bends(sizes, [1, 10, 1000, 100_000]) == (1000, pytest.approx(2))


def test_a_process_is_watched_to_its_end() -> None:
    grow = "import sys, time; held = bytearray(200 << 20); time.sleep(0.5); sys.exit(int(sys.argv[1]))"
    done = watch([sys.executable, "-c", grow, "0"], 1.0)
    assert done.end == "done"
    assert 200 < done.peaks["main"].own_mb <= done.peaks["main"].peak_mb < 400
    assert watch([sys.executable, "-c", grow, "3"], 1.0).end == "failed"


def test_a_process_beyond_its_limit_ends() -> None:
    grow = "held = bytearray(300 << 20)"
    watched = watch([sys.executable, "-c", f"import time\n{grow}\ntime.sleep(60)"], 0.25)
    assert watched.end == "beyond the limit"
    assert watched.seconds < 30


def test_processes_of_before_and_children_are_watched_too() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; held = bytearray(100 << 20); time.sleep(60)"]) as other:
        time.sleep(0.5)
        child = f"import subprocess; subprocess.run([{sys.executable!r}, '-c', 'import time; time.sleep(0.5)'])"
        peaks = watch([sys.executable, "-c", child], 1.0, {"worker": other.pid}).peaks
        other.kill()
    assert {"main", "worker", "main, child 1"} <= set(peaks)
    assert peaks["worker"].own_mb > 100


def test_what_was_measured_stays_and_is_not_measured_again(tmp_path: Path) -> None:
    known = {"least": 10, "observations": 5, "dimension": 8, "flags": ""}
    results = _Results(tmp_path / "results.json")
    results.add({"step": "whiten", "end": "failed", "seconds": 1.0, **known})
    assert not _Results(tmp_path / "results.json").has("whiten", known)
    results.add({"step": "whiten", "end": "done", "seconds": 2.0, **known})
    again = _Results(tmp_path / "results.json")
    assert again.has("whiten", known)
    assert not again.has("whiten", known | {"least": 20})
    assert [run["seconds"] for run in json.loads((tmp_path / "results.json").read_text())] == [2.0]
