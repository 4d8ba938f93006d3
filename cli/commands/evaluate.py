"""`sfm2tuples evaluate`: how well a network, descriptors or ranked lists answer the queries of a protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from cli.options.extraction import extraction_options
from cli.options.idle_flags import BY_A_NETWORK, EXPONENT, VERIFICATION, Use, by_geometry, given, refuse_idle_flags
from cli.options.localisation import LOCALISE, localisation_options
from cli.options.network import network_options
from cli.options.paths import FilePath, PhotoPath
from cli.options.protocol import protocol_options
from cli.options.refinement import refinement_options
from cli.options.target import target_option
from cli.options.teacher import teacher_options
from cli.options.verification import verification_options
from cli.output import Output, output_options
from retrieval.localisation.options import LocalisationOptions
from retrieval.photos.choices import CROPS
from sfm2tuples.errors import UsageError
from sfm2tuples.files.remote.address import is_folder

PATH = FilePath()
CACHE_SUFFIX = ".localise.db"
"""What is behind the result's name, where nothing else is said of the cache."""


def _protocol(params: Mapping[str, Any]) -> str:
    """The protocol that is measured by."""
    return "sfm" if params["index"] else "labels" if params["labels"] else params["protocol"]


def _is_file(params: Mapping[str, Any]) -> bool:
    """Whether the protocol's data is a file: an index, or a table of labels."""
    return not is_folder(params["index"] or params["labels"] or params["data"])


def _verifies(params: Mapping[str, Any]) -> bool:
    return by_geometry(params) or bool(params["teacher"] and params["num_verified"])


def _expands_verified(params: Mapping[str, Any]) -> bool:
    of_teacher = bool(params["teacher"] and params["num_verified"] and params["num_expanded"])
    return of_teacher or (by_geometry(params) and params["qe"] is not None)


USES = (
    Use(("num_verified", "num_expanded", "power", "hamming", "hamming_spread"), "--teacher", given("teacher")),
    Use(("hamming_spread",), "--hamming", lambda params: params["hamming"] is not None),
    Use(("power",), "--teacher without --hamming", lambda params: params["hamming"] is None),
    BY_A_NETWORK,
    EXPONENT,
    Use(VERIFICATION, "--rerank geometry, or --teacher with --num-verified", _verifies),
    Use(
        ("expand_inliers",),
        "--rerank geometry with --qe, or --teacher with --num-verified and --num-expanded",
        _expands_verified,
    ),
    Use(("min_shared",), "--index", lambda params: _protocol(params) == "sfm"),
    Use(("max_distance",), "--protocol place-recognition", lambda params: _protocol(params) == "place-recognition"),
    Use(
        ("unit_length",),
        "--protocol place-recognition of an index",
        lambda params: _protocol(params) == "place-recognition" and _is_file(params),
    ),
    Use(
        ("split",),
        "--index or --protocol place-recognition of an index",
        lambda params: _protocol(params) in ("sfm", "place-recognition") and _is_file(params),
    ),
    Use(
        ("crop",),
        "queries that are described or verified here, not for those of --queries alone",
        lambda params: params["crop"] == "none" or not params["queries"] or given("teacher", "rerank")(params),
    ),
    Use(("localise", "scale", "pose_thresholds"), "--index", lambda params: _protocol(params) == "sfm"),
    Use(LOCALISE, "--localise", given("localise")),
    Use(("images",), "--labels CSV", lambda params: _protocol(params) == "labels" and _is_file(params)),
)
"""What flags are for that have nothing to do in some calls."""


@click.command("evaluate", epilog="Example: sfm2tuples evaluate --index index.h5 --network run/best.pt")
@protocol_options
@network_options
@extraction_options
@click.option("--descriptors", type=PATH, help="descriptors of the photos, in place of a network")
@click.option("--queries", type=PATH, help="descriptors of the queries, where they are in a file of their own")
@click.option(
    "--rankings", type=PATH, help="ranked names, in place of descriptors: DIR/QUERY.txt, lines of a file, or search's"
)
@click.option(
    "--crop",
    type=click.Choice(CROPS),
    default="none",
    show_default=True,
    help="describe the query's box: cut from the picture, or its activations",
)
@click.option("--whitening", type=PATH, help="a whitening to apply, made by whiten")
@click.option("--dim", type=click.IntRange(1), help="keep the first dimensions of the whitening")
@refinement_options
@verification_options
@click.option("--teacher", type=PATH, help="a bag of words of the photos (build-bow), beside a network or alone")
@teacher_options
@localisation_options
@click.option("--distractors", type=PhotoPath(), help="descriptor file or folder of photos to add to the database")
@target_option("JSON with every query's result", required=False)
@output_options
def command(target: Path | None, output: Output, **asked: Any) -> None:
    """Measure on places unseen in training (--index), labelled photos (--labels) or a protocol of the field."""
    from retrieval.evaluation.localisability import rows_for_people
    from retrieval.evaluation.measurement import measure
    from retrieval.evaluation.request import EvaluationRequest
    from sfm2tuples.files.atomic import write_text

    refuse_idle_flags(USES)
    asked["localise"] = _beside(target, asked["localise"])
    found = measure(EvaluationRequest(**asked))
    for warning in found.warnings:
        output.warn(warning)
    output.table(*found.table())
    for setup, held in found.localisability.items():
        output.heading(f"for a localiser, {setup}, with 95 % intervals")
        output.table(*rows_for_people(held.figures))
        for reason, count in held.failures().items():
            output.say(f"not localised: {count:,} of {len(held.observed):,}, {reason}")
        if held.poses.scale is None:
            output.say("a depth is the median depth of what a query sees; --scale METRES_PER_UNIT gives metres")
    for setup, figures in found.figures().items():
        known = [f"{name} {value:.6f}" for name, value in figures.items() if value is not None]
        output.say(f"{setup}: {', '.join(known) or 'no query has a positive'}")
    for note in found.notes:
        output.say(note)
    output.result(found.summary())
    if target is not None:
        write_text(target, json.dumps(found.as_dict(), indent=1) + "\n")
        output.made(target, "the table and every query's result")


def _beside(target: Path | None, options: LocalisationOptions | None) -> LocalisationOptions | None:
    """The options with a cache beside the result, where nothing else is said of it."""
    if options is None or target is None:
        return options
    cache = options.localise_cache or target.with_suffix(CACHE_SUFFIX)
    if cache.resolve() == target.resolve():
        raise UsageError(f"{target}: is the result; give --localise-cache another name")
    return replace(options, localise_cache=cache)
