"""A new kind of model is one module, and one line in the table of kinds."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from worlds import read_whole

ROOT = Path(__file__).resolve().parents[1]
READER = '''
"""Toy models: a row a point, with the photos that see it; all cameras stand at the origin."""

from pathlib import Path

import numpy as np

from sfm2tuples.readers.assembly import CameraRecords, ImageRecords, PointRecords, assemble, observation_bytes
from sfm2tuples.readers.sparse_model import SparseModel
from sfm2tuples.readers.text_rows import data_rows


def read(path: Path) -> SparseModel:
    """Read `x y z NAME NAME ...`."""
    points, seen = [], {}
    for row in data_rows(path):
        points.append(row.numbers(3))
        while row.left():
            seen.setdefault(row.word(), []).append(len(points) - 1)
    counts = np.array([len(rows) for rows in seen.values()])
    flat = np.concatenate(list(seen.values()))
    zeros = np.zeros(len(points), np.int64)
    poses = np.tile([1.0, 0, 0, 0, 0, 0, 0], (len(seen), 1))
    return assemble(
        CameraRecords(path, np.array([1]), np.array([0], np.int32), np.array([[8, 8]]), [np.array([9.0, 4, 4])]),
        ImageRecords(
            path,
            np.arange(len(seen)),
            poses,
            np.ones(len(seen), np.int64),
            [name.encode() for name in seen],
            observation_bytes(np.zeros((len(flat), 2)), flat),
            24 * (np.cumsum(counts) - counts),
            counts,
        ),
        PointRecords(path, np.arange(len(points)), np.array(points), 0.0 * zeros, np.empty(0, np.uint8), zeros, zeros),
        None,
    )
'''
LINE = '    FileKind("toy", "points.toy"),\n'


def test_a_reader_is_added_by_one_module_and_one_line(tmp_path: Path) -> None:
    for package in ("sfm2tuples", "retrieval", "cli"):
        # With what was compiled before, so that nothing is compiled anew.
        shutil.copytree(ROOT / package, tmp_path / package)
    (tmp_path / "sfm2tuples" / "readers" / "toy.py").write_text(READER)
    table = tmp_path / "sfm2tuples" / "readers" / "model_kinds.py"
    before, last_line, after = table.read_text().rpartition('    FileKind("nvm"')
    table.write_text(f"{before}{LINE}{last_line}{after}")
    (tmp_path / "models" / "castle").mkdir(parents=True)
    (tmp_path / "models" / "castle" / "points.toy").write_text("0 0 5 b.jpg a.jpg\n1 0 5 a.jpg b.jpg\n0 1 5 a.jpg\n")

    words = [sys.executable, "-m", "cli", "build-index", "models", "-o", "index.h5"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    index = read_whole(tmp_path / "index.h5")
    assert index.images.name == ["a.jpg", "b.jpg"]
    assert index.models.name == ["castle/points.toy"]
    assert index.places.name == ["castle"]
    assert index.covisibility.shared.tolist() == [2, 2]
