"""Optimiser, parameter groups and learning rate (method.md section 7)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from retrieval.networks.poolings.gem import GeM
from retrieval.training.options import TrainingOptions
from retrieval.training.recipes import ADAM, GEM_CHANNELS_RATE_FACTOR, GEM_RATE_FACTOR, SGD

MOMENTUM = 0.9
"""Of SGD, [E16], [P18] (method.md section 7)."""


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trainable parameters: GeM's p without weight decay at a rate of its own, and all the rest.

    The rate is ten times that of the rest, a hundred times where each channel has its p.

    Returns
    -------
    list of dict
        Groups for an optimiser, each with its `rate_factor`, which `set_learning_rate` multiplies by.
    """
    pools = [module for module in network.modules() if isinstance(module, GeM)]
    ids = {id(pool.p) for pool in pools}
    rest = [p for p in network.parameters() if p.requires_grad and id(p) not in ids]
    groups: list[dict[str, Any]] = [{"params": rest, "weight_decay": weight_decay, "rate_factor": 1.0}]
    for pool in pools:
        factor = GEM_CHANNELS_RATE_FACTOR if pool.per_channel else GEM_RATE_FACTOR
        groups.append({"params": [pool.p], "weight_decay": 0.0, "rate_factor": factor})
    return groups


def build_optimiser(network: nn.Module, options: TrainingOptions) -> torch.optim.Optimizer:
    """SGD with momentum, Adam (weight decay as L2 in the gradient) or AdamW (decoupled), at the first round's rate."""
    groups = parameter_groups(network, options.weight_decay)
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
