"""Losses of batches against naive loops; unknown pairs change none of them."""

from __future__ import annotations

import math

import numpy as np
import oracles_batches
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_losses import at, described, random_tuples

from retrieval.training import losses
from retrieval.training.batches.described import DescribedBatch, described_batch, of_tuples
from retrieval.training.batches.loss_table import BATCH_LOSSES, build_batch_loss
from retrieval.training.batches.metric_learning import made_batch
from retrieval.training.batches.pair_losses import ALPHA, BASE, BETA, HARDEST, TEMPERATURE
from retrieval.training.losses_by_name import PML, LossOptions, build_loss
from retrieval.training.options import options_from_recipe
from sfm2tuples.errors import UsageError

OURS = [name for name in BATCH_LOSSES if name != PML]
MARGINS = {
    "contrastive": 1.1,
    "graded-contrastive": 1.1,
    "generalized-contrastive": 1.1,
    "multi-similarity": 0.1,
    "smooth-ap": 0.0,
}
SOFT = {"graded-contrastive": {"grade": 0.5}, "generalized-contrastive": {}}
ORACLES = {
    "contrastive": oracles_batches.contrastive,
    # Overlaps that are not known leave the contrastive loss.
    **dict.fromkeys(SOFT, oracles_batches.contrastive),
    "multi-similarity": oracles_batches.multi_similarity,
    "smooth-ap": lambda rows, relation, margin, **more: oracles_batches.smooth_ap(rows, relation, **more),
}


def loss_of(
    name: str, descriptors: torch.Tensor, relation: np.ndarray, *settings: str, overlap: np.ndarray | None = None
) -> torch.Tensor:
    options = LossOptions(name, MARGINS.get(name, 0.0), settings=settings)
    return build_batch_loss(options)(described_batch(descriptors, relation, overlap))


