"""Networks of cirtorch (filipradenovic/cnnimageretrieval-pytorch): their `.pth` files, read and written.

A file holds `meta` (architecture, pooling and so on), `state_dict`, and in published ones `meta["Lw"]`: whitenings by
data set, each for a single scale (`ss`) and for several (`ms`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrieval.networks.description import IMAGENET_MEAN, IMAGENET_STD, L2_EPS, Colour, NetworkDescription
from retrieval.networks.network import Network, network_to_fill
from retrieval.networks.weights import load_state, load_torch_file, save_torch_file
from retrieval.whitening.projection import Whitening, check_applicable
from sfm2tuples.errors import UsageError, WeightsError, shown

ARCHITECTURES = ("alexnet", "vgg16", "resnet18", "resnet50", "resnet101", "resnet152", "squeezenet1_1")
"""Backbones that cirtorch and we both have."""
POOLINGS = {"mac": "mac", "spoc": "spoc", "gem": "gem", "gemmp": "gem-channels", "rmac": "rmac"}
"""Their name of a pooling to ours."""
SCALES = {"ss": (1.0,), "ms": (1.0, 2 ** (-1 / 2), 1 / 2)}
"""Scales that a whitening was learned at, by their name."""
THEIR_DATA_SETS = ("retrieval-SfM-120k", "retrieval-SfM-30k")
"""Names that cirtorch's test takes as `--whitening`; it takes no others."""
WHITENING_SIZE = 1024
"""Longest side in pixels that their whitenings are learned at (method.md section 9)."""

_reconstruct, _scalar = np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]
_NUMPY: list[Any] = [
    *((_reconstruct, f"{module}.multiarray._reconstruct") for module in ("numpy.core", "numpy._core")),
    *((_scalar, f"{module}.multiarray.scalar") for module in ("numpy.core", "numpy._core")),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")),
]
"""What a pickle of plain numeric arrays names; together with tensors, all that such a file may hold."""

_RESNET = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
"""Torchvision's names of the layers that are `features.0`, `features.1`, … there."""
_WHOLE = {"local_whitening.": "lwhiten.", "whitening.": "whiten."}
_REGIONAL = {"pool.pool.": "pool.rpool.", "pool.projection.": "pool.whiten."}
"""Beginnings of our names of weights to theirs, of any network and of one with regions; `pool.p` is the same."""

Whitenings = dict[str, dict[str, Whitening]]
"""Data set to ``ss`` or ``ms`` to whitening."""


@dataclass(frozen=True)
class CirtorchCheckpoint:
    """What a file of cirtorch holds."""

    network: Network
    """In evaluation mode, on the CPU."""
    whitenings: Whitenings = field(default_factory=dict)
    """Of `meta["Lw"]`; empty where it has none."""
    epoch: int = 0
    """How long it was trained; 0 where it does not say."""


def read_cirtorch_checkpoint(path: str | Path) -> CirtorchCheckpoint:
    """Read a network of cirtorch with its whitenings, without running any code that the file may hold.

    Raises
    ------
    WeightsError
        Absent, torn, no checkpoint of cirtorch, or a network that we have not.
    """
    content = load_with_arrays(path)
    if not is_cirtorch(content):
        raise WeightsError(path, "is no checkpoint of cirtorch: it has no meta and state_dict")
    network = cirtorch_network(content, path)
    epoch = content.get("epoch") or 0
    if not isinstance(epoch, (int, float)) or not 0 <= epoch < 1 << 31:
        raise WeightsError(path, f"its epoch is {shown(epoch)}, not how often it was trained")
    return CirtorchCheckpoint(network, _whitenings(content["meta"], network, path), int(epoch))


