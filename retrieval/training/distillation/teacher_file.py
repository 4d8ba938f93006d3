"""The teacher's descriptors in the folder of a run: made when it begins, read when it goes on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from retrieval.training.distillation.teacher import TeacherChoice, describe_by_teacher, rows_to_teach
from retrieval.training.distillation.teaching import Teaching
from retrieval.training.state import TrainingState
from sfm2tuples.errors import DataError, PhotoError, UsageError, first_three
from sfm2tuples.files.columns import rows_of_names
from sfm2tuples.files.container import read_header
from sfm2tuples.files.descriptors import read_descriptors, write_descriptors

TEACHER = "teacher.h5"
"""Name of the descriptor file in the folder of a run."""
BEGUN = "teacher-begun.h5"
"""Its name until the run has its first checkpoint: the file of the run that it replaces stays until then."""
MOST_UNKNOWN = 0.05
"""Share of the photos that may be without a descriptor of the teacher."""

logger = logging.getLogger(__name__)


def begin_teaching(folder: Path, state: TrainingState, choice: TeacherChoice) -> TrainingState:
    """Ask the teacher of every photo of the training, once, and keep what it says in the run's folder.

    Of a team, each process asks of its share, and the leader writes. `settle_teacher` gives the file its name.

    Returns
    -------
    TrainingState
        With its teaching.

    Raises
    ------
    UsageError, WeightsError, DataError
        The teacher is none, or knows too few of the photos.
    """
    rows = rows_to_teach(state.tuples)
    seen = replace(state.options.extraction, upright=state.network.upright)
    device, title = str(state.network.device), state.title("teacher")
    known, described, errors = describe_by_teacher(choice, state.tuples, rows, seen, state.team, device, title)
    _refuse_few(state, known, rows, errors)
    path, fingerprint = folder / BEGUN, ""
    with state.team.shared_work():
        if state.team.leads:
            write_descriptors(path, described, parents=[state.tuples.header.fingerprint])
            fingerprint = read_header(path).fingerprint
    fingerprint = state.team.agree(fingerprint)
    return replace(state, teaching=Teaching(described.values, known, state.options.teacher_weight, fingerprint))


def settle_teacher(folder: Path, fingerprint: str) -> None:
    """Keep the file that a run began with, and no other, once it has a checkpoint; an empty `fingerprint`: none."""
    begun, kept = folder / BEGUN, folder / TEACHER
    if fingerprint and begun.is_file() and read_header(begun).fingerprint == fingerprint:
        begun.replace(kept)
    begun.unlink(missing_ok=True)
    if not fingerprint:
        kept.unlink(missing_ok=True)


def read_teaching(folder: Path, state: TrainingState, fingerprint: str) -> TrainingState:
    """Go on with what the teacher said when the run began; `fingerprint` is that of the run's checkpoint.

    Raises
    ------
    UsageError, DataError
        Its file is absent, or is another than the run began with.
    """
    path = folder / TEACHER
    if not path.is_file():
        raise UsageError(f"{path}: is absent, so the run has no teacher to go on with; start it again with --force")
    found = read_descriptors(path)
    if found.fingerprint != fingerprint:
        raise DataError(path, "is not the file that the run began with", "start the run again with --force")
    known = rows_of_names(state.tuples.images.key, found.names, path, "photos are not among those of the training")
    return replace(state, teaching=Teaching(found.values, known, state.options.teacher_weight, fingerprint))


def _refuse_few(state: TrainingState, known: np.ndarray, wanted: np.ndarray, errors: Sequence[PhotoError]) -> None:
    """Refuse a teacher that knows too few of the photos `wanted`; say of how many it says nothing."""
    missing = np.setdiff1d(wanted, known)
    if not len(missing):
        return
    first = str(errors[0]) if errors else first_three(state.photos.names(missing))
    what = f"{len(missing):,} of {len(wanted):,} photos cannot be read, or have no descriptor of the teacher"
    if len(missing) > max(1, MOST_UNKNOWN * len(wanted)):
        remedy = "put the photos right, or extract the descriptors again"
        raise DataError(state.tuples.path, f"{what}, first: {first}", remedy)
    if state.team.leads:
        logger.warning("%s, and the teacher says nothing of them, first: %s", what, first)
