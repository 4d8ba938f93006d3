"""Describe a photo by a network's plain layers, in NumPy: slower than torch for many photos, quicker to begin.

Maps are (h, w, C), channels last. `plain_layers` writes the file; a test compares the two on every known network.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfm2tuples.errors import UNREADABLE_ARRAYS, FileFormatError, PhotoError

FORMAT, VERSION = "sfm2tuples-layers", 1
GATHERED = 32
"""Channels below which the pixels under a kernel are gathered for one product, in place of one product each."""


@dataclass(frozen=True)
class PlainNetwork:
    """A network as a list of layers."""

    plan: dict[str, Any]
    """The layers, and what is done before and after them; `layers` is None where torch is needed."""
    weights: dict[str, np.ndarray]
    """Arrays by the names that the plan has for them."""

    @property
    def runs(self) -> bool:
        """Whether it can describe photos."""
        return self.plan["layers"] is not None

    @property
    def network(self) -> str:
        """Fingerprint of the network that it was made from."""
        return str(self.plan["network"])

    def describe(self, photo: np.ndarray, name: str = "photo") -> np.ndarray:
        """The descriptor of a photo.

        Parameters
        ----------
        photo : (H, W, 3) uint8
            RGB.
        name : str
            For messages.

        Returns
        -------
        (D,) float32, of norm 1

        Raises
        ------
        PhotoError
            The photo is smaller than the network can take.
        """
        height, width = photo.shape[:2]
        if min(height, width) < self.plan["smallest"]:
            raise PhotoError(name, f"{width} x {height} pixels are too few for this network")
        mean, std = (np.array(self.plan[key], np.float32) for key in ("mean", "std"))
        vector = _pooled(self.plan["pool"], self._map((photo / np.float32(255) - mean) / std), self.weights)
        vector = _normalised(vector, self.plan["l2_eps"])
        layer = self.plan["whitening"]
        if layer is None:
            return vector
        return _normalised(self.weights[layer["weight"]] @ vector + self.weights[layer["bias"]], self.plan["l2_eps"])

    def _map(self, x: np.ndarray) -> np.ndarray:
        """The last map (h, w, K). A value is let go of after its last reader."""
        layers = self.plan["layers"]
        last = {value: number for number, layer in enumerate(layers) for value in layer["of"]}
        values = {0: x}
        for number, layer in enumerate(layers):
            inputs = [values[value] for value in layer["of"]]
            for value in layer["of"]:
                if last[value] == number:
                    values.pop(value, None)
            values[number + 1] = _LAYERS[layer["op"]](layer, inputs, self.weights)
        return values[len(layers)]


def read_layers(path: Path) -> PlainNetwork:
    """Read what `plain_layers.write_layers` wrote.

    Raises
    ------
    FileFormatError
        It is no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            plan = json.loads(str(arrays["plan"]))
            if plan["format"] != FORMAT or plan["version"] != VERSION:
                raise KeyError(FORMAT)
            return PlainNetwork(plan, {name: arrays[name] for name in arrays.files if name != "plan"})
    except UNREADABLE_ARRAYS as error:
        raise FileFormatError(path, "is not a list of layers", "run tune again") from error


def _convolution(layer: dict[str, Any], inputs: list[np.ndarray], weights: dict[str, np.ndarray]) -> np.ndarray:
    """(h, w, C) to (h', w', outputs)."""
    weight, stride = weights[layer["weight"]], layer["stride"]
    side, _, channels, outputs = weight.shape
    x = _padded(inputs[0], side, stride, layer["padding"])
    height, width = _sides(x, side, stride)
    if side == 1 and stride == 1:
        found = x.reshape(-1, channels) @ weight[0, 0]
    elif channels < GATHERED:
        found = np.concatenate(list(_taps(x, side, stride, height, width)), axis=2).reshape(height * width, -1)
        found = found @ weight.reshape(-1, outputs)
    else:
        found = np.zeros((height * width, outputs), np.float32)
        kernels = weight.reshape(-1, channels, outputs)
        for tap, kernel in zip(_taps(x, side, stride, height, width), kernels, strict=True):
            found += tap.reshape(-1, channels) @ kernel
    if layer["bias"] is not None:
        found += weights[layer["bias"]]
    return found.reshape(height, width, outputs)


