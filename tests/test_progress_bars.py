"""Progress without a terminal: a line of the log now and then, by a clock of the test's own."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from retrieval.reconstruction.progress import told
from retrieval.whitening.shrinkage import choose_shrinkage
from sfm2tuples.compute import progress_bars
from sfm2tuples.compute.progress_bars import ProgressBar


class Clock:
    """Seconds that pass when the test says so."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress_bars, "time", SimpleNamespace(monotonic=lambda: found.monotonic()))
    caplog.set_level(logging.INFO, progress_bars.__name__)
    return found


def test_a_line_is_said_every_half_minute(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """100 photos of 2 s each: after 15, 30, 45 ... of them."""
    with ProgressBar(total=100, desc="describe", unit="photo") as bar:
        for _ in range(100):
            clock.now += 2
            bar.update()
    assert len(caplog.messages) == 6
    assert caplog.messages[0] == "describe: 15 of 100 photos, about 3 min left"
    assert caplog.messages[5] == "describe: 90 of 100 photos, about 20 s left"


def test_what_an_earlier_run_has_done_says_nothing_of_the_speed(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with told("features", 900, 1000, "photo", None) as add:
        clock.now += 40
        add(0)
        clock.now += 40
        add(10)
    assert caplog.messages == [
        "features: 900 of 1,000 photos, 40 s so far",
        "features: 910 of 1,000 photos, about 12 min left",
    ]


def test_parts_are_counted_and_bytes_are_scaled(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    seen = []
    for part in ProgressBar(["a", "b", "c"], "photos", unit="photo"):
        seen.append(part)
        clock.now += 31
    assert seen == ["a", "b", "c"]
    with ProgressBar(desc="read models", unit="B", unit_scale=True) as bar:
        bar.initial = bar.n = 5_000_000
        bar.total = 20_000_000
        clock.now += 31
        bar.update(5_000_000)
    assert caplog.messages == [
        "photos: 1 of 3 photos, about 1 min left",
        "photos: 2 of 3 photos, about 31 s left",
        "photos: 3 of 3 photos, about 0 s left",
        "read models: 10.0M of 20.0M B, about 1 min left",
    ]


def test_a_short_step_a_silent_one_and_a_terminal_log_nothing(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    screen = io.StringIO()
    screen.isatty = lambda: True  # type: ignore[method-assign]
    for options, seconds in (({}, 29), ({"disable": True}, 99), ({"file": screen}, 99)):
        with ProgressBar(total=1, desc="bar", unit="photo", **options) as bar:
            clock.now += seconds
            bar.update()
    assert not caplog.messages
    assert "bar: 100%" in screen.getvalue()


def test_the_choice_of_a_shrinkage_is_not_silent(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Fifty seconds a network at 1,280 dimensions, without a photo that a bar would count."""
    clock.monotonic = lambda: setattr(clock, "now", clock.now + 16) or clock.now  # type: ignore[method-assign]
    values = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    pairs = np.array([[row, row + 1 - 2 * (row % 2)] for row in range(12)])
    choose_shrinkage(values, pairs, np.arange(12) // 4, grid=(0.1, 0.5))
    assert [line for line in caplog.messages if line.startswith("leave places out: ")]


def test_a_command_says_it_on_stderr_but_not_with_quiet() -> None:
    program = (
        "import sys, click; from cli.output import output_options; from sfm2tuples.compute import progress_bars\n"
        "progress_bars.EVERY = 0\n"
        "@click.command()\n@output_options\n"
        "def command(output): list(progress_bars.ProgressBar([1], 'photos', unit='photo'))\n"
        "command(sys.argv[1:])"
    )
    for words, said in ([], "note: photos: 1 of 1 photos, about 0 s left\n"), (["--quiet"], ""):
        done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, said)
