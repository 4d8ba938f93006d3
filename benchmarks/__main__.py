"""Run the benches and print one table: ``python -m benchmarks [NAME ...] [--quick]``; or a trial, alone by its name."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.timing import Row

NAMES = ("graph", "relations", "many_models", "negatives", "search", "training", "extraction")
UNASKED = ("retrievers", "timm_networks", "frozen")
"""Those that run only where they are named."""
"""Modules of this folder; each has ``run(work: Path, quick: bool)``, which yields rows."""
TRIALS = ("mutations", "kills", "full_disks", "failures", "localise", "never_worse", "scale")
"""Modules whose ``main`` has options of its own: what they count are failures or queries, not seconds."""


@click.command()
@click.argument("names", nargs=-1, type=click.Choice([*NAMES, *UNASKED]))
@click.option("--quick", is_flag=True, help="small sizes: whether the benches run, not what they show")
@click.option("--work", type=click.Path(path_type=Path), help="folder for generated inputs, kept; else a temporary one")
def main(names: Sequence[str], quick: bool, work: Path | None) -> None:
    """Time our way and the usual ways side by side; ratios are to the row named "ours" of the same work."""
    click.echo(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as temporary:
        for name in names or NAMES:
            bench = importlib.import_module(f"benchmarks.{name}")
            folder = (work or Path(temporary)) / name
            folder.mkdir(parents=True, exist_ok=True)
            click.echo(f"\n{name}: {bench.__doc__.splitlines()[0]}")
            ours: dict[str, float] = {}
            for row in bench.run(folder, quick):
                print_row(row, ours)


def print_row(row: Row, ours: dict[str, float]) -> None:
    """Print a row as soon as it is measured; `ours` holds our time by work and is filled here."""
    if row.way == "ours":
        ours[row.work] = row.seconds
    ratio = f"{row.seconds / ours[row.work]:7.1f}x" if row.work in ours else f"{'':8}"
    memory = f"{row.peak_mb:8,.0f} MB" if row.peak_mb is not None else f"{'':11}"
    click.echo(f"{row.work:52} {row.way:34} {row.seconds:9.3f} s {ratio} {memory}  {row.note}".rstrip())
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in TRIALS:
        importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:], prog_name=f"benchmarks {sys.argv[1]}")
    main()
