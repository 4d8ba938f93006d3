"""A network's ranking verified by local features: its order by definition, in `search` and in `evaluate`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hand_made import run
from PIL import Image
from test_benchmarks import IMLIST
from test_evaluate_command import oxford
from worlds import unit_rows

from retrieval.evaluation import measurement
from retrieval.evaluation.refined_rankings import refine
from retrieval.local_features.feature_files import LocalFeatures, map_features, read_features, write_features
from retrieval.local_features.options import VerificationOptions
from retrieval.search.feature_verifier import FeatureTables, FeatureVerifier
from retrieval.search.options import Refinement, SearchOptions, VerificationSources, parse_rerank
from retrieval.search.ranked_lists import Pipeline, RankedLists, VerificationStep, whole_rankings
from retrieval.search.ranked_search import search
from retrieval.search.ranks_file import Ranks, read_ranks, write_ranks
from sfm2tuples.errors import DataError, FileFormatError, UsageError
from sfm2tuples.files.container import read_header
from sfm2tuples.files.descriptors import Descriptors, write_descriptors
from tests import oracles
from tests.textures import made_features, root_sift, texture

__all__ = ["oxford"]  # the fixture

LEAST = 15
PLANAR = ("--geometry", "affine", "--jobs", 1)


class Known:
    """A verifier that knows every count of inliers, (q, n)."""

    expand_inliers = LEAST

    def __init__(self, inliers: np.ndarray) -> None:
        self.inliers = inliers

    def count(self, row: np.ndarray) -> np.ndarray:
        found = np.take_along_axis(self.inliers, np.maximum(row, 0), 1)
        return np.where(row >= 0, found, 0)


def verifying(rerank: str, inliers: np.ndarray, qe: str | None = None) -> Pipeline:
    return Pipeline(Refinement.parse(qe, rerank=rerank), verifier=Known(inliers))


def world(seed: int):
    """Queries, a database, the queries' own rows, and inliers: many are 0, many are equal."""
    rng = np.random.default_rng(seed)
    own = np.array([4, -1, -1, 0, -1])
    inliers = rng.choice([0, 0, 8, 9, 15, 16, 40], (5, 20))
    inliers[1] = np.minimum(inliers[1], 9)  # verified, but by too few to expand with
    inliers[2] = 0
    return unit_rows(rng, 5, 6), unit_rows(rng, 20, 6), own, inliers


def by_definition(seed: int, depth: int, expansion: tuple[int, float] | None) -> list[list[int]]:
    queries, database, own, inliers = world(seed)
    return [
        oracles.verified_ranking(q, database, int(own[i]), depth, inliers[i].tolist(), LEAST, expansion)
        for i, q in enumerate(queries)
    ]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("depth", [1, 7, 30])
@pytest.mark.parametrize(("qe", "expansion"), [(None, None), ("average:3", (3, 0)), ("alpha:2:1.5", (2, 1.5))])
def test_search_and_evaluate_rank_by_the_definition(seed, depth, qe, expansion):
    queries, database, own, inliers = world(seed)
    wanted = by_definition(seed, depth, expansion)
    pipeline = Pipeline(Refinement.parse(qe, None, f"geometry:{depth}"), None, Known(inliers))
    rankings = list(refine(queries, database, own, pipeline))
    for i, found in enumerate(rankings):
        assert sorted(found.tolist()) == list(range(20))
        assert [row for row in found.tolist() if row != own[i]] == wanted[i]

    names = [f"d{row}" for row in range(20)]
    asked = Descriptors([names[row] if row >= 0 else f"q{i}" for i, row in enumerate(own)], queries)
    ranks = search(asked, Descriptors(names, database), SearchOptions(num_results=12), pipeline).ranks
    assert ranks.row.tolist() == [rows[:12] for rows in wanted]
    for i in range(5):
        looked_at = oracles.verified_ranking(queries[i], database, int(own[i]), depth, [0] * 20, LEAST)[:depth]
        assert ranks.inliers[i].tolist() == [inliers[i][r] if r in looked_at else 0 for r in wanted[i][:12]]


