"""Places, the places file, splits and twins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfm2tuples.errors import DataError
from sfm2tuples.index.schema import TRAIN, VAL
from sfm2tuples.places.grouping import MOST_HOLDERS, Grouping, Join, group_models, photo_joins, scene_joins
from sfm2tuples.places.places_file import ListedPlaces, read_places
from sfm2tuples.places.splits import split_places
from sfm2tuples.places.twins import TwinCandidate, find_twins


def group(names: str, joins: list[Join], listed: dict[str, str] | None = None) -> Grouping:
    """Group models named by single letters, each in a scene folder of its name."""
    listed = listed or {}
    return group_models(list(names), [Path("/scenes") / n for n in names], joins, [listed.get(n) for n in names])


def joins_of(models: str, photos: str, missing: str = "") -> list[Join]:
    """Joins of images by the letters of their models, in order, and of their photos' contents."""
    photo = np.array([photos.index(letter) for letter in photos])
    has_photo = np.array([letter not in missing for letter in photos])
    return photo_joins(photo, has_photo, np.array([ord(letter) - ord("a") for letter in models]))


def test_photos_of_the_same_content_join_models() -> None:
    assert joins_of("aaabcccd", "xyzwzyvv") == [Join(0, 2, photos=2), Join(2, 3, photos=1)]


def test_a_photo_that_another_model_has_too_counts_for_every_pair() -> None:
    joins = joins_of("aaabbbbbccccc", "xyzxyzvwxyzvw")
    assert joins == [Join(0, 1, photos=3), Join(0, 2, photos=3), Join(1, 2, photos=5)]
    grouping = group("abc", joins, {"a": "left", "c": "right"})
    assert grouping.place.tolist() == [0, 1, 1]
    assert grouping.reason == ["", "b and c share 5 photos"]


def test_a_photo_of_very_many_models_joins_them_all_by_few_pairs() -> None:
    count = 100
    joins = photo_joins(np.zeros(count, np.int64), np.ones(count, bool), np.arange(count))
    assert len(joins) < MOST_HOLDERS * count
    names = [str(row) for row in range(count)]
    grouping = group_models(names, [Path("/scenes") / name for name in names], joins, [None] * count)
    assert set(grouping.place.tolist()) == {0}


def test_a_photo_twice_in_one_model_counts_once() -> None:
    assert joins_of("aabb", "xxxx") == [Join(0, 1, photos=1)]


def test_missing_photos_join_nothing() -> None:
    assert joins_of("ab", "xx", missing="x") == []


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=40))
def test_photo_joins_equal_sets(images: list[tuple[int, int]]) -> None:
    images.sort(key=lambda image: image[0])
    contents = [content for _, content in images]
    photo = np.array([contents.index(content) for content in contents], np.int64)
    model = np.array([row for row, _ in images], np.int64)
    found = photo_joins(photo, np.ones(len(images), bool), model)
    assert {(j.first, j.second): j.photos for j in found} == oracles.photo_joins_by_sets(images)


def test_models_of_one_scene_folder_and_photo_root_are_joined() -> None:
    scenes = [Path("/a"), Path("/b"), Path("/a"), Path("/a")]
    assert scene_joins(scenes, ["/a/images", "/a/images", "/a/images", "/elsewhere"]) == [Join(0, 2)]


def test_models_that_share_nothing_are_places_of_their_own() -> None:
    grouping = group("abc", [])
    assert grouping.place.tolist() == [0, 1, 2]
    assert grouping.name == ["a", "b", "c"]
    assert grouping.reason == ["", "", ""]


def test_a_place_says_which_models_were_joined_and_why() -> None:
    joins = [Join(0, 2, photos=10), Join(1, 3), Join(4, 5, image_pairs=5, matches=1037), Join(5, 6, photos=1)]
    grouping = group("abcdefg", joins)
    assert grouping.place.tolist() == [0, 1, 0, 1, 2, 2, 2]
    assert grouping.reason == [
        "a and c share 10 photos",
        "same scene folder: b, d",
        "f and g share 1 photo; e and f: 1,037 verified matches over 5 image pairs",
    ]


def test_a_place_gives_only_the_strongest_evidence_that_connects_it() -> None:
    joins = [Join(0, 1), Join(0, 2), Join(0, 1, photos=3), Join(0, 1, image_pairs=9, matches=900)]
    assert group("abc", joins).reason == ["a and b share 3 photos; same scene folder: a, c"]


def test_a_scene_folder_is_one_reason_for_all_its_models() -> None:
    assert group("abcd", [Join(0, 1), Join(0, 2), Join(0, 3)]).reason == ["same scene folder: a, b, c, d"]


def test_matches_over_more_pairs_are_stronger() -> None:
    joins = [Join(0, 1, image_pairs=3, matches=900), Join(1, 2, image_pairs=4, matches=80)]
    assert group("abc", joins, {"a": "left", "c": "right"}).place.tolist() == [0, 1, 1]


