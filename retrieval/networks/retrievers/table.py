"""The names of well-known retrievers, and what belongs to each: where its weights lie, their licence, its photo size.

The program ships no weights. It loads what its user names, has, or tells it to fetch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

L2_OF_THEIRS = 1e-12
"""Added to the norm that divides a descriptor, as in PyTorch's own normalisation."""

_HUGGING_FACE = "https://huggingface.co/{repository}/resolve/main/{file}"
_GITHUB = "https://github.com/"
_META = "https://dl.fbaipublicfiles.com/dinov2/"


@dataclass(frozen=True)
class Retriever:
    """What is known of a retriever."""

    name: str
    """As `--network` takes it."""
    backbone: str
    """Its name, as `--backbone` takes it."""
    pooling: str
    """Its name, likewise."""
    sizes: tuple[int, ...]
    """Of the pooling's layers, in the order of its class's `sizes`."""
    clusters: int
    """SALAD's clusters; 0 for every other pooling."""
    photo_size: tuple[int, ...]
    """Height and width in pixels that photos are warped to, where nothing else is asked for; empty: as they are."""
    licence: str
    """Of the weights."""
    url: str = ""
    """Where the weights lie; empty where they have no lasting address."""
    repository: str = ""
    """Of the Hugging Face hub, where they lie there too."""
    file: str = ""
    """Their name in it."""
    remedy: str = ""
    """Where they have no address: where they are found."""


_BOQ = f"{_GITHUB}amaralibey/Bag-of-Queries/releases/download/v1.0/"
_FIXED = (
    Retriever(
        *("megaloc", "dinov2_vitb14", "salad", (256, 256, 512, 8448), 64, (322, 322), "MIT"),
        url=_HUGGING_FACE.format(repository="gberton/MegaLoc", file="model.safetensors"),
        repository="gberton/MegaLoc",
        file="model.safetensors",
    ),
    Retriever(
        *("salad", "dinov2_vitb14", "salad", (128, 256, 512, 0), 64, (322, 322), "GPL-3.0"),
        url=f"{_GITHUB}serizba/salad/releases/download/v1.0.0/dino_salad.ckpt",
    ),
    Retriever(
        *("boq-dinov2", "dinov2_vitb14_unnormed", "boq", (384, 64, 2, 32), 0, (322, 322), "MIT"),
        url=f"{_BOQ}dinov2_12288.pth",
    ),
    Retriever(
        *("boq-resnet50", "resnet50_layer3", "boq", (512, 64, 2, 32), 0, (384, 384), "MIT"),
        url=f"{_BOQ}resnet50_16384.pth",
    ),
    *(
        Retriever(
            *(f"mixvpr-resnet50-{dim}", "resnet50_layer3", "mixvpr", (20, channels, rows, 4), 0, (320, 320), "none"),
            remedy="fetch it from the README of github.com/amaralibey/MixVPR, and give it to --weights",
        )
        for dim, channels, rows in ((128, 64, 2), (512, 256, 2), (4096, 1024, 4))
    ),
    *(
        Retriever(
            *(f"dinov2-{name}", f"dinov2_vit{name[0]}14", "cls", (), 0, (), "Apache-2.0"),
            url=f"{_META}dinov2_vit{name[0]}14/dinov2_vit{name[0]}14_pretrain.pth",
        )
        for name in ("small", "base", "large")
    ),
    *(
        Retriever(f"dinov3-{name}", f"timm:vit_{name}_patch16_dinov3.lvd1689m", "cls", (), 0, (), "DINOv3's own")
        for name in ("small", "base", "large")
    ),
)
_BY_NAME = {retriever.name: retriever for retriever in _FIXED}

_FEW, _MOST = (32, 64, 128, 256, 512), (32, 64, 128, 256, 512, 1024, 2048)
_RELEASED = {
    "cosplace": {
        **{"resnet18": _FEW, "resnet50": _MOST, "resnet101": _MOST, "resnet152": _MOST},
        "vgg16": (64, 128, 256, 512),
    },
    "eigenplaces": {
        **{"resnet18": (256, 512), "resnet50": (128, 256, 512, 2048), "resnet101": (128, 256, 512, 2048)},
        "vgg16": (512,),
    },
}
"""Family that has a file for each backbone and dimension to the dimensions that are released."""
_OF_COSPLACE = re.compile(rf"({'|'.join(_RELEASED)})-(\w+)-(\d{{2,4}})")
_REPOSITORIES = {"cosplace": "CosPlace", "eigenplaces": "EigenPlaces"}


def retriever_names() -> list[str]:
    """All names, for people to read."""
    return [*_BY_NAME, *(f"{family}-BACKBONE-DIM" for family in _REPOSITORIES)]


def names_near(name: str) -> list[str]:
    """Those of the family that a name begins with, for people to read; all names where it begins with none.

    Examples
    --------
    >>> names_near("MixVPR")
    ['mixvpr-resnet50-128', 'mixvpr-resnet50-512', 'mixvpr-resnet50-4096']
    >>> names_near("cosplace-vgg16-1024")[-1]
    'cosplace-vgg16-64|128|256|512'
    """
    family = name.lower().partition("-")[0]
    released = _RELEASED.get(family, {})
    near = [f"{family}-{backbone}-{'|'.join(map(str, dims))}" for backbone, dims in released.items()]
    near += [known for known in _BY_NAME if known.partition("-")[0] == family]
    return near or retriever_names()


def retriever_called(name: str) -> Retriever | None:
    """The retriever of that name; None where there is none.

    Examples
    --------
    >>> retriever_called("cosplace-resnet50-2048").url.rsplit("/", 1)[1]
    'ResNet50_2048_cosplace.pth'
    """
    found = _OF_COSPLACE.fullmatch(name)
    if found is None or int(found[3]) not in _RELEASED[found[1]].get(found[2], ()):
        return _BY_NAME.get(name)
    family, backbone, dim = found.groups()
    repository = _REPOSITORIES[family]
    theirs = backbone.replace("resnet", "ResNet").replace("vgg", "VGG")
    return Retriever(
        *(name, backbone if backbone != "vgg16" else "vgg16_before_relu", "cosplace", (int(dim),), 0, (), "MIT"),
        url=f"{_GITHUB}gmberton/{repository}/releases/download/v1.0/{theirs}_{dim}_{family}.pth",
    )


def retriever_like(backbone: str, pooling: str, sizes: tuple[int, ...], clusters: int) -> Retriever | None:
    """The retriever that is built so; None where there is none. Those of CosPlace's family have no photo size."""
    parts = (backbone, pooling, sizes, clusters)
    return next((r for r in _FIXED if (r.backbone, r.pooling, r.sizes, r.clusters) == parts), None)
