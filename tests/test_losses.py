"""Losses against distances known by hand and against naive loops."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch

from retrieval.training import losses
from retrieval.training.described_tuples import DescribedTuples
from retrieval.training.losses import GRADE, overlap_weight
from retrieval.training.losses_by_name import GENERALIZED, GRADED, LOSSES, PML, LossOptions, build_loss
from sfm2tuples.errors import UsageError

OURS = [name for name in LOSSES if name != PML]


def described(
    query: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor,
    positive_mask: torch.Tensor | None = None,
    negative_mask: torch.Tensor | None = None,
    overlap: torch.Tensor | None = None,
) -> DescribedTuples:
    """Tuples that are there as a whole, with overlaps that are not known, where nothing else is said."""
    masks = [
        torch.ones(others.shape[:2], dtype=torch.bool) if mask is None else mask
        for others, mask in ((positives, positive_mask), (negatives, negative_mask))
    ]
    unknown = torch.full(positives.shape[:2], float("nan"))
    return DescribedTuples(query, positives, negatives, *masks, unknown if overlap is None else overlap)


def contrastive(
    query: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor, margin: float, eps: float = 0.0
) -> torch.Tensor:
    return losses.contrastive(described(query, positives, negatives), margin, eps)


def tuple_loss(name: str, margin: float, *tuples: torch.Tensor | None, settings: tuple[str, ...] = (), **more):
    """The loss of that name, as training builds it, of tuples as `described` takes them."""
    return build_loss(LossOptions(name, margin, settings=settings))(described(*tuples, **more))


def at(*degrees: float) -> torch.Tensor:
    """Unit vectors in the plane at these angles: (n, 2) float64. Two at an angle a are 2 sin(a / 2) apart."""
    radians = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def random_tuples(seed: int, b: int = 4, p: int = 2, k: int = 5, d: int = 6) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(b, d), (b, p, d), (b, k, d)]
    return [torch.nn.functional.normalize(torch.randn(s, generator=generator).double(), dim=-1) for s in shapes]


def as_lists(descriptors: torch.Tensor, mask: torch.Tensor) -> list[list[list[float] | None]]:
    return [
        [row.tolist() if kept else None for row, kept in zip(rows, masks, strict=True)]
        for rows, masks in zip(descriptors, mask, strict=True)
    ]


def test_contrastive_positive_costs_half_the_squared_distance():
    loss = contrastive(at(0), at(60)[None], at(180)[None], margin=0.7)
    assert loss.item() == pytest.approx(0.5 * 1.0**2)  # 60 degrees apart: distance 1


def test_contrastive_negative_within_the_margin_costs_half_the_squared_gap():
    distance = 2 * math.sin(math.radians(10))
    loss = contrastive(at(0), at(0)[None], at(20)[None], margin=0.7)
    assert loss.item() == pytest.approx(0.5 * (0.7 - distance) ** 2)


def test_contrastive_negative_beyond_the_margin_costs_nothing():
    assert contrastive(at(0), at(0)[None], at(60, 90)[None], margin=0.7).item() == 0.0


def test_triplet_counts_squared_distances_and_the_margin():
    # 60 degrees: 1; 90 degrees: 2; 40 degrees: 4 sin(20)^2
    near = 4 * math.sin(math.radians(20)) ** 2
    loss = losses.triplet(described(at(0), at(60)[None], at(90, 40)[None]), margin=0.1)
    assert loss.item() == pytest.approx(1 - near + 0.1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", OURS)
def test_losses_equal_the_naive_loops_with_missing_ones_left_out(name: str, seed: int):
    query, positives, negatives = random_tuples(seed)
    rng = np.random.default_rng(seed)
    positive_mask = torch.from_numpy(rng.random((4, 2)) < 0.7)
    negative_mask = torch.from_numpy(rng.random((4, 5)) < 0.7)
    margin = 1.3
    overlap = torch.from_numpy(rng.random((4, 2)).astype(np.float32))
    overlap[0, 0] = float("nan")
    got = tuple_loss(name, margin, query, positives, negatives, positive_mask, negative_mask, overlap)
    inputs = [query.tolist(), as_lists(positives, positive_mask), as_lists(negatives, negative_mask), margin]
    if name == GRADED:
        known = [[None if math.isnan(o) else o for o in row] for row in overlap.tolist()]
        want = oracles.graded_contrastive_loss(*inputs, known, GRADE)
    elif name == GENERALIZED:
        known = [[None if math.isnan(o) else o for o in row] for row in overlap.tolist()]
        want = oracles.generalized_contrastive_loss(*inputs, known)
    else:
        want = {"contrastive": oracles.contrastive_loss, "triplet": oracles.triplet_loss}[name](*inputs)
    assert want > 0
    assert got.item() == pytest.approx(want, rel=1e-12)


def test_eps_is_added_to_every_component_of_the_difference():
    query, positives, negatives = random_tuples(3)
    got = contrastive(query, positives, negatives, 1.3, eps=0.05).item()
    everything = [as_lists(x, torch.ones(x.shape[:2], dtype=torch.bool)) for x in (positives, negatives)]
    assert got == pytest.approx(oracles.contrastive_loss(query.tolist(), *everything, 1.3, eps=0.05), rel=1e-12)
    assert got != pytest.approx(contrastive(query, positives, negatives, 1.3).item(), rel=1e-4)


@pytest.mark.parametrize("name", OURS)
def test_loss_of_a_batch_is_the_sum_over_its_tuples(name: str):
    query, positives, negatives = random_tuples(4)
    whole = tuple_loss(name, 1.2, query, positives, negatives)
    parts = [tuple_loss(name, 1.2, query[i : i + 1], positives[i : i + 1], negatives[i : i + 1]) for i in range(4)]
    assert whole.item() == pytest.approx(sum(part.item() for part in parts), rel=1e-12)


@pytest.mark.parametrize("name", OURS)
def test_gradients_are_right(name: str):
    inputs = [x.requires_grad_() for x in random_tuples(5, b=2, p=2, k=3, d=4)]
    mask = torch.tensor([[True, False, True], [True, True, True]])

    def loss(query: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
        return tuple_loss(name, 1.3, query, positives, negatives, None, mask)

    assert torch.autograd.gradcheck(loss, inputs)


def test_zero_distance_has_a_finite_gradient():
    query = at(30).float().requires_grad_()
    negatives = at(30, 30)[None].float().requires_grad_()
    loss = contrastive(query, at(30)[None].float(), negatives, margin=0.7)
    loss.backward()
    assert loss.item() == pytest.approx(2 * 0.5 * 0.7**2)
    assert torch.isfinite(query.grad).all()
    assert torch.isfinite(negatives.grad).all()


@pytest.mark.parametrize("name", OURS)
def test_a_missing_descriptor_reaches_neither_loss_nor_gradient(name: str):
    query, positives, negatives = random_tuples(6)
    want = tuple_loss(name, 1.3, query, positives, negatives[:, :3])
    negatives = negatives.clone()
    negatives[:, 3:] = float("nan")
    query.requires_grad_()
    mask = torch.tensor([[True, True, True, False, False]] * 4)
    got = tuple_loss(name, 1.3, query, positives, negatives, None, mask)
    got.backward()
    assert got.item() == pytest.approx(want.item(), rel=1e-12)
    assert torch.isfinite(query.grad).all()


@pytest.mark.parametrize("name", OURS)
def test_no_tuples_cost_nothing(name: str):
    query = torch.zeros(0, 6, requires_grad=True)
    loss = tuple_loss(name, 0.7, query, torch.zeros(0, 2, 6), torch.zeros(0, 5, 6), overlap=torch.zeros(0, 2))
    loss.backward()
    assert loss.item() == 0


@pytest.mark.parametrize("name", OURS)
def test_two_positives_cost_as_much_as_two_tuples_of_one(name: str):
    query, positives, negatives = random_tuples(7, b=1, p=2, k=3)
    overlap = torch.tensor([[0.3, 0.9]])
    both = tuple_loss(name, 1.3, query, positives, negatives, overlap=overlap)
    single = [
        tuple_loss(name, 1.3, query, positives[:, i : i + 1], negatives, overlap=overlap[:, i : i + 1]) for i in (0, 1)
    ]
    # The contrastive losses count negatives once a tuple, the triplet loss once a pair.
    twice = 0.0 if name == "triplet" else tuple_loss(name, 1.3, query, positives[:, :0], negatives).item()
    assert both.item() == pytest.approx(sum(loss.item() for loss in single) - twice, rel=1e-12)


def test_a_positive_s_weight_rises_with_its_overlap():
    weight = overlap_weight(torch.tensor([0.0, 0.25, 0.81, 1.0, float("nan")]))
    torch.testing.assert_close(weight, torch.tensor([0.0, 0.5, 0.9, 1.0, 1.0]))


def test_grade_zero_is_the_contrastive_loss():
    query, positives, negatives = random_tuples(8)
    overlap = torch.rand(4, 2)
    graded = tuple_loss(GRADED, 1.3, query, positives, negatives, overlap=overlap, settings=("grade=0",))
    assert graded.item() == contrastive(query, positives, negatives, 1.3).item()
    assert graded.item() != tuple_loss(GRADED, 1.3, query, positives, negatives, overlap=overlap).item()


def test_grade_changes_positives_only():
    query, positives, negatives = random_tuples(9)
    overlap = torch.full((4, 2), 0.5)
    plain = contrastive(query, positives, negatives, 1.3)
    graded = tuple_loss(GRADED, 1.3, query, positives, negatives, overlap=overlap, settings=("grade=1",))
    half = 0.5 * contrastive(query, positives, negatives[:, :0], 1.3)
    assert graded.item() == pytest.approx((plain - half).item(), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "settings", "match"),
    [
        ("quadruplet", (), "contrastive, triplet, graded-contrastive, generalized-contrastive, pml:NAME"),
        ("triplet", ("grade=1",), "no options"),
        (GRADED, ("temperature=1",), "no option temperature"),
        (GENERALIZED, ("grade=1",), "no options"),
        (GRADED, ("grade=-1",), "from 0 on"),
        (GRADED, ("grade=much",), "from 0 on"),
        (GRADED, ("grade",), "not key=value"),
        (GRADED, ("grade=1", "grade=2"), "given twice"),
    ],
)
def test_losses_that_cannot_be_made_are_refused(name: str, settings: tuple[str, ...], match: str):
    with pytest.raises(UsageError, match=match):
        build_loss(LossOptions(name, 0.7, settings=settings))
