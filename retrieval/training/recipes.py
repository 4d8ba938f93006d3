"""Named sets of training constants, each with its source (method.md sections 6 and 7)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from retrieval.training.batches.loss_table import MULTI_SIMILARITY, MULTI_SIMILARITY_MARGIN
from retrieval.training.losses_by_name import TRIPLET
from sfm2tuples.mining.batch_options import HARD, RANDOM

Value = TypeVar("Value")
Sourced = tuple[Any, str]
"""A constant and where it comes from."""
SGD, ADAM, ADAMW = "sgd", "adam", "adamw"
OPTIMISERS = (SGD, ADAM, ADAMW)

OTHERWISE = "otherwise"
"""The key of `Recipe.optimiser`, `learning_rate` and `margin` that stands for every backbone without one of its own."""

GEM_RATE_FACTOR = 10.0
"""GeM's exponent learns at ten times the rate, without weight decay [P18], [C] (method.md section 7)."""

GEM_CHANNELS_RATE_FACTOR = 100.0
"""Likewise where each channel has an exponent of its own [C] (method.md section 7)."""

TRIPLET_MARGIN = 0.1
"""Difference of squared distances [E16] (method.md section 6)."""

MARGINS_P18: Mapping[str, float] = {
    "alexnet": 0.7,
    "squeezenet1_1": 0.7,
    "vgg16": 0.75,
    "resnet18": 0.85,
    "resnet50": 0.85,
    "resnet101": 0.85,
    "resnet152": 0.85,
    OTHERWISE: 0.85,
}
"""Contrastive margin by backbone: [P18]; ours: SqueezeNet's, as AlexNet's (method.md section 6), and timm's, as
ResNet's."""


@dataclass(frozen=True)
class Recipe:
    """The constants of one published way to train, or of ours."""

    name: str
    """What `--recipe` calls it."""
    optimiser: Mapping[str, str]
    """Backbone to ``sgd`` (momentum 0.9), ``adam`` or ``adamw``."""
    learning_rate: Mapping[str, float]
    """Backbone to the rate of the first epoch."""
    decay: float
    """The rate is multiplied by this ..."""
    decay_every: int
    """... each time so many epochs are over."""
    weight_decay: float
    """L2 in the gradient (decoupled for adamw only)."""
    batch_size: int
    """Tuples a step."""
    epochs: int
    """How long the published training ran."""
    rounds_per_epoch: int
    """Rounds (mine once, then train on its queries) in one epoch."""
    queries_per_round: int
    """Tuples of one round at most."""
    pool: str
    """Strategy for the pool of negatives; empty: the one the tuples were mined with."""
    image_size: int
    """Longest side of a training photo in pixels, aspect kept."""
    margin: Mapping[str, float]
    """Backbone to the contrastive loss's margin."""
    eps: float
    """Added to every component of a difference before the contrastive loss's norm."""
    sources: Mapping[str, str] = field(repr=False)
    """Field, or key of `besides`, to where its value comes from."""
    besides: Mapping[str, Any] = field(default_factory=dict)
    """Other fields of `TrainingOptions` that it sets: what a step trains on, the loss, what learns."""

    @property
    def rounds(self) -> int:
        """Rounds of the whole training."""
        return self.epochs * self.rounds_per_epoch


def for_backbone(values: Mapping[str, Value], backbone: str) -> Value:
    """A recipe's value for one backbone.

    Examples
    --------
    >>> for_backbone(CIRTORCH.learning_rate, "resnet101")
    5e-07
    """
    return values[backbone] if backbone in values else values[OTHERWISE]


def margin_of(recipe: Recipe, loss: str, backbone: str) -> float:
    """Margin of a loss: the recipe's by backbone for the contrastive ones, 0.1 for the triplet and multi-similarity."""
    own = {TRIPLET: TRIPLET_MARGIN, MULTI_SIMILARITY: MULTI_SIMILARITY_MARGIN}
    return own[loss] if loss in own else for_backbone(recipe.margin, backbone)


_TABLE = "method.md section 7, as in "
_PROTOTYPE = "ours: the prototype on 20 places of a few hundred photos (data/README.md)"
_MARGINS = (MARGINS_P18, "method.md section 6 [P18]; SqueezeNet's 0.7 is ours")
_COMMON: Mapping[str, Sourced] = {
    "batch_size": (5, "method.md section 7 [E16], [P18], [C]"),
    "queries_per_round": (2000, "method.md section 3, the common unit of all recipes"),
    "image_size": (362, "method.md section 7 [E16], [P18]; the option's default in [C] is 1024"),
    "eps": (0.0, "method.md section 6: 1e-6 in [C] alone"),
    "weight_decay": (5e-4, _TABLE + "[E16], [P18]"),
    "epochs": (30, _TABLE + "[E16], [P18]"),
    "rounds_per_epoch": (3, _TABLE + "[M]"),
}
"""What all recipes share, or most."""


def _recipe(name: str, **constants: Sourced) -> Recipe:
    """A recipe of the common constants and, in their place, its own: each with its source."""
    sourced = {**_COMMON, **constants}
    values: dict[str, Any] = {field: value for field, (value, _) in sourced.items()}
    known = {field.name for field in fields(Recipe)}
    besides = {field: values.pop(field) for field in sorted(values.keys() - known)}
    sources = {field: source for field, (_, source) in sourced.items()}
    return Recipe(name=name, sources=sources, besides=besides, **values)


