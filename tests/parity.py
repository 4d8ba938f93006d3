"""The fixtures of ../shared/parity: descriptors of well-known retrievers with weights by formula, and parameters."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "parity"
SMALL = ("megaloc_small", "salad_small", "boq_dinov2_small")
LARGE = ("boq_resnet50", "mixvpr_resnet50", "cosplace_resnet18", "cosplace_vgg16")


def formula() -> ModuleType:
    """The module that gives weights and photos; the test is skipped where it is absent."""
    if not FOLDER.is_dir():
        pytest.skip("needs ../shared/parity, which is not here")
    spec = importlib.util.spec_from_file_location("parity_values", FOLDER / "values.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def state_of(name: str) -> dict[str, torch.Tensor]:
    """The state dict of a released file, with weights by formula."""
    values = formula()
    shapes = json.loads((FOLDER / f"{name}.json").read_text())["state"]
    return {
        key: torch.zeros(shape, dtype=torch.int64)
        if key.endswith("num_batches_tracked")
        else torch.from_numpy(np.asarray(values.value(key, tuple(shape)))).reshape(shape)
        for key, shape in shapes.items()
    }


def descriptors_of(name: str) -> dict[tuple[int, int], np.ndarray]:
    """Height and width of each photo to its descriptor by the authors' code."""
    formula()
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return {tuple(map(int, size.split("x"))): arrays[size] for size in arrays.files}


def photo_of(height: int, width: int) -> torch.Tensor:
    """A photo by formula: (1, 3, height, width), RGB in 0..1."""
    return torch.from_numpy(formula().image(height, width)).permute(2, 0, 1)[None] / 255
