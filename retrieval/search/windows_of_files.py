"""Re-ranking of what lies in descriptor files: the network, size, scales and whitening that made them, used again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.descriptors.extraction import ExtractionOptions, extract_settings
from retrieval.networks.choice import NetworkChoice, load_on
from retrieval.networks.devices import FP32
from retrieval.networks.network import Network
from retrieval.photos.choices import STORED
from retrieval.photos.sources import photos_of
from retrieval.search.window_descriptors import Describer, PhotoWindows, query_regions
from retrieval.whitening.projection import Whitening, read_whitening
from sfm2tuples.errors import UsageError
from sfm2tuples.files.descriptors import Descriptors
from sfm2tuples.files.remote.address import AnyPath


@dataclass(frozen=True)
class WindowSources:
    """What windows are described by, as the `search` command is told."""

    choice: NetworkChoice
    """The network of the descriptors; nothing named: the default one."""
    photos: AnyPath | None = None
    """Photos of the database, as `extract` takes them: a folder, a list, labels, an index or a tuple file."""
    query_photos: AnyPath | None = None
    """Photos of the queries; those of the database by default."""
    images: AnyPath | None = None
    """Folder that the names of a list or of labels start from."""
    whitening: Path | None = None
    """The whitening of the descriptors, where they have one."""
    device: str | None = None
    """Where the network runs; cuda where there is one."""

    @property
    def any(self) -> bool:
        """Whether anything is given."""
        return self.choice.named or any((self.photos, self.query_photos, self.whitening))


def window_finder(queries: Descriptors, database: Descriptors, sources: WindowSources) -> PhotoWindows:
    """Make the finder for two descriptor files, which describes windows as the files' photos were described.

    Raises
    ------
    UsageError
        No network, photos or whitening where they are needed, or others than those that made the files.
    DataError
        A query's photo is not there.
    PhotoError
        It cannot be read.
    """
    if sources.photos is None:
        raise UsageError("--rerank looks at photos: give --photos, from which the descriptors were extracted")
    describer = _describer(database, sources)
    photos = photos_of(sources.photos, sources.images)
    asking = photos if sources.query_photos is None else photos_of(sources.query_photos, sources.images)
    remedy = "give --query-photos, from which they were extracted"
    asking = asking.only(queries.names, "queries have no photo here", remedy)
    return PhotoWindows(describer, query_regions(describer, asking), photos, database.names)


def _describer(database: Descriptors, sources: WindowSources) -> Describer:
    settings = database.settings
    absent = [key for key in ("network", "image_size", "scales", "exponent", "filter") if key not in settings]
    if absent:
        raise UsageError(
            f"{database.path}: does not say by which network and size it was made, so its windows cannot be described; "
            "--rerank needs files made by extract"
        )
    network = load_on(sources.device, sources.choice)
    options = ExtractionOptions(
        settings["image_size"],
        tuple(settings["scales"]),
        settings["exponent"],
        settings.get("precision", FP32),  # older files do not say it
        settings["filter"],
        settings.get("upright", STORED),  # named where it is not the default
    )
    _check_network(database, network, options, sources.choice.named)
    whitening = _whitening(database, sources.whitening)
    return Describer(network, options, whitening, settings.get("dim") if whitening else None)


def _check_network(database: Descriptors, network: Network, options: ExtractionOptions, named: bool) -> None:
    own: dict[str, Any] = extract_settings(network, options)
    if any(own[key] != database.settings.get(key) for key in ("network", "filter")):
        other = "the one that is named" if named else "the default one; name it by --network or --backbone"
        raise UsageError(f"{database.path}: its descriptors were made by another network than {other}")


def _whitening(database: Descriptors, path: Path | None) -> Whitening | None:
    applied = database.settings.get("whitening")
    if path is None:
        if applied:
            raise UsageError(f"{database.path}: is whitened, and its windows must be too: give its --whitening")
        return None
    whitening = read_whitening(path)
    if whitening.fingerprint != applied:
        raise UsageError(
            f"{path}: is not the whitening of {database.path}, which {'has another' if applied else 'has none'}"
        )
    return whitening
