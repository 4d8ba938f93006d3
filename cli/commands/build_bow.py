"""`sfm2tuples build-bow`: local features to a bag-of-words index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.options.idle_flags import Use, refuse_idle_flags
from cli.options.paths import FilePath
from cli.options.target import target_option
from cli.output import Output, output_options

PATH = FilePath()


USES = (
    Use(
        ("num_words", "samples_per_word", "turns", "seed"),
        "words that are learned, not those of --vocabulary",
        lambda params: params["vocabulary"] is None,
    ),
    Use(("softness",), "--num-nearest above 1", lambda params: params["num_nearest"] > 1),
)
"""What flags are for that have nothing to do in some calls."""


@click.command("build-bow", epilog="Example: sfm2tuples build-bow features.h5 --learn-from other.h5 -o bow.h5")
@click.argument("features", type=PATH)
@target_option()
@click.option("--learn-from", type=PATH, help="features that words are learned from  [default: the same]")
@click.option("--vocabulary", type=PATH, help="take the words of a bag of words that is there")
@click.option("--num-words", type=click.IntRange(1), default=16384, show_default=True, help="words to learn")
@click.option(
    "--samples-per-word", type=click.IntRange(1), default=40, show_default=True, help="descriptors to learn one from"
)
@click.option("--turns", type=click.IntRange(1), default=10, show_default=True, help="turns of k-means")
@click.option(
    "--num-nearest", type=click.IntRange(1), default=1, show_default=True, help="words of a feature; 1 is hard"
)
@click.option(
    "--softness", type=float, default=0.15, show_default=True, help="distance at which a further word counts less"
)
@click.option("--seed", type=int, default=0, show_default=True, help="seed of the sample and of k-means")
@output_options
def command(
    features: Path,
    target: Path,
    learn_from: Path | None,
    vocabulary: Path | None,
    output: Output,
    **options: Any,
) -> None:
    """Learn visual words and give each feature its own: the teacher that `evaluate --teacher` asks."""
    from retrieval.local_features.bag_of_words import build_bag_of_words, write_bag_of_words
    from retrieval.local_features.vocabulary import WordOptions

    refuse_idle_flags(USES)
    bag, parents = build_bag_of_words(features, WordOptions(**options), learn_from, vocabulary)
    write_bag_of_words(target, bag, parents)
    count, words = len(bag.features.names), len(bag.words)
    output.result({"photos": count, "words": words, "features": len(bag.word)})
    output.made(
        target,
        f"{len(bag.word):,} features of {count:,} photos, {words:,} words",
        f"sfm2tuples evaluate --labels labels.csv --teacher {target} --num-verified 100",
    )
