"""Structure-from-Motion models to training tuples. Geometry and files only: nothing here needs torch.

In the order of the data: `readers`, `covisibility`, `places`, `ingest`, `index`, `mining`, `interop`; below them
`files`, `similarity`, `compute` and `errors`; `world` is the built-in world. No package imports one above it
(docs/architecture.md has the order).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sfm2tuples.version import __version__

if TYPE_CHECKING:
    from sfm2tuples.index.opened import open_index as open_index

__all__ = ["__version__", "open_index"]


def __getattr__(name: str) -> Any:
    """Import what the package offers only when it is asked for, so that commands start fast."""
    if name == "open_index":
        from sfm2tuples.index.opened import open_index

        return open_index
    raise AttributeError(f"module {__name__} has no attribute {name}")
