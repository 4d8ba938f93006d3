"""Readers of sparse models; each returns a `SparseModel`."""

from __future__ import annotations

from pathlib import Path

from sfm2tuples.errors import ModelError
from sfm2tuples.readers.discover import ModelLocation, model_kind
from sfm2tuples.readers.sparse_model import SparseModel

__all__ = ["ModelLocation", "SparseModel", "read_model"]


def read_model(model: ModelLocation | Path) -> SparseModel:
    """Read a model of any kind.

    Parameters
    ----------
    model : ModelLocation or Path
        Where `find_models` found it, or its folder.

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
    from sfm2tuples.readers import colmap_binary, colmap_text

    path = model if isinstance(model, Path) else model.path
    kind = model_kind(path) if isinstance(model, Path) else model.kind
    if kind is None:
        raise ModelError(path, "holds no model (cameras, images and points3D, as .bin or .txt)")
    return colmap_binary.read(path) if kind == "colmap_binary" else colmap_text.read(path)
