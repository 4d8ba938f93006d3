"""Pooling equals naive loops, and R-MAC's grid is the published one."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch

from retrieval.pooling import GEM_P, POOLINGS, GeM, build_pooling, gem, l2_normalise, mac, rmac, spoc
from retrieval.regions import extra_regions, rmac_regions
from sfm2tuples.errors import UsageError

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

    @pytest.mark.parametrize("name", POOLINGS)
    def test_layout_in_memory_changes_nothing(self, kind, height, width, name):
        x = torch.from_numpy(maps(kind, height, width))
        pool = build_pooling(name)
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


def test_gradients_on_dead_channels_are_finite():
    for name in POOLINGS:
        x = torch.from_numpy(maps("zeros", 5, 7)).requires_grad_()
        build_pooling(name)(x).sum().backward()
        assert torch.isfinite(x.grad).all(), name


def test_maximum_sends_the_gradient_of_a_tie_to_one_cell():
    x = torch.ones(1, 1, 3, 3, requires_grad=True)
    mac(x).sum().backward()
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
    with pytest.raises(UsageError, match="mac, spoc, gem, rmac"):
        build_pooling("max")


def test_whole_image_is_refused_where_there_are_no_regions():
    with pytest.raises(UsageError, match="rmac"):
        build_pooling("gem", whole_image=True)
