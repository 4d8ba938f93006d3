"""Structure-from-Motion models to training tuples. Geometry and files only: no package here needs torch.

In the order of the data: `readers`, `covisibility`, `places`, `ingest`, `index`, `mining`, `interop`; below them
`files`, `similarity`, `compute` and `errors`; `world` is the built-in world. No package imports one above it
(docs/architecture.md has the order).

What Python users need stands here by name, `tune`, `Site` and the others of `retrieval` too: docs/python_api.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sfm2tuples.version import __version__

if TYPE_CHECKING:
    from retrieval.networks.choice import load_network as load_network
    from retrieval.site.questions import Site as Site
    from retrieval.site.tuning import tune as tune
    from retrieval.tuple_files.torch_dataset import TupleDataset as TupleDataset
    from sfm2tuples.index.opened import open_index as open_index

__all__ = ["Site", "TupleDataset", "__version__", "load_network", "open_index", "tune"]
_HOMES = {
    "Site": "retrieval.site.questions",
    "TupleDataset": "retrieval.tuple_files.torch_dataset",
    "load_network": "retrieval.networks.choice",
    "open_index": "sfm2tuples.index.opened",
    "tune": "retrieval.site.tuning",
}
"""Name to the module that has it."""


def __getattr__(name: str) -> Any:
    """Import what the package offers only when it is asked for, so that commands start fast."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
