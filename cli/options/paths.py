"""Names of files and folders on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sfm2tuples.errors import UsageError
from sfm2tuples.files.remote.address import Address, is_address, require_packages, without_credentials


class FilePath(click.Path):
    """A path; an empty name is refused, which `pathlib` would take for the current folder.

    An empty name is what a shell makes of a variable that is not set: ``ask site "$PHOTO"``.
    """

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read what was typed.

        Raises
        ------
        UsageError
            It is an address of another machine.
        """
        if value in ("", b""):
            self.fail("an empty name is neither a file nor a folder", param, ctx)
        if is_address(value):
            what = param.get_error_hint(ctx) if param is not None and ctx is not None else "a file"
            raise UsageError(
                f"{without_credentials(value)}: {what} is read and written on this machine alone; copy it first"
            )
        return super().convert(value, param, ctx)


class PhotoPath(FilePath):
    """A path, or the address of a folder elsewhere: ``s3://bucket/photos``, ``https://host/photos``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read what was typed.

        Raises
        ------
        UsageError
            An address that cannot be read, or not without another package.
        """
        if not is_address(value):
            return super().convert(value, param, ctx)
        address = Address.parse(value)
        require_packages(address)
        return address
