"""The flags of `VerificationSources`, for every command that verifies photos by their local features."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from retrieval.local_features.options import GEOMETRIES, VerificationOptions
from retrieval.search.options import VerificationSources

FLAGS = {
    "geometry": (click.Choice(list(GEOMETRIES)), "verification: what matches agree on"),
    "ratio": (float, "verification: to the second-nearest, at most"),
    "max_error": (float, "verification: pixels a match may be off"),
    "min_inliers": (int, "verification: matches of a verified image"),
    "expand_inliers": (int, "those of an image to expand a query with"),
}
"""Field of `VerificationOptions` to its kind and help."""


def verification_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command and pass it `verification: VerificationSources`."""

    @click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="processes that verify")
    @functools.wraps(function)
    def wrapped(*args: Any, features: tuple[Path, ...], jobs: int, **kwargs: Any) -> None:
        options = VerificationOptions(**{name: kwargs.pop(name) for name in FLAGS})
        function(*args, verification=VerificationSources(features, options, jobs), **kwargs)

    for field in reversed(fields(VerificationOptions)):
        kind, text = FLAGS[field.name]
        flag = "--" + field.name.replace("_", "-")
        wrapped = click.option(flag, type=kind, default=field.default, show_default=True, help=text)(wrapped)
    return click.option(
        "--features",
        type=click.Path(path_type=Path),
        multiple=True,
        help="--rerank geometry: local features of the photos (extract-features); again for more files",
    )(wrapped)
