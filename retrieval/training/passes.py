"""How photos go through a network in training: photos of one size forward together, and the gradient back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from retrieval.descriptors.extraction import to_input
from retrieval.descriptors.size_batches import in_batches
from retrieval.networks.backbones.backbone import Inner
from retrieval.networks.devices import autocast
from retrieval.networks.network import Network
from retrieval.training.adaptation.frozen_part import Picture, form_of, joined
from sfm2tuples.errors import UsageError

PHOTOS = {"cpu": 1, "cuda": 64}
"""Photos of a forward by device. On a CPU batching loses (docs/performance.md); other devices are treated as cuda."""


@dataclass(frozen=True)
class ForwardPlan:
    """What fits the device; changes a gradient by rounding only."""

    photos: int = 1
    """Photos of one forward at most; those of one size go together."""
    tuples: int = 1
    """Tuples that are described together; their photos' activations are held at once, unless `chunked`."""
    chunked: bool = False
    """Describe without gradient, take the loss's gradient by descriptor, then go forward again and back, one forward
    after the other: memory for one forward's activations, however many photos, for a third more time."""
    held: int = 0
    """Bytes of activations that a graph batch may hold; only the forwards beyond them are done again."""

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        if self.photos < 1 or self.tuples < 1:
            raise UsageError(f"photos per forward must be at least 1, not {self.photos}")


def forward_plan(
    device: torch.device, batch_size: int, photos: int | None = None, chunked: bool = False, held: int = 0
) -> ForwardPlan:
    """What suits a device: on a CPU one photo a forward and one tuple at a time, else a step's tuples together.

    Parameters
    ----------
    device : torch.device
    batch_size : int
        Tuples of a step.
    photos : int, optional
        Photos of a forward, where the user chose it.
    chunked, held
        As of `ForwardPlan`.
    """
    on_cpu = device.type == "cpu"
    alone = on_cpu and photos is None and not chunked
    return ForwardPlan(photos or PHOTOS["cpu" if on_cpu else "cuda"], 1 if alone else batch_size, chunked, held)


def describe(network: Network, pictures: Sequence[Picture], precision: str, photos: int = 1) -> Tensor:
    """Descriptors (n, D) float32 of photos of any sizes, with gradient where it is enabled.

    Parameters
    ----------
    network : Network
    pictures : sequence of (H, W, 3) uint8, or of what the frozen part of the network puts out for such photos
    precision : str
        One of `PRECISIONS`.
    photos : int
        Photos of one forward at most.
    """
    order: list[int] = []
    descriptors: list[Tensor] = []
    for rows, forward in _forwards(network, pictures, precision, photos):
        order += rows
        descriptors.append(forward())
    place = to_device(torch.tensor(order).argsort(), network.device)
    return torch.cat(descriptors)[place]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a tensor; a GPU fetches it from pinned memory without anybody waiting for what it does before."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def add_gradient(
    network: Network,
    pictures: Sequence[Picture],
    precision: str,
    plan: ForwardPlan,
    loss_of: Callable[[Tensor], Tensor],
    scale: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Describe photos, and add the gradient of their loss to the network's.

    Parameters
    ----------
    network, pictures, precision
        As for `describe`.
    plan : ForwardPlan
    loss_of : callable
        Descriptors (n, D) to a scalar.
    scale : callable
        What the loss is multiplied by before it goes back (fp16's gradient scaling).

    Returns
    -------
    loss : scalar
    descriptors : (n, D) float32
        Both without gradient.
    """
    if not plan.chunked:
        descriptors = describe(network, pictures, precision, plan.photos)
        loss = loss_of(descriptors)
        scale(loss).backward()
        return loss.detach(), descriptors.detach()
    return add_cached_gradient(network, pictures, precision, plan, loss_of, scale)


def add_cached_gradient(
    network: Network,
    pictures: Sequence[Picture],
    precision: str,
    plan: ForwardPlan,
    loss_of: Callable[[Tensor], Tensor],
    scale: Callable[[Tensor], Tensor],
    share: Tensor | None = None,
    gather: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """`add_gradient` that holds the activations of the plan's `held` bytes, and of one forward more [Gao et al. 2021].

    Parameters
    ----------
    share : (s,) int64, optional
        Of a team: which rows of all descriptors these pictures are. The gradient of the others is for other processes.
    gather : callable, optional
        Of a team: from the descriptors (s, D) of the pictures to those of all processes (n, D), without gradient.

    Returns
    -------
    loss, descriptors
        As of `add_gradient`; of a team the same in every process.
    """
    own = torch.zeros(len(pictures), network.dimension, device=network.device)
    described: list[tuple[list[int], Callable[[], Tensor], Tensor | None]] = []
    weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    free = plan.held
    for rows, forward in _forwards(network, pictures, precision, plan.photos):
        with torch.set_grad_enabled(free > 0):
            found, taken = _weighed(forward, weights)
        free -= taken
        own[rows] = found.detach()
        described.append((rows, forward, found if free > 0 else None))
    descriptors = own if gather is None else gather(own)
    leaf = descriptors.requires_grad_()
    loss = loss_of(leaf)
    scale(loss).backward()
    if leaf.grad is not None:
        gradient = leaf.grad if share is None else leaf.grad[share]
        for rows, forward, held in described:
            (forward() if held is None else held).backward(gradient[rows])
    return loss.detach(), leaf.detach()


def _weighed(forward: Callable[[], Tensor], weights: Collection[int]) -> tuple[Tensor, int]:
    """Descriptors, and the bytes that wait for their gradient besides the weights, which lie at these addresses."""
    sizes: dict[int, int] = {}

    def weigh(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return saved.detach()

    with torch.autograd.graph.saved_tensors_hooks(weigh, lambda saved: saved):
        found = forward()
    return found, sum(size for place, size in sizes.items() if place not in weights)


def _forwards(
    network: Network, pictures: Sequence[Picture], precision: str, photos: int
) -> Iterator[tuple[list[int], Callable[[], Tensor]]]:
    """Positions of photos of one size, and what describes them."""
    sized = ((form_of(picture), position) for position, picture in enumerate(pictures))
    for rows in in_batches(sized, photos, waiting=len(pictures)):
        batch = [pictures[row] for row in rows]

        def forward(batch: list[Picture] = batch) -> Tensor:
            decoded = [picture for picture in batch if isinstance(picture, np.ndarray)]
            kept = [picture for picture in batch if isinstance(picture, Inner)]
            with autocast(network.device, precision):
                if kept:
                    return network.from_block(joined(kept, network.device)).float()
                return network(to_input(decoded, network.device)).float()

        yield rows, forward
