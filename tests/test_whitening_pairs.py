"""Matching pairs of an index or tuple file, and the one call that learns a whitening from them."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from worlds import Index, of_split, random_index, table_of, unit_rows, write_whole

from retrieval.whitening import linear_algebra
from retrieval.whitening.learning import learn_lw, learn_pca
from retrieval.whitening.matching_pairs import (
    MatchingPairs,
    WhiteningOptions,
    learn_whitening,
    pairs_of_index,
    pairs_of_tuples,
    read_pairs,
)
from retrieval.whitening.projection import apply
from sfm2tuples.errors import DataError, UsageError
from sfm2tuples.files.container import Header
from sfm2tuples.files.descriptors import Descriptors, write_descriptors
from sfm2tuples.index.schema import TRAIN
from sfm2tuples.mining.options import MiningOptions
from sfm2tuples.mining.photo_table import tables_of_index
from sfm2tuples.mining.positives import find_candidates
from sfm2tuples.mining.tuple_file import TupleFile


def small_index(seed: int = 0) -> Index:
    index = random_index(np.random.default_rng(seed), (7, 8, 6, 9), (0, 1, 2, 3), val=1)
    axes = np.zeros_like(index.covisibility.axis_angle)
    return replace(index, covisibility=replace(index.covisibility, axis_angle=axes))


def matching_by_loops(index: Index, rows: set[int], min_overlap: float, max_scale_change: float) -> set:
    """Keys of each query and of each image that m3 allows it, from sets of points."""
    graph, seen, found = index.covisibility, index.observations, set()
    points = [set(seen.point[a:b].tolist()) for a, b in zip(seen.indptr[:-1], seen.indptr[1:], strict=True)]
    for query in rows:
        for edge in range(graph.indptr[query], graph.indptr[query + 1]):
            other = int(graph.neighbour[edge])
            overlap = np.float32(len(points[query] & points[other]) / len(points[query]))
            if other in rows and overlap >= np.float32(min_overlap) and graph.scale_change[edge] <= max_scale_change:
                found.add((index.images.key[query], index.images.key[other]))
    return found


def by_key(matching: MatchingPairs) -> set:
    return {(matching.photos.keys[a], matching.photos.keys[b]) for a, b in matching.pairs}


@pytest.mark.parametrize(("split", "last"), [("train", 21), ("all", 30)])
def test_pairs_of_an_index_are_all_ordered_m3_pairs_of_the_split(split: str, last: int) -> None:
    index = small_index()
    matching = pairs_of_index(index.opened(), WhiteningOptions(split=split))
    expected = matching_by_loops(index, set(range(last)), 0.2, 1.5)
    assert len(expected) > 20
    assert by_key(matching) == expected
    assert len(matching.pairs) == len(expected)
    assert matching.photos.keys == index.images.key[:last]
    assert matching.places.tolist() == index.image_place[:last].tolist()


def test_stricter_limits_leave_fewer_pairs() -> None:
    index = small_index()
    matching = pairs_of_index(index.opened(), WhiteningOptions(min_overlap=0.4, max_scale_change=1.2))
    assert by_key(matching) == matching_by_loops(index, set(range(21)), 0.4, 1.2)


def test_the_same_photo_in_two_models_is_one_image_and_no_pair_of_itself() -> None:
    index = small_index()
    photo = index.images.photo.copy()
    photo[3] = 1
    matching = pairs_of_index(replace(index, images=replace(index.images, photo=photo)).opened(), WhiteningOptions())
    assert index.images.key[3] not in matching.photos.keys
    assert all(a != b for a, b in matching.pairs)
    of_both = {b for a, b in matching_by_loops(index, set(range(21)), 0.2, 1.5) if a in index.images.key[1:4:2]}
    found = {b for a, b in by_key(matching) if a == index.images.key[1]}
    assert found <= {index.images.key[1] if b == index.images.key[3] else b for b in of_both}


def test_images_without_a_photo_take_no_part() -> None:
    index = small_index()
    has_photo = index.images.has_photo.copy()
    has_photo[2] = False
    matching = pairs_of_index(
        replace(index, images=replace(index.images, has_photo=has_photo)).opened(), WhiteningOptions()
    )
    assert by_key(matching) == matching_by_loops(index, set(range(21)) - {2}, 0.2, 1.5)
    assert index.images.key[2] not in matching.photos.keys


@pytest.mark.parametrize("split", ["train", "val", "all"])
def test_a_tuple_file_gives_the_pairs_of_its_index(split: str) -> None:
    index = small_index(1)
    images, places, table_row = table_of(index)
    candidates = find_candidates(index.opened(), table_row, images.place, MiningOptions())
    in_train = index.image_split[candidates.query] == TRAIN
    by_split = {"train": of_split(candidates, in_train), "val": of_split(candidates, ~in_train)}
    header = Header("sfm2tuples-tuples", 1, "", (), {}, "")
    tuples = TupleFile(Path("t.h5"), header, images, places, {}, by_split, 0, np.zeros(0, np.int64))
    options = WhiteningOptions(split=split)
    matching, expected = pairs_of_tuples(tuples, options), pairs_of_index(index.opened(), options)
    assert len(expected.pairs) > 0
    assert by_key(matching) == by_key(expected)
    assert matching.photos.keys == expected.photos.keys


def test_a_held_out_walk_s_pairs_with_images_for_training_are_of_both_splits_alone() -> None:
    from test_inside_mining import MINED, no_size, site

    tables = tables_of_index(site(9, val_names="*night*")[1], MiningOptions(**MINED), no_size)
    header = Header("sfm2tuples-tuples", 1, "", (), {}, "")
    tables_and_tuples = (tables.images, tables.places, {}, tables.candidates, 0, np.zeros(0, np.int64), tables.barred)
    tuples = TupleFile(Path("t.h5"), header, *tables_and_tuples)

    def expected(*splits: str) -> set:
        key, found = tables.images.key, set()
        for candidates in map(tables.candidates.get, splits):
            pairs = zip(candidates.queries.tolist(), candidates.image.tolist(), strict=True)
            known = ~np.isnan(candidates.scale_change)
            found |= {(key[query], key[image]) for (query, image), fits in zip(pairs, known, strict=True) if fits}
        return found

    for split, splits in (("train", ("train",)), ("val", ()), ("all", ("train", "val"))):
        matching = pairs_of_tuples(tuples, WhiteningOptions(split=split, min_overlap=0, max_scale_change=9))
        assert by_key(matching) == expected(*splits)
        assert len(matching.pairs) == len(by_key(matching))
    assert len(tables.candidates["val"].image)
    # One place, though its images are of several spots: nothing says that two of these show different things.
    assert matching.places.tolist() == tuples.image_place.tolist()
    assert len(np.unique(matching.places)) < len(np.unique(tables.images.place))


def learnable() -> tuple[Descriptors, MatchingPairs]:
    index = small_index()
    matching = pairs_of_index(index.opened(), WhiteningOptions())
    order = np.random.default_rng(1).permutation(len(index.images.key))
    keys = [index.images.key[row] for row in order]
    return Descriptors(keys, unit_rows(np.random.default_rng(2), len(keys), 8), {"size": 362}), matching


def test_a_whitening_is_learned_on_the_images_of_the_pairs_and_carries_the_descriptors_settings() -> None:
    descriptors, matching = learnable()
    whitening, curve = learn_whitening(descriptors, matching, WhiteningOptions(shrinkage=0.3, dim=4))
    own = descriptors.values[[descriptors.names.index(key) for key in matching.photos.keys]]
    expected = learn_lw(own, matching.pairs, 0.3)
    np.testing.assert_array_equal(whitening.projection, expected.projection[:4])
    assert (whitening.settings, whitening.dim, curve) == ({"size": 362}, 4, None)


def test_auto_learns_at_the_shrinkage_that_was_chosen() -> None:
    descriptors, matching = learnable()
    whitening, curve = learn_whitening(descriptors, matching, WhiteningOptions())
    assert curve is not None
    assert whitening.shrinkage == curve.best
    fixed, _ = learn_whitening(descriptors, matching, WhiteningOptions(shrinkage=curve.best))
    np.testing.assert_array_equal(whitening.projection, fixed.projection)


def test_pca_looks_at_the_images_alone_and_as_published_unless_told() -> None:
    descriptors, matching = learnable()
    own = descriptors.values[[descriptors.names.index(key) for key in matching.photos.keys]]
    whitening, _ = learn_whitening(descriptors, replace(matching, pairs=matching.pairs[:0]), WhiteningOptions("pca"))
    np.testing.assert_array_equal(apply(whitening, own), apply(learn_pca(own), own))
    assert whitening.shrinkage == 0


def test_what_cannot_be_learned_from_is_said_in_one_line() -> None:
    descriptors, matching = learnable()
    with pytest.raises(UsageError, match="none of 21 images has a partner"):
        learn_whitening(descriptors, replace(matching, pairs=matching.pairs[:0]), WhiteningOptions())
    with pytest.raises(UsageError, match="whitened already"):
        learn_whitening(replace(descriptors, settings={"whitening": "abc"}), matching, WhiteningOptions())
    with pytest.raises(UsageError, match="dim 9 is not between 1 and the 8"):
        learn_whitening(descriptors, matching, WhiteningOptions(shrinkage=0.3, dim=9))
    with pytest.raises(DataError, match="have no row"):
        learn_whitening(replace(descriptors, names=[f"x/{n}" for n in descriptors.names]), matching, WhiteningOptions())


def test_dimensions_whose_matrices_the_machine_cannot_hold_are_refused_before_any_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linear_algebra, "machine_memory", lambda: 24 * 10**9)
    descriptors, matching = learnable()
    # NetVLAD's 32,768 dimensions; the rows are one number, so that the test holds none of them either.
    long = np.broadcast_to(np.float32(32768**-0.5), (len(descriptors.names), 32768))
    tracemalloc.start()
    try:
        with pytest.raises(
            UsageError, match=r"32,768 dimensions takes 86 GB .* here are 24; .* --output-dim .*--clusters"
        ):
            learn_whitening(replace(descriptors, values=long), matching, WhiteningOptions())
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_as_much_memory_as_the_matrices_take_is_enough_and_unknown_memory_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    descriptors, matching = learnable()
    for memory in (linear_algebra.MATRICES * 8 * 8**2, None):
        monkeypatch.setattr(linear_algebra, "machine_memory", lambda memory=memory: memory)
        learn_whitening(descriptors, matching, WhiteningOptions(shrinkage=0.3))
    monkeypatch.setattr(linear_algebra, "machine_memory", lambda: linear_algebra.MATRICES * 8 * 8**2 - 1)
    with pytest.raises(UsageError, match="of 8 dimensions"):
        learn_whitening(descriptors, matching, WhiteningOptions(shrinkage=0.3))


@pytest.mark.parametrize("method", ["pca", "lw"])
def test_learning_takes_no_more_matrices_than_the_refusal_counts(method: str) -> None:
    values = unit_rows(np.random.default_rng(0), 40, 400)
    pairs = np.stack([np.arange(39), np.arange(1, 40)], axis=1)
    tracemalloc.start()
    try:
        learn_pca(values, 0.1) if method == "pca" else learn_lw(values, pairs, 0.1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 4 < peak / (8 * 400**2) < linear_algebra.MATRICES


@pytest.mark.parametrize("wrong", [{"method": "zca"}, {"split": "test"}, {"dim": 0}, {"shrinkage": 1.5}])
def test_options_without_meaning_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        WhiteningOptions(**wrong)


def test_pairs_are_read_from_an_index_and_refused_from_other_files(tmp_path: Path) -> None:
    index = small_index()
    write_whole(tmp_path / "i.h5", index, {})
    assert by_key(read_pairs(tmp_path / "i.h5", WhiteningOptions())) == by_key(
        pairs_of_index(index.opened(), WhiteningOptions())
    )
    write_descriptors(tmp_path / "d.h5", learnable()[0])
    with pytest.raises(UsageError, match="sfm2tuples-descriptors"):
        read_pairs(tmp_path / "d.h5", WhiteningOptions())
