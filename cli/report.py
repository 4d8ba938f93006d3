"""`sfm2tuples report`: an HTML page to look at."""

from __future__ import annotations

from pathlib import Path

import click

from cli.output import Output, output_options


@click.command("report", epilog="Example: sfm2tuples report tuples.h5 -o page/")
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), required=True, help="the folder to make")
@click.option("--num-tuples", default=40, show_default=True, help="tuples shown of each split, balanced over places")
@click.option("--photo-size", default=320, show_default=True, help="longest side of the page's photos in pixels")
@click.option("--force", is_flag=True, help="replace an earlier page")
@output_options
def command(source: Path, target: Path, num_tuples: int, photo_size: int, force: bool, output: Output) -> None:
    """Write an HTML page of a tuple file: counts, distributions of the evidence, and tuples with their photos."""
    from retrieval.report import ReportOptions, write_report
    from sfm2tuples.errors import first_three

    report = write_report(source, target, ReportOptions(num_tuples, photo_size), force)
    if report.missing:
        output.warn(f"photos that cannot be shown: {len(report.missing):,}, first {first_three(report.missing)}")
    output.result({"page": str(report.page), "photos": report.photos, "missing": report.missing})
    output.made(report.page, f"a page with {report.photos:,} photos", next_step="open it in a browser")
