"""Which of the paper's orderings hold on the real models' landmark folds: one table, mean and spread over seeds.

Each training differs from the base (m3, N2, contrastive, all places) in one thing. Every step is a command of
`sfm2tuples`, as in `own_models.py`; the figures of a run are kept below WORK, so that an interrupted ablation goes on,
and the table can be printed from what is there at any time.

    python examples/ablation.py ../shared/data ablation/ --quick
    python examples/ablation.py ../shared/data ablation/ --table-only
"""

from __future__ import annotations

import csv
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import own_models
from scipy.stats import t as student

from sfm2tuples.files.atomic import write_text
from sfm2tuples.index.opened import open_index

NONE, PCA, PCA_SHRUNK, LW = "none", "PCA_w", "PCA_w, λ 0.3", "L_w"
LW_OVERFITTED = "L_w of them too"
CUT = {f"L_w, {dimension} D": dimension for dimension in (256, 128, 64, 32, 16)}
LEARNED: dict[str, tuple[str, tuple[object, ...]]] = {
    PCA: ("pca", ("--method", "pca")),
    PCA_SHRUNK: ("pca_shrunk", ("--method", "pca", "--shrinkage", 0.3)),
    LW: ("lw", ()),
}
"""Whitening to its file and the options of whiten. L_w's shrinkage is chosen by whiten; PCA_w as published has none,
and 600 photos are too few for that in 512 dimensions: so it is shown with the one that the prototype's L_w had too."""
OUR_EXPECTATION, PAPER = "ours", "[E16]"


@dataclass(frozen=True)
class Variant:
    """One way to train; it differs from the base in one thing."""

    name: str
    """What `--variant` calls it."""
    title: str
    """What the table calls it."""
    train: tuple[object, ...] = ()
    """Options of train."""
    places: int | None = None
    """Places that train, drawn by seed; all of the fold where left out."""
    queries_per_place: int = 15
    """More of fewer places, so that the number of tuples hardly falls."""
    whitenings: tuple[str, ...] = (NONE, LW)
    """What is put after the network at test."""
    layer: bool = False
    """Whether the network ends in a whitening layer, started from L_w of the network off the shelf."""


SHELF = Variant("off-the-shelf", "off the shelf", whitenings=(NONE, *LEARNED))
BASE = Variant("base", "base: m3, N2, contrastive", whitenings=(NONE, *LEARNED, *CUT))
LANDMARKS = Variant("landmarks", "test landmarks added to training", whitenings=(NONE, LW, LW_OVERFITTED))
VARIANTS = (
    SHELF,
    BASE,
    Variant("m1", "m1 for m3", ("--positives", "m1")),
    Variant("N1", "N1 for N2", ("--negatives", "N1")),
    Variant("end-to-end", "whitening layer, end to end", whitenings=(NONE,), layer=True),
    Variant(  # as cirtorch trains whitened networks: a contrastive margin of 0.7 reaches no negative of theirs
        "end-to-end-triplet",
        "whitening layer, triplet with margin 0.5",
        ("--loss", "triplet", "--margin", 0.5),
        whitenings=(NONE,),
        layer=True,
    ),
    Variant("m2", "m2 for m3", ("--positives", "m2")),
    Variant("six", "6 of 20 places", places=6, queries_per_place=50),
    Variant("triplet", "triplet for contrastive", ("--loss", "triplet")),
    LANDMARKS,
    Variant("half", "10 of 20 places", places=10, queries_per_place=30),
    Variant("random", "random for N2", ("--negatives", "random")),
    Variant("graded", "graded contrastive", ("--loss", "graded-contrastive")),
    Variant("semi-hard", "semi-hard for N2", ("--negatives", "semi-hard")),
)
"""The most telling first. A quarter of the places would be 5: N2 with 5 negatives needs 6."""
BY_NAME = {variant.name: variant for variant in VARIANTS}

Row = tuple[str, str]
"""A row of the table: name of the variant, and whitening."""
Cell = tuple[int, int]
"""Fold and seed."""
Results = Mapping[tuple[str, int, int], Mapping[str, float]]
"""Variant, fold and seed to mAP in percent by whitening."""


