"""Search and its refinements on labelled photos of landmarks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrieval.descriptors.extraction import ExtractionOptions, extract
from retrieval.evaluation.refined_rankings import own_junk, refine
from retrieval.metrics.results import evaluate_rankings
from retrieval.networks.network import build_network
from retrieval.photos.labels import read_labels
from retrieval.photos.sources import photos_of
from retrieval.protocols.benchmark import Benchmark
from retrieval.protocols.labels import labels_ground_truth
from retrieval.search.options import Refinement
from retrieval.search.ranked_lists import Pipeline
from retrieval.search.window_descriptors import Describer, PhotoWindows, query_regions

pytestmark = pytest.mark.real


def test_expansion_and_windows_raise_map_on_two_landmarks(shared: Path) -> None:
    labels = read_labels(shared / "collection" / "labels.csv").only(["petra", "paris_sacrecoeur"])
    keep = [r for r, role in enumerate(labels.roles) if role != "distractor"] + [
        r for r, role in enumerate(labels.roles) if role == "distractor"
    ][:60]
    labels = replace(labels, **{n: [getattr(labels, n)[r] for r in keep] for n in ("images", "labels", "roles")})
    photos = photos_of(shared / "collection" / "images").only(labels.images)
    network = build_network("squeezenet1_1", "gem", shared / "weights" / "squeezenet1_1.npz")
    options = ExtractionOptions(256)
    values = extract(network, photos.sources, options)
    truth = labels_ground_truth(labels)
    names = [labels.images[r] for r in truth.queries]
    own = own_junk(Benchmark(labels.images, names, {"labels": truth}))
    describer = Describer(network, options)
    finder = PhotoWindows(describer, query_regions(describer, photos.only(names)), photos, labels.images, None)

    def mean(**asked: str) -> float:
        rankings = refine(values[truth.queries], values, own, Pipeline(Refinement.parse(**asked), finder))
        return evaluate_rankings(rankings, truth, len(values)).mean_over_groups

    plain = mean()
    assert np.isfinite(plain)
    assert mean(qe="average:5") > plain + 0.02
    assert mean(qe="alpha:10:3") > plain + 0.02
    assert mean(rerank="R", qe="average:5") > plain + 0.02
