"""NetVLAD: residuals of a map's cells to learned centres, softly assigned and summed ([A16], method.md section 8)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from retrieval.networks.description import NetworkDescription
from retrieval.networks.poolings.pooling import Pooling, single_precision
from sfm2tuples.errors import UsageError

CLUSTERS = 64
"""K, the number of centres ([A16])."""
ASSIGNMENT_RATIO = 100.0
"""At first the nearest centre's weight is this many times the second's, on (geometric) average ([A16])."""


class NetVLAD(Pooling):
    """Soft assignment by a 1x1 convolution, residual sums, normalisation of each sum (intra-normalisation).

    Its centres mean nothing until `initialise` has set them.

    Parameters
    ----------
    channels : int
        D, channels of the map.
    clusters : int
        K, centres.

    Attributes
    ----------
    assignment : nn.Conv2d
        Weight ``2 alpha c_k`` and bias ``-alpha ||c_k||²`` at first; learned apart from the centres.
    centres : nn.Parameter
        (K, D).
    """

    options = ("clusters",)
    clusters = CLUSTERS
    unprepared = (
        "netvlad has no centres yet: train learns them from its photos (--rounds 0: that alone); "
        "then use --network RUN/best.pt"
    )

    def __init__(self, channels: int, clusters: int = CLUSTERS) -> None:
        super().__init__()
        if clusters < 1:
            raise UsageError(f"netvlad needs at least 1 centre (clusters), not {clusters}")
        self.assignment = nn.Conv2d(channels, clusters, 1)
        self.centres = nn.Parameter(torch.zeros(clusters, channels))

    @classmethod
    def of(cls, description: NetworkDescription, channels: int) -> NetVLAD:
        """With the description's number of centres."""
        return cls(channels, description.clusters)

    def dimension(self, channels: int) -> int:
        """K D."""
        return self.centres.numel()

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, D, h, w) to (B, K D); each of the K parts has norm 1, or is zero."""
        x = cell_descriptors(x)
        weights = self.assignment(x).flatten(2).softmax(dim=1)
        # Σ a (x - c) = Σ a x - c Σ a: the residuals (B, K, D, h w) are never in memory.
        sums = weights @ x.flatten(2).transpose(1, 2) - weights.sum(dim=2)[:, :, None] * self.centres
        return normalize(sums, dim=2).flatten(1)

    def initialise(self, centres: Tensor, cells: Tensor) -> float:
        """Set the centres, and alpha so that assignments of these cells are nearly hard.

        Parameters
        ----------
        centres : (K, D) float
        cells : (n, D) float
            Descriptors as of `cell_descriptors`, over which the ratio of the two largest weights is averaged.

        Returns
        -------
        float
            Alpha: ``log(ratio)`` over the mean gap of the squared distances to the second and the nearest centre.
        """
        alpha = 1.0
        if len(centres) > 1:
            nearest = torch.cdist(cells, centres).square().topk(2, dim=1, largest=False).values
            gap = float((nearest[:, 1] - nearest[:, 0]).mean())
            alpha = math.log(ASSIGNMENT_RATIO) / max(gap, torch.finfo(torch.float32).eps)
        with torch.no_grad():
            self.centres.copy_(centres)
            self.assignment.weight.copy_(2 * alpha * centres[:, :, None, None])
            if self.assignment.bias is not None:
                self.assignment.bias.copy_(-alpha * centres.square().sum(dim=1))
        return alpha


def cell_descriptors(x: Tensor) -> Tensor:
    """L2-normalise each cell of a map (B, D, h, w) over its channels; a cell of zeros stays zero."""
    return normalize(single_precision(x), dim=1)
