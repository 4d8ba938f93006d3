"""What changes the outcome of a training: constants from a recipe, each of which can be overridden."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from retrieval.descriptors.extraction import ExtractionOptions
from retrieval.networks.devices import FP32, PRECISIONS
from retrieval.photos.augmentation import Augmentation
from retrieval.photos.choices import STORED, UPRIGHT
from retrieval.protocols.benchmark import MIN_SHARED
from retrieval.training.adaptation.parts import ALL, HEAD, Learners, learners_of
from retrieval.training.batches.loss_table import SMOOTH_AP, build_batch_loss, refuse_of_batches
from retrieval.training.distillation.sampling import PhotoSampling, sampling_of
from retrieval.training.losses_by_name import CONTRASTIVE, OF_DISTANCES, LossOptions, build_loss
from retrieval.training.recipes import OPTIMISERS, RECIPES, SMALL, Recipe, for_backbone, margin_of
from sfm2tuples.errors import UsageError
from sfm2tuples.mining.batch_options import BATCH_CHOICES, GRAPH, HARD, TUPLES, GraphSampling

MINING_FIELDS = ("positives", "negatives", "num_negatives", "query_share", "queries_per_place", "pool")
"""Fields that replace those of the same name in the tuple file's `MiningOptions` when tuples are mined anew."""
LATER = (
    *("sampling", "batch_choice", "train_only", "freeze_below", "depth_decay", "ema", "interpolate"),
    "teacher_weight",
)
"""Fields that earlier versions did not have: they are written only where they are chosen, so that files keep their
bytes."""
RELATIONAL = "relational"
"""The loss of batches of photos, which are the teacher's alone."""
OF_LABELS = ("loss", "margin", "eps", "loss_option", "batch_choice", "batch_size", "remine", "teacher_weight")
"""Fields that say nothing of such batches, besides `MINING_FIELDS`."""
OF_BATCHES = ("sampling", "batch_choice", "loss", "loss_option")
"""Fields that a recipe of graph batches sets, and that say nothing of another sampling."""
NO, AUTO = "no", "auto"
"""Values of `interpolate` besides a share."""
SHARES = (0.25, 0.5, 0.75, 1.0)
"""Shares between the network before training and the best one that `auto` measures."""

LARGEST = 3e38
"""No number is larger; single precision holds 3.4e38."""


