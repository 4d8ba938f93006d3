"""Training: in each round mine tuples with the current network, train on them, validate, save."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from retrieval.networks.devices import FP16, FP32
from retrieval.networks.network import Network
from retrieval.photos.tuple_photos import TuplePhotos, default_decoders, default_workers
from retrieval.training.adaptation.adapted import adapt, gradients_as_before
from retrieval.training.adaptation.frozen_part import default_limit, frozen_part
from retrieval.training.adaptation.shares import choose_share
from retrieval.training.batches.rounds import batches_of_round
from retrieval.training.batches.steps import train_on_batches
from retrieval.training.curves import RoundFigures, TensorBoard
from retrieval.training.distillation.loose_photos import holds_no_tuples, loose_photos
from retrieval.training.distillation.photo_batches import photo_batches
from retrieval.training.distillation.teacher import TeacherChoice
from retrieval.training.distillation.teacher_file import begin_teaching, read_teaching
from retrieval.training.last_round import LAST, LastRound
from retrieval.training.losses_by_name import OF_DISTANCES
from retrieval.training.optimisation import build_optimiser, learning_rate
from retrieval.training.options import TrainingOptions
from retrieval.training.passes import forward_plan
from retrieval.training.pooling_preparation import prepare_network
from retrieval.training.remining import tuples_of_round
from retrieval.training.run_folder import BLIND_PATIENCE, Run, refuse_taken, resume_run, start_run
from retrieval.training.state import Resources, TrainingState
from retrieval.training.steps import StepFigures, train_round
from retrieval.training.team import Team
from retrieval.training.validation import prepare_validation
from retrieval.training.watch import Watch, watch_of
from sfm2tuples.errors import NotFiniteError, UsageError
from sfm2tuples.mining.tuple_file import TupleFile, TupleSet, read_tuples

logger = logging.getLogger(__name__)
FEW = 0.05
"""Share of tuples with a negative within the margin that is next to none."""
FIRST = 3
"""Photos that are described after a round of a training that looks at nothing else."""
NO_STEPS = StepFigures(loss=math.nan, positive_similarity=math.nan, negative_similarity=math.nan, queries=0)
"""What round 0 trains on."""


@dataclass(frozen=True)
class Execution:
    """How a training is carried out; changes its outcome by rounding only."""

    photos_per_forward: int | None = None
    """Photos of one size that go through the network together; None: 1 on a CPU, else `passes.PHOTOS`."""
    chunked: bool = False
    """Hold the activations of one forward only, see `ForwardPlan`."""
    compile: bool = False
    """Compile the network by `torch.compile`."""
    team: Team = field(default_factory=Team)
    """The processes that train together; the leader alone writes files."""
    decoders: str | None = None
    """What decodes photos, ``threads`` or ``processes``; None: what suits the device, see `default_decoders`."""
    workers: int | None = None
    """Threads or processes that decode photos ahead; None: what suits the device, see `default_workers`."""
    progress: bool = False
    """Whether progress bars go to stderr."""
    cache_memory: int | None = None
    """Bytes in which each process keeps what frozen blocks put out for photos; 0: none, None: a share of what is free,
    see `FrozenPart`."""
    checkpoint_gradients: bool = False
    """Keep of each block its input only, see `Backbone.set_grad_checkpointing`."""

    def state(self, tuples: TupleFile, network: Network, options: TrainingOptions) -> TrainingState:
        """What rounds work on and with, where the network is."""
        device = network.device
        workers = default_workers(device.type) if self.workers is None else self.workers
        decoders = self.decoders or default_decoders(device.type, workers)
        photos = TuplePhotos(tuples, options.image_size, network.backbone.smallest, workers, decoders, network.upright)
        held = 0 if self.chunked or self.checkpoint_gradients else default_limit(device)
        plan = forward_plan(device, options.batch_size, self.photos_per_forward, self.chunked, held)
        scaler = torch.amp.GradScaler(device.type, enabled=options.precision == FP16)
        resources = Resources(plan, self.team, scaler, self.progress)
        adaptation = adapt(network, options.learners, options.ema, options.seed)
        optimiser = build_optimiser(network, options, adaptation)
        frozen = frozen_part(network, self.cache_memory, options.precision, plan.photos, self.compile)
        return TrainingState(
            options, tuples, photos, network, optimiser, resources, adaptation=adaptation, frozen=frozen
        )


def train(
    tuple_path: Path,
    run_dir: Path,
    options: TrainingOptions,
    network: Network,
    *,
    resume: bool | LastRound = False,
    force: bool = False,
    execution: Execution | None = None,
    teacher: TeacherChoice | None = None,
    images: Path | None = None,
    on_round: Callable[[RoundFigures], None] | None = None,
) -> Run:
    """Train a network on a tuple file, or on photos that a teacher judges. Round 0 is the network as given, so that
    `best.pt` is the better of both; without validation places there is only `last.pt`.

    Parameters
    ----------
    tuple_path, run_dir : Path
        A tuple file, or with ``photos:PxK`` what `photos_of` takes; the folder for `best.pt`, `last.pt`, `curves.csv`.
    options : TrainingOptions
        See `options_from_recipe`.
    network : Network
        Trained in place, where its weights are; with `resume` its weights are replaced by the run's.
    resume, force : bool (or LastRound), bool
        Go on after the last whole round (on a CPU, to an uninterrupted run's weights); replace the folder's run.
    execution : Execution, optional
    teacher : TeacherChoice, optional
        Who teaches, where `teacher_weight` is not 0; with `resume` the run has its descriptors.
    images : Path, optional; where the names of a list of photos start from.
    on_round : callable, optional
        Called after each round with its figures, round 0 included; of a team, in the leader only.

    Raises
    ------
    UsageError
        The folder holds a run (without `resume` or `force`), or one that differs from what is asked (with `resume`); a
        teacher without a weight, or the reverse.
    MiningError, DataError, PhotoError
        Tuples or photos are not fit for use.
    NotFiniteError
        A loss or a descriptor is not finite; `last.pt` holds the network after the last round that was sound.
    """
    execution = execution or Execution()
    tuples = _photos_of_training(tuple_path, options, images)
    validation = prepare_validation(tuples, options.min_shared)
    network.upright = options.upright_with(tuples.header.options)
    with gradients_as_before(network), _checkpointing(network, execution.checkpoint_gradients):
        state = execution.state(tuples, network, options)
        with state.photos:
            run, state = _begun(run_dir, state, resume, force, teacher)
            watch = watch_of(state, validation)
            if state.team.leads:
                _warn_of_blindness(watch, run)
            if execution.compile:
                network.compile(dynamic=True)
            _remaining_rounds(run, state, watch, on_round)
            chosen = choose_share(run, state, watch)
    network.eval()
    return replace(run, interpolated=chosen)


def _photos_of_training(source: Path, options: TrainingOptions, images: Path | None) -> TupleFile:
    """A tuple file, or what a teacher alone is asked of as one."""
    if options.photo_batches is not None and holds_no_tuples(source):
        return loose_photos(source, images)
    return read_tuples(source)


def _begun(
    folder: Path, state: TrainingState, resume: bool | LastRound, force: bool, teacher: TeacherChoice | None
) -> tuple[Run, TrainingState]:
    """The run as it is before its next round, with its teacher; every process of a team has the same weights."""
    network, weight = state.network, state.options.teacher_weight
    if resume:
        run = resume_run(folder, state, LastRound.read(folder) if resume is True else resume)
        state.team.same_weights(network)
        return run, read_teaching(folder, state, run.teacher) if weight else state
    refuse_taken(folder, force)
    if (teacher is None) == bool(weight):
        raise UsageError("a teacher goes with a teacher_weight above 0; give both, or neither")
    prepare_network(network, state.tuples, state.photos, state.options.seed, state.title("prepare the pooling"))
    run = start_run(folder, state)
    state.team.same_weights(network)
    state.adaptation.start()
    if teacher is not None:
        state = begin_teaching(folder, state, teacher)
        run.teacher = "" if state.teaching is None else state.teaching.fingerprint
    return run, state


@contextmanager
def _checkpointing(network: Network, asked: bool) -> Iterator[None]:
    """A training in which blocks keep only their input, where that is asked for."""
    if not asked:
        yield
        return
    network.backbone.set_grad_checkpointing(True)
    try:
        yield
    finally:
        network.backbone.set_grad_checkpointing(False)


def _warn_of_blindness(watch: Watch, run: Run) -> None:
    """Say in one line that nothing vouches for a training without validation queries, and what it goes by."""
    if watch.validation.has_queries:
        return
    if watch.agreement is not None:
        logger.warning(
            "no place is held out, so the best round is the one whose network ranks %d kept-out photos most as the "
            "teacher does; whether the teacher is right, nothing says",
            len(watch.agreement.query),
        )
        return
    kept = len(watch.kept.tuples.query)
    rounds = run.options.patience or BLIND_PATIENCE
    goes_by = (
        f"it stops once the gap of {kept:,} kept-out tuples has not grown for {rounds} rounds"
        if kept
        else "it does not stop early, for the file has too few tuples to keep some out"
    )
    logger.warning(
        "no place is held out, so nothing can vouch for this training, and no round is called the best; %s; "
        "build-index --val-share holds places out, and fewer --rounds and --queries-per-round harm less",
        goes_by,
    )


def _remaining_rounds(
    run: Run, state: TrainingState, watch: Watch, on_round: Callable[[RoundFigures], None] | None
) -> None:
    """Go on with a run until its last round is over, or it stops early."""
    board = TensorBoard(run.folder, run.round + 1, state.team.leads)
    while run.round < run.options.rounds and not run.stopped_early:
        with _naming_what_is_left(run):
            figures = state.team.agree(_one_round(state, watch, run.round + 1, run.steps))
        run.add(figures, state)
        board.add(figures)
        if on_round is not None and state.team.leads:
            on_round(figures)
    board.close()
    if state.frozen is not None and state.team.leads:
        state.frozen.say()


@contextmanager
def _naming_what_is_left(run: Run) -> Iterator[None]:
    """Do a round; where its numbers are not finite, say in which round, what helps, and which network is left."""
    try:
        yield
    except NotFiniteError as error:
        if run.round < 0:
            raise  # the network was so before training
        lower = f"start again with a lower --learning-rate (now {run.options.learning_rate:g})"
        helps = lower if run.options.precision == FP32 else f"{lower}, or with --precision fp32"
        left = f"{run.folder / LAST} holds the network after round {run.round}"
        raise NotFiniteError(f"round {run.round + 1}: {error.path}", error.what, f"{helps}; {left}") from error


def _one_round(state: TrainingState, watch: Watch, round: int, steps_before: int) -> RoundFigures:
    """Mine, train, validate; round 0 only validates."""
    started, steps, rate = time.monotonic(), NO_STEPS, math.nan
    if round > 0:
        steps, trained = _steps_of_round(state, watch, round, steps_before)
        rate = learning_rate(state.options, round)
        if watch.sees_nothing:
            # For the error, should the network have diverged.
            state.describe(np.unique(trained)[:FIRST], f"round {round}", strict=False)
    figures = watch.figures(state, round)
    return RoundFigures(
        round=round,
        learning_rate=rate,
        train_loss=steps.loss,
        gem_p=math.nan if state.network.gem_p is None else state.network.gem_p,
        seconds=time.monotonic() - started,
        positive_similarity=steps.positive_similarity,
        negative_similarity=steps.negative_similarity,
        queries=steps.queries,
        **figures,
    )


def _steps_of_round(
    state: TrainingState, watch: Watch, round: int, steps_before: int
) -> tuple[StepFigures, np.ndarray]:
    """Mine and train, on tuples or on batches; also some rows of `/images` that were trained on."""
    if state.options.graph is not None or state.options.photo_batches is not None:
        make = photo_batches if state.options.graph is None else batches_of_round
        batches = make(state, round, watch.kept_out)
        with state.adaptation.stepping():
            return train_on_batches(state, batches, round, steps_before), batches[0].row
    chosen = watch.kept.without(tuples_of_round(state, round), state.tuples)
    if round == 1 and state.team.leads:
        warn_of_short_margin(chosen, state.options)
    with state.adaptation.stepping():
        return train_round(state, chosen, round, steps_before), chosen.query


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
    if options.loss not in OF_DISTANCES or not options.remine:
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
