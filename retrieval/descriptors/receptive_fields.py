"""Where the cells of a convolutional map look: the centres of their receptive fields, and the cells of a box."""

from __future__ import annotations

import numpy as np
from torch import nn

from retrieval.networks.backbones.efficientnet_lite import EfficientNetLite, SameConv2d
from retrieval.networks.backbones.torchvision_backbones import ResNet, Sequential


def cell_centres(backbone: nn.Module, pixels: int, cells: int) -> np.ndarray:
    """Centres of the receptive fields along one side.

    Parameters
    ----------
    backbone : nn.Module
        Of our own backbones the centres follow from strides, kernels and padding; of any other the cells are taken to
        divide the side equally.
    pixels : int
        Length of the photo's side.
    cells : int
        Length of the map's side.

    Returns
    -------
    (cells,) float64
        In pixels from the photo's edge: the first pixel's centre is at 0.5.
    """
    if not isinstance(backbone, (Sequential, ResNet, EfficientNetLite)):
        return (np.arange(cells) + 0.5) * pixels / cells
    first, step, side = 0.0, 1, pixels
    for name, layer in backbone.named_modules():
        # The shortcuts of ResNet run beside the path that is followed, and look at the same pixels.
        if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)) and "downsample" not in name:
            kernel, stride, padding = (_number(value) for value in (layer.kernel_size, layer.stride, layer.padding))
            if isinstance(layer, SameConv2d):
                padding, side = layer.before(side), (side + 1) // 2
            first += ((kernel - 1) / 2 - padding) * step
            step *= stride
    return 0.5 + first + step * np.arange(cells)


def cells_in(centres: np.ndarray, low: float, high: float) -> slice:
    """The cells whose centres lie in ``low..high``; the one nearest to its middle where none does."""
    inside = np.flatnonzero((centres >= low) & (centres <= high))
    if len(inside) == 0:
        inside = np.array([int(np.argmin(np.abs(centres - (low + high) / 2)))])
    return slice(int(inside[0]), int(inside[-1]) + 1)


def _number(value: int | tuple[int, ...] | str) -> int:
    """Kernels, strides and paddings here are the same along both sides; named paddings do not occur."""
    return int(value[0] if isinstance(value, tuple) else value)
