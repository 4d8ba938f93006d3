"""A team whose processes are threads: the same shares and messages, without an engine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import nn

from retrieval.training.team import Team


class ThreadTeam(Team):
    """One member; all members of a team share `table`, where they lay down what is to be added up."""

    def __init__(self, rank: int, size: int, table: list[Any], barrier: threading.Barrier) -> None:
        super().__init__(rank, size)
        self._table, self._barrier = table, barrier

    def _summed(self, tensor: torch.Tensor) -> torch.Tensor:
        self._table[self.rank] = tensor
        self._barrier.wait()
        total = torch.stack([part.clone() for part in self._table]).sum(dim=0, dtype=tensor.dtype)
        self._barrier.wait()
        return total

    def agree(self, value: Any) -> Any:
        self._table[self.rank] = value
        self._barrier.wait()
        told = self._table[0]
        self._barrier.wait()
        return told

    def same_weights(self, network: nn.Module) -> None:
        leader = self.agree(network.state_dict())
        for name, value in network.state_dict().items():
            value.copy_(leader[name])
        self.meet()


def in_a_team(size: int, work: Callable[[Team], Any]) -> list[Any]:
    """What `work` gives to, or raises in, each member, by rank; a member that waits in vain raises too."""
    table, barrier = [None] * size, threading.Barrier(size, timeout=30)
    with ThreadPoolExecutor(size) as pool:
        jobs = [pool.submit(work, ThreadTeam(rank, size, table, barrier)) for rank in range(size)]
        return [job.exception() or job.result() for job in jobs]
