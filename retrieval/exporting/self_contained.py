"""What is written of a network for another program: the network with its whitening inside, and what it is in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrieval.networks.choice import NetworkChoice, load_chosen
from retrieval.networks.exported_files import FORMAT, VERSION
from retrieval.networks.network import Network
from retrieval.networks.whitening_layer import WhiteningLayer, add_whitening_layer
from retrieval.photos.choices import STORED
from sfm2tuples.errors import UsageError
from sfm2tuples.files.container import SOFTWARE

INPUT = "photos of one size: (B, 3, H, W) float32, RGB in 0..1; mean and std are applied inside"
OUTPUT = "descriptors: (B, dimension) float32, L2-normalised; compare them by their product"


def network_to_export(path: str | Path, whitening: Path | None = None, photo_size: str | None = None) -> Network:
    """The network of a checkpoint, in evaluation mode, with a whitening file as its last layer.

    `photo_size` is that of `NetworkChoice`.

    Raises
    ------
    WeightsError, DataError, FileFormatError
        A file cannot be read.
    UsageError
        The whitening belongs to another network, or there is one inside already; the pooling has learned nothing yet.
    """
    network = load_chosen(NetworkChoice(Path(path), photo_size=photo_size))
    if network.pool.unprepared and not network.description.prepared:
        raise UsageError(network.pool.unprepared)
    if whitening is not None:
        add_whitening_layer(network, WhiteningLayer(whitening))
    return network.eval()


def description_of(network: Network) -> dict[str, Any]:
    """What a program has to know of a network, as plain values: of the checkpoint's description, and how to feed it."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "software": SOFTWARE,
        **network.description.to_dict(),
        **({} if network.upright == STORED else {"upright": network.upright}),
        "dimension": network.dimension,
        "fingerprint": network.fingerprint(),
        "input": INPUT,
        "output": OUTPUT,
    }
