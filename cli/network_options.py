"""The flags by which every command is told its network: `--network`, or `--backbone`, `--weights`, `--pooling`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

BACKBONES = ("squeezenet1_1", "alexnet", "vgg16", "resnet18", "resnet50", "resnet101")
POOLINGS = ("gem", "mac", "spoc", "rmac")


def network_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command and pass it a `retrieval.network_choice.NetworkChoice` as `choice`."""

    @click.option("--network", type=click.Path(path_type=Path), help="a checkpoint made by train")
    @click.option("--backbone", type=click.Choice(BACKBONES), help="a backbone, in place of a checkpoint")
    @click.option("--weights", help="file or URL of its pretrained weights; random weights of fixed seed without")
    @click.option("--pooling", type=click.Choice(POOLINGS), default="gem", show_default=True, help="its pooling")
    @functools.wraps(function)
    def wrapped(
        *args: Any, network: Path | None, backbone: str | None, weights: str | None, pooling: str, **kwargs: Any
    ) -> None:
        from retrieval.network_choice import NetworkChoice

        function(*args, choice=NetworkChoice(network, backbone, weights, pooling), **kwargs)

    return wrapped
