"""The flags of `PoseThresholds` and `LocalisationOptions`: what a localiser gets from the results of an index."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from cli.options.paths import FilePath
from retrieval.localisation.options import MOST_MATCHED, LocalisationOptions, parse_thresholds

LOCALISE = ("num_matched", "feature_size", "max_features", "localise_cache")
"""Fields of `LocalisationOptions` that are flags of the same names."""


def localisation_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command; pass it `poses: PoseThresholds | None` and `localise: LocalisationOptions | None`."""

    @click.option("--scale", type=float, help="--index: metres of a unit of its models; distances are then in metres")
    @click.option(
        "--pose-thresholds",
        help="--index: DISTANCE:DEGREES,… of a right pose  [0.25:2,0.5:5,5:10 with --scale, "
        "else 0.025:2,0.05:5,0.5:10 in scene depths]",
    )
    @click.option("--localise", is_flag=True, help="--index: localise each query by its first results (SIFT, PnP)")
    @click.option(
        "--num-matched",
        type=click.IntRange(1, MOST_MATCHED),
        default=10,
        show_default=True,
        help="--localise: first results of a query that are matched",
    )
    @click.option(
        "--feature-size",
        type=click.IntRange(1),
        default=1024,
        show_default=True,
        help="--localise: longest side in pixels at which features are looked for",
    )
    @click.option(
        "--max-features",
        type=click.IntRange(1),
        default=4096,
        show_default=True,
        help="--localise: largest features kept of a photo",
    )
    @click.option(
        "--localise-cache",
        type=FilePath(),
        help="--localise: keep features and poses here for the next call  [beside -o]",
    )
    @functools.wraps(function)
    def wrapped(
        *args: Any, scale: float | None, pose_thresholds: str | None, localise: bool, protocol: Any, **kwargs: Any
    ) -> None:
        poses = parse_thresholds(pose_thresholds, scale) if protocol.name == "sfm" else None
        fields = {name: kwargs.pop(name) for name in LOCALISE}
        options = LocalisationOptions(**fields) if localise else None
        function(*args, protocol=protocol, poses=poses, localise=options, **kwargs)

    return wrapped
