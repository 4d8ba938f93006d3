"""Descriptors of a tuple file's photos by the network in training; a team describes a share each."""

from __future__ import annotations

import numpy as np

from retrieval.descriptors.extraction import ExtractionOptions, extract
from retrieval.networks.network import Network
from retrieval.photos.tuple_photos import TuplePhotos
from retrieval.training.team import Team


def describe_rows(
    network: Network,
    photos: TuplePhotos,
    rows: np.ndarray,
    options: ExtractionOptions,
    progress: str | None = None,
    team: Team | None = None,
) -> np.ndarray:
    """Describe rows of `/images`, each once.

    Parameters
    ----------
    network : Network
    photos : TuplePhotos
    rows : (m,) int64
    options : ExtractionOptions
    progress : str, optional
        Title of a progress bar.
    team : Team, optional
        Each process describes its share, and all of them get all rows.

    Returns
    -------
    (m, D) float32

    Raises
    ------
    PhotoError
        A photo of this process's share is absent or unreadable.
    SfmTuplesError
        One of another process's share is.
    """
    team = team or Team()
    own = rows[team.rows(len(rows))]
    with team.shared_work():
        described = extract(network, photos.sources(own), options, photos.names(own), progress)
    return team.gather_rows(described, len(rows))
