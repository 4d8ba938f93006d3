"""Every backbone and every pooling by its name.

A new one is a module in `backbones/` or `poolings/` and a line here. The modules are imported when something of them is
built: a command's ``--help`` shows the names and waits for no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from retrieval.networks.description import NetworkDescription
from sfm2tuples.errors import UsageError

if TYPE_CHECKING:
    from retrieval.networks.backbones.backbone import Backbone
    from retrieval.networks.poolings.pooling import Pooling
    from retrieval.networks.poolings.projected_regions import ProjectedRegions

POOLINGS = {
    "gem": "gem:GeM",
    "gem-channels": "gem:ChannelGeM",
    "mac": "mac:MAC",
    "spoc": "spoc:SPoC",
    "crow": "crow:CroW",
    "rmac": "rmac:RMAC",
    "netvlad": "netvlad:NetVLAD",
    "salad": "optimal_transport:SALAD",
    "boq": "bag_of_queries:BoQ",
    "mixvpr": "feature_mixing:MixVPR",
    "cosplace": "projected_gem:CosPlace",
    "ap-gem": "projected_gem:ProjectedGeM",
    "cls": "class_token:ClassToken",
    "fc6": "neural_codes:NeuralCodes",
    "fc7": "neural_codes:NeuralCodes",
}
"""Name of a pooling, as `--pooling` takes it, to its module and class in `poolings/`; the first is the default."""
BACKBONES = {
    "efficientnet_lite": tuple(f"efficientnet_lite{number}" for number in range(5)),
    "torchvision_backbones": ("squeezenet1_1", "alexnet", "vgg16", "resnet18", "resnet50", "resnet101", "resnet152"),
    "vision_transformer": (
        *("dinov2_vits14", "dinov2_vitb14", "dinov2_vitl14", "dinov2_vitb14_unnormed"),
        "vit14:NAME",
    ),
    "cropped_backbones": ("resnet50_layer3", "resnet101_layer3", "vgg16_before_relu"),
    "timm_backbones": ("timm:NAME",),
}
"""Module of a family in `backbones/` to the names that `--backbone` takes; ``X:NAME`` is every name after ``X:``.

The first name of all is the default."""


def backbone_names() -> list[str]:
    """The names of all families, for people to read."""
    return [name for names in BACKBONES.values() for name in names]


def family_of(name: str) -> str | None:
    """The family that has a backbone of that name, or might have it; None where none has."""
    prefix, colon, _ = name.partition(":")
    for family, names in BACKBONES.items():
        if name in names or f"{prefix}{colon}NAME" in names:
            return family
    return None


def build_backbone(name: str) -> Backbone:
    """The backbone of that name, with arbitrary weights.

    Raises
    ------
    UsageError
        There is no such backbone, or its package is not installed.
    """
    family = family_of(name)
    if family is None:
        raise UsageError(f"no backbone is called {name!r}; there are {', '.join(backbone_names())}")
    backbone: Backbone = import_module(f"retrieval.networks.backbones.{family}").build(name)
    return backbone


def pooling_class(name: str) -> type[Pooling]:
    """The class of the pooling of that name.

    Raises
    ------
    UsageError
        There is no such pooling.
    """
    if name not in POOLINGS:
        raise UsageError(f"no pooling is called {name!r}; there are {', '.join(POOLINGS)}")
    module, _, class_name = POOLINGS[name].partition(":")
    found: type[Pooling] = getattr(import_module(f"retrieval.networks.poolings.{module}"), class_name)
    return found


def sizes_of_pooling(name: str, asked: Mapping[str, int]) -> tuple[int, ...]:
    """The sizes of a pooling's layers: as asked for, by their names, else its defaults.

    Raises
    ------
    UsageError
        It has no size of such a name.
    """
    sizes = dict(pooling_class(name).sizes)
    unknown = sorted(set(asked) - set(sizes))
    if unknown:
        have = f"has {', '.join(sizes)}" if sizes else "has none"
        raise UsageError(f"--pooling-size {', '.join(unknown)}: pooling {name} {have}")
    return tuple({**sizes, **asked}.values())


def build_pooling(description: NetworkDescription, channels: int) -> Pooling:
    """The pooling of a network whose backbone has `channels` channels.

    Raises
    ------
    UsageError
        There is no such pooling, or it does not take an option that is set.
    """
    kind = pooling_class(description.pooling)
    regions = _projected_regions() if description.regional else None
    takes = {*kind.options, *(regions.options if regions else ())}
    for option in ("regional", "whole_image", "clusters"):
        if getattr(description, option) and option not in takes:
            _refuse_option(option, description.pooling, kind)
    pool = kind.of(description, channels)
    return regions(pool, channels, description.whole_image) if regions else pool


def _projected_regions() -> type[ProjectedRegions]:
    """Imported where it is needed: it keeps `torch.compile` out, and to say so loads torch's compiler, a second."""
    from retrieval.networks.poolings.projected_regions import ProjectedRegions

    return ProjectedRegions


def _refuse_option(option: str, name: str, kind: type[Pooling]) -> None:
    others = [other for other in POOLINGS if option in pooling_class(other).options]
    if option == "whole_image":
        others.append("any pooling with regional")
    hint = kind.in_place_of_regional if option == "regional" else ""
    raise UsageError(f"{option} is no option of {name}; it goes with {', '.join(others)}{hint and f' ({hint})'}")
