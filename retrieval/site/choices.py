"""What `tune` does with some data: every option that it chooses, with the reason that it gives for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from retrieval.descriptors.extraction import ExtractionOptions
from retrieval.photos.choices import EXIF
from retrieval.site.facts import OVERLAPS, Facts
from retrieval.training.recipes import SMALL
from retrieval.whitening.options import WhiteningOptions
from sfm2tuples.errors import counted
from sfm2tuples.mining.amounts import NUM_NEGATIVES, queries_of_round
from sfm2tuples.mining.options import MiningOptions

MOST_WHITENED = 4096
"""Dimensions up to which an L_w is learned: 8,448 would take 6 GB of memory and, by their cube, hours for all."""
TRAINING_SIZE = 362
"""Longest side of a photo in training, pixels (method.md section 7)."""
TEST_SIZE = {"cpu": 512, "cuda": 1024}
"""Longest side of a photo in the search, pixels: a processor takes four times as long for 1024."""
FEW, PER_PLACE = 2000, 15
"""Photos for training below which each is a query; queries of a place at most then (examples/own_models.md)."""
MOST_NEGATIVES = 5
"""Negatives of a tuple, as in the papers (method.md section 3)."""
LEAST_TUPLES = 8
"""Photos with a positive below which nothing is trained."""
FIXED_SHRINKAGE = 0.5
"""Of L_w where it cannot be chosen by leaving places out: on our data the middle of what was good."""
SEEN = EXIF
"""How every network of a site sees photos: a telephone stores one that was taken upright as lying, and says so."""
PACKED = 5000
"""Photos up to which they are packed into the tuple file."""
GENTLE_RATE = 5e-6
"""Learning rate on one site, a quarter of the recipe's: at 2e-5 EfficientNet-Lite0 won 6 points of mAP on the held-out
day of `gardens_point` and lost up to 20 points of recall@1 by night (examples/one_site.md)."""
SMALL_PHOTOS, TOGETHER = 192, 8
"""Longest side, pixels, up to which a processor trains on so many photos of one size together."""
# EfficientNet-Lite0, forward and backward, ms of one core a photo, alone and 7 together: 160 px 38 and 26, 192 px 47
# and 33, 256 px 65 and 67. From there on it saves nothing, and needs the memory of a step.
FROM_RANDOM: Mapping[str, float] = {"learning_rate": 1e-3, "rounds": 6}
"""Random weights learn at another rate, and for longer, than pretrained ones."""


@dataclass(frozen=True)
class Choice:
    """One option, for people."""

    name: str
    """What was chosen."""
    value: str
    """How."""
    reason: str
    """Why."""

    def __str__(self) -> str:
        """A line to print."""
        return f"{self.name}: {self.value}, since {self.reason}"


@dataclass(frozen=True)
class Choices:
    """Options of all steps."""

    mining: MiningOptions
    """Of `mine-tuples`."""
    packed: int
    """Longest side of the photos packed into the tuple file; 0: none."""
    training_size: int
    """Longest side of a photo in mining and training, pixels."""
    training: dict[str, Any] | None
    """Of `train`, in place of the recipe's; None: nothing is trained."""
    whitening: WhiteningOptions | None
    """Of `whiten`; None: no whitening."""
    extraction: ExtractionOptions
    """Of `extract`."""
    measured: bool
    """Whether held-out places can vouch for anything."""
    of_one_place: bool
    """Whether one place alone has photos to learn from."""
    said: tuple[Choice, ...] = field(default=())
    """What is said of them."""

    def as_dict(self) -> list[dict[str, str]]:
        """What is said, as plain values."""
        return [asdict(choice) for choice in self.said]


@dataclass(frozen=True)
class Effort:
    """How much work a site is given: see `retrieval.site.effort`."""

    rounds: int
    """Rounds of training; 0: none."""
    queries: int
    """Tuples of a round at most."""
    image_size: int
    """Longest side of a photo in the search, pixels."""
    leaves_out: bool = True
    """Whether the shrinkage of L_w is chosen by leaving places out."""
    reason: str = ""
    """Where it is less than all: why."""

    @property
    def training_size(self) -> int:
        """Longest side of a photo in training, pixels: not beyond that in the search."""
        return min(TRAINING_SIZE, self.image_size)


def full_effort(facts: Facts, device: str, is_random: bool) -> Effort:
    """All that is done where nobody is in a hurry."""
    size = TEST_SIZE["cpu" if device == "cpu" else "cuda"]
    rounds = int(FROM_RANDOM["rounds"]) if is_random else SMALL.rounds
    return Effort(rounds, SMALL.queries_per_round, min(size, facts.longest) or size)


