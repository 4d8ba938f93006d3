"""Our networks' weights under the names that well-known retrievers' files have, for tests that need no such file."""

from __future__ import annotations

import re

from torch import Tensor

from retrieval.networks.network import Network, build_network

_CHAIN = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
SALAD = (
    (r"^pool\.dustbin$", "aggregator.dust_bin"),
    (r"^pool\.(score|cluster_features)\.2\.", r"aggregator.\1.3."),
    (r"^pool\.", "aggregator."),
)
NAMES = {
    "megaloc": (
        *((before, after.replace("aggregator.", "aggregator.agg.")) for before, after in SALAD[:2]),
        (r"^pool\.linear\.", "aggregator.linear."),
        (r"^pool\.", "aggregator.agg."),
    ),
    "salad": ((r"^backbone\.", "backbone.model."), *SALAD),
    "boq": ((r"^backbone\.", "backbone.dino."), (r"^pool\.", "aggregator.")),
    "mixvpr": (
        (r"^backbone\.", "backbone.model."),
        (r"^pool\.mix\.(\d+)\.norm\.", r"aggregator.mix.\1.mix.0."),
        (r"^pool\.mix\.(\d+)\.first\.", r"aggregator.mix.\1.mix.1."),
        (r"^pool\.mix\.(\d+)\.second\.", r"aggregator.mix.\1.mix.3."),
        (r"^pool\.", "aggregator."),
    ),
    "cosplace": ((r"^pool\.gem\.p$", "aggregation.1.p"), (r"^pool\.linear\.", "aggregation.3.")),
    "dinov2": ((r"^backbone\.", ""),),
}
"""Family to what of a name becomes what; the first that fits counts. CosPlace numbers a ResNet's layers besides."""
SMALL = "vit14:64-2-1-3"
"""A transformer of 64 channels, with a head of 64."""


def small_network(family: str) -> Network:
    """A small network of that family, with random weights."""
    sizes: dict[str, int] = {"cluster-dim": 6, "token-dim": 5, "hidden": 7}
    if family in ("megaloc", "salad"):
        return build_network(
            SMALL, "salad", clusters=3, pooling_sizes=sizes | ({"output": 9} if family == "megaloc" else {})
        )
    if family == "boq":
        return build_network(f"{SMALL}_unnormed", "boq", pooling_sizes={"width": 64, "queries": 3, "rows": 2})
    if family == "mixvpr":
        few = {"side": 4, "channels": 6, "rows": 2, "depth": 2}
        return build_network("resnet50_layer3", "mixvpr", pooling_sizes=few)
    if family == "cosplace":
        return build_network("resnet18", "cosplace", pooling_sizes={"output": 32})
    return build_network(SMALL, "cls")


def their_state(network: Network, family: str) -> dict[str, Tensor]:
    """The weights as the family's makers save them."""
    return {_theirs(name, family): value.clone() for name, value in network.state_dict().items()}


def _theirs(name: str, family: str) -> str:
    found = re.match(r"backbone\.(\w+)\.", name)
    if family == "cosplace" and found:
        return f"backbone.{_CHAIN[found[1]]}.{name[found.end() :]}"
    for before, after in NAMES[family]:
        if re.search(before, name):
            return re.sub(before, after, name)
    return name