@dataclass(frozen=True)
class Ordering:
    """A claim: one row is better than another."""

    worse: Row
    better: Row
    source: str
    """Who claims it."""
    head_start: float = 0.0
    """Points of mAP that the better one may stay behind, for "hardly better" in place of "worse"."""

    def __str__(self) -> str:
        """As the table says it: what both have in common stands once."""
        (worse, before), (better, after) = self.worse, self.better
        if worse == better:
            return f"{worse}: {before} < {after}"
        allowed = f" + {self.head_start:g}" if self.head_start else ""
        return f"{worse} < {better}{allowed}, {after if before in (NONE, after) else f'{before} and {after}'}"


def _orderings() -> Iterator[Ordering]:
    """method.md section 11; beside it what we would expect of choices that are not in the paper."""
    chain = [("off-the-shelf", "m1"), ("m1", "m2"), ("m2", "base"), ("m1", "base"), ("N1", "base")]
    chain += [("triplet", "base"), ("six", "half"), ("half", "base")]
    ours = [("random", "base"), ("semi-hard", "base"), ("base", "graded")]
    for whitening in (NONE, LW):
        for source, pairs in ((PAPER, chain), (OUR_EXPECTATION, ours)):
            yield from (Ordering((worse, whitening), (better, whitening), source) for worse, better in pairs)
        yield Ordering(("landmarks", whitening), ("base", whitening), PAPER, head_start=1.0)
    for network in ("off-the-shelf", "base"):
        yield Ordering((network, NONE), (network, PCA), PAPER)
        yield Ordering((network, NONE), (network, PCA_SHRUNK), OUR_EXPECTATION)
        yield Ordering((network, PCA), (network, LW), PAPER)
        yield Ordering((network, PCA_SHRUNK), (network, LW), OUR_EXPECTATION)
    yield Ordering(("end-to-end", NONE), ("base", LW), PAPER)
    yield Ordering(("end-to-end-triplet", NONE), ("base", LW), PAPER)
    yield from (Ordering(("base", low), ("base", high), PAPER) for high, low in pairwise([LW, *CUT]))


ORDERINGS = tuple(_orderings())


@dataclass(frozen=True)
class Plan:
    """What is measured, and how; the fields up to `folds` must stay the same within one WORK."""

    pooling: str = "gem"
    """Of every network."""
    rounds: int = 4
    """Of every training."""
    train_size: int = 362
    """Longest side in training, in pixels."""
    image_size: int = 512
    """Longest side at test, in pixels."""
    folds: tuple[int, ...] = own_models.FOLDS
    """Folds to measure."""
    seeds: int = 3
    """Seeds to train with, from 0 on."""

    def cells(self, variant: Variant) -> list[Cell]:
        """The runs of a variant; without training no seed changes anything."""
        return [(fold, seed) for fold in self.folds for seed in range(1 if variant is SHELF else self.seeds)]


QUICK = Plan(rounds=2, train_size=224, folds=(1,), seeds=2)
"""Within an hour on two cores; fold 1 is the one in which there is most to learn."""


# --- Runs -------------------------------------------------------------------------------------------------------------


def result_file(work: Path, variant: str, fold: int, seed: int) -> Path:
    """Where the figures of a run are kept."""
    return work / "results" / variant / f"fold{fold}_seed{seed}.json"


def run_cell(data: Path, work: Path, plan: Plan, variant: Variant, cell: Cell) -> None:
    """Train, describe, whiten, measure; keep the figures. What is there already is not made again."""
    fold, seed = cell
    start, began = own_models.pretrained(data, plan.pooling), time.monotonic()
    folder = work / f"fold{fold}"
    fold_tuples, labels = own_models.prepare_fold(data, folder, fold, start)
    tuples = training_tuples(data, work, variant, cell, start) or fold_tuples
    # The six landmarks' training is the same in all folds.
    place = (work if variant is LANDMARKS else folder) / variant.name / f"seed{seed}"
    network = start
    if variant is not SHELF:
        options = [*start, "--rounds", plan.rounds, "--image-size", plan.train_size, "--seed", seed, *variant.train]
        if variant.layer:
            shelf = folder / SHELF.name / "seed0"
            options += ["--whitening-layer", own_models.learn_whitening(shelf, fold_tuples, start, plan.image_size)]
        own_models.train(tuples, place / "run", place / "trained.json", options)
        network = ["--network", own_models.network_of(place / "run")]
    photos = own_models.describe(data, place / f"photos_fold{fold}.h5", labels, network, plan.image_size)
    figures = {}
    for whitening in variant.whitenings:
        learnt_in = (place, tuples)
        if variant is LANDMARKS and whitening == LW:
            # Otherwise L_w alone, which sees the test landmarks' pairs, would hide what training on them does.
            learnt_in = (place / f"fold{fold}", fold_tuples)
        flags = whitening_flags(whitening, *learnt_in, network, plan.image_size)
        figures[whitening] = own_models.mean_map(labels, photos, *flags)
    target = result_file(work, variant.name, fold, seed)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, json.dumps({"figures": figures, "seconds": round(time.monotonic() - began)}, indent=1) + "\n")


