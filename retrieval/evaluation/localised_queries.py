"""`evaluate --localise`: the queries of an index localised by their first results, held against the index's poses."""

from __future__ import annotations

import numpy as np

from retrieval.evaluation.database_images import DatabaseImages
from retrieval.evaluation.localisability import Localised, pose_errors, reasons_of_failure, within_thresholds
from retrieval.localisation.localisation import PoseAnswers, localise
from retrieval.localisation.options import LocalisationOptions, PoseThresholds
from retrieval.protocols.benchmark import Benchmark
from sfm2tuples.errors import UsageError


def localised_queries(
    database: DatabaseImages,
    benchmark: Benchmark,
    queries: np.ndarray,
    results: np.ndarray,
    poses: PoseThresholds,
    options: LocalisationOptions,
    jobs: int,
) -> Localised:
    """Localise queries by their first results; their own observations and poses are the truth alone.

    Parameters
    ----------
    database : DatabaseImages
        Of the benchmark's database.
    benchmark : Benchmark
    queries : (q,) int64
        Rows of its database.
    results : (q, K) int64
        Photos found for each, without the query; a row beyond the database (a distractor) takes a place, and has no
        points to match.
    poses, options, jobs
        See `PoseThresholds` and `localise`.
    """
    if benchmark.photos is None:
        raise UsageError("--localise needs the photos of an index")
    keys, size = benchmark.database, len(benchmark.database)
    found = [
        tuple((keys[row], database.rows_of(row)) for row in rows[: options.num_matched].tolist() if 0 <= row < size)
        for rows in results
    ]
    asked = tuple((keys[row], database.rows_of(row)) for row in queries.tolist())
    answers = localise(database.index, benchmark.photos, asked, found, options, jobs)
    return compared_poses(database, queries, answers, poses, options.num_matched)


def compared_poses(
    database: DatabaseImages, queries: np.ndarray, answers: PoseAnswers, poses: PoseThresholds, num_matched: int
) -> Localised:
    """Hold poses against those of the index; a pose in a model that the query is not in says nothing."""
    own = np.full(len(queries), -1, np.int64)
    for row, query in enumerate(queries.tolist()):
        images = np.arange(database.indptr[query], database.indptr[query + 1])
        own[row] = next(iter(images[database.model[images] == answers.model[row]].tolist()), -1)
    comparable = np.flatnonzero(own >= 0)
    distance, degrees = np.full((2, len(queries)), np.nan)
    errors = pose_errors(database, own[comparable], answers.pose[comparable], poses)
    distance[comparable], degrees[comparable] = errors
    right = np.asarray(within_thresholds(distance, degrees, poses).any(axis=1))
    reason = reasons_of_failure(answers.reason, own < 0, right)
    return Localised(num_matched, reason, distance, degrees, answers.matches, answers.inliers)