@dataclass(frozen=True)
class TrainingOptions:
    """All that a run's outcome depends on besides tuples, network and photos; the flags of `train` are its fields."""

    recipe: str
    """Name of the recipe that gave what was not chosen by hand."""
    loss: str
    """``contrastive``, ``triplet``, ``generalized-contrastive`` or, ours, ``graded-contrastive`` (method.md section 6),
    or ``pml:NAME``; of graph batches the contrastive ones, ``multi-similarity``, ``smooth-ap`` (section 13) or
    ``pml:NAME``; of batches of photos ``relational``, a teacher's (section 15)."""
    margin: float
    """Contrastive: distance from which on a negative is far enough; triplet: difference of squared distances;
    multi-similarity: difference of cosines within which pairs are mined.

    A loss ``pml:NAME`` has its own among `loss_option`."""
    eps: float
    """Added to every component of a difference before the contrastive loss's norm; 1e-6 in cirtorch, else 0."""
    optimiser: str
    """``sgd`` (momentum 0.9), ``adam`` or ``adamw``."""
    learning_rate: float
    """Rate of the first epoch; GeM's p learns at ten times that."""
    decay: float
    """The rate is multiplied by this ..."""
    decay_every: int
    """... each time so many epochs are over."""
    weight_decay: float
    """L2 in the gradient (decoupled for adamw only); none on GeM's p."""
    batch_size: int
    """Tuples a step."""
    rounds: int
    """Rounds in all; one round mines once, then trains on its queries."""
    rounds_per_epoch: int
    """Rounds of one epoch, the unit of the rate's decay."""
    queries_per_round: int
    """Tuples of one round at most."""
    image_size: int
    """Longest side of a photo in pixels, aspect kept, never enlarged."""
    loss_option: tuple[str, ...] = ()
    """``key=value``: ``grade`` of the graded contrastive loss, constants of a loss of batches, arguments of a loss
    ``pml:NAME``."""
    sampling: str = TUPLES
    """What a step trains on: ``tuples``; ``graph:PxK``: a batch of P places of K photos each (method.md section 13); or
    ``photos:PxK``: P photos, each with its K - 1 nearest by the teacher, and no label (section 15)."""
    batch_choice: str | None = None
    """How the places of a graph batch are chosen: ``hard`` (nearest by the current descriptors) or ``random``; None:
    hard."""
    remine: bool = True
    """Choose queries, positives and negatives anew each round with the current network; else keep the file's tuples."""
    positives: str | None = None
    """Rule for positives when mining anew; None: as the tuples were mined."""
    negatives: str | None = None
    """Rule for negatives when mining anew; None: as the tuples were mined."""
    num_negatives: int | None = None
    """Negatives of a query when mining anew; None: as the tuples were mined."""
    query_share: float | None = None
    """Share of a place's images that are queries when mining anew; None: as the tuples were mined."""
    queries_per_place: int | None = None
    """Queries of a place at most when mining anew; None: as the tuples were mined."""
    pool: str | None = None
    """Pool of negatives when mining anew; None: as the recipe says, else as the tuples were mined."""
    min_shared: int = MIN_SHARED
    """Shared points that make an image a positive in validation."""
    patience: int = 0
    """Stop after so many rounds without a better validation mAP; 0: never."""
    upright: str | None = None
    """How the network sees photos, ``stored`` or ``exif`` (see `ExtractionOptions`); None: as the file was mined."""
    precision: str = FP32
    """``fp32``, or ``bf16`` or ``fp16`` for the network, in training, mining and validation (the loss and the weights
    stay fp32)."""
    warm_up: int = 0
    """Steps over which the rate rises linearly to its full height; 0: none."""
    flip: float = 0.0
    """Augmentation: probability that a tuple or a batch is mirrored, see `augmentation.Augmentation`."""
    colour: float = 0.0
    """Augmentation: change of brightness, contrast and saturation."""
    crop: float = 1.0
    """Augmentation: least share of a photo's area that a random crop keeps."""
    train_only: str = ALL
    """What learns: ``head`` (pooling and whitening layer), ``last:N`` (and the last N blocks of the backbone), ``all``,
    or ``lora:R`` (the head, and a sum of rank R with each projection of the backbone's attentions)."""
    freeze_below: str | None = None
    """The block of the backbone below which nothing learns, such as ``layer4`` or ``blocks.10``; None: all may."""
    depth_decay: float = 1.0
    """The rate is multiplied by this for each block that lies above a weight; the head has the full rate."""
    ema: float = 0.0
    """Decay a step of the moving average of the weights, which is then the network of every round; 0: none."""
    interpolate: str = NO
    """``no``, ``auto`` or a share: measure weights between start and best on the held-out places, and keep the best."""
    teacher_weight: float = 0.0
    """Factor of what a teacher adds to the loss (method.md section 15); 0: there is no teacher."""
    seed: int = 0
    """Of every draw: queries, positives, pool, order of tuples."""

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        self._refuse_loss_and_sampling()
        _require_known("optimiser", self.optimiser, OPTIMISERS)
        _require_known("precision", self.precision, PRECISIONS)
        if self.upright is not None:
            _require_known("upright", self.upright, UPRIGHT)
        counts = ("decay_every", "batch_size", "rounds_per_epoch", "queries_per_round", "image_size", "min_shared")
        for name in counts:
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in (
            "margin",
            "eps",
            "learning_rate",
            "decay",
            "weight_decay",
            "rounds",
            "patience",
            "warm_up",
            "teacher_weight",
        ):
            if not 0 <= getattr(self, name) <= LARGEST:
                raise UsageError(f"{name} must be a number from 0 on, not {getattr(self, name)}")
        self._refuse_mining_without_remine()
        _ = self.augmentation, self.learners, self.shares  # refuse values without meaning
        if not 0 < self.depth_decay <= 1:
            raise UsageError(f"depth_decay must be above 0 and at most 1, not {self.depth_decay}")
        if not 0 <= self.ema < 1:
            raise UsageError(f"ema must be at least 0 and below 1, not {self.ema}")

    def _refuse_loss_and_sampling(self) -> None:
        if self.photo_batches is not None:
            self._refuse_labels()
            return
        if self.graph is None:
            refuse_of_batches(self.loss)
            build_loss(self.loss_options)
            if self.batch_choice is not None:
                raise UsageError(f"batch_choice {self.batch_choice} is for --sampling {GRAPH}; leave it out for tuples")
            return
        build_batch_loss(self.loss_options)
        _require_known("batch_choice", self.batch_choice or HARD, BATCH_CHOICES)
        if not self.remine:
            raise UsageError("no-remine keeps the file's tuples, and graph batches have none; leave it out")
        chosen = [name for name in ("positives", "negatives", "num_negatives") if getattr(self, name) is not None]
        if chosen:
            raise UsageError(
                f"{', '.join(chosen)} are for tuples; graph batches take m3's positives, and places by batch_choice"
            )

    def _refuse_labels(self) -> None:
        if not self.teacher_weight:
            raise UsageError(f"sampling {self.sampling} asks a teacher alone; add --teacher NETWORK")
        fields_of_labels = ("loss_option", "batch_choice", *MINING_FIELDS)
        chosen = [name for name in fields_of_labels if getattr(self, name)]
        if chosen or self.loss != RELATIONAL or not self.remine:
            what = f"sampling {self.sampling} has no tuples, and its loss is {RELATIONAL}"
            raise UsageError(f"{what}; leave out {', '.join(chosen) or 'loss and no-remine'}")

    @property
    def graph(self) -> GraphSampling | None:
        """The size of a graph batch; None where steps take anything else."""
        sampling = sampling_of(self.sampling)
        return sampling if isinstance(sampling, GraphSampling) else None

    @property
    def photo_batches(self) -> PhotoSampling | None:
        """The size of a batch of photos; None where steps take anything else."""
        sampling = sampling_of(self.sampling)
        return sampling if isinstance(sampling, PhotoSampling) else None

    @property
    def queries_per_step(self) -> int:
        """Queries of a step at most: its tuples, the places of its graph batch, or the photos that were drawn."""
        if self.photo_batches is not None:
            return self.photo_batches.photos
        return self.batch_size if self.graph is None else self.graph.places

    @property
    def loss_options(self) -> LossOptions:
        """The loss and its constants."""
        return LossOptions(self.loss, self.margin, self.eps, self.loss_option)

    @property
    def augmentation(self) -> Augmentation:
        """How photos are changed before the network sees them."""
        return Augmentation(self.flip, self.colour, self.crop)

    @property
    def learners(self) -> Learners:
        """What learns besides the head."""
        return learners_of(self.train_only, self.freeze_below)

    @property
    def shares(self) -> tuple[float, ...]:
        """Shares between start and best that are measured after the last round."""
        if self.interpolate in (NO, AUTO):
            return SHARES if self.interpolate == AUTO else ()
        try:
            share = float(self.interpolate)
        except ValueError:
            share = 0.0
        if not 0 < share <= 1:
            raise UsageError(f"interpolate {self.interpolate!r} is unknown; no, auto, or a share above 0, at most 1")
        return (share,)

    def as_dict(self) -> dict[str, Any]:
        """The options by name, for a file; those of `LATER` only where they are not the defaults."""
        defaults = {field.name: field.default for field in fields(self) if field.name in LATER}
        return {name: value for name, value in asdict(self).items() if name not in LATER or value != defaults[name]}

    def _refuse_mining_without_remine(self) -> None:
        chosen = [name for name in MINING_FIELDS if getattr(self, name) is not None]
        if chosen and not self.remine:
            raise UsageError(
                f"{', '.join(chosen)} and no-remine exclude each other: the file's tuples stay as they are"
            )

    @property
    def extraction(self) -> ExtractionOptions:
        """How photos are described for mining and validation: at the size and precision of training, lying as there."""
        return ExtractionOptions(self.image_size, precision=self.precision)

    def upright_with(self, mined: Mapping[str, Any]) -> str:
        """How the network sees photos, given the options of the tuple file."""
        return self.upright or str(mined.get("upright", STORED))

    def mining_overrides(self) -> dict[str, Any]:
        """The fields of `MINING_FIELDS` that were chosen."""
        values = {name: getattr(self, name) for name in MINING_FIELDS}
        return {name: value for name, value in values.items() if value is not None}


