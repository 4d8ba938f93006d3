"""`sfm2tuples inspect`: what is in a file of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.options.paths import FilePath
from cli.output import Output, output_options

ROWS = 20
"""Rows of a table that a screenful has room for."""


@click.command("inspect", epilog="Example: sfm2tuples inspect tuples.h5")
@click.argument("file", metavar="FILE", type=FilePath())
@click.option("--all", "show_all", is_flag=True, help="print every place and every reason, not a screenful")
@click.option("--verify", is_flag=True, help="read it all and compare it with its fingerprint; nothing else is said")
@output_options
def command(file: Path, show_all: bool, verify: bool, output: Output) -> None:
    """Say what is in a file of ours, made from what and how: index, tuples, descriptors, ranks, whitening,
    features, bag of words or checkpoint."""
    from retrieval.reports.inspection import JOINED, inspect_file
    from retrieval.reports.verification import verify_file

    if verify:
        fingerprint = verify_file(file)
        output.result({"fingerprint": fingerprint, "verified": True})
        output.say(f"{file}: fingerprint right ({_text('fingerprint', fingerprint)})")
        return
    sections = inspect_file(file)
    output.result(sections)
    for title, section in sections.items():
        if not section:
            continue
        output.heading(title)
        if title == JOINED:
            joined = {f"{name}, {len(row['models']):,} models": row["why"] for name, row in section.items()}
            output.outline(joined, ("joined places", "reasons"), show_all)
        elif all(isinstance(value, dict) for value in section.values()):
            _say_table(section, show_all, output)
        else:
            _say_values(section, output)


def _say_values(section: dict[str, Any], output: Output) -> None:
    width = max(len(label) for label in section)
    for label, value in section.items():
        output.say(f"  {label.ljust(width)}  {_text(label, value)}")


def _say_table(section: dict[str, dict[str, Any]], show_all: bool, output: Output) -> None:
    columns = [name for name in next(iter(section.values())) if any(row[name] != "" for row in section.values())]
    rows = [[f"  {label}", *(_text(name, row[name]) for name in columns)] for label, row in section.items()]
    shown = rows if show_all else rows[:ROWS]
    output.table(shown, ["  ", *columns])
    if len(rows) > len(shown):
        output.say(f"  … {len(rows) - len(shown):,} more; --all shows them")


def _text(label: str, value: Any) -> str:
    """A value as a person reads it."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(key, item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(label, item) for item in value) or "none"
    if value is None:
        return "none"
    if label in ("fingerprint", "parents"):
        return str(value)[:16]
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else "".join(c if c.isprintable() else "?" for c in str(value))
