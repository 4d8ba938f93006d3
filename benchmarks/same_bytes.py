"""Prove that a change of the code changes no result: run the road by the commands, and compare the files of two runs.

``python -m benchmarks.same_bytes run CHECKOUT OUT -o TABLE.json`` runs our commands on the real data, with the code of
CHECKOUT, in the new folder OUT. It writes a table of every file made and of what every command printed.
``python -m benchmarks.same_bytes compare OLD.json NEW.json`` says what differs, down to the dataset, tensor or column,
and ends with 1 where anything does.

Both runs must be made on one machine with one environment: other processors and other versions of torch round in other
ways. The commands run in OUT and get relative names. Where a file names OUT all the same, as an evaluation does to find
its photos, its content is compared and not its bytes.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from subprocess import PIPE
from typing import Any

import click
import numpy as np

from benchmarks.same_bytes_road import STOPPED, Step, lanes

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "SFM2TUPLES_THREADS": "2"}
"""Environment of every command: sums in one order, and our own threads, which must change nothing."""
LABELS, EACH, DISTRACTORS = ("petra", "paris_sacrecoeur"), 16, 24
"""Landmarks of the small table of labels, photos of each, and distractors."""
UNEQUAL = ("*.pt", "*.pth", "*/curves.csv", "said/*", "warned/*")
"""Files whose bytes differ between two runs of the same code: their contents are compared in place of them. Checkpoints
hold the random name that they were first written under; they, the curves and what commands print hold seconds."""
LEFT_OUT = ("software", "seconds")
"""Attributes, keys and columns that are not compared."""
TIMES = (
    (re.compile(rb"\b\d[\d,.]* ?(ms|s|min|seconds|minutes)\b"), rb"(time)"),
    (re.compile(rb"^(  round \d+(?: +\S+){5} +)\S+ +", re.MULTILINE), rb"\1(time) "),
    (re.compile(rb"^(  bytes +)[\d,]+$", re.MULTILINE), rb"\1(size)"),
)
"""What is replaced in texts: times; of what `inspect` says of a checkpoint the seconds of each round and its size,
since the random name in it differs in length."""
FORKS = """
import json, os, runpy, sys
import cli
if not cli.__file__.startswith(sys.argv[1] + os.sep):
    sys.exit(f"{cli.__file__} is not the code of {sys.argv[1]}")
