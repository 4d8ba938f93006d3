"""The table of losses, and how one is made of its options. To add a loss: write its module, and a line here.

A builder takes `LossOptions` and gives a function of `DescribedTuples`: their loss, a sum over tuples. Builders
are named, not imported, so that ``--help`` does not wait for torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfm2tuples.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from retrieval.training.described_tuples import DescribedTuples

Loss = Callable[["DescribedTuples"], "Tensor"]
Setting = bool | int | float | str
CONTRASTIVE, TRIPLET, PML = "contrastive", "triplet", "pml:NAME"
GRADED, GENERALIZED = "graded-contrastive", "generalized-contrastive"
OF_DISTANCES = (CONTRASTIVE, GRADED, GENERALIZED)
"""Losses whose margin is a distance from which on a negative is far enough."""
LOSSES: Mapping[str, str] = {
    CONTRASTIVE: "retrieval.training.losses:contrastive_loss",
    TRIPLET: "retrieval.training.losses:triplet_loss",
    GRADED: "retrieval.training.losses:graded_loss",
    GENERALIZED: "retrieval.training.losses:generalized_loss",
    PML: "retrieval.training.metric_learning:pml_loss",
}
"""Name, as `--loss` takes it, to the module and function that build it. ``FAMILY:NAME`` stands for any name."""


@dataclass(frozen=True)
class LossOptions:
    """Which loss, and its constants."""

    name: str
    """One of `LOSSES`; of a family such as ``pml:NAME`` with the name written out."""
    margin: float
    """Contrastive: distance from which on a negative is far enough; triplet: difference of squared distances."""
    eps: float = 0.0
    """Added to every component of a difference before the contrastive loss's norm."""
    settings: tuple[str, ...] = ()
    """``key=value``: what else the loss can be told."""

    def values(self) -> dict[str, Setting]:
        """The settings by key: whole and decimal numbers, true and false; anything else stays text.

        Raises
        ------
        UsageError
            One is not ``key=value``, or a key comes twice.

        Examples
        --------
        >>> LossOptions("pml:Some", 0.7, settings=("temperature=0.1", "smooth_loss=true", "k=3")).values()
        {'temperature': 0.1, 'smooth_loss': True, 'k': 3}
        """
        values: dict[str, Setting] = {}
        for setting in self.settings:
            key, sign, text = setting.partition("=")
            if not (sign and key and text):
                raise UsageError(f"loss_option {setting!r} is not key=value")
            if key in values:
                raise UsageError(f"loss_option {key} is given twice")
            values[key] = _value(text)
        return values

    def refuse_settings(self, known: Sequence[str] = ()) -> None:
        """Refuse settings that the loss does not have, as a UsageError."""
        unknown = [key for key in self.values() if key not in known]
        if unknown and not known:
            raise UsageError(f"loss {self.name} has no options; leave out loss_option {', '.join(unknown)}")
        if unknown:
            raise UsageError(f"loss {self.name} has no option {', '.join(unknown)}; it has {', '.join(known)}")


def build_loss(options: LossOptions) -> Loss:
    """The loss of that name, with these constants.

    Raises
    ------
    UsageError
        The name is unknown, the loss's package is absent, or a setting is not one of its own.
    """
    family, colon, _ = options.name.partition(":")
    place = LOSSES.get(f"{family}:NAME" if colon else options.name)
    if place is None:
        raise UsageError(f"loss {options.name!r} is unknown; one of {', '.join(LOSSES)}")
    module, builder = place.split(":")
    loss: Loss = getattr(importlib.import_module(module), builder)(options)
    return loss


def _value(text: str) -> Setting:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
