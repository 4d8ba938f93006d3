"""Networks between two: the mean of their weights (Wortsman et al., CVPR 2022; method.md section 14)."""

from __future__ import annotations

import copy

import torch

from retrieval.networks.network import Network
from sfm2tuples.errors import UsageError


def between(start: Network, end: Network, share: float = 0.5) -> Network:
    """A new network whose weights lie between those of two, such as before and after training.

    Parameters
    ----------
    start, end : Network
        Of the same description; neither is changed.
    share : float
        0 gives the weights of `start`, 1 those of `end`.

    Raises
    ------
    UsageError
        The two are not built alike, or the share is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise UsageError(f"a share of {share} does not lie between two networks; give 0 to 1")
    left, right = start.state_dict(), end.state_dict()
    if {name: value.shape for name, value in left.items()} != {name: value.shape for name, value in right.items()}:
        raise UsageError("there is no network between two that are not built alike")
    found = copy.deepcopy(end)
    with torch.no_grad():
        for name, value in found.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.lerp(left[name].to(value.device, value.dtype), right[name], share))
    return found.eval()
