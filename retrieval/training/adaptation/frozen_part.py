"""What the frozen part of a network puts out for photos: computed once for each photo, and kept in memory.

Frozen blocks see the same pixels in every step, round, mining and validation, and give the same values each time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from retrieval.descriptors.extraction import BATCH_SIZE, describing, to_input
from retrieval.descriptors.size_batches import in_batches
from retrieval.descriptors.soundness import require_finite
from retrieval.networks.backbones.backbone import Inner
from retrieval.networks.devices import autocast
from retrieval.networks.network import Network
from retrieval.training.adaptation.parts import depths_of
from sfm2tuples.compute.memory import free_memory
from sfm2tuples.compute.threads import processes_here
from sfm2tuples.errors import UsageError

Picture = np.ndarray | Inner
"""A photo (H, W, 3) uint8, or what the frozen part puts out for it."""
SHARE = 0.25
"""Of the memory that is free, what may be kept where nobody says; the processes of a machine divide it."""
UNSAID = 2**30
"""Bytes that may be kept where the machine does not say what is free."""
CPU = torch.device("cpu")
FEWEST_BLOCKS = 2
"""The block that learns first, from which on anything is kept: below the first one there are only the pixels."""

logger = logging.getLogger(__name__)


class FrozenPart:
    """Keeps what comes to the first block that learns, of photos by their rows.

    The first photos that come are kept until the limit is reached; what the others need is computed each time. None is
    given up for another one, since every round asks for about the same photos.

    Parameters
    ----------
    network : Network
        Its frozen weights must not change.
    block : int
        Of `first_kept_block`; not 0.
    limit : int
        Bytes of memory.
    precision : str
        One of `PRECISIONS`, that of the training.
    photos : int
        Photos of one forward at most.
    """

    def __init__(self, network: Network, block: int, limit: int, precision: str, photos: int = 1) -> None:
        self.network, self.block, self.limit = network, block, limit
        self.precision, self.photos = precision, photos
        self.kept: dict[int, Inner] = {}
        """By the photo's row; of one photo each, on the CPU."""
        self.bytes = 0
        """What they take."""
        self.is_full = False
        """Whether a photo has been left out for the limit."""

    def knows(self, rows: Iterable[int]) -> np.ndarray:
        """Which photos are kept: (n,) bool."""
        return np.array([row in self.kept for row in rows], bool)

    def unknown(self, rows: Sequence[int]) -> list[int]:
        """The rows whose photos are not kept, in their order."""
        return [row for row in rows if row not in self.kept]

    def seen(self, rows: Sequence[int], pictures: Mapping[int, np.ndarray]) -> list[Picture]:
        """What is kept of some photos; of those for which there is no room, the photo itself.

        Parameters
        ----------
        rows : sequence of int
        pictures : mapping of int to (H, W, 3) uint8
            By row, the photos that were not kept before.
        """
        new = ((pictures[row].shape, row) for row in self.unknown(rows))
        if not self.is_full:
            with torch.no_grad(), autocast(self.network.device, self.precision):
                for batch in in_batches(new, self.photos, waiting=len(rows)):
                    x = to_input([pictures[row] for row in batch], self.network.device)
                    self._keep(batch, self.network.before_block(x, self.block))
        return [self.kept[row] if row in self.kept else pictures[row] for row in rows]

    def describe_photos(self, rows: Sequence[int], x: Tensor) -> Tensor:
        """Descriptors (B, D) of photos (B, 3, H, W) as the network gives them, and keep what can be kept."""
        inner = self.network.before_block(x, self.block)
        self._keep(rows, inner)
        return self.network.from_block(inner)

    def describe(self, rows: Sequence[int], names: Sequence[str]) -> np.ndarray:
        """Descriptors (n, D) float32 of photos that are kept; names are for messages.

        Raises
        ------
        NotFiniteError
            The network's descriptor of a photo is not finite.
        """
        found = np.zeros((len(rows), self.network.dimension), np.float32)
        size = BATCH_SIZE["cpu" if self.network.device.type == "cpu" else "cuda"]
        with describing(self.network), autocast(self.network.device, self.precision):
            kept = ((form_of(self.kept[row]), at) for at, row in enumerate(rows))
            for batch in in_batches(kept, size, waiting=4 * size):
                inner = joined([self.kept[rows[at]] for at in batch], self.network.device)
                values = self.network.from_block(inner).float().cpu().numpy()
                found[batch] = require_finite(values, [names[at] for at in batch], self.precision)
        return found

    def say(self) -> None:
        """Log what was kept."""
        more = "; others were computed each time, see --cache-memory" if self.is_full else ""
        photos, held, allowed = len(self.kept), self.bytes / 1e6, self.limit / 1e6
        logger.info("frozen blocks were computed once for %d photos, in %.0f of %.0f MB%s", photos, held, allowed, more)

    def _keep(self, rows: Sequence[int], inner: Inner) -> None:
        size = inner.values[:1].numel() * inner.values.element_size()
        for at, row in enumerate(rows):
            if self.bytes + size > self.limit:
                self.is_full = True
                return
            # Copied, also where it is one photo alone: what comes behind may work in place.
            values = inner.values[at : at + 1].detach().to("cpu", copy=True)
            self.kept[row] = inner._replace(values=values)
            self.bytes += size


