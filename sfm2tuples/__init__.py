"""Structure-from-Motion models to training tuples: readers, co-visibility, places, mining, files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfm2tuples.index.opened import open_index as open_index

__version__ = "0.1.0"
__all__ = ["__version__", "open_index"]


def __getattr__(name: str) -> Any:
    """Import what the package offers only when it is asked for, so that commands start fast."""
    if name == "open_index":
        from sfm2tuples.index.opened import open_index

        return open_index
    raise AttributeError(f"module {__name__} has no attribute {name}")
