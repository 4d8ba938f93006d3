"""Several processes that train one network: who does which share, and how shares are put together.

`torchrun` starts the processes and sets their environment; each joins a `Team`. Losses are sums over a batch, so the
gradient of a batch is the sum of the shares' gradients, whatever the number of processes. A single process is a team
of one. Its methods do nothing, so that no caller needs to ask.

A process that waits for a message of another, which has failed, would wait long. So work at which one process alone
may fail is done within `Team.shared_work`: all processes learn there how the others fared, before any waits.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from sfm2tuples.errors import SfmTuplesError, UsageError, first_line, one_line

Item = TypeVar("Item")
PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others: a round of mining may keep one of them busy."""
COMPLAINT = 500
"""Bytes of an error's message that the others are told."""
WHOLE_NUMBERS = {1: torch.uint8, 4: torch.int32, 8: torch.int64}
"""Types that hold the bits of a value, by its bytes."""


class Team:
    """The processes of one training; this one is number `rank` of `size`.

    Parameters
    ----------
    rank, size : int
        Of a team of one by default.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This process's share of a list: every `size`-th item; shares differ by one item at most."""
        return list(items[self.rank :: self.size])

    def rows(self, count: int) -> np.ndarray:
        """Which of `count` rows are this process's share: (s,) int64, rising; none where there are too few."""
        return np.arange(self.rank, count, self.size)

    def gather_rows(self, share: np.ndarray, count: int) -> np.ndarray:
        """Put the rows of all shares together.

        Parameters
        ----------
        share : (s, D) of 1, 4 or 8 bytes a value
            Rows for `rows(count)`, of the same type and D in every process.
        count : int
            Rows of the whole.

        Returns
        -------
        (count, D)
            The same bits in every process.
        """
        if self.size == 1 or count == 0:
            return share
        kind = WHOLE_NUMBERS[share.dtype.itemsize]
        whole = torch.zeros((count, share.shape[1]), dtype=kind)
        whole[self.rank :: self.size] = torch.from_numpy(np.ascontiguousarray(share)).view(kind)
        # Where one process has its row the others have zeros: their sum is the row. The bits are added up as whole
        # numbers, since a float's sum with zero loses the sign of -0 and may lose what a NaN holds.
        return self._summed(whole).numpy().view(share.dtype)

    def add_up(self, values: np.ndarray) -> np.ndarray:
        """Sum of an array over all processes, the same bits in each."""
        return values if self.size == 1 else self._summed(torch.from_numpy(values.copy())).numpy()

    def add_up_gradients(self, network: nn.Module) -> bool:
        """Give every process the sum of all gradients, in one message; False where no process has any.

        A parameter of which no process has a gradient has none afterwards: an optimiser would let weight decay and
        momentum move one whose gradient is zero.
        """
        parameters = [p for p in network.parameters() if p.requires_grad]
        has_own = [p.grad is not None for p in parameters]
        if self.size == 1:
            return any(has_own)
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = self._summed(torch.cat([own[0].new_tensor(has_own), *(gradient.reshape(-1) for gradient in own)]))
        has_one = flat[: len(own)].tolist()
        gradients = flat[len(own) :].split([p.numel() for p in parameters])
        for parameter, gradient, there in zip(parameters, gradients, has_one, strict=True):
            parameter.grad = gradient.view_as(parameter) if there else None
        return any(has_one)

    @contextmanager
    def shared_work(self) -> Iterator[None]:
        """Do one's share of what all put together afterwards; where one process fails, all do, at once.

        The work itself exchanges no messages.

        Raises
        ------
        SfmTuplesError
            Another process failed at its share: what it said.
        """
        if self.size == 1:
            yield
            return
        try:
            yield
        except Exception as error:
            said = str(error) if isinstance(error, SfmTuplesError) else f"{type(error).__name__} {error}".strip()
            with suppress(SfmTuplesError):  # who failed says why, even where another is gone
                self._complaints(one_line(said))
            raise
        self._heed(self._complaints(""))

    def _complaints(self, own: str) -> list[str]:
        """What each process has to complain of, by rank; an empty text for nothing."""
        told = np.zeros((1, COMPLAINT), np.uint8)
        text = np.frombuffer(own.encode("utf-8", "replace")[:COMPLAINT], np.uint8)
        told[0, : len(text)] = text
        all_told = self.gather_rows(told, self.size)
        return [row.tobytes().rstrip(b"\0").decode("utf-8", "ignore") for row in all_told]

    def _heed(self, complaints: list[str]) -> None:
        failed = [rank for rank, text in enumerate(complaints) if text]
        if failed:
            others = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
            raise SfmTuplesError(
                f"process {failed[0]} of {self.size}{others} failed at its share: {complaints[failed[0]]}"
            )

    def meet(self) -> None:
        """Go on once every process has come here; a message of the leader alone would not make the leader wait."""
        self.add_up(np.zeros(1))

    def agree(self, value: Any) -> Any:
        """The leader's value, in every process."""
        if self.size == 1:
            return value
        box = [value]
        with _lost_member():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def same_weights(self, network: nn.Module) -> None:
        """Give every process the leader's weights and statistics."""
        if self.size == 1:
            return
        with _lost_member():
            for tensor in network.state_dict().values():
                moved = self._placed(tensor)
                dist.broadcast(moved, src=0)
                tensor.copy_(moved)

    def _summed(self, tensor: torch.Tensor) -> torch.Tensor:
        moved = self._placed(tensor)
        with _lost_member():
            dist.all_reduce(moved)
        return moved.to(tensor.device)

    def _placed(self, tensor: torch.Tensor) -> torch.Tensor:
        """Where it can be sent from: NCCL knows only GPUs."""
        return tensor.cuda() if dist.get_backend() == dist.Backend.NCCL else tensor


@contextmanager
def join_team(device: str | None = None) -> Iterator[Team]:
    """Join the team that `torchrun` started; without it, a team of one.

    Parameters
    ----------
    device : str, optional
        Where the network runs: gloo carries messages between CPUs, NCCL between GPUs, each process on its own one.

    Raises
    ------
    UsageError
        The environment is half set, or there are fewer GPUs than processes on this machine.
    SfmTuplesError
        The others cannot be reached.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team()
        return
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UsageError(f"WORLD_SIZE is {size}, but {', '.join(missing)} is not set; start with torchrun")
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        _take_own_gpu(int(os.environ["LOCAL_RANK"]))
    try:
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise SfmTuplesError(f"the other processes cannot be reached ({first_line(error)})") from error
    try:
        yield Team(dist.get_rank(), size)
        # Nobody leaves while another is still sending: gloo's threads end the process where a line is cut.
        with _lost_member():
            dist.barrier()
    finally:
        dist.destroy_process_group()


def _take_own_gpu(local_rank: int) -> None:
    if local_rank >= torch.cuda.device_count():
        raise UsageError(
            f"process {local_rank} has no GPU of its own: there are {torch.cuda.device_count()}; "
            "lower --nproc-per-node, or give --device cpu"
        )
    torch.cuda.set_device(local_rank)


@contextmanager
def _lost_member() -> Iterator[None]:
    """Say in one line that another process is gone, in place of torch's trace."""
    try:
        yield
    except RuntimeError as error:
        raise SfmTuplesError(
            f"another process of this training is gone ({first_line(error)[:120]}); its own message says why; "
            "go on from the last whole round with --resume"
        ) from error
