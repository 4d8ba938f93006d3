"""Slow definitions of what `retrieval.training.adaptation` computes, in double precision."""

from __future__ import annotations

import numpy as np


def low_rank_descent(
    base: np.ndarray, bias: np.ndarray, right: np.ndarray, x: np.ndarray, y: np.ndarray, rate: float, steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient descent of ½ sum (x (W + B A)^T + b - y)² over B and A, each entry's derivative summed by hand.

    Gives B, A and the weight W + B A.
    """
    base, bias, right, x, y = (value.astype(np.float64) for value in (base, bias, right, x, y))
    left = np.zeros((base.shape[0], right.shape[0]))
    for _ in range(steps):
        error = x @ base.T + (x @ right.T) @ left.T + bias - y
        of_left, of_right = np.zeros_like(left), np.zeros_like(right)
        for photo in range(len(x)):
            for o in range(base.shape[0]):
                for r in range(right.shape[0]):
                    of_left[o, r] += error[photo, o] * (x[photo] @ right[r])
                    of_right[r] += error[photo, o] * left[o, r] * x[photo]
        left, right = left - rate * of_left, right - rate * of_right
    return left, right, base + left @ right


def moving_average(weights: list[np.ndarray], decay: float) -> np.ndarray:
    """The mean of weights before the first step and after each, as the sum of decay^k (1 - decay) shares."""
    found = weights[0].astype(np.float64) * decay ** (len(weights) - 1)
    for number, value in enumerate(weights[1:], 1):
        found = found + (1 - decay) * decay ** (len(weights) - 1 - number) * value
    return found
