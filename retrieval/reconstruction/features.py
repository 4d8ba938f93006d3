"""The features of the photos, into the database: each photo whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from retrieval.local_features.feature_extraction import FeatureOptions, features_in_turn
from retrieval.local_features.sift import SiftOptions
from retrieval.reconstruction.cameras import PhotoCamera
from retrieval.reconstruction.database import add_photo, open_database, photos_with_features
from retrieval.reconstruction.options import ReconstructionOptions, TriangulationOptions
from retrieval.reconstruction.photo_table import PhotoTable
from retrieval.reconstruction.progress import Report, told
from sfm2tuples.errors import PhotoError
from sfm2tuples.files.room import require_room

BYTES_A_FEATURE = 144
"""Of a descriptor and a keypoint in the database."""
OTHER_SIDES = "has other sides than when it was first looked at: something writes to it"
"""Its camera is that of the first look: with this size its features would lie elsewhere."""
SHARE_FOUND = 4
"""Small or plain photos have fewer features than are asked for: a quarter is a lower bound for most."""


def add_features(
    database: Path,
    table: PhotoTable,
    cameras: Mapping[int, PhotoCamera],
    options: ReconstructionOptions | TriangulationOptions,
    jobs: int,
    report: Report | None,
) -> dict[str, str]:
    """Find the features of the photos that the database does not hold yet.

    Parameters
    ----------
    database : Path
        From `create_database`.
    table : PhotoTable
    cameras : mapping
        Row of a photo to its camera.
    options : ReconstructionOptions or TriangulationOptions
    jobs : int
        Processes.
    report : Report or None

    Returns
    -------
    dict
        Photos that cannot be read: name to message.
    """
    unreadable: dict[str, str] = {}
    with open_database(database) as connection:
        missing = np.setdiff1d(table.distinct, photos_with_features(connection)).tolist()
        require_room(database, len(missing) * options.max_features * BYTES_A_FEATURE // SHARE_FOUND)
        done, total = len(table.distinct) - len(missing), len(table.distinct)
        with told("features", done, total, "photo", report) as add:
            for row, found in features_in_turn(table.sources(), missing, _feature_options(options), jobs):
                name = table.names[row]
                if isinstance(found, PhotoError):
                    unreadable[name] = str(found)
                elif list(found.size) != table.size[row].tolist():
                    unreadable[name] = str(PhotoError(name, OTHER_SIDES, "run again once it is there"))
                else:
                    features = found.keypoints, found.descriptors
                    add_photo(connection, row, name, cameras[row], features)
                add(1)
    return unreadable


def _feature_options(options: ReconstructionOptions | TriangulationOptions) -> FeatureOptions:
    """COLMAP's own thresholds, and circles, since ellipses take three times as long."""
    sift = SiftOptions(max_features=options.max_features, peak_threshold=0.02 / 3, affine_shape=False)
    return FeatureOptions(options.image_size, sift)
