"""A run's folder: `last.pt` to go on from, `best.pt` to use, `curves.csv` to look at.

`last.pt` is written first and says what the others hold: a run killed in between writes them when it goes on. Without
validation places there is no `best.pt`, since nothing says which round is better.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.networks.checkpoints import load_checkpoint, network_of, save_checkpoint
from retrieval.networks.network import Network
from retrieval.networks.weights import load_state
from retrieval.training.options import TrainingOptions, options_from_recipe
from retrieval.training.state import TrainingState
from sfm2tuples.errors import DataError, UsageError, WeightsError
from sfm2tuples.files.atomic import remove_stale_temporaries, write_text

LAST, BEST, CURVES = "last.pt", "best.pt", "curves.csv"
BLIND_PATIENCE = 2
"""Rounds without a growing gap after which a run without validation places stops, unless `patience` says."""
MAY_GROW = ("rounds", "patience")
"""Options that a resumed run may change: no round depends on how many follow."""


@dataclass(frozen=True)
class RoundFigures:
    """One round in numbers; NaN where there is none. Round 0 is the network before training."""

    round: int
    """Number of the round, from 0."""
    learning_rate: float
    """Rate of the round."""
    train_loss: float
    """Mean loss of the round's tuples, each at the moment it was trained on."""
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
    """Tuples that the round trained on."""
    gap: float = math.nan
    """Without validation places: mean cosine of kept-out queries and positives less that with negatives."""

    def as_dict(self) -> dict[str, Any]:
        """The figures by name; the gap only where there is one."""
        values = asdict(self)
        return values if not math.isnan(self.gap) else {name: values[name] for name in values if name != "gap"}


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

    @property
    def round(self) -> int:
        """The last round that is over."""
        return self.history[-1].round if self.history else -1

    @property
    def best_map(self) -> float:
        """Validation mAP of the best round; NaN without validation queries."""
        return self.history[self.best_round].val_map

    @property
    def is_blind(self) -> bool:
        """Whether no validation query says how good a round is."""
        return bool(self.history) and math.isnan(self.history[-1].val_map)

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
        """Steps of all rounds that are over."""
        return sum(math.ceil(figures.queries / self.options.batch_size) for figures in self.history)

    def add(self, figures: RoundFigures, state: TrainingState) -> None:
        """Close a round: write the checkpoint to go on from, then the best network where this is it, then curves.

        The first of these makes the round count, and replaces the run that the folder may have held. Killed before it,
        a run does the round again; after it, `write_what_follows` makes the others. Of a team only the leader writes.
        """
        self.history.append(figures)
        if figures.round == 0 or self.is_blind or figures.val_map > self.best_map:
            self.best_round = figures.round
        if state.team.leads:
            others = {"optimiser": state.optimiser.state_dict(), "scaler": state.resources.scaler.state_dict()}
            save_checkpoint(self.folder / LAST, state.network, **others, **self._state())
            self.write_what_follows(state.network)

    def write_what_follows(self, network: Network) -> None:
        """Write what follows from `LAST`, whose network is given: `BEST` where that is it, and `CURVES`."""
        if self.is_blind:
            (self.folder / BEST).unlink(missing_ok=True)
        elif self.best_round == self.round:
            save_checkpoint(self.folder / BEST, network, **self._state())
        write_curves(self.folder / CURVES, self.history)

    def _state(self) -> dict[str, Any]:
        return {
            "round": self.round,
            "options": asdict(self.options),
            "parents": [self.parent],
            "started_from": self.started_from,
            "history": [figures.as_dict() for figures in self.history],
            "best_round": self.best_round,
        }


def refuse_taken(folder: Path, force: bool) -> None:
    """Refuse a folder that holds a run already, unless `force` says to replace it.

    A `best.pt` alone is taken for what a run left that was killed in its round 0, if it is of that round.

    Raises
    ------
    UsageError
        It does.
    """
    if force:
        return
    if (folder / LAST).exists():
        raise UsageError(f"{folder}: holds a run already ({LAST}); --resume goes on with it, --force replaces it")
    if (folder / BEST).exists() and _round_of(folder / BEST) != 0:
        raise UsageError(f"{folder}: holds a run already ({BEST}, without its {LAST}); --force replaces it")


