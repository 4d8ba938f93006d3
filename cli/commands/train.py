"""`sfm2tuples train`: tuples to a trained network."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.options.distillation import distillation_options
from cli.options.memory import Memory
from cli.options.network import device_option, network_options
from cli.options.paths import FilePath
from cli.output import Output, output_options
from retrieval.networks.devices import FP32, PRECISIONS
from retrieval.photos.choices import UPRIGHT
from retrieval.training.batches.loss_table import BATCH_LOSSES
from retrieval.training.distillation.sampling import DEFAULT, PHOTOS
from retrieval.training.losses_by_name import CONTRASTIVE, LOSSES
from retrieval.training.recipes import OPTIMISERS, RECIPES, SMALL
from sfm2tuples.mining.batch_options import BATCH_CHOICES, GRAPH, HARD, TUPLES
from sfm2tuples.mining.options import NEGATIVES, POSITIVES

if TYPE_CHECKING:
    from retrieval.networks.choice import NetworkChoice
    from retrieval.networks.network import Network
    from retrieval.training.curves import RoundFigures
    from retrieval.training.distillation.teacher import TeacherChoice
    from retrieval.training.last_round import LastRound
    from retrieval.training.options import TrainingOptions
    from retrieval.training.run_folder import Run


_OF_BATCHES = f"with graph batches {', '.join(BATCH_LOSSES)}"
VAL_MAP = "val mAP"
BY_RECIPE = "by recipe, else "
AS_MINED = "as the file was mined"
OF_EXECUTION = (
    "workers",
    "decoders",
    "photos_per_forward",
    "chunked",
    "checkpoint_gradients",
    "cache_memory",
    "compile",
)
"""Flags that are fields of `Execution`; all others of `train` are fields of `TrainingOptions`."""


def _option(
    flag: str, kind: Any, text: str, default: str = "by recipe"
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A flag for a field of `TrainingOptions`: None where it is not given, and then `default` holds."""
    return click.option(flag, type=kind, help=f"{text}  [default: {default}]")


