"""`sfm2tuples import-descriptors`: anybody's descriptors to a file that every command reads."""

from __future__ import annotations

from pathlib import Path

import click

from cli.options.paths import FilePath
from cli.options.target import target_option
from cli.output import Output, output_options
from sfm2tuples.errors import counted, told_of


@click.command("import-descriptors", epilog="Example: sfm2tuples import-descriptors features.npy -o descriptors.h5")
@click.argument("source", type=FilePath())
@target_option()
@click.option("--names", type=FilePath(), help="names of a .npy's rows, one a line  [default: its .txt]")
@click.option("--columns", is_flag=True, help="each column of the .npy is a descriptor, as in cirtorch's files")
@output_options
def command(source: Path, target: Path, names: Path | None, columns: bool, output: Output) -> None:
    """Check and normalise the descriptors of SOURCE: hloc's HDF5, or a .npy array with a list of names."""
    from sfm2tuples.files.descriptors import write_descriptors
    from sfm2tuples.interop.foreign_descriptors import read_foreign_descriptors

    found = read_foreign_descriptors(source, names, columns)
    write_descriptors(target, found.descriptors)
    count, length = found.descriptors.values.shape
    if found.num_normalised:
        output.say(told_of(found.num_normalised, "descriptors were not of length 1 and are normalised"))
    output.result({"photos": count, "dim": length, "normalised": found.num_normalised})
    next_step = f"sfm2tuples evaluate --protocol NAME --data DIR --descriptors {target}"
    output.made(target, f"{counted(count, 'descriptor')} of {counted(length, 'dimension')}", next_step)
