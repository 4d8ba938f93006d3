"""A network as `model.safetensors` with `config.json`: weights by name and a description, and no code to run."""

from __future__ import annotations

import json
from pathlib import Path

from retrieval.exporting.self_contained import description_of
from retrieval.networks.exported_files import CONFIG, FORMAT, WEIGHTS
from retrieval.networks.network import Network
from sfm2tuples.errors import UsageError
from sfm2tuples.files.atomic import OurFolder, refuse_folder_overwrite, write_folder_atomically, write_text

_FOLDER = OurFolder("folder that export made", (WEIGHTS, CONFIG), CONFIG, f'"{FORMAT}"'.encode())
"""Other programs' models have files of the same names."""


def check_safetensors_target(folder: Path, force: bool) -> None:
    """Refuse a folder that exists, unless it is an earlier export (or empty) and `force` is set.

    Raises
    ------
    UsageError
        That, or the package safetensors is not installed.
    """
    _save()
    refuse_folder_overwrite(folder, force, _FOLDER)


def write_safetensors(folder: Path, network: Network) -> None:
    """Write the folder; it appears whole or not at all, and replaces one that is there.

    Names are those of the checkpoint: ``backbone.…`` (with torchvision's or timm's names behind it), ``pool.…``,
    ``whitening.weight`` and ``whitening.bias``. Values are float32 in rows, whatever lay-out they have in memory.
    """
    save = _save()
    state = {name: value.detach().cpu().contiguous() for name, value in sorted(network.state_dict().items())}
    with write_folder_atomically(folder) as temporary:
        # Not by the package's save_file, which says in an error of its own kind that the disk is full.
        (temporary / WEIGHTS).write_bytes(save(state, metadata={"format": "pt"}))
        write_text(temporary / CONFIG, json.dumps(description_of(network), indent=1) + "\n")


def _save():  # type: ignore[no-untyped-def]
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise UsageError("--format safetensors needs the package safetensors: pip install safetensors") from error
    return save
