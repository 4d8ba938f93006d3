"""A run's folder: `last.pt` to go on from, `best.pt` to use, `curves.csv` to look at.

`last.pt` is written first and says what the others hold: a run killed in between writes them when it goes on. Without
validation places there is no `best.pt`, since nothing says which round is better.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.networks.checkpoints import save_checkpoint
from retrieval.networks.network import Network
from retrieval.training.curves import RoundFigures, write_curves
from retrieval.training.distillation.teacher_file import BEGUN, settle_teacher
from retrieval.training.last_round import LAST, LastRound
from retrieval.training.options import TrainingOptions
from retrieval.training.state import TrainingState
from sfm2tuples.errors import DataError, UsageError
from sfm2tuples.files.atomic import remove_stale_temporaries

BEST, CURVES = "best.pt", "curves.csv"
START, BEST_ROUND = "start.pt", "best-round.pt"
"""The network before training and that of the best round, where `interpolate` looks between them for `BEST`."""
BLIND_PATIENCE = 2
"""Rounds without a growing gap after which a run without validation places stops, unless `patience` says."""
ADAPTATION = "adaptation"
"""Entry of `LAST` with what a run keeps beside its network (`Adaptation.state`); absent where that is nothing."""
MAY_GROW = ("rounds", "patience")
"""Options that a resumed run may change: no round depends on how many follow."""


@dataclass(frozen=True)
class ChosenShare:
    """What was measured between start and end, and what was kept of it."""

    end: int
    """The round at the other end: the best; where none was better than the start, the last."""
    shares: tuple[float, ...]
    """What was measured, rising; 0 is the network before training, 1 the round `end`."""
    val_maps: tuple[float, ...]
    """Validation mAP of each, 0..1; of a teacher's photos without validation places, the agreement."""

    @property
    def share(self) -> float:
        """The one that is kept: that of the highest mAP, of equals the nearest to the start."""
        return self.shares[self.val_maps.index(self.val_map)]

    @property
    def val_map(self) -> float:
        """Its validation mAP, or agreement."""
        return max(self.val_maps)


@dataclass
class Run:
    """A training under way: what is known of its rounds, and what it is made of."""

    folder: Path
    """Holds `LAST`, `BEST` and `CURVES`."""
    options: TrainingOptions
    """What was asked."""
    parent: str
    """Fingerprint of the tuple file."""
    started_from: str
    """Fingerprint of the network before training."""
    history: list[RoundFigures] = field(default_factory=list)
    """The rounds that are over, round 0 (the network before training) first."""
    best_round: int = 0
    """The round whose network is `BEST`; of a blind run the last one, and there is no `BEST`."""
    interpolated: ChosenShare | None = None
    """What was chosen between start and end after the last round, where that was asked for; `BEST` is its network."""
    teacher: str = ""
    """Fingerprint of the teacher's descriptors, which lie beside the checkpoints; empty without a teacher."""

    @property
    def round(self) -> int:
        """The last round that is over."""
        return self.history[-1].round if self.history else -1

    @property
    def best_map(self) -> float:
        """Validation mAP of the best round, or its agreement with the teacher; NaN where nothing is measured."""
        return self.history[self.best_round].measure

    @property
    def is_blind(self) -> bool:
        """Whether nothing that is held out says how good a round is."""
        return bool(self.history) and math.isnan(self.history[-1].measure)

    @property
    def recommended(self) -> Path:
        """The network to use."""
        return self.folder / (LAST if self.is_blind else BEST)

    @property
    def patience(self) -> int:
        """Rounds without anything better after which it stops; 0: never."""
        return self.options.patience or (BLIND_PATIENCE if self.is_blind else 0)

    @property
    def stopped_early(self) -> bool:
        """Whether `patience` rounds have passed without a better validation mAP; of a blind run, a larger gap."""
        best = self.best_round
        if self.is_blind:
            gaps = np.array([figures.gap for figures in self.history])
            if np.isnan(gaps).any():
                return False  # nothing is kept out, or an earlier version began the run
            best = int(gaps.argmax())
        return 0 < self.patience <= self.round - best

    @property
    def steps(self) -> int:
        """Steps of all rounds that are over; graph batches of fewer places than P count as parts of a step."""
        return sum(math.ceil(figures.queries / self.options.queries_per_step) for figures in self.history)

    def add(self, figures: RoundFigures, state: TrainingState) -> None:
        """Close a round: write the checkpoint to go on from, then the best network where this is it, then curves.

        The first of these makes the round count, and replaces the run that the folder may have held. Killed before it,
        a run does the round again; after it, `write_what_follows` makes the others. Of a team only the leader writes.
        """
        self.history.append(figures)
        if figures.round == 0 or self.is_blind or figures.measure > self.best_map:
            self.best_round = figures.round
        if state.team.leads:
            others = {"optimiser": state.optimiser.state_dict(), "scaler": state.resources.scaler.state_dict()}
            beside = state.adaptation.state()
            others |= {ADAPTATION: beside} if beside else {}
            save_checkpoint(self.folder / LAST, state.network, **others, **self.state())
            self.write_what_follows(state.network)

    def write_what_follows(self, network: Network) -> None:
        """Write what follows from `LAST`, whose network is given: `BEST` where that is it, and `CURVES`."""
        kept: tuple[str, ...] = ()
        if not self.is_blind and self.best_round == self.round:
            ends = (BEST_ROUND, START) if self.round == 0 else (BEST_ROUND,)
            kept = (*(ends if self.options.shares else ()), BEST)
        for name in kept:
            save_checkpoint(self.folder / name, network, **self.state())
        if self.is_blind:
            (self.folder / BEST).unlink(missing_ok=True)
        if self.is_blind or not self.options.shares:
            for name in (START, BEST_ROUND):  # of a run that this one replaces
                (self.folder / name).unlink(missing_ok=True)
        settle_teacher(self.folder, self.teacher)
        write_curves(self.folder / CURVES, self.history)

    def state(self) -> dict[str, Any]:
        """What a checkpoint says of the run."""
        return {
            "round": self.round,
            "options": self.options.as_dict(),
            "parents": [self.parent],
            "started_from": self.started_from,
            "history": [figures.as_dict() for figures in self.history],
            "best_round": self.best_round,
            **({"teacher": self.teacher} if self.teacher else {}),
        }


