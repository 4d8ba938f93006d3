"""The most similar of a pool by products on a GPU, bit for bit those of the CPU.

The device computes the product of a block, the best of every group in it and, from these, a limit that the query's
best cannot fall below. What reaches the limit within the rounding of single precision, a few rows a query, comes back
and is decided exactly, in the same way and on the same processor as without a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor

from sfm2tuples.similarity.best_rows import BestRows, PoolBlock, PoolRules
from sfm2tuples.similarity.exact_search import BLOCK, QUERY_BLOCK, Search, most_similar, pool_blocks
from sfm2tuples.similarity.rows import Matrix


class TorchSearch:
    """A search on a torch device, see `sfm2tuples.similarity.exact_search.Search`.

    Parameters
    ----------
    device : torch.device
    block : int
        Pool rows of one product; bounds the memory, on the device too, and changes no result.
    """

    def __init__(self, device: torch.device, block: int = BLOCK) -> None:
        self._device = device
        self._block = block

    def __call__(
        self, queries: np.ndarray, pool: Matrix, count: int, rules: PoolRules
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Search`."""
        queries = np.ascontiguousarray(queries, np.float32)
        best = BestRows(queries, count, rules)
        if count == 0:
            return best.row, best.similarity
        with _single_precision():
            for block in pool_blocks(pool, rules, self._block):
                for first in range(0, len(queries), QUERY_BLOCK):
                    self._offer(best, np.arange(first, min(first + QUERY_BLOCK, len(queries))), block)
        return best.row, best.similarity

    def _offer(self, best: BestRows, query: np.ndarray, block: PoolBlock) -> None:
        """Offer a block's pairs that reach their query's limit."""
        slack = best.rounding(block.descriptors)
        product = self._tensor(best.queries[query]) @ self._tensor(block.descriptors).T
        own = self._tensor(best.place[query])[:, None] == self._tensor(block.place)[None, :]
        if best.barred is not None:
            own |= self._tensor(best.barred.mask(query, block.row))
        highest = self._tensor(_towards(best.below[query] + slack, np.inf))[:, None]
        product = product.masked_fill(own | (product > highest) | product.isnan(), -torch.inf)

        # Only a product surely below the upper bound promises a row; the exact value may be lower by the slack.
        surely = self._tensor(_towards(best.below[query] - slack, -np.inf))[:, None]
        sure = product.masked_fill(product >= surely, -torch.inf)
        promised = self._best_of_groups(sure, block.group, best.row.shape[1]).cpu().numpy() - slack
        limit = np.maximum.reduce([promised, best.similarity[query, -1], best.above[query]]) - slack
        reached = product >= self._tensor(_towards(limit, -np.inf))[:, None]
        pairs = torch.nonzero(reached & (product > -torch.inf)).cpu().numpy()
        best.offer_pairs(query[pairs[:, 0]], pairs[:, 1], block)

    def _best_of_groups(self, product: Tensor, group: np.ndarray, count: int) -> Tensor:
        """The `count`-th largest of the groups' largest products, (q,); -inf where there are fewer groups."""
        names, which = np.unique(group, return_inverse=True)
        if len(names) < count:
            return product.new_full((len(product),), -torch.inf)
        largest = product.new_full((len(product), len(names)), -torch.inf)
        largest.scatter_reduce_(1, self._tensor(which).expand_as(product), product, "amax")
        return largest.topk(count, dim=1).values[:, -1]

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)


def exact_search(device: torch.device, block: int = BLOCK) -> Search:
    """The exact search for a device: NumPy's product on a CPU, torch's elsewhere; both give the same rows."""
    return partial(most_similar, block=block) if device.type == "cpu" else TorchSearch(device, block)


def _towards(values: np.ndarray, direction: float) -> np.ndarray:
    """In single precision, rounded so that no value crosses to the other side: devices need not have double."""
    return np.nextafter(values.astype(np.float32), np.float32(direction))


@contextmanager
def _single_precision() -> Iterator[None]:
    """Products in float32: the tensor cores' shorter numbers would round more than the slack allows."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
