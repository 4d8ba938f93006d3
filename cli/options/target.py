"""`-o` and `--force` of commands that write a file: one that exists is replaced only where that is asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from cli.options.paths import FilePath
from cli.output import OUTPUTS


def target_option(
    help: str = "the file to write", *, required: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the flags to a command and pass it `target: Path`, which may be written.

    Every parameter of `cli.output.OUTPUTS` that is given is looked at, before any work.

    Parameters
    ----------
    help : str
        Of ``-o``.
    required : bool
        Whether there must be one; else the command gets None.
    """

    def add(function: Callable[..., None]) -> Callable[..., None]:
        @click.option("-o", "--output", "target", type=FilePath(), required=required, help=help)
        @click.option("--force", is_flag=True, help="replace the output where it exists")
        @functools.wraps(function)
        def wrapped(*args: Any, force: bool, **kwargs: Any) -> None:
            from sfm2tuples.files.atomic import refuse_overwrite

            for path in filter(None, (kwargs.get(name) for name in OUTPUTS)):
                refuse_overwrite(path, force)
            function(*args, **kwargs)

        return wrapped

    return add
