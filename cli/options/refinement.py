"""The flags `--qe`, `--dba` and `--rerank`, for every command that ranks a database."""

from __future__ import annotations

from collections.abc import Callable

import click


def refinement_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command, which gets their texts as `qe`, `dba` and `rerank`."""
    for option in (
        click.option(
            "--rerank",
            help="re-rank the first N: R:N by the best window of each photo (1000), "
            "geometry:N by matches of local features (100)",
        ),
        click.option("--dba", help="augment the database: each image averaged with its most similar, in --qe's words"),
        click.option("--qe", help="expand queries: average:N (the first N, 5), or alpha:N:ALPHA (weighted, 50 and 3)"),
    ):
        function = option(function)
    return function
