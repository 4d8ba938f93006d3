"""One call that measures a network, descriptor files or ranked lists as the `evaluate` command is asked to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.descriptors.extraction import ExtractionOptions
from retrieval.evaluation.bow_teacher import Teacher
from retrieval.evaluation.described_benchmark import DescribedBenchmark, DescriptorFiles, describe_benchmark
from retrieval.evaluation.evaluation_file import FORMAT, SUFFIX, VERSION, PhotoFolders
from retrieval.evaluation.named_rankings import evaluate_named_rankings, read_rankings
from retrieval.evaluation.options import MeasurementOptions
from retrieval.evaluation.refined_rankings import own_junk, refine
from retrieval.local_features.bag_of_words import read_bag_of_words
from retrieval.local_features.teacher import TeacherOptions
from retrieval.metrics.results import Evaluation, evaluate_descriptors, evaluate_rankings
from retrieval.networks.choice import NetworkChoice
from retrieval.protocols.benchmark import Benchmark, PhotoNames, figure, figure_text, named, names_of
from retrieval.protocols.by_name import known_names, load_benchmark, photos_in
from retrieval.search.feature_verifier import FeatureTables, FeatureVerifier, VerificationSources
from retrieval.search.options import Refinement
from sfm2tuples.errors import UsageError
from sfm2tuples.files.container import SOFTWARE

BY_GROUP = {"sfm": "place", "labels": "label"}
"""Protocols whose table has a row for each group, and what a group is there."""


@dataclass(frozen=True)
class Measurement:
    """Evaluations and what they were made of."""

    protocol: str
    """One of `protocols.choice.PROTOCOLS`."""
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
        return rows, ["setup", "queries", *self.measures]

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        return self._with_results({setup: evaluation.as_dict() for setup, evaluation in self.evaluations.items()})

    def summary(self) -> dict[str, Any]:
        """`as_dict` without the results of single queries."""
        return self._with_results({setup: evaluation.summary() for setup, evaluation in self.evaluations.items()})

    def _with_results(self, whole: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """What was measured, and the results by setup; those of a single setup stand beside it."""
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
            **(next(iter(whole.values())) if len(whole) == 1 else {"setups": whole}),
        }


def measure(
    options: MeasurementOptions,
    choice: NetworkChoice,
    extraction: ExtractionOptions,
    teaching: TeacherOptions | None = None,
    verification: VerificationSources | None = None,
) -> Measurement:
    """Describe the photos of a protocol, or read descriptors or rankings of them, and evaluate.

    Parameters
    ----------
    options : MeasurementOptions
    choice : NetworkChoice
    extraction : ExtractionOptions
        For the network.
    teaching : TeacherOptions, optional
        How `options.teacher` answers; by one search where left out.
    verification : VerificationSources, optional
        Local features, for re-ranking by geometry.

    Raises
    ------
    UsageError, DataError
        The request contradicts itself; a file or photo is absent or torn; photos have no descriptor.
    """
    protocol, verification = options.choice, verification or VerificationSources()
    verification.check(options.refinement)
    if options.rankings is not None:
        if choice.named:
            raise UsageError("--rankings are answers already: leave out the network, or --rankings")
        return _measure_rankings(options, options.rankings)
    files = DescriptorFiles.read(options)
    teacher = None
    if options.teacher is not None:
        teacher = Teacher(read_bag_of_words(options.teacher), teaching or TeacherOptions())
    if teacher is not None and files.database is None and not choice.named:
        return _measure_teacher(options, load_benchmark(protocol, teacher.names()), teacher)
    names = files.names() or (_none() if protocol.lists_photos else photos_in(protocol))
    benchmark = load_benchmark(protocol, names)
    tables = FeatureTables(verification.features) if options.refinement.num_verified else None
    _verifier(tables, benchmark, benchmark.database, options, verification)  # refuses before a photo is described
    described = describe_benchmark(benchmark, options, files, choice, extraction)
    verifier = _verifier(tables, benchmark, described.database.names, options, verification)
    evaluations = _evaluate(benchmark, described, options.refinement, verifier)
    found = Measurement(
        protocol.name,
        evaluations,
        benchmark.measures,
        described.settings | options.refinement.as_dict() | (verifier.settings() if verifier else {}),
        [*_fingerprint(benchmark), *described.parents, *(verifier.parents if verifier else ())],
        described.warnings,
        [*benchmark.notes, *described.notes, *_left_out(evaluations)],
        _folders(options),
    )
    return found if teacher is None else _beside(found, teacher, benchmark, described.database.names, options)


def _measure_teacher(options: MeasurementOptions, benchmark: Benchmark, teacher: Teacher) -> Measurement:
    """The teacher alone."""
    if options.describes or options.refinement.any:
        raise UsageError(
            "--queries, --distractors, --whitening, --qe, --dba and --rerank are for descriptors: name a network or "
            "--descriptors beside --teacher; the teacher has --num-verified and --num-expanded"
        )
    evaluations = teacher.evaluate(benchmark, benchmark.database, options.crop != "none")
    return Measurement(
        options.choice.name,
        evaluations,
        benchmark.measures,
        teacher.settings(),
        [*_fingerprint(benchmark), teacher.bag.fingerprint],
        (),
        [*benchmark.notes, *_left_out(evaluations)],
        _folders(options),
    )


def _beside(
    found: Measurement, teacher: Teacher, benchmark: Benchmark, database: list[str], options: MeasurementOptions
) -> Measurement:
    """What was found, and the teacher's answers to the same queries."""
    answers = teacher.evaluate(benchmark, database, options.crop != "none")
    return replace(
        found,
        evaluations=found.evaluations | {setup + SUFFIX: evaluation for setup, evaluation in answers.items()},
        settings=found.settings | teacher.settings(),
        parents=[*found.parents, teacher.bag.fingerprint],
    )


