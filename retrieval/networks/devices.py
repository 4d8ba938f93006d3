"""Which device to compute on, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from sfm2tuples.errors import UsageError


def choose_device(name: str | None) -> torch.device:
    """The device of a name such as ``cpu`` or ``cuda:1``; without one: cuda where there is one, else the processor.

    Raises
    ------
    UsageError
        There is no such device here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"--device {name}: cannot be used ({str(error).splitlines()[0]})") from error
    return device


FP32, BF16, FP16 = "fp32", "bf16", "fp16"
AUTOCAST = {FP32: None, BF16: torch.bfloat16, FP16: torch.float16}
"""Precision to what the network's forward, and backward, is cast to."""
PRECISIONS = tuple(AUTOCAST)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """The network's arithmetic on a device: float32, or half precision where that is safe.

    Raises
    ------
    UsageError
        The device has no such arithmetic.
    """
    dtype = AUTOCAST[precision]
    try:
        return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--precision {precision}: cannot be used on {device} ({reason})") from error
