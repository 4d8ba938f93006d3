"""Pairs to check: where descriptors and models disagree most; and pairs that a user takes out."""

from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import oracles
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from test_report import HOSTILE, write_example
from test_tuples import OPTIONS, mine, world  # noqa: F401
from worlds import random_index, read_whole, table_of, unit_rows, with_inside

from cli.commands.mine_tuples import command
from retrieval.reports.inspection import inspect_file
from retrieval.reports.options import ReportOptions
from retrieval.reports.report import write_report
from retrieval.reports.sections.pairs_to_check import PAIRS, table_of_pairs
from sfm2tuples.errors import DataError
from sfm2tuples.mining import doubtful_pairs
from sfm2tuples.mining.doubtful_pairs import DoubtfulPairs, alike_negatives, doubtful_of_tuples, unlike_positives
from sfm2tuples.mining.left_out_pairs import read_left_out_pairs, without_pairs
from sfm2tuples.mining.options import MiningOptions
from sfm2tuples.mining.positives import find_candidates
from sfm2tuples.mining.tuple_file import read_tuples

SEEDS = st.integers(0, 10**6)


def pairs_of(found):
    return list(zip(found.first.tolist(), found.second.tolist(), strict=True))


def described(rng, count, dimension=6, distinct=0, share=0.8):
    """Rows of some images, rising, and a descriptor of every image."""
    rows = np.flatnonzero(rng.random(count) < share)
    return rows, unit_rows(rng, count, dimension, distinct)


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.sampled_from([0, 2]), st.sampled_from([(), (8, 7)]))
def test_unlike_positives_are_those_of_m3_by_rising_similarity(seed, distinct, sizes):
    rng = np.random.default_rng(seed)
    index = random_index(rng, sizes or (0,), tuple(range(len(sizes or (0,)))))
    count = len(index.images.key)
    photo = index.images.photo.copy()
    photo[photo == 1] = 0  # one photo twice in a model
    index = dataclasses.replace(index, images=dataclasses.replace(index.images, photo=photo))
    rows, values = described(rng, count, distinct=distinct)
    found = unlike_positives(index.opened(), rows, values[rows], MiningOptions())
    expected = oracles.unlike_positives(index, rows.tolist(), values)
    assert pairs_of(found) == [e[1:] for e in expected]
    assert np.allclose(found.similarity, [e[0] for e in expected])
    assert found.looked_at == len(expected)
    observed = [set(index.observations.point[a:b]) for a, b in zip(*_bounds(index), strict=True)]
    for i, (a, b) in enumerate(pairs_of(found)):
        assert found.shared[i] == len(observed[a] & observed[b])
        assert found.overlap[i] == np.float32(found.shared[i] / min(len(observed[a]), len(observed[b])))


def _bounds(index):
    return index.observations.indptr[:-1].tolist(), index.observations.indptr[1:].tolist()


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.sampled_from([0, 2]), st.sampled_from([1, 25, 1 << 22]))
def test_alike_negatives_are_proven_and_fall_in_similarity(seed, distinct, block):
    rng = np.random.default_rng(seed)
    index = random_index(rng, (9, 6, 4), (0, 0, 1))
    index = with_inside(rng, index)
    photo = index.images.photo.copy()
    photo[9] = 0  # a photo of two models
    index = dataclasses.replace(index, images=dataclasses.replace(index.images, photo=photo))
    rows, values = described(rng, 19, distinct=distinct)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doubtful_pairs, "_BLOCK", block)
        found = alike_negatives(index.opened(), rows, values[rows])
    expected = oracles.alike_negatives(index, rows.tolist(), values)
    assert pairs_of(found) == [e[1:] for e in expected]
    assert np.allclose(found.similarity, [e[0] for e in expected])
    assert found.looked_at == len(expected)


def test_models_of_one_place_prove_nothing_to_each_other_unless_they_are_apart(tmp_path):
    from worlds import write_whole

    from sfm2tuples.index.opened import open_index

    rng = np.random.default_rng(0)
    index = with_inside(rng, random_index(rng, (5, 5), (0, 0)))
    rows, values = np.arange(10), unit_rows(rng, 10, 6)
    across = {}
    for fragments in ("unknown", "apart"):
        write_whole(tmp_path / f"{fragments}.h5", index, {"fragments": fragments})
        found = pairs_of(alike_negatives(open_index(tmp_path / f"{fragments}.h5"), rows, values))
        across[fragments] = {pair for pair in found if pair[0] < 5 <= pair[1]}
    takes_part = index.inside.takes_part
    assert across["unknown"] == set()
    assert across["apart"] == {(i, j) for i in range(5) for j in range(5, 10) if takes_part[i] and takes_part[j]}


