"""Gradient checkpointing: the same gradients, with less kept for the way back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_adaptation import VIT, options, vit
from test_training import make_tuples, same_content
from timm_package import import_timm

from retrieval.networks.checkpoints import load_checkpoint
from retrieval.networks.network import Network, build_network
from retrieval.training.adaptation.adapted import adapt
from retrieval.training.adaptation.parts import learners_of
from retrieval.training.loop import Execution, train
from sfm2tuples.errors import UsageError


def step(net: Network, precision: str = "fp32") -> tuple[list[torch.Tensor], int]:
    """Gradients of one forward, and bytes that autograd kept for them beside the weights."""
    kept: dict[int, int] = {}
    own = {value.untyped_storage().data_ptr() for value in net.parameters()}

    def pack(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    net.train()
    x = torch.rand(2, 3, 70, 56, generator=torch.Generator().manual_seed(0))
    half = torch.autocast("cpu", torch.bfloat16, precision == "bf16")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value), half:
        found = net(x)
    net.zero_grad()
    found[0].sub(found[1]).square().sum().backward()
    return [value.grad.clone() for value in net.parameters() if value.grad is not None], sum(kept.values())


@pytest.mark.parametrize(
    ("name", "learns", "precision"),
    [
        (VIT, "all", "fp32"),
        (VIT, "all", "bf16"),
        (VIT, "last:2", "fp32"),
        ("resnet18", "all", "fp32"),
        ("efficientnet_lite0", "last:3", "fp32"),
        ("squeezenet1_1", "all", "fp32"),
    ],
)
def test_gradients_have_the_same_bits_and_less_is_kept(name: str, learns: str, precision: str) -> None:
    net = build_network(name, "gem", seed=1)
    adapt(net, learners_of(learns), 0.0, 0)
    plain, all_kept = step(net, precision)
    net.backbone.set_grad_checkpointing(True)
    found, kept = step(net, precision)
    assert len(found) == len(plain)
    assert all(torch.equal(one, other) for one, other in zip(plain, found, strict=True))
    assert kept < 0.7 * all_kept


def test_a_run_with_it_is_the_run_without_and_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    tuples, contents = make_tuples(tmp_path / "tuples.h5"), []
    for asked in (False, True):
        net = vit()
        chosen = options(rounds=1, freeze_below="blocks.1")
        train(tuples, tmp_path / str(asked), chosen, net, execution=Execution(checkpoint_gradients=asked))
        assert not net.backbone.checkpoints
        contents.append(load_checkpoint(tmp_path / str(asked) / "last.pt"))
        contents[-1]["history"] = [{**row, "seconds": 0} for row in contents[-1]["history"]]
    assert same_content(*contents)


def test_timm_s_networks_do_it_their_own_way() -> None:
    import_timm()
    net = build_network("timm:vit_tiny_patch16_224", "gem", seed=1)
    plain, all_kept = step(net)
    net.backbone.set_grad_checkpointing(True)
    found, kept = step(net)
    assert all(torch.equal(one, other) for one, other in zip(plain, found, strict=True))
    assert kept < 0.5 * all_kept
    with torch.inference_mode():
        assert net.eval()(torch.rand(1, 3, 70, 56)).shape == (1, 192)


def test_a_network_of_timm_that_cannot_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import_timm()
    net = build_network("timm:vit_tiny_patch16_224", "gem", seed=1)

    def refuse(enable: bool = True) -> None:
        raise AssertionError("gradient checkpointing not supported")

    monkeypatch.setattr(net.backbone.model, "set_grad_checkpointing", refuse)
    with pytest.raises(UsageError, match="has no gradient checkpointing"):
        net.backbone.set_grad_checkpointing()
