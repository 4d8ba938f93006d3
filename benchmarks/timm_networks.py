"""Every network of timm: it gives a map of the photo that timm describes, at two sizes, or is refused in one line.

All of them are built without values (torch's device "meta"), which shows shapes and refusals in a second or two each.
The smallest of each of timm's modules that takes photos is built in full too: its map is compared with timm's.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.timing import Row
from retrieval.networks.backbones.timm_backbones import TimmBackbone
from sfm2tuples.errors import UsageError
from tests.timm_package import import_timm

QUICK = ("resnet18", "vit_tiny_patch16_224", "pvt_v2_b0", "halonet26t")
SHAPES, VALUES = "meta", "cpu"
"""Devices: where tensors have shapes alone, and where they have values."""
SIZES = {SHAPES: ((150, 333),), VALUES: ((224, 224), (150, 333))}
"""Heights and widths of photos; a network that is built has taken two others."""
TAKEN, REFUSED = "taken", "refused"


def run(work: Path, quick: bool) -> Iterator[Row]:
    """A row for each network that fails in any other way, and two with the counts; torchvision need not be there."""
    timm = import_timm()
    names = QUICK if quick else timm.list_models()
    sizes: dict[str, dict[str, int]] = defaultdict(dict)
    for device in (SHAPES, VALUES):
        asked = names if device == SHAPES else [min(module, key=module.__getitem__) for module in sizes.values()]
        counts: Counter[str] = Counter()
        start = time.perf_counter()
        for name in asked:
            began = time.perf_counter()
            found, parameters = outcome(name, device)
            counts[found.split(":")[0]] += 1
            if device == SHAPES and found == TAKEN:
                sizes[_module_of(name)][name] = parameters
            elif found not in (TAKEN, REFUSED) or (device == VALUES and found == REFUSED):
                yield Row(name, device, time.perf_counter() - began, note=found)
        note = ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common())
        what = "all networks of timm" if device == SHAPES else "the smallest of each module"
        yield Row(f"{what}: {counts.total():,}", device, time.perf_counter() - start, note=note)


def outcome(name: str, device: str) -> tuple[str, int]:
    """``taken``, ``refused``, or ``wrong: ...``; and how many parameters the network has, 0 where it is not built."""
    try:
        with torch.device(device):
            backbone = TimmBackbone(f"timm:{name}").eval()
    except UsageError:
        return REFUSED, 0
    except Exception as error:  # what is looked for
        return f"wrong: {type(error).__name__} where it is built", 0
    parameters = sum(p.numel() for p in backbone.parameters())
    try:
        with torch.inference_mode(), torch.device(device):
            wrong = [wrong_at(backbone, size, device == VALUES) for size in SIZES[device]]
    except Exception as error:  # likewise
        return f"wrong: {type(error).__name__} for a photo", parameters
    return next((f"wrong: {what}" for what in wrong if what), TAKEN), parameters


def wrong_at(backbone: TimmBackbone, size: tuple[int, int], has_values: bool) -> str:
    """What is wrong with the map of a photo of that height and width; empty where nothing is.

    timm sees a photo of whole patches, as ours makes of each; there the cells are as many, and add up to the same.
    """
    sides = [max(patch, round(side / patch) * patch) for side, patch in zip(size, backbone.patch, strict=True)]
    photo = torch.rand(1, 3, *sides)
    ours = backbone(photo)
    if ours.ndim != 4 or ours.shape[:2] != (1, backbone.channels):
        return f"a map of shape {tuple(ours.shape)}"
    theirs = cells(backbone, backbone.model.forward_features(photo))
    if ours.numel() != theirs.numel():
        return f"{ours.numel():,} values of {theirs.numel():,}"
    if has_values and not torch.isfinite(ours).all():
        return "values that are not finite"
    return "" if not has_values or ours.sum().isclose(theirs.sum(), rtol=1e-3) else "another map"


def cells(backbone: TimmBackbone, features: torch.Tensor) -> torch.Tensor:
    """What timm gives, without the tokens that stand before those of patches."""
    prefix = int(getattr(backbone.model, "num_prefix_tokens", 0)) if features.ndim == 3 else 0
    return features[:, prefix:]


def _module_of(name: str) -> str:
    """The file of timm that defines a network."""
    return import_timm().model_entrypoint(name).__module__
