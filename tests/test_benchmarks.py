"""The field's protocols on made folders: ground truth in each of its forms, what is absent, figures from oracles."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import random_index

from retrieval.evaluation.named_rankings import evaluate_named_rankings, read_rankings
from retrieval.metrics.average_precision import precision_at
from retrieval.metrics.ground_truth import make_ground_truth
from retrieval.metrics.results import evaluate_rankings
from retrieval.photos.labels import read_labels
from retrieval.photos.names import photos_below, short_name
from retrieval.protocols.benchmark import Benchmark, ProtocolChoice, figure, figure_text
from retrieval.protocols.by_name import PROTOCOLS, load_benchmark
from retrieval.protocols.ground_truth_files import find_ground_truth, read_ground_truth
from retrieval.protocols.photo_names import PhotoNames, known_names, names_of, photos_in
from retrieval.protocols.place_recognition import (
    index_positions_benchmark,
    named_positions_benchmark,
)
from sfm2tuples.errors import DataError, UsageError
from sfm2tuples.index.schema import TRAIN, VAL

HERE = Path(__file__).parent
"""A folder that exists, for protocols that look at names only."""
IMLIST = [f"oxford_{i:06d}" for i in range(8)]
GND = [
    {"topic": "tower_1", "bbx": [10.5, 0, 90, 80.25], "ok": [0, 2, 5], "junk": [1]},
    {"topic": "tower_2", "bbx": [0, 0, 50, 50], "ok": [2, 0], "junk": [7, 1]},
    {"topic": "gate_1", "bbx": [1, 2, 3, 4], "ok": [3], "junk": []},
]
ORIGINAL = {"imlist": IMLIST, "qimlist": [IMLIST[0], IMLIST[2], IMLIST[3]], "gnd": GND}
REVISITED = {
    "imlist": IMLIST,
    "qimlist": ["query_a", "query_b"],
    "gnd": [
        {"bbx": [0, 0, 9, 9], "easy": [0, 4], "hard": [2], "junk": [1, 6]},
        {"bbx": [0, 0, 9, 9], "easy": [], "hard": [3, 5], "junk": [7]},
    ],
}


def write_json(folder: Path, values: dict = ORIGINAL, name: str = "oxford5k") -> None:
    (folder / f"{name}.json").write_text(json.dumps(values))


def write_pickle(folder: Path, values: dict = ORIGINAL, name: str = "oxford5k") -> None:
    arrays = [
        {key: np.array(value) if key in ("ok", "easy", "hard", "junk") else value for key, value in entry.items()}
        for entry in values["gnd"]
    ]
    (folder / f"gnd_{name}.pkl").write_bytes(pickle.dumps(values | {"gnd": arrays}))


def write_texts(folder: Path) -> None:
    for query, entry in zip(ORIGINAL["qimlist"], GND, strict=True):
        topic = entry["topic"]
        box = " ".join(str(corner) for corner in entry["bbx"])
        (folder / f"{topic}_query.txt").write_text(f"oxc1_{query} {box}\n")
        good, ok = entry["ok"][:1], entry["ok"][1:]
        for kind, rows in (("good", good), ("ok", ok), ("junk", entry["junk"])):
            (folder / f"{topic}_{kind}.txt").write_text("".join(f"{IMLIST[row]}\n" for row in rows))


def names(*given: str) -> PhotoNames:
    return PhotoNames(list(given), "here")


def made(name: str, data: Path, there: PhotoNames) -> Benchmark:
    return load_benchmark(ProtocolChoice(name, data), lambda: there)


def jpgs(wanted: list[str]) -> PhotoNames:
    return names(*(f"jpg/{name}.jpg" for name in wanted))


def as_sets(benchmark: Benchmark, setup: str) -> list[tuple]:
    """Each query's name, positives and junk by name."""
    truth, database = benchmark.setups[setup], [short_name(name) for name in benchmark.database]
    return [
        (
            short_name(query),
            {database[row] for row in truth.positives_of(number)},
            {database[row] for row in truth.junk_of(number)},
        )
        for number, query in enumerate(benchmark.queries)
    ]