def whitening_flags(
    whitening: str, place: Path, tuples: Path, network: Sequence[object], size: int
) -> tuple[object, ...]:
    """What evaluate is told, after the whitening was learned on the training places."""
    if whitening == NONE:
        return ()
    name, options = LEARNED[learned_as(whitening)]
    file = own_models.learn_whitening(place, tuples, network, size, name, options)
    return ("--whitening", file, *(("--dim", CUT[whitening]) if whitening in CUT else ()))


def learned_as(whitening: str) -> str:
    """The whitening that another is a part of, or a version of."""
    return LW if whitening in CUT or whitening == LW_OVERFITTED else whitening


def training_tuples(data: Path, work: Path, variant: Variant, cell: Cell, network: Sequence[object]) -> Path | None:
    """Tuples of the six landmarks, or of fewer places; None where they are the fold's."""
    fold, seed = cell
    if variant is LANDMARKS:
        return own_models.mine(data, work / "all_landmarks", own_models.training_roots(data, []), network)
    if variant.places is None:
        return None
    folder = work / f"fold{fold}" / f"{variant.places}_places" / f"seed{seed}"
    chosen = draw_places(work / f"fold{fold}" / "index.h5", variant.places, seed)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "places.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [(str((data / model).resolve()), place) for model, place in chosen.items()]
        csv.writer(file).writerows([("model", "place"), *rows])
    # A model's name starts with the two folders below DATA that hold it and its photos.
    roots = sorted({data / Path(*Path(model).parts[:2]) for model in chosen})
    return own_models.mine(data, folder, roots, network, 0.0, variant.queries_per_place, folder / "places.csv")


def draw_places(index_path: Path, count: int, seed: int) -> dict[str, str]:
    """Models of some places, drawn among those with photos, to their place; more places contain fewer."""
    with open_index(index_path) as index:
        with_photos = np.unique(index.images.place[index.images.has_photo[:]])
        drawn = np.random.default_rng(seed).permutation(with_photos)[:count].tolist()
        pairs = zip(index.models.name, index.models.place.tolist(), strict=True)
        return {model: index.places.name[place] for model, place in pairs if place in drawn}


def run_plan(data: Path, work: Path, plan: Plan, variants: Sequence[Variant]) -> list[str]:
    """Run what is not done; give back what failed. A failed run does not keep the others from theirs."""
    failed, results = [], read_results(work)
    for variant in variants:
        for fold, seed in plan.cells(variant):
            if set(variant.whitenings) <= set(results.get((variant.name, fold, seed), {})):
                continue
            click.echo(f"# {variant.name}, fold {fold}, seed {seed}", err=True)
            try:
                run_cell(data, work, plan, variant, (fold, seed))
            except own_models.CommandFailed as failure:
                if failure.exit_code == 130:
                    raise
                failed.append(f"{variant.name}, fold {fold}, seed {seed}: {failure.format_message()}")
        write_text(work / "ablation.md", table(read_results(work), plan))
    return failed


# --- Table ------------------------------------------------------------------------------------------------------------


def read_results(work: Path) -> dict[tuple[str, int, int], dict[str, float]]:
    """The figures of all runs that are done."""
    cells = [(v.name, fold, seed) for v in VARIANTS for fold in own_models.FOLDS for seed in _seeds(work, v.name)]
    files = {cell: result_file(work, *cell) for cell in cells}
    return {cell: json.loads(file.read_text())["figures"] for cell, file in files.items() if file.exists()}


