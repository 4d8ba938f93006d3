"""Flags that are the fields of a dataclass of options: one a field, with the same name and default."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import click

Command = Callable[..., None]


def field_options(table: type, flags: Mapping[str, tuple[Any, str]]) -> Callable[[Command], Command]:
    """Add a flag to a command for each field, and pass it the object as `options`.

    Parameters
    ----------
    table : type
        The dataclass; where a field's default is None, its help says what that means.
    flags : mapping of str to (type, str)
        Field to click's type and the help; a `bool` can be switched off by ``--no-…``.
    """

    def add(function: Command) -> Command:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> None:
            options = table(**{name: kwargs.pop(name) for name in flags})
            function(*args, options=options, **kwargs)

        for field in reversed(fields(table)):
            kind, text = flags[field.name]
            name = field.name.replace("_", "-")
            flag = f"--{name}/--no-{name}" if kind is bool else f"--{name}"
            shown = field.default is not None
            wrapped = click.option(flag, type=kind, default=field.default, show_default=shown, help=text)(wrapped)
        return wrapped

    return add