# --- Oxford and Paris -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [write_json, write_pickle, write_texts])
def test_pickle_json_and_texts_are_the_same_ground_truth(tmp_path: Path, write: object) -> None:
    write(tmp_path)
    benchmark = made("oxford5k", tmp_path, jpgs(IMLIST))
    found = {query: (positives, junk) for query, positives, junk in as_sets(benchmark, "oxford5k")}
    assert found == {
        IMLIST[row]: ({IMLIST[p] for p in entry["ok"]}, {IMLIST[j] for j in entry["junk"]})
        for row, entry in zip((0, 2, 3), GND, strict=True)
    }
    assert benchmark.database == [f"jpg/{name}.jpg" for name in IMLIST]
    boxes = dict(zip(benchmark.aliases, benchmark.boxes.tolist(), strict=True))
    assert boxes == {entry["topic"]: entry["bbx"] for entry in GND}
    truth = benchmark.setups["oxford5k"]
    topics = {benchmark.aliases[i]: truth.group_names[g] for i, g in enumerate(truth.groups)}
    assert topics == {"tower_1": "tower", "tower_2": "tower", "gate_1": "gate"}


def test_the_querys_own_image_stays_in_the_database_and_is_right_even_where_a_file_leaves_it_out(
    tmp_path: Path,
) -> None:
    bare = [
        entry | {"ok": [row for row in entry["ok"] if row != own]} for own, entry in zip((0, 2, 3), GND, strict=True)
    ]
    bare[0] = bare[0] | {"junk": [0, 1]}
    write_json(tmp_path, ORIGINAL | {"gnd": bare})
    found = as_sets(made("oxford5k", tmp_path, jpgs(IMLIST)), "oxford5k")
    assert [(q, q in positives, q in junk) for q, positives, junk in found] == [
        (IMLIST[0], True, False), (IMLIST[2], True, False), (IMLIST[3], True, False),
    ]  # fmt: skip


def test_absent_photos_are_counted_and_the_first_named(tmp_path: Path) -> None:
    write_json(tmp_path)
    with pytest.raises(DataError, match="here: 3 of 8 photos of imlist are absent, first oxford_000000, oxford_000006"):
        made("oxford5k", tmp_path, jpgs(IMLIST[1:6]))
    write_json(tmp_path, REVISITED, "roxford5k")
    with pytest.raises(DataError, match="1 of 2 photos of qimlist are absent, first query_b"):
        made("roxford5k", tmp_path, jpgs([*IMLIST, "query_a"]))


def test_photos_lie_in_any_folder_with_any_suffix_and_two_of_one_name_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path)
    mixed = names(*IMLIST[:3], *(f"a/b/{name}.JPG" for name in IMLIST[3:]), "other/photo.jpg")
    database = made("oxford5k", tmp_path, mixed).database
    assert database == list(mixed.database[:8])
    with pytest.raises(DataError, match=r"2 photos are called oxford_000003: x/oxford_000003.jpg, y/oxford_000003.png"):
        made("oxford5k", tmp_path, names(*IMLIST[:3], "x/oxford_000003.jpg", "y/oxford_000003.png"))


def test_with_texts_every_photo_is_in_the_database_and_corrupt_ones_of_paris_are_not(tmp_path: Path) -> None:
    write_texts(tmp_path)
    more = [*IMLIST, "paris_louvre_000136", "paris_louvre_000137"]
    paris = made("paris6k", tmp_path, jpgs(more))
    assert {short_name(name) for name in paris.database} == {*IMLIST, "paris_louvre_000137"}
    assert paris.notes == ("1 corrupt photo of Paris is left out",)
    assert len(made("oxford5k", tmp_path, jpgs(more)).database) == 10


