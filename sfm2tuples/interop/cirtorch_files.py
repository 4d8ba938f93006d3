"""cirtorch's training data: two pickles and a tree of photos whose names are hexadecimal ids.

`NAME.pkl` holds a dict with ``train`` and ``val``, each a dict of lists: ``cids`` (id of every image), ``cluster``
(number of its 3D model), ``qidxs`` and ``pidxs`` (positions of the query and the positive of every pair).
`NAME-whiten.pkl` holds ``cids``, ``qidxs`` and ``pidxs``. The photo of an id lies below ``ims/`` at `photo_path`.
"""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfm2tuples.errors import DataError, shown
from sfm2tuples.files.atomic import write_atomically
from sfm2tuples.files.safe_pickle import PickledArray, read_plain_pickle
from sfm2tuples.index.schema import SPLITS, TRAIN

PHOTOS = "ims"
"""Folder of the photos, beside the pickles."""
PROTOCOL = 2
"""Of the pickles that are written: the newest that Python 2 reads too."""
_CID = re.compile(r"[0-9A-Za-z_.-]{6,255}")


@dataclass(frozen=True)
class CirtorchSplit:
    """One part of the pickle, as columns."""

    cids: list[str]
    """Id of each image."""
    cluster: np.ndarray
    """(n,) int64, number of each image's 3D model: what is one place here."""
    qidxs: np.ndarray
    """(m,) int64, position of each pair's query in `cids`; a query may have several pairs."""
    pidxs: np.ndarray
    """(m,) int64, likewise of its positive."""


def photo_path(cid: str) -> str:
    """Path of a photo below the photos' folder: ``0123456789ab`` lies at ``ab/89/67/0123456789ab``."""
    return f"{cid[-2:]}/{cid[-4:-2]}/{cid[-6:-4]}/{cid}"


def pickle_names(folder: Path) -> tuple[str, str]:
    """Names of the two pickles in a data set's folder, which bear the folder's name."""
    return f"{folder.name}.pkl", f"{folder.name}-whiten.pkl"


def write_cirtorch(folder: Path, names: tuple[str, str], splits: dict[str, CirtorchSplit]) -> None:
    """Write both pickles; the one for whitening holds the training images and pairs."""
    for_training = {name: _as_lists(split) for name, split in splits.items()}
    for_whitening = {key: values for key, values in for_training[SPLITS[TRAIN]].items() if key != "cluster"}
    for name, content in zip(names, (for_training, for_whitening), strict=True):
        with write_atomically(folder / name) as temporary:
            temporary.write_bytes(pickle.dumps(content, PROTOCOL))


def read_cirtorch(path: Path) -> dict[str, CirtorchSplit]:
    """Read the pickle for training; nothing in it is executed, see `sfm2tuples.files.safe_pickle`.

    Returns
    -------
    dict of str to CirtorchSplit
        ``train`` and ``val``.

    Raises
    ------
    DataError
        It is no such file: torn, of another layout, with ids that are no file names or pairs beyond its images.
    """
    content = read_plain_pickle(path)
    if isinstance(content, dict) and "cids" in content and not set(SPLITS) & set(content):
        raise DataError(path, "holds pairs for whitening, not for training", "give the file without -whiten")
    if not isinstance(content, dict) or not set(SPLITS) <= set(content):
        raise DataError(path, "has no parts train and val, so it is no file of cirtorch's training data")
    return {name: _split(path, name, content[name]) for name in SPLITS}


def _as_lists(split: CirtorchSplit) -> dict[str, list[Any]]:
    """Plain lists, which every version of Python and NumPy reads."""
    return {
        "cids": split.cids,
        "cluster": split.cluster.tolist(),
        "qidxs": split.qidxs.tolist(),
        "pidxs": split.pidxs.tolist(),
    }


def _split(path: Path, name: str, part: object) -> CirtorchSplit:
    if not isinstance(part, dict):
        raise DataError(path, f"{name} is no dict of lists")
    cids = _list(path, name, part, "cids")
    odd = [cid for cid in cids if not isinstance(cid, str) or not _CID.fullmatch(cid) or ".." in cid]
    if odd:
        raise DataError(path, f"{len(odd):,} of the cids of {name} are no names of photos, first {shown(odd[0])}")
    cluster, query, positive = (_numbers(path, name, part, key) for key in ("cluster", "qidxs", "pidxs"))
    if len(cluster) != len(cids):
        raise DataError(path, f"{name} has {len(cids):,} cids and {len(cluster):,} clusters, not one for each")
    if len(query) != len(positive):
        raise DataError(path, f"{name} has {len(query):,} qidxs and {len(positive):,} pidxs, not one for each")
    for key, column in (("qidxs", query), ("pidxs", positive)):
        beyond = int(np.count_nonzero((column < 0) | (column >= len(cids))))
        if beyond:
            raise DataError(path, f"{beyond:,} {key} of {name} are beyond its {len(cids):,} images")
    return CirtorchSplit(cids, cluster, query, positive)


def _list(path: Path, name: str, part: dict[Any, Any], key: str) -> list[Any]:
    column = part.get(key)
    if isinstance(column, PickledArray):
        return column.tolist()
    if not isinstance(column, (list, tuple)):
        raise DataError(path, f"{name} has no list {key}")
    return list(column)


def _numbers(path: Path, name: str, part: dict[Any, Any], key: str) -> np.ndarray:
    values = _list(path, name, part, key)
    odd = next((v for v in values if not isinstance(v, int) or isinstance(v, bool) or not -(2**63) <= v < 2**63), None)
    if odd is not None or None in values:
        raise DataError(path, f"{key} of {name} are not all whole numbers, first {type(odd).__name__}")
    return np.array(values, np.int64)
