"""The protocols by name. A new one is a module of this room, with a `make_benchmark`, and a line of `PROTOCOLS`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from sfm2tuples.errors import UsageError

if TYPE_CHECKING:
    from retrieval.protocols.benchmark import Benchmark, ProtocolChoice
    from retrieval.protocols.photo_names import PhotoNames

PROTOCOLS = {
    "sfm": "sfm",
    "labels": "labels",
    "oxford5k": "oxford_paris",
    "paris6k": "oxford_paris",
    "roxford5k": "revisited",
    "rparis6k": "revisited",
    "holidays": "holidays",
    "ukbench": "ukbench",
    "place-recognition": "place_recognition",
}
"""Name of a protocol, as `--protocol` takes it, to its module, which is imported when the protocol is asked for."""


def load_benchmark(choice: ProtocolChoice, names: Callable[[], PhotoNames]) -> Benchmark:
    """Read a protocol's ground truth.

    Parameters
    ----------
    choice : ProtocolChoice
    names : callable
        Gives the photos that there are; not called where the data itself lists them.

    Raises
    ------
    UsageError
        There is no such protocol, or no query in its data.
    DataError
        The data is absent or torn, or photos are absent.
    """
    choice.check_exists()
    if choice.name not in PROTOCOLS:
        raise UsageError(f"no protocol is called {choice.name}; there are {', '.join(PROTOCOLS)}")
    module = importlib.import_module(f"retrieval.protocols.{PROTOCOLS[choice.name]}")
    benchmark: Benchmark = module.make_benchmark(choice, names)
    return benchmark
