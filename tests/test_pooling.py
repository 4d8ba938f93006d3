"""Pooling equals naive loops, and R-MAC's grid is the published one."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch

from retrieval.networks.by_name import POOLINGS, build_pooling, pooling_class
from retrieval.networks.description import NetworkDescription
from retrieval.networks.poolings.crow import crow
from retrieval.networks.poolings.gem import GEM_P, GeM, gem
from retrieval.networks.poolings.mac import mac
from retrieval.networks.poolings.netvlad import ASSIGNMENT_RATIO, NetVLAD, cell_descriptors
from retrieval.networks.poolings.pooling import Pooling, l2_normalise
from retrieval.networks.poolings.projected_regions import ProjectedRegions
from retrieval.networks.poolings.rmac import rmac
from retrieval.networks.poolings.rmac_grid import extra_regions, rmac_regions
from retrieval.networks.poolings.spoc import spoc
from sfm2tuples.errors import UsageError

OF_MAPS = [name for name in POOLINGS if not (name.startswith("fc") or name == "cls" or pooling_class(name).sizes)]
"""Poolings of maps of any size; neural codes have a fixed one. Retrievers' heads: test_retriever_poolings.py."""
SHAPES = [(1, 1), (1, 2), (2, 1), (1, 9), (2, 3), (5, 5), (7, 4), (6, 19)]


def maps(kind: str, height: int, width: int) -> np.ndarray:
    """Two maps of four channels: random, with many ties, or with dead channels."""
    rng = np.random.default_rng(height * 100 + width)
    x = rng.random((2, 4, height, width))
    if kind == "ties":
        x = np.round(x * 2)
    if kind == "zeros":
        x[:, 1:3] = 0
    return x.astype(np.float32)


def pooling(name: str, channels: int = 4, **options) -> Pooling:
    """A pooling of four channels; NetVLAD with three random centres, all learned weights random."""
    generator = torch.Generator().manual_seed(1)
    pool = build_pooling(
        NetworkDescription("alexnet", name, clusters=3 if name == "netvlad" else 0, **options), channels
    )
    with torch.no_grad():
        for key, value in pool.named_parameters():
            if not key.endswith("p"):
                value.normal_(generator=generator)
    return pool


@pytest.mark.parametrize("kind", ["random", "ties", "zeros"])
@pytest.mark.parametrize(("height", "width"), SHAPES)
class TestPoolingEqualsLoops:
    def check(self, pooled: torch.Tensor, x: np.ndarray, oracle) -> None:
        expected = np.stack([oracle(one.astype(np.float64)) for one in x])
        assert pooled.shape == expected.shape
        assert pooled.dtype == torch.float32
        np.testing.assert_allclose(pooled.detach().numpy(), expected, rtol=1e-5, atol=1e-7)

    def test_mac(self, kind, height, width):
        x = maps(kind, height, width)
        self.check(mac(torch.from_numpy(x)), x, oracles.pool_mac)

    def test_spoc(self, kind, height, width):
        x = maps(kind, height, width)
        self.check(spoc(torch.from_numpy(x)), x, oracles.pool_spoc)

    @pytest.mark.parametrize("p", [1.0, 2.7, 3.0, 6.5])
    def test_gem(self, kind, height, width, p):
        x = maps(kind, height, width)
        self.check(gem(torch.from_numpy(x), torch.tensor([p])), x, lambda one: oracles.pool_gem(one, p))

    @pytest.mark.parametrize("whole_image", [False, True])
    def test_rmac(self, kind, height, width, whole_image):
        x = maps(kind, height, width)
        pooled = rmac(torch.from_numpy(x), whole_image=whole_image)
        self.check(pooled, x, lambda one: oracles.pool_rmac(one, whole_image))

    def test_gem_with_an_exponent_for_each_channel(self, kind, height, width):
        x = maps(kind, height, width)
        p = [1.0, 2.5, 3.0, 6.0]
        pool = pooling("gem-channels")
        with torch.no_grad():
            pool.p.copy_(torch.tensor(p))
        self.check(pool(torch.from_numpy(x)), x, lambda one: oracles.pool_gem_channels(one, p))

    def test_crow(self, kind, height, width):
        x = maps(kind, height, width)
        self.check(crow(torch.from_numpy(x)), x, oracles.pool_crow)

    @pytest.mark.parametrize("whole_image", [False, True])
    @pytest.mark.parametrize(("name", "oracle"), [("mac", oracles.pool_mac), ("crow", oracles.pool_crow)])
    def test_projected_regions(self, kind, height, width, name, oracle, whole_image):
        x = maps(kind, height, width)
        pool = pooling(name, regional=True, whole_image=whole_image)
        matrix, offset = pool.projection.weight.detach().numpy(), pool.projection.bias.detach().numpy()
        pooled = pool(torch.from_numpy(x)).detach()
        self.check(pooled, x, lambda one: oracles.pool_regions(one, oracle, matrix, offset, whole_image))

    def test_netvlad(self, kind, height, width):
        x = maps(kind, height, width)
        pool = pooling("netvlad")
        weight, bias = pool.assignment.weight.detach().numpy()[:, :, 0, 0], pool.assignment.bias.detach().numpy()
        centres = pool.centres.detach().numpy()
        pooled = pool(torch.from_numpy(x)).detach()
        self.check(pooled, x, lambda one: oracles.pool_netvlad(one, weight, bias, centres))

    @pytest.mark.parametrize("name", OF_MAPS)
    def test_layout_in_memory_changes_nothing(self, kind, height, width, name):
        x = torch.from_numpy(maps(kind, height, width))
        pool = pooling(name)
        torch.testing.assert_close(pool(x.to(memory_format=torch.channels_last)), pool(x))