def _round_of(path: Path) -> int | None:
    """The round of a checkpoint; None where it cannot be read."""
    try:
        return load_checkpoint(path).get("round")
    except WeightsError:
        return None


def start_run(folder: Path, state: TrainingState) -> Run:
    """Make the folder of a new run; of a team, the leader makes it.

    What another run left there stays until the first checkpoint of this one replaces it.

    Raises
    ------
    DataError
        It cannot be made.
    """
    state.team.agree(None)  # nobody changes the folder before everybody has looked into it
    try:
        if state.team.leads:
            folder.mkdir(parents=True, exist_ok=True)
            _remove_parts(folder)
    except OSError as error:
        raise DataError(folder, f"cannot be made a run's folder ({error.strerror})") from error
    return Run(folder, state.options, state.tuples.header.fingerprint, started_from=state.network.fingerprint())


def _remove_parts(folder: Path) -> None:
    """Remove what a killed run was writing."""
    for name in (LAST, BEST, CURVES):
        remove_stale_temporaries(folder / name)


def _read_last(folder: Path) -> dict[str, Any]:
    """The checkpoint that a run would go on from; a UsageError where there is none, or it is not one of training."""
    path = folder / LAST
    if not path.is_file():
        raise UsageError(f"{folder}: holds no {LAST} to resume from; start the run without --resume")
    checkpoint = load_checkpoint(path)
    missing = [name for name in ("optimiser", "scaler", "options", "history", "parents") if name not in checkpoint]
    if missing:
        raise UsageError(f"{path}: is no checkpoint of a training run (it has no {missing[0]})")
    return checkpoint


def options_of_run(folder: Path | None, backbone: str, **chosen: Any) -> TrainingOptions:
    """What a run is asked to do: a new one by `options_from_recipe`; a resumed one as before, with what is chosen.

    Parameters
    ----------
    folder : Path, optional
        Of the run to resume; None for a new one.
    backbone, **chosen
        As for `options_from_recipe`; `recipe` may be None.
    """
    chosen = {name: value for name, value in chosen.items() if value is not None}
    if folder is None:
        return options_from_recipe(backbone, **chosen)
    return TrainingOptions(**{**_read_last(folder)["options"], **chosen})


def network_of_run(folder: Path) -> Network:
    """The network that a run would go on with."""
    return network_of(_read_last(folder), folder / LAST)


def resume_run(folder: Path, state: TrainingState) -> Run:
    """Put network, optimiser and fp16's scaler into the state that `LAST` holds.

    Raises
    ------
    UsageError
        Nothing to resume from, or the run was made with other options, tuples or another network.
    """
    checkpoint = _read_last(folder)
    _refuse_others(folder, checkpoint, state)
    load_state(state.network, checkpoint["weights"], folder / LAST)
    state.optimiser.load_state_dict(checkpoint["optimiser"])
    state.resources.scaler.load_state_dict(checkpoint["scaler"])
    run = Run(
        folder=folder,
        options=state.options,
        parent=checkpoint["parents"][0],
        started_from=checkpoint["started_from"],
        history=[RoundFigures(**figures) for figures in checkpoint["history"]],
        best_round=checkpoint["best_round"],
    )
    if state.team.leads:
        _remove_parts(folder)
        run.write_what_follows(state.network)
    return run


def _refuse_others(folder: Path, checkpoint: dict[str, Any], state: TrainingState) -> None:
    before = checkpoint["parents"]
    if before != [state.tuples.header.fingerprint]:
        raise UsageError(f"{folder}: was trained on another tuple file (fingerprint {before[0][:12]}…)")
    asked = {name: value for name, value in asdict(state.options).items() if name not in MAY_GROW}
    network = state.network.description.to_dict()
    differences = _differences(checkpoint["options"], asked) + _differences(checkpoint["network"], network)
    if differences:
        raise UsageError(f"{folder}: was trained with {', '.join(differences)}; --resume goes on with the same only")


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [f"{name} {before.get(name)} (now {value})" for name, value in now.items() if before.get(name) != value]


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
