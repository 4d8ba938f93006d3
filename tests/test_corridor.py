"""A row of rooms that look the same: what the model proves against what the renderer knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sfm2tuples.errors import UsageError
from sfm2tuples.index.opened import open_index
from sfm2tuples.ingest.build import build_index
from sfm2tuples.ingest.options import IngestOptions
from sfm2tuples.relations.site import relations_of
from sfm2tuples.world.corridor import LONG, make_corridor, write_corridor

PHOTOS, ROOMS = 64, 8


@dataclass(frozen=True)
class Pairs:
    """Each pair of photos of a corridor once."""

    apart: np.ndarray
    """The renderer's truth: no patch of surface is in both photos."""
    proven: np.ndarray
    shares_points: np.ndarray
    both_take_part: np.ndarray


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    folder = tmp_path_factory.mktemp("corridor")
    made = write_corridor(folder / "site", rooms=ROOMS, photos=PHOTOS, size=(128, 96), seed=3)
    build_index([folder / "site"], folder / "index.h5", IngestOptions())
    common = np.array([[len(np.intersect1d(a, b)) for b in made.patches] for a in made.patches])
    first, second = np.triu_indices(PHOTOS, 1)
    with open_index(folder / "index.h5") as index:
        relations, inside = relations_of(index), index.inside
        assert relations is not None
        assert inside is not None
        assert index.num_images == PHOTOS
        takes_part = inside.takes_part[:]
        shares = index.covisibility().toarray() > 0
    return Pairs(
        common[first, second] == 0,
        relations.is_proven(first, second),
        shares[first, second],
        takes_part[first] & takes_part[second],
    )


def test_every_proven_negative_is_one(pairs: Pairs) -> None:
    assert pairs.proven.sum() > 150
    assert pairs.apart[pairs.proven].all()


def test_a_good_part_of_the_negatives_is_proven(pairs: Pairs) -> None:
    found = pairs.proven & pairs.apart
    assert found.sum() / (pairs.apart & pairs.both_take_part).sum() > 0.2


def test_without_the_proof_some_negatives_would_be_false(pairs: Pairs) -> None:
    """Photos that share no point, which many pipelines take as negatives, show the same surface here and there."""
    assert not pairs.apart[~pairs.shares_points & pairs.both_take_part].all()


def test_the_rooms_look_the_same() -> None:
    corridor = make_corridor(np.random.default_rng(0), 5)
    rooms = np.floor(corridor.panels["corner"][:, 0] / LONG - 1e-6)
    sides = [set(corridor.panels["texture"][(rooms == room)].tolist()) for room in range(1, 4)]
    assert sides[0] == sides[1] == sides[2]


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_corridor(tmp_path / name, rooms=2, photos=8, size=(64, 64), seed=1)
    files = [sorted(p.relative_to(tmp_path / n) for p in (tmp_path / n).rglob("*") if p.is_file()) for n in ("a", "b")]
    assert files[0] == files[1]
    for file in files[0]:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        write_corridor(tmp_path / "a")
