"""How long the steps take, measured on a few photos, and how much work fits into a time that was asked for."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from retrieval.descriptors.extraction import ExtractionOptions, extract_readable
from retrieval.networks.network import Network
from retrieval.photos.decoding import PhotoSource
from retrieval.site.choices import (
    MOST_NEGATIVES,
    MOST_WHITENED,
    PER_PLACE,
    TRAINING_SIZE,
    Effort,
    can_train,
    full_effort,
    queries_inside,
)
from retrieval.site.facts import Facts
from retrieval.training.recipes import SMALL
from retrieval.whitening.shrinkage import FOLDS
from sfm2tuples.compute.progress_bars import duration
from sfm2tuples.mining.amounts import NUM_NEGATIVES

QUICK = 0.1
"""Share of the full time that `--quick` takes."""
QUICK_ENOUGH = 120.0
"""Seconds that are quick enough where nothing is trained: smaller photos would save little and find less."""
TRIED = 6
"""Photos that are described to see how fast that goes; the first warms up and does not count."""
BACKWARD = 3.0
"""Time of a photo in training, in times that it takes to describe it."""
SIZES = (TRAINING_SIZE, 256, 192)
"""Sizes of a photo in the search that are tried where time is short, pixels."""
DESCRIBING = 0.6
"""Share of the time that describing may take before smaller photos are taken."""
MOST_ROUNDS = 2
"""A generous budget gives so many times the recipe's rounds at most."""
FEWEST = 20
"""Tuples of a round below which training is not worth its while."""
OVERHEAD = 10.0
"""Seconds for what does not depend on the photos."""
WHITENING = 4e-10
"""Seconds of learning one whitening, times the cube of its dimension: measured at 512 and 1,280."""
WHITENINGS = 2 * FOLDS + 1
"""Whitenings whose time it takes to choose one's shrinkage by leaving places out: the grid shares what is slow."""
LEAVING_OUT = 0.15
"""Share of the time that the choice of shrinkage may take before it is fixed."""
CANDIDATES = 3
"""Networks that are described where something is trained: before, half-way, after."""


@dataclass(frozen=True)
class Pace:
    """Seconds that single things take."""

    photo: float
    """To describe a photo at `TRAINING_SIZE`, decoding included."""
    whitening: float
    """To learn one whitening."""

    @classmethod
    def of(cls, network: Network, photos: list[PhotoSource]) -> Pace:
        """Measured on a few photos, and by the dimension of the network's descriptors."""
        learned = 0 if network.dimension > MOST_WHITENED else network.dimension
        return cls(seconds_a_photo(network, photos), WHITENING * learned**3)


@dataclass(frozen=True)
class Forecast:
    """Seconds that each step will take."""

    mine: float
    """Mining tuples."""
    train: float
    """All rounds."""
    round: float
    """One round."""
    describe: float
    """Describing the photos of the index by all candidates, and learning whitenings."""
    search: float
    """Describing what else is searched."""

    @property
    def total(self) -> float:
        """All together."""
        return OVERHEAD + self.mine + self.train + self.describe + self.search


def seconds_a_photo(network: Network, photos: list[PhotoSource]) -> float:
    """Measure how long a photo takes at the size of training, decoding included; 0 where none can be read."""
    options = ExtractionOptions(TRAINING_SIZE)
    times = []
    for photo in photos[:TRIED]:
        started = time.monotonic()
        _, rows, _ = extract_readable(network, [photo], options)
        times.append(time.monotonic() - started if len(rows) else np.nan)
    found = np.array(times[1:] or times)
    return float(np.nanmedian(found)) if np.isfinite(found).any() else 0.0