def test_gem_goes_from_the_mean_to_the_maximum():
    x = torch.from_numpy(maps("random", 6, 5))
    torch.testing.assert_close(gem(x, 1.0), spoc(x))
    torch.testing.assert_close(gem(x, 200.0), mac(x), rtol=0.02, atol=0)


def test_gem_of_nothing_is_its_clamp():
    torch.testing.assert_close(gem(torch.zeros(1, 2, 3, 3)), torch.full((1, 2), 1e-6))


def test_gem_learns_its_exponent_as_finite_differences_say():
    x = torch.from_numpy(maps("random", 4, 4)).double()
    pool = GeM()
    assert pool.p.shape == (1,)
    assert pool.p.item() == GEM_P == 3.0
    pool(x).sum().backward()
    assert pool.p.grad is not None
    step = 1e-2
    numeric = (gem(x, 3.0 + step).sum() - gem(x, 3.0 - step).sum()) / (2 * step)
    torch.testing.assert_close(pool.p.grad[0], numeric.float(), rtol=1e-2, atol=0)


@pytest.mark.parametrize("exponent", [3.0, 7.0, 8.0, 30.0])
def test_gem_learns_beside_a_dead_channel_whatever_its_exponent(exponent):
    x = torch.rand(1, 3, 4, 4)
    x[:, 1] = 0
    pool, alone = GeM(exponent), GeM(exponent)
    pooled = pool(x.requires_grad_())
    assert pooled[0, 1].item() == pytest.approx(1e-6)
    pooled.sum().backward()
    alone(x[:, ::2].detach()).sum().backward()
    assert torch.isfinite(x.grad).all()
    torch.testing.assert_close(pool.p.grad, alone.p.grad, rtol=1e-4, atol=1e-7)


def test_gradients_on_dead_channels_are_finite():
    for name in OF_MAPS:
        x = torch.from_numpy(maps("zeros", 5, 7))
        x[:, :, 2] = 0
        x.requires_grad_()
        pooling(name)(x).sum().backward()
        assert torch.isfinite(x.grad).all(), name


@pytest.mark.parametrize("is_compiled", [False, True])
def test_maximum_sends_the_gradient_of_a_tie_to_one_cell(is_compiled):
    x = torch.ones(1, 1, 3, 3, requires_grad=True)
    pool = torch.compile(mac, backend="eager") if is_compiled else mac
    pool(x).sum().backward()
    assert sorted(x.grad.flatten().tolist()) == [0.0] * 8 + [1.0]


@pytest.mark.parametrize(("height", "width", "count"), [(30, 30, 14), (48, 64, 20), (64, 48, 20), (20, 64, 38)])
def test_region_counts_are_those_of_the_paper(height, width, count):
    assert len(rmac_regions(height, width)) == count


def test_regions_equal_the_definition_on_all_small_maps():
    for height in range(1, 26):
        for width in range(1, 26):
            assert list(rmac_regions(height, width)) == oracles.rmac_grid(height, width), (height, width)


def test_regions_stay_inside_the_map_and_reach_its_ends():
    for height, width in [(1, 1), (3, 40), (40, 3), (17, 23)]:
        regions = rmac_regions(height, width)
        assert all(top >= 0 and left >= 0 and side >= 1 for top, left, side in regions)
        assert max(top + side for top, _, side in regions) == height
        assert max(left + side for _, left, side in regions) == width


def test_a_tie_between_steps_goes_to_fewer_regions():
    # w = 5, long - w = 4: one extra region overlaps by 0.2, two by 0.6; both miss 0.4 by 0.2.
    assert extra_regions(5, 9) == 1


def test_levels_of_side_zero_are_skipped():
    assert rmac_regions(1, 1) == ((0, 0, 1),)


