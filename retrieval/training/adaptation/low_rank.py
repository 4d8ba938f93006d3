"""LoRA (Hu et al., ICLR 2022): a layer's weight learns as a sum W + B A of low rank; W itself is frozen.

The layer holds the sum at all times, so that the network is a plain one whenever it describes, is saved or exported.
The chain rule gives the two factors their gradients from that of the sum: of B it is G A^T, of A it is B^T G.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sfm2tuples.errors import UsageError


class LowRank:
    """What is added to the weight of one linear layer.

    B is zero at first, so that nothing changes before the first step; A is drawn with the deviation 1 / sqrt(inputs).

    Parameters
    ----------
    layer : nn.Linear
        Its weight (outputs, inputs) is set by `merge`.
    rank : int
    generator : torch.Generator
        Draws A.

    Raises
    ------
    UsageError
        The rank is larger than that of the layer.
    """

    def __init__(self, layer: nn.Linear, rank: int, generator: torch.Generator) -> None:
        outputs, inputs = layer.weight.shape
        if rank > min(outputs, inputs):
            raise UsageError(f"train_only lora:{rank}: a projection of {inputs} to {outputs} has a smaller rank")
        self.layer = layer
        self.base: Tensor = layer.weight.detach().clone()
        """W (outputs, inputs)."""
        drawn = torch.randn(rank, inputs, generator=generator) * inputs**-0.5
        self.right = nn.Parameter(drawn.to(self.base.device))
        """A (rank, inputs)."""
        self.left = nn.Parameter(self.base.new_zeros(outputs, rank))
        """B (outputs, rank)."""

    def take_gradient(self) -> None:
        """Turn the gradient of the sum into those of the factors."""
        gradient = self.layer.weight.grad
        if gradient is None:
            return
        self.left.grad = gradient @ self.right.detach().T
        self.right.grad = self.left.detach().T @ gradient
        self.layer.weight.grad = None

    @torch.no_grad()
    def merge(self) -> None:
        """Set the layer's weight to W + B A."""
        self.layer.weight.copy_(torch.addmm(self.base, self.left, self.right))
