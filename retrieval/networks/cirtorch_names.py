"""Names of weights in cirtorch and here: they number a ResNet's layers, we call them as torchvision does."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

_RESNET = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
"""Torchvision's names of the layers that are `features.0`, `features.1`, … there."""
_WHOLE = {"local_whitening.": "lwhiten.", "whitening.": "whiten."}
_REGIONAL = {"pool.pool.": "pool.rpool.", "pool.projection.": "pool.whiten."}
"""Beginnings of our names to theirs; `pool.p` is the same."""


def to_cirtorch(state: Mapping[str, Tensor], backbone: str, regional: bool) -> dict[str, Tensor]:
    """A `Network`'s state under cirtorch's names."""
    return {_renamed(name, _prefixes(backbone, regional)): value for name, value in state.items()}


def to_ours(state: Mapping[str, Tensor], backbone: str, regional: bool) -> dict[str, Tensor]:
    """A state of cirtorch under the names of a `Network`; names that are unknown stay, and are refused at loading."""
    back = {theirs: ours for ours, theirs in _prefixes(backbone, regional).items()}
    return {_renamed(name, back): value for name, value in state.items()}


def _prefixes(backbone: str, regional: bool) -> dict[str, str]:
    pooling = _REGIONAL if regional else {}
    if not backbone.startswith("resnet"):
        return {"backbone.features.": "features.", **_WHOLE, **pooling}
    layers = {f"backbone.{name}.": f"features.{number}." for number, name in enumerate(_RESNET)}
    return {**layers, **_WHOLE, **pooling}


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    for before, after in prefixes.items():
        if name.startswith(before):
            return after + name[len(before) :]
    return name
