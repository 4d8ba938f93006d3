"""A protocol is added by one module and one line: done here on a copy of the packages, and measured by its flag."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sfm2tuples.files.descriptors import Descriptors, write_descriptors

ROOT = Path(__file__).resolve().parents[1]
MODULE = '''"""A toy protocol: photos whose names begin with the same letter are right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from retrieval.metrics.ground_truth import make_ground_truth
from retrieval.protocols.benchmark import Benchmark, ProtocolChoice
from retrieval.protocols.photo_names import PhotoNames


def make_benchmark(choice: ProtocolChoice, names: Callable[[], PhotoNames]) -> Benchmark:
    photos = names().database
    rows = np.arange(len(photos))
    right = [[r for r in rows if r != row and photos[r][0] == photos[row][0]] for row in rows]
    truth = make_ground_truth(rows, right, list(rows[:, None]), np.zeros(len(rows), int), ["letters"])
    return Benchmark(photos, photos, {"letters": truth}, ("mAP", "recall@1"))
'''


def test_a_module_and_a_line_are_a_protocol(tmp_path: Path) -> None:
    for package in ("sfm2tuples", "retrieval", "cli"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "retrieval" / "protocols" / "letters.py").write_text(MODULE)
    table = tmp_path / "retrieval" / "protocols" / "by_name.py"
    text = table.read_text()
    assert text.count("PROTOCOLS = {\n") == 1
    table.write_text(text.replace("PROTOCOLS = {\n", 'PROTOCOLS = {\n    "letters": "letters",\n'))
    values = np.array([[1, 0], [0.8, 0.6], [0, 1], [0.6, 0.8]], np.float32)
    write_descriptors(tmp_path / "d.h5", Descriptors(["a1.jpg", "b1.jpg", "b2.jpg", "a2.jpg"], values))
    words = ["--protocol", "letters", "--data", tmp_path, "--descriptors", tmp_path / "d.h5", "-o", tmp_path / "e.json"]
    command = [sys.executable, "-m", "cli", "evaluate", *map(str, words)]
    subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, check=True)
    # a1 finds b1, a2; b1 finds a2, a1 (0.96, 0.8), b2; b2 finds a2, b1; a2 finds b1, b2, a1.
    found = json.loads((tmp_path / "e.json").read_text())
    assert found["figures"] == {"letters": {"mAP": pytest.approx((1 / 4 + 1 / 6) / 2), "recall@1": 0.0}}
