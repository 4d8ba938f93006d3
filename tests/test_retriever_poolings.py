"""The heads of well-known retrievers equal their definitions, on any backbone's map."""

from __future__ import annotations

import numpy as np
import oracles_retrievers as oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.networks.by_name import build_pooling
from retrieval.networks.checkpoints import save_checkpoint
from retrieval.networks.choice import load_network
from retrieval.networks.description import NetworkDescription
from retrieval.networks.network import build_network
from retrieval.networks.poolings.optimal_transport import transport_plan
from retrieval.networks.poolings.pooling import Pooling
from retrieval.training.optimisation import parameter_groups
from retrieval.training.recipes import GEM_RATE_FACTOR
from sfm2tuples.errors import UsageError

SIZES = {
    "salad": (3, 4, 5, 0),
    "boq": (128, 3, 2, 2),
    "mixvpr": (3, 5, 2, 2),
    "cosplace": (3,),
    "ap-gem": (3,),
    "cls": (),
}
"""Small sizes of each pooling's layers."""
CHANNELS = 4


def pooling(name: str, sizes: tuple[int, ...] | None = None) -> tuple[Pooling, dict[str, np.ndarray]]:
    """A pooling of four channels with random weights, and these in double precision."""
    clusters = 3 if name == "salad" else 0
    description = NetworkDescription("alexnet", name, clusters=clusters, pooling_sizes=sizes or SIZES[name])
    pool = build_pooling(description, CHANNELS)
    pool.reset(1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, value in pool.named_parameters():
            if value.ndim == 1 and not key.endswith(".p"):
                value.normal_(0.5, 0.3, generator=generator)
    return pool, {key: value.detach().double().numpy() for key, value in pool.named_parameters()}


def maps(height: int, width: int, kind: str = "random", channels: int = CHANNELS) -> np.ndarray:
    x = np.random.default_rng(height * 100 + width).normal(0, 1, (2, channels, height, width))
    return {"random": x, "ties": np.round(x), "zeros": 0 * x}[kind].astype(np.float32)


def check(pool: Pooling, x: np.ndarray, wanted: list[np.ndarray]) -> None:
    with torch.no_grad():
        found = pool(torch.from_numpy(x))
        torch.testing.assert_close(pool(torch.from_numpy(x).to(memory_format=torch.channels_last)), found)
        torch.testing.assert_close(pool(torch.from_numpy(x[1:]))[0], found[1], rtol=1e-5, atol=1e-6)
    assert found.shape == (2, pool.dimension(CHANNELS))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), np.array(wanted), rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("kind", ["random", "ties", "zeros"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 3), (2, 2), (3, 2), (5, 4)])
class TestHeadsEqualTheirDefinitions:
    @pytest.mark.parametrize("output", [0, 6])
    def test_salad(self, height: int, width: int, kind: str, output: int) -> None:
        pool, weights = pooling("salad", (*SIZES["salad"][:3], output))
        x = maps(height, width, kind)
        token = maps(1, 1)[:, :, 0, 0]
        both = np.concatenate([x, np.broadcast_to(token[:, :, None, None], x.shape)], axis=1)
        cells = x.astype(float).reshape(2, CHANNELS, -1).transpose(0, 2, 1)
        check(pool, both, [oracles.salad(cells[i], token[i].astype(float), weights) for i in (0, 1)])

    def test_boq(self, height: int, width: int, kind: str) -> None:
        pool, weights = pooling("boq")
        x = maps(height, width, kind)
        check(pool, x, [oracles.bag_of_queries(one.astype(float), weights, 2) for one in x])

    @pytest.mark.parametrize("name", ["cosplace", "ap-gem"])
    def test_projected_gem(self, height: int, width: int, kind: str, name: str) -> None:
        pool, weights = pooling(name)
        x = maps(height, width, kind)
        check(pool, x, [oracles.projected_gem(one.astype(float), weights, name == "cosplace") for one in x])


def test_mixvpr() -> None:
    pool, weights = pooling("mixvpr")
    for kind in ("random", "ties", "zeros"):
        x = maps(3, 3, kind)
        check(pool, x, [oracles.feature_mixing(one.astype(float), weights, 2) for one in x])


def test_mixvpr_averages_maps_of_other_sizes_to_its_own() -> None:
    pool, weights = pooling("mixvpr")
    x = maps(6, 9)
    averaged = x.astype(float).reshape(2, CHANNELS, 3, 2, 3, 3).mean(axis=(3, 5))
    check(pool, x, [oracles.feature_mixing(one, weights, 2) for one in averaged])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 12), st.integers(1, 5), st.integers(0, 1 << 20))
