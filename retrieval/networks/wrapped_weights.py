"""Weights inside other things: a state dict under a key, or names behind a prefix, as other programs save them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sfm2tuples.errors import WeightsError, first_three

KEYS = ("state_dict", "model", "model_state_dict", "teacher", "student")
"""Under which of a file's entries its state dict lies; the first one counts (DINO evaluates its teacher)."""
PREFIXES = ("module.", "teacher.", "student.", "backbone.")
"""What may stand before every name of a backbone's weights; the last one leaves other parts of a network out."""
_DEEPEST = 3

logger = logging.getLogger(__name__)


def unwrapped(content: Any, source: str | Path) -> Any:
    """The state dict that lies under one of `KEYS`, and under another one in it; a line in the log says which."""
    for _ in range(_DEEPEST):
        if not isinstance(content, Mapping):
            break
        key = next((key for key in KEYS if isinstance(content.get(key), Mapping)), None)
        if key is None:
            break
        logger.warning("%s: the weights are those under %r", source, key)
        content = content[key]
    return content


def named_tensors(state: Mapping[Any, Any], source: str | Path) -> dict[str, Tensor]:
    """A state dict, once it is known to hold nothing but tensors with names.

    Raises
    ------
    WeightsError
        An entry is no tensor, or its name is no text.
    """
    unnamed = sum(not isinstance(name, str) for name in state)
    if unnamed:
        raise WeightsError(source, f"is no state dict: the names of {unnamed:,} entries are no text")
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise WeightsError(source, f"is no state dict: {len(others)} entries are no arrays ({first_three(others)})")
    return dict(state)


def without_prefixes(state: dict[str, Tensor], source: str | Path) -> dict[str, Tensor]:
    """The weights whose names begin with one of `PREFIXES`, without it; all of them where none does."""
    for prefix in PREFIXES:
        inside = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        if inside:
            others = [name for name in state if not name.startswith(prefix)]
            left_out = f"; {len(others):,} others are left out ({first_three(others)})" if others else ""
            logger.warning("%s: the weights are those whose names begin with %s%s", source, prefix, left_out)
            state = inside
    return state
