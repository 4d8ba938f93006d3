"""The protocols' ground truth, against sets made from the definition."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import oracles
import pytest
from worlds import Index, of_split, random_index, table_of, write_whole

from retrieval.evaluation.measurement import measure
from retrieval.evaluation.request import EvaluationRequest
from retrieval.metrics.results import Evaluation
from retrieval.photos.labels import Labels, read_labels
from retrieval.protocols.benchmark import ProtocolChoice
from retrieval.protocols.labels import labels_ground_truth
from retrieval.protocols.sfm import SfmTruth, sfm_ground_truth, tuples_ground_truth
from sfm2tuples.errors import DataError, UsageError
from sfm2tuples.files.columns import gather_rows, indptr_of
from sfm2tuples.files.container import Header
from sfm2tuples.files.descriptors import Descriptors, write_descriptors
from sfm2tuples.index.schema import VAL
from sfm2tuples.mining.options import MiningOptions
from sfm2tuples.mining.positives import find_candidates
from sfm2tuples.mining.tuple_file import TupleFile

TABLE = [
    ("taj/1.jpg", "taj", "query"),
    ("taj/2.jpg", "taj", "query"),
    ("taj/3.jpg", "taj", "database"),
    ("petra/1.jpg", "petra", "query"),
    ("petra/2.jpg", "petra", "database"),
    ("other/taj.jpg", "taj", "distractor"),
    ("other/x.jpg", "caves", "distractor"),
    ("alone/1.jpg", "alone", "query"),
]


def table_text(table: list) -> str:
    return "\n".join(",".join(row) for row in [("image", "label", "role"), *table]) + "\n"


def labels_of(table: list) -> Labels:
    return Labels(*(list(column) for column in zip(*table, strict=True)))


def by_labels(folder: Path, descriptors: Descriptors) -> Evaluation:
    """What `evaluate --labels` finds on the table."""
    (folder / "labels.csv").write_text(table_text(TABLE))
    write_descriptors(folder / "d.h5", descriptors)
    choice = ProtocolChoice("labels", folder / "labels.csv")
    return measure(EvaluationRequest(choice, descriptors=folder / "d.h5")).evaluations["labels"]


def complaint(path: Path, text: str | bytes) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError) as caught:
        read_labels(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    return str(caught.value)


def test_positives_have_the_label_and_distractors_are_never_right() -> None:
    truth = labels_ground_truth(labels_of(TABLE))
    images = [row[0] for row in TABLE]
    assert [images[row] for row in truth.queries] == ["taj/1.jpg", "taj/2.jpg", "petra/1.jpg", "alone/1.jpg"]
    for number, row in enumerate(truth.queries):
        assert {images[p] for p in truth.positives_of(number)} == oracles.labels_positives(TABLE, images[row])
        assert truth.junk_of(number).tolist() == [row]
        assert truth.group_names[truth.groups[number]] == TABLE[row][1]


def test_a_query_stays_in_the_database_of_the_others(tmp_path: Path) -> None:
    values = np.zeros((len(TABLE), 3), np.float32)
    values[:, 0] = 1
    values[3:5], values[5:8] = [0, 1, 0], [0, 0, 1]
    descriptors = Descriptors([row[0] for row in TABLE], values)
    evaluation = by_labels(tmp_path, descriptors)
    assert evaluation.average_precision[:3].tolist() == [1.0, 1.0, 1.0]
    assert evaluation.top[0, :2].tolist() == [1, 2]
    assert evaluation.as_dict()["per_query"][0]["top"][:2] == ["taj/2.jpg", "taj/3.jpg"]
    assert evaluation.top[1, :2].tolist() == [0, 2]
    assert evaluation.n_left_out == 1


def test_evaluation_by_labels_equals_a_walk_down_the_list(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    values = draw.normal(size=(len(TABLE) + 3, 5))
    values = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    images = [row[0] for row in TABLE]
    order = draw.permutation(len(TABLE) + 3)
    names = [*images, "extra/1.jpg", "extra/2.jpg", "extra/3.jpg"]
    evaluation = by_labels(tmp_path, Descriptors([names[o] for o in order], values[order]))
    expected = {}
    for row, (image, label, role) in enumerate(TABLE):
        positives = [images.index(p) for p in oracles.labels_positives(TABLE, image)]
        if role == "query" and positives:
            ranking = oracles.ranking_by_sorting(values[row], values[: len(TABLE)])
            expected.setdefault(label, []).append(oracles.average_precision_by_walking(ranking, positives, [row]))
    flat = [ap for group in expected.values() for ap in group]
    assert evaluation.mean_over_queries == pytest.approx(np.mean(flat), abs=1e-12)
    assert evaluation.mean_over_groups == pytest.approx(np.mean([np.mean(g) for g in expected.values()]), abs=1e-12)


def test_a_fold_keeps_its_landmarks_and_all_distractors() -> None:
    fold = labels_of(TABLE).only(["taj"])
    assert fold.images == ["taj/1.jpg", "taj/2.jpg", "taj/3.jpg", "other/taj.jpg", "other/x.jpg"]
    assert labels_of(TABLE).landmarks == ["alone", "petra", "taj"]
    with pytest.raises(UsageError, match="caves"):
        labels_of(TABLE).only(["caves"])


def test_labels_are_read_with_columns_in_any_order_and_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_bytes(
        "\ufeffrole,image,note,label\r\nquery,a.jpg,x,taj\r\ndatabase,é.jpg,,taj\r\n".encode()
    )
    labels = read_labels(tmp_path / "l.csv")
    assert (labels.images, labels.labels, labels.roles) == (["a.jpg", "é.jpg"], ["taj", "taj"], ["query", "database"])


def test_each_fault_of_a_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    with pytest.raises(DataError, match="no such file"):
        read_labels(path)
    assert "no column image, label, role" in complaint(path, "")
    assert "no column role" in complaint(path, "image,label\na.jpg,x\n")
    assert "unknown role gallery" in complaint(path, table_text([("a.jpg", "x", "query"), ("b.jpg", "x", "gallery")]))
    assert "1 image occurs more than once, first a.jpg" in complaint(path, table_text([("a.jpg", "x", "query")] * 2))
    assert "no row with the role query" in complaint(path, table_text([("a.jpg", "x", "database")]))
    assert "first row 2" in complaint(path, "image,label,role\na.jpg,x,query\nb.jpg\n")
    assert "UTF-8" in complaint(path, b"image,label,role\n\xff\xfe.jpg,x,query\n")


def test_photos_without_a_descriptor_are_counted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="7 of 8 names in the protocol have no row"):
        by_labels(tmp_path, Descriptors(["taj/1.jpg"], np.ones((1, 1), np.float32)))


def graph_of(count: int, edges: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    both = sorted({(a, b, n) for a, b, n in edges} | {(b, a, n) for a, b, n in edges})
    counts = np.bincount(np.array([a for a, _, _ in both], np.int64), minlength=count)
    return indptr_of(counts), np.array([b for _, b, _ in both], np.int64), np.array([n for _, _, n in both], np.int32)


def truth_of(
    place: np.ndarray, graph: tuple, rows: np.ndarray, photo: np.ndarray, min_shared: int, names: list | None = None
) -> SfmTruth:
    """Ground truth of some images from the graph of all."""
    indptr, edge = gather_rows(graph[0], rows)
    return sfm_ground_truth(place, rows, photo, indptr, graph[1][edge], graph[2][edge], min_shared, names)


def as_sets(found: SfmTruth) -> tuple[dict, dict]:
    truth, photos = found.truth, found.photos
    queries = [int(photos[q]) for q in truth.queries]
    positives = {q: {int(photos[p]) for p in truth.positives_of(i)} for i, q in enumerate(queries)}
    return positives, {q: {int(photos[p]) for p in truth.junk_of(i)} for i, q in enumerate(queries)}


def test_images_that_share_enough_points_are_right_and_the_rest_of_the_place_is_junk() -> None:
    edges = [(0, 1, 20), (0, 2, 19), (3, 4, 20)]
    names = ["castle", "bridge", "desk"]
    found = truth_of(np.array([0, 0, 0, 1, 1, 2]), graph_of(6, edges), np.arange(6), np.arange(6), 20, names)
    positives, junk = as_sets(found)
    assert positives == {0: {1}, 1: {0}, 3: {4}, 4: {3}}
    assert junk == {0: {0, 2}, 1: {1, 2}, 3: {3}, 4: {4}}
    assert [found.truth.group_names[g] for g in found.truth.groups] == ["castle", "castle", "bridge", "bridge"]
    assert len(found.photos) == 6


def test_the_same_photo_in_two_models_is_one_row_and_never_right_for_itself() -> None:
    # Images 0 and 3 are one photo; 0 sees 1 in its model, 3 sees 4 in the other; 3 and 0 even share points.
    place = np.zeros(5, np.int64)
    photo = np.array([0, 1, 2, 0, 4])
    found = truth_of(place, graph_of(5, [(0, 1, 9), (3, 4, 9), (0, 3, 9)]), np.arange(5), photo, 5)
    positives, junk = as_sets(found)
    assert found.photos.tolist() == [0, 1, 2, 4]
    assert positives == {0: {1, 4}, 1: {0}, 4: {0}}
    assert junk == {0: {0, 2}, 1: {1, 2, 4}, 4: {1, 2, 4}}


def test_images_that_do_not_take_part_are_neither_queries_nor_right() -> None:
    graph = graph_of(4, [(0, 1, 9), (1, 2, 9)])
    found = truth_of(np.zeros(4, np.int64), graph, np.array([1, 2, 3]), np.arange(4), 5)
    assert as_sets(found)[0] == {1: {2}, 2: {1}}
    assert found.photos.tolist() == [1, 2, 3]


@pytest.mark.parametrize("seed", range(20))
def test_the_sfm_protocol_equals_its_definition_on_random_graphs(seed: int) -> None:
    draw = np.random.default_rng(seed)
    count = 24
    place = np.sort(draw.integers(0, 4, count))
    photo = np.arange(count)
    for row in range(1, count):
        if draw.random() < 0.25:
            photo[row] = photo[draw.integers(0, row)]
    edges = [
        (a, b, int(draw.integers(1, 10)))
        for a in range(count)
        for b in range(a)
        if place[a] == place[b] and draw.random() < 0.3
    ]
    rows = np.flatnonzero(draw.random(count) < 0.8)
    found = truth_of(place, graph_of(count, edges), rows, photo, 5)
    both = edges + [(b, a, n) for a, b, n in edges]
    expected = oracles.sfm_positives_and_junk(place.tolist(), both, set(rows.tolist()), photo.tolist(), 5)
    assert as_sets(found) == tuple({int(k): {int(v) for v in s} for k, s in part.items()} for part in expected)


def test_no_edge_gives_no_query() -> None:
    found = truth_of(np.zeros(3, np.int64), graph_of(3, []), np.arange(3), np.arange(3), 5)
    assert len(found.truth.queries) == 0


def test_min_shared_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match="below 1"):
        truth_of(np.zeros(3, np.int64), graph_of(3, []), np.arange(3), np.arange(3), 0)


def index_of_four_models() -> Index:
    """Three places of which the last two are for validation; images 6 and 9 are one photo, image 11 has none."""
    index = random_index(np.random.default_rng(5), (5, 4, 3, 4), (0, 1, 1, 2), val=2)
    photo, has_photo = index.images.photo.copy(), index.images.has_photo.copy()
    photo[9], has_photo[11] = 6, False
    covisibility = replace(index.covisibility, axis_angle=np.zeros_like(index.covisibility.axis_angle))
    return replace(index, images=replace(index.images, photo=photo, has_photo=has_photo), covisibility=covisibility)


def descriptors_of(keys: list[str], seed: int = 0) -> Descriptors:
    rows = np.random.default_rng(seed).normal(size=(len(keys), 6))
    return Descriptors(keys, (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))


def edges_of(index: Index) -> list:
    graph = index.covisibility
    source = np.repeat(np.arange(len(graph.indptr) - 1), np.diff(graph.indptr))
    return list(zip(source.tolist(), graph.neighbour.tolist(), graph.shared.tolist(), strict=True))


def evaluated(
    folder: Path, index: Index, descriptors: Descriptors, min_shared: int, distractors: Descriptors | None = None
) -> Evaluation:
    """What `evaluate --index` finds."""
    write_whole(folder / "i.h5", index)
    write_descriptors(folder / "d.h5", descriptors)
    if distractors is not None:
        write_descriptors(folder / "more.h5", distractors)
    more = folder / "more.h5" if distractors else None
    choice = ProtocolChoice("sfm", folder / "i.h5", min_shared=min_shared)
    return measure(EvaluationRequest(choice, descriptors=folder / "d.h5", distractors=more)).evaluations["sfm"]


@pytest.mark.parametrize("with_distractors", [False, True])
def test_evaluation_of_an_index_equals_a_walk_down_the_list(tmp_path: Path, with_distractors: bool) -> None:
    index, min_shared = index_of_four_models(), 2
    descriptors = descriptors_of(index.images.key)
    distractors = descriptors_of(["d/1.jpg", "d/2.jpg", "d/3.jpg"], seed=1) if with_distractors else None
    rows = {row for row in range(5, 16) if row != 11}
    photo = index.images.photo.tolist()
    database = sorted({photo[row] for row in rows})
    values = descriptors.values[database]
    if distractors is not None:
        values = np.concatenate([values, distractors.values])
    positives, junk = oracles.sfm_positives_and_junk(
        index.image_place.tolist(), edges_of(index), rows, photo, min_shared
    )
    expected = []
    for query, right in positives.items():
        ranking = oracles.ranking_by_sorting(values[database.index(query)], values)
        beside = [database.index(p) for p in junk[query]]
        expected.append(oracles.average_precision_by_walking(ranking, [database.index(p) for p in right], beside))
    evaluation = evaluated(tmp_path, index, descriptors, min_shared, distractors)
    assert len(expected) > 4
    np.testing.assert_allclose(evaluation.average_precision, expected, rtol=0, atol=1e-12)
    assert evaluation.group_names == ("place1", "place2")
    result = evaluation.as_dict()["per_query"][0]
    assert result["query"] == index.images.key[next(iter(positives))]
    assert set(result["top"]) <= set(index.images.key) | {"d/1.jpg", "d/2.jpg", "d/3.jpg"}


def test_one_descriptor_a_photo_is_enough_and_an_absent_one_is_named(tmp_path: Path) -> None:
    index = index_of_four_models()
    keys = [key for row, key in enumerate(index.images.key) if row not in (9, 11)]
    assert evaluated(tmp_path, index, descriptors_of(keys), 2).n_left_out == 0
    with pytest.raises(DataError, match=r"d\.h5: 1 of 9 names in the protocol have no row"):
        evaluated(tmp_path, index, descriptors_of(keys[:-1]), 4)


def test_an_index_without_positives_and_foreign_distractors_are_usage_errors(tmp_path: Path) -> None:
    index = index_of_four_models()
    descriptors = descriptors_of(index.images.key)
    with pytest.raises(UsageError, match="no photo of the val places shares 1000 points"):
        evaluated(tmp_path, index, descriptors, 1000)
    other = Descriptors(["d.jpg"], np.ones((1, 1), np.float32))
    with pytest.raises(UsageError, match="distractors have 1 dimensions, the descriptors 6"):
        evaluated(tmp_path, index, descriptors, 4, other)


def test_a_tuple_file_gives_the_same_ground_truth_as_its_index() -> None:
    index = random_index(np.random.default_rng(6), (5, 4, 6), (0, 1, 2), val=2)
    axes = np.zeros_like(index.covisibility.axis_angle)
    index = replace(index, covisibility=replace(index.covisibility, axis_angle=axes))
    images, places, table_row = table_of(index)
    candidates = find_candidates(index.opened(), table_row, images.place, MiningOptions())
    of_val = of_split(candidates, index.image_split[candidates.query] == VAL)
    header = Header("sfm2tuples-tuples", 1, "", (), {}, "")
    tuples = TupleFile(Path("t.h5"), header, images, places, {}, {"val": of_val}, 0, np.zeros(0, np.int64))
    graph = index.covisibility.indptr, index.covisibility.neighbour, index.covisibility.shared
    from_index = truth_of(index.image_place, graph, np.flatnonzero(index.image_split == VAL), index.images.photo, 2)
    found = as_sets(tuples_ground_truth(tuples, VAL, 2))
    assert found == as_sets(from_index)
    assert len(found[0]) > 4