def forecast(facts: Facts, loose: int, effort: Effort, pace: Pace) -> Forecast:
    """How long each step will take.

    Parameters
    ----------
    facts : Facts
    loose : int
        Photos that are in no model.
    effort : Effort
    pace : Pace
    """
    area, small = ((size / TRAINING_SIZE) ** 2 for size in (effort.image_size, effort.training_size))
    trains = effort.rounds > 0 and not can_train(facts)
    homes, validated = facts.train_places, 1.2 * facts.val_photos
    if facts.is_inside:
        # Spots take the part of places, and what is held out is searched among all photos.
        homes, validated = facts.spots, float(facts.photos)
    pool = facts.distractors + min(facts.train_photos, 20 * homes + 2 * _tuples(facts, effort))
    looks = 2 + _negatives(facts)
    one = pace.photo * small * (pool + BACKWARD * looks * _tuples(facts, effort) + validated)
    candidates = CANDIDATES if trains else 1
    whitenings = WHITENINGS if effort.leaves_out else 1
    return Forecast(
        mine=pace.photo * small * (pool + 2 * facts.val_photos) if trains else 0.0,
        train=effort.rounds * one + pace.photo * small * validated if trains else 0.0,
        round=one,
        describe=candidates * (pace.photo * area * (facts.photos + facts.distractors) + pace.whitening * whitenings),
        search=pace.photo * area * loose,
    )


def effort_within(
    facts: Facts, loose: int, pace: Pace, device: str, *, budget: float | None, quick: bool, is_random: bool
) -> Effort:
    """The effort that fits.

    Parameters
    ----------
    facts, loose, pace
        As for `forecast`.
    device : str
        Kind of the device.
    budget : float, optional
        Seconds for everything that follows; no limit where left out.
    quick : bool
        A tenth of the full time; where nothing is trained, what takes no more than `QUICK_ENOUGH` is done in full.
    is_random : bool
        Whether the network starts from random weights.
    """
    full = full_effort(facts, device, is_random)
    if quick:
        whole = forecast(facts, loose, full, pace).total
        if can_train(facts) and whole <= QUICK_ENOUGH:
            return full
        budget = QUICK * whole
    if budget is None or not pace.photo:
        return full
    asked = "--quick gives what follows the index" if quick else "the budget leaves what follows the index"
    said = f"{asked} {duration(budget)}, {{}}a photo takes {1000 * pace.photo:.0f} ms here"
    full = replace(full, leaves_out=CANDIDATES * WHITENINGS * pace.whitening <= LEAVING_OUT * budget)
    sizes = [full.image_size, *(size for size in SIZES if size < full.image_size)]
    for size in sizes:
        effort = replace(full, image_size=size)
        found = forecast(facts, loose, effort, pace)
        left = budget - OVERHEAD - found.mine - found.describe - found.search
        if found.describe + found.search > DESCRIBING * budget and size != sizes[-1]:
            continue
        rounds, queries = _rounds(facts, effort, found, left, pace, quick)
        if rounds:
            return replace(effort, rounds=rounds, queries=queries, reason=said.format(_for_training(left)))
    for size in sizes:
        effort = replace(full, image_size=size, rounds=0)
        if forecast(facts, loose, effort, pace).total <= budget or size == sizes[-1]:
            break
    return replace(effort, reason=said.format("" if can_train(facts) else _for_training(left)))


def _for_training(seconds: float) -> str:
    return f"{duration(max(seconds, 0))} of it for training, "


def _rounds(facts: Facts, full: Effort, found: Forecast, left: float, pace: Pace, quick: bool) -> tuple[int, int]:
    """Rounds, and tuples of each at most, that fit into the time that is left."""
    most = full.rounds if quick else MOST_ROUNDS * full.rounds
    rounds = max(0, min(most, int(left // found.round))) if found.round else 0
    if rounds:
        return rounds, full.queries
    one = pace.photo * (full.training_size / TRAINING_SIZE) ** 2 * BACKWARD * (2 + _negatives(facts))
    tuples = int((left - found.round + one * _tuples(facts, full)) // one)
    return int(tuples >= FEWEST), max(tuples, FEWEST)


def _negatives(facts: Facts) -> int:
    """Negatives of a tuple."""
    if facts.is_inside:
        return NUM_NEGATIVES
    return min(MOST_NEGATIVES, max(1, facts.train_places - 1 + facts.distractors))


def _tuples(facts: Facts, effort: Effort) -> int:
    """Tuples of a round, about."""
    if facts.is_inside:
        return min(facts.matched, queries_inside(facts), effort.queries)
    return min(facts.matched, PER_PLACE * facts.train_places, effort.queries, SMALL.queries_per_round)


def seconds_of(text: str) -> float:
    """Read ``90s``, ``20m``, ``2h`` or a number of minutes: seconds.

    Raises
    ------
    ValueError
        It is none of these.
    """
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 60)
    seconds = float(number) * unit
    if not 0 < seconds < float("inf"):
        raise ValueError(text)
    return seconds
