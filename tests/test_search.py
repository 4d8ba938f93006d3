"""Searching a database: engines against sorting, the rules of ranked lists, their file, and the command."""

from __future__ import annotations

import json

import numpy as np
import oracles
import pytest
from hand_made import run
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import unit_rows

from retrieval.search.engines import HnswEngine, IvfEngine, make_engine
from retrieval.search.options import Refinement, SearchOptions
from retrieval.search.ranked_lists import Pipeline
from retrieval.search.ranked_search import check_comparable, own_rows, search
from retrieval.search.ranks_file import Ranks, read_ranks, write_pairs, write_ranks
from sfm2tuples.errors import DataError, FileFormatError, UsageError
from sfm2tuples.files import descriptors
from sfm2tuples.files.container import read_header
from sfm2tuples.files.descriptors import Descriptors, write_descriptors


def named(values: np.ndarray, prefix: str = "d", **settings: object) -> Descriptors:
    return Descriptors([f"{prefix}/{row}.jpg" for row in range(len(values))], values, settings, f"{prefix}.h5")


def around_centres(rng: np.random.Generator, count: int, dimension: int = 16) -> np.ndarray:
    """Rows near one of 30 centres, so that inverted lists have something to find."""
    rows = unit_rows(rng, 30, dimension)[rng.integers(30, size=count)] + 0.2 * rng.standard_normal((count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(1, 40),
    st.sampled_from([0, 1, 3]),
    st.integers(1, 50),
    st.sampled_from(["flat", "ivf", "hnsw"]),
)
def test_every_engine_that_sees_all_rows_finds_what_sorting_finds(seed, size, distinct, count, name):
    rng = np.random.default_rng(seed)
    database, queries = unit_rows(rng, size, 6, distinct), unit_rows(rng, 5, 6)
    queries[:2] = database[:2]
    own = np.array([0, min(1, size - 1), -1, -1, -1])
    engine = make_engine(name, database, nprobe=10**6 if name == "ivf" else None, ef=10**4 if name == "hnsw" else None)
    row, similarity = engine.search(queries, count, own)
    assert row.shape == similarity.shape == (5, count)
    for i in range(5):
        wanted = oracles.most_similar_by_sorting(queries[i], database, own[i], count)
        if name == "hnsw":  # which of many equal rows a graph proposes is its own affair
            found = row[i, : len(wanted)]
            assert own[i] not in found
            np.testing.assert_allclose(similarity[i, : len(wanted)], [s for _, s in wanted], atol=1e-6)
        else:
            assert row[i, : len(wanted)].tolist() == [r for r, _ in wanted]
        assert (row[i, len(wanted) :] == -1).all()
        assert (similarity[i, len(wanted) :] == -np.inf).all()


def test_equal_rows_are_ranked_by_the_lower_row():
    database = np.repeat(unit_rows(np.random.default_rng(0), 2, 4), 5, axis=0)
    row, _ = make_engine("flat", database).search(database[:1], 5, np.array([-1]))
    assert row.tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("engine", ["ivf", "hnsw"])
def test_what_an_approximate_engine_finds_has_its_exact_similarity_and_falls(engine):
    rng = np.random.default_rng(1)
    database, queries = around_centres(rng, 3000), around_centres(rng, 40)
    row, similarity = make_engine(engine, database).search(queries, 30, np.full(40, -1))
    for i in range(40):
        exact = [oracles.exact_similarity(queries[i], database[r]) for r in row[i]]
        np.testing.assert_allclose(similarity[i], exact, atol=1e-12)
        assert len(set(row[i].tolist())) == 30
    assert (np.diff(similarity, axis=1) <= 0).all()


@pytest.mark.parametrize(
    ("engine", "few", "many"), [("ivf", {"nprobe": 1}, {"nprobe": 8}), ("hnsw", {"ef": 31}, {"ef": 500})]
)
def test_the_recall_said_is_the_share_of_exact_rows_found_and_rises_with_effort(engine, few, many):
    rng = np.random.default_rng(2)
    queries, database = named(around_centres(rng, 60), "q"), named(around_centres(rng, 4000))
    exact = search(queries, database, SearchOptions(num_results=30)).ranks.row
    recalls = []
    for effort in (few, many):
        result = search(queries, database, SearchOptions(engine=engine, num_results=30, **effort))
        shares = [len(set(a) & set(b)) / 30 for a, b in zip(result.ranks.row.tolist(), exact.tolist(), strict=True)]
        assert result.recall == pytest.approx(np.mean(shares))
        assert result.sampled == 60
        recalls.append(result.recall)
    assert recalls[0] < recalls[1]


def test_a_flat_search_says_no_recall():
    data = named(unit_rows(np.random.default_rng(0), 9, 4))
    assert search(data, data, SearchOptions()).recall is None


@pytest.mark.parametrize("engine", ["flat", "ivf", "hnsw"])
def test_a_query_finds_itself_only_where_it_may(engine):
    database = named(around_centres(np.random.default_rng(3), 300))
    queries = Descriptors([*database.names[5:9], "elsewhere.jpg"], database.values[5:10])
    without = search(queries, database, SearchOptions(engine=engine, num_results=3)).ranks
    assert all(queries.names[i] not in without.found(i) for i in range(5))
    assert without.found(4)[0] == database.names[9]
    with_self = search(queries, database, SearchOptions(engine=engine, num_results=3, include_self=True)).ranks
    assert [with_self.found(i)[0] for i in range(4)] == queries.names[:4]


def test_fewer_images_than_asked_for_are_padded():
    data = named(unit_rows(np.random.default_rng(0), 3, 4))
    ranks = search(data, data, SearchOptions(num_results=5)).ranks
    assert ranks.row.shape == (3, 5)
    assert (ranks.row[:, 2:] == -1).all()
    assert (ranks.similarity[:, 2:] == -np.inf).all()


def test_a_database_of_the_query_alone_gives_an_empty_list():
    data = named(unit_rows(np.random.default_rng(0), 1, 4))
    for engine in ("flat", "ivf", "hnsw"):
        found = search(data, data, SearchOptions(engine=engine, num_results=2))
        assert found.ranks.found(0) == []
        assert (found.recall, found.sampled) == (None, 0)


def test_less_similar_images_are_left_out_and_the_limit_itself_stays_in():
    database = named(np.array([[1, 0], [0, 1], [0.6, 0.8], [-1, 0]], np.float32))
    queries = Descriptors(["q"], np.array([[1, 0]], np.float32))
    ranks = search(queries, database, SearchOptions(min_similarity=0.0)).ranks
    assert ranks.row[0, :4].tolist() == [0, 2, 1, -1]


def test_own_rows_are_found_by_name():
    assert own_rows(["b", "x", "a"], ["a", "b"]).tolist() == [1, -1, 0]


def test_descriptors_of_other_networks_whitenings_or_dimensions_are_refused_and_other_sizes_are_said():
    values = unit_rows(np.random.default_rng(0), 4, 4)
    made = {"network": "n", "image_size": 362}
    database = named(values, "d", **made)
    assert check_comparable(named(values, "q", **made), database) is None
    assert check_comparable(named(values, "q"), database) is None
    warning = check_comparable(named(values, "q", network="n", image_size=512), database)
    assert warning is not None
    assert "image_size 512" in warning
    for settings_ in ({"network": "m"}, {**made, "whitening": "w"}):
        with pytest.raises(UsageError, match="made otherwise"):
            check_comparable(named(values, "q", **settings_), database)
    with pytest.raises(UsageError, match="3 dimensions"):
        check_comparable(named(unit_rows(np.random.default_rng(0), 4, 3), "q"), database)


@pytest.mark.parametrize(
    "wrong",
    [
        {"engine": "annoy"},
        {"num_results": 0},
        {"num_results": 10**6},
        {"nprobe": 4},
        {"engine": "ivf", "ef": 4},
        {"engine": "hnsw", "ef": 0},
        {"min_similarity": float("nan")},
    ],
)
def test_options_without_meaning_are_refused(wrong):
    with pytest.raises(UsageError):
        SearchOptions(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"qe": "mean:5"},
        {"qe": "average:0"},
        {"qe": "alpha:50:-1"},
        {"qe": "alpha:five"},
        {"qe": "average:5:3"},
        {"rerank": "R:0"},
        {"rerank": "R:"},
        {"rerank": "SIFT:5"},
        {"rerank": "geometry:"},
        {"rerank": "geometry:0"},
        {"rerank": "geometry:10001"},
        {"rerank": "geometry:5:3"},
        {"rerank": "R:5+geometry:5"},
    ],
)
def test_texts_that_cannot_be_read_are_refused(wrong):
    with pytest.raises(UsageError):
        Refinement.parse(**wrong)