def write_cirtorch_checkpoint(
    path: str | Path, network: Network, whitenings: Whitenings | None = None, epoch: int = 0
) -> None:
    """Write a network so that cirtorch loads it (`--network-path`), atomically; the whitenings become `meta["Lw"]`.

    No state of an optimiser is written: cirtorch describes and evaluates with the file, and does not resume from it.

    Raises
    ------
    UsageError
        cirtorch has no such network; a whitening is for descriptors of another dimension.
    """
    _refuse_unknown_there(network)
    for kinds in (whitenings or {}).values():
        for whitening in kinds.values():
            check_applicable(whitening, network.dimension)
    meta = _meta(network.description, network.dimension)
    if whitenings:
        meta["Lw"] = {
            name: {
                # Their code computes P[:dim, :] @ (X - m) by NumPy. A list and a tensor serve it, and are loaded
                # with weights_only, PyTorch's default now, which refuses arrays of NumPy.
                kind: {
                    "m": whitening.mean[:, None].astype(np.float64).tolist(),
                    "P": torch.from_numpy(np.ascontiguousarray(whitening.projection, np.float64)),
                }
                for kind, whitening in kinds.items()
            }
            for name, kinds in whitenings.items()
        }
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    content = {
        "epoch": epoch,
        "meta": meta,
        "state_dict": _renamed(state, network.description),
        "min_loss": math.inf,
    }
    save_torch_file(path, content)


def chosen_whitening(
    checkpoint: CirtorchCheckpoint, path: str | Path, learned_on: str | None, scales: str
) -> Whitening:
    """The whitening learned on a data set at ``ss`` or ``ms``; `learned_on` may be left out where there is one.

    Raises
    ------
    WeightsError
        It has none.
    UsageError
        It has several and none is named, or not the one that is.
    """
    found = checkpoint.whitenings
    if not found:
        raise WeightsError(path, "has no whitening in its meta")
    if learned_on is None and len(found) > 1:
        raise UsageError(f"{path}: has whitenings of {', '.join(sorted(found))}; choose one by --learned-on")
    name = next(iter(found)) if learned_on is None else learned_on
    if scales not in found.get(name, {}):
        have = ", ".join(f"{name} {kind}" for name in sorted(found) for kind in sorted(found[name]))
        raise UsageError(f"{path}: has no whitening of {name} {scales}; it has {have}")
    return found[name][scales]


def at_both_scales(learned: Sequence[Whitening]) -> dict[str, Whitening]:
    """Whitenings by `scales_name`; where one of the two names lacks its own, the other's serves it too.

    Raises
    ------
    UsageError
        Two of them are for the same scales.
    """
    found = {scales_name(whitening): whitening for whitening in learned}
    if len(found) < len(learned):
        raise UsageError("--whitening: at most one file of a single scale, and one of several")
    return {kind: found.get(kind, learned[0]) for kind in SCALES}


def scales_name(whitening: Whitening) -> str:
    """``ms`` for a whitening that was learned at several scales, else ``ss``."""
    return "ms" if len(whitening.settings.get("scales", ())) > 1 else "ss"


def load_with_arrays(path: str | Path) -> Any:
    """`weights.load_torch_file` for files that may hold numeric arrays of NumPy beside tensors."""
    with torch.serialization.safe_globals(_NUMPY):
        return load_torch_file(path)


def is_cirtorch(content: Any) -> bool:
    """Whether a file's content is a checkpoint of cirtorch."""
    if not isinstance(content, dict):
        return False
    meta = content.get("meta")
    return isinstance(content.get("state_dict"), Mapping) and isinstance(meta, dict) and "architecture" in meta


