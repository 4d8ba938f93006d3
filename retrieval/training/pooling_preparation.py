"""What some poolings learn from photos before training: NetVLAD's centres, the projection of regions.

`train` does this once, on photos of its training places, where a network was not trained before; the result is in
the checkpoint of round 0 as in every later one.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor

from retrieval.descriptors.extraction import describing, to_input
from retrieval.descriptors.soundness import require_finite
from retrieval.networks.devices import FP32
from retrieval.networks.network import Network
from retrieval.networks.poolings.netvlad import NetVLAD, cell_descriptors
from retrieval.networks.poolings.projected_regions import ProjectedRegions
from retrieval.networks.whitening_layer import layer_of
from retrieval.photos.tuple_photos import TuplePhotos
from retrieval.whitening.learning import learn_pca
from sfm2tuples.compute.progress_bars import ProgressBar
from sfm2tuples.compute.random_draws import draw, item_numbers, smallest
from sfm2tuples.errors import UsageError
from sfm2tuples.index.schema import TRAIN
from sfm2tuples.mining.tuple_file import TupleFile

PHOTOS = 500
"""Photos of the training places at most that are learned from."""
CELLS = 100
"""Vectors of a photo at most: with `PHOTOS` the 50,000 that NetVLAD's centres are usually learned from."""
KMEANS_STEPS = 25
"""Steps of k-means."""
REGION_SHRINKAGE = 0.3
"""Shrinkage of the regions' covariance; ours."""
# SqueezeNet at 362 px, learned on 300 photos of the reconstructions, mAP over the whole collection: 65.1 without a
# projection, 71.4 with shrinkage 0, 73.0 with 0.1, 73.7 with 0.3, 73.9 with 0.5, 73.4 with 0.8.

logger = logging.getLogger(__name__)


def needs_photos(network: Network) -> bool:
    """Whether the pooling has something to learn from photos, and has not learned it yet."""
    return isinstance(network.pool, NetVLAD | ProjectedRegions) and not network.description.prepared


def prepare_network(
    network: Network, tuples: TupleFile, photos: TuplePhotos, seed: int, progress: str | None = None
) -> None:
    """Learn NetVLAD's centres by k-means ([A16]), or the projection of regions as a PCA whitening ([G16]).

    Parameters
    ----------
    network : Network
        Changed in place where it `needs_photos`; else left alone.
    tuples, photos
        The tuple file and its photos; those of training places are used.
    seed : int
        Of the draw of photos and cells, and of k-means.
    progress : str, optional
        Title of a progress bar on stderr.

    Raises
    ------
    PhotoError
        A photo is absent or unreadable.
    UsageError
        The photos have fewer cells than NetVLAD has centres.
    """
    if not needs_photos(network):
        return
    rows = _drawn(np.flatnonzero(tuples.image_split == TRAIN), photos, seed)
    vectors = sample_vectors(network, photos, rows, seed, progress)
    pool = network.pool
    if isinstance(pool, NetVLAD):
        centres = kmeans(vectors, len(pool.centres), seed)
        alpha = pool.initialise(
            torch.from_numpy(centres).to(network.device), torch.from_numpy(vectors).to(network.device)
        )
        how = f"{len(centres)} centres of {len(vectors):,} cells of {len(rows):,} photos, alpha {alpha:.4g}"
    elif isinstance(pool, ProjectedRegions):
        _whiten_regions(pool, vectors)
        how = f"regions' PCA whitening of {len(vectors):,} regions of {len(rows):,} photos"
    logger.info("%s: %s", network.description.pooling, how)
    network.set_prepared(f"{how}, seed {seed}")


def sample_vectors(
    network: Network, photos: TuplePhotos, rows: np.ndarray, seed: int, progress: str | None = None
) -> np.ndarray:
    """What the pooling sees of some photos: (n, K) float32, at most `CELLS` cells, or regions, of each."""
    found = []
    bar = ProgressBar(total=len(rows), desc=progress, unit="photo", disable=progress is None, leave=False)
    with describing(network), bar:
        names = photos.names(rows)
        loaded = photos.in_order([[row] for row in rows.tolist()])
        for number, name, (photo,) in zip(item_numbers(names), names, loaded, strict=True):
            vectors = _vectors(network, network.feature_map(to_input([photo], network.device))).cpu().numpy()
            require_finite(vectors, [name] * len(vectors), FP32)
            luck = draw(seed, 0, "cells of a photo", number, np.arange(len(vectors), dtype=np.uint64))
            found.append(vectors[smallest(luck, CELLS)])
            bar.update()
    return np.concatenate([np.zeros((0, network.backbone.channels), np.float32), *found])


def kmeans(vectors: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Centres (K, D) float32 of vectors (n, D) float32, by faiss.

    Raises
    ------
    UsageError
        There are fewer vectors than centres.
    """
    # Here, so that commands which train no NetVLAD do not load it.
    import faiss

    if len(vectors) < clusters:
        raise UsageError(f"{clusters} centres cannot be learned from {len(vectors)} cells; --clusters fewer")
    dimension = vectors.shape[1]
    found = faiss.Kmeans(
        dimension, clusters, niter=KMEANS_STEPS, seed=seed, min_points_per_centroid=1, max_points_per_centroid=1 << 30
    )
    found.train(np.ascontiguousarray(vectors))
    return np.asarray(found.centroids, np.float32).reshape(clusters, dimension)


def _vectors(network: Network, features: Tensor) -> Tensor:
    """Cells (h w, K) of one photo's map for NetVLAD, else its regions (R, K)."""
    if isinstance(network.pool, ProjectedRegions):
        return network.pool.region_vectors(features)[0]
    return cell_descriptors(features)[0].flatten(1).T


def _whiten_regions(pool: ProjectedRegions, vectors: np.ndarray) -> None:
    pool.projection.load_state_dict(layer_of(learn_pca(vectors, REGION_SHRINKAGE)).state_dict())


def _drawn(rows: np.ndarray, photos: TuplePhotos, seed: int) -> np.ndarray:
    """`PHOTOS` of the rows at most, drawn by seed and name, in rising order."""
    luck = draw(seed, 0, "photos that a pooling learns from", item_numbers(photos.names(rows)))
    return rows[smallest(luck, PHOTOS)]
