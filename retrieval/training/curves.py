"""The rounds of a training in numbers: `curves.csv`, and scalars for TensorBoard."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sfm2tuples.files.atomic import write_text


@dataclass(frozen=True)
class RoundFigures:
    """One round in numbers; NaN where there is none. Round 0 is the network before training."""

    round: int
    """Number of the round, from 0."""
    learning_rate: float
    """Rate of the round."""
    train_loss: float
    """Mean loss of the round's tuples (of graph batches, of their anchors), each at the moment it was trained on."""
    val_loss: float
    """Mean loss of the tuple file's validation tuples, the same ones after every round."""
    val_map: float
    """mAP over the validation places after the round, 0..1."""
    gem_p: float
    """GeM's exponent after the round."""
    seconds: float
    """Wall time of the round: mining, training, validation."""
    positive_similarity: float
    """Mean cosine of queries and positives during the round."""
    negative_similarity: float
    """Mean cosine of queries and negatives during the round."""
    queries: int
    """Tuples that the round trained on; of graph batches, their places' queries."""
    gap: float = math.nan
    """Without validation places: mean cosine of kept-out queries and positives less that with negatives."""
    agreement: float = math.nan
    """Of batches of photos without validation places: share of the teacher's nearest photos that are among the
    network's, mean over kept-out photos, 0..1."""

    @property
    def measure(self) -> float:
        """What says which round is the best, 0..1: the validation mAP, else the agreement; NaN without either."""
        return self.agreement if math.isnan(self.val_map) else self.val_map

    def as_dict(self) -> dict[str, Any]:
        """The figures by name; gap and agreement only where there is one."""
        values = asdict(self)
        absent = [name for name in ("gap", "agreement") if math.isnan(values[name])]
        return {name: value for name, value in values.items() if name not in absent}


def write_curves(path: Path, history: Sequence[RoundFigures]) -> None:
    """Write `curves.csv`, one row a round; NaN is an empty cell. The whole small file is written anew each time."""
    text = io.StringIO()
    rows = [figures.as_dict() for figures in history]
    # A run that an earlier version began without validation places has gaps from some round on.
    names = [field.name for field in fields(RoundFigures) if any(field.name in row for row in rows)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(row.get(name, math.nan)) for name in names])
    write_text(path, text.getvalue())


def _cell(value: float | int) -> str:
    """Digits that read back to the same number."""
    return "" if isinstance(value, float) and math.isnan(value) else repr(value)


class TensorBoard:
    """Scalars for TensorBoard in `run/tensorboard`; does nothing where TensorBoard is not installed.

    Parameters
    ----------
    run_dir : Path
        Folder of the run.
    next_round : int
        First round that will be written; a resumed run hides later ones that an interrupted run left behind.
    writes : bool
        False for the processes of a team that do not lead it.
    """

    def __init__(self, run_dir: Path, next_round: int, writes: bool = True) -> None:
        self._writer: Any = None
        if not writes:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = SummaryWriter(str(run_dir / "tensorboard"), purge_step=next_round)

    def add(self, figures: RoundFigures) -> None:
        """Write the scalars of one round."""
        if self._writer is None:
            return
        for name, value in figures.as_dict().items():
            if name != "round" and not math.isnan(value):
                self._writer.add_scalar(name, value, figures.round)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
