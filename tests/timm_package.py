"""timm as the tests import it: beside a torch for which there is no torchvision.

timm imports torchvision for the transforms of photos, which no network of it needs. Where torchvision is absent, or
does not fit this torch, its names are stood in for by empty classes while timm is imported.
"""

from __future__ import annotations

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest

TORCHVISION = "torchvision"


class _Named(type):
    """A class that has every attribute: its name."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Empty(ModuleType):
    """A module that has every class, without anything in it."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Named(name, (), {})


class _InPlace(MetaPathFinder, Loader):
    """Finds torchvision and all its modules."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.split(".")[0] == TORCHVISION else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def import_timm() -> ModuleType:
    """The real package; the test is skipped where it is absent."""
    try:
        return importlib.import_module("timm")
    # RuntimeError: a torchvision that does not fit this torch.
    except (ImportError, RuntimeError):
        _forget("timm", TORCHVISION)
    finder = _InPlace()
    sys.meta_path.insert(0, finder)
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        _forget("timm")
        pytest.skip(f"needs timm ({error})")
    finally:
        sys.meta_path.remove(finder)
        _forget(TORCHVISION)


def _forget(*packages: str) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in packages]:
        del sys.modules[name]
