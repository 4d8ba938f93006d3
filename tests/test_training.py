"""Training on a tiny world: coloured patterns as places, packed as JPEGs into a hand-made tuple file."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from cli.commands.train import command
from retrieval.descriptors.extraction import ExtractionOptions
from retrieval.networks.checkpoints import load_checkpoint
from retrieval.networks.choice import load_network
from retrieval.networks.network import Network, build_network
from retrieval.photos.tuple_photos import DECODERS, TuplePhotos
from retrieval.protocols.sfm import MIN_SHARED
from retrieval.training import passes, steps
from retrieval.training.curves import RoundFigures
from retrieval.training.kept_out import keep_out
from retrieval.training.last_round import LastRound
from retrieval.training.loop import train, warn_of_short_margin
from retrieval.training.optimisation import build_optimiser, learning_rate, parameter_groups, set_learning_rate
from retrieval.training.options import TrainingOptions, options_from_recipe
from retrieval.training.passes import describe
from retrieval.training.remining import options_of_round, tuples_of_round
from retrieval.training.run_folder import Run
from retrieval.training.state import Resources, TrainingState
from retrieval.training.steps import train_round
from retrieval.training.validation import prepare_validation, validate
from sfm2tuples.errors import DataError, MiningError, NotFiniteError, PhotoError, SfmTuplesError, UsageError
from sfm2tuples.files.columns import indptr_of
from sfm2tuples.index.schema import TRAIN, VAL
from sfm2tuples.mining.tuple_file import (
    Candidates,
    ImageTable,
    PlaceTable,
    TupleFile,
    TupleSet,
    read_tuples,
    write_tuples,
)

IMAGES_OF_A_PLACE = 3
SIZE = 48
ALONE = Resources()
MINING = {"positives": "m3", "negatives": "N2", "num_negatives": 3, "query_share": 0.5, "pool": "ends+per-place:2"}


def photo_of(place: int, image: int) -> bytes:
    """A pattern of the place's own colours and stripes, seen a little shifted and a little brighter or darker."""
    rng = np.random.default_rng(place)
    colours, frequency, angle = rng.uniform(60, 200, (2, 3)), rng.uniform(0.15, 0.6), rng.uniform(0, math.pi)
    y, x = np.mgrid[:SIZE, : SIZE - 8 * (image == 1)] + 3.0 * image
    stripe = (np.sin(frequency * (x * math.cos(angle) + y * math.sin(angle))) > 0)[..., None]
    noise = np.random.default_rng([place, image]).normal(0, 12, (*stripe.shape[:2], 3))
    pixels = np.where(stripe, colours[0], colours[1]) * (0.85 + 0.15 * image) + noise
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def candidates_of(rows: np.ndarray) -> Candidates:
    """All other images of a row's place."""
    others = [[o for o in rows if o != r and o // IMAGES_OF_A_PLACE == r // IMAGES_OF_A_PLACE] for r in rows]
    image = np.array([o for row in others for o in row], np.int64)
    return Candidates(
        query=rows,
        indptr=indptr_of(np.array([len(row) for row in others], np.int64)),
        image=image,
        shared=np.full(len(image), 40, np.int32),
        overlap=np.full(len(image), 0.5, np.float32),
        scale_change=np.full(len(image), 1.1, np.float32),
        angle=np.full(len(image), 0.1, np.float32),
    )


def tuple_set(query: list[int], positive: list[list[int]], negative: list[list[int]]) -> TupleSet:
    t = len(query)
    positives = np.array(positive, np.int64).reshape(t, 1)
    negatives = np.array(negative, np.int64).reshape(t, 3)
    evidence = np.ones(positives.shape, np.float32)
    similarity = [np.zeros(x.shape, np.float32) for x in (positives, negatives)]
    return TupleSet(
        np.array(query, np.int64), positives, negatives, evidence.astype(np.int32), evidence, evidence, evidence,
        *similarity, np.arange(3 * (t > 0)),
    )  # fmt: skip


def make_tuples(
    path: Path,
    train_places: int = 5,
    val_places: int = 3,
    root: Path | None = None,
    mining: dict | None = None,
    first: int = 0,
) -> Path:
    """A tuple file; photos are packed, or lie under `root`. Worlds whose `first` places differ look different."""
    n_places = train_places + val_places
    n = n_places * IMAGES_OF_A_PLACE
    place = np.repeat(np.arange(n_places), IMAGES_OF_A_PLACE)
    is_val = place >= train_places
    names = [f"{p}/{i % IMAGES_OF_A_PLACE}.jpg" for i, p in enumerate(place)]
    photos = [photo_of(first + int(p), i % IMAGES_OF_A_PLACE) for i, p in enumerate(place)]
    if root is not None:
        for name, photo in zip(names, photos, strict=True):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(photo)
    images = ImageTable(names, [str(root or "/gone")] * n, names, place, np.full((n, 2), SIZE), np.arange(n))
    split = np.where(np.arange(n_places) < train_places, TRAIN, VAL).astype(np.int8)
    step = IMAGES_OF_A_PLACE
    others = [(p + np.arange(1, 4)) % train_places * step for p in range(train_places)]
    train_set = tuple_set(
        [p * step for p in range(train_places)],
        [[p * step + 1] for p in range(train_places)],
        [np.where(o == p * step, -1, o).tolist() for p, o in enumerate(others)],
    )
    val_rows = np.flatnonzero(is_val)
    firsts = val_rows[::step].tolist()
    negatives = [[other if place[other] != place[r] else -1 for other in (0, step)] + [-1] for r in firsts]
    val_set = tuple_set(firsts, [[r + 1] for r in firsts], negatives)
    write_tuples(
        path,
        images,
        PlaceTable([f"place{p}" for p in range(n_places)], split),
        {"train": train_set, "val": val_set},
        {"train": candidates_of(np.flatnonzero(~is_val)), "val": candidates_of(val_rows)},
        MINING if mining is None else mining,
        ["parent"],
        photos if root is None else None,
        SIZE if root is None else 0,
    )
    return path


@pytest.fixture(scope="module")
def tuples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuples(tmp_path_factory.mktemp("tuples") / "tuples.h5")


def quick(**chosen: object) -> TrainingOptions:
    values = {"image_size": SIZE, "rounds": 2, "learning_rate": 1e-4, "batch_size": 2, **chosen}
    return options_from_recipe("squeezenet1_1", **values)


def network() -> Network:
    return build_network("squeezenet1_1", "gem", seed=3)


def state_of(
    file: TupleFile, photos: TuplePhotos | None, net: Network, options: TrainingOptions, resources: Resources = ALONE
) -> TrainingState:
    """What the rounds of a training share."""
    return TrainingState(options, file, photos, net, build_optimiser(net, options), resources)


def same_content(one: object, other: object) -> bool:
    """Whether nested containers are equal, tensors bit for bit, NaN equal to NaN."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_content(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same_content, one, other))
    return one == other or (one != one and other != other)


def without_time(checkpoint: dict) -> dict:
    history = [{k: v for k, v in figures.items() if k != "seconds"} for figures in checkpoint["history"]]
    return {**checkpoint, "history": history}


# --- options ------------------------------------------------------------------------------------------------------


def test_options_take_the_recipes_constants_and_what_is_chosen_in_their_place():
    options = options_from_recipe("resnet101", "cirtorch", rounds=7, weight_decay=None)
    assert (options.learning_rate, options.margin, options.weight_decay) == (5e-7, 0.85, 1e-6)
    assert (options.rounds, options.pool, options.eps) == (7, "random:22000", 1e-6)


def test_the_default_recipe_is_the_one_for_small_data_and_mines_anew():
    options = options_from_recipe("squeezenet1_1")
    assert (options.recipe, options.remine, options.rounds, options.pool) == ("small", True, 4, None)


def test_triplet_brings_its_own_margin():
    assert options_from_recipe("vgg16", loss="triplet").margin == 0.1


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": "hinge"}, {"optimiser": "lion"}, {"precision": "fp8"}, {"recipe": "best"}, {"batch_size": 0},
        {"rounds": -1}, {"learning_rate": float("nan")}, {"margin": -0.1}, {"hue": 1},
        {"remine": False, "negatives": "N1"},
    ],
)  # fmt: skip
def test_options_without_meaning_are_refused(wrong: dict):
    with pytest.raises(UsageError):
        options_from_recipe("squeezenet1_1", **{"recipe": "small", **wrong})


def test_no_remine_with_a_recipe_leaves_its_pool_out():
    assert options_from_recipe("vgg16", "eccv16", remine=False).pool is None


def test_every_option_is_a_flag_of_train():
    flags = {p.name: p for p in command.params}
    assert {f.name for f in dataclasses.fields(TrainingOptions)} <= set(flags)
    assert tuple(flags["decoders"].type.choices) == DECODERS
    assert f"[default: {MIN_SHARED}]" in flags["min_shared"].help


# --- optimiser ----------------------------------------------------------------------------------------------------


def test_gem_p_alone_learns_at_ten_times_the_rate_without_decay():
    net = network()
    rest, gem = parameter_groups(net, weight_decay=0.5)
    assert [p is net.pool.p for p in gem["params"]] == [True]
    assert (gem["weight_decay"], gem["rate_factor"], rest["weight_decay"], rest["rate_factor"]) == (0, 10, 0.5, 1)
    assert len(rest["params"]) == len(list(net.parameters())) - 1
    assert len(parameter_groups(build_network("squeezenet1_1", "mac"), 0.5)) == 1


def test_the_rate_of_eccv16_falls_to_a_fifth_every_thirty_rounds():
    options = options_from_recipe("vgg16", "eccv16")
    rates = [learning_rate(options, round) for round in (1, 30, 31, 60, 61)]
    assert rates == pytest.approx([1e-3, 1e-3, 2e-4, 2e-4, 4e-5])


def test_the_rate_of_tpami18_falls_every_third_round():
    options = options_from_recipe("vgg16", "tpami18")
    rates = [learning_rate(options, round) for round in (1, 3, 4, 6, 7)]
    assert rates == pytest.approx([1e-6 * math.exp(-0.1 * e) for e in (0, 0, 1, 1, 2)])


def test_the_rate_reaches_every_group_by_its_factor():
    optimiser = build_optimiser(network(), quick())
    set_learning_rate(optimiser, 0.5)
    assert [group["lr"] for group in optimiser.param_groups] == [0.5, 5.0]


@pytest.mark.parametrize(("name", "decoupled"), [("sgd", False), ("adam", False), ("adamw", True)])
def test_weight_decay_is_in_the_gradient_unless_adamw(name: str, decoupled: bool):
    """With a zero gradient: L2 in the gradient makes Adam step by the rate; decoupled decay shrinks by rate x decay."""
    net = network()
    optimiser = build_optimiser(net, quick(optimiser=name, learning_rate=0.01, weight_decay=0.1))
    weight = net.backbone.features[0].weight
    before = weight.detach().clone()
    weight.grad = torch.zeros_like(weight)
    optimiser.step()
    shrunk = torch.allclose(weight, before * (1 - 0.01 * 0.1), rtol=1e-5, atol=1e-9)
    assert shrunk == (decoupled or name == "sgd")
    if name == "adam":
        moved = before.abs() > 1e-3
        assert torch.allclose((before - weight)[moved], 0.01 * before[moved].sign(), rtol=1e-2)


# --- one round ----------------------------------------------------------------------------------------------------


def test_a_step_equals_the_gradient_of_the_whole_batch_at_once(tuples: Path):
    """Accumulated tuple by tuple, with each distinct photo once: the same as five stacked tuples in one backward."""
    from test_losses import described

    from retrieval.descriptors.extraction import to_input
    from retrieval.training import losses

    file, options = read_tuples(tuples), quick(batch_size=5, optimiser="sgd", learning_rate=0.5, weight_decay=0.0)
    photos, chosen = TuplePhotos(file, SIZE), read_tuples(tuples).tuples["train"]
    net, plain = network(), network()
    train_round(state_of(file, photos, net, options), chosen, 1)
    rows = [plain(to_input([photos.load(r)], plain.device))[0] for r in range(15)]
    table = torch.stack(rows)
    query, positive, negative = (torch.from_numpy(x) for x in (chosen.query, chosen.positive, chosen.negative))
    losses.contrastive(described(table[query], table[positive], table[negative]), options.margin).backward()
    for (name, got), want in zip(net.named_parameters(), plain.parameters(), strict=True):
        factor = 10 if name == "pool.p" else 1
        expected = want.detach() - 0.5 * factor * want.grad
        assert torch.allclose(got, expected, atol=2e-5), name


def test_every_batch_of_tuples_is_one_step_and_the_rest_too(tuples: Path, monkeypatch: pytest.MonkeyPatch):
    file, net, options = read_tuples(tuples), network(), quick(batch_size=2)
    state, steps = state_of(file, TuplePhotos(file, SIZE), net, options), []
    step = state.optimiser.step
    monkeypatch.setattr(state.optimiser, "step", lambda: steps.append(step()))
    trained = train_round(state, file.tuples["train"], 1)
    assert (trained.queries, len(steps)) == (5, 3)


def test_each_step_sees_the_gradient_of_its_own_tuples_only(tuples: Path):
    """Five tuples, two a step, against a plain loop; loss and cosines are means at the moment of training."""
    from test_losses import described

    from retrieval.descriptors.extraction import to_input
    from retrieval.training import losses

    file, options = read_tuples(tuples), quick(batch_size=2, learning_rate=1e-3)
    photos, chosen = TuplePhotos(file, SIZE), file.tuples["train"]
    net, plain = network(), network()
    trained = train_round(state_of(file, photos, net, options), chosen, 1)
    order, optimiser = steps._order(chosen, photos, options.seed, 1), build_optimiser(plain, options)
    terms, near, far = [], [], []
    for batch in (order[:2], order[2:4], order[4:]):
        plain.zero_grad()
        for t in batch:
            q, p, *n = (
                plain(to_input([photos.load(int(row))], plain.device))[0]
                for row in (chosen.query[t], chosen.positive[t, 0], *chosen.negative[t])
            )
            terms.append(losses.contrastive(described(q[None], p[None, None], torch.stack(n)[None]), options.margin))
            terms[-1].backward()
            near.append((q @ p).item())
            far += [(q @ x).item() for x in n]
        optimiser.step()
    for got, want in zip(net.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(got, want, atol=2e-5)
    assert trained.loss == pytest.approx(np.mean([term.item() for term in terms]), rel=1e-3)
    assert trained.positive_similarity == pytest.approx(np.mean(near), rel=1e-4)
    assert trained.negative_similarity == pytest.approx(np.mean(far), rel=1e-4)


def test_missing_negatives_are_masked(tuples: Path):
    file, options = read_tuples(tuples), quick(batch_size=5)
    photos = TuplePhotos(file, SIZE)
    with_hole = tuple_set([0], [[1]], [[3, -1, -1]])
    without = dataclasses.replace(with_hole, negative=np.array([[3]]), negative_similarity=np.zeros((1, 1), np.float32))
    results = []
    for chosen in (with_hole, without):
        net = network()
        trained = train_round(state_of(file, photos, net, options), chosen, 1)
        results.append((trained, net.state_dict()))
    assert same_content(*[dataclasses.asdict(trained) for trained, _ in results])
    assert same_content(dict(results[0][1]), dict(results[1][1]))


@pytest.mark.parametrize("augmentation", [{}, {"flip": 0.5, "colour": 0.3, "crop": 0.5}])
def test_workers_change_no_bit(tuples: Path, augmentation: dict[str, float]):
    states = []
    for workers, decoders in ((0, "threads"), (3, "threads"), (2, "processes")):
        file, net, options = read_tuples(tuples), network(), quick(**augmentation)
        with TuplePhotos(file, SIZE, workers=workers, decoders=decoders) as photos:
            train_round(state_of(file, photos, net, options), file.tuples["train"], 1)
        states.append(dict(net.state_dict()))
    assert same_content(states[0], states[1])
    assert same_content(states[0], states[2])


@pytest.mark.parametrize(
    ("loss", "positive", "negative", "warned"),
    [
        ("contrastive", 0.6, 0.2, True),
        ("graded-contrastive", 0.6, 0.2, True),
        ("contrastive", 0.9, 0.2, False),  # as most networks start
        ("contrastive", 0.6, 0.8, False),
        ("triplet", 0.6, 0.2, False),
    ],
)
def test_a_margin_that_reaches_neither_positives_nor_negatives_is_warned_of(
    tuples: Path, caplog: pytest.LogCaptureFixture, loss: str, positive: float, negative: float, warned: bool
):
    chosen = read_tuples(tuples).tuples["train"]
    made = dataclasses.replace(
        chosen,
        positive_similarity=np.full_like(chosen.positive_similarity, positive),
        negative_similarity=np.full_like(chosen.negative_similarity, negative),
    )
    warn_of_short_margin(made, options_from_recipe("squeezenet1_1", loss=loss))
    assert ("farther than the margin of 0.7" in caplog.text) == warned


def test_the_order_of_tuples_is_drawn_by_seed_and_round(tuples: Path):
    file = read_tuples(tuples)
    photos, chosen = TuplePhotos(file, SIZE), file.tuples["train"]
    orders = {key: steps._order(chosen, photos, *key) for key in [(0, 1), (0, 2), (1, 1), (0, 3)]}
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) > 1
    assert orders[0, 1] == steps._order(chosen, photos, 0, 1)


def test_a_loss_that_is_not_finite_names_its_query(tuples: Path):
    file, net, options = read_tuples(tuples), network(), quick()
    with torch.no_grad():
        net.backbone.features[0].weight.fill_(float("nan"))
    photos = TuplePhotos(file, SIZE)
    with pytest.raises(SfmTuplesError, match=r"^\d/0\.jpg: the loss of this query's tuple is nan"):
        train_round(state_of(file, photos, net, options), file.tuples["train"], 4)


def test_a_run_that_diverges_stops_and_keeps_its_last_sound_network(tuples: Path, tmp_path: Path):
    start = network()
    before = start.fingerprint()
    options = quick(learning_rate=1e12, batch_size=10, rounds=3)  # one step a round
    with pytest.raises(NotFiniteError) as caught:
        train(tuples, tmp_path / "run", options, start)
    said = str(caught.value)
    assert re.match(r"round 1: \d/\d\.jpg: the network's descriptor of this photo is not finite", said)
    assert said.endswith(f"--learning-rate (now 1e+12); {tmp_path / 'run' / 'last.pt'} holds the network after round 0")
    assert [load_network(tmp_path / "run" / name).fingerprint() for name in ("last.pt", "best.pt")] == [before] * 2


def test_a_network_that_is_not_finite_is_refused_before_training(tuples: Path, tmp_path: Path):
    broken = network()
    with torch.no_grad():
        broken.backbone.features[0].weight.fill_(float("nan"))
    with pytest.raises(NotFiniteError, match=r"^\d/\d\.jpg: the network's descriptor .* earlier checkpoint"):
        train(tuples, tmp_path / "run", quick(), broken)


def test_bf16_descriptors_agree_with_fp32(tuples: Path):
    net = network().train()
    pictures = [TuplePhotos(read_tuples(tuples), SIZE).load(row) for row in range(6)]
    full, half = (describe(net, pictures, precision) for precision in ("fp32", "bf16"))
    assert half.dtype == torch.float32
    assert (full * half).sum(dim=1).min() > 0.999
    assert not torch.equal(full, half)


def test_photos_are_described_for_mining_in_the_precision_of_training(tuples: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def note(network: Network, sources: list, options: ExtractionOptions, *_: object, **__: object) -> tuple:
        asked.append(options.precision)
        return np.full((len(sources), 1), 1, np.float32), np.arange(len(sources)), []

    monkeypatch.setattr("retrieval.training.state.extract_readable", note)
    file = read_tuples(tuples)
    with TuplePhotos(file, SIZE) as photos:
        for precision in ("fp32", "bf16"):
            options = options_from_recipe("squeezenet1_1", image_size=SIZE, precision=precision)
            tuples_of_round(state_of(file, photos, build_network("squeezenet1_1", "gem"), options), 1)
    assert asked == ["fp32", "bf16"]


def test_batch_norm_statistics_stay_while_scale_and_bias_learn(tuples: Path):
    file = read_tuples(tuples)
    net = build_network("resnet18", "gem", seed=1)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    options = quick(learning_rate=1e-3)
    train_round(state_of(file, TuplePhotos(file, SIZE), net, options), tuple_set([0], [[1]], [[3, 6, -1]]), 1)
    after = net.state_dict()
    statistics = [name for name in before if "running" in name or "num_batches" in name]
    scales = [name for name in before if "bn" in name and name.endswith(("weight", "bias"))]
    assert statistics
    assert all(torch.equal(before[name], after[name]) for name in statistics)
    assert not any(torch.equal(before[name], after[name]) for name in scales)


# --- mining anew --------------------------------------------------------------------------------------------------


def test_mining_anew_keeps_the_files_options_but_for_what_is_chosen(tuples: Path):
    mined = options_of_round(read_tuples(tuples), quick(negatives="N1", queries_per_round=4, seed=9))
    assert (mined.negatives, mined.num_negatives, mined.query_share) == ("N1", 3, 0.5)
    assert (mined.num_queries, mined.seed) == (4, 9)


def test_tuples_are_mined_anew_each_round_from_training_places_only(tuples: Path):
    file, net, options = read_tuples(tuples), network(), quick()
    state = state_of(file, TuplePhotos(file, SIZE), net, options)
    rounds = [tuples_of_round(state, round) for round in (1, 1, 2, 3)]
    for chosen in rounds:
        assert len(chosen.query) == 10  # half of 3 images, rounded up, of each of 5 places
        place = file.images.place
        assert (place[chosen.positive] == place[chosen.query][:, None]).all()
        assert (place[chosen.negative] != place[chosen.query][:, None]).all()
        assert (file.image_split[chosen.negative] == TRAIN).all()
    assert np.array_equal(rounds[0].query, rounds[1].query)
    assert len({chosen.query.tobytes() + chosen.positive.tobytes() for chosen in rounds}) > 1


def test_negatives_follow_the_network(tuples: Path):
    file, options = read_tuples(tuples), quick(pool="ends+per-place:3")
    photos = TuplePhotos(file, SIZE)
    networks = [build_network("squeezenet1_1", "gem", seed=s) for s in (1, 2)]
    chosen = [tuples_of_round(state_of(file, photos, net, options), 1) for net in networks]
    assert np.array_equal(chosen[0].query, chosen[1].query)
    assert not np.array_equal(chosen[0].negative_similarity, chosen[1].negative_similarity)


def test_without_remine_the_files_tuples_are_taken_at_most_so_many(tuples: Path):
    file = read_tuples(tuples)
    few = state_of(file, None, network(), quick(remine=False, queries_per_round=2))
    rows = {tuple(tuples_of_round(few, round).query.tolist()) for round in range(1, 9)}
    assert all(len(row) == 2 for row in rows)
    assert len(rows) > 1
    whole = tuples_of_round(state_of(file, None, network(), quick(remine=False)), 1)
    assert np.array_equal(whole.query, file.tuples["train"].query)


# --- validation ---------------------------------------------------------------------------------------------------


def test_validation_equals_the_protocol_by_hand(tuples: Path):
    """Database: the 9 images of 3 validation places; positives of an image: the two others of its place."""
    file, net, options = read_tuples(tuples), network(), quick()
    photos = TuplePhotos(file, SIZE)
    val_map, val_loss = validate(state_of(file, photos, net, options), prepare_validation(file, 15), 1)
    from oracles import contrastive_loss

    from retrieval.descriptors.extraction import ExtractionOptions, extract

    values = extract(net, photos.sources(np.arange(24)), ExtractionOptions(SIZE))
    precisions = []
    for query in range(15, 24):
        ranking = sorted(set(range(15, 24)) - {query}, key=lambda row: -float(values[query] @ values[row]))
        ranks = [rank for rank, row in enumerate(ranking) if row // 3 == query // 3]
        area = sum(((found / rank if rank else 1.0) + (found + 1) / (rank + 1)) / 2 for found, rank in enumerate(ranks))
        precisions.append(area / 2)
    assert val_map == pytest.approx(np.mean(precisions))
    rows = values.astype(np.float64).tolist()
    query = [rows[q] for q in (15, 18, 21)]
    loss = contrastive_loss(query, [[rows[p]] for p in (16, 19, 22)], [[rows[0], rows[3], None]] * 3, options.margin)
    assert val_loss == pytest.approx(loss / 3, rel=1e-4)


def test_with_min_shared_out_of_reach_there_is_no_validation_query(tuples: Path):
    validation = prepare_validation(read_tuples(tuples), 41)
    assert not validation.has_queries


# --- the whole loop -----------------------------------------------------------------------------------------------


def test_loss_falls_and_curves_have_a_row_a_round(tuples: Path, tmp_path: Path):
    seen: list[RoundFigures] = []
    options = quick(rounds=4, learning_rate=2e-4, remine=False)
    run = train(tuples, tmp_path / "run", options, network(), on_round=seen.append)
    assert run.history[4].train_loss < 0.8 * run.history[1].train_loss
    assert seen == run.history
    with (tmp_path / "run" / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["round"]) for row in rows] == [0, 1, 2, 3, 4]
    assert rows[0]["train_loss"] == ""
    assert float(rows[3]["train_loss"]) == run.history[3].train_loss
    assert float(rows[2]["learning_rate"]) == pytest.approx(2e-4 * math.exp(-0.1))
    assert float(rows[4]["gem_p"]) != 3
    assert all(-1 <= float(row["negative_similarity"]) <= 1 for row in rows[1:])


def test_best_is_the_round_of_best_val_map_the_start_included(tuples: Path, tmp_path: Path):
    start = network()
    before = start.fingerprint()
    # A rate that ruins the network: nothing after round 0 can be better by more than luck.
    run = train(tuples, tmp_path / "run", quick(learning_rate=0.5, optimiser="sgd", weight_decay=1.9), start)
    maps = [figures.val_map for figures in run.history]
    best = load_checkpoint(tmp_path / "run" / "best.pt")
    assert run.best_round == best["round"] == int(np.argmax(maps)) == 0
    assert load_network(tmp_path / "run" / "best.pt").fingerprint() == before == best["started_from"]
    assert load_checkpoint(tmp_path / "run" / "last.pt")["round"] == 2


def test_a_checkpoint_says_what_it_was_made_from_and_how(tuples: Path, tmp_path: Path):
    options = quick(rounds=1)
    train(tuples, tmp_path / "run", options, network())
    checkpoint = load_checkpoint(tmp_path / "run" / "last.pt")
    assert checkpoint["parents"] == [read_tuples(tuples).header.fingerprint]
    assert checkpoint["options"] == options.as_dict()
    assert checkpoint["network"] == network().description.to_dict()
    assert checkpoint["software"].startswith("sfm2tuples ")


def test_early_stopping_waits_for_patience_rounds(tuples: Path, tmp_path: Path):
    options = quick(rounds=5, patience=2, learning_rate=0.0)
    run = train(tuples, tmp_path / "run", options, network())
    assert (run.round, run.best_round, run.stopped_early) == (2, 0, True)


def test_without_validation_places_no_network_is_called_the_best(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = make_tuples(tmp_path / "tuples.h5", val_places=0)
    run = train(path, tmp_path / "run", quick(rounds=1), network())
    assert run.is_blind
    assert run.recommended == tmp_path / "run" / "last.pt"
    assert sorted(file.name for file in run.folder.iterdir() if file.is_file()) == ["curves.csv", "last.pt"]
    assert [record.message.split(";")[1] for record in caplog.records] == [
        " it stops once the gap of 1 kept-out tuples has not grown for 2 rounds"
    ]
    with (run.folder / "curves.csv").open() as file:
        assert [float(row["gap"]) for row in csv.DictReader(file)] == [figures.gap for figures in run.history]
    again = train(path, run.folder, quick(rounds=2), LastRound.read(run.folder).network(), resume=True)
    assert [figures.gap for figures in again.history[:2]] == [figures.gap for figures in run.history]
    assert again.round == 2


def test_a_blind_run_stops_where_the_gap_does_not_grow(tmp_path: Path):
    path = make_tuples(tmp_path / "tuples.h5", val_places=0)
    run = train(path, tmp_path / "run", quick(rounds=5, learning_rate=0.0), network())
    assert (run.round, run.stopped_early, run.patience) == (2, True, 2)


def test_kept_out_queries_are_in_no_tuple_of_the_training(tuples: Path):
    file = read_tuples(tuples)
    kept, train_set = keep_out(file, 0), file.tuples["train"]
    assert len(kept.query) == 1
    assert set(kept.query) <= set(train_set.query)
    left = kept.without(train_set, file)
    assert 0 < len(left.query) < len(train_set.query)
    assert not np.isin(kept.query, np.column_stack([left.query, left.positive, left.negative])).any()


def test_the_gap_is_the_mean_of_positives_less_that_of_negatives(tuples: Path):
    file, net, options = read_tuples(tuples), network(), quick()
    with TuplePhotos(file, SIZE) as photos:
        state = state_of(file, photos, net, options)
        kept = keep_out(file, 0)
        values = state.describe(np.arange(len(file.images.key)), "all")
        row = np.flatnonzero(np.isin(file.tuples["train"].query, kept.query))
        held = file.tuples["train"]
        query, positive, negative = values[held.query[row]], values[held.positive[row]], values[held.negative[row]]
        expected = (query[:, None] * positive).sum(2).mean() - (query[:, None] * negative).sum(2).mean()
        assert kept.gap(state, 1) == pytest.approx(expected, abs=1e-6)


def test_photos_that_are_not_packed_are_read_from_their_folder(tmp_path: Path):
    packed, loose = make_tuples(tmp_path / "packed.h5"), make_tuples(tmp_path / "loose.h5", root=tmp_path / "photos")
    runs = [train(path, tmp_path / path.stem, quick(rounds=1), network()) for path in (packed, loose)]
    assert runs[0].history[1].train_loss == runs[1].history[1].train_loss


def test_a_missing_photo_is_one_line_with_its_path(tmp_path: Path):
    path = make_tuples(tmp_path / "tuples.h5", root=tmp_path / "photos")
    (tmp_path / "photos/1/0.jpg").unlink()
    with pytest.raises(PhotoError, match=r"1/0\.jpg: no such photo") as caught:
        train(path, tmp_path / "run", quick(remine=False), network())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("remine", "workers"), [(True, 0), (False, 0), (False, 2)])
def test_a_tuple_whose_photo_cannot_be_read_is_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, remine: bool, workers: int
):
    path = make_tuples(tmp_path / "tuples.h5", train_places=6, val_places=0, root=tmp_path / "photos")
    file, options = read_tuples(path), quick(remine=remine)
    # The positive of one tuple, which is in no other tuple of the file.
    (tmp_path / "photos" / file.images.key[file.tuples["train"].positive[2, 0]]).write_bytes(photo_of(0, 0)[:200])
    with TuplePhotos(file, SIZE, workers=workers) as photos:
        state = state_of(file, photos, network(), options)
        chosen = tuples_of_round(state, 1)
        figures = train_round(state, file.tuples["train"], 1)
    assert len(chosen.query) == 6 or remine
    assert (figures.queries, figures.left_out) == (5, 1)
    assert "round 1: 1 of 6 tuples hold a photo that cannot be read and are left out, first: " in caplog.text
    assert len(state.unreadable) == 1
    assert math.isfinite(figures.loss)


def test_a_photo_too_small_for_the_network_is_named(tuples: Path):
    with pytest.raises(PhotoError, match=r"0/0\.jpg: 16 x 16 pixels are too few"):
        TuplePhotos(read_tuples(tuples), 16, smallest=17).load(0)


def test_too_few_places_are_refused_and_counted(tmp_path: Path):
    path = make_tuples(tmp_path / "tuples.h5", train_places=3)
    with pytest.raises(MiningError, match="3 training places"):
        train(path, tmp_path / "run", quick(rounds=1), network())


def test_a_file_without_training_tuples_is_refused_without_remine(tmp_path: Path):
    path = make_tuples(tmp_path / "tuples.h5", train_places=0)
    with pytest.raises(DataError, match="no training tuples"):
        train(path, tmp_path / "run", quick(remine=False), network())


# --- resuming -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_run(tuples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of three rounds."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(tuples, folder, quick(rounds=3), network())
    return folder


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("last.pt", "best.pt"):
        assert same_content(*[without_time(load_checkpoint(folder / name)) for folder in (one, other)]), name
    rows = []
    for folder in (one, other):
        with (folder / "curves.csv").open() as file:
            rows.append([{**row, "seconds": ""} for row in csv.DictReader(file)])
    assert rows[0] == rows[1]


def test_a_run_killed_in_the_middle_of_a_round_resumes_to_the_same_bits(
    tuples: Path, whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    photos = []

    def interrupted(*arguments: object) -> torch.Tensor:
        photos.append(1)
        if len(photos) == 14:  # ten tuples a round: in the middle of the second
            raise KeyboardInterrupt
        return describe(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(passes, "describe", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(tuples, tmp_path / "run", quick(rounds=3), network())
    assert load_checkpoint(tmp_path / "run" / "last.pt")["round"] == 1
    train(tuples, tmp_path / "run", quick(rounds=3), build_network("squeezenet1_1", "gem", seed=3), resume=True)
    assert_same_run(tmp_path / "run", whole_run)


def test_a_run_killed_while_saving_resumes_to_the_same_bits(
    tuples: Path, whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The best network of round 2 is written, the checkpoint of round 2 is not, a curve row too many may be there."""
    from retrieval.training import run_folder

    save = run_folder.save_checkpoint

    def killed(path: Path, net: Network, **state: object) -> None:
        if path.name == "last.pt" and state["round"] == 2:
            raise KeyboardInterrupt
        save(path, net, **state)

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "save_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            train(tuples, tmp_path / "run", quick(rounds=3), network())
    with (tmp_path / "run" / "curves.csv").open("a") as file:
        file.write("2,0,0,0,0,0,0,0,0,0\n")
    train(tuples, tmp_path / "run", quick(rounds=3), network(), resume=True)
    assert_same_run(tmp_path / "run", whole_run)


@pytest.mark.parametrize("lost", ["best.pt", "curves.csv"])
def test_what_a_killed_run_did_not_write_is_written_as_it_resumes(
    tuples: Path, whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
):
    """Killed after last.pt of the last round, before the others; nothing but resuming is left to do."""
    shutil.copytree(whole_run, tmp_path / "run")
    (tmp_path / "run" / lost).write_bytes(b"of an earlier round")
    best = load_checkpoint(whole_run / "best.pt")["round"]
    if lost == "best.pt" and best != 3:
        shutil.copy(whole_run / "best.pt", tmp_path / "run")
    train(tuples, tmp_path / "run", quick(rounds=3), network(), resume=True)
    assert_same_run(tmp_path / "run", whole_run)


def test_force_keeps_the_old_run_until_the_new_one_has_a_checkpoint(
    tuples: Path, whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from retrieval.training import run_folder

    def killed(*arguments: object, **state: object) -> None:
        raise KeyboardInterrupt

    shutil.copytree(whole_run, tmp_path / "run")
    monkeypatch.setattr(run_folder, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        train(tuples, tmp_path / "run", quick(rounds=0, seed=1), network(), force=True)
    assert_same_run(tmp_path / "run", whole_run)


def test_a_run_killed_in_its_round_0_starts_anew(tuples: Path, tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    (run / ".last.pt.1-abc.part").write_bytes(b"half")
    train(tuples, run, quick(rounds=0), network())
    assert sorted(file.name for file in run.iterdir() if file.is_file()) == ["best.pt", "curves.csv", "last.pt"]


def test_more_rounds_can_be_added_to_a_finished_run(tuples: Path, whole_run: Path, tmp_path: Path):
    train(tuples, tmp_path / "run", quick(rounds=1), network())
    run = train(tuples, tmp_path / "run", quick(rounds=3), LastRound.read(tmp_path / "run").network(), resume=True)
    assert run.round == 3
    assert same_content(*[dict(load_network(f / "last.pt").state_dict()) for f in (tmp_path / "run", whole_run)])


@pytest.mark.parametrize(
    ("changed", "named"), [({"learning_rate": 5e-4}, "learning_rate 0.0001"), ({"seed": 1}, "seed 0")]
)
def test_resuming_with_another_option_is_refused_by_name(tuples: Path, whole_run: Path, changed: dict, named: str):
    with pytest.raises(UsageError, match=named):
        train(tuples, whole_run, quick(rounds=3, **changed), network(), resume=True)


def test_resuming_with_another_network_or_tuple_file_is_refused(tuples: Path, whole_run: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="pooling gem"):
        train(tuples, whole_run, quick(rounds=3), build_network("squeezenet1_1", "mac"), resume=True)
    other = make_tuples(tmp_path / "other.h5", train_places=6)
    with pytest.raises(UsageError, match="another tuple file"):
        train(other, whole_run, quick(rounds=3), network(), resume=True)


def test_a_folder_that_holds_a_run_is_not_overwritten(tuples: Path, whole_run: Path):
    before = (whole_run / "last.pt").read_bytes()
    with pytest.raises(UsageError, match="holds a run already"):
        train(tuples, whole_run, quick(rounds=3), network())
    assert (whole_run / "last.pt").read_bytes() == before


def test_a_best_network_without_its_run_is_not_overwritten(tuples: Path, whole_run: Path, tmp_path: Path):
    shutil.copy(whole_run / "best.pt", tmp_path / "best.pt")
    with pytest.raises(UsageError, match=r"best\.pt, without its last\.pt"):
        train(tuples, tmp_path, quick(rounds=0), network())


def test_force_replaces_a_run(tuples: Path, tmp_path: Path):
    for seed in (0, 1):
        train(tuples, tmp_path / "run", quick(rounds=0, seed=seed), network(), force=True)
    assert load_checkpoint(tmp_path / "run" / "last.pt")["options"]["seed"] == 1


def test_nothing_to_resume_from_is_said(tuples: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"no last\.pt to resume from"):
        train(tuples, tmp_path, quick(), network(), resume=True)
    with pytest.raises(UsageError, match=r"no last\.pt to resume from"):
        LastRound.read(tmp_path)


def test_a_run_of_which_no_round_is_better_says_so():
    figures = [RoundFigures(r, 0.1, 0.1, 0.1, m, 3.0, 1.0, 0.5, 0.5, 4) for r, m in enumerate([0.5, 0.4, 0.5])]
    run = Run(Path("run"), quick(patience=2), "", "", figures, best_round=0)
    assert (run.best_map, run.stopped_early) == (0.5, True)


# --- the command --------------------------------------------------------------------------------------------------

FLAGS = ["--backbone", "squeezenet1_1", "--image-size", str(SIZE), "--rounds", "1", "--device", "cpu"]


def test_the_command_prints_a_line_a_round_and_what_it_made(tuples: Path, tmp_path: Path):
    run = str(tmp_path / "run")
    result = CliRunner().invoke(command, [str(tuples), "-o", run, *FLAGS], catch_exceptions=False)
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert lines[1].startswith("round 0 (before training): val mAP ")
    assert lines[2].startswith("round 1: loss ")
    assert lines[-2].startswith(f"made {run}/best.pt: the network ")
    assert lines[-1].startswith("next: sfm2tuples whiten ")


def test_the_command_resumes_without_repeating_flags(tuples: Path, tmp_path: Path):
    run = str(tmp_path / "run")
    CliRunner().invoke(command, [str(tuples), "-o", run, *FLAGS], catch_exceptions=False)
    arguments = [str(tuples), "-o", run, "--resume", "--rounds", "2", "--device", "cpu"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert "round 2: loss" in result.stdout
    assert "round 1: loss" not in result.stdout
    with pytest.raises(UsageError, match="recipe small"):
        CliRunner().invoke(command, [*arguments, "--recipe", "eccv16"], catch_exceptions=False)
    with pytest.raises(UsageError, match="leave out --network and --backbone"):
        CliRunner().invoke(command, [*arguments, "--backbone", "squeezenet1_1"], catch_exceptions=False)


def test_an_interruption_says_how_to_go_on(
    tuples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from cli.main import main

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(passes, "describe", interrupted)
    with pytest.raises(SystemExit) as ending:
        main(["train", str(tuples), "-o", str(tmp_path / "run"), *FLAGS])
    assert ending.value.code == 130
    assert f"go on with: sfm2tuples train {tuples} -o {tmp_path / 'run'} --resume" in capsys.readouterr().err
    assert load_checkpoint(tmp_path / "run" / "last.pt")["round"] == 0


def test_a_line_of_a_round_has_no_figure_that_is_not_there():
    """Batches of photos have no loss of tuples to validate by."""
    from cli.commands.train import _line

    numbers = {"learning_rate": 1e-4, "train_loss": 0.5, "gem_p": 3.0, "seconds": 2.0, "queries": 12}
    figures = RoundFigures(
        1, val_loss=math.nan, val_map=0.625, positive_similarity=0.9, negative_similarity=0.1, **numbers
    )
    assert _line(figures, quick()) == "round 1: loss 0.5000 over 12 tuples, val mAP 62.5, 2 s"
    assert _line(dataclasses.replace(figures, round=0), quick()) == "round 0 (before training): val mAP 62.5"
    assert _line(dataclasses.replace(figures, val_loss=0.25), quick()).endswith("val mAP 62.5, val loss 0.2500, 2 s")


@pytest.mark.parametrize("loss", ["triplet", "pml:NTXentLoss", "multi-similarity"])
def test_eps_is_refused_where_the_loss_has_none(loss: str):
    sampling = {"sampling": "graph:3x2"} if loss == "multi-similarity" else {}
    with pytest.raises(UsageError, match=f"loss {loss} has no eps; leave it out"):
        options_from_recipe("squeezenet1_1", loss=loss, eps=1e-6, **sampling)
    assert quick(loss="generalized-contrastive", eps=1e-6).eps == 1e-6
