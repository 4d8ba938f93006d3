"""`sfm2tuples report`: an HTML page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.options.idle_flags import Use, given, refuse_idle_flags
from cli.options.paths import FilePath, PhotoPath
from cli.output import Output, output_options

PATH = FilePath()
USES = (
    Use(("num_tuples",), "a tuple file", lambda params: params["kind"] == "tuples"),
    Use(
        ("num_queries", "num_ranked", "setup", "compare", "images"),
        "an evaluation",
        lambda p: p["kind"] == "evaluation",
    ),
    Use(("called", "compare_called"), "--compare of an evaluation", given("compare")),
    Use(("num_models", "num_places", "descriptors"), "an index", lambda params: params["kind"] == "index"),
    Use(("index",), "a tuple file", lambda params: params["kind"] == "tuples"),
    Use(("num_pairs",), "an index or a tuple file", lambda params: params["kind"] in ("index", "tuples")),
    Use(("photo_size",), "an index, a tuple file or an evaluation", lambda params: params["kind"] != "run"),
)
"""What flags are for that have nothing to do in the page of another file."""


@click.command("report", epilog="Example: sfm2tuples report tuples.h5 -o page/")
@click.argument("source", metavar="FILE", type=PATH)
@click.option("-o", "--output", "target", type=PATH, required=True, help="the folder to make")
@click.option("--num-tuples", default=40, show_default=True, help="tuples: shown of each split, balanced over places")
@click.option(
    "--index",
    type=PATH,
    help="tuples: the index they were mined from, to draw the points that query and positive share",
)
@click.option("--num-queries", default=10, show_default=True, help="evaluation: worst queries, and as many best ones")
@click.option("--num-ranked", default=10, show_default=True, help="evaluation: images of a query, not counting junk")
@click.option("--setup", help="evaluation: the setup to show  [default: medium, or the first]")
@click.option("--compare", type=PATH, help="evaluation: another to compare it with  [default: its teacher]")
@click.option("--title", help="what the page is about  [default: the file's name]")
@click.option("--called", help="evaluation: what it is called beside --compare's  [default: the file's name]")
@click.option("--compare-called", help="evaluation: what --compare's is called  [default: the file's name]")
@click.option(
    "--images", type=PhotoPath(), help="evaluation: folder of its photos  [default: where evaluate found them]"
)
@click.option("--num-models", default=12, show_default=True, help="index: models seen from above, the largest")
@click.option("--num-places", default=6, show_default=True, help="index: places whose shared points are drawn")
@click.option(
    "--num-pairs", default=20, show_default=True, help="pairs of places that look alike, and of photos to check"
)
@click.option("--descriptors", type=PATH, help="index: descriptors of its photos, to find places that look alike")
@click.option("--photo-size", default=320, show_default=True, help="longest side of the page's photos, pixels")
@click.option("--force", is_flag=True, help="replace an earlier page")
@output_options
def command(source: Path, target: Path, force: bool, output: Output, **shown: Any) -> None:
    """Write an HTML page of FILE.

    Of an index: its models seen from above, places, shared points, places that look alike. Of a tuple file: the
    evidence and tuples; with --index, lines between the points that query and positive share. Of the folder of a
    training run: its curves. Of an evaluation: its worst and best queries.
    """
    from retrieval.reports.options import ReportOptions
    from retrieval.reports.report import page_of, write_report
    from sfm2tuples.errors import counted, first_three

    refuse_idle_flags(USES, kind=page_of(source).kind)
    report = write_report(source, target, ReportOptions(**shown), force)
    if report.missing:
        output.warn(f"photos that cannot be shown: {len(report.missing):,}, first {first_three(report.missing)}")
    output.result({"page": str(report.page), "photos": report.photos, "missing": report.missing})
    output.made(
        report.page,
        f"a page with {counted(report.photos, 'photo')}" if report.photos else "a page of drawings and tables",
        next_step="open it in a browser",
    )
