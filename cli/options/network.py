"""The flags by which every command is told its network: `--network`, or `--backbone`, `--weights`, `--pooling` …

Commands that run it take `device_option` and `precision_option` too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from cli.options.paths import FilePath
from retrieval.networks.by_name import POOLINGS, backbone_names, family_of
from retrieval.networks.devices import FP32, PRECISIONS
from retrieval.photos.choices import UPRIGHT

FIELDS = (
    *("network", "backbone", "weights", "pooling", "regional", "whole_image", "clusters"),
    *("pooling_size", "photo_size"),
)
"""Of `retrieval.networks.choice.NetworkChoice`, beside the whitening layer."""
device_option = click.option("--device", help="where to run, such as cpu or cuda  [default: cuda where there is one]")
"""`--device`, which a command gets as `device`: a name for `retrieval.networks.devices.choose_device`."""
precision_option = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default=FP32,
    show_default=True,
    help="of the network that describes photos: half is faster where the device has it",
)
"""`--precision`, which a command gets as `precision`: that of `retrieval.descriptors.extraction.ExtractionOptions`."""
upright_option = click.option(
    "--upright",
    type=click.Choice(UPRIGHT),
    help="how the network sees a photo: as stored, or turned as its EXIF says; geometry never turns  "
    "[default: as the network was trained, else stored]",
)
"""`--upright`, which a command gets as `upright`: None where it is not given."""


class BackboneType(click.ParamType):
    """A name that some family of backbones has."""

    name = "NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse a name that none has."""
        if family_of(str(value)) is None:
            self.fail(f"{value!r} is not one of {', '.join(backbone_names())}", param, ctx)
        return str(value)


def network_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command and pass it a `retrieval.networks.choice.NetworkChoice` as `choice`."""
    *names, last_name = backbone_names()

    @click.option(
        "--network",
        type=FilePath(),
        help="a checkpoint made by train; a folder made by export; a file of cirtorch, dirtorch or a well-known "
        "retriever; or the name of one, "
        "such as megaloc, salad, boq-dinov2 or cosplace-resnet50-512 (docs/networks.md has all)",
    )
    @click.option(
        "--backbone",
        type=BackboneType(),
        help=f"in place of a checkpoint: {', '.join(names)}, or {last_name}  [default: {names[0]}]",
    )
    @click.option(
        "--weights",
        help="file or URL of its pretrained weights, imagenet for the published ones, pretrained for timm's, none for "
        f"random ones of a fixed seed  [default: imagenet for {names[0]}, and where a package has them, else none]",
    )
    @click.option("--pooling", type=click.Choice(POOLINGS), help=f"pooling  [default: {next(iter(POOLINGS))}]")
    @click.option("--regional", is_flag=True, help="pool regions, project each by a learned layer, and sum")
    @click.option("--whole-image", is_flag=True, help="rmac, --regional: the whole image is one region more")
    @click.option("--clusters", type=click.IntRange(1), help="netvlad, salad: number of centres  [default: 64]")
    @click.option(
        "--pooling-size",
        multiple=True,
        metavar="NAME=NUMBER",
        help="size of a layer of salad, boq, mixvpr, cosplace or ap-gem; may be repeated  [default: as published]",
    )
    @click.option(
        "--photo-size",
        metavar="HEIGHTxWIDTH",
        help="pixels that the network warps every photo to, such as 322x322, or any for photos in their own shape  "
        "[default: the network's]",
    )
    @click.option("--whitening-layer", help="a learned layer at the end, started from a whitening FILE or random")
    @click.option("--output-dim", type=click.IntRange(1), help="dimension of that layer  [default: all]")
    @functools.wraps(function)
    def wrapped(*args: Any, whitening_layer: str | None, output_dim: int | None, **kwargs: Any) -> None:
        from retrieval.networks.choice import NetworkChoice
        from retrieval.networks.whitening_layer import WhiteningLayer

        layer = WhiteningLayer.of_flags(whitening_layer, output_dim)
        choice = NetworkChoice(**{name: kwargs.pop(name) for name in FIELDS}, whitening_layer=layer)
        function(*args, choice=choice, **kwargs)

    return wrapped