def _seeds(work: Path, variant: str) -> set[int]:
    return {int(file.stem.partition("_seed")[2]) for file in (work / "results" / variant).glob("fold*_seed*.json")}


def figures_of(results: Results, plan: Plan, row: Row) -> dict[Cell, float]:
    """A row's mAP by fold and seed, as far as measured; off the shelf every seed has the same."""
    variant, whitening = row
    found = {}
    for fold in plan.folds:
        for seed in range(plan.seeds):
            figures = results.get((variant, fold, 0 if variant == SHELF.name else seed), {})
            if whitening in figures:
                found[fold, seed] = figures[whitening]
    return found


def mean_over_folds(figures: Mapping[Cell, float]) -> float:
    """Mean over the seeds of a fold, then over folds; NaN of nothing."""
    folds = {fold for fold, _ in figures}
    by_fold = [np.mean([value for (fold, _), value in figures.items() if fold == wanted]) for wanted in folds]
    return float(np.mean(by_fold)) if by_fold else math.nan


def spread_over_seeds(figures: Mapping[Cell, float], folds: Sequence[int]) -> tuple[float, float] | None:
    """Least and greatest mean over folds of a seed that has all folds; None where no seed has."""
    seeds = {seed for _, seed in figures}
    whole = [seed for seed in seeds if all((fold, seed) in figures for fold in folds)]
    means = [float(np.mean([figures[fold, seed] for fold in folds])) for seed in whole]
    return (min(means), max(means)) if means else None


def paired(better: Mapping[Cell, float], worse: Mapping[Cell, float]) -> list[float]:
    """Differences of runs with the same fold and seed."""
    return [better[cell] - worse[cell] for cell in sorted(better) if cell in worse]


def compared(results: Results, plan: Plan, ordering: Ordering) -> list[float]:
    """What the better row of an ordering is ahead by, run by run."""
    untrained = ordering.better[0] == ordering.worse[0] == SHELF.name
    if untrained:  # the seeds are one measurement
        plan = replace(plan, seeds=1)
    return paired(*(figures_of(results, plan, row) for row in (ordering.better, ordering.worse)))


def standard_error(differences: Sequence[float]) -> float:
    """Of the mean of some differences; NaN below two."""
    if len(differences) < 2:
        return math.nan
    return float(np.std(differences, ddof=1) / math.sqrt(len(differences)))


def verdict(differences: Sequence[float]) -> str:
    """Whether the mean difference is above 0, below 0, or too near to it to be told.

    It is told from two standard errors on; from few runs, whose standard error is itself a guess, from the 95 % point
    of Student's t on: 12.7 standard errors with two runs, 4.3 with three, 2.6 with six, 2.3 with nine.
    """
    if len(differences) < 2:
        return "cannot be told"
    mean, error = float(np.mean(differences)), standard_error(differences)
    needed = max(2.0, float(student.ppf(0.975, len(differences) - 1)))
    if abs(mean) <= needed * error:
        return "cannot be told"
    return "confirmed" if mean > 0 else "contradicted"


def table(results: Results, plan: Plan) -> str:
    """Both tables as markdown, and what is missing."""
    return "\n".join(
        [*_settings(plan), "", *_figures(results, plan), "", *_verdicts(results, plan), *_missing(results, plan)]
    )


def _settings(plan: Plan) -> list[str]:
    return [
        f"SqueezeNet 1.1, {plan.pooling}; trained {plan.rounds} rounds at {plan.train_size} px, tested at "
        f"{plan.image_size} px; folds {', '.join(map(str, plan.folds))}; {plan.seeds} seeds. mAP in percent."
    ]


def _figures(results: Results, plan: Plan) -> Iterator[str]:
    yield "| training | whitening | runs | mAP, mean over folds | over seeds | to the base |"
    yield "|---|---|---|---|---|---|"
    for variant in VARIANTS:
        planned = len(plan.cells(variant))
        for whitening in variant.whitenings:
            figures = figures_of(results, plan, (variant.name, whitening))
            done = _done(results, plan, variant, whitening)
            low_high = spread_over_seeds(figures, plan.folds)
            spread = "-" if low_high is None or variant is SHELF else f"{low_high[0]:.1f} .. {low_high[1]:.1f}"
            own = learned_as(whitening)
            base = figures_of(results, plan, (BASE.name, own))
            gap = "" if (variant, whitening) == (BASE, own) else _gap(paired(figures, base))
            mean = f"{mean_over_folds(figures):.1f}" if figures else "-"
            yield f"| {variant.title} | {whitening} | {done} of {planned} | {mean} | {spread} | {gap} |"


