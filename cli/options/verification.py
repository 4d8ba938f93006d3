"""The flags of `VerificationSources`, for every command that verifies photos by their local features."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

GEOMETRIES = ("fundamental", "homography", "affine")
FIELDS = ("geometry", "ratio", "max_error", "min_inliers", "expand_inliers")
"""Of `retrieval.local_features.spatial_verification.VerificationOptions`."""


def verification_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command and pass it `verification: VerificationSources`."""

    @click.option(
        "--features",
        type=click.Path(path_type=Path),
        multiple=True,
        help="--rerank geometry: local features of the photos (extract-features); again for more files",
    )
    @click.option(
        "--geometry",
        type=click.Choice(GEOMETRIES),
        default="fundamental",
        show_default=True,
        help="verification: what matches agree on",
    )
    @click.option(
        "--ratio", type=float, default=0.85, show_default=True, help="verification: to the second-nearest, at most"
    )
    @click.option(
        "--max-error", type=float, default=4.0, show_default=True, help="verification: pixels a match may be off"
    )
    @click.option(
        "--min-inliers", type=int, default=15, show_default=True, help="verification: matches of a verified image"
    )
    @click.option(
        "--expand-inliers", type=int, default=15, show_default=True, help="those of an image to expand a query with"
    )
    @click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="processes that verify")
    @functools.wraps(function)
    def wrapped(*args: Any, features: tuple[Path, ...], jobs: int, **kwargs: Any) -> None:
        from retrieval.local_features.spatial_verification import VerificationOptions
        from retrieval.search.feature_verifier import VerificationSources

        options = VerificationOptions(**{name: kwargs.pop(name) for name in FIELDS})
        function(*args, verification=VerificationSources(features, options, jobs), **kwargs)

    return wrapped
