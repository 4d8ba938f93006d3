"""The flags of `ExtractionOptions` and `--device`, for every command that describes photos."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from cli.options.network import device_option, precision_option, upright_option
from retrieval.photos.choices import BILINEAR, RESIZE_FILTERS


def extraction_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add `--image-size`, `--scales`, `--exponent`, `--resize-filter`, `--upright`, `--precision` and `--device`.

    The command gets `extraction: ExtractionOptions` and `device: str | None`, where its network is to run.
    """

    @click.option("--image-size", type=click.IntRange(1), default=1024, show_default=True, help="longest side, pixels")
    @click.option(
        "--scales", default="1", show_default=True, help="scales to combine: 1,0.7071,0.5 is the papers'; up to 2"
    )
    @click.option("--exponent", type=float, help="exponent of the mean over scales  [default: GeM's p, else 1]")
    @click.option(
        "--resize-filter",
        type=click.Choice(RESIZE_FILTERS),
        default=BILINEAR,
        show_default=True,
        help="what makes photos smaller; cirtorch has lanczos",
    )
    @upright_option
    @precision_option
    @device_option
    @functools.wraps(function)
    def wrapped(
        *args: Any,
        image_size: int,
        scales: str,
        exponent: float | None,
        precision: str,
        resize_filter: str,
        upright: str | None,
        **kwargs: Any,
    ) -> None:
        from retrieval.descriptors.extraction import ExtractionOptions

        options = ExtractionOptions(image_size, _numbers(scales), exponent, precision, resize_filter, upright)
        function(*args, extraction=options, **kwargs)

    return wrapped


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{text} is no list of numbers such as 1,0.7071,0.5", param_hint="--scales") from error
