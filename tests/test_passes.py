"""Batches, chunks, precision, compilation and augmentation: what a device likes changes a gradient by rounding only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from retrieval.networks.network import Network
from retrieval.photos.augmentation import Augmentation, TupleChange
from retrieval.photos.tuple_photos import TuplePhotos
from retrieval.training.loop import Execution, train
from retrieval.training.passes import ForwardPlan, add_gradient, describe, forward_plan
from retrieval.training.state import Resources
from retrieval.training.steps import train_round
from sfm2tuples.errors import UsageError
from sfm2tuples.mining.tuple_file import read_tuples
from tests.test_training import SIZE, make_tuples, network, quick, state_of

WAYS = [
    ForwardPlan(photos=8, tuples=1),
    ForwardPlan(photos=3, tuples=2),
    ForwardPlan(photos=64, tuples=2),
    ForwardPlan(photos=1, tuples=2, chunked=True),
    ForwardPlan(photos=4, tuples=2, chunked=True),
]


@pytest.fixture(scope="module")
def tuples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuples(tmp_path_factory.mktemp("tuples") / "tuples.h5")


def pictures_of_sizes() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = [(48, 40), (40, 48), (48, 40), (48, 48), (40, 48), (48, 40), (33, 48)]
    return [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]


@pytest.mark.parametrize("photos", [1, 2, 3, 64])
def test_photos_of_one_size_are_described_together_and_come_back_in_order(photos: int) -> None:
    net, pictures = network().eval(), pictures_of_sizes()
    with torch.no_grad():
        alone = torch.cat([describe(net, [picture], "fp32") for picture in pictures])
        together = describe(net, pictures, "fp32", photos)
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_gradient_of_groups_and_chunks_is_that_of_one_photo_a_forward(way: ForwardPlan) -> None:
    def loss_of(descriptors: torch.Tensor) -> torch.Tensor:
        return (descriptors[0] - descriptors[1:]).square().sum(dim=1).mul(weights).sum()

    weights = torch.linspace(-1, 2, len(pictures_of_sizes()) - 1)
    gradients = []
    for plan in (ForwardPlan(), way):
        net = network()
        net.train()
        loss, descriptors = add_gradient(net, pictures_of_sizes(), "fp32", plan, loss_of, lambda value: value)
        assert not descriptors.requires_grad
        assert loss.item() == pytest.approx(loss_of(descriptors).item(), rel=1e-6)
        gradients.append([p.grad for p in net.parameters()])
    largest = max(float(g.abs().max()) for g in gradients[0])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5 * largest, rtol=0)


@pytest.mark.parametrize("photos", [1, 3])
def test_what_is_held_is_not_done_again_and_changes_no_bit(photos: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is bytes of activations; the forward that passes it is done again, with all that follow."""
    pictures, forward = pictures_of_sizes(), Network.forward
    forwards = {1: 7, 3: 4}[photos]
    done, gradients = {}, []

    def counted(net: Network, x: torch.Tensor) -> torch.Tensor:
        done[held] += 1
        return forward(net, x)

    monkeypatch.setattr(Network, "forward", counted)
    for held in (0, 1, *(2**power for power in range(18, 27))):
        done[held] = 0
        net = network()
        net.train()
        plan = ForwardPlan(photos, chunked=True, held=held)
        add_gradient(net, pictures, "fp32", plan, lambda x: (x[0] - x[1:]).square().sum(), lambda value: value)
        gradients.append(torch.cat([p.grad.reshape(-1) for p in net.parameters() if p.grad is not None]))
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)
    often = list(done.values())
    assert (often[0], often[1], often[-1]) == (2 * forwards, 2 * forwards, forwards)
    assert often == sorted(often, reverse=True)
    assert len(set(often)) > 2


def test_activations_are_held_where_memory_is_not_to_be_saved(tuples: Path) -> None:
    file = read_tuples(tuples)
    ways = [Execution(), Execution(chunked=True), Execution(checkpoint_gradients=True)]
    held = [way.state(file, network(), quick()).resources.plan.held for way in ways]
    assert held[0] > 2**20
    assert held[1:] == [0, 0]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_round_ends_in_the_same_weights_whatever_goes_through_together(tuples: Path, way: ForwardPlan) -> None:
    file, options = read_tuples(tuples), quick(optimiser="sgd")
    photos, weights, figures = TuplePhotos(file, SIZE), [], []
    for plan in (ForwardPlan(), way):
        net = network()
        state = state_of(file, photos, net, options, Resources(plan))
        figures.append(train_round(state, file.tuples["train"], 1))
        weights.append(torch.cat([p.detach().reshape(-1) for p in net.parameters()]))
    torch.testing.assert_close(weights[1], weights[0], atol=1e-6, rtol=1e-5)
    assert figures[1].loss == pytest.approx(figures[0].loss, rel=1e-5)
    assert figures[1].positive_similarity == pytest.approx(figures[0].positive_similarity, abs=1e-6)
    assert figures[1].negative_similarity == pytest.approx(figures[0].negative_similarity, abs=1e-6)


