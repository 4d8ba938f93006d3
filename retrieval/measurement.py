"""One call that measures a network or a descriptor file as the `evaluate` command is asked to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.evaluation import Evaluation
from retrieval.extraction import ExtractionOptions
from retrieval.network_choice import NetworkChoice
from retrieval.photo_descriptors import descriptors_of, mismatch_warning, whiten_descriptors
from retrieval.photo_sources import photos_of
from retrieval.protocols.labels import evaluate_labels, read_labels
from retrieval.protocols.sfm import MIN_SHARED, evaluate_index
from retrieval.whitening import read_whitening
from sfm2tuples.container import SOFTWARE
from sfm2tuples.descriptor_files import Descriptors, read_descriptors
from sfm2tuples.errors import UsageError
from sfm2tuples.index import SPLITS, Index, read_index


@dataclass(frozen=True)
class MeasurementOptions:
    """Which protocol, on which photos, with which whitening."""

    index: Path | None = None
    """An index: the SfM protocol on the places of `split`."""
    labels: Path | None = None
    """A CSV of image,label,role: the protocol of labelled photos."""
    images: Path | None = None
    """Folder that the labelled photos' names start from; the CSV's own by default."""
    split: str = "val"
    """Places of the index that are measured."""
    min_shared: int = MIN_SHARED
    """Shared points that make a positive of the SfM protocol."""
    distractors: Path | None = None
    """Descriptor file that is added to the database of the SfM protocol."""
    whitening: Path | None = None
    """A whitening file to apply."""
    dim: int | None = None
    """Dimensions of the whitening to keep; all by default."""

    def __post_init__(self) -> None:
        """Refuse requests that contradict themselves."""
        if (self.index is None) == (self.labels is None):
            raise UsageError("say what to measure on: --index FILE, or --labels CSV")
        if self.labels is not None and self.distractors is not None:
            raise UsageError("--distractors goes with --index; a CSV of labels has rows with the role distractor")
        if self.dim is not None and self.whitening is None:
            raise UsageError("--dim keeps the first dimensions of a whitening; give --whitening too")


@dataclass(frozen=True)
class Measurement:
    """An evaluation and what it was made of."""

    evaluation: Evaluation
    protocol: str
    """``sfm`` or ``labels``."""
    settings: dict[str, Any]
    """What made the descriptors: network, size, scales, whitening."""
    parents: list[str]
    """Fingerprints of the files that it was made from, where they have one."""
    warning: str | None
    """One line where descriptors and whitening do not fit together."""

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        return {
            "format": "sfm2tuples-evaluation",
            "version": 1,
            "software": SOFTWARE,
            "protocol": self.protocol,
            "settings": self.settings,
            "parents": self.parents,
            **self.evaluation.as_dict(),
        }


def measure(
    options: MeasurementOptions, descriptors: Path | None, choice: NetworkChoice, extraction: ExtractionOptions
) -> Measurement:
    """Describe the photos of a protocol, or read their descriptors, and evaluate.

    Parameters
    ----------
    options : MeasurementOptions
    descriptors : Path, optional
        A descriptor file, in place of a network.
    choice : NetworkChoice
    extraction : ExtractionOptions
        Not looked at where descriptors are given.

    Raises
    ------
    UsageError, DataError
        The request contradicts itself; a file or photo is absent or torn; photos have no descriptor.
    """
    source = options.index or options.labels
    photos = photos_of(Path(str(source)), options.images, extraction.image_size)
    index = read_index(options.index) if options.index is not None else None
    if index is not None:
        photos = photos.only(_split_keys(index, options.split))
    found = descriptors_of(descriptors, choice, photos, extraction)
    parents = [photos.parent, found.fingerprint]
    warning = None
    if options.whitening is not None:
        whitening = read_whitening(options.whitening)
        warning = mismatch_warning(options.whitening, whitening, found)
        found = whiten_descriptors(found, whitening, options.dim)
        parents.append(whitening.fingerprint)
    evaluation = _evaluate(options, index, found)
    protocol = "sfm" if options.index is not None else "labels"
    return Measurement(evaluation, protocol, found.settings, [p for p in parents if p], warning)


def _split_keys(index: Index, split: str) -> list[str]:
    """Keys of the photos of a split, each once."""
    rows = np.flatnonzero((index.image_split == SPLITS.index(split)) & index.images.has_photo)
    return list(dict.fromkeys(index.images.key[row] for row in rows))


def _evaluate(options: MeasurementOptions, index: Index | None, found: Descriptors) -> Evaluation:
    if index is None:
        return evaluate_labels(read_labels(Path(str(options.labels))), found)
    distractors = read_descriptors(options.distractors) if options.distractors else None
    return evaluate_index(
        index, found, SPLITS.index(options.split), options.min_shared, distractors, str(options.index)
    )
