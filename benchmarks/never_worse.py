"""Never worse: small trainings with right and wrong learning rates, each measured before and after on held-out places.

Each task is a world of its own (stripes of some colours for places, as the tests have them), a small network of random
weights and a draw of rate and of what learns. With `--interpolate auto` the kept network must not be below the start
on the held-out places. Places of a second world, which nothing was chosen by, say how it does elsewhere.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from retrieval.networks.choice import load_network
from retrieval.networks.network import Network, build_network
from retrieval.networks.whitening_layer import WhiteningLayer, add_whitening_layer
from retrieval.training.loop import Execution, train
from retrieval.training.options import TrainingOptions, options_from_recipe
from retrieval.training.run_folder import BEST
from retrieval.training.validation import prepare_validation, validate
from sfm2tuples.errors import NotFiniteError
from sfm2tuples.mining.tuple_file import read_tuples
from tests.test_training import SIZE, make_tuples

RATES = (1e-6, 1e-4, 1e-3, 1e-2, 0.3)
"""Learning rates; the last ones are wrong."""
LEARNERS = ("all", "head", "last:2", "lora:2")
NETWORKS = ("vit14:24-4-2-4", "squeezenet1_1")
PLACES = 12
"""Held-out places of a world, and of the other one."""


@dataclass(frozen=True)
class Outcome:
    """One task."""

    what: str
    """Network, rate, and what learns."""
    held_out: tuple[float, float]
    """mAP of the network before training and of the kept one, on the held-out places."""
    elsewhere: tuple[float, float]
    """The same on places of another world."""
    kept: str
    """Which network was kept."""


def try_task(folder: Path, number: int) -> Outcome:
    """Train in a small world of that number, and measure start and kept network."""
    rng = np.random.default_rng(number)
    name = NETWORKS[number % len(NETWORKS)]
    learners = str(rng.choice(LEARNERS)) if name.startswith("vit") else str(rng.choice(LEARNERS[:3]))
    rate = RATES[number % len(RATES)]
    tuples = make_tuples(folder / "tuples.h5", 6, PLACES, first=100 * number)
    others = make_tuples(folder / "others.h5", 4, PLACES, first=100 * number + 50)
    start = network_of(name, number)
    chosen: dict[str, object] = {"image_size": SIZE, "rounds": 3, "learning_rate": rate, "train_only": learners}
    options = options_from_recipe(name, **chosen, interpolate="auto", seed=number)
    kept = "the best round before it was not finite"
    try:
        done = train(tuples, folder / "run", options, network_of(name, number))
        if done.interpolated is not None:
            kept = f"{done.interpolated.share:g} of the way to round {done.interpolated.end}"
    except NotFiniteError:
        pass
    best = load_network(folder / "run" / BEST)
    held_out, elsewhere = ([_map(path, net, options) for net in (start, best)] for path in (tuples, others))
    what = f"{name} {learners} at {rate:g}"
    return Outcome(what, (held_out[0], held_out[1]), (elsewhere[0], elsewhere[1]), kept)


def network_of(name: str, seed: int) -> Network:
    """A network of random weights, with a small whitening layer."""
    network = build_network(name, "gem", seed=seed)
    add_whitening_layer(network, WhiteningLayer(None, 16), seed)
    return network.eval()


def _map(tuples: Path, network: Network, options: TrainingOptions) -> float:
    """mAP on the validation places of a tuple file."""
    file = read_tuples(tuples)
    state = Execution().state(file, network, options)
    with state.photos:
        return validate(state, prepare_validation(file, options.min_shared), 0)[0]


@click.command()
@click.option("--tasks", type=int, default=20, show_default=True, help="tasks to try")
def main(tasks: int) -> None:
    """Print one line a task, and how often the kept network was below the start."""
    gains: list[tuple[float, float]] = []
    for number in range(tasks):
        with tempfile.TemporaryDirectory() as folder:
            found = try_task(Path(folder), number)
        (before, after), (there, then) = found.held_out, found.elsewhere
        gains.append((after - before, then - there))
        click.echo(
            f"{number:2} {found.what:34} held out {100 * before:5.1f} -> {100 * after:5.1f}   "
            f"elsewhere {100 * there:5.1f} -> {100 * then:5.1f}   kept: {found.kept}"
        )
    held, other = np.array(gains).T * 100
    noise = other.std(ddof=1) / len(other) ** 0.5 if len(other) > 1 else float("nan")
    click.echo(
        f"below the start on held-out places: {int((held < 0).sum())} of {tasks}; mean gain {held.mean():+.1f} there, "
        f"{other.mean():+.1f} elsewhere (standard error {noise:.1f})"
    )
