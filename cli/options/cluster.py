"""`--dask`, `--dask-timeout` and `--resume` of commands whose parts are made by the workers of a cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from sfm2tuples.compute.dask_cluster import DASK_TIMEOUT


def cluster_options(work: str, seen: str, resumed: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the flags to a command and pass it `dask: str | None`, `dask_timeout: float` and `resume: bool`.

    Parameters
    ----------
    work : str
        What the workers do, such as "read the models in place of --jobs".
    seen : str
        What they must see under the same paths, such as "models and index".
    resumed : str
        What `--resume` goes on with, such as "build of the same index".
    """
    flags = [
        click.option(
            "--dask",
            metavar="URL",
            help=f"scheduler of a Dask cluster, such as tcp://10.0.0.1:8786; its workers {work} and must see {seen} "
            "under the same paths",
        ),
        click.option(
            "--dask-timeout",
            type=click.FloatRange(0),
            default=DASK_TIMEOUT,
            show_default=True,
            help="seconds after which a cluster without workers is given up; what was done is kept for --resume",
        ),
        click.option("--resume", is_flag=True, help=f"go on with an interrupted {resumed}"),
    ]

    def add(function: Callable[..., None]) -> Callable[..., None]:
        for flag in reversed(flags):
            function = flag(function)
        return function

    return add


def parts_to_go_on_from(target: Path) -> str:
    """What to do after an interruption that left parts of a target; "" where there are none."""
    from sfm2tuples.parts.work_folder import part_files, work_path

    return "go on with the same command and --resume" if part_files(work_path(target)) else ""