def _verifier(
    tables: FeatureTables | None,
    benchmark: Benchmark,
    database: Sequence[str],
    options: MeasurementOptions,
    sources: VerificationSources,
) -> FeatureVerifier | None:
    """What verifies the first images of each query; None without features."""
    if tables is None:
        return None
    # A photo that has no features keeps its name here, and is refused by it below.
    known = PhotoNames(tables.names, tables.origin, whole=False)
    asked, held = (names_of(names, known, "the protocol") for names in (benchmark.queries, database))
    boxes = benchmark.boxes if options.crop != "none" else None
    return FeatureVerifier(tables, asked, held, sources, boxes)


def _evaluate(
    benchmark: Benchmark,
    described: DescribedBenchmark,
    refinement: Refinement,
    verifier: FeatureVerifier | None,
) -> dict[str, Evaluation]:
    """Every setup of a protocol; what is refined is refined once for all of them."""
    queries, database = described.queries.values, described.database.values
    rankings: Iterable[np.ndarray] | None = None
    if refinement.any:
        own = own_junk(benchmark.queries, benchmark.database, next(iter(benchmark.setups.values())))
        rankings = refine(queries, database, own, refinement, described.finder, verifier)
    evaluations = {}
    for setup, truth in benchmark.setups.items():
        found = (
            evaluate_descriptors(queries, database, truth)
            if rankings is None
            else evaluate_rankings(rankings, truth, len(database))
        )
        evaluations[setup] = named(found, benchmark, described.database.names)
    return evaluations


def _measure_rankings(options: MeasurementOptions, path: Path) -> Measurement:
    protocol, rankings = options.choice, read_rankings(path)
    ranked = list(dict.fromkeys(name for names in rankings.values() for name in names))
    names = _none() if protocol.lists_photos else known_names(protocol, ranked, str(path))
    benchmark: Benchmark = load_benchmark(protocol, names)
    evaluations, notes = evaluate_named_rankings(rankings, benchmark, str(path))
    return Measurement(
        protocol.name,
        evaluations,
        benchmark.measures,
        {"rankings": path.name},
        _fingerprint(benchmark),
        (),
        [*benchmark.notes, *notes, *_left_out(evaluations)],
        _folders(options),
    )


def _folders(options: MeasurementOptions) -> PhotoFolders:
    choice = options.choice
    data = choice.data if choice.lists_photos else choice.folder
    return PhotoFolders(data, options.images, options.distractors)


def _none() -> PhotoNames:
    """For protocols whose data lists the photos itself."""
    return PhotoNames([], "")


def _fingerprint(benchmark: Benchmark) -> list[str]:
    """Of an index; folders and lists have none."""
    return [benchmark.photos.parent] if benchmark.photos and benchmark.photos.parent else []


def _left_out(evaluations: dict[str, Evaluation]) -> list[str]:
    """Queries without positives, setup by setup."""
    single = len(evaluations) == 1
    return [
        f"{e.n_left_out:,} queries have no positive and are left out of the means" + ("" if single else f" of {setup}")
        for setup, e in evaluations.items()
        if e.n_left_out
    ]