def refuse_taken(folder: Path, force: bool) -> None:
    """Refuse a folder that holds a run already, unless `force` says to replace it.

    Raises
    ------
    UsageError
        It does.
    """
    if force:
        return
    if (folder / LAST).exists():
        raise UsageError(f"{folder}: holds a run already ({LAST}); --resume goes on with it, --force replaces it")
    if (folder / BEST).exists():
        raise UsageError(f"{folder}: holds a run already ({BEST}, without its {LAST}); --force replaces it")


def start_run(folder: Path, state: TrainingState) -> Run:
    """Make the folder of a new run; of a team, the leader makes it.

    What another run left there stays until the first checkpoint of this one replaces it.

    Raises
    ------
    DataError
        It cannot be made.
    """
    state.team.meet()  # nobody changes the folder before everybody has looked into it
    try:
        if state.team.leads:
            folder.mkdir(parents=True, exist_ok=True)
            _remove_parts(folder)
    except OSError as error:
        raise DataError(folder, f"cannot be made a run's folder ({error.strerror})") from error
    return Run(folder, state.options, state.tuples.header.fingerprint, started_from=state.network.fingerprint())


def _remove_parts(folder: Path) -> None:
    """Remove what a killed run was writing."""
    for name in (LAST, BEST, CURVES, START, BEST_ROUND, BEGUN):
        remove_stale_temporaries(folder / name)


def resume_run(folder: Path, state: TrainingState, last: LastRound) -> Run:
    """Put network, optimiser and fp16's scaler into the state that the folder's last round left them in.

    Raises
    ------
    UsageError
        The run was made with other options, tuples or another network.
    WeightsError
        What the checkpoint holds does not fit them.
    """
    _refuse_others(folder, last, state)
    last.put_into(state.network, state.optimiser, state.resources.scaler)
    state.adaptation.put(last.content.get(ADAPTATION), last.path)
    run = Run(
        folder=folder,
        options=state.options,
        parent=last.content["parents"][0],
        started_from=last.content["started_from"],
        history=last.history,
        best_round=last.content["best_round"],
        teacher=str(last.content.get("teacher", "")),
    )
    if state.team.leads:
        _remove_parts(folder)
        run.write_what_follows(state.network)
    return run


def _refuse_others(folder: Path, last: LastRound, state: TrainingState) -> None:
    before = last.content["parents"]
    if before != [state.tuples.header.fingerprint]:
        what = "another tuple file" if state.tuples.header.format else "other photos"
        raise UsageError(f"{folder}: was trained on {what} (fingerprint {before[0][:12]}…)")
    asked = {name: value for name, value in asdict(state.options).items() if name not in MAY_GROW}
    network = state.network.description.to_dict()
    differences = _differences(asdict(last.options), asked) + _differences(last.content["network"], network)
    if differences:
        raise UsageError(f"{folder}: was trained with {', '.join(differences)}; --resume goes on with the same only")


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [f"{name} {before.get(name)} (now {value})" for name, value in now.items() if before.get(name) != value]