def options_from_recipe(backbone: str, recipe: str = SMALL.name, **chosen: Any) -> TrainingOptions:
    """A recipe's constants for a backbone, with what was chosen by hand in their place.

    Parameters
    ----------
    backbone : str
        Decides optimiser, rate and margin in some recipes.
    recipe : str
        One of `RECIPES`; `small` is made for a few hundred photos, the others for the papers' 100,000.
    **chosen
        Fields of `TrainingOptions`; None counts as not chosen.

    Raises
    ------
    UsageError
        An unknown recipe or field, or a value without meaning.
    """
    _require_known("recipe", recipe, tuple(RECIPES))
    constants = RECIPES[recipe]
    chosen = {name: value for name, value in chosen.items() if value is not None}
    unknown = sorted(set(chosen) - {field.name for field in fields(TrainingOptions)})
    if unknown:
        raise UsageError(f"a training has no option {', '.join(unknown)}")
    besides = _besides(constants, chosen)
    of_photos = isinstance(sampling_of(chosen.get("sampling", TUPLES)), PhotoSampling)
    if of_photos:
        idle = [name for name in (*OF_LABELS, *MINING_FIELDS) if name in chosen]
        if idle:
            raise UsageError(f"sampling {chosen['sampling']} asks a teacher alone; leave out {', '.join(idle)}")
        chosen |= {"loss": RELATIONAL, "teacher_weight": 1.0}
    loss, sampling = (chosen.get(name, besides.get(name)) for name in ("loss", "sampling"))
    loss = loss or CONTRASTIVE
    if "batch_size" in chosen and (sampling or TUPLES) != TUPLES:
        raise UsageError(f"batch_size counts tuples; the size of a graph batch is in sampling {sampling}")
    if loss == SMOOTH_AP and "margin" in chosen:
        raise UsageError(f"loss {loss} has no margin; leave it out")
    if "eps" in chosen and loss not in OF_DISTANCES:
        raise UsageError(f"loss {loss} has no eps; leave it out")
    if "depth_decay" in chosen and chosen.get("train_only", besides.get("train_only")) == HEAD:
        raise UsageError("depth_decay lowers the rates of blocks, and with train_only head none learns; leave it out")
    if ":" in loss and "margin" in chosen:
        raise UsageError(f"loss {loss} has no margin of ours; give its own by loss_option margin=VALUE")
    values: dict[str, Any] = {
        "recipe": recipe,
        "loss": loss,
        "margin": margin_of(constants, loss, backbone),
        "optimiser": for_backbone(constants.optimiser, backbone),
        "learning_rate": for_backbone(constants.learning_rate, backbone),
        "rounds": constants.rounds,
    }
    for name in ("eps", "decay", "decay_every", "weight_decay", "batch_size", "rounds_per_epoch"):
        values[name] = getattr(constants, name)
    values |= {"queries_per_round": constants.queries_per_round, "image_size": constants.image_size}
    if constants.pool and chosen.get("remine", True) and not of_photos:
        values["pool"] = constants.pool
    return TrainingOptions(**{**values, **besides, **chosen})


def _besides(constants: Recipe, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe sets besides its constants, but for what falls away with what was chosen in its place.

    The loss of batches falls with the batches, a loss's constants with the loss, and what learns with what is frozen.
    """
    found = dict(constants.besides)
    kinds = [str(options.get("sampling", TUPLES)).partition(":")[0] for options in (found, {**found, **chosen})]
    if kinds[0] != kinds[1]:
        found = {name: value for name, value in found.items() if name not in OF_BATCHES}
    if chosen.get("loss", found.get("loss")) != found.get("loss"):
        found.pop("loss_option", None)
    if "freeze_below" in chosen:
        found.pop("train_only", None)
    return found


def _require_known(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"{name} {value!r} is unknown; one of {', '.join(known)}")
