"""What is looked at after every round, and trained on in none: validation places, or what is kept out instead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrieval.training.distillation.agreement import Agreement, keep_photos_out
from retrieval.training.kept_out import KeptOut, keep_out, nothing_kept_out
from retrieval.training.state import TrainingState
from retrieval.training.validation import Validation, validate


@dataclass(frozen=True)
class Watch:
    """What says how good a round is."""

    validation: Validation
    """The validation places."""
    kept: KeptOut
    """Tuples of the training places, where no validation query is there and tuples are trained on."""
    agreement: Agreement | None = None
    """Photos that are kept out, where no validation query is there and the teacher alone is asked."""

    @property
    def sees_nothing(self) -> bool:
        """Whether no photo is described after a round."""
        return not len(self.validation.rows) and not len(self.kept.rows) and self.agreement is None

    @property
    def kept_out(self) -> np.ndarray:
        """(k,) int64, rows of `/images` that nothing of the training may hold."""
        return self.kept.query if self.agreement is None else self.agreement.query

    def figures(self, state: TrainingState, round: int) -> dict[str, float]:
        """Fields of `RoundFigures` that say how good the network of the state is."""
        val_map, val_loss = validate(state, self.validation, round)
        found = {"val_map": val_map, "val_loss": val_loss, "gap": self.kept.gap(state, round)}
        return found if self.agreement is None else found | {"agreement": self.agreement.measure(state, round)}

    def measure(self, state: TrainingState, round: int) -> float:
        """The one figure that rounds, and weights between them, are chosen by: `RoundFigures.measure`."""
        if self.agreement is not None:
            return self.agreement.measure(state, round)
        return validate(state, self.validation, round)[0]


def watch_of(state: TrainingState, validation: Validation) -> Watch:
    """Keep out what the rounds of a run are looked at by, where its validation places have no query.

    Raises
    ------
    DataError
        A teacher's photos are too few.
    """
    if validation.has_queries:
        return Watch(validation, nothing_kept_out())
    if state.options.photo_batches is not None and state.teaching is not None:
        return Watch(validation, nothing_kept_out(), keep_photos_out(state, state.teaching))
    return Watch(validation, keep_out(state.tuples, state.options.seed))
