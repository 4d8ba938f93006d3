"""Read a model of any kind."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path

from sfm2tuples.errors import ModelError
from sfm2tuples.readers.discover import ModelLocation
from sfm2tuples.readers.model_kinds import BINARY, WHAT_A_MODEL_IS, models_in, models_of_file
from sfm2tuples.readers.sparse_model import SparseModel


def read_model(model: ModelLocation | Path) -> SparseModel:
    """Read a model of any kind.

    Parameters
    ----------
    model : ModelLocation or Path
        Where `find_models` found it, or its folder or file; of several models in a file the first. Where tracks were
        made for it (`ModelLocation.tracks`), it has these.

    Returns
    -------
    SparseModel
        The model as columns; it may have no images.

    Raises
    ------
    ModelError
        One line that names the file and the fault.
    """
    path, reader = (model.path, model.kind) if isinstance(model, ModelLocation) else _first_model(model)
    # Readers load numba, which takes longer than to find a few models.
    read: SparseModel = import_module(f"sfm2tuples.readers.{reader}").read(path)
    made = model.tracks if isinstance(model, ModelLocation) else None
    return read if made is None else _with_tracks(read, made)


def _with_tracks(model: SparseModel, folder: Path) -> SparseModel:
    """A model, its cameras and poses to the last bit, with the points and observations of another of its images."""
    other: SparseModel = import_module(f"sfm2tuples.readers.{BINARY}").read(folder)
    if other.image_names != model.image_names:
        raise ModelError(folder, "has other images than the model that it was made for", "remove the folder")
    return replace(
        model,
        observation_indptr=other.observation_indptr,
        observation_points=other.observation_points,
        observation_xy=other.observation_xy,
        point_ids=other.point_ids,
        points=other.points,
        point_errors=other.point_errors,
    )


def _first_model(path: Path) -> tuple[Path, str]:
    """The first model of a folder or a file, and its reader."""
    models = models_of_file(path) if path.is_file() else models_in(path)
    if not models:
        raise ModelError(path, f"holds no model ({WHAT_A_MODEL_IS})")
    return models[0][0], models[0][1].reader