def test_similarities_stay_those_of_the_descriptors_and_little_similar_images_leave_with_their_inliers():
    queries, database, _, inliers = world(1)
    names = [f"d{row}" for row in range(20)]
    asked = Descriptors([f"q{i}" for i in range(5)], queries)
    options, pipeline = SearchOptions(num_results=20, min_similarity=0.1), verifying("geometry:20", inliers)
    ranks = search(asked, Descriptors(names, database), options, pipeline).ranks
    for i in range(5):
        for row, similarity, count in zip(ranks.row[i], ranks.similarity[i], ranks.inliers[i], strict=True):
            if row < 0:
                assert count == 0
            else:
                assert similarity == pytest.approx(oracles.exact_similarity(queries[i], database[row]), abs=1e-6)
                assert similarity >= 0.1
                assert count == inliers[i, row]


@pytest.mark.parametrize(
    ("text", "way", "count"),
    [("R", "R", 1000), ("R:7", "R", 7), ("geometry", "geometry", 100), ("geometry:7", "geometry", 7)],
)
def test_the_way_and_the_number_are_one_text(text, way, count):
    assert (parse_rerank(text).way, parse_rerank(text).num_images) == (way, count)
    refinement = Refinement.parse(rerank=text)
    assert (refinement.num_windows, refinement.num_verified) == ((count, 0) if way == "R" else (0, count))
    assert refinement.num_reranked == count


def test_verified_rows_go_in_front_by_their_inliers():
    short = RankedLists(None, np.array([[0, 3, 1, 2]]), np.zeros((1, 4)))
    lists = VerificationStep(Known(np.array([[0, 30, 15, 15, 0]])), 4)(short)
    (found,) = whole_rankings(lists.only(lists.inliers > 0).row, [np.array([4, 0, 3, 1, 2])])
    assert found.tolist() == [1, 3, 2, 4, 0]


def test_a_search_that_verifies_needs_features():
    asked = Refinement.parse(rerank="geometry:5")
    for ask in (lambda: Pipeline(asked), lambda: VerificationSources().check(asked)):
        with pytest.raises(UsageError, match="give --features"):
            ask()
    with pytest.raises(UsageError, match="are for --rerank geometry"):
        VerificationSources((Path("f.h5"),)).check(Refinement.parse(rerank="R:5"))


@pytest.mark.parametrize("engine", ["flat", "ivf", "hnsw"])
def test_where_nothing_is_verified_nothing_changes(engine):
    queries, database, own, inliers = world(3)
    asked, held = Descriptors([f"q{i}" for i in range(5)], queries), Descriptors([str(i) for i in range(20)], database)
    options, nothing = SearchOptions(engine=engine, num_results=12), verifying("geometry:9", 0 * inliers, "average:2")
    plain = search(asked, held, options).ranks
    found = search(asked, held, options, nothing).ranks
    assert np.array_equal(found.row, plain.row)
    assert not found.inliers.any()
    refined = refine(queries, database, own, nothing)
    unrefined = refine(queries, database, own, Pipeline())
    for i, (one, other) in enumerate(zip(refined, unrefined, strict=True)):
        assert [row for row in one if row != own[i]] == [row for row in other if row != own[i]]


@pytest.mark.parametrize(("engine", "effort"), [("ivf", {"nprobe": 10**6}), ("hnsw", {"ef": 10**4})])
def test_what_any_engine_finds_is_verified_and_searched_again(engine, effort):
    queries, database, _, inliers = world(2)
    asked, held = Descriptors([f"q{i}" for i in range(5)], queries), Descriptors([str(i) for i in range(20)], database)
    options, pipeline = SearchOptions(num_results=20), verifying("geometry:9", inliers, "average:2")
    exact = search(asked, held, options, pipeline).ranks
    found = search(asked, held, replace(options, engine=engine, **effort), pipeline).ranks
    assert np.array_equal(found.row, exact.row)
    assert np.array_equal(found.inliers, exact.inliers)