def cirtorch_network(content: dict[str, Any], path: str | Path) -> Network:
    """The network of a file's content; `path` names it in messages.

    Raises
    ------
    WeightsError
        It is a network that we have not, or its weights do not fit it.
    """
    state = {
        name: value
        for name, value in content["state_dict"].items()
        if isinstance(value, Tensor) and isinstance(name, str)
    }
    try:
        network = network_to_fill(_description(content["meta"], state, path))
    except (UsageError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(path, f"its meta builds no network ({error})") from error
    load_state(network, _renamed(state, network.description, back=True), path)
    return network.eval()


def _description(meta: dict[str, Any], state: Mapping[str, Tensor], path: str | Path) -> NetworkDescription:
    """Their meta in our words; keys that older files lack count as off, as they do there."""
    architecture, pooling, regional = meta.get("architecture"), meta.get("pooling"), bool(meta.get("regional"))
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        what = f"is a network of cirtorch with architecture {shown(architecture)}"
        raise WeightsError(path, what, f"known are {', '.join(ARCHITECTURES)}")
    if not isinstance(pooling, str) or pooling not in POOLINGS or (regional and pooling == "rmac"):
        raise WeightsError(path, f"is a network of cirtorch with pooling {shown(pooling)}{' of regions' * regional}")
    whitening = state.get("whiten.weight") if meta.get("whitening") else None
    return NetworkDescription(
        backbone=architecture,
        pooling=POOLINGS[pooling],
        # Their R-MAC and their regions both begin with the whole map.
        whole_image=pooling == "rmac" or regional,
        mean=_three(meta.get("mean", IMAGENET_MEAN)),
        std=_three(meta.get("std", IMAGENET_STD)),
        weights=f"cirtorch {Path(path).name}",
        regional=regional,
        local_whitening=bool(meta.get("local_whitening")),
        output_dim=0 if whitening is None else len(whitening),
        prepared="by cirtorch" if regional else "",
    )


def _meta(description: NetworkDescription, dimension: int) -> dict[str, Any]:
    theirs = {ours: name for name, ours in POOLINGS.items()}
    return {
        "architecture": description.backbone,
        "local_whitening": description.local_whitening,
        "pooling": theirs[description.pooling],
        "regional": description.regional,
        "whitening": description.output_dim > 0,
        "mean": list(description.mean),
        "std": list(description.std),
        "outputdim": dimension,
    }


def _refuse_unknown_there(network: Network) -> None:
    description = network.description
    if description.backbone not in ARCHITECTURES or description.pooling not in POOLINGS.values():
        raise UsageError(f"cirtorch has no network of {description.backbone} with {description.pooling}")
    regions = description.regional or description.pooling == "rmac"
    if regions and not description.whole_image:
        raise UsageError("cirtorch's regions begin with the whole image, this network's do not (--whole-image)")
    if description.output_dim not in (0, network.pooled_dimension):
        dims = f"{network.pooled_dimension} to {description.output_dim}"
        raise UsageError(f"cirtorch's whitening layer keeps the dimension; this network's goes from {dims}")
    if description.photo_size:
        size = "x".join(map(str, description.photo_size))
        raise UsageError(f"cirtorch sees photos in their own shape, this network warps them to {size} pixels")
    if description.l2_eps != L2_EPS:
        raise UsageError(f"cirtorch divides by the norm plus {L2_EPS:g}, this network plus {description.l2_eps:g}")


def _whitenings(meta: dict[str, Any], network: Network, path: str | Path) -> Whitenings:
    found: Whitenings = {}
    settings = {
        "image_size": WHITENING_SIZE,
        "backbone": network.description.backbone,
        "pooling": network.description.pooling,
        "network": network.fingerprint(),
    }
    try:
        for name, kinds in meta.get("Lw", {}).items():
            for kind, values in kinds.items():
                mean, projection = _numbers(values["m"]).ravel(), _numbers(values["P"])
                if projection.ndim != 2 or projection.shape[1] != len(mean):
                    raise ValueError(f"m of {mean.shape} and P of {projection.shape} are no whitening")
                scales = [float(scale) for scale in SCALES[kind]]
                whitening = Whitening(mean, projection, "lw", 0.0, {**settings, "scales": scales})
                if not isinstance(name, str):
                    raise ValueError("the name of a data set is no text")
                found.setdefault(name, {})[kind] = whitening
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(path, f"the whitenings of its meta cannot be understood ({error})") from error
    return found


def _numbers(values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise ValueError(f"values of type {array.dtype} that are no finite numbers")
    return array.astype(np.float64)


def _three(values: Any) -> Colour:
    first, second, third = (float(value) for value in values)
    return first, second, third


def _renamed(state: Mapping[str, Tensor], description: NetworkDescription, back: bool = False) -> dict[str, Tensor]:
    """A network's state under cirtorch's names, or back; names that are unknown stay, and are refused at loading."""
    prefixes = dict(_WHOLE)
    if description.regional:
        prefixes |= _REGIONAL
    if description.backbone.startswith("resnet"):
        prefixes |= {f"backbone.{name}.": f"features.{number}." for number, name in enumerate(_RESNET)}
    else:
        prefixes["backbone.features."] = "features."
    if back:
        prefixes = {theirs: ours for ours, theirs in prefixes.items()}
    return {_with_prefix(name, prefixes): value for name, value in state.items()}


def _with_prefix(name: str, prefixes: Mapping[str, str]) -> str:
    for before, after in prefixes.items():
        if name.startswith(before):
            return after + name.removeprefix(before)
    return name
