"""Disks that are full at any byte of what a command writes: one line, nothing half-written, nothing lost.

``python -m benchmarks full_disks`` runs each command that writes on a tmpfs of 1 MB, which only root may mount. It is
filled so far that the output does not fit by some pages, drawn for each try. Then the same is done with files that may
not grow beyond the k-th byte, on any disk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np

from benchmarks.forked_commands import Limits, run_forked
from benchmarks.results import BrokenResultError, contents
from benchmarks.tiny_world import make_world
from tests.rooms import photograph_posed_room, photograph_room

FAST = Path("/dev/shm")
"""Where the files lie if there is such a place: their writing is waited for."""
SIZE = 1 << 20
"""Bytes of the disk."""
PAGE = 4096
"""A tmpfs gives whole pages of this many bytes."""
GOES_ON = ("train ", "tune ", "reconstruct ")
"""Commands that keep what they have finished."""
TUNE = "tune models --network network.pt"
COMMANDS = (
    "build-index models -o out/i.h5",
    "build-index posed -o out/i.h5 --triangulate",
    "mine-tuples index.h5 -o out/t.h5 --descriptors descriptors.h5 --num-negatives 1",
    "mine-tuples index.h5 -o out/t.h5 --descriptors descriptors.h5 --num-negatives 1 --pack-images 48",
    "train tuples.h5 -o out/run --network network.pt --rounds 1 --image-size 48 --queries-per-round 2",
    "whiten index.h5 -o out/w.h5 --descriptors descriptors.h5 --shrinkage 0.1",
    "extract index.h5 -o out/d.h5 --network network.pt --image-size 48",
    "extract index.h5 -o out/d.h5 --network network.pt --image-size 48 --layout hloc",
    "extract-features index.h5 -o out/f.h5",
    "build-bow features.h5 -o out/b.h5 --num-words 64",
    "shorten-bow bow.h5 -o out/d.h5 --dim 4",
    "search --queries descriptors.h5 --database descriptors.h5 -o out/r.h5",
    "search --queries descriptors.h5 --database descriptors.h5 --pairs out/pairs.txt",
    "evaluate --labels labels.csv --descriptors descriptors.h5 -o out/e.json",
    "report tuples.h5 -o out/page",
    "report evaluation.json -o out/page --images models",
    "report index.h5 -o out/page",
    "report run -o out/page",
    "export --format cirtorch tuples.h5 -o out/retrieval-SfM-tiny",
    "export --format cirtorch network.pt -o out/n.pth",
    "export --format whitening network.pth -o out/w.h5",
    "export --format pairs index.h5 -o out/p.txt",
    "export --format graphml index.h5 -o out/g.graphml",
    "import-tuples retrieval-SfM-tiny/retrieval-SfM-tiny.pkl -o out/t.h5",
    "import-descriptors foreign.h5 -o out/d.h5",
    f"{TUNE} -o out/site",
    "ask site models/abbey/images/a0.jpg --pairs out/pairs.txt",
    "ask site models/abbey/images/a0.jpg --page out/page",
    "reconstruct room -o out/models --image-size 280 --max-features 700",
)
"""Every command that writes, with each kind of output."""


@contextmanager
def small_disk(folder: Path, size: int = SIZE) -> Iterator[bool]:
    """Mount a tmpfs of so many bytes on a folder; whether that could be done."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = shutil.which("mount") is not None and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield done
    finally:
        if done:
            subprocess.run(["umount", str(folder)], check=True)


