"""Who teaches: a network, by its name or file, or its descriptors; and the descriptors of a run's photos."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval.descriptors.extraction import ExtractionOptions, extract_readable, extract_settings
from retrieval.descriptors.soundness import warn_of_collapse
from retrieval.networks.backbones.lite_weights import file_of_package
from retrieval.networks.by_name import backbone_names, family_of
from retrieval.networks.choice import DEFAULT_BACKBONE, NO_WEIGHTS, NetworkChoice, is_name, is_network_file, load_chosen
from retrieval.photos.origins import refuse_others
from retrieval.photos.sources import photos_of_tuples
from retrieval.training.team import Team
from sfm2tuples.errors import PhotoError, UsageError
from sfm2tuples.files.descriptors import Descriptors, read_descriptors
from sfm2tuples.index.schema import TRAIN
from sfm2tuples.mining.tuple_file import TupleFile

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TeacherChoice:
    """The flags `--teacher`, `--teacher-weights` and `--teacher-size`, or `--teacher-descriptors`."""

    network: str | None = None
    """A checkpoint, the name of a well-known retriever, or of a backbone (with GeM), ``timm:NAME`` among them."""
    weights: str | None = None
    """Of a name: file or URL of its weights, or a word that `--weights` takes."""
    size: int | None = None
    """Longest side in pixels of the photos that it sees; None: as in training."""
    descriptors: Path | None = None
    """A file of descriptors of the photos, in place of a network."""

    def __post_init__(self) -> None:
        """Refuse what does not belong together."""
        if (self.network is None) == (self.descriptors is None):
            raise UsageError("one of --teacher and --teacher-descriptors teaches, not both")
        if self.descriptors is not None and (self.weights is not None or self.size is not None):
            raise UsageError("--teacher-descriptors are there already; leave out --teacher-weights and --teacher-size")
        if self.size is not None and self.size < 1:
            raise UsageError(f"teacher-size must be at least 1 pixel, not {self.size}")

    @classmethod
    def of_flags(
        cls, network: str | None, weights: str | None, size: int | None, descriptors: Path | None
    ) -> TeacherChoice | None:
        """What the flags say; None where none names a teacher."""
        if network is None and descriptors is None:
            return None
        return cls(network, weights, size, descriptors)

    def network_choice(self) -> NetworkChoice:
        """The network, as other commands are told it.

        Raises
        ------
        UsageError
            It would have random weights, or no file and no network has the name.
        """
        name = str(self.network)
        if self.weights == NO_WEIGHTS:
            raise UsageError(
                "a teacher of random weights knows nothing; give --teacher-weights others, or leave it out"
            )
        if is_network_file(name) or is_name(name):
            return NetworkChoice(network=Path(name), weights=self.weights)
        if family_of(name) is None:
            known = f"a file, a retriever of docs/networks.md, or one of {', '.join(backbone_names())}"
            raise UsageError(f"--teacher {name}: there is no such file, and no network has this name; give {known}")
        if self.weights is None and name != DEFAULT_BACKBONE and file_of_package(name) is None:
            raise UsageError(f"--teacher {name}: no weights are installed; give --teacher-weights FILE, or pretrained")
        return NetworkChoice(backbone=name, weights=self.weights)


def rows_to_teach(tuples: TupleFile) -> np.ndarray:
    """Rows of `/images`, rising, that a training may show: those of its split, and all that its tuples hold."""
    own = tuples.tuples["train"]
    held = np.concatenate([own.query, own.positive.ravel(), own.negative.ravel()])
    return np.union1d(np.flatnonzero(tuples.image_split == TRAIN), held[held >= 0])


def describe_by_teacher(
    choice: TeacherChoice,
    tuples: TupleFile,
    rows: np.ndarray,
    seen: ExtractionOptions,
    team: Team,
    device: str,
    title: str | None = None,
) -> tuple[np.ndarray, Descriptors, list[PhotoError]]:
    """The teacher's descriptors of photos: each is described once, by one process of a team.

    Parameters
    ----------
    choice : TeacherChoice
    tuples : TupleFile
    rows : (m,) int64
        Of `/images`, rising.
    seen : ExtractionOptions
        How the student sees photos: the teacher sees them so, at its own size.
    team : Team
    device : str
        Where it runs.
    title : str, optional
        Of a progress bar.

    Returns
    -------
    known : (k,) int64
        Those of `rows` that have a descriptor; a photo that cannot be read has none.
    descriptors : Descriptors
        Of these.
    errors : list of PhotoError
        What this process could not read.

    Raises
    ------
    UsageError, WeightsError, DataError
        The network or the file is none, or the file is of other photos.
    """
    keys = [tuples.images.key[row] for row in rows.tolist()]
    if choice.descriptors is not None:
        return (*_out_of_file(choice.descriptors, tuples, rows, keys), [])
    options = ExtractionOptions(choice.size or seen.image_size, precision=seen.precision, upright=seen.upright)
    network = load_chosen(choice.network_choice()).to(device)
    own = team.rows(len(rows))
    sources = photos_of_tuples(tuples, options.image_size).sources.take(rows[own])
    described = np.zeros((len(own), network.dimension), np.float32)
    with team.shared_work():
        values, at, errors = extract_readable(network, sources, options, [keys[row] for row in own.tolist()], title)
        described[at] = values
    everything = team.gather_rows(described, len(rows))
    known = everything.any(axis=1)
    if team.leads:
        warn_of_collapse(everything[known], "teacher", "choose another teacher: this one tells photos hardly apart")
    names = [keys[at] for at in np.flatnonzero(known).tolist()]
    return rows[known], Descriptors(names, everything[known], extract_settings(network, options)), errors


def _out_of_file(path: Path, tuples: TupleFile, rows: np.ndarray, keys: list[str]) -> tuple[np.ndarray, Descriptors]:
    """Descriptors out of a file, which may hold more photos, and lack some."""
    found = read_descriptors(path)
    refuse_others(found, tuples.path, tuples.header.fingerprint)
    row_of = {name: row for row, name in enumerate(found.names)}
    at = np.array([row_of.get(key, -1) for key in keys], np.int64)
    there = at >= 0
    names = [keys[row] for row in np.flatnonzero(there).tolist()]
    return rows[there], Descriptors(names, np.array(found.values[at[there]]), found.settings, str(path))
