"""Checkpoints: a network with its description, and whatever training needs to go on, in one file.

Plain containers and tensors only, so that `torch.load(weights_only=True)` reads it and no code can hide in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from retrieval.networks.description import NetworkDescription
from retrieval.networks.network import Network, network_to_fill
from retrieval.networks.weights import CHECKPOINT_FORMAT, load_state, load_torch_file, save_torch_file
from retrieval.networks.wrapped_weights import named_tensors
from retrieval.photos.choices import STORED, UPRIGHT
from sfm2tuples.errors import UsageError, WeightsError, shown
from sfm2tuples.files.container import SOFTWARE

VERSION = 1
"""Version of the format; a reader refuses a newer one."""

_OF_TRAINING: dict[str, Any] = {"parents": [], "options": {}, "history": []}
"""Entries that training adds, and what each is where it is left out."""
_DIMENSIONS = ("clusters", "output_dim", "pooling_sizes")
"""Fields of a description that are a dimension of some weight, or several."""
_HEADER = {"format": str, "version": int, "software": str, "network": dict, "weights": dict, "fingerprint": str}


def save_checkpoint(path: str | Path, network: Network, **state: Any) -> None:
    """Write a network and the state of its training atomically; a file of that name is replaced.

    The state is whatever else to keep: None, bool, int, float, str, tensors, and lists, tuples and dicts of them.

    Raises
    ------
    TypeError
        Something in `state` is not plain, or has a name that the header uses.
    """
    taken = sorted(set(state) & _HEADER.keys())
    if taken:
        raise TypeError(f"{', '.join(taken)}: the checkpoint's own entries, not names for state")
    _require_plain(state, "state")
    content = {
        "format": CHECKPOINT_FORMAT,
        "version": VERSION,
        "software": SOFTWARE,
        "network": network.description.to_dict(),
        "weights": {name: value.detach().cpu() for name, value in network.state_dict().items()},
        "fingerprint": network.fingerprint(),
        # Only what is not the default: checkpoints that were made before there was a choice keep their bytes.
        **({} if network.upright == STORED else {"upright": network.upright}),
        **state,
    }
    save_torch_file(path, content)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint whole, on the CPU.

    Returns
    -------
    dict
        `network` (the description), `weights`, `fingerprint`, `software`, and the state that was saved.

    Raises
    ------
    WeightsError
        Absent, torn, newer than this program, or no checkpoint of ours.
    """
    return checked_content(load_torch_file(path), path)


def checked_content(content: Any, path: str | Path) -> dict[str, Any]:
    """What a file held, once it is known to be a checkpoint of ours; `path` names it in messages.

    Raises
    ------
    WeightsError
        It is none, newer than this program, or lacks an entry.
    """
    if not isinstance(content, dict) or content.get("format") != CHECKPOINT_FORMAT:
        remedy = "a backbone's weights go with --backbone NAME --weights FILE"
        if str(path).endswith(".safetensors"):
            remedy = f"an export's config.json must lie beside it; {remedy}"
        raise WeightsError(path, "is no checkpoint of sfm2tuples or cirtorch", remedy)
    missing = [name for name in _HEADER if name not in content]
    if missing:
        raise WeightsError(path, f"a checkpoint without {', '.join(missing)}")
    wrong = [name for name, kind in _HEADER.items() if not isinstance(content[name], kind)]
    if wrong:
        raise WeightsError(path, f"a checkpoint whose {', '.join(wrong)} cannot be understood")
    if content["version"] > VERSION:
        what = f"version {shown(content['version'])} of a checkpoint is newer than this program reads ({VERSION})"
        raise WeightsError(path, what, "upgrade")
    named_tensors(content["weights"], path)
    odd = _misunderstood(content)
    if odd:
        raise WeightsError(path, f"a checkpoint whose {odd} cannot be understood")
    return content


def network_of(checkpoint: dict[str, Any], path: str | Path) -> Network:
    """The network of a checkpoint that was read already; `path` names it in messages.

    Raises
    ------
    WeightsError
        The weights do not fit the description or its fingerprint.
    """
    try:
        network = network_to_fill(NetworkDescription.from_dict(checkpoint["network"]))
    except (UsageError, TypeError, ValueError, RuntimeError) as error:
        what = f"its description builds no network ({error})"
        raise WeightsError(path, what, "was it made by a newer version?") from error
    load_state(network, checkpoint["weights"], path)
    if network.fingerprint() != checkpoint["fingerprint"]:
        raise WeightsError(path, "its weights are not those that its fingerprint says", "make it again")
    network.upright = checkpoint.get("upright", STORED)
    if network.upright not in UPRIGHT:
        raise WeightsError(path, f"its upright is {shown(network.upright)}, not {' or '.join(UPRIGHT)}")
    return network.eval()


def _misunderstood(content: dict[Any, Any]) -> str:
    """The first entry of a checkpoint that is of another kind than we write; "" where there is none."""
    network, weights = content["network"], content["weights"]
    longest = max((size for value in weights.values() for size in value.shape), default=0)
    parents, options, history = (content.get(key, kind) for key, kind in _OF_TRAINING.items())
    checks = {
        # A layer without weights in the file is not made: a description of a few bytes would fill the memory.
        "network": _is_plain(network) and all(_is_size(network.get(key, 0), longest) for key in _DIMENSIONS),
        "parents": isinstance(parents, (list, tuple)) and all(isinstance(parent, str) for parent in parents),
        "options": isinstance(options, dict) and all(isinstance(key, str) for key in options),
        "history": isinstance(history, (list, tuple))
        and all(isinstance(row, dict) and _is_plain(row) and "round" in row for row in history),
    }
    others = {key: value for key, value in content.items() if not isinstance(value, (dict, list, tuple, Tensor))}
    numbers = {**(options if checks["options"] else {}), **others}
    checks |= {shown(key): _is_plain_value(value) for key, value in numbers.items() if isinstance(value, int)}
    return next((name for name, fits in checks.items() if not fits), "")


def _is_plain(values: dict[Any, Any]) -> bool:
    """Whether a dict from text to single values, or short lists of them, is what it should be."""
    items = [item for value in values.values() for item in (value if isinstance(value, (list, tuple)) else (value,))]
    return all(isinstance(key, str) for key in values) and all(map(_is_plain_value, items))


def _is_size(value: object, longest: int) -> bool:
    sizes = value if isinstance(value, (list, tuple)) else (value,)
    return all(isinstance(size, int) and 0 <= size <= longest for size in sizes)


def _is_plain_value(value: object) -> bool:
    if isinstance(value, int):
        return abs(value) < 1 << 63
    return value is None or isinstance(value, (float, str))


def _require_plain(value: Any, where: str) -> None:
    """Refuse at writing what `weights_only` would refuse at reading."""
    if value is None or type(value) in (bool, int, float, str) or isinstance(value, Tensor):
        return
    if type(value) in (list, tuple):
        for number, item in enumerate(value):
            _require_plain(item, f"{where}[{number}]")
    elif type(value) is dict:
        for key, item in value.items():
            _require_plain(key, f"a key of {where}")
            _require_plain(item, f"{where}[{key!r}]")
    else:
        raise TypeError(f"{where} is {type(value).__name__}: a checkpoint holds plain containers and tensors only")
