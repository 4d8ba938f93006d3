"""SALAD: a photo's patches assigned to learned clusters by optimal transport (Izquierdo and Civera, CVPR 2024).

Each patch has a score for each cluster. Sinkhorn's iterations turn the scores into a plan that carries every patch of
weight 1 into clusters of weight 1 and a dustbin, which takes the rest: patches that tell nothing end there. Features
are summed by the plan. The backbone's token is projected and stands before the sums. MegaLoc adds a linear layer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from retrieval.networks.description import NetworkDescription
from retrieval.networks.poolings.pooling import Pooling, fill_randomly, single_precision
from sfm2tuples.errors import UsageError

CLUSTERS = 64
"""Clusters of SALAD and of MegaLoc."""
ITERATIONS = 3
"""Of Sinkhorn's algorithm."""


def transport_plan(scores: Tensor, dustbin: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """How much of each patch goes to each cluster; the dustbin's share is left out.

    Sinkhorn's iterations in logarithms (Cuturi, 2013): rows and columns are scaled in turn so that each cluster
    receives 1, each patch gives 1, and the dustbin takes what is left. After the last iteration each patch gives
    exactly 1. Where there are no more patches than clusters, every bin has the same weight.

    Parameters
    ----------
    scores : Tensor
        (B, m, n), of clusters and patches.
    dustbin : Tensor
        One score, of every patch for the dustbin.
    iterations : int

    Returns
    -------
    Tensor
        (B, m, n), from 0 to 1.
    """
    batch, clusters, patches = scores.shape
    scores = torch.cat([scores, dustbin.expand(batch, 1, patches)], dim=1)
    rest = max(patches - clusters, patches / (clusters + 1))
    weight = scores.new_full((clusters + 1,), math.log((patches - rest) / clusters))
    weight[-1] = math.log(rest)
    of_patch = scores.new_zeros(batch, 1, patches)
    for _ in range(iterations):
        of_bin = weight[:, None] - torch.logsumexp(scores + of_patch, dim=2, keepdim=True)
        of_patch = -torch.logsumexp(scores + of_bin, dim=1, keepdim=True)
    return (scores + of_bin + of_patch).exp()[:, :-1]


class SALAD(Pooling):
    """The token, and the sums of the patches' features by `transport_plan`, one a cluster.

    Parameters
    ----------
    channels : int
        K, channels of the map and of the token.
    clusters : int
    cluster_dim, token_dim : int
        Dimension of a cluster's sum and of the projected token.
    hidden : int
        Width between the two layers of each projection.
    output : int
        Dimension of MegaLoc's last linear layer; 0 for none.
    """

    options = ("clusters",)
    clusters = CLUSTERS
    sizes = {"cluster-dim": 128, "token-dim": 256, "hidden": 512, "output": 0}  # noqa: RUF012
    takes_token = True
    keeps_aspect = False
    follows_size = True

    def __init__(
        self, channels: int, clusters: int, cluster_dim: int, token_dim: int, hidden: int, output: int
    ) -> None:
        super().__init__()
        if min(clusters, cluster_dim, token_dim, hidden) < 1:
            raise UsageError("salad needs at least one cluster, and sizes of at least 1")
        self.score = _two_layers(channels, hidden, clusters)
        self.cluster_features = _two_layers(channels, hidden, cluster_dim)
        self.token_features = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, token_dim))
        self.dustbin = nn.Parameter(torch.tensor(1.0))
        self._joined = token_dim + clusters * cluster_dim
        self.linear = nn.Linear(self._joined, output) if output else None

    @classmethod
    def of(cls, description: NetworkDescription, channels: int) -> SALAD:
        """With the description's clusters and sizes."""
        return cls(channels, description.clusters, *cls.sizes_of(description).values())

    def dimension(self, channels: int) -> int:
        """Of the token and all sums, or of the last layer."""
        return self._joined if self.linear is None else self.linear.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Pool a map with its token (B, 2 K, h, w) to (B, token_dim + clusters x cluster_dim), or to `output`."""
        features, token = single_precision(x).chunk(2, dim=1)
        plan = transport_plan(self.score(features).flatten(2), self.dustbin)
        sums = self.cluster_features(features).flatten(2) @ plan.transpose(1, 2)
        token = self.token_features(token[:, :, 0, 0])
        # Theirs is one run of numbers: of each channel of a cluster's sum all clusters, one after the other.
        joined = torch.cat([normalize(token, dim=1), normalize(sums, dim=1).flatten(1)], dim=1)
        return joined if self.linear is None else self.linear(normalize(joined, dim=1))

    def reset(self, seed: int) -> None:
        """Random layers."""
        fill_randomly(self, seed)


def _two_layers(channels: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, outputs, 1))
