"""How commands speak: results on stdout, progress and warnings on stderr, JSON for machines."""

from __future__ import annotations

import functools
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from cli import interruption
from sfm2tuples.errors import UsageError, one_line, told_of
from sfm2tuples.files.regular_files import refuse_odd_file

OUTPUTS = ("target", "pairs")
"""Parameters of commands that are files to write; every other path is read."""
SPOKEN = (
    *("retrieval.networks.network", "retrieval.networks.choice", "retrieval.networks.retrievers.by_name"),
    *("retrieval.training.adaptation.frozen_part", "sfm2tuples.compute.progress_bars"),
)
"""Modules whose log is heard without `--verbose`, but not with `--quiet`: what describes photos, and how far it is."""
OF_CLUSTERS = ("distributed", "tornado", "asyncio")
"""Packages whose log tells of lost connections in traces, which our one line says already: heard with `--verbose`."""
LARGEST_NUMBER, LARGEST_SEED = 2**31 - 1, 2**63 - 1
HEADINGS, LINES, WIDTH = 20, 5, 160
"""A screenful of an outline: headings, lines of each, letters of a line."""


@dataclass
class Output:
    """One command's voice: `--quiet`, `--verbose` and `--json` decide what of it is heard."""

    quiet: bool = False
    """Print nothing but errors and warnings."""
    json: bool = False
    """Print one JSON object at the end instead of text."""
    collected: dict[str, Any] = field(default_factory=dict)
    """What goes into that object."""
    failed: bool = False
    """Whether the command, which ends, ends with exit code 1."""

    def silence(self) -> None:
        """Be heard no more, not even at the end: for the processes of a team that do not lead it."""
        self.quiet, self.json = True, False

    def say(self, line: str) -> None:
        """Print a line for a person; what a hostile name holds is shown, and not run by the terminal."""
        if not (self.quiet or self.json):
            click.echo(one_line(line))

    def heading(self, title: str) -> None:
        """Print a title, in bold where there is a terminal; the title is escaped as `say` does, our own bold is not."""
        if not (self.quiet or self.json):
            click.secho(one_line(title), bold=True)

    def warn(self, line: str) -> None:
        """Print a warning on stderr, whatever the mode."""
        click.echo(one_line(f"warning: {line}"), err=True)

    def warn_if(self, line: str | None) -> None:
        """Print a warning where there is one."""
        if line:
            self.warn(line)

    def warn_of(self, what: str, errors: Sequence[Exception | str]) -> None:
        """Count errors that did not stop the work, and show the first three."""
        if errors:
            self.warn(f"{told_of(len(errors), what)}, first: " + "; ".join(str(error) for error in errors[:3]))

    def fail_of(self, what: str, errors: Sequence[Exception]) -> None:
        """Name each of some errors that did not stop the work; the command ends with exit code 1."""
        for error in errors:
            click.echo(one_line(f"error: {error}"), err=True)
        if errors:
            self.result({"failures": [str(error) for error in errors]})
            self.failed = True
            if len(errors) > 1:
                self.warn(f"{len(errors):,} {what}")

    def table(self, rows: Sequence[Sequence[object]], header: Sequence[str]) -> None:
        """Print a table in columns: text to the left, numbers to the right."""
        cells = [[_cell(value) for value in row] for row in rows]
        widths = [max([len(title)] + [len(row[c]) for row in cells]) for c, title in enumerate(header)]
        numeric = [all(isinstance(row[c], (int, float)) for row in rows) and bool(rows) for c in range(len(header))]
        for line in [list(header), *cells]:
            padded = (
                text.rjust(w) if right else text.ljust(w) for text, w, right in zip(line, widths, numeric, strict=True)
            )
            self.say("  ".join(padded).rstrip())

    def outline(self, parts: Mapping[str, Sequence[str]], names: tuple[str, str], show_all: bool = False) -> None:
        """Print headings with lines under each: a screenful, or all. `names` says what headings and lines are."""
        most_parts, most_lines, width = (None, None, None) if show_all else (HEADINGS, LINES, WIDTH)
        for heading, lines in list(parts.items())[:most_parts]:
            self.say(f"  {heading}")
            for line in lines[:most_lines]:
                self.say(f"    {line if width is None or len(line) <= width else line[: width - 2] + ' …'}")
            if most_lines is not None and len(lines) > most_lines:
                self.say(f"    … {len(lines) - most_lines:,} more {names[1]}")
        if most_parts is not None and len(parts) > most_parts:
            self.say(f"  … {len(parts) - most_parts:,} more {names[0]}")

    def result(self, values: dict[str, Any]) -> None:
        """Keep values for `--json`."""
        self.collected.update(values)

    def made(self, path: str | Path, what: str, next_step: str = "") -> None:
        """The last line: what was made and what to run next; a second thing that was made is in `also_made`."""
        if "made" in self.collected:
            self.collected.setdefault("also_made", []).append({"made": str(path), "what": what})
        else:
            self.result({"made": str(path), "what": what} | ({"next": next_step} if next_step else {}))
        self.say(f"made {path}: {what}")
        if next_step:
            self.say(f"next: {next_step}")

    def close(self) -> None:
        """Print the JSON object where one was asked for."""
        if self.json:
            click.echo(json.dumps(self.collected, indent=1, sort_keys=True, default=str))


