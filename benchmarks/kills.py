"""Commands killed at any moment: what they had finished stays, and the same command again ends as a quiet run does.

``python -m benchmarks kills --count 200`` sends SIGKILL to the commands of `VICTIMS`: half of the times after a drawn
share of the computing that a quiet run takes, half when it is about to open, rename or remove the n-th file. Then it
resumes, or runs the same command again, and compares with the quiet run: the fingerprints of HDF5 files, the tensors of
checkpoints, all names in the folder.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from PIL import Image

from benchmarks.forked_commands import Done, Limits, run_forked
from benchmarks.results import BrokenResultError, contents
from benchmarks.tiny_world import make_world
from tests.rooms import photograph_posed_room, photograph_room
from tests.textures import texture

FAST = Path("/dev/shm")
"""Where the files lie if there is such a place: their writing is waited for."""
TRAINING = "--network network.pt --rounds 2 --image-size 48 --queries-per-round 2 --min-shared 5"


@dataclass(frozen=True)
class Victim:
    """A command that is killed; it writes to ``out/``."""

    command: str
    """Its words."""
    result: str
    """The file that says whether there is something already."""
    where_there: str = ""
    """What is run next where that file is there; "": the same with ``--force``."""
    where_not: str = ""
    """What is run next where it is not; "": the same."""
    before: str = ""
    """What was run before, so that there is something to lose; it is run once and copied from then on."""
    named_only: tuple[str, ...] = ()
    """See `results.contents`."""


_TRAIN = f"train tuples.h5 -o out/run {TRAINING}"
TIMED = ("site/state.json", "site/page/*")
"""Files of a site that hold times."""
_TUNE = "tune models -o out/site --network network.pt"
_ADD = "ask out/site --add more"
_ROOM = "reconstruct room -o out/models --image-size 280 --max-features 700"
_TRACKS = "build-index posed -o out/p.h5 --triangulate"
_INDEX = "build-index models -o out/i.h5"
VICTIMS = {
    "train": Victim(_TRAIN, "out/run/last.pt", where_there="train tuples.h5 -o out/run --resume"),
    "train --force": Victim(f"{_TRAIN} --force", "none", before=f"{_TRAIN} --rounds 1 --seed 1"),
    "mine-tuples": Victim(
        "mine-tuples index.h5 -o out/t.h5 --network network.pt --image-size 48 --num-negatives 1 --pack-images 48",
        "out/t.h5",
    ),
    "extract": Victim("extract index.h5 -o out/d.h5 --network network.pt --image-size 48", "out/d.h5"),
    "build-index": Victim(_INDEX, "out/i.h5", where_not=f"{_INDEX} --resume"),
    "tune": Victim(_TUNE, "none", where_not=_TUNE, named_only=TIMED),
    "ask --add": Victim(_ADD, "none", where_not=_ADD, before=_TUNE, named_only=TIMED),
    "build-index --triangulate": Victim(_TRACKS, "out/p.h5"),
    "evaluate": Victim("evaluate --labels labels.csv --descriptors descriptors.h5 -o out/e.json", "out/e.json"),
    "report": Victim("report tuples.h5 -o out/page", "none", where_not="report tuples.h5 -o out/page --force"),
    "reconstruct": Victim(_ROOM, "none", where_not=f"{_ROOM} --resume", named_only=("models/*",)),
}
"""What is killed, by name."""


class Kills:
    """Kills commands in a folder that holds a world.

    Parameters
    ----------
    work : Path
    """

    def __init__(self, work: Path) -> None:
        self._work = work
        self._before: dict[str, Path] = {}
        (work / "more").mkdir()
        Image.fromarray(texture(7, 64, 48)).save(work / "more" / "new.png")
        photograph_room(work / "room", 1, 6)
        photograph_posed_room(work / "posed")
        self._quiet: dict[str, tuple[Done, dict[str, str]]] = {}

    def run(self, name: str, random: np.random.Generator) -> tuple[str, str]:
        """Kill a command at a drawn moment and run it again: what is wrong ("" where all is well), and the moment."""
        victim = VICTIMS[name]
        if name not in self._quiet:
            self._quiet[name] = self._command(victim.command, Limits(), fresh=victim), self._made(victim)
        quiet, right = self._quiet[name]
        if random.random() < 0.5:
            limits = Limits(cpu_seconds=max(1e-4, float(random.uniform(0, 1.05)) * quiet.cpu_seconds))
            moment = f"after {limits.cpu_seconds:.3f} of {quiet.cpu_seconds:.3f} s"
        else:
            limits = Limits(file_event=int(random.integers(1, quiet.file_events + 1)))
            moment = f"at file event {limits.file_event} of {quiet.file_events}"
        killed = self._command(victim.command, limits, fresh=victim)
        if killed.code not in (0, -9):
            return f"ended with {killed.code}: {killed.warned[-300:]}", moment
        return self._left(victim, right) or self._go_on(victim, right), moment

    def _left(self, victim: Victim, right: dict[str, str]) -> str:
        """What is wrong with what a killed command has left, or ""."""
        try:
            left = self._made(victim, parts=True)
        except BrokenResultError as error:
            return f"left something {error}"
        if victim.before.startswith("train") and not {"run/last.pt", "run/best.pt", "run/curves.csv"} <= set(left):
            return "lost the earlier run"
        result = victim.result.removeprefix("out/")
        if result in left and not result.startswith("run/") and left[result] != right[result]:
            return "left another result than a quiet run"
        return ""

    def _go_on(self, victim: Victim, right: dict[str, str]) -> str:
        """Bring a killed command to its end; what is wrong then, or ""."""
        if (self._work / victim.result).exists():
            line = victim.where_there or f"{victim.command} --force"
        else:
            line = victim.where_not or victim.command
        done = self._command(line, Limits())
        if done.code != 0:
            return f"{line}: ended with {done.code}: {done.warned[-300:]}"
        try:
            found = self._made(victim)
        except BrokenResultError as error:
            return f"made something {error}"
        others = sorted(name for name in found.keys() | right.keys() if found.get(name) != right.get(name))
        return f"{line}: differs from a quiet run: {', '.join(others)}" if others else ""

    def _made(self, victim: Victim, parts: bool = False) -> dict[str, str]:
        return contents(self._work / "out", parts, victim.named_only)

    def _run_before(self, line: str) -> None:
        """Run a command, or bring back what it had written; times of files stay."""
        out = self._work / "out"
        if line not in self._before:
            if self._command(line, Limits()).code != 0:
                raise RuntimeError(f"{line}: did not end well")
            self._before[line] = self._work / f"before{len(self._before)}"
            shutil.copytree(out, self._before[line], symlinks=True)
        shutil.copytree(self._before[line], out, symlinks=True, dirs_exist_ok=True)

    def _command(self, line: str, limits: Limits, fresh: Victim | None = None) -> Done:
        if fresh is not None:
            shutil.rmtree(self._work / "out")
            (self._work / "out").mkdir()
            if fresh.before:
                self._run_before(fresh.before)
        done = run_forked([*line.split(), "--quiet"], self._work, limits)
        if fresh is not None and limits == Limits() and done.code != 0:
            raise RuntimeError(f"{line}: fails without being killed: {done.warned}")
        return done


def tried(count: int, seed: int, work: Path, names: Sequence[str] = tuple(VICTIMS)) -> Iterator[tuple[str, str, str]]:
    """Kill `count` commands in turn: the name of each, what is wrong, and when it was killed.

    Parameters
    ----------
    count, seed : int
    work : Path
        A folder that holds a world.
    names : sequence of str
        Of `VICTIMS`.
    """
    kills = Kills(work)
    for number in range(count):
        name = names[number % len(names)]
        yield name, *kills.run(name, np.random.default_rng([seed, number]))


@click.command()
@click.option("--count", default=200, show_default=True, help="commands to kill, of all kinds together")
@click.option("--seed", default=0, show_default=True, help="another seed kills at other moments")
def main(count: int, seed: int) -> None:
    """Kill commands at any moment, run them again, and count those that do not end as a quiet run does."""
    started, failed, killed = time.monotonic(), 0, Counter[str]()
    with tempfile.TemporaryDirectory(dir=FAST if FAST.is_dir() else None) as folder:
        make_world(Path(folder))
        with suppress(KeyboardInterrupt):  # What was done so far is counted.
            for number, (name, wrong, moment) in enumerate(tried(count, seed, Path(folder))):
                killed[name] += 1
                if wrong:
                    failed += 1
                    click.echo(f"{number}: {name} killed {moment}: {wrong}")
                    sys.stdout.flush()
    click.echo(", ".join(f"{name} {times}" for name, times in killed.items()))
    click.echo(f"{killed.total():,} kills in {time.monotonic() - started:.0f} s, {failed:,} failed")
    sys.exit(bool(failed))
