"""The flags of `TeacherOptions`, for every command that asks the BoW teacher."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

GEOMETRIES = ("fundamental", "homography", "affine")
VERIFICATION = ("geometry", "ratio", "max_error", "min_inliers")
"""Fields of `retrieval.spatial_verification.VerificationOptions`."""
SEARCH = ("power", "num_verified", "num_expanded", "expand_inliers", "jobs")
"""Fields of `retrieval.teacher.TeacherOptions`."""


def teacher_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command and pass it `teaching: TeacherOptions`."""

    @click.option("--num-verified", type=click.IntRange(0), default=0, help="teacher: first images to verify  [none]")
    @click.option("--num-expanded", type=click.IntRange(0), default=0, help="teacher: images of its query expansion")
    @click.option(
        "--power",
        type=click.FloatRange(0, 1),
        default=1.0,
        show_default=True,
        help="teacher: of a word's count; less than 1 tames bursts",
    )
    @click.option(
        "--geometry",
        type=click.Choice(GEOMETRIES),
        default="fundamental",
        show_default=True,
        help="teacher: what verified matches agree on",
    )
    @click.option(
        "--ratio", type=float, default=0.85, show_default=True, help="teacher: to the second-nearest, at most"
    )
    @click.option("--max-error", type=float, default=4.0, show_default=True, help="teacher: pixels a match may be off")
    @click.option("--min-inliers", type=int, default=8, show_default=True, help="teacher: matches of a verified image")
    @click.option(
        "--expand-inliers", type=int, default=15, show_default=True, help="teacher: those of an image to expand with"
    )
    @click.option(
        "--hamming", type=click.IntRange(0, 64), help="teacher: Hamming embedding, bits that features may differ in"
    )
    @click.option(
        "--hamming-spread", type=float, default=16.0, show_default=True, help="teacher: bits that count 1/e of none"
    )
    @click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="teacher: processes that verify")
    @functools.wraps(function)
    def wrapped(*args: Any, hamming: int | None, hamming_spread: float, **kwargs: Any) -> None:
        from retrieval.hamming import HammingOptions
        from retrieval.spatial_verification import VerificationOptions
        from retrieval.teacher import TeacherOptions

        verification = VerificationOptions(**{name: kwargs.pop(name) for name in VERIFICATION})
        search = {name: kwargs.pop(name) for name in SEARCH}
        bits = None if hamming is None else HammingOptions(hamming, hamming_spread)
        function(*args, teaching=TeacherOptions(verification=verification, hamming=bits, **search), **kwargs)

    return wrapped
