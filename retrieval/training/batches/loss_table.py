"""The table of losses of batches. To add one: write its function, and a line here.

A builder takes `LossOptions` and gives a function of `DescribedBatch`: a sum over anchors. Builders are named, not
imported, so that ``--help`` does not wait for torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from retrieval.training.losses_by_name import CONTRASTIVE, GENERALIZED, GRADED, LOSSES, PML, LossOptions
from sfm2tuples.errors import UsageError

if TYPE_CHECKING:
    from retrieval.training.batches.described import BatchLoss

MULTI_SIMILARITY, SMOOTH_AP = "multi-similarity", "smooth-ap"
BATCH_LOSSES: Mapping[str, str] = {
    CONTRASTIVE: "retrieval.training.batches.pair_losses:contrastive_of_batch",
    GRADED: "retrieval.training.batches.pair_losses:graded_of_batch",
    GENERALIZED: "retrieval.training.batches.pair_losses:generalized_of_batch",
    MULTI_SIMILARITY: "retrieval.training.batches.pair_losses:multi_similarity_of_batch",
    SMOOTH_AP: "retrieval.training.batches.pair_losses:smooth_ap_of_batch",
    PML: "retrieval.training.batches.metric_learning:pml_of_batch",
}
"""Name, as `--loss` takes it beside `--sampling graph:PxK`, to the module and function that build it."""
MULTI_SIMILARITY_MARGIN = 0.1
"""The miner's [Wang et al. 2019] (method.md section 13)."""


def build_batch_loss(options: LossOptions) -> BatchLoss:
    """The loss of that name, with these constants.

    Raises
    ------
    UsageError
        No loss of batches has the name, its package is absent, or a setting is not one of its own.
    """
    family, colon, _ = options.name.partition(":")
    place = BATCH_LOSSES.get(f"{family}:NAME" if colon else options.name)
    if place is None:
        what = "is one of tuples" if options.name in LOSSES else "is unknown"
        raise UsageError(f"loss {options.name!r} {what}; graph batches take one of {', '.join(BATCH_LOSSES)}")
    module, builder = place.split(":")
    loss: BatchLoss = getattr(importlib.import_module(module), builder)(options)
    return loss


def refuse_of_batches(name: str) -> None:
    """Refuse the name of a loss that tuples do not have, as a UsageError that names those of batches too."""
    if name in BATCH_LOSSES and name not in LOSSES:
        raise UsageError(f"loss {name} looks at all pairs of a batch; add --sampling graph:PxK, such as graph:8x4")
    if name not in LOSSES and ":" not in name:
        others = ", ".join(other for other in BATCH_LOSSES if other not in LOSSES)
        with_batches = f"with --sampling graph:PxK also {others}"
        raise UsageError(f"loss {name!r} is unknown; one of {', '.join(LOSSES)}; {with_batches}")
