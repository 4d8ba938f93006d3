"""Files of well-known retrievers, told by the names and shapes of their parameters.

Each family has a function from a state dict to a description and the same weights under our names. A file is of a
family where a parameter is in it that no other family has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from retrieval.networks.backbones import dinov2_names
from retrieval.networks.backbones.cropped_backbones import BEFORE_RELU, LAYER3
from retrieval.networks.backbones.torchvision_backbones import RESNETS
from retrieval.networks.backbones.vision_transformer import PATCH, UNNORMED, name_of_sizes
from retrieval.networks.description import NetworkDescription
from retrieval.networks.network import Network, network_to_fill
from retrieval.networks.retrievers.table import L2_OF_THEIRS
from retrieval.networks.weights import load_state
from retrieval.networks.wrapped_weights import WHOLE, uncompiled
from sfm2tuples.errors import UsageError, WeightsError

State = Mapping[str, Tensor]
Translated = tuple[NetworkDescription, dict[str, Tensor]]
"""What a family's function gives: a description without weights' origin, and the weights under our names."""

_CHAIN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""A ResNet's layers in a chain, by their number, to torchvision's names."""
_MARKS: dict[str, Callable[[State], Translated]]
_OF_DINOV2 = ("blocks.0.ls1.gamma", dinov2_names.MARK)


class _OtherSizes(ValueError):
    """Weights that are whole, of a network that is built otherwise than those that are known."""


def is_theirs(state: object) -> bool:
    """Whether a file's content is the state dict of a family that is known here."""
    return isinstance(state, Mapping) and any(mark in _bare(state) for mark in _MARKS)