def can_train(facts: Facts) -> str:
    """Why nothing can be trained on these places; empty where it can."""
    if facts.places < 2 and not facts.is_inside:
        return "there is one place only, so that no photo is known to show something else and nothing can vouch"
    if facts.train_places + facts.distractors < 2 and not facts.is_inside:
        return f"{facts.places} places are too few: one is held out to vouch, and two are needed to tell apart"
    if not facts.val_photos:
        return "no part of the place is proven to be apart from the rest, so that nothing can vouch for a training"
    if not facts.queries:
        return "no two held-out photos share points, so that nothing can vouch for a training"
    if facts.matched < LEAST_TUPLES:
        return f"{facts.matched} photos with a positive are too few to learn from"
    return ""


def choose_options(
    facts: Facts, effort: Effort, device: str, seed: int, *, is_random: bool, is_whitened: bool, dimension: int = 0
) -> Choices:
    """Choose all options.

    Parameters
    ----------
    facts : Facts
    effort : Effort
    device : str
        Kind of the device that the network runs on.
    seed : int
        Of every draw.
    is_random : bool
        Whether the network starts from random weights.
    is_whitened : bool
        Whether the network ends in a whitening layer already.
    dimension : int
        Of its descriptors.
    """
    mining, said = _mining(facts, seed)
    training, more = _training(facts, effort, seed, is_random)
    said = [*said, *more] if training else more
    whitening, more = _whitening(facts, effort, is_whitened, dimension)
    said += more
    limit = f"their longest sides are {facts.longest:,} px (median)"
    hurry = effort.reason or (limit if effort.image_size == facts.longest else "")
    slow = "a processor needs four times as long at 1,024" if device == "cpu" else "it is the papers' size"
    said.append(Choice("photos in the search", f"{effort.image_size} px", hurry or slow))
    said.append(Choice("photos are seen", "as their EXIF says", "a telephone stores what was taken upright as lying"))
    said.append(Choice("scales", "1", "a question then costs one look, and the whitening can be inside the network"))
    said.append(_held_out(facts))
    return Choices(
        mining=mining,
        packed=effort.training_size if training and facts.photos <= PACKED else 0,
        training_size=effort.training_size,
        training=training,
        whitening=whitening,
        extraction=ExtractionOptions(effort.image_size, upright=SEEN),
        measured=facts.queries > 0,
        of_one_place=facts.matched_places < 2,
        said=tuple(said),
    )


def queries_inside(facts: Facts) -> int:
    """Tuples of a round on one site."""
    return queries_of_round(facts.train_photos, 1, NUM_NEGATIVES)


def _mining_inside(facts: Facts, seed: int) -> tuple[MiningOptions, list[Choice]]:
    """One site: negatives are what the models prove, and a round looks at each photo once."""
    queries = queries_inside(facts)
    values: dict[str, Any] = {"inside": True, "num_negatives": NUM_NEGATIVES, "min_overlap": facts.min_overlap}
    values |= {"query_share": 1.0, "queries_per_place": queries, "num_queries": queries, "seed": seed}
    proven = "the models prove which photos of one place cannot have seen the same, and places are too few"
    said = [
        Choice("negatives", f"{NUM_NEGATIVES} of a tuple, from other spots of the place", proven),
        Choice("queries", f"{queries:,} a round, spread over {facts.spots} spots", "more harm a network on one site"),
        Choice("positives", "of other walks, cameras or days first", "that is what fails later"),
    ]
    return MiningOptions(**values).for_one_site(), said


def _mining(facts: Facts, seed: int) -> tuple[MiningOptions, list[Choice]]:
    if facts.is_inside:
        return _mining_inside(facts, seed)
    negatives = max(1, min(MOST_NEGATIVES, facts.train_places - 1 + facts.distractors))
    values: dict[str, Any] = {"num_negatives": negatives, "min_overlap": facts.min_overlap, "seed": seed}
    if facts.train_photos <= FEW:
        values |= {"query_share": 1.0, "queries_per_place": PER_PLACE}
        why = f"{facts.train_photos:,} photos for training are few, and each is made use of"
        shown = f"all photos, {PER_PLACE} of a place at most"
    else:
        share = max(MiningOptions.query_share, math.ceil(100 * FEW / facts.train_photos) / 100)
        values |= {"query_share": share}
        why = f"{facts.train_photos:,} photos for training give a round of {FEW:,} so"
        shown = f"{share:.0%} of a place's photos, {MiningOptions.queries_per_place} at most"
    others = "the papers have 5"
    if negatives < MOST_NEGATIVES:
        more = f" and {facts.distractors:,} distractors" if facts.distractors else ""
        others = f"each is of another place, and there are {facts.train_places} for training{more}"
    said = [
        Choice("queries", shown, why),
        Choice("negatives", f"{negatives} of a tuple", others),
        _distractors(facts),
    ]
    if facts.min_overlap != OVERLAPS[0]:
        matched = f"{facts.matched:,} of {facts.train_photos:,} photos have a positive then"
        said.append(Choice("overlap of positives", f"{facts.min_overlap:g} at least", matched))
    return MiningOptions(**values), said


