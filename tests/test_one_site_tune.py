"""`tune` of one place: negatives from inside, a held-out part of it, and no training where no part can be held out."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.networks.choice import NetworkChoice
from retrieval.site import choices
from retrieval.site.choices import Effort, can_train, choose_options
from retrieval.site.effort import Pace, forecast
from retrieval.site.facts import Facts, facts_of
from retrieval.site.request import TuneRequest
from retrieval.site.tuning import Tuned, tune_site
from sfm2tuples.index.opened import open_index
from sfm2tuples.index.schema import VAL
from sfm2tuples.index.splits import LEFT_OUT
from sfm2tuples.mining.tuple_file import read_tuples
from sfm2tuples.world.corridor import write_corridor

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tuned, str]:
    """A corridor of sixteen rooms, one model, tuned for one round."""
    folder = tmp_path_factory.mktemp("one_site")
    write_corridor(folder / "corridor", rooms=16, photos=160, size=(128, 96), seed=3)
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choices, "FROM_RANDOM", {"learning_rate": 1e-4, "rounds": 1})
        request = TuneRequest((folder / "corridor",), folder / "site", NetworkChoice(backbone="alexnet"), device="cpu")
        tuned = tune_site(request, said.append)
    return tuned, "\n".join(said)


def test_one_place_is_trained_on_from_inside(made: tuple[Tuned, str]) -> None:
    tuned, said = made
    assert "1 place: " in said
    assert "held out" in said
    assert tuned.choices.training is not None
    assert (tuned.files.run / "last.pt").is_file()
    tuples = read_tuples(tuned.files.tuples)
    assert tuples.barred is not None
    train = tuples.tuples["train"]
    assert len(train.query)
    for query, negatives in zip(train.query, train.negative, strict=True):
        found = negatives[negatives >= 0]
        assert len(found)
        assert not np.intersect1d(found, tuples.barred.of(int(query))).size


def test_what_is_held_out_is_not_trained_on_and_decides(made: tuple[Tuned, str]) -> None:
    tuned, said = made
    with open_index(tuned.files.index) as index:
        split, key = index.images.split[:], index.images.key[:]
        facts = facts_of(index)
    assert (facts.val_photos, facts.left_out) == tuple(int((split == one).sum()) for one in (VAL, LEFT_OUT))
    assert (facts.places, facts.val_places) == (1, 0)
    assert facts.spots > 1
    tuples = read_tuples(tuned.files.tuples)
    train = tuples.tuples["train"]
    rows = np.unique(np.concatenate([train.query, train.negative.ravel()]))
    used = {tuples.images.key[row] for row in rows[rows >= 0]}
    assert not used & {name for name, side in zip(key, split, strict=True) if side in (VAL, LEFT_OUT)}
    assert tuned.comparison.queries == facts.queries > 0
    assert len(tuned.comparison.rows) == 6
    assert f"{facts.left_out} neither (" in said


def test_every_photo_of_the_place_is_searched(made: tuple[Tuned, str]) -> None:
    assert made[0].photos == 160


def test_amounts_of_one_site_are_gentle() -> None:
    """A round looks at each photo once: 300 photos are 75 tuples of four."""
    facts = Facts(1, 0, 300, 60, 50, 15, 0.2, 280, 1, 640, 0, 20, 30)
    assert not can_train(facts)
    found = choose_options(facts, Effort(4, 2000, 512), "cpu", 0, is_random=False, is_whitened=False)
    assert found.mining.inside
    assert found.training is not None
    assert found.training["learning_rate"] == choices.GENTLE_RATE
    assert any(choice.name == "learning rate" for choice in found.said)
    random = choose_options(facts, Effort(4, 2000, 512), "cpu", 0, is_random=True, is_whitened=False)
    assert random.training is not None
    assert random.training["learning_rate"] == choices.FROM_RANDOM["learning_rate"]
    assert (found.mining.num_queries, found.mining.num_negatives) == (75, 2)
    whole = "300 photos of 20 spots for training, 60 held out, 30 neither (between them, or with few points)"
    assert facts.sentence() == f"1 place: {whole}"
    assert forecast(facts, 0, Effort(4, 2000, 512), Pace(0.05, 0.05)).train > 0
    assert all(choice.reason and choice.value for choice in found.said)


def test_without_a_held_out_part_nothing_is_trained() -> None:
    facts = Facts(1, 0, 300, 0, 0, 15, 0.2, 280, 1, 640, 0, 20)
    assert "nothing can vouch" in can_train(facts)
    found = choose_options(facts, Effort(4, 2000, 512), "cpu", 0, is_random=False, is_whitened=False)
    assert found.training is None
    assert not found.measured
