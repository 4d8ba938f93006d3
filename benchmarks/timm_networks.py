"""Every network of timm: it gives the map that timm gives, at two sizes of photos, or is refused in one line."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.timing import Row
from retrieval.networks.backbones.timm_backbones import TimmBackbone
from sfm2tuples.errors import UsageError
from tests.timm_package import import_timm

SIZES = ((224, 224), (150, 333))
QUICK = ("resnet18", "vit_tiny_patch16_224", "pvt_v2_b0", "halonet26t")


def run(work: Path, quick: bool) -> Iterator[Row]:
    """A row for each network that fails in any other way, and one with the counts; torchvision need not be there."""
    timm = import_timm()
    counts: Counter[str] = Counter()
    start = time.perf_counter()
    for name in QUICK if quick else timm.list_models():
        began = time.perf_counter()
        found = _outcome(name)
        counts[found.split(":")[0]] += 1
        if found.startswith("wrong"):
            yield Row(name, "timm", time.perf_counter() - began, note=found)
    note = ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common())
    yield Row(f"{counts.total():,} networks of timm", "timm", time.perf_counter() - start, note=note)


def _outcome(name: str) -> str:
    """``the same``, ``refused``, or ``wrong: ...``."""
    try:
        backbone = TimmBackbone(f"timm:{name}").eval()
    except UsageError:
        return "refused"
    except Exception as error:  # what is looked for
        return f"wrong: {type(error).__name__} where it is built"
    try:
        with torch.inference_mode():
            maps = [backbone(torch.rand(1, 3, *size)) for size in SIZES]
            photo = torch.rand(1, 3, 224, 224)
            ours, theirs = backbone(photo), backbone.model.forward_features(photo)
    except Exception as error:  # likewise
        return f"wrong: {type(error).__name__} for a photo"
    if any(not torch.isfinite(features).all() for features in maps):
        return "wrong: values that are not finite"
    return "the same" if ours.sum().isclose(_cells(backbone, theirs).sum(), rtol=1e-3) else "wrong: another map"


def _cells(backbone: TimmBackbone, features: torch.Tensor) -> torch.Tensor:
    prefix = int(getattr(backbone.model, "num_prefix_tokens", 0)) if features.ndim == 3 else 0
    return features[:, prefix:]