class _OneLine(logging.Formatter):
    """Messages of libraries on one printable line each."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Escape what a name may hold; what is neither wrong nor doubtful is a note."""
        if record.levelno == logging.INFO:
            return one_line(f"note: {record.message}")
        return one_line(super().formatMessage(record))


class _NotesOnce(logging.Filter):
    """Lets a note through once: a command of several steps, or of several commands, loads its network in each.

    Parameters
    ----------
    heard : set of str
        What was heard; it is added to.
    """

    def __init__(self, heard: set[str]) -> None:
        super().__init__()
        self._heard = heard

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is heard."""
        said = record.getMessage()
        heard_before = record.levelno == logging.INFO and said in self._heard
        self._heard.add(said)
        return not heard_before


def _not_of_clusters(record: logging.LogRecord) -> bool:
    """Whether a record is of any other package than `OF_CLUSTERS`."""
    return record.name.partition(".")[0] not in OF_CLUSTERS


def output_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add `--quiet`, `--verbose`, `--json` and `--help` to a command and pass it an `Output`.

    Click would make `--help` from the context that first asks for it, the group's or the command's own, and keep it.
    """

    @click.option("--quiet", is_flag=True, help="print nothing but warnings and errors")
    @click.option("--verbose", is_flag=True, help="log what the libraries do, on stderr")
    @click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of text")
    @click.help_option("-h", "--help")
    @functools.wraps(function)
    def wrapped(*args: Any, quiet: bool, verbose: bool, as_json: bool, **kwargs: Any) -> None:
        level = logging.INFO if verbose else logging.WARNING
        logging.basicConfig(level=level, stream=sys.stderr, force=True)
        # A command that runs others hands them what was heard, as click's object of the context.
        context = click.get_current_context()
        context.obj = set() if context.obj is None else context.obj
        for handler in logging.root.handlers:
            handler.setFormatter(_OneLine("%(levelname)s: %(message)s"))
            handler.addFilter(_NotesOnce(context.obj))
            if not verbose:
                handler.addFilter(_not_of_clusters)
        for name in SPOKEN:
            logging.getLogger(name).setLevel(logging.WARNING if quiet else logging.INFO)
        # Warnings of libraries name lines of their source and no file of the user's: heard with --verbose alone.
        logging.captureWarnings(True)
        logging.getLogger("py.warnings").setLevel(logging.WARNING if verbose else logging.ERROR)
        output = Output(quiet=quiet, json=as_json)
        _refuse_numbers_beyond_all(context.params)
        interruption.raise_from_now_on()
        _check_paths(context.params)
        try:
            function(*args, output=output, **kwargs)
        finally:
            for name in SPOKEN:
                logging.getLogger(name).setLevel(logging.NOTSET)
        output.close()
        if output.failed:
            raise click.exceptions.Exit(1)

    return wrapped


def _refuse_numbers_beyond_all(given: dict[str, Any]) -> None:
    """Keep counts and sizes to what columns and loops can hold; a seed may be any of 64 bits."""
    for name, value in given.items():
        most = LARGEST_SEED if name == "seed" else LARGEST_NUMBER
        if isinstance(value, int) and abs(value) > most:
            raise UsageError(f"--{name.replace('_', '-')} {value}: give at most {most:,}")


def _check_paths(given: dict[str, Any]) -> None:
    """Keep a command from waiting for a pipe, and from writing to a file that it reads, or two results to one file.

    `--force` would lose them.
    """
    outputs = [given[name] for name in OUTPUTS if isinstance(given.get(name), Path)]
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise UsageError(f"{outputs[0]}: is named for two outputs; give each a name of its own")
    values = [value for name, value in given.items() if name not in OUTPUTS]
    inputs = [path for value in values for path in (value if isinstance(value, tuple) else (value,))]
    inputs = [path for path in inputs if isinstance(path, Path)]
    for path in inputs:
        refuse_odd_file(path)
    for output in outputs:
        for path in inputs:
            if output.is_file() and path.is_file() and output.samefile(path):
                raise UsageError(f"{output}: is read by this command; give the output another name")


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