def test_an_index_without_relations_has_no_proven_negatives():
    index = random_index(np.random.default_rng(0), (5,), (0,))
    assert alike_negatives(index.opened(), np.arange(5), unit_rows(np.random.default_rng(0), 5, 3)) is None


def some_pairs(first, second):
    count = len(first)
    unknown = np.full(count, np.nan, np.float32)
    return DoubtfulPairs(
        np.array(first), np.array(second), np.arange(count, dtype=np.float32) / 10,
        np.full(count, -1, np.int32), unknown, unknown, count,
    )  # fmt: skip


def test_what_is_shown_has_no_image_twice():
    pairs = some_pairs([0, 0, 2, 4, 3], [1, 2, 3, 5, 6])
    assert pairs.shown(9).tolist() == [0, 2, 3]
    assert pairs.shown(2).tolist() == [0, 2]
    assert pairs.shown(0).tolist() == []


def test_pairs_of_tuples_are_those_with_the_least_and_the_most_similarity(world):  # noqa: F811
    _, tuples = mine(world)
    found = doubtful_of_tuples(tuples)
    for kind, sign in (("positive", 1), ("negative", -1)):
        best = {}
        for rows in tuples.tuples.values():
            similarities = getattr(rows, f"{kind}_similarity")
            for q, images, values in zip(rows.query, getattr(rows, kind), similarities, strict=True):
                for image, value in zip(images.tolist(), values.tolist(), strict=True):
                    if image >= 0:
                        best.setdefault(frozenset((int(q), image)), value)
        expected = sorted(best, key=lambda pair: sign * best[pair])
        assert [frozenset(pair) for pair in pairs_of(found[kind])] == expected
        assert found[kind].looked_at == len(expected)
    positive, tables = found["positive"], inspect_file(tuples.path)
    key = tuples.images.key
    first = f"{key[positive.first[0]]}  {key[positive.second[0]]}"
    assert next(iter(tables["positives that look least alike"])) == first
    assert 0 < len(tables["negatives that look most alike"]) <= 5


def test_tuples_without_descriptors_have_no_pairs_to_check(world, tmp_path):  # noqa: F811
    _, tuples = mine(world, options=dataclasses.replace(OPTIONS, negatives="random"))
    assert [len(pairs.first) for pairs in doubtful_of_tuples(tuples).values()] == [0, 0]
    write_report(world / "tuples.h5", tmp_path / "page", ReportOptions())
    assert (
        "No descriptors were looked at when these tuples were mined" in (tmp_path / "page" / "index.html").read_text()
    )
    assert not (tmp_path / "page" / PAIRS).exists()


def test_the_list_beside_a_page_names_its_pairs_and_is_replaced_with_it(tmp_path):
    keys = [f"a,{row}.jpg" for row in range(5)] + [HOSTILE]
    source = write_example(tmp_path / "t.h5", tmp_path / "photos", keys=keys)
    for force in (False, True):
        write_report(source, tmp_path / "page", ReportOptions(num_pairs=1), force)
    with (tmp_path / "page" / PAIRS).open(newline="") as file:
        lines = list(csv.DictReader(file))
    tuples = read_tuples(source)
    positive = [line for line in lines if line["kind"] == "positive"]
    assert [(line["first"], line["second"]) for line in positive] == [
        (keys[0], keys[1]),
        (keys[4], keys[5]),
        (keys[2], keys[3]),
    ]
    assert positive[0] == {
        "kind": "positive", "first": keys[0], "second": keys[1],
        "similarity": "0.8110", "shared": "1234", "overlap": "0.310", "angle": "12.3",
    }  # fmt: skip
    negative = [line for line in lines if line["kind"] == "negative"]
    assert {line["shared"] for line in negative} == {""}
    assert (
        len(positive) + len(negative)
        == len(lines)
        == 3 + sum((s.negative >= 0).sum() for s in tuples.tuples.values()) - 1
    )
    page = (tmp_path / "page" / "index.html").read_text()
    assert 'href="pairs_to_check.csv"' in page
    assert "1 of 3 pairs, each photo once" in page
    assert "<script>alert" not in page


def test_what_is_not_known_is_empty_in_the_list():
    text = table_of_pairs({"positive": some_pairs([0], [1]), "negative": None}, ["a", "b"])
    assert text == "kind,first,second,similarity,shared,overlap,angle\npositive,a,b,0.0000,,,\n"