def frozen_part(
    network: Network, limit: int | None, precision: str, photos: int, compiled: bool = False
) -> FrozenPart | None:
    """What keeps the frozen part's output in a training; None where that is nothing.

    Parameters
    ----------
    network : Network
        What learns of it has gradients.
    limit : int, optional
        Bytes; 0 keeps nothing, None a share of the free memory.
    precision, photos
        As for `FrozenPart`.
    compiled : bool
        Whether the network is compiled as a whole, so that none of its blocks is entered.

    Raises
    ------
    UsageError
        A limit was chosen, and there is nothing to keep.
    """
    block = 0 if compiled else first_kept_block(network)
    if limit and not block:
        raise UsageError(f"cache_memory: {_why_nothing(network, compiled)}")
    allowed = default_limit() if limit is None else limit
    return FrozenPart(network, block, allowed, precision, photos) if block and allowed else None


def first_kept_block(network: Network) -> int:
    """The block of the backbone that learns first, one more than there are where none does; 0: nothing to keep.

    So where no block is frozen, where what is frozen gives other values each time, or where the backbone cannot be
    entered there.
    """
    depths, behind = depths_of(network), len(network.backbone.block_names()) + 1
    first = min((depths[name] for name, value in network.named_parameters() if value.requires_grad), default=behind)
    if first < FEWEST_BLOCKS or (first < behind and not network.backbone.enters_at_blocks):
        return 0
    return 0 if any(map(_differs_each_time, network.backbone.modules())) else first


def default_limit(device: torch.device = CPU) -> int:
    """Bytes that this process may keep: a share of what is free, divided by the processes on this machine.

    Of a GPU's memory each process has its own.
    """
    if device.type == "cuda":
        return int(SHARE * torch.cuda.mem_get_info(device)[0])
    free = free_memory()
    shared = UNSAID if free is None else int(SHARE * free)
    return shared // processes_here()


def form_of(picture: Picture) -> tuple[object, ...]:
    """What pictures must have in common to go through a network together."""
    if isinstance(picture, Inner):
        return (tuple(picture.values.shape), picture.size, picture.block)
    return picture.shape


def joined(pictures: Sequence[Inner], device: torch.device) -> Inner:
    """Several of one form as one, on a device; always a copy."""
    values = torch.cat([picture.values for picture in pictures])
    if device.type == "cuda":
        values = values.pin_memory()
    return pictures[0]._replace(values=values.to(device, non_blocking=True))


def _why_nothing(network: Network, compiled: bool) -> str:
    """Why nothing is kept, and what to do."""
    if compiled:
        return "--compile takes the network as a whole; leave out one of them"
    learns = any(value.requires_grad for value in network.backbone.parameters())
    if learns and not network.backbone.enters_at_blocks:
        name = network.description.backbone
        return f"{name} is entered behind its last block only; leave it out, or see --train-only head"
    why = "no block of this network is frozen for good"
    return f"{why}; leave it out, or see --train-only head, last:N and --freeze-below"


def _differs_each_time(layer: nn.Module) -> bool:
    """Whether a layer draws numbers while a network is trained; `Network.train` lets none gather statistics."""
    dropout = isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0
    return dropout or bool(getattr(layer, "drop_prob", 0))