class FullDisks:
    """Runs commands short of room in a folder that holds a world.

    Parameters
    ----------
    work : Path
    """

    def __init__(self, work: Path) -> None:
        self._work, self._out = work, work / "out"
        self._sizes: dict[str, tuple[int, int]] = {}
        photograph_room(work / "room", 1, 6)
        photograph_posed_room(work / "posed")

    def make_site(self) -> None:
        """Make the site that `ask` is asked of."""
        done = run_forked([*TUNE.split(), "-o", "site", "--quiet"], self._work)
        if done.code != 0:
            raise RuntimeError(f"{TUNE}: {done.warned}")

    def on_small_disk(self, command: str, random: np.random.Generator) -> tuple[str, str]:
        """On a disk that lacks some pages: what is wrong ("" where nothing is), and how much room there was."""
        whole = self._size(command)[0]
        with small_disk(self._out) as mounted:
            if not mounted:
                raise PermissionError("no tmpfs can be mounted")
            room = min(SIZE, whole) // PAGE
            free = PAGE * int(random.integers(0, max(1, room)))
            (self._out / "filler").write_bytes(bytes(SIZE - free))
            said = f"{free:,} of {whole:,} bytes free"
            return self._outcome(command, Limits(), {"filler"}), said

    def at_byte(self, command: str, random: np.random.Generator) -> tuple[str, str]:
        """With files that cannot grow beyond a drawn byte of the largest that the command writes."""
        largest = self._size(command)[1]
        byte = int(random.integers(1, largest))
        self._clear()
        return self._outcome(command, Limits(most_bytes=byte), set()), f"full at byte {byte:,} of {largest:,}"

    def _size(self, command: str) -> tuple[int, int]:
        """Bytes that a command writes in all, in whole pages, and to its largest file."""
        if command not in self._sizes:
            self._clear()
            done = run_forked([*command.split(), "--quiet"], self._work)
            if done.code != 0:
                raise RuntimeError(f"{command}: fails with all the room there is: {done.warned}")
            sizes = [path.stat().st_size for path in self._out.rglob("*") if path.is_file()]
            self._sizes[command] = sum(-(-size // PAGE) * PAGE for size in sizes), max(sizes)
            self._clear()
        return self._sizes[command]

    def _clear(self) -> None:
        shutil.rmtree(self._out, ignore_errors=True)
        self._out.mkdir(exist_ok=True)

    def _outcome(self, command: str, limits: Limits, before: set[str]) -> str:
        done = run_forked([*command.split(), "--quiet"], self._work, limits)
        lines = done.warned.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        others = [line for line in lines if not line.lower().startswith(("error: ", "warning: "))]
        if others or len(errors) != (done.code != 0) or done.code not in (0, 1):
            return f"ended with {done.code}: {done.warned[-500:]}"
        try:
            left = contents(self._out, parts=command.startswith(("build-index", *GOES_ON)))
        except BrokenResultError as error:
            return f"left something {error}: {sorted(path.name for path in self._out.rglob('*'))}"
        if done.code == 0:
            return ""  # It needed less room than the files have together: one replaced another.
        # A training that has no more room keeps the whole checkpoints of earlier rounds, a site its finished steps.
        more = {name for name in left.keys() - before if not command.startswith(GOES_ON)}
        if more:
            return f"left {', '.join(sorted(more))}"
        return "" if "out/" in errors[0] else f"does not name the output: {errors[0]}"


def tried(count: int, seed: int, work: Path, commands: Sequence[str] = COMMANDS) -> Iterator[tuple[str, str, str]]:
    """Try commands `count` times each way: the command, what is wrong, and how much room there was.

    Parameters
    ----------
    count, seed : int
    work : Path
        A folder that holds a world.
    commands : sequence of str
    """
    disks = FullDisks(work)
    if any(command.startswith("ask ") for command in commands):
        disks.make_site()
    ways = [disks.at_byte]
    with small_disk(work / "out") as mounted:
        ways += [disks.on_small_disk] * mounted
    for row, command in enumerate(commands):
        for number in range(count):
            for way in ways:
                yield command, *way(command, np.random.default_rng([seed, row, number]))


@click.command()
@click.option("--count", default=4, show_default=True, help="tries of each command, each way")
@click.option("--seed", default=0, show_default=True, help="another seed leaves other room")
def main(count: int, seed: int) -> None:
    """Run every command that writes short of room, and count those that do not end in one line and leave nothing."""
    started, failed, tries = time.monotonic(), 0, 0
    if os.geteuid() != 0:
        click.echo("no tmpfs can be mounted without root: files that cannot grow stand for it")
    with tempfile.TemporaryDirectory(dir=FAST if FAST.is_dir() else None) as folder:
        make_world(Path(folder))
        for command, wrong, room in tried(count, seed, Path(folder)):
            tries += 1
            if wrong:
                failed += 1
                click.echo(f"{command}: {room}: {wrong}")
                sys.stdout.flush()
    click.echo(f"{len(COMMANDS)} commands, {tries:,} tries in {time.monotonic() - started:.0f} s, {failed:,} failed")
    sys.exit(bool(failed))
