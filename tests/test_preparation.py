"""Poolings that learn from photos do so once, before training, and the checkpoint keeps it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from retrieval.networks.choice import load_network
from retrieval.networks.network import Network, build_network
from retrieval.networks.poolings.netvlad import NetVLAD, cell_descriptors
from retrieval.photos.decoding_processes import Change
from retrieval.photos.tuple_photos import PhotoDecoder, TuplePhotos
from retrieval.training.loop import Execution, train
from retrieval.training.options import options_from_recipe
from retrieval.training.pooling_preparation import CELLS, kmeans, needs_photos, prepare_network, sample_vectors
from sfm2tuples.errors import UsageError
from sfm2tuples.index.schema import TRAIN
from sfm2tuples.mining.tuple_file import TupleFile, read_tuples
from tests.test_training import SIZE, make_tuples


@pytest.fixture(scope="module")
def tuples(tmp_path_factory: pytest.TempPathFactory) -> TupleFile:
    return read_tuples(make_tuples(tmp_path_factory.mktemp("tuples") / "tuples.h5"))


def photos_of(tuples: TupleFile) -> TuplePhotos:
    return TuplePhotos(tuples, SIZE, workers=0)


def netvlad(seed: int = 0, clusters: int = 4) -> Network:
    return build_network("squeezenet1_1", "netvlad", seed=seed, clusters=clusters)


def regions() -> Network:
    return build_network("squeezenet1_1", "mac", regional=True)


def test_netvlad_without_centres_says_where_they_come_from():
    with pytest.raises(UsageError, match="train learns them"):
        netvlad()(torch.rand(1, 3, 64, 64))


def test_centres_are_those_of_kmeans_over_cells_of_training_photos(tuples):
    network, photos = netvlad(), photos_of(tuples)
    assert needs_photos(network)
    prepare_network(network, tuples, photos, seed=5)
    assert not needs_photos(network)
    cells = []
    for row in np.flatnonzero(tuples.image_split == TRAIN).tolist():
        pixels = torch.from_numpy(photos.load(row)).permute(2, 0, 1)[None] / 255
        with torch.inference_mode():
            cells.append(cell_descriptors(network.feature_map(pixels))[0].flatten(1).T.numpy())
    cells = np.concatenate(cells)
    centres = network.pool.centres.detach().numpy()
    # From the definition: each centre is the mean of the cells that are nearest to it.
    nearest = ((cells[:, None] - centres[None]) ** 2).sum(axis=2).argmin(axis=1)
    for k in range(4):
        np.testing.assert_allclose(centres[k], cells[nearest == k].mean(axis=0), atol=0.02)
    spread = ((cells - centres[nearest]) ** 2).sum()
    assert spread < ((cells - cells.mean(axis=0)) ** 2).sum()
    assert "4 centres" in network.description.prepared
    assert "15 photos" in network.description.prepared


def test_validation_photos_are_not_looked_at(tuples, monkeypatch):
    decode, decoded = PhotoDecoder.__call__, set()

    def watched(self: PhotoDecoder, row: int, change: Change | None = None) -> np.ndarray:
        decoded.add(row)
        return decode(self, row, change)

    monkeypatch.setattr(PhotoDecoder, "__call__", watched)
    prepare_network(netvlad(), tuples, photos_of(tuples), seed=0)
    assert decoded == set(np.flatnonzero(tuples.image_split == TRAIN).tolist())


def test_the_same_seed_gives_the_same_centres_and_another_others(tuples):
    centres = []
    for seed in (1, 1, 2):
        network = netvlad()
        prepare_network(network, tuples, photos_of(tuples), seed)
        centres.append(network.pool.centres.detach())
    assert torch.equal(centres[0], centres[1])
    assert not torch.equal(centres[0], centres[2])


def test_a_photo_gives_at_most_so_many_cells():
    class One:
        def names(self, rows):
            return [str(row) for row in rows]

        def in_order(self, groups, change=None):
            rng = np.random.default_rng(0)
            return iter([[rng.integers(0, 255, (300, 320, 3), dtype=np.uint8)] for _ in groups])

    assert sample_vectors(netvlad(), One(), np.arange(2), seed=0).shape == (2 * CELLS, 512)


def test_too_few_cells_are_one_line():
    with pytest.raises(UsageError, match="64 centres cannot be learned from 10 cells"):
        kmeans(np.zeros((10, 4), np.float32), 64, seed=0)


def test_kmeans_finds_clusters_that_are_far_apart():
    rng = np.random.default_rng(0)
    means = np.eye(4, dtype=np.float32) * 10
    points = (means[:, None] + rng.normal(0, 0.1, (4, 50, 4))).reshape(-1, 4).astype(np.float32)
    found = kmeans(points, 4, seed=0)
    distance = np.linalg.norm(found[:, None] - means[None], axis=2)
    assert sorted(distance.argmin(axis=1)) == [0, 1, 2, 3]
    assert distance.min(axis=1).max() < 0.1


def test_projected_regions_start_as_their_pca_whitening(tuples):
    network, photos = regions(), photos_of(tuples)
    rows = np.flatnonzero(tuples.image_split == TRAIN)
    vectors = sample_vectors(network, photos, rows, seed=0)
    prepare_network(network, tuples, photos, seed=0)
    weight, bias = (value.detach().double().numpy() for value in network.pool.projection.parameters())
    projected = vectors @ weight.T + bias
    np.testing.assert_allclose(projected.mean(axis=0), 0, atol=1e-3)
    # Decorrelated, and of variance 1 but for the shrinkage in the strongest directions.
    covariance = np.cov(projected.T)
    strongest = covariance[:5, :5]
    np.testing.assert_allclose(strongest - np.diag(np.diag(strongest)), 0, atol=1e-2)
    assert 0.5 < np.diag(strongest).min() <= np.diag(strongest).max() < 1.5
    assert "PCA whitening" in network.description.prepared


@pytest.mark.parametrize("pooling", ["gem", "rmac", "crow", "gem-channels"])
def test_other_poolings_are_left_alone(tuples, pooling):
    network = build_network("squeezenet1_1", pooling)
    before = network.fingerprint()
    prepare_network(network, tuples, photos_of(tuples), seed=0)
    assert network.fingerprint() == before
    assert network.description.prepared == ""


@pytest.mark.parametrize("make", [netvlad, regions])
def test_training_prepares_once_and_a_checkpoint_needs_no_flag(tuples, tmp_path, make):
    options = options_from_recipe("squeezenet1_1", image_size=SIZE, rounds=1, learning_rate=1e-4)
    train(tuples.path, tmp_path / "run", options, make(), execution=Execution(workers=0))
    again = load_network(tmp_path / "run" / "best.pt")
    assert again.description.prepared
    with torch.inference_mode():
        descriptor = again(torch.rand(1, 3, 64, 80))
    assert descriptor.shape == (1, again.dimension)
    assert descriptor.norm().item() == pytest.approx(1.0, abs=1e-4)
    before = again.fingerprint()
    prepare_network(again, tuples, photos_of(tuples), seed=9)
    assert again.fingerprint() == before


def test_rounds_zero_prepares_alone(tuples, tmp_path):
    network = netvlad(seed=1)
    before = {name: value.clone() for name, value in network.backbone.state_dict().items()}
    options = options_from_recipe("squeezenet1_1", image_size=SIZE, rounds=0)
    train(tuples.path, tmp_path / "run", options, network, execution=Execution(workers=0))
    again = load_network(tmp_path / "run" / "best.pt")
    assert all(torch.equal(before[name], value) for name, value in again.backbone.state_dict().items())
    assert isinstance(again.pool, NetVLAD)
    assert again.pool.centres.abs().sum() > 0


def test_a_resumed_run_has_the_centres_of_the_first(tuples, tmp_path):
    options = options_from_recipe("squeezenet1_1", image_size=SIZE, rounds=1, learning_rate=1e-4)
    train(tuples.path, tmp_path / "whole", options, netvlad(), execution=Execution(workers=0))
    train(tuples.path, tmp_path / "half", options_from_recipe("squeezenet1_1", image_size=SIZE, rounds=0,
          learning_rate=1e-4), netvlad(), execution=Execution(workers=0))  # fmt: skip
    train(
        tuples.path,
        tmp_path / "half",
        options,
        load_network(tmp_path / "half" / "last.pt"),
        resume=True,
        execution=Execution(workers=0),
    )
    whole, resumed = (load_network(tmp_path / run / "last.pt") for run in ("whole", "half"))
    assert whole.fingerprint() == resumed.fingerprint()


def test_a_folder_that_is_taken_is_refused_before_photos_are_read(tuples, tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.pt").write_bytes(b"")
    monkeypatch.setattr(PhotoDecoder, "__call__", lambda *_: pytest.fail("a photo was read"))
    with pytest.raises(UsageError, match="holds a run already"):
        train(
            tuples.path,
            run,
            options_from_recipe("squeezenet1_1", image_size=SIZE),
            netvlad(),
            execution=Execution(workers=0),
        )


def test_prepared_is_in_the_description_for_people_only(tuples, tmp_path: Path):
    network = netvlad()
    prepare_network(network, tuples, photos_of(tuples), seed=0)
    before = network.fingerprint()
    network.set_prepared("otherwise")
    assert network.fingerprint() == before
