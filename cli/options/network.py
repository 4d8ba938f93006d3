"""The flags by which every command is told its network: `--network`, or `--backbone`, `--weights`, `--pooling` …

Commands that run it take `device_option` and `precision_option` too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

BACKBONES = ("squeezenet1_1", "alexnet", "vgg16", "resnet18", "resnet50", "resnet101", "resnet152")
POOLINGS = ("gem", "gem-channels", "mac", "spoc", "crow", "rmac", "netvlad", "fc6", "fc7")
TIMM = "timm:"
FIELDS = (
    *("network", "backbone", "weights", "pooling", "regional", "whole_image", "clusters"),
    *("whitening_layer", "output_dim"),
)
"""Of `retrieval.networks.choice.NetworkChoice`."""
device_option = click.option("--device", help="where to run, such as cpu or cuda  [default: cuda where there is one]")
"""`--device`, which a command gets as `device`: a name for `retrieval.networks.devices.choose_device`."""
precision_option = click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="of the network that describes photos: half is faster where the device has it",
)
"""`--precision`, which a command gets as `precision`: that of `retrieval.descriptors.extraction.ExtractionOptions`."""


class BackboneType(click.ParamType):
    """One of `BACKBONES`, or ``timm:NAME``."""

    name = "NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse a name that is neither."""
        if value not in BACKBONES and not str(value).startswith(TIMM):
            self.fail(f"{value!r} is not one of {', '.join(BACKBONES)}, timm:NAME", param, ctx)
        return str(value)


def network_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command and pass it a `retrieval.networks.choice.NetworkChoice` as `choice`."""

    @click.option("--network", type=click.Path(path_type=Path), help="a checkpoint made by train, or one of cirtorch")
    @click.option(
        "--backbone", type=BackboneType(), help=f"in place of a checkpoint: {', '.join(BACKBONES)}, or timm:NAME"
    )
    @click.option(
        "--weights",
        help="file or URL of its pretrained weights, imagenet for torchvision's, pretrained for timm's; "
        "random weights of fixed seed without",
    )
    @click.option("--pooling", type=click.Choice(POOLINGS), help="its pooling  [default: gem]")
    @click.option("--regional", is_flag=True, help="pool regions, project each by a learned layer, and sum")
    @click.option("--whole-image", is_flag=True, help="rmac, --regional: the whole image is one region more")
    @click.option("--clusters", type=click.IntRange(1), help="netvlad: number of centres  [default: 64]")
    @click.option("--whitening-layer", help="a learned layer at the end, started from a whitening FILE or random")
    @click.option("--output-dim", type=click.IntRange(1), help="its dimension  [default: all]")
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        from retrieval.networks.choice import NetworkChoice

        function(*args, choice=NetworkChoice(**{name: kwargs.pop(name) for name in FIELDS}), **kwargs)

    return wrapped
