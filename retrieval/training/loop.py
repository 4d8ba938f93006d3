"""Training: in each round mine tuples with the current network, train on them, validate, save."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from retrieval.networks.devices import FP16
from retrieval.networks.network import Network
from retrieval.photos.tuple_photos import TuplePhotos, default_decoders
from retrieval.training.losses import CONTRASTIVE, GRADED
from retrieval.training.optimisation import build_optimiser, learning_rate, set_learning_rate
from retrieval.training.options import TrainingOptions
from retrieval.training.passes import passes_for
from retrieval.training.pooling_preparation import prepare_network
from retrieval.training.remining import tuples_of_round
from retrieval.training.run_folder import RoundFigures, Run, TensorBoard, refuse_taken, resume_run, start_run
from retrieval.training.steps import Means, Trained, train_round
from retrieval.training.team import Team
from retrieval.training.validation import Validation, prepare_validation, validate
from sfm2tuples.mining.tuple_file import TupleFile, TupleSet, read_tuples

logger = logging.getLogger(__name__)
FEW = 0.05
"""Share of tuples with a negative within the margin that is next to none."""


@dataclass(frozen=True)
class Execution:
    """How a training is carried out; changes its outcome by rounding only."""

    photos_per_forward: int | None = None
    """Photos of one size that go through the network together; None: 1 on a CPU, else `passes.PHOTOS`."""
    chunked: bool = False
    """Hold the activations of one forward only, see `passes.Passes`."""
    compile: bool = False
    """Compile the network by `torch.compile`."""
    team: Team = field(default_factory=Team)
    """The processes that train together; the leader alone writes files."""
    decoders: str | None = None
    """What decodes photos, ``threads`` or ``processes``; None: what suits the device, see `default_decoders`."""

    def means(self, network: Network, options: TrainingOptions) -> Means:
        """What rounds are carried out with, where the network is."""
        passes = passes_for(network.device, options.batch_size, self.photos_per_forward, self.chunked)
        scaler = torch.amp.GradScaler(network.device.type, enabled=options.precision == FP16)
        return Means(passes, self.team, scaler)

    def photos(self, tuples: TupleFile, network: Network, options: TrainingOptions, workers: int) -> TuplePhotos:
        """The photos of a tuple file, decoded as suits the device."""
        decoders = self.decoders or default_decoders(network.device.type, workers)
        return TuplePhotos(tuples, options.image_size, network.backbone.smallest, workers, decoders)


NOTHING = Trained(loss=math.nan, positive_similarity=math.nan, negative_similarity=math.nan, queries=0)
"""What round 0 trains on."""


def train(
    tuple_path: Path,
    run_dir: Path,
    options: TrainingOptions,
    network: Network,
    *,
    resume: bool = False,
    force: bool = False,
    workers: int = 2,
    execution: Execution | None = None,
    progress: bool = False,
    on_round: Callable[[RoundFigures], None] | None = None,
) -> Run:
    """Train a network on a tuple file, which is all it needs (and the photos, where they are not packed).

    Round 0 is the network as given: it is validated and saved, so that `best.pt` is the better of before and after.

    Parameters
    ----------
    tuple_path, run_dir : Path
        A tuple file; the folder for `best.pt`, `last.pt` and `curves.csv`, made where it is absent.
    options : TrainingOptions
        See `options_from_recipe`.
    network : Network
        Trained in place, where its weights are; with `resume` its weights are replaced by the run's.
    resume, force : bool
        Go on after the last whole round (on a CPU, to an uninterrupted run's weights); replace the folder's run.
    workers, progress
        Threads or processes that decode photos ahead; whether progress bars go to stderr.
    execution : Execution, optional
        One process, as the device likes it, where left out.
    on_round : callable, optional
        Called after each round with its figures, round 0 included.

    Raises
    ------
    UsageError
        The folder holds a run (without `resume` or `force`), or one that differs from what is asked (with `resume`).
    MiningError, DataError, PhotoError, SfmTuplesError
        Tuples or photos are not fit for use; the loss is not finite.
    """
    tuples = read_tuples(tuple_path)
    execution = execution or Execution()
    validation = prepare_validation(tuples, options.min_shared)
    optimiser = build_optimiser(network, options)
    means = execution.means(network, options)
    with execution.photos(tuples, network, options, workers) as photos:
        if resume:
            run = resume_run(run_dir, options, tuples.header.fingerprint, network, optimiser, means.scaler)
        else:
            refuse_taken(run_dir, force)
            prepare_network(network, tuples, photos, options.seed, "prepare the pooling" if progress else None)
            run = start_run(run_dir, options, tuples.header.fingerprint, network, force, means.team)
        means.team.same_weights(network)
        if execution.compile:
            network.compile(dynamic=True)
        rounds = _rounds(run, tuples, photos, validation, network, optimiser, means, progress)
        _keep(run, rounds, network, optimiser, means, on_round)
    network.eval()
    return run


def _keep(
    run: Run,
    rounds: Iterator[RoundFigures],
    network: Network,
    optimiser: torch.optim.Optimizer,
    means: Means,
    on_round: Callable[[RoundFigures], None] | None,
) -> None:
    """Write down each round as it is over; of a team, the leader does."""
    board = TensorBoard(run.folder, run.round + 1, means.team.leads)
    for figures in rounds:
        run.add(figures, network, optimiser, means.scaler, write=means.team.leads)
        board.add(figures)
        if on_round is not None and means.team.leads:
            on_round(figures)
    board.close()


def _rounds(
    run: Run,
    tuples: TupleFile,
    photos: TuplePhotos,
    validation: Validation,
    network: Network,
    optimiser: torch.optim.Optimizer,
    means: Means,
    progress: bool,
) -> Iterator[RoundFigures]:
    """Mine, train, validate; the caller adds each round's figures to `run` before the next begins."""
    options = run.options
    for round in range(run.round + 1, options.rounds + 1):
        if run.stopped_early:
            return
        title = f"round {round} " if progress and means.team.leads else None
        started, rate, trained = time.monotonic(), math.nan, NOTHING
        if round > 0:
            rate = learning_rate(options, round)
            set_learning_rate(optimiser, rate)
            chosen = tuples_of_round(tuples, network, photos, options, round, title and title + "mine", means.team)
            if round == 1 and means.team.leads:
                warn_of_short_margin(chosen, options)
            trained = train_round(
                network,
                optimiser,
                chosen,
                photos,
                options,
                round,
                title and title + "train",
                means,
                rate,
                run.steps,
            )
        val_map, val_loss = validate(validation, network, photos, options, title and title + "validate", means.team)
        figures = _figures(round, rate, trained, val_loss, val_map, network, time.monotonic() - started)
        yield means.team.agree(figures)


def _figures(
    round: int, rate: float, trained: Trained, val_loss: float, val_map: float, network: Network, seconds: float
) -> RoundFigures:
    return RoundFigures(
        round=round,
        learning_rate=rate,
        train_loss=trained.loss,
        val_loss=val_loss,
        val_map=val_map,
        gem_p=math.nan if network.gem_p is None else network.gem_p,
        seconds=seconds,
        positive_similarity=trained.positive_similarity,
        negative_similarity=trained.negative_similarity,
        queries=trained.queries,
    )


def warn_of_short_margin(tuples: TupleSet, options: TrainingOptions) -> None:
    """Warn where most positives and nearly all negatives of a contrastive loss lie beyond its margin.

    So it is with whitened descriptors, which lie far apart: at margin 0.7 all are drawn together until negatives are
    within it, and what the whitening had gained is lost.

    Parameters
    ----------
    tuples : TupleSet
        Mined with the network that is to be trained.
    options : TrainingOptions
    """
    if options.loss not in (CONTRASTIVE, GRADED) or not options.remine:
        return
    positive, negative = _distances(tuples.positive_similarity), _distances(tuples.negative_similarity)
    if not len(positive) or not len(negative):
        return
    if np.median(positive) > options.margin and (negative < options.margin).mean() < FEW:
        logger.warning(
            "half of the positives are farther than %.2f and nearly all negatives farther than the margin of %g: the "
            "loss only draws together; give a larger --margin, or --loss triplet",
            *(float(np.median(positive)), options.margin),
        )


def _distances(similarity: np.ndarray) -> np.ndarray:
    """Distances of descriptors of some similarities, the nearest of each tuple; those without any are left out."""
    nearest = similarity.max(axis=1, initial=-np.inf)
    return np.sqrt(np.maximum(2 - 2 * nearest[np.isfinite(nearest)], 0))
