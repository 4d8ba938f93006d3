"""Fixtures that all tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import cli  # noqa: F401 - sets how OpenMP waits, before torch is loaded

# On a busy machine two threads that wait for each other take ten times as long as one; on an idle one they gain little.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts the tests in the background has them ignore Ctrl-C, and so every command that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes to be made says how busy the machine is, and nothing of what is tested.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process ends with them alone."""
    items.sort(key=lambda item: "real" not in item.path.parts)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real models, photos, ground truth and weights; the test is skipped where it is absent."""
    if not DATA.is_dir():
        pytest.skip("needs the real data (../shared/data), which is not here")
    return DATA
