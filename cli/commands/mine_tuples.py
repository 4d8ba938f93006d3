"""`sfm2tuples mine-tuples`: from an index to tuples."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from cli.options.idle_flags import DESCRIPTION, NEAREST_NEGATIVES, NETWORK, Use, refuse_idle_flags
from cli.options.mining import mining_flags
from cli.options.paths import FilePath, PhotoPath
from cli.options.photos import photo_options
from cli.options.target import target_option
from cli.output import Output, output_options
from sfm2tuples.errors import counted, told_of

if TYPE_CHECKING:
    from retrieval.tuple_files.mining import MinedTuples
    from retrieval.tuple_files.readable_photos import PhotoOptions
    from sfm2tuples.files.remote.address import AnyPath
    from sfm2tuples.mining.options import MiningOptions

MOST_PAIRS = 10
"""Suspicious pairs of places that are printed."""
_MISSING = {
    "missing_positives": "positives are missing and masked in training",
    "missing_negatives": "negatives are missing and masked in training",
    "filled": "negatives are not semi-hard but filled up by N2",
}

_MEDIANS = ("overlap", "scale_change", "angle", "positive_similarity", "negative_similarity")
USES = (
    Use(("margin",), "--negatives semi-hard", lambda params: params["negatives"] == "semi-hard"),
    Use(("min_overlap", "max_scale_change", "across"), "--positives m3", lambda params: params["positives"] == "m3"),
    NEAREST_NEGATIVES,
    Use(DESCRIPTION, "--network or --backbone, not for --descriptors", lambda params: params["descriptors"] is None),
    Use(
        (*DESCRIPTION, *NETWORK, "descriptors"),
        "--positives m1 or --negatives N1, N2 or semi-hard",
        lambda params: params["positives"] == "m1" or params["negatives"] != "random",
    ),
)
"""What flags are for that have nothing to do in some calls."""


@click.command(
    "mine-tuples",
    epilog="Example: sfm2tuples mine-tuples index.h5 -o tuples.h5 --pack-images 362",
)
@click.argument("index", type=FilePath())
@target_option("tuple file to write")
@photo_options
@mining_flags
@click.option(
    "--distractors",
    type=PhotoPath(),
    help="photos of other places, for negatives: folder of folders, CSV",
)
@click.option(
    "--leave-out-pairs",
    "left_out_pairs",
    type=FilePath(),
    help="CSV of pairs (first,second) that the models are wrong about: neither positives nor negatives",
)
@click.option(
    "--block",
    type=click.IntRange(1),
    default=4096,
    show_default=True,
    help="pool images compared at once: bounds the memory, changes no result",
)
@output_options
def command(
    index: Path,
    target: Path,
    photos: PhotoOptions,
    options: MiningOptions,
    distractors: AnyPath | None,
    left_out_pairs: Path | None,
    block: int,
    output: Output,
) -> None:
    """Choose queries, positives and negatives from INDEX, with the evidence for each choice."""
    from retrieval.tuple_files.mining import mine_tuple_file

    refuse_idle_flags(USES)
    source_of = click.get_current_context().get_parameter_source
    chosen = [field.name for field in fields(options) if source_of(field.name) is not ParameterSource.DEFAULT]
    mined = mine_tuple_file(index, target, options, photos, distractors, block, left_out_pairs, chosen)
    _say_left_out(mined, output)
    _say_inside(mined, options, output)
    _say_tuples(mined, mined.options, output)
    _say_searches(mined, output)
    _say_suspicious(mined, output)
    train, val = (len(mined.tuples[split].query) for split in ("train", "val"))
    output.made(
        target,
        f"{train:,} training and {val:,} validation tuples of {len(mined.tables.images.key):,} photos",
        f"sfm2tuples train {target} -o run/",
    )


def _say_left_out(mined: MinedTuples, output: Output) -> None:
    """Say which photos were left out, and why."""
    tables = mined.tables
    if tables.without_photo:
        output.say(told_of(tables.without_photo, "images have no photo and are left out"))
    if tables.num_left_out:
        what = (
            "belong to neither split"
            if mined.options.inside
            else "are held out of a place, where --inside looks at them"
        )
        output.say(told_of(tables.num_left_out, f"images take no part, or {what}, and are left out"))
    if tables.same_photo:
        output.say(told_of(tables.same_photo, "images show the photo of another and are merged with it"))
    if tables.known_distractors:
        what = "distractors are in the index, or listed, already and are left out"
        output.say(told_of(tables.known_distractors, what))
    if tables.near_duplicates:
        what = "pairs of photos see almost only the same points and are not taken for positives (--max-overlap)"
        output.say(told_of(tables.near_duplicates, what))
    if tables.left_out_pairs:
        output.say(told_of(tables.left_out_pairs, "pairs are neither positive nor negative (--leave-out-pairs)"))
    if tables.sequences is not None:
        told = [f"{by} in {counted(count, 'place')}" for by, count in tables.sequences.told_by.items()]
        output.say(
            f"sequences are told apart by {', '.join(told)}"
            if told
            else "nothing tells sequences apart; --across PATTERN can"
        )
        output.result({"sequences": tables.sequences.told_by})
    output.warn_of("photos cannot be read and are left out", tables.unreadable)
    names = ("without_photo", "num_left_out", "same_photo", "known_distractors", "near_duplicates", "left_out_pairs")
    output.result({"unreadable": tables.unreadable})
    output.result({name: getattr(tables, name) for name in names})


def _say_inside(mined: MinedTuples, asked: MiningOptions, output: Output) -> None:
    """Say in one line that negatives are mined inside places, why, and how much of it; and what was found without."""
    options, train = mined.options, mined.plans["train"]
    output.result({"inside": bool(options.inside)})
    if not options.inside:
        return
    why = "" if asked.inside else "there are fewer places than negatives and a query need, so "
    output.say(
        f"{why}negatives are mined inside places (--inside): {len(mined.tables.places.name):,} spots and places, "
        f"{options.num_negatives} negatives a tuple, at most {options.num_queries or len(train.query):,} tuples a round"
    )
    output.result({"without_negative": train.without_negative})
    if train.without_negative:
        what = "photos have a positive and no proven negative, and are not queries"
        output.say(f"train: {told_of(train.without_negative, what)}")


def _say_tuples(mined: MinedTuples, options: MiningOptions, output: Output) -> None:
    """Print numbers of tuples and medians as a table."""
    from sfm2tuples.mining.summary import share_across, summarise

    if mined.without_negative:
        what = "queries found no negative in the pool and are left out"
        output.say(f"train: {told_of(mined.without_negative, what)}")
    output.result({"dropped": mined.without_negative})
    rows = []
    for split, tuples in mined.tuples.items():
        summary = asdict(summarise(tuples, options))
        dropped = mined.plans[split].without_positive
        medians = ["-" if summary[name] is None else f"{summary[name]:.2f}" for name in _MEDIANS]
        rows.append([split, summary["tuples"], dropped, summary["pool"], *medians])
        across = share_across(tuples, mined.tables.candidates[split])
        if across is not None:
            output.say(f"{split}: {across:.0%} of the positives are of another sequence than their query")
        more = {} if across is None else {"across": across}
        search = {"search": asdict(mined.searches[split])} if split in mined.searches else {}
        output.result({split: summary | {"without_positive": dropped} | more | search})
        for what in ("missing_positives", "missing_negatives", "filled"):
            if summary[what]:
                output.say(f"{split}: {told_of(summary[what], _MISSING[what])}")
    output.table(
        rows, ["split", "tuples", "no positive", "pool", "overlap", "scale", "angle", "sim. pos.", "sim. neg."]
    )


def _say_searches(mined: MinedTuples, output: Output) -> None:
    """Say which pools were searched by lists, and how many of the exact negatives that found."""
    for split, report in mined.searches.items():
        found = f"{report.recall:.1%} of the exact negatives of {report.sampled:,} queries were found"
        output.say(
            f"{split}: a pool of {report.pool:,} images, searched by {report.lists:,} lists: {found}; "
            "--search exact finds all"
        )


def _say_suspicious(mined: MinedTuples, output: Output) -> None:
    """Warn of places that may be one."""
    pairs = [(first, second, round(likeness, 3)) for first, second, likeness in mined.alike]
    output.result({"suspicious": pairs})
    if pairs:
        shown = [
            f"{second} is {likeness:.2f} times as similar to {first} as {first} is to itself"
            for first, second, likeness in pairs[:MOST_PAIRS]
        ]
        output.warn(
            f"{told_of(len(pairs), 'pairs of places look alike')}; two that show the same thing give false negatives, "
            f"so join them by build-index --places, or give --max-negative-similarity: {', '.join(shown)}"
        )
