"""Which models were joined into places, and why, in as many lines as a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cli.output import Output

PLACES, REASONS, WIDTH = 20, 5, 160
"""What is shown unless all is wanted: places, reasons of each, letters of a line."""


def say_joined(places: Mapping[str, tuple[int, Sequence[str]]], show_all: bool, output: Output) -> None:
    """Print places of several models with the reasons that joined them.

    Parameters
    ----------
    places : mapping of str to (int, sequence of str)
        Name of a place to the number of its models and the reasons.
    show_all : bool
        Leave nothing out.
    output : Output
    """
    shown = list(places.items()) if show_all else list(places.items())[:PLACES]
    for name, (models, why) in shown:
        output.say(f"  {name}, {models:,} models")
        for line in why if show_all else why[:REASONS]:
            output.say(f"    {line if show_all or len(line) <= WIDTH else line[: WIDTH - 2] + ' …'}")
        if not show_all and len(why) > REASONS:
            output.say(f"    … {len(why) - REASONS:,} more reasons")
    if len(places) > len(shown):
        output.say(f"  … {len(places) - len(shown):,} more joined places")