# Pairs that a user takes out.


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.integers(0, 40))
def test_candidates_without_pairs_are_the_others_in_their_order(seed, count):
    rng = np.random.default_rng(seed)
    index = random_index(rng, (9, 4), (0, 1))
    images, _, table_row = table_of(index)
    candidates = find_candidates(index.opened(), table_row, images.place, MiningOptions())
    candidates = dataclasses.replace(candidates, across=rng.random(len(candidates.image)) < 0.5)
    pairs = rng.integers(13, size=(count, 2))
    ours, gone = without_pairs(candidates, pairs), {frozenset(pair) for pair in pairs.tolist()}
    columns = ("image", "shared", "overlap", "scale_change", "angle", "across")

    def entries(table):
        query = np.repeat(table.query, np.diff(table.indptr)).tolist()
        return list(zip(query, *(getattr(table, name).tolist() for name in columns), strict=True))

    expected = [entry for entry in entries(candidates) if frozenset(entry[:2]) not in gone]
    assert str(entries(ours)) == str(expected)  # as text, since NaN is not equal to itself
    assert (np.diff(ours.indptr) > 0).all()
    assert ours.query.tolist() == sorted({entry[0] for entry in expected})


def run(world, file, *words):  # noqa: F811
    target = [str(world / "index.h5"), "-o", str(world / "less.h5"), "--descriptors", str(world / "descriptors.h5")]
    options = ["--query-share", "1", "--num-negatives", "2", "--min-overlap", "0.1"]
    return CliRunner().invoke(command, [*target, *options, "--leave-out-pairs", str(file), *words])


def test_the_pairs_of_a_report_can_be_left_out_of_mining(world):  # noqa: F811
    _, before = mine(world)
    write_report(world / "tuples.h5", world / "page", ReportOptions())
    lines = (world / "page" / PAIRS).read_text().splitlines()
    wrong = [line for line in lines if line.startswith("positive")][:3]
    (world / "wrong.csv").write_text("\n".join([lines[0], *wrong, wrong[0]]) + "\n")
    result = run(world, world / "wrong.csv", "--json")
    assert json.loads(result.stdout)["left_out_pairs"] == 3
    after = read_tuples(world / "less.h5")
    assert after.header.options["left_out_pairs"] == 4
    gone = {frozenset(line.split(",")[1:3]) for line in wrong}

    def pairs(file):
        key, found = file.images.key, set()
        for table in file.candidates.values():
            query = np.repeat(table.query, np.diff(table.indptr))
            found |= {frozenset((key[q], key[p])) for q, p in zip(query.tolist(), table.image.tolist(), strict=True)}
        return found

    assert gone < pairs(before)
    assert pairs(after) == pairs(before) - gone


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\nx,y\n", "wrong.csv: has the columns a,b; it needs first,second"),
        ("", "wrong.csv: has the columns of an empty file; it needs first,second"),
        ("first,second\nmodel0/0.jpg,\n", "wrong.csv: line 2 is no pair of photos; name two in first and second"),
        ("first,second\nmodel0/0.jpg,model0/0.jpg\n", "wrong.csv: line 2 is no pair of photos"),
        ("first,second\nmodel0/0.jpg,model0/99.jpg\n", "index.h5 has no image model0/99.jpg; did you mean model"),
        (
            "first,second\nmodel0/0.jpg,model0/1.jpg\nmodel0/0.jpg,model1/7.jpg\n",
            "wrong.csv: line 3 has photos of two places, place0 and place1; take it out",
        ),
        ('first,second\n"a,b\n', "wrong.csv: is not a CSV table"),
    ],
)
def test_a_list_that_cannot_be_meant_is_one_line(world, text, says):  # noqa: F811
    (world / "wrong.csv").write_text(text)
    with pytest.raises(DataError) as error:
        read_left_out_pairs(world / "wrong.csv", read_whole(world / "index.h5").opened())
    assert says in str(error.value)
    assert not (world / "less.h5").exists()


@settings(deadline=None, max_examples=50)
@given(SEEDS, st.integers(0, 30), st.integers(1, 9), st.sampled_from([0, 3]))
def test_the_most_similar_are_the_first_of_all_sorted(seed, count, most, distinct):
    rng = np.random.default_rng(seed)
    similarity = rng.integers(distinct, size=count) / 4 if distinct else rng.random(count)
    first, second = rng.integers(9, size=(2, count))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doubtful_pairs, "MOST_LISTED", most)
        found = doubtful_pairs._most_similar(first, second, similarity)
    expected = sorted(zip((-similarity).tolist(), first.tolist(), second.tolist(), strict=True))[:most]
    assert list(zip((-found[2]).tolist(), found[0].tolist(), found[1].tolist(), strict=True)) == expected
