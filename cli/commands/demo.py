"""`sfm2tuples demo`: the whole road on the built-in world, by the commands that a user would type."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options.paths import FilePath
from cli.output import Output, output_options
from sfm2tuples.compute.progress_bars import ProgressBar
from sfm2tuples.files.text import read_json

if TYPE_CHECKING:
    from sfm2tuples.world.synthetic import WorldSummary

MARK = ".sfm2tuples-demo"
"""File by which the demo knows its own folder again."""
PLACES = 14
"""Buildings of the demo's world."""
SIZE = ["--image-size", "160"]
"""Longest side, in pixels, at which the demo mines, trains and tests."""
TOGETHER = ["--photos-per-forward", "8"]
"""So small photos take half the time where those of a tuple go through the network together."""
FROM_PRETRAINED = ["--rounds", "3"]
"""What three minutes on two cores allow; a fourth round still adds a little."""
FROM_RANDOM = ["--learning-rate", "1e-3", "--rounds", "6"]
"""Random weights learn at another rate, and longer."""
NO_WEIGHTS = "none"
"""The word of `--weights` for random ones."""


@click.command("demo", epilog="Example: sfm2tuples demo -o demo/")
@click.option("-o", "--output", "folder", type=FilePath(), required=True, help="the folder to make")
@click.option("--weights", help="weights of EfficientNet-Lite0: a file, a URL, or none  [default: ImageNet's]")
@click.option("--seed", default=0, show_default=True, help="seed of the world and of every draw")
@click.option("--force", is_flag=True, help="replace an earlier demo in that folder")
@output_options
def command(folder: Path, weights: str | None, seed: int, force: bool, output: Output) -> None:
    """Photograph a built-in world, then index, mine, train, whiten, measure and report: minutes on a CPU."""
    started = time.monotonic()
    _make_folder(folder, force)
    world = _photograph(folder / "world", seed, output)
    network = [] if weights is None else ["--weights", weights]
    figures = _walk(folder, network, FROM_RANDOM if weights == NO_WEIGHTS else FROM_PRETRAINED, seed, output)
    seconds = time.monotonic() - started
    output.say("")
    output.table([(name, 100 * value) for name, value in figures.items()], ["on buildings never trained on", "mAP"])
    output.say("nothing was chosen by these buildings: it is the last round, whichever was the best on them")
    output.result({"map": figures, "photos": world.photos, "seconds": seconds})
    output.made(
        folder / "page" / "index.html",
        f"tuples to look at; the demo took {seconds:.0f} s",
        "open it in a browser; then: sfm2tuples build-index YOUR_MODELS -o index.h5",
    )


def _make_folder(folder: Path, force: bool) -> None:
    """Make the demo's folder; with `force` an earlier demo, and nothing else, is cleared away."""
    from sfm2tuples.errors import UsageError
    from sfm2tuples.files.atomic import write_text

    if folder.exists() and any(folder.iterdir()):
        if not force:
            raise UsageError(f"{folder}: exists already; give another name, or --force to replace an earlier demo")
        if not (folder / MARK).is_file():
            raise UsageError(f"{folder}: is no folder that demo made ({MARK}), so --force leaves it alone")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / MARK, "demo --force replaces the folder that holds this file.\n")


def _photograph(folder: Path, seed: int, output: Output) -> WorldSummary:
    from sfm2tuples.world.synthetic import write_world

    output.say("Photographing the built-in world: invented buildings, changing light, exact models.")
    with ProgressBar(total=PLACES, desc="photograph", unit="building", disable=output.quiet, file=sys.stderr) as bar:
        world = write_world(folder, places=PLACES, seed=seed, progress=lambda done: bar.update(done - bar.n) and None)
    output.say(f"{world.photos} photos of {world.places} buildings in {len(world.scenes)} models below {folder}")
    return world


def _walk(folder: Path, network: list[str], schedule: list[str], seed: int, output: Output) -> dict[str, float]:
    """Run the commands one after the other; mAP by name of the network."""
    index, tuples, run = (str(folder / name) for name in ("index.h5", "tuples.h5", "run"))
    seeded = ["--seed", str(seed)]
    queries = ["--query-share", "1", "--queries-per-place", "10"]
    _run(output, "build-index", str(folder / "world"), "-o", index, "--val-share", "0.3", *seeded)
    _run(output, "mine-tuples", index, "-o", tuples, *network, *queries, *SIZE, "--pack-images", SIZE[1], *seeded)
    _run(output, "train", tuples, "-o", run, *network, *schedule, *SIZE, *TOGETHER, *seeded)
    figures = _measure(folder, "before", index, network, output)
    # Not the best round, which is chosen by the very buildings that are measured here.
    figures |= _measure(folder, "after", index, ["--network", str(folder / "run" / "last.pt")], output)
    _run(output, "report", tuples, "-o", str(folder / "page"))
    return figures


def _measure(folder: Path, name: str, index: str, network: list[str], output: Output) -> dict[str, float]:
    """MAP on the validation places by the SfM protocol, without and with L_w of the training places."""
    descriptors, whitening = str(folder / f"{name}.h5"), str(folder / f"{name}_lw.h5")
    _run(output, "extract", index, "-o", descriptors, *network, *SIZE)
    _run(output, "whiten", index, "-o", whitening, "--descriptors", descriptors)
    figures = {}
    for title, more in ((f"{name} training", []), (f"{name} training + L_w", ["--whitening", whitening])):
        result = folder / f"{title.replace(' ', '_').replace('+', 'and')}.json"
        _run(output, "evaluate", "--index", index, "--descriptors", descriptors, *more, "-o", str(result))
        figures[title] = read_json(result)["mean_over_queries"]
    return figures


def _run(output: Output, *words: str) -> None:
    """Show a command as a user would type it, and run it; what it prints is shown unless the demo is quiet."""
    from cli.main import group

    output.say("")
    output.say(f"$ sfm2tuples {shlex.join(words)}")
    silent = ["--quiet"] if output.quiet or output.json else []
    heard = click.get_current_context().obj
    group.main(args=[*words, *silent], prog_name="sfm2tuples", standalone_mode=False, obj=heard)
