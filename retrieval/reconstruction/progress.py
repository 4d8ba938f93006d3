"""How far a step is: told to whoever asked, else shown as a bar on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sfm2tuples.compute.progress_bars import ProgressBar

Report = Callable[[str, int, int], None]
"""Called with a step's name, what of it is done, and what it is in all."""


@contextmanager
def told(step: str, done: int, total: int, unit: str, report: Report | None) -> Iterator[Callable[[int], None]]:
    """A function that is called with what more is done of a step.

    Parameters
    ----------
    step : str
    done, total : int
        What was done before, and all.
    unit : str
        What is counted, for the bar.
    report : Report or None
        None: a bar where stderr is a terminal.
    """
    if report is None:
        with ProgressBar(total=total, initial=done, desc=step, unit=unit) as bar:
            yield lambda more: bar.update(more) and None
        return
    count = done
    report(step, done, total)

    def add(more: int) -> None:
        nonlocal count
        count += more
        report(step, count, total)

    yield add
