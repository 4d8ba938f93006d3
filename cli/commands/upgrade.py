"""`sfm2tuples upgrade`: an index of an earlier version, or a whole one, written anew."""

from __future__ import annotations

from pathlib import Path

import click

from cli.options.paths import FilePath
from cli.options.target import target_option
from cli.output import Output, output_options
from sfm2tuples.ingest.options import ALL, KEPT


@click.command("upgrade", epilog="Example: sfm2tuples upgrade index.h5 -o lean.h5 --keep graph")
@click.argument("index", metavar="INDEX", type=FilePath())
@target_option("the index to write")
@click.option(
    "--keep",
    type=click.Choice(KEPT),
    default=ALL,
    show_default=True,
    help="what the new index holds of the models: all, or the graph without points and observations",
)
@output_options
def command(index: Path, target: Path, keep: str, output: Output) -> None:
    """Write an index of an earlier version as build-index writes it today, or a lean one of a whole one."""
    from sfm2tuples.ingest.upgrading import upgrade_index

    upgrade_index(index, target, keep)
    before, after = index.stat().st_size, target.stat().st_size
    output.result({"bytes_before": before, "bytes": after})
    output.made(target, f"{after:,} bytes, before {before:,}", f"sfm2tuples inspect {target}")
