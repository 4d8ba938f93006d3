"""Cheap training: gradients only where they belong, sums of low rank, averages, and shares between start and best."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import oracles_adaptation as oracles
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from teams import in_a_team
from test_training import SIZE, make_tuples, quick, same_content, state_of
from timm_package import import_timm

from benchmarks.never_worse import try_task
from cli.commands.train import command
from retrieval.networks.by_name import BACKBONES, build_backbone
from retrieval.networks.checkpoints import load_checkpoint
from retrieval.networks.choice import load_network
from retrieval.networks.interpolation import between
from retrieval.networks.network import Network, build_network
from retrieval.networks.whitening_layer import WhiteningLayer, add_whitening_layer
from retrieval.photos.tuple_photos import TuplePhotos
from retrieval.training.adaptation.adapted import Adaptation, adapt
from retrieval.training.adaptation.low_rank import LowRank
from retrieval.training.adaptation.parts import Learners, attention_projections, depths_of, learners_of
from retrieval.training.loop import Execution, train
from retrieval.training.optimisation import parameter_groups
from retrieval.training.options import LATER, TrainingOptions, options_from_recipe
from retrieval.training.run_folder import Run
from retrieval.training.validation import prepare_validation, validate
from sfm2tuples.errors import UsageError, WeightsError
from sfm2tuples.mining.tuple_file import read_tuples

VIT = "vit14:12-4-3-3"
BUILT = [name for names in BACKBONES.values() for name in names if ":" not in name and "vitl" not in name]


@pytest.fixture(scope="module")
def tuples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuples(tmp_path_factory.mktemp("tuples") / "tuples.h5")


def vit(whitened: bool = True) -> Network:
    net = build_network(VIT, "gem", seed=3)
    if whitened:
        add_whitening_layer(net, WhiteningLayer(None, 8), seed=4)
    return net


def options(**chosen: object) -> TrainingOptions:
    if "sampling" in chosen:  # a graph batch says its size itself
        return options_from_recipe(
            "squeezenet1_1", **{"image_size": SIZE, "rounds": 2, "learning_rate": 1e-2, **chosen}
        )
    return quick(**{"learning_rate": 1e-2, **chosen})


def changed(before: Network, after: Network) -> set[str]:
    """Names of the weights that are not the same bits."""
    own = before.state_dict()
    return {name for name, value in after.state_dict().items() if not torch.equal(value, own[name])}


def last_network(folder: Path) -> Network:
    return load_network(folder / "last.pt")


@pytest.mark.parametrize("name", BUILT)
def test_blocks_name_every_weight_of_the_backbone_once_in_the_order_of_the_photo(name: str) -> None:
    backbone = build_backbone(name)
    blocks = backbone.block_names()
    owners: dict[str, list[int]] = {key: [] for key, _ in backbone.named_parameters()}
    for row, names in enumerate(blocks):
        for part in names:
            for key in owners:
                if key == part or key.startswith(part + "."):
                    owners[key].append(row)
    assert max(map(len, owners.values())) == 1
    assert {row for rows in owners.values() for row in rows} == set(range(len(blocks)))
    order = [rows[0] if rows else -1 for rows in owners.values()]
    # conv_head and bn2 of EfficientNet are defined where they are run; no block's weights stand before another's.
    assert order == sorted(order)


def test_blocks_of_known_networks() -> None:
    assert [names[0] for names in build_backbone("resnet18").block_names()][-2:] == ["layer4.0", "layer4.1"]
    assert build_backbone("efficientnet_lite0").block_names()[-1] == ("blocks.6", "conv_head", "bn2")
    assert build_backbone(VIT).block_names()[-1] == ("blocks.3", "norm")
    assert build_backbone("squeezenet1_1").block_names()[-1] == ("features.12",)
    assert build_backbone("resnet50_layer3").block_names()[-1] == ("layer3.5",)


@pytest.mark.parametrize(
    ("name", "last", "count"),
    [
        ("vit_tiny_patch16_224", ("model.blocks.11", "model.norm"), 12),
        ("resnet10t", ("model.layer4",), 6),
        ("mobilenetv3_small_050", ("model.blocks.5", "model.conv_head"), 6),
        ("convnext_atto", ("model.stages.3",), 4),
    ],
)
def test_blocks_of_timm(name: str, last: tuple[str, ...], count: int) -> None:
    import_timm()
    blocks = build_backbone(f"timm:{name}").block_names()
    assert len(blocks) == count
    assert blocks[-1][: len(last)] == last


@pytest.mark.parametrize(
    ("asked", "learns"),
    [
        ({"train_only": "head"}, ("pool.", "whitening.")),
        (
            {"train_only": "last:2"},
            ("pool.", "whitening.", "backbone.blocks.2.", "backbone.blocks.3.", "backbone.norm."),
        ),
        ({"freeze_below": "blocks.3"}, ("pool.", "whitening.", "backbone.blocks.3.", "backbone.norm.")),
        ({"train_only": "all"}, ("pool.", "whitening.", "backbone.")),
    ],
)
def test_only_what_learns_has_gradients_and_the_rest_keeps_its_bits(
    asked: dict[str, str], learns: tuple[str, ...], tuples: Path, tmp_path: Path
) -> None:
    net, start = vit(), vit()
    grads: set[str] = set()
    step = Adaptation.before_step

    def watched(self: Adaptation) -> None:
        grads.update(name for name, value in net.named_parameters() if value.grad is not None)
        step(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Adaptation, "before_step", watched)
        train(tuples, tmp_path / "run", options(rounds=1, ema=0.5, **asked), net)
    wanted = {name for name, _ in start.named_parameters() if name.startswith(learns)}
    assert grads == wanted
    moved = changed(start, net)
    assert moved <= wanted
    assert {name for name in wanted if name.endswith("weight") and ".norm" not in name} <= moved
    assert changed(start, last_network(tmp_path / "run")) == moved
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_a_frozen_block_keeps_nothing_for_a_way_back() -> None:
    net = vit()
    adapt(net, learners_of("last:1"), 0.0, 0)
    seen: list[bool] = []
    for block in net.backbone.blocks:
        block.register_forward_hook(lambda _, __, out: seen.append(out.requires_grad))
    net(torch.rand(1, 3, 42, 42)).sum().backward()
    assert seen == [False, False, False, True]


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "squeezenet1_1"])
def test_last_blocks_learn_of_convolutional_networks(name: str) -> None:
    net = build_network(name, "gem", seed=1)
    adapt(net, learners_of("last:1"), 0.0, 0)
    learning = {key for key, value in net.named_parameters() if value.requires_grad}
    last = tuple(f"backbone.{part}." for part in net.backbone.block_names()[-1])
    assert learning == {key for key, _ in net.named_parameters() if key.startswith((*last, "pool."))}


def test_freezing_below_a_stage_leaves_all_of_its_blocks() -> None:
    net = build_network("resnet18", "gem", seed=1)
    adapt(net, learners_of("all", "layer4"), 0.0, 0)
    learning = {key.split(".")[1] for key, value in net.named_parameters() if value.requires_grad}
    assert learning == {"layer4", "p"}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"train_only": "tail"}, "head, last:N, all or lora:R"),
        ({"train_only": "last"}, "head, last:N, all or lora:R"),
        ({"train_only": "head:1"}, "head, last:N, all or lora:R"),
        ({"train_only": "last:0"}, "from 1 to"),
        ({"train_only": "lora:-3"}, "from 1 to"),
        ({"train_only": "last:" + "9" * 30}, "from 1 to"),
        ({"train_only": "head", "freeze_below": "blocks.1"}, "exclude each other"),
        ({"depth_decay": 0.0}, "depth_decay"),
        ({"depth_decay": 0.8, "train_only": "head"}, "none learns; leave it out"),
        ({"depth_decay": float("nan")}, "depth_decay"),
        ({"ema": 1.0}, "ema"),
        ({"interpolate": "yes"}, "no, auto, or a share"),
        ({"interpolate": "0"}, "no, auto, or a share"),
        ({"interpolate": "nan"}, "no, auto, or a share"),
    ],
)
def test_options_without_meaning_are_refused(asked: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        options(**asked)


@pytest.mark.parametrize(
    ("backbone", "pooling", "asked", "said"),
    [
        (VIT, "gem", ("last:5", None), "has 4 blocks"),
        (VIT, "gem", ("all", "blocks.9"), "has the blocks blocks.0, blocks.1, blocks.2, blocks.3"),
        (VIT, "gem", ("lora:13", None), "a smaller rank"),
        ("squeezenet1_1", "gem", ("lora:2", None), "no projections of an attention"),
        ("squeezenet1_1", "mac", ("head", None), "nothing would learn"),
    ],
)
def test_networks_without_such_parts_are_refused(
    backbone: str, pooling: str, asked: tuple[str, str | None], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        adapt(build_network(backbone, pooling, seed=1), learners_of(*asked), 0.0, 0)


@given(sizes=st.tuples(st.integers(1, 6), st.integers(1, 6)), steps=st.integers(0, 3), seed=st.integers(0, 99))
def test_a_sum_of_low_rank_learns_as_its_definition(sizes: tuple[int, int], steps: int, seed: int) -> None:
    inputs, outputs = sizes
    torch.manual_seed(seed)
    layer = torch.nn.Linear(inputs, outputs)
    factor = LowRank(layer, min(sizes), torch.Generator().manual_seed(seed))
    x, y = torch.randn(5, inputs), torch.randn(5, outputs)
    left, right, weights = oracles.low_rank_descent(
        factor.base.numpy(),
        layer.bias.detach().numpy(),
        factor.right.detach().numpy(),
        x.numpy(),
        y.numpy(),
        0.1,
        steps,
    )
    optimiser = torch.optim.SGD([factor.left, factor.right], lr=0.1)
    for _ in range(steps):
        layer.zero_grad()
        ((layer(x) - y) ** 2).sum().div(2).backward()
        factor.take_gradient()
        assert layer.weight.grad is None
        optimiser.step()
        factor.merge()
    np.testing.assert_allclose(factor.left.detach().numpy(), left, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(factor.right.detach().numpy(), right, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(layer.weight.detach().numpy(), weights, rtol=1e-3, atol=1e-4)


def test_lora_changes_projections_by_a_low_rank_alone_and_the_merged_network_is_plain(
    tuples: Path, tmp_path: Path
) -> None:
    net, start = vit(), vit()
    train(tuples, tmp_path / "run", options(train_only="lora:2", freeze_below="blocks.1"), net)
    wanted = {f"{name}.weight" for name in attention_projections(net, Learners("lora", 2, "blocks.1"))}
    assert len(wanted) == 6
    moved = changed(start, net)
    assert {name for name in moved if name.startswith("backbone.")} == wanted
    own = start.state_dict()
    content = load_checkpoint(tmp_path / "run" / "last.pt")
    for name in wanted:
        difference = (net.state_dict()[name] - own[name]).double()
        assert torch.linalg.matrix_rank(difference, tol=1e-5).item() == 2
        factor = content["adaptation"]["factors"][name.removesuffix(".weight")]
        assert torch.equal(factor["base"], own[name])
        # Merged equals unmerged: the layer, and the frozen layer with the two factors beside it.
        x = torch.randn(4, own[name].shape[1])
        beside = x @ own[name].T + (x @ factor["right"].T) @ factor["left"].T
        torch.testing.assert_close(x @ content["weights"][name].T, beside, rtol=1e-5, atol=1e-5)
    assert content["weights"].keys() == own.keys()
    x = torch.rand(1, 3, SIZE, SIZE)
    with torch.inference_mode():
        assert torch.equal(last_network(tmp_path / "run")(x), net(x))


def test_an_average_is_that_of_the_weights_after_each_step(tuples: Path, tmp_path: Path) -> None:
    net = vit()
    seen: list[dict[str, np.ndarray]] = [
        {name: value.detach().numpy().copy() for name, value in net.named_parameters()}
    ]
    after = Adaptation.after_step

    def watched(self: Adaptation) -> None:
        seen.append({name: value.detach().numpy().copy() for name, value in net.named_parameters()})
        after(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Adaptation, "after_step", watched)
        train(tuples, tmp_path / "run", options(ema=0.8), net)
    assert len(seen) > 3
    stepped = load_checkpoint(tmp_path / "run" / "last.pt")["adaptation"]["stepped"]
    for name, value in net.named_parameters():
        wanted = oracles.moving_average([weights[name] for weights in seen], 0.8)
        np.testing.assert_allclose(value.detach().numpy(), wanted, rtol=1e-4, atol=1e-5)
        assert np.array_equal(stepped[name].numpy(), seen[-1][name])


def test_rates_fall_with_depth() -> None:
    net = vit()
    found = {}
    names = {id(value): name for name, value in net.named_parameters()}
    for group in parameter_groups(net, 0.1, 0.5):
        for parameter in group["params"]:
            found[names[id(parameter)]] = group["rate_factor"]
    assert found.keys() == set(names.values())
    assert found["whitening.weight"] == 1
    assert found["pool.p"] == 10
    assert found["backbone.norm.weight"] == found["backbone.blocks.3.attn.qkv.weight"] == 0.5
    assert found["backbone.blocks.0.mlp.fc1.weight"] == 0.5**4
    assert found["backbone.cls_token"] == found["backbone.patch_embed.proj.weight"] == 0.5**5
    assert depths_of(net)["backbone.cls_token"] == 0


def test_the_last_block_has_a_lower_rate_below_a_head_without_weights_too() -> None:
    for pooling in ("mac", "gem"):
        net = build_network("squeezenet1_1", pooling)
        factor = {
            id(value): group["rate_factor"] for group in parameter_groups(net, 0.1, 0.5) for value in group["params"]
        }
        rates = [factor[id(value)] for value in net.backbone.parameters()]
        assert (rates[0], rates[-1]) == (0.5**9, 0.5), pooling


def test_rates_of_factors_fall_with_the_depth_of_their_layer() -> None:
    net = vit()
    adaptation = adapt(net, learners_of("lora:1"), 0.0, 0)
    groups = parameter_groups(net, 0.1, 0.5, adaptation)
    factor = {id(part): group["rate_factor"] for group in groups for part in group["params"]}
    assert factor[id(adaptation.factors["backbone.blocks.3.attn.proj"].left)] == 0.5
    assert factor[id(adaptation.factors["backbone.blocks.0.attn.qkv"].right)] == 0.5**4


def test_without_depth_decay_groups_are_as_ever() -> None:
    net = vit()
    rest, p = parameter_groups(net, 0.1)
    assert [id(x) for x in rest["params"]] == [id(x) for x in net.parameters() if x is not net.pool.p]
    assert (rest["rate_factor"], p["rate_factor"]) == (1.0, 10.0)


ASKED = [
    {"train_only": "head"},
    {"train_only": "last:2", "depth_decay": 0.7},
    {"train_only": "lora:2", "ema": 0.9},
    {"ema": 0.5, "interpolate": "auto"},
    {"sampling": "graph:3x3", "train_only": "lora:1", "ema": 0.5},
]


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(asked: dict, tuples: Path, tmp_path: Path) -> None:
    train(tuples, tmp_path / "whole", options(rounds=3, **asked), vit())
    train(tuples, tmp_path / "run", options(rounds=1, **asked), vit())
    train(tuples, tmp_path / "run", options(rounds=3, **asked), vit(), resume=True)
    for name in ("last.pt", "best.pt"):
        one, other = (load_checkpoint(tmp_path / folder / name) for folder in ("whole", "run"))
        for content in (one, other):
            for row in content["history"]:
                row.pop("seconds")
        assert same_content(one, other)


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_two_processes_give_the_weights_of_one(asked: dict, tuples: Path, tmp_path: Path) -> None:
    chosen = options(**asked)
    train(tuples, tmp_path / "one", chosen, vit())
    done = in_a_team(2, lambda team: train(tuples, tmp_path / "two", chosen, vit(), execution=Execution(team=team)))
    assert all(isinstance(run, Run) for run in done), done
    for name in ("last.pt", "best.pt"):
        one, two = (load_network(tmp_path / folder / name).state_dict() for folder in ("one", "two"))
        for key, value in one.items():
            np.testing.assert_allclose(two[key].numpy(), value.numpy(), atol=2e-4, err_msg=key)


def test_a_checkpoint_without_what_the_run_kept_is_refused(tuples: Path, tmp_path: Path) -> None:
    chosen = options(rounds=1, train_only="lora:2")
    train(tuples, tmp_path / "run", chosen, vit())
    content = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    whole = content["adaptation"]["factors"]
    name = next(iter(whole))
    for damage in (
        {},
        {"factors": 3},
        {"factors": {**whole, name: {}}},
        {"factors": {**whole, name: whole[name] | {"left": torch.zeros(1)}}},
    ):
        torch.save({**content, "adaptation": damage}, tmp_path / "run" / "last.pt")
        with pytest.raises(WeightsError, match="adaptation"):
            train(tuples, tmp_path / "run", dataclasses.replace(chosen, rounds=2), vit(), resume=True)


def test_a_run_with_other_options_is_not_gone_on_with(tuples: Path, tmp_path: Path) -> None:
    train(tuples, tmp_path / "run", options(rounds=1), vit())
    with pytest.raises(UsageError, match="train_only all"):
        train(tuples, tmp_path / "run", options(rounds=2, train_only="head"), vit(), resume=True)


def test_a_run_writes_nothing_of_what_was_not_asked_for(tuples: Path, tmp_path: Path) -> None:
    train(tuples, tmp_path / "run", options(rounds=1), vit())
    content = load_checkpoint(tmp_path / "run" / "last.pt")
    assert not content["options"].keys() & set(LATER)
    assert "adaptation" not in content
    assert {path.name for path in (tmp_path / "run").glob("*.pt")} == {"last.pt", "best.pt"}


def test_the_share_of_the_highest_map_is_kept_and_is_the_network_of_best(tuples: Path, tmp_path: Path) -> None:
    net = vit()
    run = train(tuples, tmp_path / "run", options(interpolate="auto", learning_rate=3e-3), net)
    chosen = run.interpolated
    assert chosen is not None
    assert chosen.shares == (0, 0.25, 0.5, 0.75, 1)
    assert chosen.val_map == max(chosen.val_maps) >= run.history[0].val_map
    start = load_network(tmp_path / "run" / "start.pt")
    assert changed(start, vit()) == set()
    end = load_network(tmp_path / "run" / ("best-round.pt" if run.best_round else "last.pt"))
    best = load_network(tmp_path / "run" / "best.pt")
    assert changed(between(start, end, chosen.share), best) == set()
    assert changed(net, last_network(tmp_path / "run")) == set()
    assert load_checkpoint(tmp_path / "run" / "best.pt")["interpolated"]["kept"] == chosen.share
    # The same validation by itself gives the same values.
    file = read_tuples(tuples)
    with TuplePhotos(file, SIZE, 14, 0) as photos:
        for share, value in zip(chosen.shares, chosen.val_maps, strict=True):
            state = state_of(file, photos, between(start, end, share), options())
            assert validate(state, prepare_validation(file, 15), 1)[0] == value


def test_a_run_that_gained_nothing_says_so_in_one_line(tuples: Path, tmp_path: Path) -> None:
    words = [tuples, "-o", tmp_path / "run", "--backbone", VIT, "--image-size", SIZE, "--rounds", 1]
    words += ["--learning-rate", 0, "--interpolate", "auto"]
    done = CliRunner().invoke(command, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert sum("nothing was gained" in line for line in done.output.splitlines()) == 1
    assert changed(load_network(tmp_path / "run" / "best.pt"), load_network(tmp_path / "run" / "start.pt")) == set()


def test_a_share_that_won_goes_on_from_the_round_and_not_from_the_share(tuples: Path, tmp_path: Path) -> None:
    chosen = options(interpolate="0.5", learning_rate=3e-3, rounds=1)
    train(tuples, tmp_path / "run", chosen, vit())
    kept = (tmp_path / "run" / "best-round.pt").read_bytes()
    run = train(tuples, tmp_path / "run", chosen, vit(), resume=True)
    assert (tmp_path / "run" / "best-round.pt").read_bytes() == kept
    assert run.interpolated is not None
    assert run.interpolated.shares == (0, 0.5, 1)


def test_a_blind_run_says_that_nothing_can_be_chosen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blind = make_tuples(tmp_path / "tuples.h5", train_places=6, val_places=0)
    run = train(blind, tmp_path / "run", options(interpolate="auto", rounds=1), vit())
    assert run.interpolated is None
    assert "no share between start and end can be chosen" in caplog.text
    assert {path.name for path in (tmp_path / "run").glob("*.pt")} == {"last.pt"}


def test_a_run_that_replaces_one_leaves_none_of_its_ends(tuples: Path, tmp_path: Path) -> None:
    train(tuples, tmp_path / "run", options(rounds=1, interpolate="auto"), vit())
    assert (tmp_path / "run" / "start.pt").exists()
    train(tuples, tmp_path / "run", options(rounds=1), vit(), force=True)
    assert not (tmp_path / "run" / "start.pt").exists()


@pytest.mark.parametrize("number", [2, 3, 4, 9])
def test_never_worse_on_held_out_places_whatever_the_rate(number: int, tmp_path: Path) -> None:
    """Rates of 1e-3, 1e-2 and 0.3 (twice), which is wrong; the bench `never_worse` tries more."""
    found = try_task(tmp_path, number)
    assert found.held_out[1] >= found.held_out[0]
