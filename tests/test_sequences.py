"""Sequences: which photos of a place were taken in one go, and positives across them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from retrieval.photos.taken import taken
from sfm2tuples.errors import MiningError, UsageError
from sfm2tuples.mining.options import NEAR_DUPLICATE, MiningOptions, mining_options
from sfm2tuples.mining.sequences import OUTING, outings, sequences_of

NAMES = st.sampled_from(
    ["a/img_1.jpg", "a/img_2.jpg", "b/img_3.jpg", "a/4_2_10.jpg", "a/4_3_9 (2).jpg", "x.jpg", "7.png"]
)


def sequences(keys, places=None, cameras=None, across="auto", exif=None):
    places = np.zeros(len(keys), np.int64) if places is None else np.array(places)
    cameras = np.zeros(len(keys), np.int64) if cameras is None else np.array(cameras)
    read = None if exif is None else (lambda path: exif[int(path.name)])
    return sequences_of(across, keys, places, cameras, lambda row: Path(str(row)), read)


def groups(found):
    return [np.flatnonzero(found.of_image == number).tolist() for number in np.unique(found.of_image)]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(NAMES, st.integers(0, 2), st.integers(0, 1)), max_size=9))
def test_auto_is_the_first_way_that_tells_a_place_apart(photos):
    keys, places, cameras = ([p[i] for p in photos] for i in range(3))
    told, expected = oracles.sequences_by_dictionaries(keys, places, cameras)
    found = sequences(keys, places, cameras)
    assert found.told_by == told
    rows = np.arange(len(keys))
    one, other = (m.ravel() for m in np.meshgrid(rows, rows))
    across = [
        None not in (expected[i], expected[j]) and expected[i] != expected[j] for i, j in zip(one, other, strict=True)
    ]
    assert found.across(one, other).tolist() == across
    assert not found.across(rows, np.full(len(rows), -1)).any()


def test_frames_that_count_up_are_one_sequence_each_folder_or_name():
    walks = [f"{walk}/frame{i:03d}.png" for walk in ("day", "night") for i in range(3)]
    assert groups(sequences(walks)) == [[0, 1, 2], [3, 4, 5]]
    room = ["4_2_1.jpg", "4_2_2.jpg", "5_1_1.jpg", "5_1_2.jpg"]
    assert groups(sequences(room)) == [[0, 1], [2, 3]]


def test_a_camera_for_each_photo_tells_nothing():
    keys = [f"{i}.jpg" for i in range(4)]
    assert sequences(keys, cameras=[0, 1, 2, 3]).told_by == {}
    assert sequences(keys, cameras=[0, 1, 2, 3]).of_image.tolist() == [-1] * 4
    assert groups(sequences(keys, cameras=[7, 7, 2, 2])) == [[0, 1], [2, 3]]


def test_exif_is_asked_where_nothing_else_tells():
    exif = [("A", 0.0), ("A", 60.0), ("B", 30.0), ("", None), ("A", 2 * OUTING)]
    found = sequences([f"{i}.jpg" for i in range(5)], exif=exif)
    assert found.told_by == {}  # two of five have company
    exif[4] = ("B", 50.0)
    found = sequences([f"{i}.jpg" for i in range(5)], exif=exif)
    assert found.told_by == {"EXIF": 1}
    assert found.of_image.tolist() == [0, 0, 1, -1, 1]
    asked = sequences(["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"], exif=[])  # would fail if it were asked
    assert asked.told_by == {"folders": 1}


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["", "A", "B"]), st.none() | st.integers(0, 5).map(lambda k: k * OUTING * 0.7)))
)
def test_an_outing_ends_after_an_hour_without_a_photo(photos):
    labels = outings(photos)
    for camera in ("", "A", "B"):
        timed = sorted((time, i) for i, (c, time) in enumerate(photos) if c == camera and time is not None)
        for (before, i), (after, j) in itertools.pairwise(timed):
            assert (labels[i] == labels[j]) == (after - before <= OUTING)
    assert all(labels[i] is None for i, (camera, time) in enumerate(photos) if not camera and time is None)
    assert all(labels[i] != labels[j] for i, p in enumerate(photos) for j, q in enumerate(photos) if p[0] != q[0])


def test_a_pattern_names_the_sequence_by_its_group_or_its_match():
    keys = ["s/day_left_1.jpg", "s/day_right_2.jpg", "s/night_3.jpg", "s/4.jpg"]
    assert groups(sequences(keys, across="day|night")) == [[0, 1], [2], [3]]
    assert groups(sequences(keys, across="_(left|right)_|night")) == [[0], [1], [2, 3]]
    with pytest.raises(
        MiningError, match="--across zebra: this tells the photos of no place apart, first s/day_left_1"
    ):
        sequences(keys, across="zebra")


def test_times_and_cameras_are_read_from_exif_and_a_bad_file_says_nothing(tmp_path):
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "One"
    exif.get_ifd(0x8769)[0x9003] = "2020:05:01 10:00:00"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    exif.get_ifd(0x8769)[0x9003] = "2020:13:01 10:00:00"
    Image.new("RGB", (8, 8)).save(tmp_path / "wrong.jpg", exif=exif)
    Image.new("RGB", (8, 8)).save(tmp_path / "none.png")
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    assert taken(tmp_path / "a.jpg") == ("Maker One", 1588327200.0)
    assert taken(tmp_path / "wrong.jpg") == ("Maker One", None)
    assert [taken(tmp_path / name) for name in ("none.png", "torn.jpg", "absent.jpg")] == [("", None)] * 3


def test_what_is_left_open_follows_the_way_of_mining_and_stands_in_no_file():
    assert not {"max_overlap", "across"} & set(MiningOptions().as_dict())
    site = MiningOptions().for_one_site()
    assert (site.max_overlap, site.across) == (NEAR_DUPLICATE, "auto") == (0.95, "auto")
    assert mining_options(json.loads(json.dumps(site.as_dict()))) == site
    chosen = MiningOptions(max_overlap=1.0, across="no")
    assert chosen.for_one_site() == chosen


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"max_overlap": 0.0}, "--max-overlap 0.0: an overlap above 0 and at most 1"),
        ({"max_overlap": float("nan")}, "--max-overlap nan"),
        ({"across": "("}, "--across (: no regular expression (missing )"),
    ],
)
def test_an_option_without_meaning_is_one_line(wrong, says):
    with pytest.raises(UsageError) as error:
        MiningOptions(**wrong)
    assert str(error.value).startswith(says)