import h5py, numba, scipy.sparse, torch
for line in sys.stdin:
    name, *words = json.loads(line)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, folder in ((1, "said"), (2, "warned")):
            os.dup2(os.open(f"{folder}/{name}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = ["sfm2tuples", *words]
        runpy.run_module("cli", run_name="__main__", alter_sys=True)
        sys.exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Runs ``python -m cli`` for each line that it reads, in a process of its own that has the large libraries loaded
already: loading them takes half of the time otherwise. It prints the process's id, and how it ended."""
Table = dict[str, dict[str, Any]]


@click.group()
def main() -> None:
    """Run the road and compare the files of two runs."""


@main.command("run")
@click.argument("checkout", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="the table to write, JSON")
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=DATA, help="folder of the real data")
@click.option("--lanes", "at_once", default=2, show_default=True, help="commands that run at the same time, 1 or 2")
@click.option("--demo", is_flag=True, help="run the demo too, which takes minutes")
def run_command(checkout: Path, out: Path, output: Path, data: Path, at_once: int, demo: bool) -> None:
    """Run the commands of CHECKOUT in the new folder OUT, and write the table of all files there."""
    checkout, out, data = checkout.resolve(), out.resolve(), data.resolve()
    for folder in ("said", "warned"):
        (out / folder).mkdir(parents=True)
    write_inputs(out / "inputs", data)
    started = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        failed = [
            name for names in pool.map(lambda lane: walk(lane, checkout, out), lanes(data, demo)) for name in names
        ]
    table = table_of(out, {str(checkout): "CHECKOUT", str(out): "OUT"})
    output.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    click.echo(f"made {output}: {len(table)} files in {time.monotonic() - started:.0f} s")
    if failed:
        raise click.ClickException(f"these steps did not end as they should: {', '.join(failed)}; see {out}/warned")


@main.command("compare")
@click.argument("old", type=click.Path(path_type=Path, exists=True))
@click.argument("new", type=click.Path(path_type=Path, exists=True))
def compare_command(old: Path, new: Path) -> None:
    """List what differs between two tables; end with 1 where anything does."""
    tables = [json.loads(path.read_text(encoding="utf-8")) for path in (old, new)]
    lines = compare(*tables)
    for line in lines:
        click.echo(line)
    click.echo(f"{len(lines)} of {len(set().union(*tables))} files differ")
    sys.exit(bool(lines))


def write_inputs(folder: Path, data: Path) -> None:
    """Write a small table of labels with the photos beside it, and descriptors as other programs write them."""
    folder.mkdir()
    (folder / "images").symlink_to(data / "collection" / "images")
    with (data / "collection" / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kept = [row for label in LABELS for row in [r for r in rows if r["label"] == label][:EACH]]
    kept += [row for row in rows if row["role"] == "distractor"][:: len(rows) // DISTRACTORS]
    lines = ["image,label,role", *(f"{row['image']},{row['label']},{row['role']}" for row in kept)]
    (folder / "few.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    names = [row["image"] for row in rows if Path(row["image"]).parent.name.startswith("holidays_")]
    (folder / "foreign.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    np.save(folder / "foreign.npy", np.random.default_rng(0).normal(size=(16, len(names))).astype(np.float32))


def walk(lane: list[Step], checkout: Path, out: Path) -> list[str]:
    """Run the steps of a lane; what each prints goes to ``said/NAME.txt`` (stdout) and ``warned/NAME.txt`` (stderr).

    Returns
    -------
    list of str
        Steps that did not end as they should.
    """
    environment = {**os.environ, **THREADS, "PYTHONPATH": str(checkout), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", FORKS, str(checkout)]
    failed = []
    with subprocess.Popen(command, cwd=out, env=environment, text=True, bufsize=1, stdin=PIPE, stdout=PIPE) as forks:
        assert forks.stdin is not None
        assert forks.stdout is not None
        for step in lane:
            started = time.monotonic()
            forks.stdin.write(json.dumps([step.name, *step.words]) + "\n")
            child = int(forks.stdout.readline())
            interrupted = step.name == STOPPED and interrupt(child, out / "run" / "curves.csv")
            code = int(forks.stdout.readline())
            click.echo(f"{time.monotonic() - started:6.1f} s  {step.name}, ended with {code}")
            if step.name == STOPPED:
                for folder in ("said", "warned"):
                    (out / folder / f"{STOPPED}.txt").unlink()
            if (code != 0) != step.fails or (step.name == STOPPED and not interrupted):
                failed.append(step.name)
    return failed


def interrupt(process: int, curves: Path) -> bool:
    """Interrupt a training in its second round; False where it ended before.

    What the run prints depends on the moment, and is not kept; what is resumed from it does not.
    """
    while Path(f"/proc/{process}/cmdline").exists() and Path(f"/proc/{process}/cmdline").read_bytes():
        if curves.exists() and len(curves.read_text(encoding="utf-8").splitlines()) > 2:
            os.kill(process, signal.SIGINT)
            return True
        time.sleep(0.02)
    return False


def table_of(folder: Path, paths: dict[str, str]) -> Table:
    """For every file below a folder, the hash of its bytes, and a hash for each part of its content.

    Parameters
    ----------
    folder : Path
    paths : dict of str to str
        Folders that may differ between two runs, and what stands for them in the contents.

    Returns
    -------
    dict
        Name below the folder to ``bytes`` (None where `UNEQUAL` names it, or it holds such a folder) and ``parts``.
    """
    table: Table = {}
    for root, _, files in os.walk(folder):
        for file in files:
            path = Path(root) / file
            name, content = path.relative_to(folder).as_posix(), path.read_bytes()
            parts = {part: _sha(plain(value, paths)) for part, value in parts_of(path)}
            free = any(fnmatch(name, pattern) for pattern in UNEQUAL) or any(word.encode() in content for word in paths)
            table[name] = {"bytes": None if free else _sha(content), "parts": parts}
    return table


def parts_of(path: Path) -> Iterator[tuple[str, bytes]]:
    """What a file consists of, by name: datasets and attributes, tensors, keys, columns or text; nothing of others."""
    readers: dict[str, Callable[[Path], Iterator[tuple[str, bytes]]]] = {
        ".h5": _of_hdf5, ".pt": _of_checkpoint, ".pth": _of_checkpoint, ".json": _of_json, ".csv": _of_csv,
        ".txt": _of_text, ".html": _of_text, ".graphml": _of_text,
    }  # fmt: skip
    if path.suffix in readers:
        yield from readers[path.suffix](path)


def plain(content: bytes, paths: dict[str, str]) -> bytes:
    """A content without the folders of this run."""
    for path in sorted(paths, key=len, reverse=True):
        content = content.replace(path.encode(), paths[path].encode())
    return content


def compare(old: Table, new: Table) -> list[str]:
    """A line for each file that is not the same in both tables.

    Parameters
    ----------
    old, new : dict
        As `table_of` makes them.
    """
    lines = []
    for name in sorted(set(old) | set(new)):
        if name not in new or name not in old:
            lines.append(f"{name}: only in the {'old' if name in old else 'new'} run")
        elif old[name] != new[name]:
            before, after = old[name]["parts"], new[name]["parts"]
            parts = [part for part in sorted(set(before) | set(after)) if before.get(part) != after.get(part)]
            what = f"{', '.join(parts)} differ" if parts else "the bytes differ" if not before else "only bytes differ"
            lines.append(f"{name}: {what}")
    return lines


def _of_hdf5(path: Path) -> Iterator[tuple[str, bytes]]:
    """Attributes and datasets; a string column is one part, its strings with a blank line between."""
    import h5py

    found: list[tuple[str, bytes]] = []

    def look(name: str, item: h5py.Group | h5py.Dataset) -> None:
        found.extend((f"{name}@{key}", repr(item.attrs[key]).encode()) for key in item.attrs if key not in LEFT_OUT)
        if isinstance(item, h5py.Group) and set(item) == {"utf8", "offsets"}:
            text, offsets = item["utf8"][()].tobytes(), item["offsets"][()].tolist()
            found.append((name, b"\n\n".join(text[i:j] for i, j in pairwise(offsets))))
        elif isinstance(item, h5py.Dataset) and name.rpartition("/")[2] not in ("utf8", "offsets"):
            found.append((name, f"{item.dtype.str} {item.shape} ".encode() + item[()].tobytes()))

    with h5py.File(path) as file:
        look("", file)
        file.visititems(look)
    yield from found


def _of_text(path: Path) -> Iterator[tuple[str, bytes]]:
    content = path.read_bytes()
    for pattern, instead in TIMES:
        content = pattern.sub(instead, content)
    yield "text", content


def _of_checkpoint(path: Path) -> Iterator[tuple[str, bytes]]:
    """Tensors and values by their keys; weights_only=False, since the whitening in cirtorch's file is NumPy's."""
    import torch

    yield from _leaves("", torch.load(path, map_location="cpu", weights_only=False))


def _of_json(path: Path) -> Iterator[tuple[str, bytes]]:
    value = json.loads(path.read_text(encoding="utf-8"))
    for key, item in value.items() if isinstance(value, dict) else [("", value)]:
        if key not in LEFT_OUT:
            yield key, json.dumps(item, sort_keys=True).encode()


def _of_csv(path: Path) -> Iterator[tuple[str, bytes]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    for column in zip(*rows, strict=True):
        if column[0] not in LEFT_OUT:
            yield column[0], "\n".join(column).encode()


def _leaves(name: str, value: Any) -> Iterator[tuple[str, bytes]]:
    """The tensors and plain values of nested containers, without the keys that are left out."""
    import torch

    if isinstance(value, dict):
        for key, item in value.items():
            if key not in LEFT_OUT:
                yield from _leaves(f"{name}/{key}", item)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _leaves(f"{name}/{i}", item)
    elif isinstance(value, torch.Tensor):
        yield name, f"{value.dtype} {tuple(value.shape)} ".encode() + value.contiguous().view(-1).numpy().tobytes()
    elif isinstance(value, np.ndarray):
        yield name, f"{value.dtype} {value.shape} ".encode() + value.tobytes()
    else:
        yield name, repr(value).encode()


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    main()
