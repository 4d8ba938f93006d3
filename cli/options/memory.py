"""An amount of memory, as people write it."""

from __future__ import annotations

import re
from typing import Any

import click

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
"""What a letter stands for."""


class Memory(click.ParamType):
    """Bytes, with a letter for thousands of them: ``4G``, ``500M``, ``0``."""

    name = "memory"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes of a text; a number stays what it is."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([KMGT]?)B?", str(value).strip().upper())
        if not found:
            self.fail(f"{value!r} is no amount of memory; give one such as 4G or 500M, or 0", param, ctx)
        return int(float(found[1]) * UNITS[found[2]])
