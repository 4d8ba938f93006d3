"""Validation during training: mAP over the validation places by the SfM protocol, and the loss of their tuples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from retrieval.metrics.ground_truth import GroundTruth
from retrieval.metrics.results import evaluate_descriptors
from retrieval.protocols.sfm import tuples_ground_truth
from retrieval.training.described_tuples import TuplePositions, positions_in
from retrieval.training.state import TrainingState
from sfm2tuples.index.schema import VAL
from sfm2tuples.mining.tuple_file import TupleFile


@dataclass(frozen=True)
class Validation:
    """What is described and compared after every round; made once a run by `prepare_validation`."""

    rows: np.ndarray
    """(m,) int64, rising rows of `/images` to describe: the database, and what the validation tuples hold."""
    database: np.ndarray
    """(d,) int64, positions in `rows` of the database that `tuples_ground_truth` gives."""
    truth: GroundTruth
    """Over rows of the database (method.md section 10)."""
    tuples: TuplePositions
    """The validation tuples, as positions in `rows`."""

    @property
    def has_queries(self) -> bool:
        """Whether there is a validation mAP at all."""
        return len(self.truth.queries) > 0


def prepare_validation(tuples: TupleFile, min_shared: int) -> Validation:
    """Gather the validation places of a tuple file; positives share at least `min_shared` points."""
    protocol = tuples_ground_truth(tuples, VAL, min_shared)
    val = tuples.tuples["val"]
    wanted = [protocol.photos if len(protocol.truth.queries) else protocol.photos[:0]]
    wanted += [val.query, val.positive.ravel(), val.negative.ravel()]
    rows = np.unique(np.concatenate(wanted))
    rows = rows[rows >= 0]
    return Validation(
        rows=rows,
        database=np.searchsorted(rows, wanted[0]),
        truth=protocol.truth,
        tuples=TuplePositions(
            query=positions_in(rows, val.query),
            positive=positions_in(rows, val.positive),
            negative=positions_in(rows, val.negative),
            overlap=torch.from_numpy(val.overlap),
        ),
    )


def validate(state: TrainingState, validation: Validation, round: int) -> tuple[float, float]:
    """Measure the network after a round.

    Returns
    -------
    val_map : float
        Mean over queries, 0..1; NaN where the validation places have no query.
    val_loss : float
        Mean over the validation tuples, without what a teacher adds; NaN where there are none, or no loss of tuples.
    """
    if len(validation.rows) == 0:
        return math.nan, math.nan
    descriptors = state.describe(validation.rows, f"round {round} validate")
    loss, count = math.nan, len(validation.tuples.query)
    if count and state.options.photo_batches is None:
        loss = state.loss(validation.tuples.take(torch.from_numpy(descriptors))).item() / count
    if not validation.has_queries:
        return math.nan, loss
    database = descriptors[validation.database]
    result = evaluate_descriptors(database[validation.truth.queries], database, validation.truth)
    return result.mean_over_queries, loss
