"""What the page of a training run shows: its rounds as curves and in numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from retrieval.networks.checkpoints import load_checkpoint
from retrieval.reports.options import ReportOptions
from retrieval.reports.thumbnails import Thumbnails
from retrieval.training.last_round import LAST, rounds_of
from retrieval.training.run_folder import BEST
from sfm2tuples.compute.progress_bars import duration
from sfm2tuples.errors import FileFormatError
from sfm2tuples.mining.batch_options import TUPLES


class RunPage:
    """The folder of a training run.

    Raises
    ------
    DataError, WeightsError
        Its checkpoint is absent or torn, or its rounds are none.
    FileFormatError
        It is no checkpoint of a training run.
    """

    def __init__(self, path: Path, options: ReportOptions, thumbnails: Thumbnails) -> None:
        self.name = options.title or path.name or str(path)
        self.thumbnails = thumbnails
        self.checkpoint = load_checkpoint(path / LAST)
        if not self.checkpoint.get("history"):
            raise FileFormatError(path / LAST, "holds no rounds of training", "give the folder that train wrote")
        history, self.used = rounds_of(self.checkpoint, path / LAST)
        self.rounds: list[dict[str, Any]] = [figures.as_dict() for figures in history]

    @property
    def numbers(self) -> list[int]:
        """Numbers of the rounds."""
        return [row["round"] for row in self.rounds]

    @property
    def is_blind(self) -> bool:
        """Whether nothing that is held out says how good a round is."""
        return not any(math.isfinite(value) for value in self.measures)

    @property
    def by_teacher(self) -> bool:
        """Whether rounds are chosen by their agreement with a teacher, on photos without a label."""
        return any(math.isfinite(value) for value in self.column("agreement"))

    @property
    def drawn(self) -> str:
        """What `queries` of a round counts: tuples, places of graph batches, or photos with only a teacher; one."""
        sampling = str(self.checkpoint["options"].get("sampling", TUPLES)).partition(":")[0]
        return {"graph": "place", "photos": "photo"}.get(sampling, "tuple")

    @property
    def measures(self) -> list[float]:
        """What rounds are chosen by: the validation mAP, or the agreement."""
        return self.column("agreement" if self.by_teacher else "val_map")

    def column(self, name: str) -> list[float]:
        """A figure of every round; NaN where there is none."""
        return [float(row.get(name, math.nan)) for row in self.rounds]

    def head(self) -> dict[str, Any]:
        """What the template of the page's head shows."""
        maps = self.measures
        return {
            "name": self.name,
            "num_rounds": len(self.rounds) - 1,
            "used": self.used,
            "file": LAST if self.is_blind else BEST,
            "is_blind": self.is_blind,
            "by_teacher": self.by_teacher,
            "before": maps[0],
            "after": maps[self.numbers.index(self.used)],
            "work": duration(sum(value for value in self.column("seconds") if math.isfinite(value))),
            "drawn": self.drawn,
            "seen": int(sum(self.column("queries")[1:])),
        }