def _depthwise(layer: dict[str, Any], inputs: list[np.ndarray], weights: dict[str, np.ndarray]) -> np.ndarray:
    """(h, w, C) to (h', w', C): a kernel for each channel."""
    weight, stride = weights[layer["weight"]], layer["stride"]
    side, _, channels = weight.shape
    x = _padded(inputs[0], side, stride, layer["padding"])
    height, width = _sides(x, side, stride)
    found = np.zeros((height, width, channels), np.float32)
    if layer["bias"] is not None:
        found += weights[layer["bias"]]
    product = np.empty((width, channels), np.float32)
    kernels = weight.reshape(-1, channels)
    # Row by row, so that what is added up stays in the cache: a third of the time of whole maps.
    for row in range(height):
        for i in range(side):
            line = x[row * stride + i]
            for j in range(side):
                np.multiply(line[j : j + stride * width : stride][:width], kernels[i * side + j], out=product)
                found[row] += product
    return found


def _max(layer: dict[str, Any], inputs: list[np.ndarray], weights: dict[str, np.ndarray]) -> np.ndarray:
    """The largest under a window; one that begins behind the last pixel is left out, as in torch."""
    side, stride, padding = layer["side"], layer["stride"], layer["padding"]
    x = inputs[0]
    sizes = []
    for length in x.shape[:2]:
        span = length + 2 * padding - side
        count = (-(-span // stride) if layer["ceil"] else span // stride) + 1
        if layer["ceil"] and (count - 1) * stride >= length + padding:
            count -= 1
        sizes.append(count)
    height, width = sizes
    whole = np.full(((height - 1) * stride + side, (width - 1) * stride + side, x.shape[2]), -np.inf, np.float32)
    rows, columns = (min(length, whole.shape[axis] - padding) for axis, length in enumerate(x.shape[:2]))
    whole[padding : padding + rows, padding : padding + columns] = x[:rows, :columns]
    taps = _taps(whole, side, stride, height, width)
    found = next(taps).copy()
    for tap in taps:
        np.maximum(found, tap, out=found)
    return found


def _relu(layer: dict[str, Any], inputs: list[np.ndarray], weights: dict[str, np.ndarray]) -> np.ndarray:
    return np.maximum(inputs[0], 0, out=inputs[0])


def _relu6(layer: dict[str, Any], inputs: list[np.ndarray], weights: dict[str, np.ndarray]) -> np.ndarray:
    return np.minimum(_relu(layer, inputs, weights), 6, out=inputs[0])


def _add(layer: dict[str, Any], inputs: list[np.ndarray], weights: dict[str, np.ndarray]) -> np.ndarray:
    return inputs[0] + inputs[1]


def _cat(layer: dict[str, Any], inputs: list[np.ndarray], weights: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate(inputs, axis=2)


_LAYERS = {
    "convolution": _convolution,
    "depthwise": _depthwise,
    "max": _max,
    "relu": _relu,
    "relu6": _relu6,
    "add": _add,
    "cat": _cat,
}
"""Name of a layer to what it does; a ReLU changes its input, which nothing else reads."""


def _pooled(pool: dict[str, Any], x: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """(h, w, K) to (K,)."""
    if pool["op"] == "mac":
        return np.asarray(x.max(axis=(0, 1)))
    if pool["op"] == "spoc":
        return np.asarray(x.mean(axis=(0, 1)))
    p = weights[pool["p"]]
    return np.asarray((np.maximum(x, np.float32(pool["eps"])) ** p).mean(axis=(0, 1)) ** (1 / p))


def _normalised(vector: np.ndarray, eps: float) -> np.ndarray:
    return (vector / (np.linalg.norm(vector) + eps)).astype(np.float32)


def _padded(x: np.ndarray, side: int, stride: int, padding: int | str) -> np.ndarray:
    """The map with zeros around; ``same`` is TensorFlow's, for stride 2: see `SameConv2d` of the lite networks."""
    if padding == 0:
        return x
    if isinstance(padding, int):
        around = ((padding, padding),) * 2
    else:
        around = tuple((side // 2 - 1 + length % 2, side // 2) for length in x.shape[:2])  # type: ignore[assignment]
    return np.pad(x, (*around, (0, 0)))


def _sides(x: np.ndarray, side: int, stride: int) -> tuple[int, int]:
    """Height and width of what a kernel makes of a padded map."""
    return (x.shape[0] - side) // stride + 1, (x.shape[1] - side) // stride + 1


def _taps(x: np.ndarray, side: int, stride: int, height: int, width: int) -> Any:
    """Views (height, width, C) of the map under each pixel of a kernel, row by row."""
    for i in range(side):
        for j in range(side):
            yield x[i : i + stride * height : stride, j : j + stride * width : stride][:height, :width]
