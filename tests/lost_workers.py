"""Workers that are slow, or die while they read a model: how tests bring it about in processes that they do not start.

A `sitecustomize.py` on the path of every new Python process wraps `read_model`; the tests' own process is not touched.
"""

from __future__ import annotations

from pathlib import Path

import pytest

SITECUSTOMIZE = """
import os, signal, time
from multiprocessing import parent_process
from pathlib import Path
import sfm2tuples.readers.any_kind as readers

read = readers.read_model

def read_model(location, *arguments, **options):
    time.sleep(float(os.environ["TEST_SECONDS_A_MODEL"]))
    here = Path(location.path)
    if "always_kills" in here.parts and parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(location, *arguments, **options)

readers.read_model = read_model
"""


def make_workers_slow(folder: Path, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on new processes take so long for each model, and die where its folder is called always_kills."""
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    root = Path(__file__).resolve().parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{root}")
    monkeypatch.setenv("TEST_SECONDS_A_MODEL", str(seconds))
