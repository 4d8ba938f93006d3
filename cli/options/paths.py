"""Names of files and folders on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


class FilePath(click.Path):
    """A path; an empty name is refused, which `pathlib` would take for the current folder.

    An empty name is what a shell makes of a variable that is not set: ``ask site "$PHOTO"``.
    """

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read what was typed."""
        if value in ("", b""):
            self.fail("an empty name is neither a file nor a folder", param, ctx)
        return super().convert(value, param, ctx)
