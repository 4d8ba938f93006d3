"""Optimiser, parameter groups and learning rate (METHOD.md section 7)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from retrieval.pooling import GeM
from retrieval.recipes import GEM_RATE_FACTOR
from retrieval.training_options import ADAM, SGD, TrainingOptions

MOMENTUM = 0.9
"""Of SGD, [E16], [P18] (METHOD.md section 7)."""


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trainable parameters: GeM's p at ten times the rate without weight decay, and all the rest.

    Returns
    -------
    list of dict
        Groups for an optimiser, each with its `rate_factor`, which `set_learning_rate` multiplies by.
    """
    exponents = [p for module in network.modules() if isinstance(module, GeM) for p in module.parameters()]
    ids = {id(p) for p in exponents}
    rest = [p for p in network.parameters() if p.requires_grad and id(p) not in ids]
    groups = [{"params": rest, "weight_decay": weight_decay, "rate_factor": 1.0}]
    if exponents:
        groups.append({"params": exponents, "weight_decay": 0.0, "rate_factor": GEM_RATE_FACTOR})
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
    >>> from retrieval.training_options import options_from_recipe
    >>> learning_rate(options_from_recipe("vgg16", "eccv16"), round=31)  # the 11th epoch's first
    0.0002
    """
    epoch = (round - 1) // options.rounds_per_epoch
    return options.learning_rate * options.decay ** (epoch // options.decay_every)


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give each group the rate times its factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["rate_factor"]
