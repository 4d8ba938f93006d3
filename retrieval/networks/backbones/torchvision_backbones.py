"""The convolutional part of seven known networks, with torchvision's names for their weights.

Each ends where method.md section 8 pools: AlexNet and VGG without their last max-pool, ResNet without its last two
layers, SqueezeNet with all of `features`. The last operation is a ReLU, or keeps its sign. Every other network comes
from timm (`timm_backbones`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from retrieval.networks.backbones.backbone import Backbone, Link

_FILES = {
    "squeezenet1_1": "squeezenet1_1-b8a52dc0.pth",
    "alexnet": "alexnet-owt-7be5be79.pth",
    "vgg16": "vgg16-397923af.pth",
    "resnet18": "resnet18-f37072fd.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
    "resnet152": "resnet152-394f9c45.pth",
}
"""Torchvision's ImageNet weights (version 1 of each); the name ends in the file's hash."""


class Torchvision(Backbone):
    """A backbone whose ImageNet weights torchvision publishes."""

    published_as = "imagenet"

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.published_url = f"https://download.pytorch.org/models/{_FILES[name]}"


class Sequential(Torchvision):
    """A backbone that is one chain of layers, named `features` as in torchvision."""

    classifier = "classifier."

    def __init__(self, name: str, layers: Sequence[nn.Module], channels: int, smallest: int) -> None:
        super().__init__(name)
        self.channels = channels
        self.smallest = smallest
        self.features = nn.Sequential(*layers)

    def links(self) -> list[Link]:
        """The layers that have weights, each with those behind it that have none."""
        links: list[list[nn.Module]] = [[]]
        for layer in self.features:
            if any(True for _ in layer.parameters()):
                links.append([])
            links[-1].append(layer)
        return [*links]

    def block_names(self) -> list[tuple[str, ...]]:
        """The layers that have weights."""
        layers = self.features.named_children()
        return [(f"features.{name}",) for name, layer in layers if any(True for _ in layer.parameters())]


class Fire(nn.Module):
    """SqueezeNet's module: squeeze to few channels, expand by 1x1 and 3x3 filters side by side.

    Parameters
    ----------
    inputs, squeeze, expand : int
        Channels that come in, after the squeeze, and of each of the two expansions.
    """

    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, 2 expand, h, w)."""
        x = torch.relu_(self.squeeze(x))
        return torch.relu_(torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1))


class Block(nn.Module):
    """ResNet's residual block: convolutions with batch norm, added to a shortcut.

    Parameters
    ----------
    inputs, width : int
        Channels that come in, and of the 3x3 convolution.
    stride : int
        Stride of the 3x3 convolution (the first one of a basic block).
    bottleneck : bool
        1x1, 3x3, 1x1 with four times the width out (ResNet50 and deeper), or two 3x3 (ResNet18).
    """

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = 4 * width if bottleneck else width
        self.bottleneck = bottleneck
        if bottleneck:
            self.conv1, self.bn1 = _convolution(inputs, width, 1, 1), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = _convolution(width, width, 3, stride), nn.BatchNorm2d(width)
            self.conv3, self.bn3 = _convolution(width, outputs, 1, 1), nn.BatchNorm2d(outputs)
        else:
            self.conv1, self.bn1 = _convolution(inputs, width, 3, stride), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = _convolution(width, outputs, 3, 1), nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(_convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = torch.relu_(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        if self.bottleneck:
            x = self.bn3(self.conv3(torch.relu_(x)))
        return torch.relu_(x + shortcut)


class ResNet(Torchvision):
    """A residual network without its average pooling and its linear layer.

    Parameters
    ----------
    blocks : sequence of int
        Blocks in each of the four layers; fewer layers where it ends earlier.
    bottleneck : bool
        The kind of block.
    """

    classifier: str | tuple[str, ...] = "fc."
    smallest = 1

    def __init__(self, name: str, blocks: Sequence[int], bottleneck: bool) -> None:
        super().__init__(name)
        expansion = 4 if bottleneck else 1
        self.layers = len(blocks)
        self.channels = (32 << self.layers) * expansion
        self.conv1 = _convolution(3, 64, 7, 2)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = 64
        for number, count in enumerate(blocks):
            width = 64 << number
            strides = [1 if number == 0 else 2] + [1] * (count - 1)
            layer = []
            for stride in strides:
                layer.append(Block(inputs, width, stride, bottleneck))
                inputs = width * expansion
            self.add_module(f"layer{number + 1}", nn.Sequential(*layer))

    def links(self) -> list[Link]:
        """The first convolution and pooling, then the residual blocks; each layer but the first halves the map."""
        stem: Link = [self.conv1, self.bn1, torch.relu_, self.maxpool]
        return [stem, *([self.get_submodule(name)] for (name,) in self.block_names())]

    def block_names(self) -> list[tuple[str, ...]]:
        """The residual blocks of all layers."""
        layers = [f"layer{number}" for number in range(1, self.layers + 1)]
        return [(f"{layer}.{name}",) for layer in layers for name, _ in self.get_submodule(layer).named_children()]


def build(name: str) -> Backbone:
    """The backbone of that name, one of those that `by_name` lists for this module."""
    if name in CHAINS:
        layers, channels, smallest = CHAINS[name]
        return Sequential(name, layers(), channels, smallest)
    return ResNet(name, *RESNETS[name])


def _convolution(inputs: int, outputs: int, side: int, stride: int) -> nn.Conv2d:
    """A convolution as ResNet has them: half its side of padding, no bias."""
    return nn.Conv2d(inputs, outputs, side, stride=stride, padding=side // 2, bias=False)


def _squeezenet_layers() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 64, 3, stride=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(64, 16, 64),
        Fire(128, 16, 64),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(128, 32, 128),
        Fire(256, 32, 128),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(256, 48, 192),
        Fire(384, 48, 192),
        Fire(384, 64, 256),
        Fire(512, 64, 256),
    ]


def _alexnet_layers() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(inplace=True),
    ]


def _vgg_layers() -> list[nn.Module]:
    layers: list[nn.Module] = []
    inputs = 3
    for number, widths in enumerate([(64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3]):
        if number > 0:
            layers.append(nn.MaxPool2d(2, stride=2))
        for width in widths:
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = width
    return layers


CHAINS: dict[str, tuple[Callable[[], list[nn.Module]], int, int]] = {
    "squeezenet1_1": (_squeezenet_layers, 512, 17),
    "alexnet": (_alexnet_layers, 256, 31),
    "vgg16": (_vgg_layers, 512, 16),
}
"""Name to what `Sequential` is built of."""
RESNETS = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
}
"""Name to what `ResNet` is built of."""
