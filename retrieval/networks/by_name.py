"""Every backbone and every pooling by its name."""

from __future__ import annotations

from torch import nn

from retrieval.networks.backbones.backbone import Backbone
from retrieval.networks.backbones.timm_backbones import TIMM, TimmBackbone
from retrieval.networks.backbones.torchvision_backbones import (
    BACKBONES,
    ResNet,
    Sequential,
    _alexnet_layers,
    _squeezenet_layers,
    _vgg_layers,
)
from retrieval.networks.poolings.formulas import MAC, RMAC, CroW, GeM, SPoC
from retrieval.networks.poolings.netvlad import NetVLAD
from retrieval.networks.poolings.neural_codes import CODE, FC6, FC7, LAYERS, NeuralCodes
from retrieval.networks.poolings.projected_regions import ProjectedRegions
from sfm2tuples.errors import UsageError

MAC_, SPOC, GEM, GEM_CHANNELS, CROW, R_MAC, NETVLAD = "mac", "spoc", "gem", "gem-channels", "crow", "rmac", "netvlad"
POOLINGS = (MAC_, SPOC, GEM, GEM_CHANNELS, CROW, R_MAC, NETVLAD, FC6, FC7)
"""Names of the poolings, as `--pooling` takes them."""
REGION_POOLINGS = (MAC_, SPOC, GEM, GEM_CHANNELS, CROW)
"""Those that can pool one region."""


def build_pooling(
    name: str, backbone: str, channels: int, whole_image: bool = False, regional: bool = False, clusters: int = 0
) -> nn.Module:
    """The pooling of that name.

    Parameters
    ----------
    name : str
        One of `POOLINGS`.
    backbone : str
        The backbone's name; neural codes are layers of some.
    channels : int
        K, of the backbone's map.
    whole_image, regional, clusters
        As in `NetworkDescription`.

    Raises
    ------
    UsageError
        There is no such pooling, or an option is asked of one that does not have it.
    """
    if name not in POOLINGS:
        raise UsageError(f"no pooling is called {name!r}; there are {', '.join(POOLINGS)}")
    _refuse_foreign_options(name, whole_image, regional, clusters)
    if name == NETVLAD:
        return NetVLAD(channels, clusters)
    if name in LAYERS:
        return NeuralCodes(backbone, name)
    if name == R_MAC:
        return RMAC(whole_image=whole_image)
    pool = GeM(channels=channels) if name == GEM_CHANNELS else {MAC_: MAC, SPOC: SPoC, GEM: GeM, CROW: CroW}[name]()
    return ProjectedRegions(pool, channels, whole_image) if regional else pool


def pooled_dimension(name: str, channels: int, clusters: int = 0) -> int:
    """Length of the pooled vector of a map of `channels` channels."""
    if name in LAYERS:
        return CODE
    return channels * clusters if name == NETVLAD else channels


def _refuse_foreign_options(name: str, whole_image: bool, regional: bool, clusters: int) -> None:
    if regional and name not in REGION_POOLINGS:
        remedy = "mac with regional is R-MAC with a learned projection" if name == R_MAC else "it has no regions"
        raise UsageError(f"regional goes with {', '.join(REGION_POOLINGS)}, not with {name}: {remedy}")
    if whole_image and not (regional or name == R_MAC):
        raise UsageError(f"whole_image is an option of rmac and of regional; {name} has no regions")
    if (clusters > 0) != (name == NETVLAD):
        raise UsageError(f"clusters is an option of netvlad, where it must be at least 1; {name} has {clusters}")


def build_backbone(name: str) -> Backbone:
    """The backbone of that name, with arbitrary weights; see `Backbone.initialise`, `weights.load_backbone_weights`.

    Raises
    ------
    UsageError
        There is no such backbone, or timm is not installed.
    """
    if name.startswith(TIMM):
        return TimmBackbone(name)
    if name == "squeezenet1_1":
        return Sequential(name, _squeezenet_layers(), channels=512, smallest=17)
    if name == "alexnet":
        return Sequential(name, _alexnet_layers(), channels=256, smallest=31)
    if name == "vgg16":
        return Sequential(name, _vgg_layers(), channels=512, smallest=16)
    if name == "resnet18":
        return ResNet(name, (2, 2, 2, 2), bottleneck=False)
    if name == "resnet50":
        return ResNet(name, (3, 4, 6, 3), bottleneck=True)
    if name == "resnet101":
        return ResNet(name, (3, 4, 23, 3), bottleneck=True)
    if name == "resnet152":
        return ResNet(name, (3, 8, 36, 3), bottleneck=True)
    raise UsageError(f"no backbone is called {name!r}; there are {', '.join(BACKBONES)} and timm:NAME")