def test_descriptors_of_queries_may_be_in_a_file_of_their_own(tmp_path: Path) -> None:
    write_json(tmp_path, REVISITED, "rparis6k")
    both = PhotoNames(IMLIST, "here", ["q/query_a.jpg", "q/query_b.jpg"])
    benchmark = made("rparis6k", tmp_path, both)
    assert (benchmark.queries, benchmark.database) == (["q/query_a.jpg", "q/query_b.jpg"], IMLIST)


@pytest.mark.parametrize("write", [write_json, write_pickle])
def test_easy_medium_and_hard_are_as_published(tmp_path: Path, write: object) -> None:
    write(tmp_path, REVISITED, "roxford5k")
    benchmark = made("roxford5k", tmp_path, jpgs([*IMLIST, "query_a", "query_b"]))
    for setup in ("easy", "medium", "hard"):
        for (_, positives, junk), entry in zip(as_sets(benchmark, setup), REVISITED["gnd"], strict=True):
            right, beside = oracles.revisited_lists(entry, setup)
            assert (positives, junk) == ({IMLIST[row] for row in right}, {IMLIST[row] for row in beside})
    assert not {"query_a", "query_b"} & {short_name(name) for name in benchmark.database}


def test_revisited_figures_leave_out_queries_without_positives_in_a_setup(tmp_path: Path) -> None:
    write_json(tmp_path, REVISITED, "roxford5k")
    benchmark = made("roxford5k", tmp_path, names(*IMLIST, "query_a", "query_b"))
    draw = np.random.default_rng(3)
    rankings = [draw.permutation(8)[:6] for _ in range(2)]
    for setup, truth in benchmark.setups.items():
        evaluation = evaluate_rankings(rankings, truth, 8)
        expected = {name: [] for name in benchmark.measures}
        for ranking, entry in zip(rankings, REVISITED["gnd"], strict=True):
            right, beside = oracles.revisited_lists(entry, setup)
            if right:
                case = ranking.tolist(), right, beside
                expected["mAP"].append(oracles.average_precision_by_walking(*case))
                for k in (1, 5, 10):
                    expected[f"mP@{k}"].append(oracles.precision_at_by_walking(*case, k))
        for name, values in expected.items():
            assert figure(name, evaluation) == pytest.approx(np.mean(values), abs=1e-12)
    assert evaluate_rankings(rankings, benchmark.setups["easy"], 8).n_left_out == 1


