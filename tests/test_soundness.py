"""Descriptors that are not finite or all alike."""

from __future__ import annotations

import io
import logging

import numpy as np
import pytest
from PIL import Image

from retrieval.descriptors.extraction import ExtractionOptions, extract
from retrieval.descriptors.query_crops import describe_crops
from retrieval.descriptors.soundness import ALIKE, FEWEST, alike, mean_cosine, warn_of_collapse
from retrieval.networks.network import Network, build_network
from sfm2tuples.errors import NotFiniteError


def photo(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def diverged() -> Network:
    network = build_network("squeezenet1_1", "gem", seed=1)
    next(iter(network.backbone.parameters())).data.fill_(float("nan"))
    return network


def spread(n: int, common: float, seed: int = 0) -> np.ndarray:
    """Unit rows whose mean cosine is about `common` squared over its square plus one."""
    rows = np.random.default_rng(seed).normal(size=(n, 64)) / 8
    rows[:, 0] += common
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_extraction_names_the_photo_whose_descriptor_is_not_finite():
    with pytest.raises(NotFiniteError, match=r"^b\.png: the network's descriptor .* lower --learning-rate"):
        extract(diverged(), [photo(0)], ExtractionOptions(64), ["b.png"])


def test_a_box_whose_descriptor_is_not_finite_is_refused_too():
    boxes = np.array([[0.0, 0.0, 64.0, 48.0]])
    with pytest.raises(NotFiniteError, match=r"^q\.png: the network's descriptor"):
        describe_crops(diverged(), [photo(0)], ["q.png"], boxes, "image", ExtractionOptions(64))


def test_the_mean_cosine_is_that_of_all_pairs():
    values = spread(30, 1.0)
    pairs = [values[i] @ values[j] for i in range(30) for j in range(30) if i != j]
    assert mean_cosine(values) == pytest.approx(np.mean(pairs), abs=1e-6)


@pytest.mark.parametrize(("count", "common", "warned"), [(40, 8.0, True), (40, 2.0, False), (FEWEST - 1, 8.0, False)])
def test_descriptors_that_are_all_alike_are_warned_of(
    count: int, common: float, warned: bool, caplog: pytest.LogCaptureFixture
):
    values = spread(count, common)
    assert (mean_cosine(values) > ALIKE) == (common == 8.0)
    with caplog.at_level(logging.WARNING):
        assert warn_of_collapse(values, "d.h5", "extract again") is warned
    assert (alike(values) is not None) is warned
    assert ("d.h5: the descriptors are all alike" in caplog.text) is warned
