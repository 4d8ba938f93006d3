"""Read a model of any kind."""

from __future__ import annotations

from pathlib import Path

from sfm2tuples.errors import ModelError
from sfm2tuples.readers.discover import ModelLocation
from sfm2tuples.readers.model_kinds import WHAT_A_MODEL_IS, Kind, file_of_nvm, models_in, models_of_file
from sfm2tuples.readers.sparse_model import SparseModel


def read_model(model: ModelLocation | Path) -> SparseModel:
    """Read a model of any kind.

    Parameters
    ----------
    model : ModelLocation or Path
        Where `find_models` found it, or its folder or file; of several models in a file the first.

    Returns
    -------
    SparseModel
        The model as columns; it may have no images.

    Raises
    ------
    ModelError
        One line that names the file and the fault.
    """
    # The readers load numba, which takes longer than to find a few models.
    from sfm2tuples.readers import bundler, colmap_binary, colmap_text, nvm

    path, kind = (model.path, model.kind) if isinstance(model, ModelLocation) else _only_model(model)
    if kind == "nvm":
        return nvm.read(*file_of_nvm(path))
    if kind == "bundler":
        return bundler.read(path)
    return colmap_binary.read(path) if kind == "colmap_binary" else colmap_text.read(path)


def _only_model(path: Path) -> tuple[Path, Kind]:
    """The first model of a folder or a file."""
    models = models_of_file(path) if path.is_file() else models_in(path)
    if not models:
        raise ModelError(path, f"holds no model ({WHAT_A_MODEL_IS})")
    return models[0]