def test_a_mapped_database_is_searched_as_one_in_memory(tmp_path, monkeypatch):
    values = unit_rows(np.random.default_rng(4), 500, 8)
    write_descriptors(tmp_path / "d.h5", named(values))
    monkeypatch.setattr(descriptors, "MAPPED_FROM", 1)
    mapped = descriptors.read_descriptors(tmp_path / "d.h5")
    assert isinstance(mapped.values, np.memmap)
    for engine in ("flat", "ivf", "hnsw"):
        options = SearchOptions(engine=engine, num_results=4)
        pipeline, data = Pipeline(Refinement.parse("average:2", "alpha:3:2")), named(values)
        np.testing.assert_array_equal(
            search(mapped, mapped, options, pipeline).ranks.row, search(data, data, options, pipeline).ranks.row
        )


def test_ranks_come_back_and_a_file_that_does_not_fit_together_is_refused(tmp_path):
    ranks = Ranks(["q", "é"], ["a", "b"], np.array([[1, 0], [0, -1]]), np.array([[1, 0.5], [0.2, -np.inf]], np.float32))
    write_ranks(tmp_path / "r.h5", ranks, ["p" * 64])
    read = read_ranks(tmp_path / "r.h5")
    assert (read.queries, read.names, read.found(0), read.found(1)) == (["q", "é"], ["a", "b"], ["b", "a"], ["a"])
    np.testing.assert_array_equal(read.row, ranks.row)
    np.testing.assert_array_equal(read.similarity, ranks.similarity)
    assert read_header(tmp_path / "r.h5").parents == ("p" * 64,)
    for wrong in (np.array([[2, 0], [0, 0]]), np.array([[-2, 0], [0, 0]]), np.array([[0, 0]])):
        broken = Ranks(ranks.queries, ranks.names, wrong, np.zeros(wrong.shape, np.float32))
        write_ranks(tmp_path / "w.h5", broken)
        with pytest.raises(FileFormatError):
            read_ranks(tmp_path / "w.h5")