def test_ground_truth_is_found_below_the_folder_pickle_first(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no ground truth of oxford5k; put gnd_oxford5k.pkl"):
        find_ground_truth(tmp_path, "oxford5k", True)
    with pytest.raises(DataError, match="no such folder"):
        find_ground_truth(tmp_path / "absent", "oxford5k", True)
    (tmp_path / "gt").mkdir()
    write_texts(tmp_path / "gt")
    assert find_ground_truth(tmp_path, "oxford5k", True) == tmp_path / "gt"
    with pytest.raises(DataError, match="holds no ground truth of roxford5k"):
        find_ground_truth(tmp_path, "roxford5k", False)
    write_json(tmp_path)
    assert find_ground_truth(tmp_path, "oxford5k", True).name == "oxford5k.json"
    write_pickle(tmp_path / "gt")
    assert find_ground_truth(tmp_path, "oxford5k", True).name == "gnd_oxford5k.pkl"
    assert find_ground_truth(tmp_path / "oxford5k.json", "oxford5k", True) == tmp_path / "oxford5k.json"


def test_one_photo_is_not_taken_for_two_whose_names_end_alike() -> None:
    there = PhotoNames(["x/1.jpg", "x/2.jpg"], "features.h5")
    assert names_of(["a/1.jpg", "a/2.jpg", "a/1.jpg"], there, "the protocol") == ["x/1.jpg", "x/2.jpg", "x/1.jpg"]
    with pytest.raises(DataError, match=r"features.h5: its x/1.jpg would be both a/1.jpg and b/1.jpg of the protocol"):
        names_of(["a/1.jpg", "b/1.jpg"], there, "the protocol")


FAULTS = {
    "no imlist, gnd": {"qimlist": []},
    "is no dict": [1, 2],
    "2 queries in qimlist, but 3 entries of gnd": ORIGINAL | {"qimlist": IMLIST[:2]},
    "ok names row 8 of an imlist of 8": ORIGINAL | {"gnd": [GND[0] | {"ok": [8]}, *GND[1:]]},
    "junk names row -1 of an imlist of 8, numbered from 0": ORIGINAL | {"gnd": [GND[0] | {"junk": [-1, 1]}, *GND[1:]]},
    "ok holds something else than rows": ORIGINAL | {"gnd": [GND[0] | {"ok": ["a"]}, *GND[1:]]},
    "ok is no list": ORIGINAL | {"gnd": [GND[0] | {"ok": 3}, *GND[1:]]},
    "3 queries have no box with an area": ORIGINAL | {
        "gnd": [entry | {"bbx": box} for entry, box in zip(GND, ([5, 5, 5, 9], 0, [1, 2, "x", 4]), strict=True)]
    },
    "1 query is not in imlist, first stranger": ORIGINAL | {"qimlist": [*IMLIST[:2], "stranger"]},
    "has no lists of ok images": REVISITED,
}  # fmt: skip


@pytest.mark.parametrize("said", FAULTS)
def test_each_fault_of_ground_truth_is_one_line(tmp_path: Path, said: str) -> None:
    write_json(tmp_path, FAULTS[said])
    with pytest.raises(DataError, match=said) as caught:
        made("oxford5k", tmp_path, jpgs([*IMLIST, "query_a", "query_b"]))
    assert "\n" not in str(caught.value)


def test_torn_json_texts_and_hostile_pickles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "oxford5k.json").write_text('{"imlist": [')
    with pytest.raises(DataError, match="is no JSON"):
        read_ground_truth(tmp_path / "oxford5k.json")

    class Hostile:
        def __reduce__(self) -> tuple:
            return print, ("this must not run",)

    (tmp_path / "gnd_oxford5k.pkl").write_bytes(pickle.dumps({"imlist": Hostile(), "qimlist": [], "gnd": []}))
    with pytest.raises(DataError, match="print; nothing of it was run"):
        read_ground_truth(tmp_path / "gnd_oxford5k.pkl")
    write_texts(tmp_path)
    (tmp_path / "gate_1_junk.txt").unlink()
    with pytest.raises(DataError, match=r"gate_1_junk\.txt: no such file"):
        read_ground_truth(tmp_path)
    (tmp_path / "gate_1_query.txt").write_text("oxc1_all 1 2 3")
    with pytest.raises(DataError, match="4 words, not a name and four numbers"):
        read_ground_truth(tmp_path)


def test_revisited_queries_in_the_database_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path, REVISITED | {"qimlist": ["query_a", IMLIST[0]]}, "roxford5k")
    with pytest.raises(DataError, match="1 query is in imlist too"):
        made("roxford5k", tmp_path, names(*IMLIST, "query_a"))


# --- Holidays and UKBench ---------------------------------------------------------------------------------------------

HOLIDAYS = [100000, 100001, 100002, 100100, 100101, 100201, 100300]


def test_holidays_equals_its_published_program_on_a_partial_download() -> None:
    available = names(*(f"jpg/{number}.jpg" for number in HOLIDAYS), "jpg/readme.jpg", "other/123.jpg")
    benchmark = made("holidays", HERE, available)
    assert [short_name(name) for name in benchmark.database] == [str(number) for number in HOLIDAYS]
    assert [short_name(name) for name in benchmark.queries] == ["100000", "100100", "100300"]
    draw = np.random.default_rng(0)
    rankings = [draw.permutation(7) for _ in range(3)]
    evaluation = evaluate_rankings(rankings, benchmark.setups["holidays"], 7)
    expected = [
        oracles.holidays_average_precision(query, [HOLIDAYS[row] for row in ranking], HOLIDAYS)
        for query, ranking in zip((100000, 100100), rankings, strict=False)
    ]
    assert evaluation.mean_over_queries == pytest.approx(np.mean(expected), abs=1e-12)
    assert evaluation.n_left_out == 1
    assert benchmark.notes == (
        "1,484 of 1,491 photos of Holidays are absent; 3 of 500 queries are there",
        "1 group has no query and serves as distractors",
        "2 photos of another name are left out",
    )


