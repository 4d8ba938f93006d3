"""`sfm2tuples evaluate`: mAP by the SfM protocol or on labelled photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.extraction_options import extraction_options
from cli.network_options import network_options
from cli.output import Output, output_options

if TYPE_CHECKING:
    from retrieval.extraction import ExtractionOptions
    from retrieval.network_choice import NetworkChoice


@click.command("evaluate", epilog="Example: sfm2tuples evaluate --index index.h5 --network run/best.pt")
@click.option("--index", type=click.Path(path_type=Path), help="SfM protocol on the places of an index")
@click.option("--labels", type=click.Path(path_type=Path), help="CSV of image,label,role (query, database, distractor)")
@click.option("--images", type=click.Path(path_type=Path), help="folder of the labelled photos; the CSV's by default")
@network_options
@extraction_options
@click.option("--descriptors", type=click.Path(path_type=Path), help="descriptors of the photos, in place of a network")
@click.option("--whitening", type=click.Path(path_type=Path), help="a whitening to apply, made by whiten")
@click.option("--dim", type=click.IntRange(1), help="keep the first dimensions of the whitening")
@click.option(
    "--split", type=click.Choice(["train", "val"]), default="val", show_default=True, help="places of --index"
)
@click.option("--min-shared", type=click.IntRange(1), default=15, show_default=True, help="shared points of a positive")
@click.option("--distractors", type=click.Path(path_type=Path), help="descriptors that are added to --index's database")
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), help="JSON with every query's result")
@click.option("--force", is_flag=True, help="replace the output where it exists")
@output_options
def command(
    index: Path | None,
    labels: Path | None,
    images: Path | None,
    choice: NetworkChoice,
    extraction: ExtractionOptions,
    descriptors: Path | None,
    whitening: Path | None,
    dim: int | None,
    split: str,
    min_shared: int,
    distractors: Path | None,
    target: Path | None,
    force: bool,
    output: Output,
) -> None:
    """Measure mAP on places unseen in training (--index) or on labelled photos (--labels)."""
    from retrieval.measurement import MeasurementOptions, measure
    from sfm2tuples.atomic import refuse_overwrite, write_text

    if target is not None:
        refuse_overwrite(target, force)
    options = MeasurementOptions(index, labels, images, split, min_shared, distractors, whitening, dim)
    found = measure(options, descriptors, choice, extraction)
    output.warn_if(found.warning)
    output.table(found.evaluation.table(), ["place" if index else "label", "queries", "mAP"])
    if found.evaluation.n_left_out:
        output.say(f"{found.evaluation.n_left_out:,} queries have no positive and are left out of the means")
    output.result({key: value for key, value in found.as_dict().items() if key != "per_query"})
    if target is not None:
        write_text(target, json.dumps(found.as_dict(), indent=1) + "\n")
        output.made(target, "the table and every query's result")
