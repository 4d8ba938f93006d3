"""The flags of `TeacherChoice`: who teaches the network that is trained, and how much that counts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.options.idle_flags import Use, given, refuse_idle_flags
from cli.options.paths import FilePath
from retrieval.training.distillation.sampling import DEFAULT, WEIGHT
from sfm2tuples.errors import UsageError

if TYPE_CHECKING:
    from retrieval.training.distillation.teacher import TeacherChoice

FIELDS = ("teacher", "teacher_weights", "teacher_size", "teacher_descriptors")
"""Fields of `TeacherChoice`, in its order, as flags."""
USES = (
    Use(("teacher_weights", "teacher_size"), "--teacher", given("teacher")),
    Use(("teacher_weight",), "--teacher or --teacher-descriptors", given("teacher", "teacher_descriptors", "resume")),
    Use(("images",), "a .txt list or a .csv of photos", lambda params: _suffix(params) in (".txt", ".csv")),
    Use(("min_shared",), "a tuple file", lambda params: not params.get("loose")),
)


def distillation_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to `train`, and pass it `taught_by: TeacherChoice | None`, and `teacher_weight` and `sampling`."""

    @click.option(
        "--teacher",
        help="a network whose distances between photos are to be learned: a checkpoint, or the name of a retriever, of "
        "a backbone (with GeM), or timm:NAME",
    )
    @click.option("--teacher-weights", help="of such a name: file, URL or word, as --weights takes them")
    @click.option(
        "--teacher-size", type=click.IntRange(1), help="longest side it sees, pixels  [default: --image-size]"
    )
    @click.option("--teacher-descriptors", type=FilePath(), help="its descriptors of the photos, in place of a network")
    @click.option(
        "--teacher-weight",
        type=float,
        help=f"factor of the teacher's part of the loss of tuples or graph batches  [default: {WEIGHT:g}]",
    )
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        named = [kwargs.pop(name) for name in FIELDS]
        function(*args, taught_by=_teacher(kwargs, named), **kwargs)

    return wrapped


def _teacher(flags: dict[str, Any], named: list[Any]) -> TeacherChoice | None:
    """Who teaches. A run with a teacher gets a weight of it; one of photos that are in no tuple file, batches of them.

    Raises
    ------
    UsageError
        A flag has nothing to do, photos have no teacher, or a run that goes on is given another one.
    """
    from retrieval.training.distillation.loose_photos import holds_no_tuples
    from retrieval.training.distillation.teacher import TeacherChoice

    source = flags["tuples"]
    loose = holds_no_tuples(source)
    refuse_idle_flags(USES, loose=loose)
    choice = TeacherChoice.of_flags(*named)
    if flags["resume"]:
        if choice is not None:
            raise UsageError(
                "--resume goes on with the run's own teacher; leave out --teacher and --teacher-descriptors"
            )
        return None
    if loose and choice is None:
        raise UsageError(f"{source}: holds no tuples; give a file of mine-tuples, or --teacher, which needs none")
    if loose:
        flags["sampling"] = flags["sampling"] or DEFAULT
    of_photos = str(flags["sampling"]).startswith("photos")
    if loose and not of_photos:
        raise UsageError(f"{source}: holds no tuples, so that --sampling {flags['sampling']} has none; leave it out")
    if of_photos and choice is None:
        raise UsageError(f"--sampling {flags['sampling']} asks a teacher alone; add --teacher NETWORK")
    if choice is not None and not of_photos and flags["teacher_weight"] is None:
        flags["teacher_weight"] = WEIGHT
    return choice


def _suffix(params: Any) -> str:
    return "" if Path(params["tuples"]).is_dir() else Path(params["tuples"]).suffix
