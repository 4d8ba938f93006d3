"""Losses of pytorch-metric-learning see our tuples, and only what is there of them."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from test_losses import tuple_loss
from torch import Tensor, nn

from retrieval.training.losses_by_name import LossOptions, build_loss
from retrieval.training.metric_learning import indices_tuple
from retrieval.training.options import options_from_recipe
from sfm2tuples.errors import UsageError


class Recorder(nn.Module):
    """Stands for a loss of pairs: the sum of positive distances less `scale` times that of negative ones."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, embeddings: Tensor, labels=None, indices_tuple=None) -> Tensor:
        a1, p, a2, n = indices_tuple
        near = (embeddings[a1] - embeddings[p]).square().sum()
        return near - self.scale * (embeddings[a2] - embeddings[n]).square().sum()


class ByClass(nn.Module):
    """Stands for a loss with weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.proxies = nn.Parameter(torch.zeros(3))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of that name with two losses."""
    package, losses = ModuleType("pytorch_metric_learning"), ModuleType("pytorch_metric_learning.losses")
    losses.Recorder, losses.ByClass, losses.note = Recorder, ByClass, "no loss"
    package.losses = losses
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", package)
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning.losses", losses)


def tuples(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Three queries with two positives and four negatives, some missing (NaN)."""
    generator = torch.Generator().manual_seed(seed)
    query, positives, negatives = (
        torch.nn.functional.normalize(torch.randn(shape, generator=generator).double(), dim=-1)
        for shape in [(3, 5), (3, 2, 5), (3, 4, 5)]
    )
    positive_mask = torch.tensor([[True, True], [True, False], [False, False]])
    negative_mask = torch.tensor([[True] * 4, [False, True, False, True], [True] * 4])
    positives[~positive_mask] = float("nan")
    negatives[~negative_mask] = float("nan")
    return query, positives, negatives, positive_mask, negative_mask


def by_loops(scale: float) -> float:
    query, positives, negatives, positive_mask, negative_mask = tuples()
    total = 0.0
    for b in range(3):
        for p in range(2):
            if positive_mask[b, p]:
                total += float((query[b] - positives[b, p]).square().sum())
        for n in range(4):
            if negative_mask[b, n]:
                total -= scale * float((query[b] - negatives[b, n]).square().sum())
    return total


def test_indices_name_each_pair_once():
    assert [part.tolist() for part in indices_tuple(2, 3)] == [[0, 0], [1, 2], [0, 0, 0], [3, 4, 5]]
    assert [part.tolist() for part in indices_tuple(0, 1)] == [[], [], [0], [1]]


@pytest.mark.usefixtures("fake")
def test_each_pair_is_seen_and_missing_ones_are_not():
    query, positives, negatives, positive_mask, negative_mask = tuples()
    query.requires_grad_()
    got = tuple_loss("pml:Recorder", 0.7, query, positives, negatives, positive_mask, negative_mask)
    got.backward()
    assert got.item() == pytest.approx(by_loops(1.0), rel=1e-12)
    assert torch.isfinite(query.grad).all()


@pytest.mark.usefixtures("fake")
def test_options_reach_the_loss():
    got = tuple_loss("pml:Recorder", 0.7, *tuples(), settings=("scale=2.5",))
    assert got.item() == pytest.approx(by_loops(2.5), rel=1e-12)


@pytest.mark.usefixtures("fake")
def test_batching_changes_nothing():
    whole = tuple_loss("pml:Recorder", 0.7, *tuples())
    parts = [tuple_loss("pml:Recorder", 0.7, *(x[i : i + 1] for x in tuples())) for i in range(3)]
    assert whole.item() == pytest.approx(sum(part.item() for part in parts), rel=1e-12)


@pytest.mark.usefixtures("fake")
def test_no_tuples_cost_nothing():
    query = torch.zeros(0, 5, requires_grad=True)
    loss = tuple_loss("pml:Recorder", 0.7, query, torch.zeros(0, 2, 5), torch.zeros(0, 4, 5))
    loss.backward()
    assert loss.item() == 0


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    ("name", "settings", "match"),
    [
        ("pml:Recorda", (), "no loss 'Recorda'; did you mean Recorder"),
        ("pml:note", (), "no loss 'note'"),
        ("pml:Recorder", ("sclae=1",), "cannot be made of"),
        ("pml:ByClass", (), "learns weights by class"),
    ],
)
def test_losses_that_cannot_be_made_are_one_line(name: str, settings: tuple[str, ...], match: str):
    with pytest.raises(UsageError, match=match) as caught:
        build_loss(LossOptions(name, 0.7, settings=settings))
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("fake")
def test_a_margin_of_ours_is_refused_beside_such_a_loss():
    assert options_from_recipe("vgg16", loss="pml:Recorder", loss_option=("scale=2",)).loss_option == ("scale=2",)
    with pytest.raises(UsageError, match="loss_option margin"):
        options_from_recipe("vgg16", loss="pml:Recorder", margin=0.5)


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    with pytest.raises(UsageError, match=r"pip install 'sfm2tuples\[metric-learning\]'"):
        build_loss(LossOptions("pml:NTXentLoss", 0.7))


def test_the_real_package_s_losses_equal_their_formulas():
    pytest.importorskip("pytorch_metric_learning")
    query, positives, negatives, positive_mask, negative_mask = tuples()
    rows = [0, 1]  # the third has no positive, and so no triplet and no softmax
    inputs = [x[rows] for x in (query, positives, negatives)]
    masks = [mask[rows] for mask in (positive_mask, negative_mask)]
    got = tuple_loss("pml:NTXentLoss", 0.7, *inputs, *masks, settings=("temperature=0.2",))
    want = 0.0
    for q, ps, ns, pm, nm in zip(*inputs, *masks, strict=True):
        against = sum(torch.exp(q @ n / 0.2) for n, there in zip(ns, nm, strict=True) if there)
        terms = [-torch.log(torch.exp(q @ p / 0.2) / (torch.exp(q @ p / 0.2) + against))
                 for p, there in zip(ps, pm, strict=True) if there]  # fmt: skip
        want += float(sum(terms)) / len(terms)
    assert got.item() == pytest.approx(want, rel=1e-6)
    for name in ("pml:TripletMarginLoss", "pml:ContrastiveLoss", "pml:MultiSimilarityLoss", "pml:CircleLoss"):
        assert torch.isfinite(tuple_loss(name, 0.7, query, positives, negatives, positive_mask, negative_mask))


class NeedsLabels(nn.Module):
    """Stands for a loss that knows nothing of pairs, or trips over an argument of the wrong type."""

    def __init__(self, margin: float = 0.1) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, labels=None, indices_tuple=None) -> Tensor:
        total = embeddings.sum() - self.margin
        if labels is None:
            raise ValueError("labels are required for this loss function")
        return total


@pytest.mark.parametrize(
    ("settings", "said"), [((), "labels are required"), (("margin=wide",), "unsupported operand|must be Tensor")]
)
def test_a_loss_that_cannot_be_taken_of_two_tuples_is_refused_before_training(fake, settings, said):
    sys.modules["pytorch_metric_learning"].losses.NeedsLabels = NeedsLabels
    with pytest.raises(UsageError, match=rf"^loss pml:NeedsLabels cannot be taken of tuples \(.*({said})"):
        options_from_recipe("squeezenet1_1", loss="pml:NeedsLabels", loss_option=settings)


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
def test_each_loss_of_the_real_package_works_or_says_what_it_lacks():
    losses = pytest.importorskip("pytorch_metric_learning").losses
    works, refused = set(), {}
    for name in [name for name, kind in vars(losses).items() if isinstance(kind, type)]:
        try:
            build_loss(LossOptions(f"pml:{name}", 0.7))
            works.add(name)
        except UsageError as error:
            refused[name] = str(error)
    assert not any("\n" in said for said in refused.values())
    assert {"ContrastiveLoss", "MultiSimilarityLoss", "TripletMarginLoss", "NTXentLoss"} <= works
    assert {"FastAPLoss", "SmoothAPLoss", "VICRegLoss", "DynamicSoftMarginLoss", "SubCenterArcFaceLoss"} <= set(refused)
