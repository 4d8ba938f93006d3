"""The result of an evaluation: each query's average precision and ranks, and their means."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from retrieval.metrics.average_precision import average_precision, precision_at
from retrieval.metrics.ground_truth import GroundTruth
from retrieval.metrics.kept_images import VERDICTS, ImageCollector, KeptImages
from retrieval.metrics.ranked_parts import TOP, parts_by_similarity, parts_of_rankings
from retrieval.metrics.ranking import Rankings
from sfm2tuples.errors import UsageError
from sfm2tuples.files.columns import indptr_of


@dataclass(frozen=True)
class Evaluation:
    """How well rankings answer the queries of a protocol; a query without positives counts only in `n_left_out`."""

    queries: np.ndarray
    """(q,) int64: the queries' rows, as in the ground truth."""
    average_precision: np.ndarray
    """(q,) float64 in 0..1; NaN where a query has no positives."""
    n_positives: np.ndarray
    """(q,) int64: positives in the ground truth, found or not."""
    groups: np.ndarray
    """(q,) int64: the place or label of each query, a row of `group_names`."""
    group_names: tuple[str, ...]
    """Names of the places or labels."""
    ranks_indptr: np.ndarray
    """(q + 1,) int64: where each query's `ranks` start."""
    ranks: np.ndarray
    """(r,) int64: ranks of the positives found, from 0, after junk was taken out; rising within a query."""
    top: np.ndarray
    """(q, TOP) int64: the first ranked database rows without junk, -1 where the ranking ends."""
    kept: KeptImages
    """What there is to look at."""
    names: tuple[str, ...] | None = None
    """Keys of the database rows, where they are known."""
    query_names: tuple[str, ...] | None = None
    """Keys of the queries, in their order; where not given they are rows of the database."""
    boxes: np.ndarray | None = None
    """(q, 4) float64: what is asked for of each query's photo, see `protocols.benchmark.Benchmark`."""

    @property
    def counted(self) -> np.ndarray:
        """(q,) bool: queries that have positives."""
        return self.n_positives > 0

    @property
    def n_left_out(self) -> int:
        """Number of queries without positives."""
        return int(np.sum(~self.counted))

    @property
    def mean_over_queries(self) -> float:
        """MAP: mean over the queries that have positives; NaN without any."""
        return _mean(self.average_precision[self.counted])

    @property
    def mean_over_groups(self) -> float:
        """Mean over the queries of a place or label, then over places or labels."""
        return _mean(np.array([mean for _, _, mean in self.group_means()]))

    def group_means(self) -> list[tuple[str, int, float]]:
        """Name, number of counted queries and mAP of each place or label that has any."""
        counted = np.flatnonzero(self.counted)
        order = counted[np.argsort(self.groups[counted], kind="stable")]
        groups, starts = np.unique(self.groups[order], return_index=True)
        precisions = np.split(self.average_precision[order], starts[1:]) if len(order) else []
        return [(self.group_names[g], len(own), _mean(own)) for g, own in zip(groups.tolist(), precisions, strict=True)]

    def ranks_of(self, query: int) -> np.ndarray:
        """Ranks, from 0, of the positives found for the query number `query`."""
        return self.ranks[self.ranks_indptr[query] : self.ranks_indptr[query + 1]]

    def mean_precision_at(self, k: int) -> float:
        """Compute mP@k over the queries that have positives [R18]."""
        return _mean(np.array([precision_at(self.ranks_of(int(q)), k) for q in np.flatnonzero(self.counted)]))

    def mean_found_in(self, k: int) -> float:
        """Mean number of positives among the first k ranked: UKBench's N-S with k = 4."""
        return _mean(np.array([np.sum(self.ranks_of(int(q)) < k) for q in np.flatnonzero(self.counted)], np.float64))

    def recall_at(self, k: int) -> float:
        """Share of queries that have a positive among the first k ranked, of those that have any [A16]."""
        found = [np.any(self.ranks_of(int(q)) < k) for q in np.flatnonzero(self.counted)]
        return _mean(np.array(found, np.float64))

    def recall_of_all(self, k: int) -> float:
        """`recall_at` over all queries: one that has no positive counts as not answered, as some programs count."""
        return self.recall_at(k) * float(self.counted.mean()) if self.counted.any() else 0.0

    def with_similarity(self, queries: np.ndarray, database: np.ndarray) -> Evaluation:
        """The same with similarities of its kept images, see `KeptImages.with_similarity`."""
        return replace(self, kept=self.kept.with_similarity(queries, database))

    def table(self) -> list[tuple[str, str, str]]:
        """Rows for people: name, queries, mAP in percent; places or labels first, then the two means."""
        rows = [(name, f"{count:,}", f"{100 * mean:.1f}") for name, count, mean in self.group_means()]
        counted = f"{int(self.counted.sum()):,}"
        rows.append(("mean over groups", counted, f"{100 * self.mean_over_groups:.1f}"))
        rows.append(("mean over queries", counted, f"{100 * self.mean_over_queries:.1f}"))
        return rows

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON; images by name where names are known, else by row."""
        return self.summary() | {"per_query": [self._query_as_dict(query) for query in range(len(self.queries))]}

    def summary(self) -> dict[str, Any]:
        """`as_dict` without the results of single queries."""
        return {
            "mean_over_queries": _plain(self.mean_over_queries),
            "mean_over_groups": _plain(self.mean_over_groups),
            "queries": int(self.counted.sum()),
            "left_out_without_positives": self.n_left_out,
            "groups": [{"name": n, "queries": c, "mean": m} for n, c, m in self.group_means()],
        }

    def _query_as_dict(self, query: int) -> dict[str, Any]:
        return {
            "query": self._query_name(query),
            "group": self.group_names[self.groups[query]],
            "average_precision": _plain(self.average_precision[query]),
            "positives": int(self.n_positives[query]),
            "ranks": self.ranks_of(query).tolist(),
            "top": [self._name(row) for row in self.top[query] if row >= 0],
            **self._kept_as_dict(query),
        }

    def _kept_as_dict(self, query: int) -> dict[str, Any]:
        seen = self.kept.first[query] >= 0
        nearest = int(self.kept.nearest[query])
        last = zip(self.kept.last[query].tolist(), self.kept.last_rank[query].tolist(), strict=True)
        shown: dict[str, Any] = {
            "first": [self._name(row) for row in self.kept.first[query][seen]],
            "verdicts": [VERDICTS[verdict] for verdict in self.kept.verdict[query][seen]],
            "nearest": None if nearest < 0 else self._name(nearest),
            "last": [{"image": self._name(r), "rank": None if rank < 0 else rank} for r, rank in last if r >= 0],
        }
        if self.kept.similarity is not None:
            shown["similarities"] = [round(float(value), 4) for value in self.kept.similarity[query][seen]]
        return shown if self.boxes is None else shown | {"box": self.boxes[query].tolist()}

    def _query_name(self, query: int) -> int | str:
        return self._name(self.queries[query]) if self.query_names is None else self.query_names[query]

    def _name(self, row: int) -> int | str:
        return int(row) if self.names is None else self.names[row]


def evaluate_rankings(rankings: Iterable[np.ndarray], truth: GroundTruth, n_database: int) -> Evaluation:
    """Evaluate ranked lists, which may be cut short.

    Parameters
    ----------
    rankings : iterable of (k,) int arrays
        One for each query of `truth`, in its order: database rows, best first, none twice; -1 is skipped.
    truth : GroundTruth
    n_database : int
        Number of rows of the database.
    """
    if isinstance(rankings, Rankings):
        parts = parts_by_similarity(rankings, truth)
    else:
        parts = parts_of_rankings(rankings, truth, n_database)
    precisions, ranks, tops, collector = [], [], [], ImageCollector()
    for query, part in enumerate(parts):
        positives = truth.positives_of(query)
        ranks.append(part.rank)
        tops.append(np.pad(part.top, (0, TOP - len(part.top)), constant_values=-1))
        precisions.append(average_precision(part.rank, len(positives)))
        collector.add(part.head, part.verdict, part.positive, part.rank, positives)
    if len(precisions) != len(truth.queries):
        raise UsageError(f"{len(precisions)} rankings for {len(truth.queries)} queries")
    return Evaluation(
        queries=truth.queries,
        average_precision=np.array(precisions, np.float64),
        n_positives=np.diff(truth.positives_indptr),
        groups=truth.groups,
        group_names=truth.group_names,
        ranks_indptr=indptr_of(np.array([len(r) for r in ranks], np.int64)),
        ranks=np.concatenate([np.empty(0, np.int64), *ranks]),
        top=np.array(tops, np.int64).reshape(-1, TOP),
        kept=collector.all(),
    )


def evaluate_descriptors(queries: np.ndarray, database: np.ndarray, truth: GroundTruth) -> Evaluation:
    """Rank the whole database for each query and evaluate.

    Parameters
    ----------
    queries : (q, D) float32
        Descriptors of the queries of `truth`, in its order, L2-normalised.
    database : (n, D) float32
        Descriptors of the database, L2-normalised.
    truth : GroundTruth
    """
    return evaluate_rankings(Rankings(queries, database), truth, len(database)).with_similarity(queries, database)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _plain(value: float) -> float | None:
    """JSON has no NaN."""
    return None if np.isnan(value) else float(value)