@click.command(
    "train",
    epilog="Example: sfm2tuples train tuples.h5 -o run/",
)
@click.argument("tuples", type=FilePath())
@click.option("-o", "--output", "run_dir", type=FilePath(), required=True, help="folder of the run")
@network_options
@click.option(
    "--recipe",
    type=click.Choice(list(RECIPES)),
    default=SMALL.name,
    show_default=True,
    help="constants for whatever is not given below; small (some hundred photos) and megaloc-site (a large retriever "
    "on one's own site) are ours, the others the papers'",
)
@_option("--loss", str, f"{', '.join(LOSSES)} (of pytorch-metric-learning); {_OF_BATCHES}", BY_RECIPE + CONTRASTIVE)
@click.option(
    "--loss-option",
    multiple=True,
    callback=lambda context, parameter, value: value or None,
    help="KEY=VALUE, repeatable: grade of graded-contrastive, constants of graph batches, arguments of pml:NAME",
)
@_option(
    "--sampling",
    str,
    f"{TUPLES}; {GRAPH}: batches of P places of K photos each, all pairs used; {PHOTOS}: P photos, each with its K - 1 "
    "nearest by the teacher, and no label",
    f"{BY_RECIPE}{TUPLES}; {DEFAULT} of photos in no tuple file",
)
@_option(
    "--batch-choice",
    click.Choice(BATCH_CHOICES),
    "places of a graph batch: nearest by descriptors, or any",
    BY_RECIPE + HARD,
)
@_option("--margin", float, "margin of the loss", "by recipe and backbone")
@_option("--eps", float, "added to differences before the contrastive norm")
@_option("--optimiser", click.Choice(OPTIMISERS), "how a step follows from its gradient")
@_option("--learning-rate", float, "rate of the first epoch")
@_option("--decay", float, "what the rate is multiplied by after every --decay-every epochs")
@_option("--decay-every", int, "epochs between two decays of the rate")
@_option("--weight-decay", float, "weight decay of all but GeM's exponent")
@_option("--batch-size", int, "tuples of a step")
@_option("--rounds", int, "rounds in all; each mines once and trains on that")
@_option("--rounds-per-epoch", int, "rounds of an epoch")
@_option("--queries-per-round", int, "tuples of a round at most")
@_option("--image-size", int, "longest side of a photo, pixels")
@click.option(
    "--remine/--no-remine", default=None, help="mine anew each round (the default), or keep the file's tuples"
)
@_option("--positives", click.Choice(POSITIVES), "rule for positives when mining anew", AS_MINED)
@_option("--negatives", click.Choice(NEGATIVES), "rule for negatives when mining anew", AS_MINED)
@_option("--num-negatives", int, "negatives of a tuple when mining anew", AS_MINED)
@_option("--query-share", float, "share of a place's images that are queries when mining anew", AS_MINED)
@_option("--queries-per-place", int, "queries of a place at most when mining anew", AS_MINED)
@_option("--pool", str, "images that negatives are chosen from when mining anew", f"by recipe, else {AS_MINED}")
@_option("--min-shared", int, "shared points that make a positive in validation", "15")
@_option(
    "--patience",
    int,
    "rounds without a better val mAP after which training stops; without held-out places, without a larger gap of "
    "kept-out tuples",
    "never; 2 without held-out places",
)
@_option("--upright", click.Choice(UPRIGHT), "photos as stored, or turned as their EXIF says", AS_MINED)
@_option("--precision", click.Choice(PRECISIONS), "precision, in mining too", FP32)
@_option("--warm-up", int, "steps over which the rate rises to its full height", "0")
@_option("--flip", float, "augmentation: probability that a tuple, or a batch, is mirrored", "0")
@_option("--colour", float, "augmentation: change of brightness, contrast and saturation", "0")
@_option("--crop", float, "augmentation: least share of a photo that a random crop keeps", "1")
@_option(
    "--train-only", str, "head, last:N (and N blocks of the backbone), all, or lora:R (rank R, ViTs)", BY_RECIPE + "all"
)
@_option("--freeze-below", str, "block of the backbone below which nothing learns, such as layer4", "none")
@_option("--depth-decay", float, "what the rate is multiplied by for each block above a weight", BY_RECIPE + "1")
@_option("--ema", float, "decay a step of the weights' moving average, which is then the network", "0, none")
@_option(
    "--interpolate",
    str,
    "no, auto, or a share: after the last round keep the best weights between start and best",
    BY_RECIPE + "no",
)
@distillation_options
@click.option("--images", type=FilePath(), help="folder that the names of a list or CSV start from")
@_option("--seed", int, "seed of every draw", "0")
@click.option(
    "--workers",
    type=click.IntRange(0),
    help="workers that decode  [default: 2 on a CPU, else 8 or as many as cores allow]",
)
@click.option(
    "--decoders",
    type=click.Choice(["threads", "processes"]),
    help="what workers are  [default: threads; processes where more than 4 feed a GPU]",
)
@click.option(
    "--photos-per-forward", type=click.IntRange(1), help="photos of one size at once  [default: 1 on a CPU, else 64]"
)
@click.option("--chunked", is_flag=True, help="hold one forward's activations only: less memory, a third more time")
@click.option(
    "--checkpoint-gradients",
    is_flag=True,
    help="keep only the input of each block, and go through it again for the gradient: less memory, more time",
)
@click.option(
    "--cache-memory",
    type=Memory(),
    help="memory for what frozen blocks put out, as 4G or 500M; 0: none  [default: a quarter of what is free]",
)
@click.option("--compile", is_flag=True, help="compile the network by torch.compile")
@device_option
@click.option(
    "--resume", is_flag=True, help="go on after the run's last whole round; of other flags repeat --images only"
)
@click.option("--force", is_flag=True, help="replace a run that the folder holds")
@output_options
def command(
    tuples: Path,
    run_dir: Path,
    choice: NetworkChoice,
    taught_by: TeacherChoice | None,
    images: Path | None,
    device: str | None,
    resume: bool,
    force: bool,
    output: Output,
    **flags: Any,
) -> None:
    """Train a network on TUPLES, mining hard negatives anew each round; keep the best network on held-out places.

    With a teacher TUPLES may also be photos: a folder, a .txt list, a .csv of labels or an index.
    """
    from retrieval.training.loop import Execution, train
    from retrieval.training.options import options_from_recipe
    from retrieval.training.team import join_team

    if click.get_current_context().get_parameter_source("recipe") is click.core.ParameterSource.DEFAULT:
        flags["recipe"] = None
    means = {name: flags.pop(name) for name in OF_EXECUTION}
    flags = {name: value for name, value in flags.items() if value is not None}
    with join_team(device) as team:
        if not team.leads:
            output.silence()
        last = _last_round(run_dir, choice) if resume else None
        network = _network(last, choice, device)
        backbone = network.description.backbone
        options = options_from_recipe(backbone, **flags) if last is None else last.options_with(**flags)
        output.say(
            f"{options.recipe}: {options.rounds} rounds, {options.loss}{_of(options)}, {options.optimiser} at "
            f"{options.learning_rate:g}{f', {team.size} processes' if team.size > 1 else ''}"
        )
        try:
            run = train(
                tuples,
                run_dir,
                options,
                network,
                resume=last or False,
                force=force,
                execution=Execution(team=team, progress=not output.quiet, **means),
                teacher=taught_by,
                images=images,
                on_round=lambda figures: output.say(_line(figures, options)),
            )
        except KeyboardInterrupt as interruption:
            # Not KeyboardInterrupt: click would turn it into an Abort of its own and lose the message.
            again = f"sfm2tuples train {_source(tuples, images)} -o {run_dir} --resume"
            raise click.Abort(f"go on with: {again}") from interruption
        _conclude(run, tuples, images, output)


