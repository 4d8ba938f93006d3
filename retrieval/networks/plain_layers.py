"""A network as a list of plain layers in a file, for those who run it without torch: `numpy_forward` does.

Loading torch takes longer than describing a photo. Whoever asks for one photo spares it so.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from retrieval.networks.backbones.efficientnet_lite import SameConv2d
from retrieval.networks.network import Network
from retrieval.networks.numpy_forward import FORMAT, VERSION
from retrieval.networks.poolings.gem import GEM_EPS, GeM
from retrieval.networks.poolings.mac import MAC
from retrieval.networks.poolings.spoc import SPoC
from sfm2tuples.files.atomic import write_atomically

LEAVES = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.MaxPool2d)
"""Modules that are layers; others are looked into."""
MAPPED = (nn.Conv2d, nn.MaxPool2d)
"""Layers that leave their input as it is; the others change it, or the layer before them."""
RELU = (torch.relu, torch.relu_, nn.functional.relu)
RELU6 = (nn.functional.relu6,)
ADD = (operator.add, operator.iadd, torch.add)


class _UnknownLayerError(Exception):
    """A network has a layer that is not written here."""


class _Tracer(fx.Tracer):
    """Looks into modules down to `LEAVES`."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is a layer."""
        return isinstance(m, LEAVES)


@dataclass
class _Layers:
    """The list as it grows; value 0 is the photo, and layer i gives value i + 1."""

    layers: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, op: str, of: Sequence[int], **values: Any) -> int:
        self.layers.append({"op": op, "of": list(of), **values})
        return len(self.layers)

    def keep(self, value: Tensor | np.ndarray) -> str:
        """Store an array; gives its name."""
        name = f"w{len(self.weights)}"
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        self.weights[name] = np.ascontiguousarray(array, np.float32)
        return name


def write_layers(path: Path, network: Network) -> bool:
    """Write a network's layers; say whether it has none but those that are known here, else the file says so.

    Parameters
    ----------
    path : Path
        A .npz.
    network : Network
        In evaluation mode.
    """
    found = _Layers()
    try:
        head = _layers_of(network, found)
    except (_UnknownLayerError, fx.proxy.TraceError):
        head, found = {"layers": None}, _Layers()
    plan = {"format": FORMAT, "version": VERSION, "network": network.fingerprint(), **head}
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez(file, plan=np.array(json.dumps(plan)), **found.weights)  # type: ignore[arg-type]
    return head["layers"] is not None


def _layers_of(network: Network, found: _Layers) -> dict[str, Any]:
    """Everything that a description of a photo takes."""
    if network.local_whitening is not None or network.description.photo_size or network.backbone.has_class_token:
        raise _UnknownLayerError
    pool = _pooling(network, found)
    graph = _Tracer().trace(network.backbone)
    values: dict[str, int] = {}
    read = _nodes_read(graph)
    for node in graph.nodes:
        if node.op == "placeholder":
            values[node.name] = 0
        elif node in read:
            values[node.name] = _layer(node, network.backbone, values, found)
    layer = network.whitening
    whitening = None if layer is None else {"weight": found.keep(layer.weight), "bias": found.keep(layer.bias)}
    return {
        "layers": found.layers,
        "mean": list(network.description.mean),
        "std": list(network.description.std),
        "l2_eps": network.description.l2_eps,
        "smallest": network.backbone.smallest,
        "pool": pool,
        "whitening": whitening,
    }


