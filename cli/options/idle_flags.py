"""Flags that nothing would come of in a call: refused, since the user believes that they are in the result.

A flag that changes no result, such as `--jobs`, `--device` and `--force`, is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource

from sfm2tuples.errors import UsageError
from sfm2tuples.files.remote.address import is_folder


@dataclass(frozen=True)
class Use:
    """What some flags of a command are for."""

    flags: tuple[str, ...]
    """Parameters of the command."""
    named: str
    """What gives them something to do, as a message says it: ``--teacher``."""
    when: Callable[[Mapping[str, Any]], bool]
    """Whether they have something to do, from the values of all parameters as click has them."""


def given(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    """Whether one of some parameters has a value that says something."""
    return lambda params: any(params.get(name) not in (None, False, 0, ()) for name in names)


def by_geometry(params: Mapping[str, Any]) -> bool:
    """Whether images are re-ranked by their local features."""
    return str(params["rerank"]).startswith("geometry")


def by_windows(params: Mapping[str, Any]) -> bool:
    """Whether images are re-ranked by their best window."""
    return str(params["rerank"]).startswith("R")


def several_scales(params: Mapping[str, Any]) -> bool:
    """Whether photos are described at more than one scale."""
    return "," in str(params["scales"])


EXTRACTION = ("image_size", "scales", "exponent", "resize_filter", "upright", "precision")
"""Parameters of `extraction_options` that change figures."""
EXPONENT = Use(("exponent",), "--scales of several", several_scales)
BY_A_NETWORK = Use(
    EXTRACTION,
    "--network or --backbone",
    lambda params: (
        given("network", "backbone", "weights", "pooling")(params)
        or not given("descriptors", "rankings", "teacher")(params)
    ),
)
"""Where nothing else answers, a network does: the default one."""
DESCRIPTION = ("image_size", "precision")
"""Of `photo_options`, what changes descriptors; `upright` is held against those of a file too."""
NETWORK = (
    *("network", "backbone", "weights", "pooling", "clusters", "pooling_size", "photo_size", "whitening_layer"),
    *("regional", "whole_image"),
)
"""Of `network_options`, what names a network."""
NEAREST_NEGATIVES = Use(
    ("search", "max_negative_similarity"),
    "--negatives N1, N2 or semi-hard",
    lambda params: params["negatives"] != "random",
)
NAMES_BELOW = Use(
    ("images",),
    "a .txt list or a .csv",
    lambda params: params["source"].suffix in (".txt", ".csv") and not is_folder(params["source"]),
)
"""For commands whose argument `source` is what `photos_of` reads."""
VERIFICATION = ("geometry", "ratio", "max_error", "min_inliers")
"""Of `verification_options`, but for features, of which `VerificationSources` speaks, `expand_inliers`, and jobs."""


def is_typed(name: str) -> bool:
    """Whether a parameter of the command that is running stands on its command line."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def refuse_idle_flags(uses: tuple[Use, ...], **more: Any) -> None:
    """Refuse the first flag of the command that is running which has nothing to do.

    Parameters
    ----------
    uses : tuple of Use
        A flag may be in several; all of them must hold.
    **more
        Of what decides, whatever no parameter says: the kind of a file.

    Raises
    ------
    UsageError
    """
    context = click.get_current_context()
    flag_of = {parameter.name: parameter.opts[-1] for parameter in context.command.params}
    for use in uses:
        typed = list(filter(is_typed, use.flags))
        if typed and not use.when({**context.params, **more}):
            raise UsageError(f"{flag_of[typed[0]]} is for {use.named}; leave it out")
