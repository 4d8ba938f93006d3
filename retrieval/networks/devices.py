"""Where a network runs, and in which arithmetic: the flags `--device` and `--precision`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from sfm2tuples.errors import UsageError, first_line

if TYPE_CHECKING:
    import torch

FP32, BF16, FP16 = "fp32", "bf16", "fp16"
PRECISIONS = (FP32, BF16, FP16)
"""Arithmetic of the convolutions, in training also of their gradients; the names that `--precision` takes."""
_HALF = {BF16: "bfloat16", FP16: "float16"}
"""Precision to torch's name of the numbers."""


def choose_device(name: str | None) -> torch.device:
    """The device of a name such as ``cpu`` or ``cuda:1``; without one: cuda where there is one, else the processor.

    Raises
    ------
    UsageError
        There is no such device here.
    """
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"--device {name}: cannot be used ({first_line(error)})") from error
    return device


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """A context in which a device computes in that precision.

    Raises
    ------
    UsageError
        The device has no such arithmetic.
    """
    import torch

    try:
        return torch.autocast(device.type, getattr(torch, _HALF.get(precision, "bfloat16")), precision in _HALF)
    except RuntimeError as error:
        reason = first_line(error)
        raise UsageError(f"--precision {precision}: cannot be used on {device} ({reason})") from error
