"""The checkpoint that a run goes on from: read once, and checked before anything is made of it."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retrieval.networks.checkpoints import load_checkpoint, network_of
from retrieval.networks.network import Network
from retrieval.networks.weights import load_state
from retrieval.training.curves import RoundFigures
from retrieval.training.options import TrainingOptions
from sfm2tuples.errors import UsageError, WeightsError, shown
from sfm2tuples.files.plain_fields import odd_field

LAST = "last.pt"
"""Name of the checkpoint in the folder of a run."""
_PARTS: dict[str, type | tuple[type, ...]] = {
    "optimiser": dict,
    "scaler": dict,
    "options": dict,
    "history": (list, tuple),
    "parents": (list, tuple),
    "started_from": str,
    "best_round": int,
}
"""What a checkpoint of a run holds beside its network, and of what kind each is."""
_GATHERED: dict[type[torch.optim.Optimizer], tuple[str, ...]] = {
    torch.optim.SGD: ("momentum_buffer",),
    torch.optim.Adam: ("exp_avg", "exp_avg_sq"),
    torch.optim.AdamW: ("exp_avg", "exp_avg_sq"),
}
"""What an optimiser gathers for each parameter, in its shape; beside it there may be the count of steps."""
_REMEDY = "start the run again without --resume, with --force"


@dataclass(frozen=True)
class LastRound:
    """What `last.pt` holds."""

    path: Path
    """The file."""
    content: dict[str, Any]
    """Of `load_checkpoint`; the parts of a training are there and of their kinds."""
    options: TrainingOptions
    """What was asked of the run."""
    history: list[RoundFigures]
    """The rounds that are over, one after the other from round 0 on; never empty."""

    @classmethod
    def read(cls, folder: Path) -> LastRound:
        """Read the checkpoint of a run's folder.

        Raises
        ------
        UsageError
            There is none, or it is none of a training.
        WeightsError
            It is torn, or its parts do not fit each other or this version.
        """
        path = folder / LAST
        if not path.is_file():
            raise UsageError(f"{folder}: holds no {LAST} to resume from; start the run without --resume")
        content = load_checkpoint(path)
        missing = [name for name in _PARTS if name not in content]
        if missing:
            raise UsageError(f"{path}: is no checkpoint of a training run (it has no {missing[0]})")
        odd = [name for name, kind in _PARTS.items() if not isinstance(content[name], kind)]
        if odd:
            raise WeightsError(path, f"its {odd[0]} cannot be understood", _REMEDY)
        if len(content["parents"]) != 1:
            raise WeightsError(path, "its parents are not the one tuple file of a training", _REMEDY)
        history, _ = rounds_of(content, path)
        return cls(path, content, _options(path, content["options"]), history)

    def network(self) -> Network:
        """The network that the run goes on with, in evaluation mode, on the CPU."""
        return network_of(self.content, self.path)

    def options_with(self, **chosen: Any) -> TrainingOptions:
        """The run's options, with what is chosen now in their place."""
        return TrainingOptions(**{**self.content["options"], **chosen})

    def put_into(self, network: Network, optimiser: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
        """Put a network, an optimiser and fp16's scaler into the state that the round left them in.

        Raises
        ------
        WeightsError
            The state does not fit them.
        """
        load_state(network, self.content["weights"], self.path)
        # The optimiser's constants follow from the options; only what it has gathered is taken from the file.
        gathered, groups = self.content["optimiser"].get("state"), optimiser.state_dict()["param_groups"]
        if not _is_gathered(gathered, optimiser):
            raise WeightsError(self.path, "its optimiser does not fit the run", _REMEDY)
        states = {"optimiser": {"state": gathered, "param_groups": groups}, "scaler": self.content["scaler"]}
        for name, part in (("optimiser", optimiser), ("scaler", scaler)):
            try:
                part.load_state_dict(states[name])
            # torch checks little of what it is given, and says in many ways that it does not fit.
            except Exception as error:
                raise WeightsError(self.path, f"its {name} does not fit the run", _REMEDY) from error


def _is_gathered(state: object, optimiser: torch.optim.Optimizer) -> bool:
    """Whether this is what an optimiser has gathered for some of its parameters, by their numbers."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]

    def fits(values: object, parameter: Tensor) -> bool:
        kept = _GATHERED[type(optimiser)]
        if not isinstance(values, dict) or not set(kept) <= values.keys() <= {*kept, "step"}:
            return False
        shapes = {**dict.fromkeys(kept, parameter.shape), "step": torch.Size()}
        return all(value is None or _is_finite(value, shapes[name]) for name, value in values.items())

    return isinstance(state, dict) and all(
        isinstance(row, int) and 0 <= row < len(parameters) and fits(values, parameters[row])
        for row, values in state.items()
    )


def _is_finite(value: object, shape: torch.Size) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.dtype == torch.float32
        and value.shape == shape
        and bool(torch.isfinite(value).all())
    )


def rounds_of(content: dict[str, Any], path: Path) -> tuple[list[RoundFigures], int]:
    """The figures of all rounds of a training's checkpoint, and the number of the best; `path` is for messages.

    Raises
    ------
    WeightsError
        There are none, they are not numbers of rounds that follow each other, or the best is none of them.
    """
    rows, best = content.get("history", []), content.get("best_round")
    known = {field.name: field.default is MISSING for field in fields(RoundFigures)}
    for number, row in enumerate(rows):
        missing = [name for name, needed in known.items() if needed and name not in row]
        numbers = all(isinstance(value, (int, float)) for value in row.values())
        if missing or row.keys() - known.keys() or not numbers or row["round"] != number:
            raise WeightsError(path, f"its history is not one of rounds (row {number})", _REMEDY)
    if not rows:
        raise WeightsError(path, "its history is empty", _REMEDY)
    if not isinstance(best, int) or not 0 <= best < len(rows):
        raise WeightsError(path, f"its best_round is {shown(best)}, of {len(rows):,} rounds", _REMEDY)
    return [RoundFigures(**row) for row in rows], best


def _options(path: Path, values: dict[str, Any]) -> TrainingOptions:
    """The options of the run; a WeightsError where this version does not know or understand one."""
    known = {field.name: field.default is MISSING for field in fields(TrainingOptions)}
    unknown = sorted(values.keys() - known.keys())
    if unknown:
        what = f"was trained with the option {shown(unknown[0])}, which this version does not know"
        raise WeightsError(path, what, "upgrade, or " + _REMEDY)
    missing = [name for name, needed in known.items() if needed and name not in values]
    if missing:
        raise WeightsError(path, f"its options lack {missing[0]}", _REMEDY)
    odd = odd_field(values, TrainingOptions)
    if odd is not None:
        raise WeightsError(path, f"its options have {shown(values[odd])} for {odd}", _REMEDY)
    try:
        return TrainingOptions(**values)
    except UsageError as error:
        raise WeightsError(path, f"its options cannot be used ({error})") from error