def test_shared_photos_are_stronger_than_matches_and_these_than_a_scene_folder() -> None:
    listed = {"a": "left", "c": "right"}
    joins = [Join(0, 1, photos=1), Join(1, 2, image_pairs=90, matches=9000)]
    assert group("abc", joins, listed).place.tolist() == [0, 0, 1]
    assert group("abc", [Join(0, 1), joins[1]], listed).place.tolist() == [0, 1, 1]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda link: link[0] < link[1]), max_size=12))
def test_places_are_the_connected_components_of_the_evidence(links: list[tuple[int, int]]) -> None:
    grouping = group("abcdefghij", [Join(a, b, photos=1) for a, b in links])
    assert grouping.place.tolist() == oracles.places_by_flooding(10, links)


def test_the_places_file_joins_models_that_share_nothing() -> None:
    grouping = group("abc", [], {"a": "court", "c": "court"})
    assert grouping.place.tolist() == [0, 1, 0]
    assert grouping.name == ["court", "b"]
    assert grouping.reason == ["places file: a, c", ""]


def test_a_model_that_is_not_listed_keeps_its_automatic_place() -> None:
    grouping = group("abc", [Join(0, 1, 3)], {"a": "court"})
    assert grouping.place.tolist() == [0, 0, 1]
    assert grouping.name == ["court", "c"]


def test_the_places_file_overrules_shared_photos_and_says_so() -> None:
    grouping = group("ab", [Join(0, 1, 3)], {"a": "left", "b": "right"})
    assert grouping.place.tolist() == [0, 1]
    assert grouping.contradictions == ["places left and right stay apart as listed, against: a and b share 3 photos"]


def test_a_model_between_two_listed_places_goes_where_it_shares_most() -> None:
    grouping = group("abc", [Join(0, 1, 3), Join(1, 2, 5)], {"a": "left", "c": "right"})
    assert grouping.place.tolist() == [0, 1, 1]
    assert len(grouping.contradictions) == 1


def test_scene_folders_of_the_same_name_give_places_of_different_names() -> None:
    scenes = [Path("/x/castle"), Path("/y/castle"), Path("/z/castle")]
    grouping = group_models(["p", "q", "r"], scenes, [], [None, None, "castle"])
    assert grouping.name == ["castle_2", "castle_3", "castle"]


def test_places_of_one_scene_name_are_numbered_on() -> None:
    scenes = [Path(f"/{letter}/sparse") for letter in "abcdef"]
    listed = [None, None, "sparse_3", None, None, "sparse"]
    names = group_models(list("abcdef"), scenes, [], listed).name
    assert names == ["sparse_2", "sparse_4", "sparse_3", "sparse_5", "sparse_6", "sparse"]


def folders(tmp_path: Path, *names: str) -> list[Path]:
    """Paths below the folder of the places file."""
    return [tmp_path / name for name in names]


def write(tmp_path: Path, text: str) -> Path:
    """A places file."""
    path = tmp_path / "places.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_path_covers_all_models_below_it_and_the_longest_decides(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeffmodel,place\ncity,town\ncity/church/sparse/0,church\n")
    models = folders(tmp_path, "city/church/sparse/0", "city/church/sparse/1", "city/hall", "cityscape/sparse")
    assert read_places(path, models, []).place == ["church", "town", "town", None]


def test_paths_may_be_relative_to_a_root(tmp_path: Path) -> None:
    path = write(tmp_path, "model,place,split\na/sparse,yard,val\n./b,yard,\n")
    models = folders(tmp_path, "elsewhere/a/sparse", "elsewhere/b/sparse/0")
    assert read_places(path, models, [tmp_path / "elsewhere"]) == ListedPlaces(["yard", "yard"], {"yard": VAL})


def test_paths_may_lead_out_of_the_files_folder_or_be_absolute(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    path = tmp_path / "lists/places.csv"
    path.write_text(f"model,place\n../a,yard\n{tmp_path}/b/../c,court\n.,here\n", encoding="utf-8")
    models = folders(tmp_path, "a/sparse/0", "c", "lists/d", "b")
    assert read_places(path, models, []).place == ["yard", "court", "here", None]


def test_one_folder_listed_by_two_roots_in_two_places_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "model,place\na/b,yard\nb,court\n")
    with pytest.raises(DataError, match=r"lists .* in two places"):
        read_places(path, folders(tmp_path, "a/b/sparse"), [tmp_path / "a"])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("model,place\na,x\nb,y\nc,z\n", "2 of 3 rows match no model, first b, c"),
        ("model,place\nb,y\n", "the models found are a/sparse"),
        ("model,place\na,x\na,y\n", "lists a in two places, x and y"),
        ("model,where\na,x\n", "has the columns model,where"),
        ("", "has the columns of an empty file"),
        ("model,place\na,\n", "line 2 is no row"),
        ("model,place\na\n", "line 2 is no row"),
        ("model,place\na,x,y\n", "line 2 is no row"),
        ("model,place,split\na,x,test\n", "line 2 is no row"),
        ("model,place,split\na,x,val\na/sparse,x,train\n", "puts the place x into both splits"),
        ('model,place\n"a,x\n', "is not a CSV table"),
    ],
)
def test_a_places_file_that_is_off_is_refused_in_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(DataError, match=r"places\.csv") as error:
        read_places(write(tmp_path, text), folders(tmp_path, "a/sparse"), [])
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_a_places_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_places(tmp_path / "absent.csv", [], [])
    (tmp_path / "latin.csv").write_bytes(b"model,place\na,caf\xe9\n")
    with pytest.raises(DataError, match="no text in UTF-8"):
        read_places(tmp_path / "latin.csv", [], [])


