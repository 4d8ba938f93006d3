"""AP-GeM's networks: files of dirtorch (naver/deep-image-retrieval), such as ``Resnet-101-AP-GeM.pt``.

A file holds `state_dict` (a ResNet with torchvision's names, ``adpool.p``, ``fc.*``), `model_options`, and whitenings
under `pca`, one a data set: each is a PCA of scikit-learn, pickled. Of such an object only its arrays are read; nothing
of scikit-learn is called or needed. The format is known from its users' reports; no file was at hand to prove it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrieval.networks.cirtorch_checkpoints import (
    CirtorchCheckpoint,
    Whitenings,
    is_cirtorch,
    load_with_arrays,
    read_cirtorch_checkpoint,
)
from retrieval.networks.description import NetworkDescription
from retrieval.networks.network import Network, network_to_fill
from retrieval.networks.retrievers.table import L2_OF_THEIRS
from retrieval.networks.retrievers.their_files import resnet_of
from retrieval.networks.weights import load_state
from retrieval.whitening.projection import Whitening
from sfm2tuples.errors import UsageError, WeightsError

POWER = 0.25
"""Power of the variances that divides a whitened descriptor: what its makers call whitenp and use for this network."""
_EXPONENT, _LAYER = "adpool.p", "fc.weight"


class PickledPCA:
    """What stands in for scikit-learn's PCA in a pickle: its values by name, and no function of it."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        """Take the values."""
        if not isinstance(state, dict):
            raise ValueError("a PCA without values")
        self.values = state


_STAND_INS = [(PickledPCA, f"sklearn.decomposition.{module}.PCA") for module in ("pca", "_pca")]
"""The class under the names that it had in scikit-learn's versions."""


def load_checkpoint_content(path: str | Path) -> Any:
    """What a file of PyTorch holds: tensors, plain values, NumPy's arrays and PCAs; nothing of it is run.

    Raises
    ------
    WeightsError
        Absent, torn, or with other content.
    """
    with torch.serialization.safe_globals(_STAND_INS):  # type: ignore[arg-type]
        return load_with_arrays(path)


def is_dirtorch(content: Any) -> bool:
    """Whether a file's content is a checkpoint of dirtorch."""
    state = content.get("state_dict") if isinstance(content, dict) else None
    return isinstance(state, Mapping) and {_EXPONENT, _LAYER} <= _bare(state).keys()


def dirtorch_network(content: dict[str, Any], path: str | Path) -> Network:
    """The network of a file's content, in evaluation mode; `path` names it in messages.

    Raises
    ------
    WeightsError
        It is a network that we have not, or its weights do not fit it.
    """
    state = _bare(content["state_dict"])
    weights = {f"backbone.{name}": value for name, value in state.items() if not name.startswith(("fc.", "adpool."))}
    weights |= {"pool.gem.p": state[_EXPONENT].reshape(-1)}
    weights |= {f"pool.linear.{name[3:]}": value for name, value in state.items() if name.startswith("fc.")}
    try:
        backbone, sizes = resnet_of(state), (len(state[_LAYER]),)
        origin = f"dirtorch {Path(path).name}"
        description = NetworkDescription(backbone, "ap-gem", l2_eps=L2_OF_THEIRS, weights=origin, pooling_sizes=sizes)
        network = network_to_fill(description)
    except (UsageError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(path, f"is a network of dirtorch that is not known here ({error})") from error
    load_state(network, weights, path)
    return network.eval()


def read_checkpoint_with_whitenings(path: str | Path) -> CirtorchCheckpoint:
    """A checkpoint of cirtorch or dirtorch with its whitenings.

    Raises
    ------
    WeightsError
        Absent, torn, of neither, or a network that we have not.
    """
    content = load_checkpoint_content(path)
    if is_cirtorch(content) or not is_dirtorch(content):
        return read_cirtorch_checkpoint(path)
    network = dirtorch_network(content, path)
    return CirtorchCheckpoint(network, _whitenings(content.get("pca"), network, path))


def _whitenings(pcas: object, network: Network, path: str | Path) -> Whitenings:
    """Of a single scale: rows are the components over the variances' `POWER`."""
    settings = {
        "backbone": network.description.backbone,
        "pooling": network.description.pooling,
        "network": network.fingerprint(),
        "scales": [1.0],
    }
    found: Whitenings = {}
    try:
        for name, pca in pcas.items() if isinstance(pcas, Mapping) else ():
            mean, components, variance = (
                np.asarray(pca.values[key], np.float64) for key in ("mean_", "components_", "explained_variance_")
            )
            projection = components / np.maximum(variance, 0)[:, None] ** POWER
            if projection.shape != (len(variance), network.dimension) or mean.shape != (network.dimension,):
                raise ValueError(f"components of {components.shape} for {network.dimension} dimensions")
            if not (np.isfinite(projection).all() and np.isfinite(mean).all()):
                raise ValueError("values that are no finite numbers")
            found[str(name)] = {"ss": Whitening(mean, projection, "pca", 0.0, settings)}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(path, f"the whitenings under pca cannot be understood ({error})") from error
    return found


def _bare(state: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Tensors by name, without ``module.`` before it."""
    return {
        name.removeprefix("module."): value
        for name, value in state.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