def made(seed: int, n: int = 9, d: int = 5, tied: bool = False, known: float = 0.8) -> tuple[torch.Tensor, np.ndarray]:
    """Unit descriptors (n, d) float64, of which tied ones are equal in pairs, and a symmetric relation (n, n)."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, d))
    if tied:
        rows[1::2] = rows[: n // 2 * 2 : 2]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    place = rng.integers(0, 3, n)
    relation = np.where(place[:, None] == place[None, :], 1, -1)
    unknown = np.triu(rng.random((n, n)) > known)
    relation[unknown | unknown.T | np.eye(n, dtype=bool)] = 0
    return torch.from_numpy(rows), relation.astype(np.int8)


@pytest.mark.parametrize("tied", [False, True], ids=["random", "tied"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", OURS)
def test_losses_equal_the_naive_loops(name: str, seed: int, tied: bool):
    rows, relation = made(seed, tied=tied)
    want = ORACLES[name](rows.tolist(), relation.tolist(), MARGINS[name])
    assert want > 0
    assert loss_of(name, rows, relation).item() == pytest.approx(want, rel=1e-10)


def shares_of(seed: int, relation: np.ndarray) -> np.ndarray:
    """Overlaps of positive pairs, of which some are not known; of both directions each its own."""
    rng = np.random.default_rng(seed)
    overlap = rng.choice(np.array([0.0, 0.25, 0.6, 1.0, np.nan], np.float32), relation.shape)
    return np.where(relation == 1, overlap, np.float32(np.nan))


@pytest.mark.parametrize("tied", [False, True], ids=["random", "tied"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SOFT)
def test_overlaps_are_soft_labels_as_the_naive_loops_say(name: str, seed: int, tied: bool):
    rows, relation = made(seed, tied=tied)
    overlap = shares_of(seed, relation)
    known = [[None if share != share else share for share in row] for row in overlap.tolist()]
    want = oracles_batches.soft_contrastive(rows.tolist(), relation.tolist(), known, 1.1, **SOFT[name])
    found = loss_of(name, rows.requires_grad_(), relation, overlap=overlap)
    assert found.item() == pytest.approx(want, rel=1e-10)
    assert found.item() != pytest.approx(loss_of("contrastive", rows, relation).item())
    found.backward()
    assert torch.isfinite(rows.grad).all()


@pytest.mark.parametrize("name", ["contrastive", "multi-similarity", "smooth-ap"])
def test_other_losses_ignore_the_overlap(name: str):
    rows, relation = made(2)
    assert loss_of(name, rows, relation).item() == loss_of(name, rows, relation, overlap=shares_of(2, relation)).item()


def test_a_positive_of_a_soft_label_settles_at_its_distance():
    """With an overlap of 0.4 and a margin of 1.1 the cost is least where D is 0.66."""
    pair, overlap = np.array([[0, 1], [1, 0]], np.int8), np.full((2, 2), 0.4, np.float32)
    costs = {}
    for distance in (0.0, 0.5, 0.6, 0.66, 0.72, 1.0, 1.5):
        rows = at(0, 2 * math.degrees(math.asin(distance / 2)))
        costs[distance] = loss_of("generalized-contrastive", rows, pair, overlap=overlap).item()
    assert min(costs, key=costs.__getitem__) == 0.66


@pytest.mark.parametrize("name", SOFT)
def test_a_batch_that_is_one_tuple_has_the_tuples_soft_loss(name: str):
    query, positives, negatives = random_tuples(0, p=1)
    tuples = described(query, positives, negatives, overlap=torch.tensor([[0.1], [0.5], [math.nan], [1.0]]))
    options = LossOptions(name, 1.3)
    want = build_loss(options)(tuples).item()
    assert of_tuples(build_batch_loss(options))(tuples).item() == pytest.approx(want, rel=1e-12)
    assert want != pytest.approx(losses.contrastive(tuples, 1.3).item())


@pytest.mark.parametrize("name", OURS)
def test_settings_reach_the_formula(name: str):
    rows, relation = made(4, n=20, known=0.9)
    changed = {
        **{one: {"hardest": 2} for one in ("contrastive", *SOFT)},
        "multi-similarity": {"alpha": 1.5, "beta": 20.0, "base": 0.3},
        "smooth-ap": {"temperature": 0.2},
    }[name]
    want = ORACLES[name](rows.tolist(), relation.tolist(), MARGINS[name], **changed)
    assert loss_of(name, rows, relation, *(f"{k}={v}" for k, v in changed.items())).item() == pytest.approx(want)
    assert want != pytest.approx(loss_of(name, rows, relation).item())
    for refused in ("prize=2", f"{next(iter(changed))}=much", f"{next(iter(changed))}=nan"):
        with pytest.raises(UsageError):
            loss_of(name, rows, relation, refused)


def test_the_constants_are_those_of_the_method():
    assert (ALPHA, BETA, BASE, HARDEST, TEMPERATURE) == (2, 50, 0.5, 5, 0.01)
    chosen = {"sampling": "graph:8x4", "loss": "multi-similarity"}
    assert options_from_recipe("squeezenet1_1", **chosen).margin == 0.1
    assert options_from_recipe("squeezenet1_1", sampling="graph:8x4").margin == 0.7


def test_an_unknown_loss_of_tuples_is_answered_with_those_of_batches_too():
    with pytest.raises(UsageError, match="pml:NAME; with --sampling graph:PxK also multi-similarity, smooth-ap"):
        options_from_recipe("squeezenet1_1", loss="multisimilarity")


@pytest.mark.parametrize("fill", [0, 1, -1], ids=["unknown", "positive", "negative"])
@pytest.mark.parametrize("name", OURS)
def test_a_batch_of_one_kind_of_pairs_has_a_finite_loss_and_gradient(name: str, fill: int):
    rows, relation = made(5, tied=True)
    relation[:] = fill * (1 - np.eye(len(relation), dtype=np.int8))
    loss = loss_of(name, rows.requires_grad_(), relation)
    loss.backward()
    assert torch.isfinite(rows.grad).all()
    if fill == 0:
        assert loss.item() == 0
        assert not rows.grad.any()
    assert loss.item() == pytest.approx(ORACLES[name](rows.tolist(), relation.tolist(), MARGINS[name]), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), step=st.floats(-0.02, 0.02), known=st.floats(0.2, 0.9))
@pytest.mark.parametrize("name", [*OURS, "pml:MultiSimilarityLoss", "pml:NTXentLoss", "pml:ContrastiveLoss"])
def test_unknown_pairs_never_change_the_loss(name: str, seed: int, step: float, known: float):
    """Cosines of unknown pairs are moved, and all others held: rows of a Cholesky factor have any cosines."""
    if name.startswith("pml:"):
        pytest.importorskip("pytorch_metric_learning")
    rows, relation = made(seed, n=6, d=12, known=known)
    cosines = (rows @ rows.T).numpy() * 0.5 + 0.5 * np.eye(6)
    moved = np.where((relation == 0) & ~np.eye(6, dtype=bool), cosines + step, cosines)
    losses = [loss_of(name, torch.from_numpy(np.linalg.cholesky(gram)), relation).item() for gram in (cosines, moved)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6, abs=1e-8)


def test_no_gradient_goes_through_an_unknown_pair():
    rows = at(0, 10, 40).requires_grad_()
    relation = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], np.int8)
    for name in OURS:
        rows.grad = None
        loss_of(name, rows, relation).backward()
        assert not rows.grad[2].any()


def test_a_batch_that_is_one_tuple_has_the_tuples_contrastive_loss():
    query, positives, negatives = random_tuples(0, p=1)
    tuples = described(query, positives, negatives, negative_mask=torch.rand(4, 5) < 0.7)
    got = of_tuples(build_batch_loss(LossOptions("contrastive", 1.3)))(tuples)
    assert got.item() == pytest.approx(losses.contrastive(tuples, 1.3).item(), rel=1e-12)
    assert got.item() > 0


def test_anchors_by_hand():
    """Angles of 0 and 60 degrees are a distance of 1 apart; both are anchors of the one pair."""
    pair = np.array([[0, 1], [1, 0]], np.int8)
    assert loss_of("contrastive", at(0, 60), pair).item() == pytest.approx(2 * 0.5)
    distance = 2 * math.sin(math.radians(10))
    assert loss_of("contrastive", at(0, 20), -pair).item() == pytest.approx((1.1 - distance) ** 2)
    assert described_batch(at(0, 60, 90), np.pad(pair, (0, 1))).anchors.item() == 2
    # A perfect ranking costs nothing; a positive behind its one negative costs half.
    ranked = np.array([[0, 1, -1], [0, 0, 0], [0, 0, 0]], np.int8)
    assert loss_of("smooth-ap", at(0, 10, 80), ranked).item() == pytest.approx(0, abs=1e-9)
    assert loss_of("smooth-ap", at(0, 80, 10), ranked).item() == pytest.approx(0.5)


def test_a_loss_of_the_package_is_taken_of_all_known_pairs():
    package = pytest.importorskip("pytorch_metric_learning.losses")
    rows, relation = made(6)
    positive, negative = np.nonzero(relation == 1), np.nonzero(relation == -1)
    pairs = tuple(map(torch.from_numpy, (*positive, *negative)))
    want = package.TripletMarginLoss()(rows, indices_tuple=pairs) * int((relation != 0).any(axis=1).sum())
    assert loss_of("pml:TripletMarginLoss", rows, relation).item() == pytest.approx(want.item())
    assert loss_of("pml:TripletMarginLoss", rows, 0 * relation).item() == 0


def test_a_loss_of_the_package_that_looks_at_unknown_pairs_is_refused(monkeypatch: pytest.MonkeyPatch):
    package = pytest.importorskip("pytorch_metric_learning.losses")

    class AllPairs(torch.nn.Module):
        def forward(self, embeddings, labels=None, indices_tuple=None):
            return (embeddings @ embeddings.T).sum()

    monkeypatch.setattr(package, "AllPairs", AllPairs, raising=False)
    with pytest.raises(UsageError, match="also looks at pairs that are unknown"):
        build_batch_loss(LossOptions("pml:AllPairs", 0.0))
    with pytest.raises(UsageError, match="cannot be taken of graph batches"):
        build_batch_loss(LossOptions("pml:SmoothAPLoss", 0.0))


def test_the_made_batch_differs_in_one_unknown_pair_alone():
    one, other = made_batch(0.1), made_batch(0.6)
    cosines = [batch.descriptors @ batch.descriptors.T for batch in (one, other)]
    changed = (cosines[0] - cosines[1]).abs() > 1e-6
    assert sorted(changed.nonzero().tolist()) == [[0, 2], [2, 0]]
    assert isinstance(one, DescribedBatch)
    assert not (one.positive | one.negative)[changed].any()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"loss": "multi-similarity", "sampling": "tuples"}, "add --sampling graph:PxK"),
        ({"loss": "triplet"}, "'triplet' is one of tuples; graph batches take one of contrastive, graded-contrastive"),
        ({"loss": "hinge"}, "'hinge' is unknown"),
        ({"remine": False}, "no-remine keeps the file's tuples"),
        ({"negatives": "N1", "num_negatives": 3}, "negatives, num_negatives are for tuples"),
        ({"batch_size": 5}, "batch_size counts tuples"),
        ({"batch_choice": "easy"}, "batch_choice 'easy' is unknown"),
        ({"loss": "smooth-ap", "margin": 0.2}, "loss smooth-ap has no margin"),
        ({"sampling": "tuples", "batch_choice": "hard"}, "leave it out for tuples"),
    ],
)
def test_options_that_do_not_go_together_are_refused(wrong: dict, says: str):
    with pytest.raises(UsageError, match=says):
        options_from_recipe("squeezenet1_1", **{"sampling": "graph:8x4", **wrong})