def test_a_cpu_takes_photos_one_by_one_and_other_devices_a_step_at_once() -> None:
    assert forward_plan(torch.device("cpu"), 5) == ForwardPlan(1, 1)
    assert forward_plan(torch.device("cpu"), 5, photos=4) == ForwardPlan(4, 5)
    assert forward_plan(torch.device("cuda"), 5) == ForwardPlan(64, 5)
    assert forward_plan(torch.device("cuda"), 5, chunked=True) == ForwardPlan(64, 5, chunked=True)
    with pytest.raises(UsageError, match="photos per forward"):
        ForwardPlan(photos=0)


def test_half_precision_trains_close_to_full_precision(tuples: Path) -> None:
    file, losses = read_tuples(tuples), {}
    for precision in ("fp32", "bf16", "fp16"):
        options, net = quick(precision=precision), network()
        photos = TuplePhotos(file, SIZE)
        scaler = torch.amp.GradScaler("cpu", enabled=precision == "fp16", init_scale=256.0)
        state = state_of(file, photos, net, options, Resources(scaler=scaler))
        trained = train_round(state, file.tuples["train"], 1)
        losses[precision] = trained.loss
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)
    assert losses["fp16"] == pytest.approx(losses["fp32"], rel=0.05)
    assert losses["bf16"] != losses["fp32"] != losses["fp16"]


def test_a_compiled_network_trains_as_it_is(tuples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def compiled(net: torch.nn.Module, **settings: object) -> None:
        calls.append(settings)
        torch.nn.Module.compile(net, backend="eager", **settings)

    monkeypatch.setattr("retrieval.networks.network.Network.compile", compiled, raising=False)
    options = quick(rounds=1)
    runs = [
        train(tuples, tmp_path / str(way), options, network(), execution=Execution(compile=way))
        for way in (False, True)
    ]
    assert calls == [{"dynamic": True}]
    assert runs[1].history[-1].train_loss == pytest.approx(runs[0].history[-1].train_loss, rel=1e-5)


def photo() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (30, 40, 3)).astype(np.uint8)


def test_without_augmentation_a_photo_stays_as_it_is() -> None:
    assert TupleChange(Augmentation(), 0, 1, "q")(photo(), "a").tolist() == photo().tolist()
    assert Augmentation().is_off


def test_all_photos_of_a_tuple_are_mirrored_together() -> None:
    always, sometimes = Augmentation(flip=1.0), Augmentation(flip=0.5)
    np.testing.assert_array_equal(TupleChange(always, 0, 1, "q")(photo(), "a"), photo()[:, ::-1])
    outcomes = []
    for tuple_name in "abcdefghijklmnop":
        change = TupleChange(sometimes, 0, 1, tuple_name)
        turned = [bool((change(photo(), name) == photo()[:, ::-1]).all()) for name in "xyz"]
        assert len(set(turned)) == 1
        outcomes.append(turned[0])
    assert set(outcomes) == {False, True}


@pytest.mark.parametrize("augmentation", [Augmentation(colour=0.4), Augmentation(crop=0.3)], ids=str)
def test_colour_and_crop_are_drawn_by_photo_tuple_round_and_seed(augmentation: Augmentation) -> None:
    def made(seed: int, round: int, tuple_name: str, photo_name: str) -> bytes:
        changed = TupleChange(augmentation, seed, round, tuple_name)(photo(), photo_name)
        assert changed.shape == photo().shape
        return changed.tobytes()

    ways = [(0, 1, "q", "a"), (0, 1, "q", "b"), (0, 1, "r", "a"), (0, 2, "q", "a"), (1, 1, "q", "a")]
    assert len({made(*names) for names in ways}) == len(ways)
    assert made(*ways[0]) == made(*ways[0])


def test_colour_stays_within_its_strength() -> None:
    grey = np.full((8, 8, 3), 100, np.uint8)
    change = TupleChange(Augmentation(colour=0.2), 0, 1, "q")
    values = [int(change(grey, str(i))[0, 0, 0]) for i in range(50)]
    assert 80 <= min(values) < 90 < 110 < max(values) <= 120


@pytest.mark.parametrize("wrong", [{"flip": 1.5}, {"colour": -0.1}, {"crop": 0.0}])
def test_augmentation_without_meaning_is_refused(wrong: dict) -> None:
    with pytest.raises(UsageError, match="must be from"):
        quick(**wrong)


def test_augmented_training_does_not_depend_on_workers_and_differs_from_plain(tuples: Path, tmp_path: Path) -> None:
    augmented = quick(rounds=1, flip=0.5, colour=0.3, crop=0.5)
    losses = [
        train(tuples, tmp_path / name, options, network(), execution=Execution(workers=workers)).history[-1].train_loss
        for name, options, workers in (("a", augmented, 0), ("b", augmented, 3), ("c", quick(rounds=1), 2))
    ]
    assert losses[0] == losses[1] != losses[2]
