"""The flags of `TeacherOptions`, for every command that asks the BoW teacher."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from retrieval.local_features.options import BITS, HammingOptions
from retrieval.search.options import TeacherOptions, VerificationSources

SEARCH = ("power", "num_verified", "num_expanded")
"""Fields of `TeacherOptions` that are flags of the same names."""


def teacher_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command and pass it `teaching: TeacherOptions`; `verification_options` stands above."""

    @click.option("--num-verified", type=click.IntRange(0), default=0, help="teacher: first images to verify  [none]")
    @click.option("--num-expanded", type=click.IntRange(0), default=0, help="teacher: images of its query expansion")
    @click.option(
        "--power",
        type=click.FloatRange(0, 1),
        default=1.0,
        show_default=True,
        help="teacher: exponent of a word's count; less than 1 tames bursts",
    )
    @click.option(
        "--hamming", type=click.IntRange(0, BITS), help="teacher: Hamming embedding, bits that may differ in a match"
    )
    @click.option(
        "--hamming-spread", type=float, default=16.0, show_default=True, help="teacher: bits at which weight is 1/e"
    )
    @functools.wraps(function)
    def wrapped(
        *args: Any, hamming: int | None, hamming_spread: float, verification: VerificationSources, **kwargs: Any
    ) -> None:
        search = {name: kwargs.pop(name) for name in SEARCH}
        bits = None if hamming is None else HammingOptions(hamming, hamming_spread)
        teaching = TeacherOptions(hamming=bits, verification=verification.options, jobs=verification.jobs, **search)
        function(*args, teaching=teaching, verification=verification, **kwargs)

    return wrapped
