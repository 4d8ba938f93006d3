"""Damaged files of every kind that is read: each is refused in one line, or gives a result that is right.

``python -m benchmarks mutations --count 20000`` damages good files (`tiny_world`) by seeds (`damage`), gives each to a
command that reads it (`watched_worker`), and prints a table by kind. What fails is listed as ``KIND:SEED``, and
``--only KIND:SEED`` does it again and shows all of it.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from benchmarks.content_damage import Damage
from benchmarks.damage import damage
from benchmarks.file_kinds import KINDS
from benchmarks.results import BrokenResultError, contents
from benchmarks.tiny_world import make_world
from benchmarks.watched_worker import Ended, WatchedWorker

GOOD = ("refused", "the same", "warned", "another result")
"""Outcomes that may be: the last is a result that the damaged file legally gives."""
FAILURES = ("traceback", "hang", "crash", "memory", "lines", "half-written", "wrong", "not finite")
"""Outcomes that may not. ``lines``: no error of one line; ``wrong``: another result where none can be right."""
VARIES = re.compile(r'"(seconds|bytes)": [\d.e-]+')
"""What a command prints of the time it took and of the size of a file."""
FAST = Path("/dev/shm")
"""Where the files lie if there is such a place: their writing is waited for."""


@dataclass(frozen=True)
class Outcome:
    """What became of one damaged file."""

    kind: str
    """Name in `KINDS`."""
    seed: int
    """Together they say what was done."""
    outcome: str
    """One of `GOOD` or `FAILURES`."""
    damage: Damage
    """What was done to the file."""
    command: str
    """What read it."""
    ended: Ended
    """How that ended."""

    @property
    def failed(self) -> bool:
        """Whether this may not be."""
        return self.outcome in FAILURES

    def text(self, lines: int = 3) -> str:
        """What happened, with the last lines of what was printed."""
        last = "\n    ".join(self.ended.warned.strip().splitlines()[-lines:])
        what = f"{self.outcome}: {self.kind}:{self.seed}: {self.damage.what}"
        return f"{what}\n  {self.command}: exit code {self.ended.code}\n    {last}"


class Mutations:
    """Damages files of a world and runs commands on them.

    Parameters
    ----------
    world : Path
        Made by `make_world`; it stays as it is.
    work : Path
        A copy of it, in which files are damaged.
    worker : WatchedWorker
        Runs in `work`.
    """

    def __init__(self, world: Path, work: Path, worker: WatchedWorker) -> None:
        self._world, self._work, self._worker = world, work, worker
        self._good: dict[str, tuple[str, dict[str, str]]] = {}

    def run(self, name: str, seed: int) -> Outcome:
        """Damage the file of a kind, give it to a command, judge what comes, and put the good file back."""
        kind, random = KINDS[name], np.random.default_rng([zlib.crc32(name.encode()), seed])
        command = kind.commands[int(random.integers(len(kind.commands)))]
        if command not in self._good:
            ended = self._ended(command)
            if ended.code != 0:
                raise RuntimeError(f"{command}: fails on good files: {ended.warned}")
            self._good[command] = self._result(command, ended)
            self._put_back(kind.file)
        path = self._work / kind.file
        try:
            done = damage(path, random, kind.is_whole)
            ended = self._ended(command)
            outcome = self._judge(command, ended, done.certain)
        finally:
            self._put_back(kind.file)
        return Outcome(name, seed, outcome, done, command, ended)

    def _put_back(self, file: str) -> None:
        folder = Path(file).parent
        if folder.name == "run":  # The command writes there, too.
            shutil.rmtree(self._work / folder)
            shutil.copytree(self._world / folder, self._work / folder)
        else:
            (self._work / file).unlink(missing_ok=True)
            shutil.copyfile(self._world / file, self._work / file)

    def _ended(self, command: str) -> Ended:
        shutil.rmtree(self._work / "out")
        (self._work / "out").mkdir()
        return self._worker.run([*command.split(), "--quiet", "--json"])

    def _result(self, command: str, ended: Ended) -> tuple[str, dict[str, str]]:
        """What a command printed and the content of what it made; BrokenResultError where that is not whole."""
        made = contents(self._work / "out")
        if " -o run " in command and ended.code == 0:
            made |= contents(self._work / "run")
        return VARIES.sub("", ended.said), made

    def _judge(self, command: str, ended: Ended, certain: bool) -> str:
        if ended.how != "ended":
            return ended.how
        lines = ended.warned.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        odd = [line for line in lines if not line.lower().startswith(("error: ", "warning: "))]
        if (
            odd
            or len(errors) != (ended.code != 0)
            or (errors and lines[-1] != errors[0])
            or ended.code not in (0, 1, 2)
        ):
            return "lines"
        try:
            result = self._result(command, ended)
        except BrokenResultError as error:
            return str(error)
        if errors:
            # A training that stops later leaves the whole checkpoints of its rounds.
            return "refused" if command.startswith("train ") or not result[1] else "half-written"
        if result == self._good[command]:
            return "the same"
        if lines:
            return "warned"
        return "wrong" if certain else "another result"


@contextmanager
def prepared(folder: Path, world: Path | None = None) -> Iterator[Mutations]:
    """What damages files in a folder that is there and empty; the good ones are made there where none are given."""
    work = folder / "work"
    if world is None:
        world = folder / "world"
        world.mkdir()
        make_world(world)
    shutil.copytree(world, work)
    with WatchedWorker(work) as worker:
        yield Mutations(world, work, worker)


def drawn(count: int, seed: int, kinds: list[str]) -> Iterator[tuple[str, int]]:
    """Kinds in turn, each with another seed each time."""
    for number in range(count):
        yield kinds[number % len(kinds)], seed * 1_000_000 + number // len(kinds)


def table(outcomes: Counter[tuple[str, str]], kinds: list[str]) -> Iterator[str]:
    """Lines of a table: a row for each kind and one for all, a column for each outcome."""
    columns = (*GOOD, *FAILURES)
    yield f"{'kind':20} {'files':>7} " + " ".join(f"{name:>{max(7, len(name))}}" for name in columns)
    for kind in [*kinds, "all"]:
        row = [sum(n for (k, o), n in outcomes.items() if o == name and kind in (k, "all")) for name in columns]
        cells = " ".join(f"{n or '':>{max(7, len(name))}}" for n, name in zip(row, columns, strict=True))
        yield f"{kind:20} {sum(row):7,} {cells}"


@click.command()
@click.option("--count", default=2000, show_default=True, help="files to damage, of all kinds together")
@click.option("--seed", default=0, show_default=True, help="another seed damages in other ways")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="of these kinds alone; repeatable")
@click.option("--only", metavar="KIND:SEED", multiple=True, help="do one again, and show all of it; repeatable")
@click.option(
    "--work", type=click.Path(path_type=Path), help="an empty folder for the files, kept; else a temporary one"
)
def main(count: int, seed: int, kinds: tuple[str, ...], only: tuple[str, ...], work: Path | None) -> None:
    """Damage files of every kind, give them to commands, and count what becomes of them."""
    chosen, start = list(kinds or KINDS), time.monotonic()
    outcomes: Counter[tuple[str, str]] = Counter()
    slowest = 0.0
    place = FAST if FAST.is_dir() else None
    with tempfile.TemporaryDirectory(dir=place) as folder, prepared(work or Path(folder)) as mutations:
        for name in only:
            kind, _, number = name.rpartition(":")
            click.echo(mutations.run(kind, int(number)).text(1000))
        if only:
            return
        with suppress(KeyboardInterrupt):  # What was done so far is counted.
            for kind, number in drawn(count, seed, chosen):
                found = mutations.run(kind, number)
                outcomes[kind, found.outcome] += 1
                slowest = max(slowest, found.ended.seconds)
                if found.failed:
                    click.echo(found.text())
                    sys.stdout.flush()
    for line in table(outcomes, chosen):
        click.echo(line)
    failed = sum(n for (_, outcome), n in outcomes.items() if outcome in FAILURES)
    click.echo(
        f"{outcomes.total():,} files in {time.monotonic() - start:.0f} s, slowest {slowest:.1f} s, {failed:,} failed"
    )
    sys.exit(bool(failed))