def test_a_query_of_holidays_is_no_answer_to_itself_but_to_others() -> None:
    benchmark = made("holidays", HERE, names("100000.jpg", "100001.jpg", "100100.jpg", "100101.jpg"))
    evaluation = evaluate_rankings([np.array([0, 2, 1, 3]), np.array([2, 0, 3, 1])], benchmark.setups["holidays"], 4)
    assert evaluation.average_precision.tolist() == [0.25, 0.25]


def test_ukbench_counts_the_objects_photos_among_the_first_four() -> None:
    numbers = [0, 1, 2, 3, 4, 5, 6, 7, 9]
    benchmark = made("ukbench", HERE, names(*(f"full/ukbench{number:05d}.jpg" for number in numbers)))
    assert [int(name[-9:-4]) for name in benchmark.queries] == numbers[:8]
    draw = np.random.default_rng(1)
    rankings = [draw.permutation(9) for _ in range(8)]
    evaluation = evaluate_rankings(rankings, benchmark.setups["ukbench"], 9)
    expected = oracles.ukbench_score({q: [numbers[row] for row in r] for q, r in zip(numbers, rankings, strict=False)})
    assert figure("N-S", evaluation) == pytest.approx(expected, abs=1e-12)
    assert benchmark.notes[1] == "1 of 3 objects have not all four photos and serve as distractors"
    perfect = evaluate_rankings([np.argsort(np.abs(np.array(numbers) // 4 - q // 4)) for q in range(8)],
                                benchmark.setups["ukbench"], 9)  # fmt: skip
    assert figure("N-S", perfect) == 4.0


def test_photos_of_other_names_and_doubled_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="no photo has the name that the protocol expects"):
        made("ukbench", HERE, names("a.jpg"))
    with pytest.raises(DataError, match=r"1 photo has the number of another, first b/100000\.jpg"):
        made("holidays", HERE, names("a/100000.jpg", "b/100000.jpg"))


# --- place recognition ------------------------------------------------------------------------------------------------


def utm(folder: str, position: tuple[float, float], tail: str = "") -> str:
    return f"{folder}@{position[0]:.2f}@{position[1]:.2f}@32@T@{tail}@.jpg"


@pytest.mark.parametrize("together", [False, True])
def test_recall_by_position_equals_its_definition(together: bool) -> None:
    draw = np.random.default_rng(2)
    database = [tuple(p) for p in np.round(draw.uniform(0, 100, (30, 2)), 2).tolist()]
    queries = database if together else [tuple(p) for p in np.round(draw.uniform(0, 100, (12, 2)), 2).tolist()]
    folders = ("", "") if together else ("test/queries/", "test/database/")
    given = list(dict.fromkeys([utm(folders[0], p) for p in queries] + [utm(folders[1], p) for p in database]))
    benchmark = named_positions_benchmark(names(*given), 15.0)
    assert (len(benchmark.queries), len(benchmark.database)) == (len(queries), 30)
    rankings = [draw.permutation(30) for _ in queries]
    evaluation = evaluate_rankings(rankings, benchmark.setups["place-recognition"], 30)
    assert 0 < evaluation.n_left_out < len(queries) or together
    own = list(range(30)) if together else [None] * 12
    lists = [ranking.tolist() for ranking in rankings]
    for n in (1, 5, 10, 20):
        expected = oracles.recall_at(lists, queries, database, own, 15.0, n)
        assert figure(f"recall@{n}", evaluation) == pytest.approx(expected, abs=1e-12)


def test_queries_and_database_may_be_two_files_and_names_need_positions() -> None:
    two = PhotoNames([utm("", (0, 0)), utm("", (100, 0))], "here", [utm("", (1, 0), "q")])
    truth = named_positions_benchmark(two).setups["place-recognition"]
    assert truth.positives_of(0).tolist() == [0]
    with pytest.raises(DataError, match=r"1 of 2 names hold no position, first plain\.jpg"):
        named_positions_benchmark(names("plain.jpg", utm("", (0, 0))))
    with pytest.raises(DataError, match="1 queries and 0 photos of a database"):
        named_positions_benchmark(names(utm("queries/", (0, 0))))
    with pytest.raises(UsageError, match="distance must be positive"):
        named_positions_benchmark(names(utm("", (0, 0))), -1)


def test_two_files_may_name_query_and_answer_alike() -> None:
    """AmsterTime and SPED do: the answer of each query has its own name, in another folder."""
    alike = [utm("", (0, 0)), utm("", (100, 0))]
    truth = named_positions_benchmark(PhotoNames(alike, "here", alike)).setups["place-recognition"]
    assert [truth.positives_of(q).tolist() for q in (0, 1)] == [[0], [1]]
    assert len(truth.junk) == 0
    known = named_positions_benchmark(PhotoNames(alike, "here", alike, frozenset(alike[:1])))
    assert [known.setups["place-recognition"].positives_of(q).tolist() for q in (0, 1)] == [[], [1]]
    together = named_positions_benchmark(names(*alike)).setups["place-recognition"]
    assert together.junk.tolist() == [0, 1]


def test_positions_of_an_index_compare_within_a_model_and_the_rest_of_the_place_is_junk() -> None:
    """Two models of one place, one of another; images 2 and 5 are one photo."""
    index = random_index(np.random.default_rng(0), (3, 3, 2), (0, 0, 1), val=0)
    draw = np.random.default_rng(1)
    quaternion = draw.normal(size=(8, 4))
    centres = np.array([[x, 0, 0] for x in (0.0, 1, 9, 0, 9, 10, 0, 0.5)])
    rotations = [oracles.rotation_matrix(q / np.linalg.norm(q)) for q in quaternion]
    translation = np.array([-np.array(r) @ c for r, c in zip(rotations, centres, strict=True)])
    photo = np.array([0, 1, 2, 3, 4, 2, 6, 7])
    images = replace(index.images, quaternion=quaternion, translation=translation, photo=photo)
    keys, index = index.images.key, replace(index, images=images).opened()
    np.testing.assert_allclose(index.centres(), centres, atol=1e-12)
    benchmark = index_positions_benchmark(index, TRAIN, 3.0, 2.0)
    truth = benchmark.setups["place-recognition"]
    kept = [0, 1, 2, 3, 4, 6, 7]
    assert benchmark.queries == [keys[row] for row in kept]
    right = {kept[i]: {kept[p] for p in truth.positives_of(i)} for i in range(7)}
    junk = {kept[i]: {kept[p] for p in truth.junk_of(i)} for i in range(7)}
    # 3 metres are 1.5 units: 0 and 1, 4 and 5 (which is photo 2), 6 and 7.
    assert right == {0: {1}, 1: {0}, 2: {4}, 3: set(), 4: {2}, 6: {7}, 7: {6}}
    assert junk == {0: {0, 3, 4}, 1: {1, 3, 4}, 2: {2}, 3: {0, 1, 3}, 4: {0, 1, 4}, 6: {6}, 7: {7}}
    with pytest.raises(UsageError, match="the split has no photos"):
        index_positions_benchmark(index, VAL)
    with pytest.raises(UsageError, match="length of a unit must be positive"):
        index_positions_benchmark(index, TRAIN, unit_length=0)


# --- labelled folders, names, rankings --------------------------------------------------------------------------------


def test_sub_folders_are_labels_and_distractors_are_never_right(tmp_path: Path) -> None:
    for name in ("taj/a.jpg", "taj/deep/b.jpg", "petra/a.jpg", "distractors/x.jpg", "loose.jpg", ".hidden/y.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    labels = read_labels(tmp_path)
    assert list(zip(labels.images, labels.labels, labels.roles, strict=True)) == [
        ("distractors/x.jpg", "distractors", "distractor"),
        ("petra/a.jpg", "petra", "query"),
        ("taj/a.jpg", "taj", "query"),
        ("taj/deep/b.jpg", "taj", "query"),
    ]
    assert photos_below(tmp_path)[-1] == "taj/deep/b.jpg"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no photos in sub-folders"):
        read_labels(tmp_path / "empty")


def test_a_protocol_without_photos_or_of_no_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no photos of holidays"):
        photos_in(ProtocolChoice("holidays", tmp_path))
    for look in (photos_in, lambda choice: known_names(choice, [], "ranks")):
        with pytest.raises(DataError, match="no such file or folder"):
            look(ProtocolChoice("holidays", tmp_path / "absent"))
    with pytest.raises(UsageError, match="no protocol is called mnist; there are sfm, labels, oxford5k"):
        load_benchmark(ProtocolChoice("mnist", tmp_path), names)
    with pytest.raises(DataError, match="no such file or folder"):
        load_benchmark(ProtocolChoice("sfm", tmp_path / "i.h5"), names)
    (tmp_path / "x.txt").touch()
    with pytest.raises(DataError, match="neither an index nor a folder"):
        load_benchmark(ProtocolChoice("place-recognition", tmp_path / "x.txt"), names)
    assert len(PROTOCOLS) == len(set(PROTOCOLS)) == 9


def test_rankings_are_read_from_a_folder_and_from_lines(tmp_path: Path) -> None:
    (tmp_path / "ranks").mkdir()
    (tmp_path / "ranks" / "tower_1.txt").write_text("b c.jpg\na.jpg\n\nb c.jpg\n")
    assert read_rankings(tmp_path / "ranks") == {"tower_1": ["b c.jpg", "a.jpg"]}
    (tmp_path / "pairs.txt").write_text("q1 a\nq2 c d\nq1 b a\n")
    assert read_rankings(tmp_path / "pairs.txt") == {"q1": ["a", "b"], "q2": ["c", "d"]}
    (tmp_path / "odd.txt").write_text("q1 a\nq2\n")
    with pytest.raises(DataError, match="line 2 names a query and nothing ranked"):
        read_rankings(tmp_path / "odd.txt")
    (tmp_path / "none.txt").touch()
    with pytest.raises(DataError, match="holds no ranking"):
        read_rankings(tmp_path / "none.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="is no text"):
        read_rankings(tmp_path / "binary.txt")
    with pytest.raises(DataError, match="no such file or folder"):
        read_rankings(tmp_path / "absent")


def test_ranked_names_are_found_by_topic_or_query_and_strangers_are_wrong(tmp_path: Path) -> None:
    write_json(tmp_path)
    rankings = {
        "tower_1": [IMLIST[1], "stranger", f"x/{IMLIST[2]}.jpg", IMLIST[2], IMLIST[0]],
        f"q/{IMLIST[2]}.jpg": [IMLIST[2], IMLIST[0]],
        IMLIST[3]: ["stranger", IMLIST[3]],
    }
    choice = ProtocolChoice("oxford5k", tmp_path)
    ranked = [name for found in rankings.values() for name in found]
    benchmark = load_benchmark(choice, lambda: known_names(choice, ranked, "ranks"))
    evaluations, notes = evaluate_named_rankings(rankings, benchmark, "ranks")
    positives = [[0, 2, 5], [2, 0], [3]]
    lists = [[1, 8, 2, 0], [2, 0], [8, 3]]
    expected = [oracles.average_precision_by_walking(r, p, [1, 7]) for r, p in zip(lists, positives, strict=True)]
    assert evaluations["oxford5k"].average_precision.tolist() == pytest.approx(expected, abs=1e-12)
    assert evaluations["oxford5k"].as_dict()["per_query"][0]["top"] == ["stranger", IMLIST[2], IMLIST[0]]
    assert notes == ["1 ranked name is not in the ground truth's lists and is held to be wrong"]
    del rankings[IMLIST[3]]
    twice = rankings | {f"{folder}/{IMLIST[3]}.jpg": ["x"] for folder in ("a", "b")}
    with pytest.raises(DataError, match="ranks: 2 photos are called oxford_000003: a/oxford_000003"):
        evaluate_named_rankings(twice, benchmark, "ranks")
    with pytest.raises(DataError, match="ranks: 1 of 3 queries have no ranking, first oxford_000003"):
        evaluate_named_rankings(rankings, benchmark, "ranks")
    for names, said in ((["x", "y"], "known to the protocol, first x, y"), ([], "ranks nothing for any query")):
        with pytest.raises(DataError, match=said):
            evaluate_named_rankings(dict.fromkeys(benchmark.aliases, names), benchmark, "ranks")
    evaluate_named_rankings(dict(zip(benchmark.aliases, ([], ["x"], [IMLIST[0]]), strict=True)), benchmark, "ranks")


@given(st.data())
def test_figures_equal_a_walk_on_any_truncated_ranking(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    kinds = data.draw(st.lists(st.sampled_from("pjn"), min_size=count, max_size=count))
    ranking = data.draw(st.permutations(range(count)))[: data.draw(st.integers(0, count))]
    positives = [row for row, kind in enumerate(kinds) if kind == "p"]
    junk = [row for row, kind in enumerate(kinds) if kind == "j"]
    truth = make_ground_truth(np.array([0]), [np.array(positives)], [np.array(junk)], np.array([0]), ["g"])
    evaluation = evaluate_rankings([np.array(ranking, np.int64)], truth, count)
    expected = oracles.average_precision_by_walking(ranking, positives, junk)
    assert evaluation.average_precision[0] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    for k in (1, 5, 10):
        assert precision_at(evaluation.ranks_of(0), k) == pytest.approx(
            oracles.precision_at_by_walking(ranking, positives, junk, k), abs=1e-12
        )


def test_figures_are_written_as_people_read_them() -> None:
    assert [figure_text("mAP", 0.66321), figure_text("N-S", 3.5), figure_text("mAP", float("nan"))] == [
        "66.32", "3.500", "-",
    ]  # fmt: skip
    truth = make_ground_truth(np.array([0]), [np.array([0])], [np.array([])], np.array([0]), ["g"])
    with pytest.raises(UsageError, match="no figure is called F1"):
        figure("F1", evaluate_rankings([np.array([0])], truth, 1))


def test_val_and_test_below_one_folder_are_not_one_set() -> None:
    both = [
        f"images/{split}/{side}/@{x}@{y}@.jpg"
        for split in ("val", "test")
        for side in ("queries", "database")
        for x, y in ((0, 0), (9, 0))
    ]
    with pytest.raises(UsageError, match=r"2 sets of queries and database, images/test, images/val; give the folder"):
        named_positions_benchmark(PhotoNames(both, "data"))
    with pytest.raises(UsageError, match=r"2 sets of queries and database, \., train; give the folder"):
        named_positions_benchmark(
            PhotoNames(["queries/@0@0@.jpg", "database/@0@0@.jpg", "train/database/@0@0@.jpg"], "data")
        )
    one = named_positions_benchmark(PhotoNames(both[:4], "data"))
    assert (len(one.queries), len(one.database)) == (2, 2)
    apart = named_positions_benchmark(PhotoNames(["day/queries/@0@0@.jpg", "all/database/@0@0@.jpg"], "data"))
    assert (len(apart.queries), len(apart.database)) == (1, 1)
