"""examples/one_site.py: its figures by a naive loop, and what it calls a negative where nothing is proven."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from worlds import unit_rows

from sfm2tuples.index.opened import open_index
from sfm2tuples.ingest.build import build_index
from sfm2tuples.ingest.options import IngestOptions
from sfm2tuples.mining.barred import barred_of_index
from sfm2tuples.world.corridor import write_corridor

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("one_site", EXAMPLES / "one_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        patch.setitem(sys.modules, "one_site", module)
        spec.loader.exec_module(module)
    return module


def trapezoid(hits: list[bool]) -> float:
    """Average precision of a ranking, by the trapezoid."""
    found, area = 0, 0.0
    for rank, hit in enumerate(hits):
        if hit:
            before = found / rank if rank else 1.0
            found += 1
            area += (before + found / (rank + 1)) / 2
    return area / found


@pytest.mark.parametrize("first", [0, 4])
def test_the_nights_figures_are_those_of_a_naive_loop(example: ModuleType, first: int) -> None:
    random = np.random.default_rng(first)
    frames = 12
    names = [
        f"{walk}/Image{frame:03}.jpg" for walk in ("day_right", "night_right", "day_left") for frame in range(frames)
    ]
    order = random.permutation(len(names))
    names = [names[row] for row in order]
    values = unit_rows(random, len(names), 6)
    expected = []
    for walk in ("day_left", "day_right"):
        recall, precision = [], []
        for q in range(first, frames):
            query = values[names.index(f"night_right/Image{q:03}.jpg")]
            database = [
                (-float(query @ values[names.index(f"{walk}/Image{f:03}.jpg")]), f) for f in range(first, frames)
            ]
            hits = [abs(frame - q) <= 2 for _, frame in sorted(database)]
            recall.append(hits[0])
            precision.append(trapezoid(hits))
        expected += [100 * np.mean(recall), 100 * np.mean(precision)]
    assert example.Night(Path(), first).figures(names, values) == pytest.approx(expected, abs=1e-4)


def test_without_the_proof_only_shared_points_bar(example: ModuleType, tmp_path: Path) -> None:
    write_corridor(tmp_path / "site", rooms=8, photos=40, size=(96, 72), seed=1)
    build_index([tmp_path / "site"], tmp_path / "index.h5", IngestOptions(inside=True))
    with open_index(tmp_path / "index.h5") as index:
        every = np.arange(index.num_images)
        proven, loose = (make(index, every, len(every)) for make in (barred_of_index, example.barred_by_points))
        shares = index.covisibility().toarray() > 0
    pairs = np.meshgrid(every, every, indexing="ij")
    off_diagonal = pairs[0] != pairs[1]
    np.testing.assert_array_equal(loose.holds(*pairs)[off_diagonal], shares[off_diagonal])
    assert proven.holds(*pairs).sum() > loose.holds(*pairs).sum()