ECCV16 = _recipe(
    "eccv16",
    optimiser=({OTHERWISE: SGD}, _TABLE + "[E16]: SGD, momentum 0.9"),
    learning_rate=({OTHERWISE: 1e-3}, _TABLE + "[M]"),
    decay=(1 / 5, _TABLE + "[M]: divided by 5"),
    decay_every=(10, _TABLE + "[M]: every 10 epochs"),
    pool=("ends+per-place:20", "method.md section 5 [E16]"),
    margin=({OTHERWISE: 0.7}, "method.md section 6 [E16]"),
)
TPAMI18 = _recipe(
    "tpami18",
    optimiser=(
        {"alexnet": SGD, OTHERWISE: ADAM},
        _TABLE + "[P18]: SGD for AlexNet, Adam for VGG and ResNet; SqueezeNet (ours) as VGG",
    ),
    learning_rate=(
        {"alexnet": 1e-3, OTHERWISE: 1e-6},
        _TABLE + "[P18]: 1e-3 for AlexNet with SGD, 1e-6 with Adam",
    ),
    decay=(math.exp(-0.1), _TABLE + "[P18]: exp(-0.1 e)"),
    decay_every=(1, _TABLE + "[P18]"),
    pool=("ends+random:22000", "method.md section 5 [M]"),
    margin=_MARGINS,
)
CIRTORCH = _recipe(
    "cirtorch",
    optimiser=({OTHERWISE: ADAM}, _TABLE + "[C]"),
    learning_rate=({"resnet101": 5e-7, OTHERWISE: 1e-6}, _TABLE + "[C]: 5e-7 for ResNet101"),
    decay=(math.exp(-0.01), _TABLE + "[C]: exp(-0.01 e)"),
    decay_every=(1, _TABLE + "[C]"),
    weight_decay=(1e-6, _TABLE + "[C]; 1e-4 before its version 1.2"),
    epochs=(100, _TABLE + "[C]"),
    rounds_per_epoch=(1, _TABLE + "[C]"),
    pool=("random:22000", "method.md section 5 [C]"),
    margin=_MARGINS,
    eps=(1e-6, "method.md section 6 [C]"),
)
SMALL = _recipe(
    "small",
    optimiser=({OTHERWISE: ADAM}, _PROTOTYPE),
    learning_rate=({OTHERWISE: 2e-5}, _PROTOTYPE),
    decay=(math.exp(-0.1), _PROTOTYPE),
    decay_every=(1, _PROTOTYPE),
    weight_decay=(5e-4, _PROTOTYPE),
    epochs=(4, _PROTOTYPE + ": more rounds learn the few places by heart"),
    rounds_per_epoch=(1, "method.md section 7: on small data one round is an epoch"),
    pool=("", "ours: as the tuples were mined"),
    margin=_MARGINS,
)
_IZQUIERDO = "[Izquierdo and Civera, CVPR 2024], as in main.py of serizba/salad"
_OF_SALAD: Mapping[str, Sourced] = {
    "optimiser": ({OTHERWISE: ADAMW}, _IZQUIERDO),
    "weight_decay": (9.5e-9, _IZQUIERDO),
    "pool": ("", "ours: as the tuples were mined"),
    "margin": (MARGINS_P18, "as in small, should a contrastive loss be chosen; the miner has 0.1, as there"),
    "rounds_per_epoch": (1, "ours: a round is an epoch"),
    "loss": (MULTI_SIMILARITY, _IZQUIERDO + ", as in GSV-Cities [Ali-bey et al. 2022]"),
    "loss_option": (("alpha=1", "beta=50", "base=0"), "utils/losses.py of serizba/salad, as in GSV-Cities"),
}
"""What both recipes of large retrievers share."""
SALAD = _recipe(
    "salad",
    **{
        **_OF_SALAD,
        "learning_rate": ({OTHERWISE: 6e-5}, _IZQUIERDO),
        "decay": (0.2 ** (1 / 3), "ours: in the fourth epoch a fifth; theirs falls to it in a line over 4,000 steps"),
        "decay_every": (1, "ours: once an epoch; theirs falls step by step"),
        "epochs": (4, _IZQUIERDO),
        "image_size": (224, _IZQUIERDO + ": 224 x 224; here the longest side, unless the network warps photos"),
        "sampling": ("graph:60x4", _IZQUIERDO + ": 60 places, 4 images of each"),
        "batch_choice": (RANDOM, _IZQUIERDO + ": places drawn at random"),
        "train_only": ("last:4", _IZQUIERDO + ": the last 4 blocks, and the head"),
    },
)
_SITE = "ours, not measured on MegaLoc itself: "
MEGALOC_SITE = _recipe(
    "megaloc-site",
    **{
        **_OF_SALAD,
        "learning_rate": ({OTHERWISE: 1e-5}, _SITE + "a sixth of SALAD's, for a network that is trained already"),
        "decay": (math.exp(-0.1), _SITE + "as small"),
        "decay_every": (1, _SITE + "as small"),
        "epochs": (4, _SITE + "as small: more rounds learn a few places by heart"),
        "image_size": (322, "the size of MegaLoc's evaluations [Berton and Masone 2025]"),
        "sampling": ("graph:8x4", "quadruplets as in [Berton and Masone 2025]; 8 places: " + _SITE + "a site has few"),
        "batch_choice": (HARD, _SITE + "places that the network takes for each other (method.md section 13)"),
        "train_only": ("last:2", _SITE + "the head and the last two blocks"),
        "depth_decay": (0.8, _SITE + "deeper weights move less"),
        "interpolate": ("auto", "method.md section 14 [Wortsman et al., CVPR 2022]: never worse than the start"),
    },
)

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe for recipe in (SMALL, ECCV16, TPAMI18, CIRTORCH, SALAD, MEGALOC_SITE)
}
"""By name; `small` is the default of `train`."""
