"""One call that measures a network, descriptor files or ranked lists as the `evaluate` command is asked to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.evaluation.benchmark_descriptors import DescriptorFiles, benchmark_descriptors
from retrieval.evaluation.bow_teacher import Teacher
from retrieval.evaluation.database_images import DatabaseImages
from retrieval.evaluation.evaluation_file import FORMAT, SUFFIX, VERSION, PhotoFolders
from retrieval.evaluation.localisability import Localisability, first_results, localisability
from retrieval.evaluation.localised_queries import localised_queries
from retrieval.evaluation.named_rankings import evaluate_named_rankings, read_rankings
from retrieval.evaluation.refined_rankings import own_junk, refine
from retrieval.evaluation.request import EvaluationRequest
from retrieval.local_features.bag_of_words import read_bag_of_words
from retrieval.localisation.options import parse_thresholds
from retrieval.metrics.ranking import Rankings
from retrieval.metrics.results import Evaluation
from retrieval.protocols.benchmark import Benchmark, figure, figure_text
from retrieval.protocols.by_name import load_benchmark
from retrieval.protocols.photo_names import PhotoNames, known_names, names_of
from retrieval.search.feature_verifier import FeatureTables, FeatureVerifier
from retrieval.search.ranked_lists import Pipeline
from sfm2tuples.errors import DataError, told_of
from sfm2tuples.files.container import SOFTWARE

BY_GROUP = {"sfm": "place", "labels": "label"}
"""Protocols whose table has a row for each group, and what a group is there."""


LEAN = "the index is lean (--keep graph): what a localiser gets, which needs its points, is left out"
USUAL = parse_thresholds(None)
"""When a pose is right where nobody says it; whoever says it asks for figures."""


@dataclass(frozen=True)
class Measurement:
    """Evaluations and what they were made of."""

    protocol: str
    """One of `protocols.by_name.PROTOCOLS`."""
    evaluations: dict[str, Evaluation]
    """By setup; one for most protocols."""
    measures: tuple[str, ...]
    """Figures of each setup, as `protocols.benchmark.figure` names them."""
    settings: dict[str, Any]
    """What made the descriptors: network, size, scales, crop, whitening; or the name of the rankings."""
    parents: Sequence[str]
    """Fingerprints of the files that it was made from, where they have one."""
    warnings: Sequence[str]
    """Where descriptors, queries, distractors and whitening do not fit together, one line each."""
    notes: Sequence[str]
    """What was left out, one line each."""
    photos: PhotoFolders
    """Where a page finds the photos again."""
    localisability: dict[str, Localisability] = field(default_factory=dict)
    """What a localiser gets, by setup; where the protocol's photos have points, and it was asked for."""

    def figures(self) -> dict[str, dict[str, float | None]]:
        """Every figure of every setup; None where no query has a positive."""
        found = {}
        for setup, evaluation in self.evaluations.items():
            values = {name: figure(name, evaluation) for name in self.measures}
            found[setup] = {name: None if np.isnan(value) else value for name, value in values.items()}
        return found

    def table(self) -> tuple[list[tuple[str, ...]], list[str]]:
        """Rows for people and their header: places or labels, else the setups with all figures."""
        if self.protocol in BY_GROUP:
            tables = {setup: evaluation.table() for setup, evaluation in self.evaluations.items()}
            # Every setup has the same groups and queries, so that only the figures stand side by side.
            merged = [(*rows[0], *(row[-1] for row in rows[1:])) for rows in zip(*tables.values(), strict=True)]
            titles = ["mAP" if not setup.endswith(SUFFIX) else "teacher" for setup in tables]
            return list(merged), [BY_GROUP[self.protocol], "queries", *titles]
        rows = [
            (setup, f"{int(e.counted.sum()):,}", *(figure_text(name, figure(name, e)) for name in self.measures))
            for setup, e in self.evaluations.items()
        ]
        for setup, all_queries in self.over_all_queries().items():
            shown = [figure_text(name, all_queries[name]) if name in all_queries else "-" for name in self.measures]
            rows.append((f"{setup}, all queries", f"{len(self.evaluations[setup].queries):,}", *shown))
        return rows, ["setup", "queries", *self.measures]

    def over_all_queries(self) -> dict[str, dict[str, float]]:
        """Recall over all queries of each setup, where some have no answer and the figures leave these out."""
        depths = [int(name.partition("@")[2]) for name in self.measures if name.startswith("recall@")]
        return {
            setup: {f"recall@{depth}": e.recall_of_all(depth) for depth in depths}
            for setup, e in self.evaluations.items()
            if e.n_left_out and depths
        }

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        whole = {setup: evaluation.as_dict() for setup, evaluation in self.evaluations.items()}
        for setup, found in self.localisability.items():
            for row, entry in enumerate(whole[setup]["per_query"]):
                entry["localisable"] = found.of_query(row)
        return self._with_results(whole)

    def summary(self) -> dict[str, Any]:
        """`as_dict` without the results of single queries."""
        return self._with_results({setup: evaluation.summary() for setup, evaluation in self.evaluations.items()})

    def _with_results(self, whole: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """What was measured, and the results by setup; those of a single setup stand beside it."""
        over_all = self.over_all_queries()
        return {
            "format": FORMAT,
            "version": VERSION,
            "software": SOFTWARE,
            "protocol": self.protocol,
            "settings": self.settings,
            "parents": list(self.parents),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "photos": self.photos.as_dict(),
            "figures": self.figures(),
            **({"figures_over_all_queries": over_all} if over_all else {}),
            **self._localisable(),
            **(next(iter(whole.values())) if len(whole) == 1 else {"setups": whole}),
        }

    def _localisable(self) -> dict[str, Any]:
        """What a localiser gets, by setup, and when a pose is right."""
        if not self.localisability:
            return {}
        found = next(iter(self.localisability.values()))
        by_setup = {setup: one.as_dict() for setup, one in self.localisability.items()}
        return {"localisable": found.poses.as_dict() | {"setups": by_setup}}


def measure(request: EvaluationRequest) -> Measurement:
    """Describe the photos of a protocol, or read descriptors or rankings of them, and evaluate.

    Raises
    ------
    UsageError, DataError
        The request contradicts itself; a file or photo is absent or torn; photos have no descriptor.
    """
    if request.rankings is not None:
        return _measure_rankings(request, request.rankings)
    teacher = None
    if request.teacher is not None:
        teacher = Teacher(read_bag_of_words(request.teacher), request.teaching)
        if request.teacher_alone:
            return _measure_teacher(request, teacher)
    files = DescriptorFiles.read(request)
    benchmark = _load(request, partial(files.names, request.protocol))
    found, database = _measure_descriptors(request, benchmark, files)
    if teacher is not None:
        answers = teacher.evaluate(benchmark, database, request.crop)
        found = replace(
            found,
            evaluations=found.evaluations | {setup + SUFFIX: evaluation for setup, evaluation in answers.items()},
            settings=found.settings | teacher.settings(),
            parents=[*found.parents, teacher.bag.fingerprint],
        )
    return _with_localisability(request, benchmark, found)


def _load(request: EvaluationRequest, names: Callable[[], PhotoNames]) -> Benchmark:
    """The protocol; a lean index is refused at once where what was asked for needs its points."""
    benchmark = load_benchmark(request.protocol, names)
    if benchmark.index is not None and (request.localise is not None or request.poses not in (None, USUAL)):
        try:
            benchmark.index.require_points()
        except DataError:
            benchmark.index.close()
            raise
    return benchmark


def measure_benchmark(request: EvaluationRequest, benchmark: Benchmark) -> Measurement:
    """As `measure`, of descriptors, for a protocol whose ground truth was made before."""
    return _measure_descriptors(request, benchmark, DescriptorFiles.read(request))[0]


def _measure_descriptors(
    request: EvaluationRequest, benchmark: Benchmark, files: DescriptorFiles
) -> tuple[Measurement, list[str]]:
    """What descriptors answer, and the names of the database with its distractors."""
    refinement, verifiers = request.refinement, None
    if refinement.num_verified:
        verifiers = partial(_verifier, FeatureTables.of_files(request.verification.features), benchmark, request)
        verifiers(benchmark.database)  # refuses before a photo is described
    described = benchmark_descriptors(benchmark, request, files)
    names, queries, database = described.database.names, described.queries.values, described.database.values
    verifier = verifiers(names) if verifiers else None
    if refinement.any:
        pipeline = Pipeline(refinement, described.finder, verifier)
        evaluations = benchmark.evaluate(refine(queries, database, own_junk(benchmark), pipeline), names)
    else:
        evaluations = benchmark.evaluate(Rankings(queries, database), names)
        evaluations = {setup: found.with_similarity(queries, database) for setup, found in evaluations.items()}
    found = _measurement(
        request,
        benchmark,
        evaluations,
        described.settings | refinement.as_dict() | (verifier.settings() if verifier else {}),
        [*described.parents, *(verifier.parents if verifier else ())],
        described.notes,
    )
    return replace(found, warnings=described.warnings), names


def _measure_teacher(request: EvaluationRequest, teacher: Teacher) -> Measurement:
    """What the teacher answers alone."""
    benchmark = _load(request, teacher.names)
    evaluations = teacher.evaluate(benchmark, benchmark.database, request.crop)
    found = _measurement(request, benchmark, evaluations, teacher.settings(), [teacher.bag.fingerprint])
    return _with_localisability(request, benchmark, found)


def _measure_rankings(request: EvaluationRequest, path: Path) -> Measurement:
    """What ranked lists answer."""
    rankings = read_rankings(path)
    ranked = list(dict.fromkeys(name for names in rankings.values() for name in names))
    benchmark = _load(request, partial(known_names, request.protocol, ranked, str(path)))
    evaluations, notes = evaluate_named_rankings(rankings, benchmark, str(path))
    found = _measurement(request, benchmark, evaluations, {"rankings": path.name}, [], notes)
    return _with_localisability(request, benchmark, found)


def _with_localisability(request: EvaluationRequest, benchmark: Benchmark, found: Measurement) -> Measurement:
    """What a localiser gets from the first results of each setup, where the request says when a pose is right."""
    if request.poses is None or benchmark.index is None:
        return found
    if not benchmark.index.has_points:
        benchmark.index.close()
        return replace(found, notes=[*found.notes, LEAN])
    settings = {"localise": request.localise.as_dict()} if request.localise else {}
    by_setup = {}
    with benchmark.index as index:
        database = DatabaseImages.of_photos(index, benchmark.database)
        for setup, evaluation in found.evaluations.items():
            queries, results = evaluation.queries, first_results(evaluation)
            held = localisability(database, queries, results, request.poses)
            if request.localise is not None:
                jobs = request.verification.jobs
                asked = (database, benchmark, queries, results, request.poses, request.localise, jobs)
                held = replace(held, localised=localised_queries(*asked))
            by_setup[setup] = held
    return replace(found, localisability=by_setup, settings=found.settings | settings)


def _measurement(
    request: EvaluationRequest,
    benchmark: Benchmark,
    evaluations: dict[str, Evaluation],
    settings: dict[str, Any],
    parents: Sequence[str],
    notes: Sequence[str] = (),
) -> Measurement:
    """Put evaluations beside what they were made of."""
    protocol = request.protocol
    data = protocol.data if benchmark.photos else protocol.folder
    return Measurement(
        protocol.name,
        evaluations,
        benchmark.measures,
        settings,
        [*_fingerprint(benchmark), *parents],
        (),
        [*benchmark.notes, *notes, *_left_out(evaluations)],
        PhotoFolders(data, protocol.images, request.distractors),
    )


def _verifier(
    tables: FeatureTables, benchmark: Benchmark, request: EvaluationRequest, database: Sequence[str]
) -> FeatureVerifier:
    """What verifies the first images of each query."""
    # A photo that has no features keeps its name here, and is refused by it below.
    known = PhotoNames(tables.names, tables.origin, whole=False)
    asked, held = (names_of(names, known, "the protocol") for names in (benchmark.queries, database))
    boxes = benchmark.boxes_for(request.crop)
    return FeatureVerifier(tables, asked, held, request.verification.options, request.verification.jobs, boxes)


def _fingerprint(benchmark: Benchmark) -> list[str]:
    """Of an index; folders and lists have none."""
    return [benchmark.photos.parent] if benchmark.photos and benchmark.photos.parent else []


def _left_out(evaluations: dict[str, Evaluation]) -> list[str]:
    """Queries without positives, setup by setup."""
    single = len(evaluations) == 1
    return [
        told_of(e.n_left_out, "queries have no positive and are left out of the means")
        + ("" if single else f" of {setup}")
        for setup, e in evaluations.items()
        if e.n_left_out
    ]
