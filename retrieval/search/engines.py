"""The most similar of a database: exactly, by faiss's inverted lists, or by faiss's graph of neighbours (HNSW).

The similarity of every row found is exact, and of equal rows the lower one comes first. An approximate engine may miss
rows.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from retrieval.search.options import ENGINES, FLAT, HNSW, IVF
from sfm2tuples.compute.progress_bars import ProgressBar
from sfm2tuples.errors import UsageError
from sfm2tuples.similarity.best_rows import PoolRules, pair_similarities
from sfm2tuples.similarity.exact_search import Search, most_similar
from sfm2tuples.similarity.ivf_search import IvfSearch, inverted_lists
from sfm2tuples.similarity.rows import block_of

NEIGHBOURS = 32
"""Links of a row in HNSW's graph, on each of its levels (faiss's M)."""
BUILDING = 40
"""Rows that HNSW looks at where a new row is linked (faiss's efConstruction)."""
EF = 256
"""Rows that HNSW keeps in sight in a search, where nothing else is said; never fewer than are asked for."""
ADDED = 1 << 14
"""Rows that are added to a graph at once."""
NOBODY = -1
"""Own row of a query that is not in the database, or that may find itself."""


class Engine(Protocol):
    """Finds the most similar rows of one database."""

    def search(self, queries: np.ndarray, count: int, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The most similar rows of each query.

        Parameters
        ----------
        queries : (q, D) float32
            L2-normalised.
        count : int
            Rows wanted for each.
        own : (q,) int64
            A database row that is not to be found: the query itself; `NOBODY` where there is none.

        Returns
        -------
        row : (q, count) int64
            Most similar first, ties by the lower row; -1 where there are fewer.
        similarity : (q, count) float64
            Exact; -inf where there are fewer.
        """


class FlatEngine:
    """Exact search by blocked products, the database read in blocks.

    Parameters
    ----------
    database : (n, D) float32
        L2-normalised; in memory or mapped from a file.
    exact : Search
        What multiplies: the processor by default, or a device's (`torch_similarity.exact_search`).
    """

    def __init__(self, database: np.ndarray, exact: Search = most_similar) -> None:
        self._database = database
        self._exact = exact

    def search(self, queries: np.ndarray, count: int, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Engine.search`."""
        # A row as its own place and group: then the rule "none of the query's place" leaves out its own row only.
        rows = np.arange(len(self._database))
        return self._exact(queries, self._database, count, PoolRules(own, rows, rows))


class IvfEngine:
    """Search by inverted lists, which hold a copy of the database in memory.

    Parameters
    ----------
    database : (n, D) float32
        L2-normalised.
    nprobe : int, optional
        Lists that a query looks into; one of 16 where left out.
    """

    def __init__(self, database: np.ndarray, nprobe: int | None = None) -> None:
        self._database = database
        self._search = IvfSearch(probes=nprobe, sample=0, lists=inverted_lists(database))

    def search(self, queries: np.ndarray, count: int, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Engine.search`."""
        rows = np.arange(len(self._database))
        # A query that finds too few rows looks into more lists: it must not wait for rows that do not exist.
        found = self._search(queries, self._database, min(count, len(rows)), PoolRules(own, rows, rows))
        return _cut(*found, count)


class HnswEngine:
    """Search along a graph of neighbours, which holds a copy of the database in memory.

    Parameters
    ----------
    database : (n, D) float32
        L2-normalised.
    ef : int, optional
        Rows kept in sight; `EF`, or the rows asked for where they are more.
    """

    def __init__(self, database: np.ndarray, ef: int | None = None) -> None:
        import faiss

        self._database = database
        self._ef = ef
        self._graph = faiss.IndexHNSWFlat(database.shape[1], NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        self._graph.hnsw.efConstruction = BUILDING
        blocks = range(0, len(database), ADDED)
        for start in ProgressBar(blocks, desc="build", disable=len(blocks) <= 1):
            self._graph.add(block_of(database, slice(start, start + ADDED)))

    def search(self, queries: np.ndarray, count: int, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Engine.search`."""
        # One more, since the query's own row may be among them.
        wanted = min(count + 1, len(self._database))
        self._graph.hnsw.efSearch = max(self._ef or EF, wanted)
        queries = np.ascontiguousarray(queries, np.float32)
        _, row = self._graph.search(queries, wanted)
        row[row == own[:, None]] = -1
        return _cut(*ordered(queries, self._database, row), count)


def make_engine(
    name: str, database: np.ndarray, nprobe: int | None = None, ef: int | None = None, exact: Search = most_similar
) -> Engine:
    """Make an engine of a database.

    Parameters
    ----------
    name : {"flat", "ivf", "hnsw"}
    database : (n, D) float32
    nprobe, ef : int, optional
        See `IvfEngine` and `HnswEngine`.
    exact : Search
        See `FlatEngine`.

    Raises
    ------
    UsageError
        An unknown name.
    """
    if name == FLAT:
        return FlatEngine(database, exact)
    if name == IVF:
        return IvfEngine(database, nprobe)
    if name == HNSW:
        return HnswEngine(database, ef)
    raise UsageError(f"no engine is called {name}; there are {', '.join(ENGINES)}")


def ordered(queries: np.ndarray, database: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Proposed rows (q, k), -1 for none, with their exact similarities, in their order: ties by the lower row."""
    similarity = np.full(row.shape, -np.inf)
    query, column = np.nonzero(row >= 0)
    similarity[query, column] = pair_similarities(queries, database, query, row[query, column])
    order = np.lexsort((row, -similarity), axis=1)
    return np.take_along_axis(row, order, 1), np.take_along_axis(similarity, order, 1)


def columns(values: np.ndarray, count: int, fill: float) -> np.ndarray:
    """Exactly `count` columns: cut, or filled up."""
    return np.pad(values[:, :count], ((0, 0), (0, max(0, count - values.shape[1]))), constant_values=fill)


def _cut(row: np.ndarray, similarity: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    return columns(row, count, -1), columns(similarity, count, -np.inf)
