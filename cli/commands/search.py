"""`sfm2tuples search`: the most similar of a database for each query."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.options.idle_flags import VERIFICATION, Use, by_geometry, by_windows, given, is_typed, refuse_idle_flags
from cli.options.network import FIELDS, network_options
from cli.options.paths import FilePath, PhotoPath
from cli.options.refinement import refinement_options
from cli.options.target import target_option
from cli.options.verification import verification_options
from cli.output import Output, output_options
from retrieval.search.options import ENGINES, FLAT, Refinement, SearchOptions, VerificationSources
from sfm2tuples.errors import counted

if TYPE_CHECKING:
    from retrieval.networks.choice import NetworkChoice
    from sfm2tuples.files.remote.address import AnyPath

PATH = FilePath()
USES = (
    Use(("num_matched",), "--pairs", given("pairs")),
    Use(VERIFICATION, "--rerank geometry", by_geometry),
    Use(("expand_inliers",), "--rerank geometry with --qe", lambda p: by_geometry(p) and p["qe"] is not None),
    Use(
        (*FIELDS, "whitening_layer", "photos", "query_photos", "images", "whitening"),
        "--rerank R",
        by_windows,
    ),
)
"""What flags are for that have nothing to do in some calls."""


@click.command("search", epilog="Example: sfm2tuples search --queries q.h5 --database d.h5 --pairs pairs.txt")
@click.option("--queries", "query_file", type=PATH, required=True, help="descriptors of the queries")
@click.option("--database", "database_file", type=PATH, required=True, help="descriptors to search; may be the same")
@target_option("the ranked lists, as a file of ours", required=False)
@click.option("--pairs", type=PATH, help="pairs of names as text, for hloc")
@click.option("--num-matched", type=click.IntRange(1), default=20, show_default=True, help="pairs of each query")
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default=FLAT,
    show_default=True,
    help="exact, best below some 100,000 images; or faiss's inverted lists or graph, whose recall is printed",
)
@click.option("--num-results", type=click.IntRange(1), default=100, show_default=True, help="images kept of each query")
@click.option("--min-similarity", type=float, help="leave out what is less similar (cosine)")
@click.option("--include-self", is_flag=True, help="let a query find the image of its own name")
@click.option("--nprobe", type=click.IntRange(1), help="ivf: lists that a query looks into  [default: one of 16]")
@click.option("--ef", type=click.IntRange(1), help="hnsw: rows kept in sight  [default: 256]")
@refinement_options
@verification_options
@network_options
@click.option("--photos", type=PhotoPath(), help="--rerank R: photos of the database: what extract was pointed at")
@click.option(
    "--query-photos", type=PhotoPath(), help="--rerank R: photos of the queries; those of the database by default"
)
@click.option("--images", type=PhotoPath(), help="--rerank R: folder that the names of a list or CSV start from")
@click.option("--whitening", type=PATH, help="--rerank R: the whitening of the descriptors, where they have one")
@click.option("--device", help="where to run, such as cpu or cuda  [default: the products on the processor]")
@output_options
def command(
    query_file: Path,
    database_file: Path,
    target: Path | None,
    pairs: Path | None,
    num_matched: int,
    choice: NetworkChoice,
    refinement: Refinement,
    verification: VerificationSources,
    photos: AnyPath | None,
    query_photos: AnyPath | None,
    images: AnyPath | None,
    whitening: Path | None,
    device: str | None,
    output: Output,
    **engine: Any,
) -> None:
    """Rank a database of descriptors for each query; a query does not find itself."""
    from retrieval.search.file_search import SearchRequest, search_files
    from retrieval.search.ranks_file import write_pairs, write_ranks
    from retrieval.search.windows_of_files import WindowSources
    from sfm2tuples.errors import UsageError

    if target is None and pairs is None:
        raise UsageError("say what to write: -o ranks.h5, --pairs pairs.txt, or both")
    refuse_idle_flags(USES)
    if is_typed("num_matched") and num_matched > engine["num_results"]:
        kept = f"{engine['num_results']} images are kept of each query"
        raise UsageError(f"--num-matched {num_matched}: {kept}; give --num-results {num_matched} too")
    windows = WindowSources(choice, photos, query_photos, images, whitening, device)
    options = SearchOptions(**engine)
    request = SearchRequest(query_file, database_file, options, refinement, windows, verification, pairs)
    found = search_files(request)
    output.warn_if(found.warning)
    ranks = found.result.ranks
    counts = {"queries": len(ranks.queries), "database": len(ranks.names), "found": int((ranks.row >= 0).sum())}
    output.result({**counts, "recall": found.result.recall, "sampled": found.result.sampled})
    if found.result.recall is not None:
        output.say(f"recall {found.result.recall:.4f} against the exact search, over {found.result.sampled} queries")
    if target is not None:
        write_ranks(target, ranks, found.parents)
        output.made(target, f"{counted(counts['found'], 'image')} found for {counted(counts['queries'], 'query')}")
    if pairs is not None:
        count = write_pairs(pairs, ranks, num_matched)
        output.made(pairs, counted(count, "pair"))
