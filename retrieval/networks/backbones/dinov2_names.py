"""Names of DINOv2's weights in Hugging Face's transformers (`Dinov2Model`), and those of its authors."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

MARK = "encoder.layer.0.layer_scale1.lambda1"
"""A parameter that only files with transformers' names have."""
_NAMES = (
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"embeddings\.", ""),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
    (r"encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
    (r"encoder\.layer\.", "blocks."),
    (r"layernorm\.", "norm."),
)
"""How a name begins there, and here; the first that fits counts."""
_ASKED = re.compile(r"(encoder\.layer\.(\d+))\.attention\.attention\.query\.(weight|bias)")


def by_authors_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a DINOv2 by its authors' names; those that have them already are given back as they are.

    Query, key and value are three layers there, and the thirds of one layer here. Where one of them is absent, that
    layer is absent too.
    """
    if MARK not in state:
        return dict(state)
    found = {_renamed(name): value for name, value in state.items() if ".attention.attention." not in name}
    for name in state:
        if asked := _ASKED.fullmatch(name):
            layer, number, kind = asked.groups()
            parts = [f"{layer}.attention.attention.{part}.{kind}" for part in ("query", "key", "value")]
            if all(part in state for part in parts):
                found[f"blocks.{number}.attn.qkv.{kind}"] = torch.cat([state[part] for part in parts])
    return found


def _renamed(name: str) -> str:
    for theirs, ours in _NAMES:
        if re.match(theirs, name):
            return re.sub(f"^{theirs}", ours, name)
    return name
