"""A well-known retriever by its name, or by a file of it: the network with its weights, or with random ones."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from retrieval.networks.description import NetworkDescription
from retrieval.networks.downloads import without_hash
from retrieval.networks.network import Network, build_network
from retrieval.networks.retrievers.table import (
    L2_OF_THEIRS,
    Retriever,
    names_near,
    retriever_called,
    retriever_like,
)
from retrieval.networks.retrievers.their_files import is_theirs, network_of_theirs
from retrieval.networks.weights import CHECKPOINT_FORMAT, read_content
from sfm2tuples.errors import UsageError, WeightsError, first_line, one_line

_TIMM = "timm:"
_KEYS = ("state_dict", "model", "model_state_dict")
"""Where in a file a state dict may lie; those of known retrievers are not wrapped."""

logger = logging.getLogger(__name__)


def named_retriever(name: str, weights: str | None, is_random: bool = False, seed: int = 0) -> Network:
    """The retriever of that name, in evaluation mode, on the CPU.

    Parameters
    ----------
    name : str
        One of `retrievers.table`.
    weights : str, optional
        File or URL of its weights; where left out they are fetched from their makers, once.
    is_random : bool
        Give it random weights instead.
    seed : int
        Of these.

    Raises
    ------
    UsageError
        There is no such retriever, or its weights have no address.
    WeightsError
        They cannot be fetched or read, or belong to another network.
    """
    retriever = retriever_called(name)
    if retriever is None:
        remedy = f"give a file, or one of {', '.join(names_near(name))}"
        raise WeightsError(name, "there is no such file, and no retriever has this name", remedy)
    if is_random:
        return _random(retriever, seed)
    if retriever.backbone.startswith(_TIMM):
        return build_network(retriever.backbone, retriever.pooling, weights or "pretrained")
    source = weights or _published(retriever)
    network = _of_content(read_content(source), source, retriever)
    found, wanted = (_parts(one) for one in (network.description, retriever))
    if found != wanted:
        what = f"is {_in_words(*found)}, {network.dimension:,} dimensions; {name} is {_in_words(*wanted)}"
        raise WeightsError(without_hash(source), what, f"give it to --network as it is, or the weights of {name}")
    logger.info("%s, %s dimensions, weights of licence %s", name, f"{network.dimension:,}", retriever.licence)
    return network


def retriever_state(content: object) -> dict[str, Tensor] | None:
    """The state dict of a known retriever that a file holds; None where it holds something else."""
    if not isinstance(content, Mapping) or content.get("format") == CHECKPOINT_FORMAT:
        return None
    for state in (content, *(content[key] for key in _KEYS if isinstance(content.get(key), Mapping))):
        if is_theirs(state):
            return {name: value for name, value in state.items() if isinstance(value, Tensor)}
    return None


def retriever_of_file(state: Mapping[str, Tensor], path: str | Path) -> Network:
    """The retriever of a state dict, with its photo size where the table has its like."""
    network = network_of_theirs(state, path)
    known = retriever_like(*_parts(network.description))
    if known is not None:
        network.set_photo_size(known.photo_size)
    return network


def _of_content(content: Any, source: str | Path, retriever: Retriever) -> Network:
    state = retriever_state(content)
    if state is None:
        what = f"has the parameters of no retriever that is known, and so not of {retriever.name}"
        raise WeightsError(without_hash(source), what, "is it a whole file of its makers?")
    network = network_of_theirs(state, without_hash(source))
    network.set_photo_size(retriever.photo_size)
    return network


def _published(retriever: Retriever) -> str:
    """Where its weights lie: in the hub's cache where its library is installed, else at their address."""
    if retriever.repository:
        found = _of_hub(retriever)
        if found is not None:
            return found
    if not retriever.url:
        raise UsageError(f"--network {retriever.name}: its weights have no lasting address; {retriever.remedy}")
    return retriever.url


def _of_hub(retriever: Retriever) -> str | None:
    """The file in the cache of huggingface_hub, fetched where it is not there; None without the library."""
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        return None
    try:
        with _quiet():
            return str(hf_hub_download(retriever.repository, retriever.file))
    # Its client passes on what its HTTP library raises, which is another one in each of its versions.
    except Exception as error:
        what = f"{retriever.file} cannot be fetched from the hub ({one_line(first_line(error))[:200]})"
        raise WeightsError(retriever.repository, what, "give a file to --weights") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the client's warnings, which name each of its attempts; what came of them is said in one line."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)


def _random(retriever: Retriever, seed: int) -> Network:
    logger.info("%s with random weights of seed %d", retriever.name, seed)
    if retriever.backbone.startswith(_TIMM):
        return build_network(retriever.backbone, retriever.pooling, None, seed)
    network = Network(
        NetworkDescription(
            retriever.backbone,
            retriever.pooling,
            l2_eps=L2_OF_THEIRS,
            weights=f"random, seed {seed}",
            clusters=retriever.clusters,
            pooling_sizes=retriever.sizes,
            photo_size=retriever.photo_size,
        )
    )
    network.backbone.initialise(seed)
    network.pool.reset(seed)
    return network.eval()


def _parts(one: NetworkDescription | Retriever) -> tuple[str, str, tuple[int, ...], int]:
    """What makes a network: backbone, pooling, its sizes, clusters."""
    sizes = one.sizes if isinstance(one, Retriever) else one.pooling_sizes
    return one.backbone, one.pooling, tuple(sizes), one.clusters


def _in_words(backbone: str, pooling: str, sizes: tuple[int, ...], clusters: int) -> str:
    numbers = "-".join(map(str, (*([clusters] if clusters else []), *sizes)))
    return f"{backbone} with {pooling}{f' {numbers}' if numbers else ''}"
