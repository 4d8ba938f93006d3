"""What frozen blocks put out is computed once: the bits are the same, within the memory that is allowed."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from teams import in_a_team
from test_adaptation import VIT, options, vit
from test_training import SIZE, make_tuples, same_content
from timm_package import import_timm

from cli.commands.train import command
from cli.options.memory import Memory
from retrieval.networks.by_name import build_backbone
from retrieval.networks.checkpoints import load_checkpoint
from retrieval.networks.network import Network, build_network
from retrieval.photos.tuple_photos import PhotoDecoder
from retrieval.training.adaptation import frozen_part as module
from retrieval.training.adaptation.adapted import adapt
from retrieval.training.adaptation.frozen_part import FrozenPart, default_limit, first_kept_block, frozen_part
from retrieval.training.adaptation.parts import learners_of
from retrieval.training.loop import Execution, train
from retrieval.training.passes import ForwardPlan, add_gradient
from retrieval.training.run_folder import Run
from sfm2tuples.errors import UsageError

BUILT = ["resnet18", "resnet50_layer3", "efficientnet_lite0", "squeezenet1_1", "alexnet"]
PLENTY = 10**9
ASKED = [
    {"train_only": "head"},
    {"train_only": "last:2", "ema": 0.5, "interpolate": "auto"},
    {"freeze_below": "blocks.2", "flip": 0.5},
    {"train_only": "lora:2", "freeze_below": "blocks.1"},
    {"train_only": "last:1", "sampling": "graph:3x3"},
]


@pytest.fixture(scope="module")
def tuples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuples(tmp_path_factory.mktemp("tuples") / "tuples.h5")


def trained(tuples: Path, folder: Path, asked: dict, cache: int | None, net: Network | None = None) -> dict:
    """The last checkpoint of a run, without times."""
    train(tuples, folder, options(**asked), net or vit(), execution=Execution(cache_memory=cache))
    content = load_checkpoint(folder / "last.pt")
    for row in content["history"]:
        row.pop("seconds")
    return content


def calls_of(net: Network) -> list[int]:
    """Photos that go through the first block, as they come."""
    seen: list[int] = []
    net.backbone.blocks[0].register_forward_hook(lambda _, __, out: seen.append(len(out)))
    return seen


@pytest.mark.parametrize(("asked", "limit"), [*((asked, PLENTY) for asked in ASKED), (ASKED[-1], 5_000)], ids=str)
def test_a_run_with_what_is_kept_is_the_run_without_bit_for_bit(
    asked: dict, limit: int, tuples: Path, tmp_path: Path
) -> None:
    plain = trained(tuples, tmp_path / "plain", asked, 0)
    assert same_content(plain, trained(tuples, tmp_path / "kept", asked, limit))
    start = vit().state_dict()
    assert any(not torch.equal(value, start[name]) for name, value in plain["weights"].items())


@pytest.mark.parametrize(
    ("backbone", "asked"), [("resnet18", "last:1"), ("efficientnet_lite0", "last:1"), ("squeezenet1_1", "head")]
)
def test_gradients_of_convolutional_networks_have_the_same_bits(backbone: str, asked: str) -> None:
    rng = np.random.default_rng(0)
    pictures = {row: rng.integers(0, 256, (42, 42 + row, 3)).astype(np.uint8) for row in range(3)}
    found = []
    for kept in (False, True):
        net = build_network(backbone, "gem", seed=1).train()
        adapt(net, learners_of(asked), 0.0, 0)
        part = FrozenPart(net, first_kept_block(net), PLENTY, "fp32")
        seen = part.seen([2, 0, 1], pictures) if kept else [pictures[row] for row in (2, 0, 1)]
        plan = ForwardPlan(chunked=True)
        loss, rows = add_gradient(net, seen, "fp32", plan, lambda x: (x[0] - x[1:]).square().sum(), lambda value: value)
        found.append([loss, rows, *(value.grad for value in net.parameters() if value.requires_grad)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_each_photo_goes_through_frozen_blocks_once(tuples: Path, tmp_path: Path, monkeypatch) -> None:
    decoded: list[int] = []
    decode = PhotoDecoder.__call__
    monkeypatch.setattr(
        PhotoDecoder, "__call__", lambda self, row, change=None: decoded.append(row) or decode(self, row, change)
    )
    counts = []
    for rounds in (1, 3):
        net = vit()
        seen = calls_of(net)
        decoded.clear()
        train(tuples, tmp_path / str(rounds), options(train_only="last:2", rounds=rounds), net)
        counts.append((sum(seen), len(decoded)))
    # Later rounds find all of their photos, but for those that no round before has drawn.
    assert counts[1][0] - counts[0][0] <= 8
    assert counts[1][1] <= counts[1][0] + counts[0][1]
    net = vit()
    seen = calls_of(net)
    train(tuples, tmp_path / "off", options(train_only="last:2", rounds=3), net, execution=Execution(cache_memory=0))
    assert sum(seen) > 2 * counts[1][0]


def test_memory_stays_within_the_limit_and_what_came_first_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    net = vit().eval()
    adapt(net, learners_of("last:1"), 0.0, 0)
    tokens = (3 * 3 + 1) * 12 * 4
    part = FrozenPart(net, first_kept_block(net), 5 * tokens + 1, "fp32", photos=2)
    rng = np.random.default_rng(0)
    pictures = {row: rng.integers(0, 256, (42, 42, 3)).astype(np.uint8) for row in range(8)}
    got = part.seen(list(range(8)), pictures)
    assert [isinstance(one, np.ndarray) for one in got] == [False] * 5 + [True] * 3
    assert (sorted(part.kept), part.bytes, part.is_full) == ([0, 1, 2, 3, 4], 5 * tokens, True)
    held = {
        one.values.untyped_storage().data_ptr(): one.values.untyped_storage().nbytes() for one in part.kept.values()
    }
    assert sum(held.values()) == part.bytes
    assert part.unknown([7, 3, 5]) == [7, 5]
    part.say()
    assert "once for 5 photos, in 0 of 0 MB; others were computed each time" in caplog.text
    again = part.seen([7, 2], {7: pictures[7]})
    assert isinstance(again[0], np.ndarray)
    assert again[1] is part.kept[2]
    with torch.inference_mode():
        alone = torch.cat([net(torch.from_numpy(pictures[row]).permute(2, 0, 1)[None].float() / 255) for row in (4, 1)])
    np.testing.assert_allclose(part.describe([4, 1], ["4", "1"]), alone.numpy(), atol=1e-6)


def test_several_processes_each_keep_their_own(tuples: Path, tmp_path: Path) -> None:
    chosen = options(train_only="last:1", sampling="graph:3x3")
    train(tuples, tmp_path / "one", chosen, vit(), execution=Execution(cache_memory=0))
    done = in_a_team(
        2,
        lambda team: train(
            tuples, tmp_path / "two", chosen, vit(), execution=Execution(cache_memory=PLENTY, team=team)
        ),
    )
    assert all(isinstance(run, Run) for run in done), done
    one, two = (load_checkpoint(tmp_path / name / "last.pt")["weights"] for name in ("one", "two"))
    for key, value in one.items():
        np.testing.assert_allclose(two[key].numpy(), value.numpy(), atol=2e-4, err_msg=key)


def test_a_resumed_run_keeps_anew_and_ends_the_same(tuples: Path, tmp_path: Path) -> None:
    whole = trained(tuples, tmp_path / "whole", {"train_only": "last:2", "rounds": 3}, PLENTY)
    train(tuples, tmp_path / "run", options(train_only="last:2", rounds=1), vit())
    train(tuples, tmp_path / "run", options(train_only="last:2", rounds=3), vit(), resume=True)
    resumed = load_checkpoint(tmp_path / "run" / "last.pt")
    for row in resumed["history"]:
        row.pop("seconds")
    assert same_content(whole, resumed)


@pytest.mark.parametrize(("name", "precision"), [(VIT, "bf16"), *((name, "fp32") for name in (VIT, *BUILT))])
def test_entering_a_block_gives_the_bits_of_the_whole_network(name: str, precision: str) -> None:
    net = build_network(name, "gem", seed=1).eval()
    last = len(net.backbone.block_names()) + 1
    assert len(net.backbone.links()) == last
    x = torch.rand(1, 3, 70, 56)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, precision == "bf16"):
        wanted = net(x)
        for block in {1, 2, last // 2, last}:
            assert torch.equal(net.from_block(net.before_block(x, block)), wanted)


@pytest.mark.parametrize("pooling", ["gem", "cls", "boq"])
def test_tokens_and_warped_photos_enter_as_well(pooling: str) -> None:
    net = build_network(VIT, pooling, seed=1, photo_size=(28, 42)).eval()
    with torch.inference_mode():
        x = torch.rand(2, 3, 50, 90)
        inner = net.before_block(x, 3)
        assert inner.size == (28, 42)
        assert torch.equal(net.from_block(inner), net(x))


@pytest.mark.parametrize(
    ("asked", "block"),
    [
        (("head", None), 5),
        (("last:1", None), 4),
        (("last:4", None), 0),
        (("all", None), 0),
        (("all", "blocks.1"), 2),
        (("lora:2", None), 0),
        (("lora:2", "blocks.2"), 3),
    ],
)
def test_where_the_network_is_entered(asked: tuple[str, str | None], block: int) -> None:
    net = vit()
    adapt(net, learners_of(*asked), 0.0, 0)
    assert first_kept_block(net) == block


def test_a_network_of_timm_is_entered_behind_its_last_block_alone(tuples: Path, tmp_path: Path) -> None:
    import_timm()
    found = []
    for asked in ("head", "last:1"):
        net = build_network("timm:vit_tiny_patch16_224", "cls", seed=1)
        net.whitening = None
        net.pool.requires_grad_(False)
        adapt(net, learners_of("last:1"), 0.0, 0)
        if asked == "head":
            net.backbone.requires_grad_(False)
        found.append(first_kept_block(net))
    assert found == [13, 0]
    with pytest.raises(UsageError, match=r"is entered behind its last block only; .*--train-only head"):
        frozen_part(net, 10**6, "fp32", 1)
    net = build_network("timm:mobilenetv3_small_050", "gem", seed=1).eval()
    with torch.inference_mode():
        x = torch.rand(1, 3, 64, 64)
        assert torch.equal(net.from_block(net.before_block(x, len(net.backbone.block_names()) + 1)), net(x))


def test_blocks_that_draw_numbers_are_not_kept() -> None:
    net = vit()
    adapt(net, learners_of("last:1"), 0.0, 0)
    net.backbone.blocks[0].mlp.drop = torch.nn.Dropout(0.1)
    assert first_kept_block(net) == 0
    net.backbone.blocks[0].mlp.drop = torch.nn.Dropout(0.0)
    assert first_kept_block(net) == 4


def test_a_limit_without_anything_to_keep_is_refused() -> None:
    net = vit()
    with pytest.raises(UsageError, match="no block of this network is frozen"):
        frozen_part(net, 10**6, "fp32", 1)
    assert frozen_part(net, None, "fp32", 1) is None
    assert frozen_part(net, 0, "fp32", 1) is None
    adapt(net, learners_of("head"), 0.0, 0)
    with pytest.raises(UsageError, match="--compile takes the network as a whole"):
        frozen_part(net, 10**6, "fp32", 1, compiled=True)
    assert frozen_part(net, None, "fp32", 1, compiled=True) is None


def test_the_default_is_a_share_of_what_is_free_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "free_memory", lambda: 8 * 10**9)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert default_limit() == 2 * 10**9
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert default_limit() == 5 * 10**8
    monkeypatch.setattr(module, "free_memory", lambda: None)
    assert default_limit() == 2**30 // 4
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**9, 10**10))
    assert default_limit(torch.device("cuda")) == 25 * 10**7


def test_backbones_have_a_link_for_each_block() -> None:
    assert [len(build_backbone(name).links()) for name in ("resnet18", "vgg16", "squeezenet1_1")] == [9, 14, 10]


@pytest.mark.parametrize(
    ("text", "amount"), [("4G", 4 * 10**9), ("500m", 5 * 10**8), ("1.5GB", 15 * 10**8), ("0", 0), ("12", 12)]
)
def test_an_amount_of_memory_is_read_as_people_write_it(text: str, amount: int) -> None:
    assert Memory().convert(text, None, None) == amount


@pytest.mark.parametrize("text", ["", "G", "-1G", "4 gigs", "1e9", "nan", "9" * 30])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="no amount of memory"):
        Memory().convert(text, None, None)


def test_the_command_says_what_was_kept(tuples: Path, tmp_path: Path) -> None:
    words = [tuples, "-o", tmp_path / "run", "--backbone", VIT, "--image-size", SIZE, "--rounds", 1]
    words += ["--train-only", "last:1", "--cache-memory", "1M", "--checkpoint-gradients", "--device", "cpu"]
    done = CliRunner().invoke(command, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert "note: frozen blocks were computed once for" in done.output
    refused = CliRunner().invoke(
        command, [str(word) for word in [*words[:-1], "cpu", "--train-only", "all", "--force"]]
    )
    assert isinstance(refused.exception, UsageError)
    assert "no block of this network is frozen" in str(refused.exception)