def test_l2_adds_eps_to_the_norm_and_keeps_zero():
    rows = l2_normalise(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), eps=1.0)
    torch.testing.assert_close(rows, torch.tensor([[0.5, 4 / 6], [0.0, 0.0]]))


def test_unknown_pooling_names_the_known_ones():
    with pytest.raises(UsageError, match="gem, gem-channels, mac, spoc, crow, rmac, netvlad"):
        build_pooling(NetworkDescription("alexnet", "max"), 4)


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("gem", {"whole_image": True}, "rmac"),
        ("rmac", {"regional": True}, "mac with regional is R-MAC"),
        ("netvlad", {"regional": True, "clusters": 4}, "regional"),
        ("netvlad", {"clusters": 0}, "clusters"),
        ("mac", {"clusters": 4}, "clusters"),
        ("fc6", {"backbone": "resnet18"}, "resnet18 has none"),
    ],
)
def test_options_of_another_pooling_are_refused(name, options, match):
    with pytest.raises(UsageError, match=match):
        build_pooling(NetworkDescription(**{"backbone": "alexnet", "pooling": name, **options}), 4)


@pytest.mark.parametrize("name", OF_MAPS)
def test_no_photos_give_no_vectors(name):
    pool = pooling(name)
    assert pool(torch.zeros(0, 4, 3, 5)).shape == (0, pool.dimension(4))


@pytest.mark.parametrize("regional", [False, True])
@pytest.mark.parametrize("name", OF_MAPS)
def test_gradients_are_those_of_finite_differences(name, regional):
    if regional and "regional" not in pooling_class(name).options:
        pytest.skip("has no regions")
    pool = pooling(name, channels=3, regional=regional).double()
    x = torch.from_numpy(np.random.default_rng(3).random((2, 3, 3, 4)) + 0.1).requires_grad_()
    parameters = list(pool.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: pool(x), (x, *parameters))


def test_untrained_regions_are_plain_rmac():
    x = torch.from_numpy(maps("random", 6, 9))
    regions = build_pooling(NetworkDescription("alexnet", "mac", regional=True, whole_image=True), 4)
    assert isinstance(regions, ProjectedRegions)
    torch.testing.assert_close(regions(x), rmac(x, whole_image=True), rtol=1e-5, atol=1e-5)


def test_crow_weighs_a_rare_channel_more_and_a_dead_one_finitely():
    x = torch.zeros(1, 3, 2, 2)
    x[0, 0] = 1.0
    x[0, 1, 0, 0] = 4.0  # fires in one cell of four, as much in sum
    pooled = crow(x)[0]
    assert pooled[1] > pooled[0]
    assert pooled[2] == 0
    assert torch.isfinite(pooled).all()


def test_crow_of_an_empty_map_is_zero():
    assert crow(torch.zeros(1, 4, 3, 3)).abs().max() == 0


def test_netvlad_starts_with_the_ratio_of_the_paper():
    rng = np.random.default_rng(0)
    cells = cell_descriptors(torch.from_numpy(rng.random((1, 8, 20, 20), dtype=np.float32)))[0].flatten(1).T
    centres = cells[::57]
    pool = NetVLAD(8, len(centres))
    alpha = pool.initialise(centres, cells)
    # From the definition: softmax of -alpha ||x - c||², sorted; geometric mean of the ratio of the first two.
    distances = ((cells[:, None].double() - centres[None].double()) ** 2).sum(dim=2)
    weights = (-alpha * distances).softmax(dim=1).sort(dim=1, descending=True).values
    assert (weights[:, 0] / weights[:, 1]).log().mean().exp().item() == pytest.approx(ASSIGNMENT_RATIO, rel=1e-3)
    scores = pool.assignment(cells.T[None, :, :, None])[0, :, :, 0].T
    torch.testing.assert_close(scores.softmax(dim=1), (-alpha * distances).softmax(dim=1).float(), rtol=1e-3, atol=1e-5)


def test_netvlad_of_cells_on_their_centres_is_zero_there():
    pool = NetVLAD(2, 2)
    centres = torch.eye(2)
    pool.initialise(centres, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    pooled = pool(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1) * 5)[0].detach()
    assert pooled[:2].norm() == 0  # no residual to its own centre; the other's, though weak, is normalised
    assert pooled[2:].norm() == pytest.approx(1.0)


def test_netvlad_has_one_centre_where_one_is_asked_for():
    pool = NetVLAD(3, 1)
    pool.initialise(torch.tensor([[0.5, 0.5, 0.5]]), torch.rand(5, 3))
    x = torch.rand(2, 3, 4, 4)
    residuals = (cell_descriptors(x).flatten(2) - 0.5).sum(dim=2)
    torch.testing.assert_close(pool(x), torch.nn.functional.normalize(residuals, dim=1))
