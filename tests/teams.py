"""Teams that cost little: of threads, without an engine, and of processes that have the libraries loaded."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import nn

from retrieval.training.team import Team
from sfm2tuples.mining.rounds import RoundChoice
from tests.forked import Forked


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


def train_together(
    size: int, folder: Path, *words: object, first: Callable[[], None] | None = None
) -> list[tuple[int | None, str, str]]:
    """Exit code, stdout and stderr of each process of a team that runs `train` in the environment that torchrun sets.

    torchrun and its new interpreters would compute for ten seconds before they begin.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    team, line = [], ["train", *words, "--device", "cpu"]
    for rank in range(size):
        numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
        environment = {**place, **{name: str(number) for name, number in numbers.items()}}
        team.append(Forked(line, folder, str(rank), environment, first))
    try:
        return [(process.wait(), process.stdout, process.stderr) for process in team]
    finally:
        for process in team:
            process.kill()


def second_dies_while_mining() -> None:
    """Have the process of rank 1 killed while it mines for the second round."""
    negatives = RoundChoice.negatives

    def die(self: RoundChoice, which: Any) -> Any:
        if os.environ["RANK"] == "1" and self.plan.round == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return negatives(self, which)

    RoundChoice.negatives = die  # type: ignore[method-assign]
