"""A run's folder: `last.pt` to go on from, `best.pt` to use, `curves.csv` to look at."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from retrieval.networks.checkpoints import load_checkpoint, network_of, save_checkpoint
from retrieval.networks.network import Network
from retrieval.networks.weights import load_state
from retrieval.training.options import TrainingOptions, options_from_recipe
from retrieval.training.state import TrainingState
from sfm2tuples.errors import DataError, UsageError
from sfm2tuples.files.atomic import write_text

LAST, BEST, CURVES = "last.pt", "best.pt", "curves.csv"
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
    """The round whose network is `BEST`."""

    @property
    def round(self) -> int:
        """The last round that is over."""
        return self.history[-1].round if self.history else -1

    @property
    def best_map(self) -> float:
        """Validation mAP of the best round; NaN without validation queries."""
        return self.history[self.best_round].val_map

    @property
    def stopped_early(self) -> bool:
        """Whether `patience` rounds have passed without a better validation mAP."""
        waited = self.round - self.best_round
        return 0 < self.options.patience <= waited and not math.isnan(self.best_map)

    @property
    def steps(self) -> int:
        """Steps of all rounds that are over."""
        return sum(math.ceil(figures.queries / self.options.batch_size) for figures in self.history)

    def add(self, figures: RoundFigures, state: TrainingState) -> None:
        """Close a round: write the best network where this is it, then the checkpoint to go on from, then curves.

        In this order, so that a run killed in between does the round again and writes the same files. Of a team only
        the leader writes.
        """
        leads = state.team.leads
        self.history.append(figures)
        # Without validation queries there is no better and no worse: the last network is the best known.
        if figures.round == 0 or math.isnan(figures.val_map) or figures.val_map > self.best_map:
            self.best_round = figures.round
            if leads:
                save_checkpoint(self.folder / BEST, state.network, **self._state())
        if leads:
            others = {"optimiser": state.optimiser.state_dict(), "scaler": state.resources.scaler.state_dict()}
            save_checkpoint(self.folder / LAST, state.network, **others, **self._state())
            write_curves(self.folder / CURVES, self.history)

    def _state(self) -> dict[str, Any]:
        return {
            "round": self.round,
            "options": asdict(self.options),
            "parents": [self.parent],
            "started_from": self.started_from,
            "history": [asdict(figures) for figures in self.history],
            "best_round": self.best_round,
        }


def refuse_taken(folder: Path, force: bool) -> None:
    """Refuse a folder that holds a run already, unless `force` says to replace it.

    Raises
    ------
    UsageError
        It does.
    """
    taken = [name for name in (LAST, BEST) if (folder / name).exists()]
    if taken and not force:
        raise UsageError(f"{folder}: holds a run already ({taken[0]}); --resume goes on with it, --force replaces it")


def start_run(folder: Path, state: TrainingState) -> Run:
    """Make the folder of a new run, without what another run left there; of a team, the leader makes it.

    Raises
    ------
    DataError
        It cannot be made.
    """
    state.team.agree(None)  # nobody empties the folder before everybody has looked into it
    try:
        if state.team.leads:
            folder.mkdir(parents=True, exist_ok=True)
            for name in (LAST, BEST, CURVES):
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise DataError(folder, f"cannot be made a run's folder ({error.strerror})") from error
    return Run(folder, state.options, state.tuples.header.fingerprint, started_from=state.network.fingerprint())


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
    return Run(
        folder=folder,
        options=state.options,
        parent=checkpoint["parents"][0],
        started_from=checkpoint["started_from"],
        history=[RoundFigures(**figures) for figures in checkpoint["history"]],
        best_round=checkpoint["best_round"],
    )


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
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(RoundFigures)])
    for figures in history:
        writer.writerow([_cell(value) for value in asdict(figures).values()])
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
        for name, value in asdict(figures).items():
            if name != "round" and not math.isnan(value):
                self._writer.add_scalar(name, value, figures.round)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
