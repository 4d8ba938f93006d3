"""Neural codes: the activations of AlexNet's and VGG16's first fully connected layers (Babenko et al., ECCV 2014).

They are compared with pooled maps. The layers have a fixed input, so photos are warped to 224 x 224 pixels, as when the
layers were trained to classify. The code is taken after its ReLU.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from retrieval.networks.description import NetworkDescription
from retrieval.networks.poolings.pooling import Pooling, single_precision
from sfm2tuples.errors import UsageError, WeightsError

FC6, FC7 = "fc6", "fc7"
CODE = 4096
"""Length of a code."""
SIDE = 224
"""Side in pixels that photos are warped to."""

_GEOMETRY = {"alexnet": (nn.MaxPool2d(3, stride=2), 256 * 6 * 6), "vgg16": (nn.MaxPool2d(2, stride=2), 512 * 7 * 7)}
"""Backbone to its last max-pool, which it has not itself, and the inputs of fc6."""
_IN_FILE = {"alexnet": {FC6: "classifier.1", FC7: "classifier.4"}, "vgg16": {FC6: "classifier.0", FC7: "classifier.3"}}
"""Backbone to torchvision's names of the layers."""


class NeuralCodes(Pooling):
    """The last max-pool of ``alexnet`` or ``vgg16``, ``fc6`` and, if asked for, ``fc7``, with their ReLUs.

    Raises
    ------
    UsageError
        The backbone has no such layers.
    """

    keeps_aspect = False
    has_classifier = True

    def __init__(self, backbone: str, layer: str) -> None:
        super().__init__()
        if backbone not in _GEOMETRY:
            raise UsageError(f"pooling {layer} is a layer of {' and '.join(_GEOMETRY)}; {backbone} has none")
        self.backbone = backbone
        self.max_pool, inputs = _GEOMETRY[backbone]
        self.fc6 = nn.Linear(inputs, CODE)
        self.fc7 = nn.Linear(CODE, CODE) if layer == FC7 else None

    @classmethod
    def of(cls, description: NetworkDescription, channels: int) -> NeuralCodes:
        """The layer that the pooling is named after."""
        return cls(description.backbone, description.pooling)

    def dimension(self, channels: int) -> int:
        """`CODE`, whatever the channels."""
        return CODE

    def seen(self, photos: Tensor) -> Tensor:
        """Photos at `SIDE` x `SIDE` pixels, whatever their aspect."""
        if photos.shape[-2:] == (SIDE, SIDE):
            return photos
        return interpolate(photos, size=(SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, K, h, w) of a photo of `SIDE` pixels to (B, 4096), not negative."""
        x = self.max_pool(single_precision(x)).flatten(1)
        x = torch.relu(self.fc6(x))
        return x if self.fc7 is None else torch.relu(self.fc7(x))

    def load_classifier(self, state: Mapping[str, Tensor], source: str | Path) -> None:
        """Copy the layers from a state dict with torchvision's names.

        Raises
        ------
        WeightsError
            They are not in it, or of another shape: a file without its classifier is enough for maps only.
        """
        needed = self.state_dict()
        for name, value in needed.items():
            layer, _, kind = name.partition(".")
            found = state.get(f"{_IN_FILE[self.backbone][layer]}.{kind}")
            if found is None or found.shape != value.shape:
                what = f"has no {_IN_FILE[self.backbone][layer]}.{kind} of shape {tuple(value.shape)}"
                raise WeightsError(source, what, f"pooling {layer} needs the classifier's weights too")
            value.copy_(found)

    def reset(self, seed: int) -> None:
        """Random weights that keep the scale of activations; biases zero."""
        generator = torch.Generator().manual_seed(seed)
        for layer in (self.fc6, self.fc7):
            if layer is not None:
                with torch.no_grad():
                    layer.weight.normal_(0.0, (2.0 / layer.in_features) ** 0.5, generator=generator)
                    layer.bias.zero_()