def split(names: list[str], share: float, seed: int = 0, fixed: dict[str, int] | None = None) -> list[int]:
    """Splits of places that all have photos."""
    return split_places(names, [True] * len(names), fixed or {}, share, seed).tolist()


@pytest.mark.parametrize(
    ("num_places", "share", "num_val"),
    [
        (10, 0.2, 2),
        (5, 0.5, 3),
        (4, 0.1, 1),
        (2, 0.2, 1),
        (1, 0.5, 0),
        (10, 0.0, 0),
        (3, 1.0, 3),
        (2, 0.9, 1),
        (0, 0.2, 0),
    ],
)
def test_the_share_of_validation_places_is_rounded_and_at_least_one(
    num_places: int, share: float, num_val: int
) -> None:
    assert sum(split([f"p{i}" for i in range(num_places)], share)) == num_val


def test_the_split_depends_on_the_seed() -> None:
    names = [f"p{i}" for i in range(20)]
    assert len({tuple(split(names, 0.3, seed)) for seed in range(5)}) > 1


@settings(deadline=None)
@given(st.integers(0, 1000), st.permutations([f"p{i}" for i in range(9)]))
def test_the_order_of_places_does_not_matter_for_the_split(seed: int, names: list[str]) -> None:
    usual = dict(zip(sorted(names), split(sorted(names), 0.4, seed), strict=True))
    assert dict(zip(names, split(names, 0.4, seed), strict=True)) == usual


@settings(deadline=None)
@given(st.integers(0, 1000))
def test_a_new_place_moves_at_most_one_other(seed: int) -> None:
    names = [f"p{i}" for i in range(10)]
    before, after = split(names, 0.3, seed), split([*names, "new"], 0.3, seed)
    assert sum(a != b for a, b in zip(before, after, strict=False)) <= 1


def test_a_place_without_photos_is_for_training_and_does_not_count() -> None:
    has_photos = [False] * 8 + [True, True]
    for seed in range(10):
        result = split_places([f"p{i}" for i in range(10)], has_photos, {}, 0.4, seed)
        assert result[:8].tolist() == [TRAIN] * 8
        assert result.sum() == 1


def test_the_places_file_fixes_splits() -> None:
    names = [f"p{i}" for i in range(10)]
    for seed in range(10):
        result = split(names, 0.2, seed, {"p3": VAL, "p4": TRAIN})
        assert result[3] == VAL
        assert result[4] == TRAIN
        assert sum(result) == 2


def twin(path: str, images: str, listed: bool = False, points: int = 0, scene: str = "/s") -> TwinCandidate:
    """A model whose images are named by single letters."""
    return TwinCandidate(Path(scene), Path(scene) / path, list(images), listed, points)


@pytest.mark.parametrize(
    ("models", "twins"),
    [
        ([twin("sparse/0", "abc"), twin("sparse/1", "abcdef")], {0: 1}),
        ([twin("sparse/0", "abc"), twin("sparse/1", "cde")], {}),
        ([twin("sparse/0", "ab"), twin("sparse/1", "abc"), twin("sparse/2", "abcd")], {0: 2, 1: 2}),
        ([twin("sparse/0", "ab"), twin("sparse/1", "bc"), twin("sparse/2", "abc", listed=True)], {0: 2, 1: 2}),
        ([twin("sparse/0", "abcd", points=9), twin("dense/sparse", "abcd", listed=True)], {0: 1}),
        ([twin("dense/sparse", "abcd", points=9), twin("sparse/0", "abcd")], {0: 1}),
        ([twin("sparse/0", "abcd", points=3), twin("sparse/1", "abcd", points=9)], {0: 1}),
        ([twin("sparse/0", "abcd"), twin("sparse/1", "abcd")], {1: 0}),
        ([twin("sparse/0", "abcd"), twin("sparse/0", "abcd", scene="/other")], {}),
        ([twin("sparse/0", "abc"), twin("sparse/1", "abcd", listed=True), twin("dense", "ab")], {0: 1, 2: 1}),
        ([twin("sparse/0", "ac"), twin("sparse/1", "ab"), twin("sparse/2", "cd")], {}),
    ],
)
def test_a_model_whose_images_are_all_in_another_is_left_out(models: list[TwinCandidate], twins: dict) -> None:
    assert find_twins(models) == twins


def test_a_places_file_elsewhere_names_a_model_in_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    model = tmp_path / "models/castle.nvm"
    model.write_text("")
    listed = tmp_path / "places.csv"
    listed.write_text("model,place\ncastle.nvm,castle\n")
    assert read_places(listed, [model, model / "1"], [model]).place == ["castle", "castle"]