def _distractors(facts: Facts) -> Choice:
    if facts.distractors:
        why = "they were verified against no other photo, so that they show none of the places"
        return Choice("distractors", f"{facts.distractors:,} of the photos in no model", why)
    return Choice("distractors", "none", "a photo in no model may show any place: it is searched, and never a negative")


def _training(facts: Facts, effort: Effort, seed: int, is_random: bool) -> tuple[dict[str, Any] | None, list[Choice]]:
    reason = can_train(facts) or ("" if effort.rounds else effort.reason)
    if reason:
        return None, [Choice("training", "none", reason)]
    values: dict[str, Any] = {
        **{"rounds": effort.rounds, "queries_per_round": effort.queries, "image_size": effort.training_size},
        **{"min_shared": facts.min_shared, "seed": seed},
    }
    why = effort.reason or f"more learn {'one site' if facts.is_inside else 'a few places'} by heart"
    if is_random:
        values["learning_rate"] = FROM_RANDOM["learning_rate"]
        why = effort.reason or "the weights are random"
    tuples = min(effort.queries, queries_inside(facts)) if facts.is_inside else effort.queries
    rate = []
    if facts.is_inside and not is_random:
        values["learning_rate"] = GENTLE_RATE
        gentle = "at a higher one a strong network unlearns what the held-out part does not ask"
        rate = [Choice("learning rate", f"{GENTLE_RATE:g}", gentle)]
    rounds = f"{effort.rounds} of at most {counted(tuples, 'tuple')}"
    return values, [Choice("rounds", rounds, why), *rate]


def _whitening(
    facts: Facts, effort: Effort, is_whitened: bool, dimension: int
) -> tuple[WhiteningOptions | None, list[Choice]]:
    if is_whitened:
        return None, [Choice("whitening", "none", "the network ends in a whitening layer already")]
    if dimension > MOST_WHITENED:
        return None, [Choice("whitening", "none", f"{dimension:,} dimensions are too many to learn one in minutes")]
    if not facts.matched:
        return None, [Choice("whitening", "none", "no two photos for training match")]
    if facts.matched_places < 2 and not facts.queries:
        why = "nothing can vouch for one that a single place taught: it may do harm, as by night"
        return None, [Choice("whitening", "none", why)]
    options = WhiteningOptions(min_overlap=facts.min_overlap)
    if facts.matched_places >= 2 and effort.leaves_out:
        why = f"{facts.matched_places} places have matching photos"
        return options, [Choice("shrinkage of L_w", "by leaving places out", why)]
    why = "one place alone has matching photos, so that none can be left out"
    if facts.matched_places >= 2:
        why = "there is no time to leave places out"
    options = WhiteningOptions(min_overlap=facts.min_overlap, shrinkage=FIXED_SHRINKAGE)
    return options, [Choice("shrinkage of L_w", f"{FIXED_SHRINKAGE:g}", why)]


def _held_out(facts: Facts) -> Choice:
    if not facts.queries:
        one = "there is one place only" if facts.places < 2 and not facts.is_inside else can_train(facts)
        return Choice("held out", "nothing", one or "no held-out photo matches")
    value = f"{facts.val_places} of {counted(facts.places, 'place')}, {counted(facts.queries, 'question')}"
    why = "a network is judged on places that it was never trained on"
    if not facts.val_places:
        value = f"{counted(facts.val_photos, 'photo')} of one part of the place, {counted(facts.queries, 'question')}"
        why = "a network is judged on what it was never trained on"
    if facts.min_shared != 15:
        why += f"; {facts.min_shared} shared points make a photo right, since no two share more"
    return Choice("held out", value, why)


def together_at(size: int, device: str) -> int | None:
    """Photos of one size that go through the network together in training; None: as `train` has it."""
    return TOGETHER if device == "cpu" and size <= SMALL_PHOTOS else None
