"""The flags of `Refinement`: `--qe`, `--dba` and `--rerank`, for every command that ranks a database."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from retrieval.search.options import Refinement


def refinement_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command, read their texts and pass it `refinement: Refinement`."""

    @click.option("--qe", help="expand queries: average:N (the first N, 5), or alpha:N:ALPHA (weighted, 50 and 3)")
    @click.option("--dba", help="augment the database: each image averaged with its most similar, in --qe's words")
    @click.option(
        "--rerank",
        help="re-rank the first N: R:N by the best window of each photo (1000), "
        "geometry:N by matches of local features (100)",
    )
    @functools.wraps(function)
    def wrapped(*args: Any, qe: str | None, dba: str | None, rerank: str | None, **kwargs: Any) -> None:
        function(*args, refinement=Refinement.parse(qe, dba, rerank), **kwargs)

    return wrapped
