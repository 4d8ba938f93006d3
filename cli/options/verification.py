"""The flags of `VerificationSources`, for every command that verifies photos by their local features."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cli.options.fields import field_options
from cli.options.paths import FilePath
from retrieval.local_features.options import GEOMETRIES, VerificationOptions
from retrieval.search.options import VerificationSources

FLAGS: dict[str, tuple[Any, str]] = {
    "geometry": (click.Choice(list(GEOMETRIES)), "verification: what matches agree on"),
    "ratio": (float, "verification: most distance of a match, over that of the second-nearest"),
    "max_error": (float, "verification: pixels a match may be off"),
    "min_inliers": (int, "verification: matches that a verified image needs"),
    "expand_inliers": (int, "verification: matches that an image needs to expand a query"),
}
"""Field of `VerificationOptions` to its kind and help."""


def verification_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command and pass it `verification: VerificationSources`."""

    @click.option(
        "--features",
        type=FilePath(),
        multiple=True,
        help="--rerank geometry: local features of the photos (extract-features); again for more files",
    )
    @field_options(VerificationOptions, FLAGS)
    @click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="processes that run pycolmap")
    @functools.wraps(function)
    def wrapped(*args: Any, features: tuple[Path, ...], options: VerificationOptions, jobs: int, **kwargs: Any) -> None:
        function(*args, verification=VerificationSources(features, options, jobs), **kwargs)

    return wrapped
