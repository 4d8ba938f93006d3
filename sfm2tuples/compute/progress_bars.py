"""How far a long step is: a bar where stderr is a terminal, else a line of the log now and then."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

logger = logging.getLogger(__name__)
EVERY = 30.0
"""Seconds between two lines."""


class ProgressBar(tqdm):
    """A `tqdm`, which is silent without a terminal, that logs a line every `EVERY` seconds there.

    It takes what `tqdm` takes; `disable` keeps it silent everywhere. `update(0)` is for a step that waits, and counts
    nothing.
    """

    def __init__(self, *arguments: Any, disable: bool = False, **options: Any) -> None:
        # None is tqdm's word for silence where there is no terminal.
        super().__init__(*arguments, disable=disable or None, **options)
        self._speaks = bool(self.disable) and not disable
        self._title, self._unit = options.get("desc") or (arguments[1:2] or ("",))[0], options.get("unit", "part")
        self._scaled = bool(options.get("unit_scale"))
        self._begun = self._said = time.monotonic()
        self.initial = options.get("initial", 0)

    def __iter__(self) -> Iterator[Any]:
        """The parts; each is counted once the next one is asked for."""
        if not self._speaks:
            yield from super().__iter__()
            return
        for part in self.iterable:
            yield part
            self.update()

    def update(self, n: float | None = 1) -> bool | None:
        """Count parts that are done."""
        if not self._speaks:
            return super().update(n)
        self.n += n or 0
        now = time.monotonic()
        if now - self._said >= EVERY:
            self._said = now
            logger.info("%s", self._line(now - self._begun))
        return None

    def _line(self, seconds: float) -> str:
        """What is done, of how much, and how long the rest will take if it goes on like this."""
        done, total = self._count(self.n), self.total
        of = "" if total is None else f" of {self._count(total)}"
        line = f"{self._title or 'progress'}: {done}{of} {self._unit}{'' if self._scaled else 's'}"
        here = self.n - self.initial
        if total is None or here <= 0:
            return f"{line}, {duration(seconds)} so far"
        return f"{line}, about {duration(seconds * max(total - self.n, 0) / here)} left"

    def _count(self, number: float) -> str:
        return tqdm.format_sizeof(number) if self._scaled else f"{number:,.0f}"


def duration(seconds: float) -> str:
    """How long something takes, for people.

    Examples
    --------
    >>> duration(50), duration(700), duration(8000)
    ('50 s', '12 min', '2.2 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
