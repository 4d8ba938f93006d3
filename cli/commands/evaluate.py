"""`sfm2tuples evaluate`: how well a network, descriptors or ranked lists answer the queries of a protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cli.options.extraction import extraction_options
from cli.options.network import network_options
from cli.options.protocol import protocol_options
from cli.options.refinement import refinement_options
from cli.options.teacher import teacher_options
from cli.options.verification import verification_options
from cli.output import Output, output_options
from retrieval.photos.cropping import CROPS
from sfm2tuples.errors import UsageError

PATH = click.Path(path_type=Path)
NEEDS = (
    (("num_verified", "num_expanded", "power", "hamming", "hamming_spread"), ("teacher",), "--teacher"),
    (
        ("image_size", "scales", "exponent", "precision", "resize_filter", "upright"),
        ("network", "backbone"),
        "--network or --backbone",
    ),
    (
        ("geometry", "ratio", "max_error", "min_inliers", "expand_inliers"),
        ("rerank", "teacher"),
        "--rerank geometry or --teacher",
    ),
)
"""Flags, the parameters of which one gives them something to do, and how to say that."""
OF_PROTOCOLS = {
    "min_shared": ("sfm",),
    "max_distance": ("place-recognition",),
    "unit_length": ("place-recognition",),
    "split": ("sfm", "place-recognition"),
}
"""Flags that only some protocols have a use for; the protocol of --index is sfm."""


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
@click.option("--distractors", type=PATH, help="descriptor file or folder of photos to add to the database")
@click.option("-o", "--output", "target", type=PATH, help="JSON with every query's result")
@click.option("--force", is_flag=True, help="replace the output where it exists")
@output_options
def command(target: Path | None, force: bool, output: Output, **asked: Any) -> None:
    """Measure on places unseen in training (--index), labelled photos (--labels) or a protocol of the field."""
    from retrieval.evaluation.measurement import measure
    from retrieval.evaluation.request import EvaluationRequest
    from sfm2tuples.files.atomic import refuse_overwrite, write_text

    _refuse_idle_flags(click.get_current_context(), asked["protocol"].name)
    if target is not None:
        refuse_overwrite(target, force)
    found = measure(EvaluationRequest(**asked))
    for warning in found.warnings:
        output.warn(warning)
    output.table(*found.table())
    for setup, figures in found.figures().items():
        known = [f"{name} {value:.6f}" for name, value in figures.items() if value is not None]
        output.say(f"{setup}: {', '.join(known) or 'no query has a positive'}")
    for note in found.notes:
        output.say(note)
    output.result(found.summary())
    if target is not None:
        write_text(target, json.dumps(found.as_dict(), indent=1) + "\n")
        output.made(target, "the table and every query's result")


def _refuse_idle_flags(context: click.Context, protocol: str) -> None:
    """Refuse flags that would change nothing: the user believes that they are in the figures."""
    for flags, masters, named in NEEDS:
        given = [flag for flag in flags if context.get_parameter_source(flag) is ParameterSource.COMMANDLINE]
        if given and not any(context.params[master] is not None for master in masters):
            raise UsageError(f"--{given[0].replace('_', '-')} is for {named}; leave it out, or name one")
    for flag, protocols in OF_PROTOCOLS.items():
        if protocol not in protocols and context.get_parameter_source(flag) is ParameterSource.COMMANDLINE:
            which = " or ".join("--index" if name == "sfm" else f"--protocol {name}" for name in protocols)
            raise UsageError(f"--{flag.replace('_', '-')} is for {which}; leave it out")