def test_a_transport_plan_equals_sinkhorn_s_scaling(clusters: int, patches: int, iterations: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    scores, dustbin = draw.normal(0, 2, (clusters, patches)), draw.normal()
    plan = transport_plan(torch.from_numpy(scores)[None], torch.tensor(dustbin), iterations)[0].numpy()
    np.testing.assert_allclose(plan, oracles.transported(scores, dustbin, iterations), rtol=1e-9, atol=1e-12)
    assert plan.min() >= 0
    assert plan.sum(axis=0).max() <= 1 + 1e-9  # a patch gives no more than itself


def test_a_long_transport_fills_every_cluster_and_the_dustbin_takes_the_rest() -> None:
    scores = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (1, 4, 11)))
    plan = transport_plan(scores, torch.tensor(0.3), 200)[0]
    torch.testing.assert_close(plan.sum(dim=1), torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-9)
    assert float(1 - plan.sum(dim=0).mean()) == pytest.approx(7 / 11)


def test_salad_does_not_look_at_where_a_cell_lies() -> None:
    pool, _ = pooling("salad")
    x = torch.from_numpy(maps(3, 4, channels=2 * CHANNELS))
    x[:, CHANNELS:] = x[:, CHANNELS:, :1, :1]
    moved = x.flatten(2)[:, :, torch.randperm(12, generator=torch.Generator().manual_seed(0))].reshape(x.shape)
    torch.testing.assert_close(pool(moved), pool(x))


@pytest.mark.parametrize("name", sorted(SIZES))
@pytest.mark.parametrize("backbone", ["squeezenet1_1", "vit14:64-2-2-3"])
def test_any_backbone_takes_it_and_a_checkpoint_needs_no_flag(backbone: str, name: str, tmp_path) -> None:
    names = ("cluster-dim", "token-dim", "hidden", "output")
    few = {"salad": dict(zip(names, SIZES["salad"], strict=True)), "boq": {"width": 64, "queries": 2, "rows": 1}}
    few |= {"mixvpr": {"side": 3, "channels": 4, "rows": 2}, "cosplace": {"output": 8}}
    network = build_network(backbone, name, clusters=3 if name == "salad" else None, pooling_sizes=few.get(name))
    x = torch.rand(2, 3, 70, 90, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = network(x)
        save_checkpoint(tmp_path / "n.pt", network)
        again = load_network(tmp_path / "n.pt")
        torch.testing.assert_close(again(x), found, rtol=0, atol=1e-6)
    assert again.description == network.description
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2), rtol=0, atol=1e-4)
    assert float(found[0] @ found[1]) < 0.99999
    network.train()(x).sum().backward()
    unused = {key for key, value in network.pool.named_parameters() if value.grad is None or not value.grad.any()}
    # The dustbin's score is one for its whole row, which transport's first step takes out: its gradient is rounding.
    assert unused <= {"dustbin"}


def test_the_exponent_of_a_projected_gem_learns_as_gem_s() -> None:
    network = build_network("alexnet", "cosplace")
    groups = parameter_groups(network, 0.1)
    assert [(len(group["params"]), group["weight_decay"], group["rate_factor"]) for group in groups[1:]] == [
        (1, 0.0, GEM_RATE_FACTOR)
    ]
    assert groups[1]["params"][0] is network.pool.gem.p


def test_a_class_token_is_the_transformer_s_and_a_mean_where_there_is_none() -> None:
    x = torch.rand(1, 3, 42, 56, generator=torch.Generator().manual_seed(0))
    vit, resnet = build_network("vit14:64-2-2-3", "cls"), build_network("resnet18", "cls")
    with torch.inference_mode():
        tokens = vit.backbone.with_token((x - vit.mean) / vit.std)
        assert tokens.shape == (1, 128, 3, 4)
        assert torch.equal(tokens[:, 64:], tokens[:, 64:, :1, :1].expand(1, 64, 3, 4))
        assert not torch.allclose(tokens[0, 64:, 0, 0], tokens[0, :64].mean(dim=(1, 2)), atol=1e-3)
        mean = resnet.backbone((x - resnet.mean) / resnet.std).mean(dim=(2, 3))
        torch.testing.assert_close(resnet(x), torch.nn.functional.normalize(mean), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "sizes", "words"),
    [
        ("salad", {"clusters": 3}, "--pooling-size clusters: pooling salad has cluster-dim, token-dim, hidden, output"),
        ("gem", {"width": 3}, "--pooling-size width: pooling gem has none"),
        ("boq", {"width": 100}, "boq has a width that is a multiple of 64"),
        ("mixvpr", {"depth": 0}, "mixvpr has sizes of at least 1"),
    ],
)
def test_a_size_without_meaning_is_refused(name: str, sizes: dict[str, int], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        build_network("squeezenet1_1", name, pooling_sizes=sizes)
    assert words in str(caught.value)