def test_pairs_are_lines_of_two_names_and_names_with_spaces_are_refused(tmp_path):
    ranks = Ranks(["q", "r"], ["a/1.jpg", "b"], np.array([[1, 0], [0, -1]]), np.zeros((2, 2), np.float32))
    assert write_pairs(tmp_path / "p.txt", ranks, 1) == 2
    assert (tmp_path / "p.txt").read_text() == "q b\nr a/1.jpg\n"
    assert write_pairs(tmp_path / "p.txt", ranks, 9) == 3
    apart = Ranks(["q"], ["a", "b"], np.array([[1, 0]]), np.array([[0.5, -0.1]], np.float32))
    assert write_pairs(tmp_path / "n.txt", apart, 9) == 1
    asked = Ranks(["q"], ["a", "b"], apart.row, apart.similarity, {"min_similarity": -0.2})
    assert write_pairs(tmp_path / "a.txt", asked, 9) == 2
    spaced = Ranks(["q 1"], ["b"], np.array([[0]]), np.zeros((1, 1), np.float32))
    with pytest.raises(UsageError, match="1 name holds spaces"):
        write_pairs(tmp_path / "s.txt", spaced, 1)
    assert not (tmp_path / "s.txt").exists()


def test_a_query_with_spaces_is_refused_before_the_search_where_pairs_are_wanted(tmp_path, capsys, monkeypatch):
    write_descriptors(tmp_path / "d.h5", Descriptors(["a b.jpg", "c.jpg"], np.eye(2, dtype=np.float32)))
    files = ("search", "--queries", tmp_path / "d.h5", "--database", tmp_path / "d.h5", "-o", tmp_path / "r.h5")
    with monkeypatch.context() as patched:
        patched.setattr("retrieval.search.file_search.search", lambda *_: pytest.fail("it was searched"))
        assert run(*files, "--pairs", tmp_path / "p.txt") == 2
    assert "p.txt: 1 name holds spaces, which a list of pairs cannot, first a b.jpg" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["d.h5"]
    assert run(*files) == 0


@pytest.mark.parametrize("layout", ["columnar", "hloc"])
def test_the_command_searches_either_layout_and_writes_ranks_and_pairs(layout, tmp_path, capsys):
    values = around_centres(np.random.default_rng(5), 40)
    write_descriptors(tmp_path / "d.h5", named(values, network="n"), layout)
    write_descriptors(tmp_path / "q.h5", Descriptors(["d/3.jpg", "new.jpg"], values[3:5], {"network": "n"}), layout)
    words = ("--queries", tmp_path / "q.h5", "--database", tmp_path / "d.h5", "--num-results", 7)
    out = ("-o", tmp_path / "r.h5", "--pairs", tmp_path / "p.txt", "--num-matched", 2, "--json")
    assert run("search", *words, *out, "--engine", "ivf", "--nprobe", 99) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["recall"] == 1.0
    assert said["made"] == str(tmp_path / "r.h5")
    assert said["also_made"] == [{"made": str(tmp_path / "p.txt"), "what": "4 pairs"}]
    ranks = read_ranks(tmp_path / "r.h5")
    assert ranks.row.shape == (2, 7)
    assert "d/3.jpg" not in ranks.found(0)
    assert ranks.found(1)[0] == "d/4.jpg"
    lines = [line.split() for line in (tmp_path / "p.txt").read_text().splitlines()]
    assert lines == [[q, name] for i, q in enumerate(ranks.queries) for name in ranks.found(i)[:2]]
    assert ranks.options["engine"] == "ivf"
    assert len(read_header(tmp_path / "r.h5").parents) == 2
    assert run("search", *words, *out) == 2  # it exists already


