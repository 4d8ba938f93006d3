"""What is in a checkpoint: its network, its rounds, and what training kept beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrieval.networks.network import Network

Facts = dict[str, Any]
"""Label to value. Where every value is `Facts` too, it is a table with a row for each."""
IN_FOLDERS = ("best.pt", "last.pt", "model.safetensors")
"""The networks of a run's folder, the one to use first; and that of an exported one."""


def network_of_run(path: Path) -> Path:
    """The network to use of a run's folder, or of an exported one; any other path stays what it is."""
    return next((path / name for name in IN_FOLDERS if (path / name).is_file()), path) if path.is_dir() else path


def header_facts(
    path: Path, format: str, version: int, software: str, fingerprint: str, parents: Sequence[str]
) -> Facts:
    """What every file of ours says of itself."""
    return {
        "name": path.name,
        "format": format,
        "version": version,
        "bytes": path.stat().st_size,
        "fingerprint": fingerprint,
        "software": software,
        "parents": list(parents),
    }


def checkpoint_facts(path: Path) -> dict[str, Facts]:
    """What a checkpoint holds, in sections: ours with its run, or one of another program; errors as for inspect."""
    from retrieval.networks.checkpoints import checked_content
    from retrieval.networks.choice import network_file_content
    from retrieval.networks.cirtorch_checkpoints import is_cirtorch
    from retrieval.networks.retrievers.by_name import retriever_of_file, retriever_state
    from retrieval.networks.retrievers.dirtorch_checkpoints import is_dirtorch

    content = network_file_content(path)
    if is_cirtorch(content) or is_dirtorch(content):
        return _foreign_checkpoint(path, "cirtorch" if is_cirtorch(content) else "dirtorch")
    state = retriever_state(content)
    if state is not None:
        file = {"name": path.name, "format": "weights of a known retriever", "bytes": path.stat().st_size}
        return {"file": file, "network": _network(retriever_of_file(state, path))}
    checkpoint = checked_content(content, path)
    format, version, software, fingerprint = (checkpoint[k] for k in ("format", "version", "software", "fingerprint"))
    file = header_facts(path, format, version, software, fingerprint, checkpoint.get("parents", ()))
    parameters = sum(tensor.numel() for tensor in checkpoint["weights"].values())
    network = {**checkpoint["network"], "parameters": parameters}
    sections = {"file": file, "network": network, "training": _plain(_without(checkpoint, file))}
    if "options" in checkpoint:
        sections["options"] = _plain(checkpoint["options"])
    sections |= _kept_beside(checkpoint)
    # The newest round first: a long run is cut short where it is printed.
    history = checkpoint.get("history", [])[::-1]
    # A figure that some rounds have not is empty there, as the gap is where a run was begun by an earlier version.
    names = dict.fromkeys(name for row in history for name in row if name != "round")
    rows = {f"round {row['round']}": _plain({name: row.get(name, "") for name in names}) for row in history}
    return {**sections, "rounds": rows}


def _kept_beside(checkpoint: Facts) -> dict[str, Facts]:
    """What was chosen between start and end, and what the run keeps beside its network; nothing where it has neither.

    A checkpoint of the merged network alone says of LoRA and averages what its options say.
    """
    sections = {"interpolated": _between(checkpoint.get("interpolated"))}
    beside = checkpoint.get("adaptation")
    if isinstance(beside, dict):
        factors = [list(_numbers(factor)) for factor in _values(beside.get("factors"))]
        kept: Facts = {}
        if factors:
            kept = {"projections that learn by lora": len(factors), "numbers kept for them": sum(map(sum, factors))}
        if stepped := sum(_numbers(beside.get("stepped"))):
            kept |= {"numbers that are averaged": stepped}
        sections["kept beside the network"] = kept
    return {title: section for title, section in sections.items() if section}


def _between(chosen: Any) -> Facts:
    """Which share was kept between which ends, and what was measured; nothing of what is not such a choice."""
    if not isinstance(chosen, dict) or not {"kept", "end", "shares", "val_maps"} <= chosen.keys():
        return {}
    shares, maps = _values(chosen["shares"]), _values(chosen["val_maps"])
    measured = {f"val mAP at {share}": value for share, value in zip(shares, maps, strict=False)}
    ends = f"the network before training (0) and round {chosen['end']} (1)"
    return _plain({"share": chosen["kept"], "between": ends, **measured})


def _values(found: Any) -> list[Any]:
    """The values of a dict or a sequence; none of anything else."""
    return list(found.values() if isinstance(found, dict) else found) if isinstance(found, (dict, list, tuple)) else []


def _numbers(tensors: Any) -> Iterator[int]:
    """How many numbers each tensor of a dict holds."""
    return (value.numel() for value in _values(tensors) if hasattr(value, "numel"))


def _foreign_checkpoint(path: Path, maker: str) -> dict[str, Facts]:
    from retrieval.networks.retrievers.dirtorch_checkpoints import read_checkpoint_with_whitenings

    found = read_checkpoint_with_whitenings(path)
    file = {"name": path.name, "format": f"checkpoint of {maker}", "bytes": path.stat().st_size}
    whitenings = [f"{name} {kind}" for name, kinds in found.whitenings.items() for kind in kinds]
    training = {"epoch": found.epoch, "whitenings": whitenings}
    return {"file": file, "network": _network(found.network), "training": training}


def _network(network: Network) -> Facts:
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {**network.description.to_dict(), "parameters": parameters, "fingerprint": network.fingerprint()}


def _without(values: Facts, keys: Iterable[str]) -> Facts:
    return {key: value for key, value in values.items() if key not in set(keys)}


def _plain(values: Facts) -> Facts:
    """What can be read at a glance: numbers and text, not tensors nor the optimiser's state; None for NaN."""
    shown = {
        key: list(value) if isinstance(value, (list, tuple)) else value
        for key, value in values.items()
        if isinstance(value, (bool, int, float, str)) or _is_words(value)
    }
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in shown.items()
    }


def _is_words(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(item, str) for item in value)
