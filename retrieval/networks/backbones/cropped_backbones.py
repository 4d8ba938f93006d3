"""Torchvision's backbones that end earlier than `torchvision_backbones` has them, as well-known retrievers use them.

BoQ and MixVPR pool a ResNet's map before its last layer, which is twice as large. CosPlace pools VGG16's map before the
last ReLU, so that it has negative values.
"""

from __future__ import annotations

from retrieval.networks.backbones.backbone import Backbone
from retrieval.networks.backbones.torchvision_backbones import CHAINS, RESNETS, ResNet, Sequential
from sfm2tuples.errors import UsageError

BEFORE_RELU, LAYER3 = "_before_relu", "_layer3"
"""Ends of the names: VGG16's without its last ReLU, a ResNet's after its third layer."""


class EarlyResNet(ResNet):
    """A residual network without its last layer; torchvision's files of weights serve it."""

    classifier = ("layer4.", "fc.")


def build(name: str) -> Backbone:
    """The backbone of that name, one of those that `by_name` lists for this module.

    Raises
    ------
    UsageError
        There is no such backbone.
    """
    whole = name.removesuffix(LAYER3).removesuffix(BEFORE_RELU)
    if name.endswith(LAYER3) and whole in RESNETS:
        blocks, bottleneck = RESNETS[whole]
        return _named(EarlyResNet(whole, blocks[:3], bottleneck), name)
    if name.endswith(BEFORE_RELU) and whole in CHAINS:
        layers, channels, smallest = CHAINS[whole]
        return _named(Sequential(whole, layers()[:-1], channels, smallest), name)
    raise UsageError(f"there is no backbone {name}")


def _named(backbone: Backbone, name: str) -> Backbone:
    """The backbone, whose published weights are those of the whole network."""
    backbone.name = name
    return backbone