def test_the_command_refuses_in_one_line(tmp_path, capsys):
    values = unit_rows(np.random.default_rng(0), 5, 4)
    write_descriptors(tmp_path / "d.h5", named(values, network="n"))
    write_descriptors(tmp_path / "o.h5", named(values, network="m"))
    same = ("--queries", tmp_path / "d.h5", "--database", tmp_path / "d.h5")
    other = ("--queries", tmp_path / "o.h5", "--database", tmp_path / "d.h5")
    target = ("-o", tmp_path / "r.h5")
    for words, code, said in (
        ((*same,), 2, "say what to write"),
        ((*other, *target), 2, "made otherwise"),
        ((*same, *target, "--rerank", "R:3"), 2, "give --photos"),
        ((*same, *target, "--backbone", "alexnet"), 2, "--backbone is for --rerank R; leave it out"),
        ((*same, *target, "--qe", "best:3"), 2, "no expansion"),
        ((*same, "--pairs", tmp_path / "p", "--num-matched", 101), 2, "give --num-results 101 too"),
        (("--queries", tmp_path / "none.h5", "--database", tmp_path / "d.h5", *target), 1, "no such file"),
    ):
        assert run("search", *words) == code
        message = capsys.readouterr().err.strip()
        assert said in message
        assert "\n" not in message
    assert not (tmp_path / "r.h5").exists()


@pytest.mark.parametrize("wrong", [np.nan, 3.0])
def test_descriptors_that_are_no_unit_vectors_are_refused(wrong, tmp_path, capsys):
    import h5py

    write_descriptors(tmp_path / "d.h5", named(unit_rows(np.random.default_rng(0), 5, 4)))
    with h5py.File(tmp_path / "d.h5", "r+") as file:
        file["descriptors"][2, 1] = wrong
    with pytest.raises(DataError):
        descriptors.read_descriptors(tmp_path / "d.h5")
    assert run("search", "--queries", tmp_path / "d.h5", "--database", tmp_path / "d.h5", "-o", tmp_path / "r") == 1


def test_an_approximate_engine_is_made_once_and_searched_twice_for_expansion(monkeypatch):
    made = []
    for kind in (IvfEngine, HnswEngine):
        start = kind.__init__
        monkeypatch.setattr(
            kind, "__init__", lambda self, *a, start=start, **k: (made.append(1), start(self, *a, **k))[1]
        )
    data = named(around_centres(np.random.default_rng(6), 200))
    search(data, data, SearchOptions(engine="ivf"), Pipeline(Refinement.parse(qe="average:3")))
    assert len(made) == 1


def test_a_search_does_not_replace_what_it_reads_even_by_force(tmp_path, capsys):
    descriptors, link = tmp_path / "d.h5", tmp_path / "link.h5"
    write_descriptors(descriptors, named(unit_rows(np.random.default_rng(0), 4, 3)))
    link.symlink_to(descriptors)
    before = descriptors.read_bytes()
    for output in (descriptors, link):
        assert run("search", "--queries", descriptors, "--database", descriptors, "-o", output, "--force") == 2
        assert capsys.readouterr().err == f"error: {output}: is read by this command; give the output another name\n"
    assert descriptors.read_bytes() == before


def test_a_search_writes_its_two_results_to_two_files(tmp_path, capsys):
    descriptors, target = tmp_path / "d.h5", tmp_path / "ranks"
    write_descriptors(descriptors, named(unit_rows(np.random.default_rng(0), 4, 3)))
    assert run("search", "--queries", descriptors, "--database", descriptors, "-o", target, "--pairs", target) == 2
    assert "is named for two outputs" in capsys.readouterr().err
    assert not target.exists()


def test_pairs_hold_no_negative_similarity_unless_it_is_asked_for(tmp_path):
    row, similarity = np.array([[1, 2]]), np.array([[0.5, -0.1]], np.float32)
    for asked, count in ((None, 1), (-1.0, 2)):
        ranks = Ranks(["a"], ["a", "b", "c"], row, similarity, {"min_similarity": asked})
        assert write_pairs(tmp_path / "p.txt", ranks, 5) == count
