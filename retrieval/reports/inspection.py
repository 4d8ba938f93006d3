"""What is in any file of ours: those of `retrieval.reports.data_inspection`, and those that `retrieval` writes."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py

from retrieval.local_features import bag_of_words, feature_files
from retrieval.reports.data_inspection import Section, file_section
from retrieval.reports.data_inspection import inspect_file as inspect_hdf5
from retrieval.search import ranks_file
from retrieval.whitening import projection
from sfm2tuples.errors import DataError, FileFormatError

_REMEDY = (
    "inspect reads an index, tuples, descriptors, ranked lists, a whitening, features, a bag of words or a checkpoint"
)


def inspect_file(path: Path) -> dict[str, Section]:
    """Describe a file of ours by sections of plain values.

    Parameters
    ----------
    path : Path
        An index, tuples, descriptors, ranked lists, a whitening, features, a bag of words or a checkpoint.

    Raises
    ------
    DataError
        There is no such file, it is torn, newer than this program, or no file of ours.
    """
    if not path.is_file():
        raise DataError(path, "no such file")
    # PyTorch writes a zip archive; a torn or an old one is known by its suffix alone. All else of ours is HDF5.
    if path.suffix in (".pt", ".pth") or zipfile.is_zipfile(path):
        return _describe_checkpoint(path)
    if not h5py.is_hdf5(path):
        raise FileFormatError(path, "is no file of sfm2tuples", _REMEDY)
    describe = {
        projection.FORMAT: _describe_whitening,
        ranks_file.FORMAT: _describe_ranks,
        feature_files.FORMAT: _describe_features,
        bag_of_words.FORMAT: _describe_bag_of_words,
    }
    return inspect_hdf5(path, describe)


def _describe_whitening(path: Path) -> dict[str, Section]:
    learned = projection.read_whitening(path)
    content = {
        "method": learned.method,
        "dimensions of descriptors": len(learned.mean),
        "dimensions kept": learned.dim,
        "shrinkage": learned.shrinkage,
        "pairs" if learned.method == "lw" else "images": learned.num_pairs,
        "rank of the covariance": learned.rank,
    }
    return {"content": content}


def _describe_ranks(path: Path) -> dict[str, Section]:
    found = ranks_file.read_ranks(path)
    content = {
        "queries": len(found.queries),
        "images of the database": len(found.names),
        "results of each query": found.row.shape[1],
        "found": int((found.row >= 0).sum()),
    }
    if found.inliers is not None:
        content["verified"] = int((found.inliers > 0).sum())
    return {"content": content}


def _describe_features(path: Path) -> dict[str, Section]:
    found = feature_files.read_features(path)
    return {"content": {"photos": len(found.names), "features": len(found.descriptors)}}


def _describe_bag_of_words(path: Path) -> dict[str, Section]:
    found = bag_of_words.read_bag_of_words(path)
    content = {
        "photos": len(found.features.names),
        "features": len(found.word),
        "words": len(found.words),
        "words of each feature": found.word.shape[1],
    }
    return {"content": content}


def _describe_checkpoint(path: Path) -> dict[str, Section]:
    from retrieval.networks.checkpoints import checked_content
    from retrieval.networks.cirtorch_checkpoints import is_cirtorch, load_with_arrays

    content = load_with_arrays(path)
    if is_cirtorch(content):
        return _describe_cirtorch(path)
    checkpoint = checked_content(content, path)
    weights = checkpoint["weights"].values()
    file = file_section(
        path, checkpoint["format"], checkpoint["version"], checkpoint["software"], checkpoint["fingerprint"]
    )
    network = {**checkpoint["network"], "parameters": sum(tensor.numel() for tensor in weights)}
    file["parents"] = list(checkpoint.get("parents", ()))
    sections = {"file": file, "network": network, "training": _plain(_without(checkpoint, file))}
    if "options" in checkpoint:
        sections["options"] = _plain(checkpoint["options"])
    # The newest round first: a long run is cut short where it is printed.
    history = checkpoint.get("history", [])[::-1]
    return {**sections, "rounds": {f"round {row['round']}": _plain(_without(row, ("round",))) for row in history}}


def _describe_cirtorch(path: Path) -> dict[str, Section]:
    from retrieval.networks.cirtorch_checkpoints import read_cirtorch_checkpoint

    found = read_cirtorch_checkpoint(path)
    file = {"name": path.name, "format": "checkpoint of cirtorch", "bytes": path.stat().st_size}
    parameters = sum(parameter.numel() for parameter in found.network.parameters())
    whitenings = [f"{name} {kind}" for name, kinds in found.whitenings.items() for kind in kinds]
    network = {**found.network.describe(), "parameters": parameters, "fingerprint": found.network.fingerprint()}
    return {"file": file, "network": network, "training": {"epoch": found.epoch, "whitenings": whitenings}}


def _is_words(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(item, str) for item in value)


def _without(values: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in set(keys)}


def _plain(values: dict[str, Any]) -> Section:
    """What can be read at a glance: numbers and text, not tensors nor the optimiser's state; None for NaN."""
    shown = {
        key: list(value) if isinstance(value, (list, tuple)) else value
        for key, value in values.items()
        if isinstance(value, (bool, int, float, str)) or _is_words(value)
    }
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in shown.items()
    }
