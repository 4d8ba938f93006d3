"""Optimiser, parameter groups and learning rate (method.md section 7)."""

from __future__ import annotations

from typing import Any

import torch

from retrieval.networks.network import Network
from retrieval.networks.poolings.gem import GeM
from retrieval.training.adaptation.adapted import Adaptation
from retrieval.training.adaptation.parts import depths_of
from retrieval.training.options import TrainingOptions
from retrieval.training.recipes import ADAM, GEM_CHANNELS_RATE_FACTOR, GEM_RATE_FACTOR, SGD

MOMENTUM = 0.9
"""Of SGD, [E16], [P18] (method.md section 7)."""


def parameter_groups(
    network: Network, weight_decay: float, depth_decay: float = 1.0, adaptation: Adaptation | None = None
) -> list[dict[str, Any]]:
    """Split the trainable parameters: GeM's p without weight decay at a rate of its own, and all the rest.

    The rate is ten times that of the rest, a hundred times where each channel has its p.

    Parameters
    ----------
    network : Network
    weight_decay : float
    depth_decay : float
        Below 1, a block of the backbone has a group of its own: the rate is multiplied by this for the head above it,
        and once more for each block in between.
    adaptation : Adaptation, optional
        Says which parameters stand in place of one of the network.

    Returns
    -------
    list of dict
        Groups for an optimiser, each with its `rate_factor`, which `set_learning_rate` multiplies by.
    """
    adaptation = adaptation or Adaptation()
    pools = [module for module in network.modules() if isinstance(module, GeM)]
    ids = {id(pool.p) for pool in pools}
    rest = {name: p for name, p in network.named_parameters() if p.requires_grad and id(p) not in ids}
    depths = depths_of(network) if depth_decay != 1 else dict.fromkeys(rest, 0)
    groups: list[dict[str, Any]] = []
    # The head's depth, also where its pooling has no weights.
    top = len(network.backbone.block_names()) + 1 if depth_decay != 1 else 0
    for depth in sorted({top, *(depths[name] for name in rest)}, reverse=True):
        chosen = [part for name, p in rest.items() if depths[name] == depth for part in adaptation.in_place_of(p)]
        groups.append({"params": chosen, "weight_decay": weight_decay, "rate_factor": depth_decay ** (top - depth)})
    for pool in pools:
        factor = GEM_CHANNELS_RATE_FACTOR if pool.per_channel else GEM_RATE_FACTOR
        groups.append({"params": [pool.p], "weight_decay": 0.0, "rate_factor": factor})
    return groups


def build_optimiser(
    network: Network, options: TrainingOptions, adaptation: Adaptation | None = None
) -> torch.optim.Optimizer:
    """SGD with momentum, Adam (weight decay as L2 in the gradient) or AdamW (decoupled), at the first round's rate."""
    groups = parameter_groups(network, options.weight_decay, options.depth_decay, adaptation)
    optimiser: torch.optim.Optimizer
    if options.optimiser == SGD:
        optimiser = torch.optim.SGD(groups, lr=options.learning_rate, momentum=MOMENTUM)
    elif options.optimiser == ADAM:
        optimiser = torch.optim.Adam(groups, lr=options.learning_rate)
    else:
        optimiser = torch.optim.AdamW(groups, lr=options.learning_rate)
    set_learning_rate(optimiser, options.learning_rate)
    return optimiser


def learning_rate(options: TrainingOptions, round: int) -> float:
    """Rate of a round, counted from 1; the first epoch has the full rate.

    Examples
    --------
    >>> from retrieval.training.options import options_from_recipe
    >>> learning_rate(options_from_recipe("vgg16", "eccv16"), round=31)  # the 11th epoch's first
    0.0002
    """
    epoch = (round - 1) // options.rounds_per_epoch
    return options.learning_rate * options.decay ** (epoch // options.decay_every)


def warmed_up(rate: float, step: int, warm_up: int) -> float:
    """The rate of a step, counted from 0 over the whole run, while it rises over the first `warm_up` steps."""
    return rate * min(1.0, (step + 1) / warm_up) if warm_up else rate


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give each group the rate times its factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["rate_factor"]
