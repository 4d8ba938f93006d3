"""Clusters that fail under a command: workers killed, disks full, a scheduler gone. The output is that of a quiet run.

``python -m benchmarks failures`` builds an index of 20,000 models and describes 6,000 photos on a Dask cluster of four
worker processes of this machine. Each of both is done

- while one of the workers is killed every ten seconds, and another one started in its place;
- with one worker more, whose files cannot grow, as on a full disk;
- in a folder whose disk, a tmpfs, is filled once the first parts are there (as root, who may mount it);
- with a scheduler that is killed once the first parts are there, and started again at the same address.

A command that ends with an error must say so in one line, leave its parts and no file of the output's name, and end
well with `--resume` once the cause is gone. The bytes are those of a run without a cluster and without failures.
"""

from __future__ import annotations

import filecmp
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import click
from PIL import Image

from benchmarks.dask_processes import ROOT, DaskProcesses, dask_processes, one_killed
from benchmarks.full_disks import small_disk
from benchmarks.street import write_street
from tests.textures import texture

KINDS, IMAGES, OBSERVATIONS = 20, 12, 600
"""So many different models are written, each often; images and observations of one."""
SCENES, PHOTO = 40, (224, 168)
"""Photos are cut from so many textures; pixels of one."""
DISK = 1 << 30
"""Bytes of the disk that is filled."""
PATIENCE = 1800.0
"""Seconds after which a command is given up."""
COMMANDS = {
    "build-index": "build-index models -o {}",
    "extract": "extract photos -o {} --network network.pt --image-size 224",
}
"""What is run, by name."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """Exit code."""
    lines: list[str]
    """What it printed."""
    seconds: float
    """How long it took."""

    @property
    def errors(self) -> list[str]:
        """The lines that are no warnings."""
        return [line for line in self.lines if not line.lower().startswith(("warning: ", "note: "))]


def make_inputs(folder: Path, models: int, photos: int, observations: int = OBSERVATIONS) -> None:
    """Write models of so many observations each, photos, and a network of random weights."""
    from retrieval.networks.checkpoints import save_checkpoint
    from retrieval.networks.network import build_network

    kinds = []
    for kind in range(min(KINDS, models)):
        write_street(folder / "kinds" / str(kind), IMAGES, observations, seed=kind)
        kinds.append({path.name: path.read_bytes() for path in (folder / "kinds" / str(kind)).iterdir()})
    for row in range(models):
        model = folder / f"models/{row // 1000:03d}/{row:06d}/sparse/0"
        model.mkdir(parents=True)
        for name, content in kinds[row % len(kinds)].items():
            (model / name).write_bytes(content)
    walls = [texture(seed, 2 * PHOTO[0], 2 * PHOTO[1]) for seed in range(min(SCENES, photos))]
    for row in range(photos):
        path = folder / f"photos/{row // 1000:03d}/{row:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        x, y = 7 * row % PHOTO[0], 5 * row % PHOTO[1]
        Image.fromarray(walls[row % len(walls)][y : y + PHOTO[1], x : x + PHOTO[0]]).save(path, quality=85)
    save_checkpoint(folder / "network.pt", build_network("squeezenet1_1", "gem"))
    (folder / "out").mkdir()


class Failures:
    """Runs one command on clusters that fail.

    Parameters
    ----------
    work : Path
        What `make_inputs` wrote; the output goes to ``out/``.
    name : str
        Of `COMMANDS`.
    workers : int
        Of each cluster.
    """

    def __init__(self, work: Path, name: str, workers: int) -> None:
        self._work, self._line, self._workers = work.resolve(), COMMANDS[name], workers
        self._right, self._target = self._work / f"{name}.h5", self._work / "out" / f"{name}.h5"
        self._right.unlink(missing_ok=True)
        self.quiet = self._run(self._right)
        if self.quiet.code:
            raise RuntimeError("\n".join(self.quiet.lines))

    def killed_workers(self, every: float) -> tuple[str, str]:
        """Kill a worker every so many seconds: what is wrong ("" where nothing is), and what happened."""
        with dask_processes(self._workers) as cluster:
            cluster.wait_for_workers()
            with one_killed(cluster, every, seed=0):
                ended = self._run(self._target, "--dask", cluster.address)
            what = f"{cluster.killed} kills, {ended.seconds:.0f} s"
        return self._wrong(ended), what

    def full_disk_of_a_worker(self, most_bytes: int = 4096) -> tuple[str, str]:
        """Have one worker more, which cannot write parts, and then none such."""
        with dask_processes(self._workers) as cluster:
            cluster.add_worker(most_bytes)
            cluster.wait_for_workers()
            ended = self._run(self._target, "--dask", cluster.address)
        with dask_processes(self._workers) as cluster:
            # It may fail before any other worker has written a part.
            return self._refused_and_resumed(ended, cluster, leaves_parts=False)

    def full_disk(self, size: int = DISK) -> tuple[str, str]:
        """Fill the disk of the output once parts are there, and empty it again; only root can mount one."""
        with small_disk(self._target.parent, size) as there, dask_processes(self._workers) as cluster:
            if not there:
                return "", "not tried: no tmpfs can be mounted"
            filler = self._target.parent / "filler"
            cluster.wait_for_workers()
            ended = self._meanwhile(cluster, lambda: fill(filler))
            filler.unlink(missing_ok=True)
            return self._refused_and_resumed(ended, cluster)

    def restarted_scheduler(self, down: float = 3.0) -> tuple[str, str]:
        """Kill the scheduler once parts are there; start it again after so many seconds, and workers with it."""

        def restart() -> None:
            cluster.kill_scheduler()
            time.sleep(down)
            cluster.start_scheduler()
            time.sleep(down)  # Workers end when they find their scheduler gone.
            cluster.fill_up()

        with dask_processes(self._workers) as cluster:
            cluster.wait_for_workers()
            ended = self._meanwhile(cluster, restart)
            cluster.fill_up()
            return self._refused_and_resumed(ended, cluster, may_end_well=True)

    def _meanwhile(self, cluster: DaskProcesses, happens: Callable[[], None]) -> Ended:
        """Run the command on a cluster, and let something happen once the first parts are there."""

        def watch() -> None:
            while not over.is_set():
                if self._parts():
                    happens()
                    return
                time.sleep(0.01)

        over, thread = threading.Event(), threading.Thread(target=watch)
        thread.start()
        try:
            return self._run(self._target, "--dask", cluster.address)
        finally:
            over.set()
            thread.join()

    def _refused_and_resumed(
        self, ended: Ended, cluster: DaskProcesses, may_end_well: bool = False, leaves_parts: bool = True
    ) -> tuple[str, str]:
        """What is wrong with how a command ended, or with going on from it."""
        if ended.code == 0 and may_end_well:
            return self._wrong(ended), f"{ended.seconds:.0f} s, ended by itself"
        errors, parts = ended.errors, len(self._parts())
        what = f"{ended.seconds:.0f} s, then {errors[0] if errors else 'nothing was said'}"
        if ended.code != 1 or len(errors) != 1:
            return f"ended with {ended.code}: {ended.lines}", what
        if self._target.exists() or (leaves_parts and not parts):
            return f"left {sorted(path.name for path in self._target.parent.iterdir())}", what
        again = self._run(self._target, "--dask", cluster.address, "--resume")
        return self._wrong(again), f"{what}; {parts} parts stayed, --resume took {again.seconds:.0f} s"

    def _wrong(self, ended: Ended) -> str:
        """What is wrong with a command that should have ended well; its output is removed."""
        if ended.code:
            return f"ended with {ended.code}: {ended.lines}"
        equal = filecmp.cmp(self._right, self._target, shallow=False)
        self._target.unlink()
        left = sorted(path.name for path in self._target.parent.iterdir())
        return f"left {left}" if left else ("" if equal else "has other bytes than the quiet run")

    def _parts(self) -> list[Path]:
        return list(self._target.parent.glob(f".{self._target.name}.build/[!.]*.part"))

    def _run(self, target: Path, *more: str) -> Ended:
        words = [*self._line.format(target).split(), *more, "--quiet"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "cli", *words],
            cwd=self._work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return Ended(done.returncode, (done.stdout + done.stderr).splitlines(), time.monotonic() - started)


def fill(path: Path) -> None:
    """Write a file until its disk is full."""
    with path.open("wb", buffering=0) as file:
        for block in (1 << 24, 1 << 12):
            with suppress(OSError):
                while True:
                    file.write(bytes(block))


def tried(work: Path, name: str, workers: int, every: float) -> Iterator[tuple[str, str, str]]:
    """Every failure of one command: which it is, what is wrong, and what happened."""
    failures = Failures(work, name, workers)
    yield "no failure, no cluster", "", f"{failures.quiet.seconds:.0f} s"
    trials: dict[str, Callable[[], tuple[str, str]]] = {
        f"a worker of {workers} killed every {every:g} s": lambda: failures.killed_workers(every),
        "a worker whose disk is full": failures.full_disk_of_a_worker,
        "the disk of the output full": failures.full_disk,
        "the scheduler killed and started again": failures.restarted_scheduler,
    }
    for trial, run in trials.items():
        yield trial, *run()


@click.command()
@click.option("--models", default=20_000, show_default=True, help="models of the index")
@click.option("--photos", default=6_000, show_default=True, help="photos to describe")
@click.option("--workers", default=4, show_default=True, help="worker processes of each cluster")
@click.option("--every", default=10.0, show_default=True, help="seconds between two kills")
@click.option("--work", type=click.Path(path_type=Path), help="folder for the inputs, kept; else a temporary one")
def main(models: int, photos: int, workers: int, every: float, work: Path | None) -> None:
    """Run commands on clusters that fail, and count what does not end as a quiet run does."""
    failed = 0
    temporary: AbstractContextManager[str] = tempfile.TemporaryDirectory() if work is None else nullcontext(str(work))
    with temporary as folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        if not Path(folder, "out").exists():
            make_inputs(Path(folder), models, photos)
        for name in COMMANDS:
            for trial, wrong, what in tried(Path(folder), name, workers, every):
                failed += bool(wrong)
                click.echo(f"{name}: {trial}: {'FAILED: ' + wrong + '; ' if wrong else ''}{what}")
                sys.stdout.flush()
    click.echo(f"{failed} failed")
    sys.exit(bool(failed))
