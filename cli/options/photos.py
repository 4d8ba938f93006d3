"""The flags of `PhotoOptions`: how the photos of a tuple file are described, and whether they are packed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from cli.options.network import device_option, network_options, precision_option, upright_option
from cli.options.paths import FilePath

FIELDS = ("choice", "descriptors", "image_size", "upright", "precision", "device", "pack_images")
"""Of `retrieval.tuple_files.readable_photos.PhotoOptions`."""


def photo_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the flags, those of the network among them, to a command and pass it a `PhotoOptions` as `photos`."""

    @network_options
    @click.option("--descriptors", type=FilePath(), help="descriptors of the photos, in place of a network")
    @click.option("--image-size", type=click.IntRange(1), default=362, show_default=True, help="longest side, pixels")
    @upright_option
    @precision_option
    @device_option
    @click.option("--pack-images", type=click.IntRange(0), default=0, help="pack photos of this longest side, pixels")
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        from retrieval.tuple_files.readable_photos import PhotoOptions

        function(*args, photos=PhotoOptions(**{name: kwargs.pop(name) for name in FIELDS}), **kwargs)

    return wrapped