def _source(tuples: Path, images: Path | None) -> str:
    """What is trained on, as the next command is told it."""
    return str(tuples) if images is None else f"{tuples} --images {images}"


def _last_round(run_dir: Path, choice: NetworkChoice) -> LastRound:
    """The round that a run goes on from."""
    from retrieval.training.last_round import LAST, LastRound
    from sfm2tuples.errors import UsageError

    if choice.named:
        raise UsageError(f"--resume goes on with the network of {run_dir / LAST}; leave out --network and --backbone")
    return LastRound.read(run_dir)


def _network(last: LastRound | None, choice: NetworkChoice, device: str | None) -> Network:
    """The network to start from; a resumed run has its own."""
    from retrieval.networks.choice import load_on
    from retrieval.networks.devices import choose_device

    return load_on(device, choice) if last is None else last.network().to(choose_device(device))


def _of(options: TrainingOptions) -> str:
    return "" if options.sampling == TUPLES else f" of {options.sampling} batches"


def _line(figures: RoundFigures, options: TrainingOptions) -> str:
    unit = "tuples" if options.sampling == TUPLES else "queries" if options.graph else "photos"
    if figures.agreement == figures.agreement:
        after = f"loss {figures.train_loss:.4f} over {figures.queries:,} {unit}" if figures.round else "before training"
        found = f"{_percent(figures.agreement)} % as the teacher ranks"
        return f"round {figures.round}: {after}, {found}, {figures.seconds:.0f} s"
    if figures.gap == figures.gap:
        after = f"loss {figures.train_loss:.4f} over {figures.queries:,} {unit}" if figures.round else "before training"
        return f"round {figures.round}: {after}, gap of the kept-out tuples {figures.gap:.4f}, {figures.seconds:.0f} s"
    found = f"val mAP {_percent(figures.val_map)}"
    if not math.isnan(figures.val_loss):
        found += f", val loss {figures.val_loss:.4f}"
    if figures.round == 0:
        return f"round 0 (before training): {found}"
    trained = f"loss {figures.train_loss:.4f} over {figures.queries:,} {unit}"
    return f"round {figures.round}: {trained}, {found}, {figures.seconds:.0f} s"


def _percent(share: float) -> str:
    return "none" if share != share else f"{100 * share:.1f}"


def _conclude(run: Run, tuples: Path, images: Path | None, output: Output) -> None:
    """Say which network to use: `best.pt`, which may be the network before training, or a blind run's last."""
    from retrieval.training.distillation.loose_photos import holds_no_tuples

    measure = _measure(run)
    if run.stopped_early:
        what = "a larger gap of the kept-out tuples" if run.is_blind else f"a better {measure}"
        output.say(f"stopped early: {run.patience} rounds without {what}")
    between = run.interpolated
    if between is not None:
        pairs = zip(between.shares, between.val_maps, strict=True)
        values = ", ".join(f"{share:g}: {_percent(value)}" for share, value in pairs)
        output.say(f"{measure} between the network before training (0) and round {between.end} (1): {values}")
    best_round = None if run.is_blind else run.best_round
    best = run.best_map if between is None else between.val_map
    name = "val_map" if measure == VAL_MAP else "agreement"
    result = {"rounds": run.round, "best_round": best_round, name: _json(best)}
    result |= {"before": _json(run.history[0].measure)} | ({} if between is None else {"share": between.share})
    output.result(result)
    path = run.recommended
    # Photos in no tuple file have no pairs to learn a whitening of.
    loose = holds_no_tuples(tuples)
    following = f"extract {_source(tuples, images)} -o descriptors.h5" if loose else f"whiten {tuples} -o whitening.h5"
    output.made(path, _what_is_kept(run), f"sfm2tuples {following} --network {path}")


def _measure(run: Run) -> str:
    """What the rounds of a run are chosen by."""
    return VAL_MAP if math.isnan(run.history[0].agreement) else "agreement with the teacher"


def _what_is_kept(run: Run) -> str:
    """The network to use, in words."""
    before, between, measure = _percent(run.history[0].measure), run.interpolated, _measure(run)
    if run.is_blind:
        return f"the network after round {run.round}, the last; no place is held out, so that none is known to be best"
    if between is not None and between.share == 0:
        tried = f"neither round 1 to {run.round} nor a share between made it better"
        return f"the network before training ({measure} {before}): nothing was gained, {tried}"
    if between is not None and between.share < 1:
        where = f"weights {between.share:g} of the way from the network before training to round {between.end}"
        return f"{where}, {measure} {_percent(between.val_map)} ({before} before training)"
    if run.best_round == 0:
        return f"the network before training ({measure} {before}): no round of {run.round} made it better"
    after = f"the network after round {run.best_round}, {measure} {_percent(run.best_map)}"
    return f"{after} ({before} before training)"


def _json(value: float) -> float | None:
    """JSON has no NaN."""
    return None if value != value else value
