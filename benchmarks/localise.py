"""How localisable@k goes with PnP: of real sites, whether a query's results hold enough points, and its pose."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np

from retrieval.evaluation.localisability import ENOUGH, Localisability
from retrieval.evaluation.measurement import measure
from retrieval.evaluation.request import EvaluationRequest
from retrieval.localisation.options import LocalisationOptions, PoseThresholds, parse_thresholds
from retrieval.networks.choice import NetworkChoice
from retrieval.protocols.benchmark import ProtocolChoice
from retrieval.protocols.sfm import sfm_benchmark
from retrieval.search.options import VerificationSources
from retrieval.search.ranks_file import Ranks, write_ranks
from sfm2tuples.index.opened import open_index
from sfm2tuples.index.schema import TRAIN
from sfm2tuples.ingest.build import IngestOptions, build_index

NETWORK, RANDOM = "network", "random order"
PATH = click.Path(path_type=Path)


@click.command()
@click.argument("sites", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--matched", default="1,3,10", show_default=True, help="first results that are matched, several times")
@click.option("--backbone", help="network that ranks; the default one where left out")
@click.option("--weights", help="its weights")
@click.option("--scale", type=float, help="metres of a unit of the models")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="processes that run pycolmap")
@click.option("--work", type=PATH, help="folder for index and features, kept; else a temporary one")
def main(
    sites: Sequence[Path],
    matched: str,
    backbone: str | None,
    weights: str | None,
    scale: float | None,
    jobs: int,
    work: Path | None,
) -> None:
    """Localise every photo of SITES by the others, ranked by a network and at random; print how the figures go along.

    A SITE is a folder with models and photos. All of its places are asked.
    """
    request = EvaluationRequest(
        ProtocolChoice("sfm", Path(), split="train"),
        NetworkChoice(backbone=backbone, weights=weights),
        verification=VerificationSources(jobs=jobs),
        poses=parse_thresholds(None, scale),
    )
    with TemporaryDirectory() as temporary:
        for site in sites:
            folder = (work or Path(temporary)) / site.name
            folder.mkdir(parents=True, exist_ok=True)
            for way, k, held, seconds in localised_site(site, folder, [int(k) for k in matched.split(",")], request):
                click.echo(f"\n{site.name}, {way}, first {k}: {len(held.observed)} queries, {seconds:.0f} s")
                for line in lines_of(held, k):
                    click.echo(line)


def localised_site(
    site: Path, folder: Path, matched: Sequence[int], request: EvaluationRequest
) -> Iterator[tuple[str, int, Localisability, float]]:
    """Way, k, what came out and its seconds; the first of them find the features."""
    index = folder / "index.h5"
    if not index.exists():
        build_index([site], index, IngestOptions(val_share=0))
    random = folder / "random.h5"
    write_ranks(random, random_ranks(index, max(matched) + 1))
    protocol = replace(request.protocol, data=index)
    for way in (NETWORK, RANDOM):
        choice = request.choice if way == NETWORK else NetworkChoice()
        for k in matched:
            options = LocalisationOptions(num_matched=k, localise_cache=folder / "features.db")
            begun = time.monotonic()
            rankings = random if way == RANDOM else None
            asked = replace(request, protocol=protocol, choice=choice, rankings=rankings, localise=options)
            yield way, k, measure(asked).localisability["sfm"], time.monotonic() - begun


def random_ranks(index: Path, count: int, seed: int = 0) -> Ranks:
    """The photos of an index in random order for each query."""
    rng = np.random.default_rng(seed)
    with open_index(index) as opened:
        benchmark = sfm_benchmark(opened, TRAIN)
    names = benchmark.database
    row = np.array([rng.permutation(len(names))[:count] for _ in benchmark.queries])
    return Ranks(benchmark.queries, names, row, np.zeros(row.shape, np.float32))


def lines_of(held: Localisability, k: int) -> Iterator[str]:
    """For each number of points: the four counts, and correlations with whether PnP finds the pose."""
    found = held.localised
    if found is None:
        raise click.UsageError("nothing was localised")
    right = np.array([not reason for reason in found.reason], bool)
    seen = held.seen[:, k - 1]
    yield f"  localised {100 * right.mean():.1f} % ({_shares(found.within(held.poses), held.poses)})"
    yield "  points  localisable@k  both  neither  only points  only pose    phi"
    for least in ENOUGH:
        enough = seen >= least
        counts = [(enough & right).sum(), (~enough & ~right).sum(), (enough & ~right).sum(), (~enough & right).sum()]
        both, neither, points, pose = map(int, counts)
        share, figure = 100 * enough.mean(), correlation(enough, right)
        yield f"  {least:6}  {share:13.1f}  {both:4}  {neither:7}  {points:11}  {pose:9}  {figure:5.2f}"
    of_share, of_log = (correlation(v, right) for v in (seen / np.maximum(held.observed, 1), np.log1p(seen)))
    yield f"  point-biserial: share of points seen {of_share:.2f}, log(1 + points seen) {of_log:.2f}"


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's: phi of two yes-or-no columns, point-biserial of one and a number; NaN where one never changes."""
    if min(np.ptp(one.astype(float)), np.ptp(other.astype(float))) == 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def _shares(within: np.ndarray, poses: PoseThresholds) -> str:
    shares = zip(poses.texts(), (100 * within.mean(axis=0)).tolist(), strict=True)
    return ", ".join(f"{text}: {share:.1f}" for text, share in shares)
