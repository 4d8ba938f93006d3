"""Which parts of a network learn: the head, the last blocks of the backbone, or all; and how deep each weight lies."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn

from retrieval.networks.network import Network
from sfm2tuples.errors import UsageError

HEAD, LAST_BLOCKS, ALL, LORA = "head", "last", "all", "lora"
"""What may learn, as `--train-only` takes it; a number follows the second and the last."""
LARGEST = 10**6
"""No number of blocks and no rank is larger."""
PROJECTIONS = re.compile(r"(^|\.)attn\.(qkv|q|k|v|proj|q_proj|k_proj|v_proj)$")
"""Names of the linear layers of an attention, ours and timm's."""


@dataclass(frozen=True)
class Learners:
    """What learns besides the head, which always does."""

    kind: str = ALL
    """One of the four above."""
    number: int = 0
    """Blocks that learn, or the rank of what is added to a projection."""
    below: str = ""
    """The block below which all is frozen; empty for none."""


def learners_of(train_only: str, freeze_below: str | None = None) -> Learners:
    """What `--train-only` and `--freeze-below` ask for.

    Raises
    ------
    UsageError
        A text that says nothing known, or two that exclude each other.

    Examples
    --------
    >>> learners_of("last:2")
    Learners(kind='last', number=2, below='')
    """
    kind, colon, number = train_only.partition(":")
    counted = kind in (LAST_BLOCKS, LORA)
    if kind not in (HEAD, LAST_BLOCKS, ALL, LORA) or counted != bool(colon):
        raise UsageError(f"train_only {train_only!r} is unknown; head, last:N, all or lora:R")
    if counted and not (re.fullmatch(r"\d{1,7}", number) and 1 <= int(number) <= LARGEST):
        raise UsageError(f"train_only {train_only!r}: the number is a whole one from 1 to {LARGEST:,}")
    if freeze_below is not None and kind in (HEAD, LAST_BLOCKS):
        raise UsageError(f"freeze_below and train_only {train_only} exclude each other: both say what is frozen")
    return Learners(kind, int(number) if counted else 0, freeze_below or "")


def depths_of(network: Network) -> dict[str, int]:
    """How deep each parameter lies: the stem 0, the backbone's blocks 1 to n, and the head n + 1."""
    blocks = network.backbone.block_names()
    depths = {}
    for name, _ in network.named_parameters():
        inner = name.removeprefix("backbone.")
        inside = name != inner
        block = next((row for row, names in enumerate(blocks, 1) if any(_lies_in(inner, one) for one in names)), 0)
        depths[name] = block if inside else len(blocks) + 1
    return depths


def freeze(network: Network, learners: Learners) -> None:
    """Let only the learners have gradients; the others, and all that autograd would keep of them, have none.

    Raises
    ------
    UsageError
        The backbone has no such block, or not so many, or nothing would learn.
    """
    first = _first_block(network, learners)
    depths = depths_of(network)
    projections = attention_projections(network, learners) if learners.kind == LORA else {}
    weights = {f"{name}.weight" for name in projections}
    head = len(network.backbone.block_names()) + 1
    for name, parameter in network.named_parameters():
        deep = depths[name] >= (head if learners.kind in (HEAD, LORA) else first)
        parameter.requires_grad_(parameter.requires_grad and (deep or name in weights))
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UsageError(
            f"train_only {HEAD}: pooling {network.description.pooling} has no weights, so nothing would learn; "
            "add --whitening-layer random, or let the last block learn (last:1)"
        )


def attention_projections(network: Network, learners: Learners) -> dict[str, nn.Linear]:
    """The linear layers of the attentions that `lora` adds to, by name.

    Raises
    ------
    UsageError
        The backbone has no attention.
    """
    first, depths = _first_block(network, learners), depths_of(network)
    found = {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and PROJECTIONS.search(name) and depths[f"{name}.weight"] >= first
    }
    if not found:
        where = f" from {learners.below} on" if learners.below else ""
        raise UsageError(
            f"train_only lora: {network.description.backbone} has no projections of an attention{where}; "
            "last:N goes with every backbone"
        )
    return found


def _first_block(network: Network, learners: Learners) -> int:
    """Depth from which the backbone learns; 0 where all of it does."""
    blocks = network.backbone.block_names()
    if learners.kind == LAST_BLOCKS:
        if learners.number > len(blocks):
            raise UsageError(
                f"train_only last:{learners.number}: {network.description.backbone} has {len(blocks)} blocks"
            )
        return len(blocks) + 1 - learners.number
    if not learners.below:
        return 0
    for row, names in enumerate(blocks, 1):
        if any(_lies_in(one, learners.below) for one in names):
            return row
    named = [names[0] for names in blocks]
    shown = ", ".join(named if len(named) <= 6 else [*named[:2], "…", *named[-2:]])
    raise UsageError(f"freeze_below {learners.below}: {network.description.backbone} has the blocks {shown}")


def _lies_in(name: str, part: str) -> bool:
    """Whether a parameter or module is a part of the network, or lies in it."""
    return name == part or name.startswith(f"{part}.")