def network_of_theirs(state: State, path: str | Path, photo_size: tuple[int, ...] = ()) -> Network:
    """The network of a state dict, in evaluation mode, on the CPU; `path` names it in messages.

    Raises
    ------
    WeightsError
        It is of no known family, or its weights do not fit one another.
    """
    bare = _bare(state)
    family = next((_MARKS[mark] for mark in _MARKS if mark in bare), None)
    if family is None:
        raise WeightsError(path, "has the parameters of no retriever that is known", "docs/networks.md lists them")
    try:
        description, weights = family(bare)
        name = Path(str(path)).name
        network = network_to_fill(
            NetworkDescription(**{**vars(description), "weights": name, "photo_size": photo_size})
        )
    except (UsageError, KeyError, IndexError, TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        what = f"looks like a retriever's weights, but builds no network ({error})"
        is_whole = isinstance(error, _OtherSizes)
        remedy = "docs/networks.md lists those that are known" if is_whole else "was it downloaded whole?"
        raise WeightsError(path, what, remedy) from error
    load_state(network, weights, path)
    return network.eval()


def resnet_of(state: State) -> str:
    """The ResNet that has these weights by torchvision's names, whole or without its last layer.

    Raises
    ------
    ValueError
        There is none.
    """
    bottleneck = "layer1.0.conv3.weight" in state
    blocks = tuple(
        len({name.split(".")[1] for name in state if name.startswith(f"layer{number}.")}) for number in (1, 2, 3, 4)
    )
    kept = blocks if blocks[3] else blocks[:3]
    for name, (whole, kind) in RESNETS.items():
        if whole[: len(kept)] == kept and kind == bottleneck:
            return name if blocks[3] else name + LAYER3
    raise _OtherSizes(f"a ResNet of {list(blocks)} blocks is unknown")


def _bare(state: State) -> dict[str, Tensor]:
    """Without what parallel training, `torch.compile` and a training program's own module put before names."""
    named = uncompiled({name: value for name, value in state.items() if isinstance(name, str)})
    bare = {name.removeprefix("module."): value for name, value in named.items()}
    if any(mark in bare for mark in _MARKS):
        return bare
    for prefix in WHOLE:
        part = _under(bare, prefix)
        marks = [mark for mark in _MARKS if mark in part]
        # A DINOv2 may be the backbone of a network that is not known: its head must not be left out unseen.
        if marks and (marks[0] not in _OF_DINOV2 or len(part) == len(bare)):
            return part
    return bare


def _megaloc(state: State) -> Translated:
    # Its first release, megaloc.torch, has ``backbone.model.``; the file on the hub has ``backbone.``.
    backbone, weights = _transformer(state, "backbone.model." if "backbone.model.cls_token" in state else "backbone.")
    return _with_salad(backbone, weights, state, "aggregator.agg.", _under(state, "aggregator.linear."))


def _salad(state: State) -> Translated:
    backbone, weights = _transformer(state, "backbone.model.")
    return _with_salad(backbone, weights, state, "aggregator.", {})


def _with_salad(
    backbone: str, weights: dict[str, Tensor], state: State, prefix: str, linear: Mapping[str, Tensor]
) -> Translated:
    head = _under(state, prefix)
    # Between their two layers stand a dropout and a ReLU, between ours a ReLU.
    for name, value in head.items():
        ours = "dustbin" if name == "dust_bin" else re.sub(r"^(score|cluster_features)\.3\.", r"\1.2.", name)
        weights[f"pool.{ours}"] = value
    weights |= {f"pool.linear.{name}": value for name, value in linear.items()}
    hidden, cluster_dim = len(head["cluster_features.0.weight"]), len(head["cluster_features.3.weight"])
    sizes = (cluster_dim, len(head["token_features.2.weight"]), hidden, len(linear["weight"]) if linear else 0)
    clusters = len(head["score.3.weight"])
    return _description(backbone, "salad", sizes, clusters), weights


def _boq(state: State) -> Translated:
    head = _under(state, "aggregator.")
    if "backbone.dino.cls_token" in state:
        backbone, weights = _transformer(state, "backbone.dino.", UNNORMED)
    else:
        backbone, weights = _chained_resnet(state, "backbone.net.")
    weights |= {f"pool.{name}": value for name, value in head.items()}
    layers = 1 + max(int(name.split(".")[1]) for name in head if name.startswith("boqs."))
    sizes = (len(head["proj_c.weight"]), head["boqs.0.queries"].shape[1], layers, len(head["fc.weight"]))
    return _description(backbone, "boq", sizes), weights


def _mixvpr(state: State) -> Translated:
    resnet, head = _under(state, "backbone.model."), _under(state, "aggregator.")
    weights = {f"backbone.{name}": value for name, value in resnet.items() if not name.startswith("fc.")}
    places = {"0": "norm", "1": "first", "3": "second"}
    for name, value in head.items():
        found = re.fullmatch(r"mix\.(\d+)\.mix\.([013])\.(\w+)", name)
        weights[f"pool.mix.{found[1]}.{places[found[2]]}.{found[3]}" if found else f"pool.{name}"] = value
    depth = 1 + max(int(name.split(".")[1]) for name in head if name.startswith("mix."))
    side = round(len(head["mix.0.mix.0.weight"]) ** 0.5)
    sizes = (side, len(head["channel_proj.weight"]), len(head["row_proj.weight"]), depth)
    return _description(resnet_of(resnet), "mixvpr", sizes), weights


def _cosplace(state: State) -> Translated:
    if "backbone.1.weight" in state:
        backbone, weights = _chained_resnet(state, "backbone.")
    else:
        backbone = f"vgg16{BEFORE_RELU}"
        weights = {f"backbone.features.{name}": value for name, value in _under(state, "backbone.").items()}
    weights["pool.gem.p"] = state["aggregation.1.p"]
    weights |= {f"pool.linear.{name}": value for name, value in _under(state, "aggregation.3.").items()}
    return _description(backbone, "cosplace", (len(state["aggregation.3.weight"]),)), weights


def _dinov2(state: State) -> Translated:
    backbone, weights = _transformer(dinov2_names.by_authors_names(state), "")
    return _description(backbone, "cls"), weights


_MARKS = {
    "aggregator.agg.dust_bin": _megaloc,
    "aggregator.dust_bin": _salad,
    "aggregator.boqs.0.queries": _boq,
    "aggregator.mix.0.mix.0.weight": _mixvpr,
    "aggregation.3.weight": _cosplace,
    **dict.fromkeys(_OF_DINOV2, _dinov2),
}
"""A parameter that no other family has, to its family."""


def _description(backbone: str, pooling: str, sizes: tuple[int, ...] = (), clusters: int = 0) -> NetworkDescription:
    return NetworkDescription(backbone, pooling, l2_eps=L2_OF_THEIRS, clusters=clusters, pooling_sizes=sizes)


def _under(state: State, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _transformer(state: State, prefix: str, end: str = "") -> tuple[str, dict[str, Tensor]]:
    """Name and weights of a DINOv2: a head of attention has 64 channels, of narrow ones 32."""
    weights = _under(state, prefix)
    width, patch = weights["patch_embed.proj.weight"].shape[0], weights["patch_embed.proj.weight"].shape[-1]
    if patch != PATCH:
        raise _OtherSizes(f"patches of {patch} pixels, not {PATCH}")
    if "register_tokens" in weights or "reg_token" in weights:
        raise _OtherSizes("it has register tokens; --backbone timm:NAME has DINOv2 with them")
    depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    grid = round((weights["pos_embed"].shape[1] - 1) ** 0.5)
    name = name_of_sizes(width, depth, width // (64 if width % 64 == 0 else 32), grid) + end
    unused = ("mask_token", "norm.") if end else ("mask_token",)
    return name, {f"backbone.{key}": value for key, value in weights.items() if not key.startswith(unused)}


def _chained_resnet(state: State, prefix: str) -> tuple[str, dict[str, Tensor]]:
    """Name and weights of a ResNet whose layers are numbered in a chain."""
    renamed = {}
    for name, value in _under(state, prefix).items():
        number, _, rest = name.partition(".")
        renamed[f"{_CHAIN[number]}.{rest}"] = value
    return resnet_of(renamed), {f"backbone.{name}": value for name, value in renamed.items()}
