"""Weights inside other things: a state dict under a key, or names behind a prefix, as other programs save them."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sfm2tuples.errors import WeightsError, first_three

KEYS = ("state_dict", "model", "model_state_dict", "teacher", "student")
"""Under which of a file's entries its state dict lies; the first one counts (DINO evaluates its teacher)."""
PREFIXES = ("module.", "model.", "teacher.", "student.", "backbone.")
"""What may stand before every name of a backbone's weights; the last one leaves other parts of a network out."""
WHOLE = ("model.", "net.", "network.")
"""What a training program (Lightning's modules, most often) puts before the names of a whole network."""
_COMPILED = re.compile(r"(^|\.)_orig_mod\.")
"""What `torch.compile` puts before the names of the module that it wraps, which may be a part of a network."""
_DEEPEST = 3
_MOST_PREFIXES = 4

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
    state = uncompiled(state)
    for _ in range(_MOST_PREFIXES):
        prefix = next((prefix for prefix in PREFIXES if any(name.startswith(prefix) for name in state)), None)
        if prefix is None:
            break
        state = behind(state, prefix, source)
    return state


def uncompiled(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights without what `torch.compile` puts into their names."""
    return {_COMPILED.sub(r"\1", name): value for name, value in state.items()}


def behind(state: Mapping[str, Tensor], prefix: str, source: str | Path) -> dict[str, Tensor]:
    """The weights whose names begin so, without that; a line in the log says which are left out."""
    others = [name for name in state if not name.startswith(prefix)]
    left_out = f"; {len(others):,} others are left out ({first_three(others)})" if others else ""
    logger.warning("%s: the weights are those whose names begin with %s%s", source, prefix, left_out)
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
