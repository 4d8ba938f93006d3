"""Which device to compute on."""

from __future__ import annotations

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