def _nodes_read(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that what comes out depends on: a backbone also asks for its photos' size, and may not need it."""
    read: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or node in read:
            read.update(node.all_input_nodes)
    return read


def _pooling(network: Network, found: _Layers) -> dict[str, Any]:
    pool = network.pool
    if isinstance(pool, GeM):
        return {"op": "gem", "p": found.keep(pool.p), "eps": GEM_EPS}
    if isinstance(pool, MAC):
        return {"op": "mac"}
    if isinstance(pool, SPoC):
        return {"op": "spoc"}
    raise _UnknownLayerError


def _layer(node: fx.Node, backbone: nn.Module, values: dict[str, int], found: _Layers) -> int:
    """Add the layer of a node; gives the number of its value."""
    changes = node.op == "call_module" and not isinstance(backbone.get_submodule(str(node.target)), MAPPED)
    if (changes or node.target in (*RELU, *RELU6)) and any(len(before.users) > 1 for before in node.all_input_nodes):
        raise _UnknownLayerError  # what it changes in place is read elsewhere
    if node.op == "call_module":
        return _module(backbone.get_submodule(str(node.target)), [_value(node.args[0], values)], found)
    if node.op != "call_function":
        raise _UnknownLayerError
    target: Callable[..., Any] = node.target  # type: ignore[assignment]
    if target is torch.cat:
        parts: Any = node.args[0]
        if (node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")) != 1:
            raise _UnknownLayerError
        return found.add("cat", [_value(part, values) for part in parts])
    if target in ADD:
        return found.add("add", [_value(part, values) for part in node.args])
    if target in RELU:
        return found.add("relu", [_value(node.args[0], values)])
    if target in RELU6:
        return found.add("relu6", [_value(node.args[0], values)])
    raise _UnknownLayerError


def _value(argument: Any, values: dict[str, int]) -> int:
    if not isinstance(argument, fx.Node):
        raise _UnknownLayerError
    return values[argument.name]


def _module(module: nn.Module, of: list[int], found: _Layers) -> int:
    if isinstance(module, nn.Conv2d):
        return _convolution(module, of, found)
    if isinstance(module, nn.BatchNorm2d):
        return _norm(module, of, found)
    if isinstance(module, nn.MaxPool2d):
        side, stride, padding = (_one(value) for value in (module.kernel_size, module.stride, module.padding))
        if _one(module.dilation) != 1:
            raise _UnknownLayerError
        return found.add("max", of, side=side, stride=stride, padding=padding, ceil=bool(module.ceil_mode))
    return found.add("relu6" if isinstance(module, nn.ReLU6) else "relu", of)


def _convolution(module: nn.Conv2d, of: list[int], found: _Layers) -> int:
    groups, inputs = module.groups, module.in_channels
    depthwise = groups == inputs == module.out_channels
    if (groups != 1 and not depthwise) or _one(module.dilation) != 1 or isinstance(module.padding, str):
        raise _UnknownLayerError
    # (kernel, kernel, inputs, outputs), or (kernel, kernel, channels) of a depthwise one.
    weight = module.weight.permute(2, 3, 1, 0).squeeze(2) if depthwise else module.weight.permute(2, 3, 1, 0)
    same = isinstance(module, SameConv2d)
    if not same and type(module) is not nn.Conv2d:
        raise _UnknownLayerError
    return found.add(
        "depthwise" if depthwise else "convolution",
        of,
        weight=found.keep(weight),
        bias=None if module.bias is None else found.keep(module.bias),
        stride=_one(module.stride),
        padding="same" if same else _one(module.padding),
    )


def _norm(module: nn.BatchNorm2d, of: list[int], found: _Layers) -> int:
    """Batch norm with its stored statistics: into the convolution before it, which is read by nothing else."""
    before = found.layers[of[0] - 1] if of[0] else {"op": ""}
    running_mean, running_var = module.running_mean, module.running_var
    if before["op"] not in ("convolution", "depthwise") or running_mean is None or running_var is None:
        raise _UnknownLayerError
    with torch.no_grad():
        scale = (module.weight.double() / torch.sqrt(running_var.double() + module.eps)).numpy()
        shift = (module.bias.double() - running_mean.double() * torch.from_numpy(scale)).numpy()
    bias = 0.0 if before["bias"] is None else found.weights[before["bias"]]
    found.weights[before["weight"]] = (found.weights[before["weight"]] * scale).astype(np.float32)
    before["bias"] = found.keep((bias * scale + shift).astype(np.float32))
    return of[0]


def _one(value: Any) -> int:
    """A size that is the same both ways."""
    sizes = set(value) if isinstance(value, tuple) else {value}
    if len(sizes) != 1:
        raise _UnknownLayerError
    return int(sizes.pop())
