"""The loss of a photo batch: distances as the teacher has them [Park et al., CVPR 2019, distance-wise]."""

from __future__ import annotations

import torch
from torch import Tensor

ONE_POINT = 1e-5
"""Mean distance of unit vectors below which all of them are one point: single precision tells no more."""


def relational(student: Tensor, teacher: Tensor) -> Tensor:
    """Relational knowledge distillation, distance-wise [Park et al., CVPR 2019, equations 5 to 7].

    Both networks' distances of all pairs of a batch are divided by their mean; the loss of a pair is Huber's, with
    delta 1, of the difference between the two. Neither the dimensions nor how far descriptors lie apart in all need be
    alike. The teacher is a constant.

    Parameters
    ----------
    student : (n, D) float
        Descriptors with gradient.
    teacher : (n, E) float
        The teacher's descriptors of the same photos.

    Returns
    -------
    scalar
        Sum over photos of the mean over the other photos; 0 below three photos, and where either network has all
        descriptors in one point.
    """
    if len(student) < 3:
        return student.sum() * 0
    wanted, is_spread = _relative(teacher)
    found, has_spread = _relative(student)
    if not (is_spread and has_spread):
        return student.sum() * 0
    # Each pair counts for both of its photos.
    return 2 * torch.nn.functional.smooth_l1_loss(found, wanted, reduction="sum") / (len(student) - 1)


def _relative(descriptors: Tensor) -> tuple[Tensor, bool]:
    """Distances of all pairs, divided by their mean: (n (n - 1) / 2,); and whether that mean is above 0.

    O(n² D) time, O(n²) memory; two equal descriptors have gradient 0.
    """
    distances = torch.nn.functional.pdist(descriptors)
    mean = distances.mean()
    return distances / mean.clamp(min=ONE_POINT), bool(mean.detach() > ONE_POINT)
