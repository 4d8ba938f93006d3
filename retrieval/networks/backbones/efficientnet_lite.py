"""EfficientNet-Lite0 to Lite4: inverted residuals without squeeze-and-excitation, ReLU6, TensorFlow's padding.

The blocks are MobileNetV2's [Sandler et al., CVPR 2018] in EfficientNet's stages [Tan and Le, ICML 2019]; the lite
networks leave out what is slow on small devices, and scale neither the stem and the head nor the number of blocks in
the first and the last stage (TensorFlow's published code of them). Weights have the names of timm's
``tf_efficientnet_lite0``; `lite_weights` says where they come from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad, relu6

from retrieval.networks.backbones.backbone import Backbone, Link
from retrieval.networks.backbones.lite_weights import PACKAGES, URLS, file_of_package, translated
from retrieval.networks.description import Colour
from sfm2tuples.errors import UsageError

MULTIPLIERS = {
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
    "efficientnet_lite3": (1.2, 1.4),
    "efficientnet_lite4": (1.4, 1.8),
}
"""Name to what multiplies the channels of every stage, and the number of its blocks."""
STEM, HEAD = 32, 1280
"""Channels of the first and of the last convolution, in all of them."""
EPS = 1e-3
"""Added to the variance by batch norm, as in TensorFlow's code."""
COLOUR: Colour = (0.5, 0.5, 0.5)
"""Mean and deviation of the colours: values from -1 to 1."""


class Stage(NamedTuple):
    """Blocks of one width; the first of them has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
"""Of Lite0 (table 1 of EfficientNet's paper, as its B0)."""


class SameConv2d(nn.Conv2d):
    """A convolution of stride 2 with TensorFlow's SAME padding, which depends on the photo's size.

    The map has half the side, rounded up. Of the zeros that this takes, the odd one stands behind the last pixel; an
    even side has one zero less, before the first.
    """

    def before(self, side: int) -> int:
        """Zeros before the first pixel of a side of so many; behind the last one stand ``kernel // 2``."""
        return int(self.kernel_size[0]) // 2 - 1 + side % 2

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, outputs, ceil(h / 2), ceil(w / 2))."""
        # Sums and remainders only: sides may be symbols, when a network is written for other programs.
        after = self.kernel_size[0] // 2
        x = pad(x, (self.before(x.shape[3]), after, self.before(x.shape[2]), after))
        return conv2d(x, self.weight, None, self.stride, 0, 1, self.groups)


class Separable(nn.Module):
    """A depthwise convolution and a pointwise one: the block of the first stage, which expands nothing."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw, self.bn1 = _convolution(inputs, inputs, kernel, stride, groups=inputs), _norm(inputs)
        self.conv_pw, self.bn2 = _convolution(inputs, outputs), _norm(outputs)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h / stride, w / stride)."""
        y = relu6(self.bn1(self.conv_dw(x)), inplace=True)
        y = self.bn2(self.conv_pw(y))
        return x + y if self.adds else y


class MBConv(nn.Module):
    """The inverted residual: expand, filter each channel, project back without activation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inside = inputs * expansion
        self.conv_pw, self.bn1 = _convolution(inputs, inside), _norm(inside)
        self.conv_dw, self.bn2 = _convolution(inside, inside, kernel, stride, groups=inside), _norm(inside)
        self.conv_pwl, self.bn3 = _convolution(inside, outputs), _norm(outputs)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h / stride, w / stride)."""
        y = relu6(self.bn1(self.conv_pw(x)), inplace=True)
        y = relu6(self.bn2(self.conv_dw(y)), inplace=True)
        y = self.bn3(self.conv_pwl(y))
        return x + y if self.adds else y


class EfficientNetLite(Backbone):
    """A lite network without its average pooling and its linear layer; the map is 0 to 6."""

    channels = HEAD
    smallest = 1
    classifier = "classifier."
    published_as = "imagenet"

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.published_url = URLS[name]
        self.published_in = PACKAGES.get(name, "")
        width, depth = MULTIPLIERS[name]
        self.conv_stem, self.bn1 = _convolution(3, STEM, 3, 2), _norm(STEM)
        stages: list[nn.Module] = []
        inputs = STEM
        for number, stage in enumerate(STAGES):
            outputs = _scaled(stage.channels, width)
            count = stage.blocks if number in (0, len(STAGES) - 1) else math.ceil(depth * stage.blocks)
            blocks = []
            for stride in [stage.stride] + [1] * (count - 1):
                blocks.append(_block(inputs, outputs, stage, stride))
                inputs = outputs
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head, self.bn2 = _convolution(inputs, HEAD), _norm(HEAD)

    @property
    def colours(self) -> tuple[Colour, Colour]:
        """A half each, in all three colours."""
        return COLOUR, COLOUR

    def links(self) -> list[Link]:
        """The first convolution, then the stages, the last with the last convolution; half a side is rounded up."""
        stages: list[Link] = [[stage] for stage in self.blocks]
        stages[-1] = [*stages[-1], self.conv_head, self.bn2, _relu6]
        return [[self.conv_stem, self.bn1, _relu6], *stages]

    def block_names(self) -> list[tuple[str, ...]]:
        """The stages; the last convolution goes with the last of them."""
        names: list[tuple[str, ...]] = [(f"blocks.{number}",) for number in range(len(self.blocks))]
        return [*names[:-1], (*names[-1], "conv_head", "bn2")]

    def initialise(self, seed: int) -> None:
        """Random weights, as of every backbone; a projection has no ReLU behind it and half the variance."""
        super().initialise(seed)
        with torch.no_grad():
            for block in self.modules():
                if isinstance(block, (Separable, MBConv)):
                    (block.conv_pwl if isinstance(block, MBConv) else block.conv_pw).weight /= math.sqrt(2)

    def published_file(self) -> Path | None:
        """The file of the package `published_in`, where that is installed."""
        return file_of_package(self.name)

    def named_as_here(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of the package, or of timm, under timm's names."""
        return translated(state, [len(stage) for stage in self.blocks])  # type: ignore[arg-type]


def build(name: str) -> Backbone:
    """The backbone of that name.

    Raises
    ------
    UsageError
        There is no such backbone.
    """
    if name not in MULTIPLIERS:
        raise UsageError(f"the lite networks are {', '.join(MULTIPLIERS)}, not {name}")
    return EfficientNetLite(name)


def _block(inputs: int, outputs: int, stage: Stage, stride: int) -> nn.Module:
    if stage.expansion == 1:
        return Separable(inputs, outputs, stage.kernel, stride)
    return MBConv(inputs, outputs, stage.kernel, stride, stage.expansion)


def _scaled(channels: int, width: float) -> int:
    """The multiple of 8 that is nearest to so many times the channels, and not more than a tenth below it."""
    wanted = channels * width
    nearest = max(8, int(wanted + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * wanted else nearest


def _convolution(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Without bias. Of stride 1, SAME padding is half the kernel on either side, whatever the photo's size."""
    if stride == 1:
        return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return SameConv2d(inputs, outputs, kernel, stride=stride, groups=groups, bias=False)


def _relu6(x: Tensor) -> Tensor:
    return relu6(x, inplace=True)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPS)