def _verdicts(results: Results, plan: Plan) -> Iterator[str]:
    yield "| ordering | claimed by | pairs | difference | verdict |"
    yield "|---|---|---|---|---|"
    for ordering in ORDERINGS:
        differences = compared(results, plan, ordering)
        shifted = [difference + ordering.head_start for difference in differences]
        told = verdict(shifted)
        yield f"| {ordering} | {ordering.source} | {len(differences)} | {_gap(differences)} | {told} |"


def _gap(differences: Sequence[float]) -> str:
    if not differences:
        return "-"
    error = standard_error(differences)
    return f"{np.mean(differences):+.1f}" + ("" if math.isnan(error) else f" ± {error:.1f}")


def _done(results: Results, plan: Plan, variant: Variant, whitening: str) -> int:
    return sum(whitening in results.get((variant.name, *cell), {}) for cell in plan.cells(variant))


def _missing(results: Results, plan: Plan) -> Iterator[str]:
    """One line a variant that is not done; nothing where all are."""
    counts = [(v.name, min(_done(results, plan, v, w) for w in v.whitenings), len(plan.cells(v))) for v in VARIANTS]
    lines = [f"- {name}: {done} of {planned} runs" for name, done, planned in counts if done < planned]
    if lines:
        yield from ["", "Missing; the same command goes on:", "", *lines]


# --- Command ----------------------------------------------------------------------------------------------------------


def keep_plan(work: Path, plan: Plan) -> None:
    """Remember the plan for the table; refuse to mix figures of different settings in one WORK."""
    before = read_plan(work)
    if before is not None and replace(before, folds=plan.folds, seeds=plan.seeds) != plan:
        raise click.ClickException(f"{work}: was begun as {asdict(before)}; use the same settings, or another WORK")
    work.mkdir(parents=True, exist_ok=True)
    write_text(work / "plan.json", json.dumps(asdict(plan), indent=1) + "\n")


def read_plan(work: Path) -> Plan | None:
    """The plan of the last run; None where there was none."""
    file = work / "plan.json"
    if not file.exists():
        return None
    values = json.loads(file.read_text())
    return Plan(**{**values, "folds": tuple(values["folds"])})


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("work", type=click.Path(file_okay=False, path_type=Path))
@click.option("--quick", is_flag=True, help="fold 1, two seeds, two rounds at 224 px: within an hour on two cores")
@click.option("--variant", "names", multiple=True, type=click.Choice(list(BY_NAME)), help="repeatable; all by default")
@click.option("--fold", "folds", multiple=True, type=click.IntRange(0, 2), help="repeatable  [default: all]")
@click.option("--seeds", type=click.IntRange(1), help="how many seeds to train with  [default: 3]")
@click.option("--pooling", help="of every network  [default: gem]")
@click.option("--rounds", type=click.IntRange(1), help="of every training  [default: 4]")
@click.option("--train-size", type=click.IntRange(1), help="longest side in training, in pixels  [default: 362]")
@click.option("--image-size", type=click.IntRange(1), help="longest side at test, in pixels  [default: 512]")
@click.option("--table-only", is_flag=True, help="print the table of what is done; run nothing")
def main(data: Path, work: Path, quick: bool, names: tuple[str, ...], table_only: bool, **chosen: object) -> None:
    """Measure the paper's orderings on DATA's landmark folds; everything stays below WORK."""
    if table_only:
        plan = read_plan(work)
        if plan is None:
            raise click.ClickException(f"{work}: nothing was run here")
        failed = []
    else:
        plan = replace(QUICK if quick else Plan(), **{name: value for name, value in chosen.items() if value})
        keep_plan(work, plan)
        failed = run_plan(data, work, plan, [v for v in VARIANTS if not names or v.name in names])
    text = table(read_results(work), plan)
    write_text(work / "ablation.md", text + "\n")
    click.echo(text)
    for line in failed:
        click.echo(line, err=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
