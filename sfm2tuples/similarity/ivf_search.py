"""The most similar of a pool beyond a million by faiss's inverted lists: nearly exact, and it says how nearly.

faiss makes the lists. The rows of the lists that a query looks into are then decided on as in the exact search: one row
a place is kept however many are near, and no similarity is approximate. A row is found exactly or not at all.

Making the lists costs as much as some thousand queries. So they are made where a user asks for them, never by the
pool's size alone: for 2,000 queries of seven million rows the exact search is faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sfm2tuples.similarity.best_rows import BestRows, PoolRules
from sfm2tuples.similarity.exact_search import BLOCK, Search, most_similar
from sfm2tuples.similarity.rows import Matrix, block_of

LISTS_BY_ROOT = 1.5
"""Lists there are, by the square root of the rows, where lists are made once and searched often."""
MINED_LISTS_BY_ROOT = 0.25
"""The same where they serve one round of some thousand queries: to divide the rows among many lists would take longer
than to compare all pairs."""
TRAINED_BY_LIST = 64
"""Rows that a list's centre is learned from; faiss asks for 39 at least."""
PROBED, MINED_PROBED = 1 / 16, 1 / 5
"""Share of the lists that a query looks into at first, where there are many and where there are few."""
TURNS, MINED_TURNS = 25, 10
"""Turns of k-means: faiss's own number, and fewer for the few large lists of mining."""
SAMPLE = 100
"""Queries that are searched exactly too, to measure the recall."""


@dataclass(frozen=True)
class SearchReport:
    """How a search by lists went."""

    pool: int
    """Rows searched."""
    lists: int
    """Lists that they are divided into."""
    probes: int
    """Lists that every query looked into."""
    doubled: int
    """Times that a query had found too few rows and looked into twice as many lists."""
    sampled: int
    """Queries that were searched exactly too."""
    recall: float
    """Share of the exact rows of those queries that were found; NaN where there are none."""


class IvfSearch:
    """A search by inverted lists, see `sfm2tuples.similarity.exact_search.Search`.

    Parameters
    ----------
    exact : Search
        Finds the exact rows of a sample of queries.
    probes : int, optional
        Lists that a query looks into at first; `PROBED` or `MINED_PROBED` of them where left out.
    sample : int
        Queries of the sample; 0 measures nothing.
    block : int
        Rows compared at once; bounds the memory.
    lists : faiss.IndexIVFFlat, optional
        The lists of the pool, where they were made before; made anew by every search where left out.

    Attributes
    ----------
    report : SearchReport or None
        Of the latest search that had a query.
    """

    def __init__(
        self,
        exact: Search = most_similar,
        probes: int | None = None,
        sample: int = SAMPLE,
        block: int = BLOCK,
        lists: Any = None,
    ) -> None:
        self.report: SearchReport | None = None
        self._exact = exact
        self._probes = probes
        self._sample = sample
        self._block = block
        self._lists = lists

    def __call__(
        self, queries: np.ndarray, pool: Matrix, count: int, rules: PoolRules
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Search`; some rows may be missed, which `report` says."""
        queries = np.ascontiguousarray(queries, np.float32)
        best = BestRows(queries, count, rules)
        if not len(queries):
            return best.row, best.similarity
        lists = inverted_lists(pool, MINED_LISTS_BY_ROOT, MINED_TURNS) if self._lists is None else self._lists
        share = MINED_PROBED if self._lists is None else PROBED
        probes = min(lists.nlist, self._probes or max(1, round(share * lists.nlist)))
        doubled = self._search(best, lists, probes, rules)
        size = lists.nlist
        del lists
        sample = np.linspace(0, len(queries) - 1, min(self._sample, len(queries))).astype(np.int64)
        recall = float("nan")
        if len(sample):
            rows, _ = self._exact(queries[sample], pool, count, rules.of_queries(sample))
            recall = recall_of(best.row[sample], rows)
        self.report = SearchReport(len(pool), size, probes, doubled, len(sample), recall)
        return best.row, best.similarity

    def _search(self, best: BestRows, lists: Any, probes: int, rules: PoolRules) -> int:
        """Search the nearest lists of every query, and twice as many where it finds too few; count those times."""
        waiting, start, end, doubled = np.arange(len(best.queries)), 0, probes, 0
        while len(waiting) and start < lists.nlist and lists.ntotal:
            _, nearest = lists.quantizer.search(best.queries[waiting], end)
            self._offer_lists(best, lists, waiting, nearest[:, start:], rules)
            waiting = waiting[(best.row[waiting] < 0).any(axis=1)]
            start, end = end, min(2 * end, lists.nlist)
            doubled += len(waiting) if start < lists.nlist else 0
        return doubled

    def _offer_lists(
        self, best: BestRows, lists: Any, query: np.ndarray, nearest: np.ndarray, rules: PoolRules
    ) -> None:
        """Offer each list to the queries that look into it: one product a list."""
        from faiss.contrib.inspect_tools import get_invlist

        order = np.argsort(nearest.ravel(), kind="stable")
        wanted, start = np.unique(nearest.ravel()[order], return_index=True)
        asking = np.split(query[order // nearest.shape[1]], start[1:])
        for number, queries in zip(wanted.tolist(), asking, strict=True):
            row, codes = get_invlist(lists.invlists, number)
            descriptors = codes.view(np.float32)
            for first in range(0, len(row), self._block):
                some = slice(first, first + self._block)
                block = rules.block(row[some], descriptors[some])
                best.offer_products(queries, best.queries[queries] @ block.descriptors.T, block)


def inverted_lists(pool: Matrix, by_root: float = LISTS_BY_ROOT, turns: int = TURNS) -> Any:
    """faiss's inverted lists of a pool, which is read in blocks: a `faiss.IndexIVFFlat` by inner product.

    `by_root` is the number of lists by the square root of the rows, `turns` those of k-means.
    """
    import faiss

    size, dimension = pool.shape
    count = max(1, min(size // TRAINED_BY_LIST, round(by_root * size**0.5)))
    lists = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimension), dimension, count, faiss.METRIC_INNER_PRODUCT)
    lists.cp.spherical = True
    lists.cp.min_points_per_centroid = 1
    lists.cp.niter = turns
    if size:
        spread = np.linspace(0, size - 1, min(size, TRAINED_BY_LIST * count)).astype(np.int64)
        lists.train(block_of(pool, spread))
    for start in range(0, size, 1 << 16):
        lists.add(block_of(pool, slice(start, min(start + (1 << 16), size))))
    return lists


def recall_of(found: np.ndarray, exact: np.ndarray) -> float:
    """Share of the exact rows (q, k) that were found (q, k), query by query; NaN where there are none."""
    hits = (exact[:, :, None] == found[:, None, :]).any(axis=2) & (exact >= 0)
    return float(hits.sum() / (exact >= 0).sum()) if (exact >= 0).any() else float("nan")
