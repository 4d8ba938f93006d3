"""docs/formats.md says what the writers write."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from retrieval.evaluation.evaluation_file import VERSION, PhotoFolders
from retrieval.evaluation.localisability import Localisability
from retrieval.evaluation.measurement import Measurement
from retrieval.local_features.bag_of_words import learn_bag_of_words, write_bag_of_words
from retrieval.local_features.feature_files import write_features
from retrieval.local_features.vocabulary import WordOptions
from retrieval.localisation.options import parse_thresholds
from retrieval.metrics.ground_truth import make_ground_truth
from retrieval.metrics.results import evaluate_descriptors
from retrieval.search.ranks_file import Ranks, write_ranks
from retrieval.whitening.learning import learn_pca
from retrieval.whitening.projection import write_whitening
from sfm2tuples.files.container import create_file, read_header
from sfm2tuples.files.descriptors import Descriptors, write_descriptors
from sfm2tuples.ingest.build import IngestOptions, build_index
from sfm2tuples.mining.options import MiningOptions
from sfm2tuples.mining.photo_table import tables_of_index
from sfm2tuples.mining.rounds import choose_tuples, plan_round
from sfm2tuples.mining.tuple_file import write_tuples
from tests.hand_made import write_scene
from tests.textures import made_features
from tests.worlds import random_index, unit_rows, with_inside, write_whole

OPTIONAL = ("/inside/", "/spots/")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "formats.md"


def documented(format: str) -> dict[str, str]:
    """Dataset to type, from the section of a format."""
    section = PAGE.read_text(encoding="utf-8").split(f"`{format}`, version", 1)[1].split("\n## ", 1)[0]
    return dict(re.findall(r"^\| `(/[^`]+)` \| (\w+) \|", section, re.MULTILINE))


def written(path: Path) -> dict[str, str]:
    """Dataset to type, as in a file; a string column counts as one."""
    found: dict[str, str] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            column, _, last = f"/{name}".rpartition("/")
            if last in ("utf8", "offsets"):
                found[column] = "string"
            else:
                found[f"/{name}"] = item.dtype.name

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


@pytest.fixture
def index_and_tuples(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    index = random_index(rng, (6,) * 8, tuple(range(8)), val=2)
    for scene in ("a", "b"):
        write_scene(tmp_path / "models", scene, {f"{i}.jpg": f"{scene}{i}".encode() for i in range(3)})
    build_index([tmp_path / "models"], tmp_path / "index.h5", IngestOptions(inside=False))
    options = MiningOptions(
        num_negatives=2, min_overlap=0.0, max_scale_change=100.0, query_share=1.0, across="[0-4].jpg"
    )
    tables = tables_of_index(index.opened(), options, lambda path: (640, 480))
    mined = {}
    for split in ("train", "val"):
        plan = plan_round(tables.images, tables.places, tables.candidates[split], options, split, 0)
        values = unit_rows(rng, len(plan.rows_needed), 8)
        mined[split] = choose_tuples(plan, values, tables.images, tables.candidates[split], options)
    photos = [b"jpeg"] * len(tables.images.key)
    target = tmp_path / "tuples.h5"
    write_tuples(target, tables.images, tables.places, mined, tables.candidates, {}, [], photos, 362)
    return tmp_path / "index.h5", target


def test_the_index_is_as_documented(index_and_tuples: tuple[Path, Path]) -> None:
    everything = documented("sfm2tuples-index")
    assert written(index_and_tuples[0]) == {n: k for n, k in everything.items() if not n.startswith(OPTIONAL)}


def test_an_index_of_one_site_is_as_documented(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    write_whole(tmp_path / "index.h5", with_inside(rng, random_index(rng, (6, 7), (0, 0))))
    assert written(tmp_path / "index.h5") == documented("sfm2tuples-index")


def test_the_tuple_file_is_as_documented(index_and_tuples: tuple[Path, Path]) -> None:
    train = {name: kind for name, kind in written(index_and_tuples[1]).items() if not name.startswith("/val")}
    assert train == {n: k for n, k in documented("sfm2tuples-tuples").items() if not n.startswith("/barred/")}


def test_what_is_barred_is_as_documented(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    index, options = (
        with_inside(rng, random_index(rng, (16, 7), (0, 0)), 4),
        MiningOptions(inside=True, min_overlap=0.0),
    )
    tables = tables_of_index(index.opened(), options, lambda path: (640, 480))
    none = replace(options, negatives="random")
    mined = {}
    for split in ("train", "val"):
        of_split = tables.candidates[split], none
        plan = plan_round(tables.images, tables.places, *of_split, split, 0, tables.barred)
        mined[split] = choose_tuples(plan, None, tables.images, *of_split, barred=tables.barred)
    target = tmp_path / "tuples.h5"
    write_tuples(target, tables.images, tables.places, mined, tables.candidates, {}, [], barred=tables.barred)
    found = {name: kind for name, kind in written(target).items() if name.startswith("/barred/")}
    assert found == {n: k for n, k in documented("sfm2tuples-tuples").items() if n.startswith("/barred/")}


def test_val_has_the_datasets_of_train(index_and_tuples: tuple[Path, Path]) -> None:
    found = written(index_and_tuples[1])
    of = {s: {n[len(s) :]: k for n, k in found.items() if n.startswith(s)} for s in ("/val", "/train")}
    assert of["/val"] == of["/train"]


def test_descriptors_and_whitening_are_as_documented(tmp_path: Path) -> None:
    values = unit_rows(np.random.default_rng(0), 10, 4)
    write_descriptors(tmp_path / "d.h5", Descriptors([str(i) for i in range(10)], values))
    write_whitening(tmp_path / "w.h5", learn_pca(values))
    assert written(tmp_path / "d.h5") == documented("sfm2tuples-descriptors")
    assert written(tmp_path / "w.h5") == documented("sfm2tuples-whitening")


def test_ranks_are_as_documented(tmp_path: Path) -> None:
    ranks = Ranks(["q"], ["a"], np.array([[0]]), np.ones((1, 1), np.float32), inliers=np.array([[9]]))
    write_ranks(tmp_path / "r.h5", ranks)
    assert written(tmp_path / "r.h5") == documented("sfm2tuples-ranks")


def test_features_and_bags_of_words_are_as_documented(tmp_path: Path) -> None:
    features = made_features(np.random.default_rng(0), (3, 4))
    write_features(tmp_path / "f.h5", features)
    write_bag_of_words(tmp_path / "b.h5", learn_bag_of_words(features, WordOptions(2)))
    assert written(tmp_path / "f.h5") == documented("sfm2tuples-features")
    assert written(tmp_path / "b.h5") == documented("sfm2tuples-bow")


def test_an_evaluation_is_as_documented() -> None:
    rows = unit_rows(np.random.default_rng(0), 4, 3)
    positives, own = [np.array([2]), np.array([], np.int64)], [np.array([0]), np.array([1])]
    truth = make_ground_truth(np.arange(2), positives, own, np.zeros(2), ["place"])
    found = replace(evaluate_descriptors(rows[:2], rows, truth), boxes=np.zeros((2, 4)))
    counts, ranks = np.ones(2, np.int64), np.zeros((2, 3), np.int64)
    held = Localisability(parse_thresholds(None), counts, np.ones((2, 20), np.int64), counts, ranks)
    keys: set[str] = set()
    for setups in (["one"], ["easy", "hard"]):
        evaluations = dict.fromkeys(setups, found)
        measured = Measurement("labels", evaluations, ("recall@1",), {}, (), (), (), PhotoFolders(Path()))
        whole = replace(measured, localisability=dict.fromkeys(setups, held)).as_dict()
        keys |= set(whole) | set(whole.get("per_query", [{}])[0])
    section = PAGE.read_text(encoding="utf-8").split("`sfm2tuples-evaluation`, version ", 1)[1].split("\n## ", 1)[0]
    first_columns = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert keys == set(re.findall(r"`(\w+)`", " ".join(first_columns)))
    assert section.startswith(f"{VERSION}\n")


def test_the_tables_are_those_that_the_dataclasses_print() -> None:
    from docs.schema_tables import BARRED, INDEX, INSIDE, TUPLES, table

    page = PAGE.read_text(encoding="utf-8")
    assert table(INDEX) in page
    assert table(INSIDE) in page
    assert table(TUPLES) in page
    assert table(BARRED) in page


def test_a_files_parents_are_named_once_and_files_of_others_have_none(tmp_path: Path) -> None:
    with create_file(tmp_path / "a.h5", "sfm2tuples-test", 1, {}, ["b" * 64, "", "a" * 64, "b" * 64]):
        pass
    assert read_header(tmp_path / "a.h5").parents == ("b" * 64, "a" * 64)
