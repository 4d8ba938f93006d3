"""The flags of a `ProtocolChoice`: `--index`, `--labels` or `--protocol` with `--data`, and what belongs to them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cli.options.paths import FilePath, PhotoPath
from retrieval.protocols.by_name import PROTOCOLS
from sfm2tuples.errors import UsageError
from sfm2tuples.files.remote.address import AnyPath
from sfm2tuples.index.splits import SPLITS, VAL

PATH = FilePath()
NUMBERS = ("images", "split", "min_shared", "max_distance", "unit_length")
"""Fields of `retrieval.protocols.benchmark.ProtocolChoice` that are flags of the same names."""


def protocol_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command and pass it `protocol: ProtocolChoice`."""

    @click.option("--index", type=PATH, help="SfM protocol on the places of an index")
    @click.option(
        "--labels", type=PhotoPath(), help="CSV of image,label,role, or a folder whose sub-folders are labels"
    )
    @click.option("--protocol", type=click.Choice(list(PROTOCOLS)), help="a protocol of the field (docs/protocols.md)")
    @click.option("--data", type=PATH, help="its folder: ground truth and photos; or a file")
    @click.option("--images", type=PhotoPath(), help="folder of the labelled photos; the CSV's by default")
    @click.option(
        "--split", type=click.Choice(SPLITS), default=SPLITS[VAL], show_default=True, help="places of an index"
    )
    @click.option(
        "--min-shared", type=click.IntRange(1), default=15, show_default=True, help="shared points of a positive"
    )
    @click.option(
        "--max-distance",
        type=float,
        default=25.0,
        show_default=True,
        help="place-recognition: within it a photo is right",
    )
    @click.option(
        "--unit-length",
        type=float,
        default=1.0,
        show_default=True,
        help="place-recognition: length of a model's unit",
    )
    @functools.wraps(function)
    def wrapped(
        *args: Any, index: Path | None, labels: AnyPath | None, protocol: str | None, data: Path | None, **kwargs: Any
    ) -> None:
        from retrieval.protocols.benchmark import ProtocolChoice

        if sum(source is not None for source in (index, labels, protocol)) != 1:
            raise UsageError("say one thing to measure on: --index FILE, --labels CSV, or --protocol NAME --data DIR")
        if (protocol is None) != (data is None):
            raise UsageError("--protocol NAME and --data DIR go together")
        numbers = {name: kwargs.pop(name) for name in NUMBERS}
        name, where = next(
            (name, path) for name, path in (("sfm", index), ("labels", labels), (protocol, data)) if path
        )
        function(*args, protocol=ProtocolChoice(str(name), where, **numbers), **kwargs)

    return wrapped