# --- features in files ----------------------------------------------------------------------------------------------


def wall(seed: int = 3, shared: int = 40, others: int = 15) -> LocalFeatures:
    """Photos a, b, c: b shows the left half of a's wall moved, c all of it; each has features of its own too."""
    rng = np.random.default_rng(seed)
    points, descriptors = rng.uniform(0, 400, (shared, 2)), root_sift(rng, shared)
    points = points[np.argsort(points[:, 0])]
    shown = {"a": slice(None), "b": slice(0, shared // 2), "c": slice(None)}
    made = made_features(rng, tuple(len(points[part]) + others for part in shown.values()))
    for number, (name, part) in enumerate(shown.items()):
        rows = np.arange(made.indptr[number], made.indptr[number + 1])[: len(points[part])]
        moved = points[part] if name == "a" else points[part] @ np.array([[0.9, 0.1], [-0.1, 0.9]]) + [5, 50]
        made.keypoints[rows, :2], made.descriptors[rows] = moved, descriptors[part]
    return replace(made, names=list("abc"), settings={"kind": "rootsift"})


@pytest.fixture
def features(tmp_path: Path) -> Path:
    write_features(tmp_path / "features.h5", wall())
    return tmp_path / "features.h5"


def verifier(paths: list[Path], queries: list[str], database: list[str], boxes=None, jobs: int = 1) -> FeatureVerifier:
    tables = FeatureTables.of_files(paths)
    return FeatureVerifier(tables, queries, database, VerificationOptions("affine"), jobs, boxes)


@pytest.fixture(autouse=True, scope="module")
def geometry() -> None:
    pytest.importorskip("pycolmap")


@pytest.mark.parametrize("jobs", [1, 2])
def test_inliers_are_counted_by_name_whatever_the_order_and_the_processes(features, jobs):
    count = verifier([features], ["a", "c"], ["c", "b", "a"], jobs=jobs).count(np.array([[1, 0, -1], [2, -1, 1]]))
    assert count.tolist() == [[20, 40, 0], [40, 0, 20]]


def test_features_outside_of_the_box_of_a_query_do_not_count(features):
    left = np.sort(wall().keypoints[:40, 0])[19] + 1e-3  # between the 20 leftmost points and the others
    boxes = np.array([[-1e3, -1e3, left, 1e3]])
    assert verifier([features], ["a"], ["b", "c"], boxes).count(np.array([[0, 1]])).tolist() == [[20, 20]]


def test_queries_may_have_a_file_of_their_own(features, tmp_path):
    whole = read_features(features)
    write_features(tmp_path / "q.h5", whole.only(["a"]))
    write_features(tmp_path / "d.h5", whole.only(["b", "c"]))
    files = [tmp_path / "q.h5", tmp_path / "d.h5"]
    both = verifier(files, ["a"], ["c", "b"])
    assert both.count(np.array([[0, 1]])).tolist() == [[40, 20]]
    assert both.parents == [read_header(path).fingerprint for path in files]
    with pytest.raises(DataError, match=r"1 of its photos are in another file of features too, first a"):
        FeatureTables.of_files([features, tmp_path / "q.h5"])


def test_files_of_features_that_were_found_otherwise_are_said_once_each(features, tmp_path, caplog):
    whole = read_features(features)
    write_features(tmp_path / "q.h5", replace(whole, names=["d", "e", "f"], settings={"kind": "sift"}))
    write_features(tmp_path / "p.h5", replace(whole, names=["g", "h", "i"]))
    FeatureTables.of_files([features, tmp_path / "q.h5", tmp_path / "p.h5"])
    (line,) = [record.message for record in caplog.records]
    assert line == f"{tmp_path / 'q.h5'}: found otherwise than in {features}: kind"


def test_photos_without_features_are_one_line(features):
    with pytest.raises(DataError) as error:
        verifier([features], ["a"], ["b", "x/1.jpg", "x/2.jpg"])
    assert "2 of 3 images of the database have no features here, first x/1.jpg, x/2.jpg" in str(error.value)
    assert str(error.value).startswith(str(features))
    with pytest.raises(DataError, match="1 of 1 queries have no features"):
        verifier([features], ["z"], ["b"])


def test_features_stay_in_their_file_until_they_are_asked_for(features):
    mapped, whole = map_features(features), read_features(features)
    assert isinstance(mapped.keypoints, np.memmap)
    assert isinstance(mapped.descriptors, np.memmap)
    assert np.array_equal(mapped.keypoints, whole.keypoints)
    assert np.array_equal(mapped.descriptors, whole.descriptors)
    assert np.array_equal(mapped.only(["c"]).descriptors, whole.only(["c"]).descriptors)


def test_photos_without_any_feature_are_not_verified(tmp_path):
    empty = replace(made_features(np.random.default_rng(0), (0, 0)), names=["a", "b"])
    write_features(tmp_path / "f.h5", empty)
    assert verifier([tmp_path / "f.h5"], ["a"], ["b"]).count(np.array([[0]])).tolist() == [[0]]


def test_inliers_come_back_and_those_that_do_not_fit_are_refused(tmp_path):
    ranks = Ranks(["q"], ["a", "b"], np.array([[1, 0]]), np.array([[0.2, 0.5]], np.float32), inliers=np.array([[9, 0]]))
    write_ranks(tmp_path / "r.h5", ranks)
    assert read_ranks(tmp_path / "r.h5").inliers.tolist() == [[9, 0]]
    write_ranks(tmp_path / "s.h5", replace(ranks, inliers=np.array([[9]])))
    with pytest.raises(FileFormatError, match="inliers"):
        read_ranks(tmp_path / "s.h5")
    write_ranks(tmp_path / "t.h5", replace(ranks, inliers=None))
    assert read_ranks(tmp_path / "t.h5").inliers is None


# --- the commands ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labels of three photos each, moved windows of one texture a label; features; descriptors at random."""
    folder = tmp_path_factory.mktemp("photos")
    for label, seed in (("left", 1), ("right", 2)):
        (folder / "photos" / label).mkdir(parents=True)
        picture = texture(seed, 260, 220)
        for number in range(3):
            seen = picture[10 : 180 - 5 * number, 25 * number : 25 * number + 180]
            Image.fromarray(seen).save(folder / "photos" / label / f"{label}{number}.jpg", quality=95)
    flags = ("--first-octave", "0", "--no-affine-shape")
    assert run("extract-features", folder / "photos", "-o", folder / "features.h5", *flags) == 0
    names = read_features(folder / "features.h5").names
    write_descriptors(folder / "d.h5", Descriptors(names, unit_rows(np.random.default_rng(3), 6, 8)))
    return folder


def searched(photos: Path, target: Path, *words: object) -> Ranks:
    files = ("--queries", photos / "d.h5", "--database", photos / "d.h5", "--features", photos / "features.h5")
    assert run("search", *files, "-o", target, "--force", *PLANAR, *words) == 0
    return read_ranks(target)


def evaluated(photos: Path, target: Path, *words: object) -> dict:
    assert run("evaluate", "--labels", photos / "photos", *words, "-o", target, "--force") == 0
    return json.loads(target.read_text())


def test_search_puts_verified_photos_first_in_ranks_and_in_pairs(photos, tmp_path):
    pairs = tmp_path / "p.txt"
    ranks = searched(
        photos,
        tmp_path / "r.h5",
        "--rerank",
        "geometry:5",
        "--pairs",
        pairs,
        "--num-matched",
        2,
        "--min-similarity",
        -1,
    )
    for query, name in enumerate(ranks.queries):
        first = ranks.found(query)[:2]
        assert {Path(found).parent for found in first} == {Path(name).parent}
        assert [line.split()[1] for line in pairs.read_text().splitlines() if line.split()[0] == name] == first
    assert (ranks.inliers[:, :2] >= 8).all()
    assert (np.diff(ranks.inliers, axis=1) <= 0).all()
    assert ranks.options["rerank"] == "geometry:5"
    assert ranks.options["verification"]["geometry"] == "affine"
    assert read_header(photos / "features.h5").fingerprint in read_header(tmp_path / "r.h5").parents


@pytest.mark.parametrize("qe", [(), ("--qe", "average:2")])
def test_evaluate_verifies_as_search_does_with_any_number_of_processes(photos, tmp_path, qe):
    words = ("--rerank", "geometry:3", *qe)
    searched(photos, tmp_path / "r.h5", *words)
    ranked = evaluated(photos, tmp_path / "f.json", "--rankings", tmp_path / "r.h5")
    described = ("--descriptors", photos / "d.h5", "--features", photos / "features.h5", "--geometry", "affine")
    one = evaluated(photos, tmp_path / "e.json", *described, *words)
    two = evaluated(photos, tmp_path / "g.json", *described, *words, "--jobs", 2)
    for own, read in zip(one["per_query"], ranked["per_query"], strict=True):
        # What search found lacks the query itself, which is junk where the whole database is ranked.
        shown = ("first", "verdicts")
        assert [(k, v) for k, v in own.items() if k not in shown] == [(k, v) for k, v in read.items() if k not in shown]
        assert [name for name in own["first"] if name != own["query"]] == read["first"]
    assert one == two
    assert one["settings"]["rerank"] == "geometry:3"
    assert one["settings"]["verification"]["expand_inliers"] == 15
    assert read_header(photos / "features.h5").fingerprint in one["parents"]


def test_a_network_that_describes_photos_itself_is_verified_too(photos, tmp_path):
    network = ("--backbone", "squeezenet1_1", "--image-size", 64)
    found = evaluated(
        photos, tmp_path / "e.json", *network, "--rerank", "geometry", "--features", photos / "features.h5"
    )
    assert found["mean_over_queries"] == 1.0
    assert found["settings"]["backbone"] == "squeezenet1_1"


def test_photos_without_features_are_refused_before_a_photo_is_described(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measurement, "benchmark_descriptors", lambda *given: pytest.fail("described"))
    features = read_features(photos / "features.h5")
    write_features(tmp_path / "few.h5", features.only(features.names[2:]))
    words = ("--backbone", "squeezenet1_1", "--rerank", "geometry", "--features", tmp_path / "few.h5")
    assert run("evaluate", "--labels", photos / "photos", *words) == 1
    assert "2 of 6 queries have no features here" in capsys.readouterr().err


def test_verification_finds_what_random_descriptors_do_not(photos, tmp_path):
    plain = evaluated(photos, tmp_path / "e.json", "--descriptors", photos / "d.h5")
    words = ("--descriptors", photos / "d.h5", "--features", photos / "features.h5", *PLANAR)
    verified = evaluated(photos, tmp_path / "f.json", *words, "--rerank", "geometry")
    assert plain["mean_over_queries"] < verified["mean_over_queries"] == 1.0


def test_what_does_not_fit_is_one_line(photos, tmp_path, capsys):
    features, labels = ("--features", photos / "features.h5"), ("--labels", photos / "photos")
    files = ("--queries", photos / "d.h5", "--database", photos / "d.h5", "-o", tmp_path / "r.h5")
    described = ("--descriptors", photos / "d.h5")
    few = read_features(photos / "features.h5")
    write_features(tmp_path / "few.h5", few.only(few.names[2:]))
    for words, code, said in (
        (("search", *files, "--rerank", "geometry:3"), 2, "give --features"),
        (("search", *files, *features), 2, "are for --rerank geometry"),
        (("search", *files, *features, "--rerank", "R:3"), 2, "are for --rerank geometry"),
        (("search", *files, *features, "--rerank", "geometry:x"), 2, "no re-ranking such as"),
        (("search", *files, *features, "--rerank", "geometry", "--photos", photos), 2, "is for --rerank R"),
        (("search", *files, "--features", tmp_path / "few.h5", "--rerank", "geometry"), 1, "2 of 6 queries"),
        (("search", *files, "--features", photos / "d.h5", "--rerank", "geometry"), 1, "sfm2tuples-features"),
        (("search", *files, *features, "--rerank", "geometry", "--min-inliers", 3), 2, "min inliers 3"),
        (("evaluate", *labels, *described, "--rerank", "geometry:3"), 2, "give --features"),
        (("evaluate", *labels, *described, *features), 2, "are for --rerank geometry"),
        (
            ("evaluate", *labels, *described, "--features", tmp_path / "few.h5", "--rerank", "geometry"),
            1,
            "2 of 6 queries",
        ),
    ):
        assert run(*words) == code, words
        message = capsys.readouterr().err.strip()
        assert said in message
        assert "\n" not in message
    assert not (tmp_path / "r.h5").exists()


def test_a_cropped_query_is_verified_by_what_is_inside_its_box(oxford, tmp_path):
    rng = np.random.default_rng(0)
    names = [f"elsewhere/{name}" for name in [*IMLIST, "query_a", "query_b"]]
    made = replace(made_features(rng, (70,) * 10), names=[f"{name}.jpg" for name in names])
    points, descriptors = rng.uniform(0, 59, (70, 2)), root_sift(rng, 70)
    points[30:, 0] += 100  # 30 features inside of the box of 60 x 60, 40 outside
    for photo, shown in ((8, slice(0, 70)), (3, slice(0, 30)), (5, slice(30, 70))):
        rows = np.arange(made.indptr[photo], made.indptr[photo + 1])[shown]
        made.keypoints[rows, :2], made.descriptors[rows] = points[shown], descriptors[shown]
    write_features(tmp_path / "f.h5", made)
    words = ("--data", oxford, "--descriptors", oxford / "d.h5", "--queries", oxford / "d.h5", *PLANAR)
    tops = {}
    for crop in ("none", "image"):
        more = ("--features", tmp_path / "f.h5", "--rerank", "geometry:8", "--crop", crop)
        assert run("evaluate", "--protocol", "roxford5k", *words, *more, "-o", tmp_path / f"{crop}.json") == 0
        setups = json.loads((tmp_path / f"{crop}.json").read_text())["setups"]
        tops[crop] = [[Path(name).stem for name in setup["per_query"][0]["top"]] for setup in setups.values()]
    assert [top[:2] for top in tops["none"]] == [[IMLIST[5], IMLIST[3]]] * 3
    assert [top[0] for top in tops["image"]] == [IMLIST[3]] * 3
    assert [top[1] for top in tops["image"]] != [IMLIST[5]] * 3


def test_distractors_may_have_features_of_their_own(photos, tmp_path):
    features = read_features(photos / "features.h5")
    more = replace(features.only(features.names[:1]), names=["more.jpg"])
    write_features(tmp_path / "more.h5", more)
    write_descriptors(tmp_path / "d.h5", Descriptors(["more.jpg"], np.eye(1, 8, dtype=np.float32)))
    words = ("--descriptors", photos / "d.h5", "--distractors", tmp_path / "d.h5", "--rerank", "geometry", *PLANAR)
    files = ("--features", photos / "features.h5", "--features", tmp_path / "more.h5")
    found = evaluated(photos, tmp_path / "e.json", *words, *files)
    assert found["per_query"][0]["top"][0] == "more.jpg"  # the same photo
