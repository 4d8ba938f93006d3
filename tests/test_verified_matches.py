"""Verified matches of COLMAP's database: counted as COLMAP counts, and joining models only on enough evidence."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import oracles
import pytest
from click.testing import CliRunner
from hand_made import write_scene
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.commands.build_index import command
from sfm2tuples.errors import DataError
from sfm2tuples.files.columns import indptr_of
from sfm2tuples.ingest.build import IngestOptions, build_index
from sfm2tuples.places.grouping import Join
from sfm2tuples.places.verified_matches import (
    GivenDatabase,
    ImageIds,
    MatchOptions,
    find_databases,
    joins_by_matches,
    match_joins,
)
from sfm2tuples.readers.colmap_database import PAIR_BASE, read_image_ids, read_verified_pairs
from sfm2tuples.readers.discover import ModelLocation

CALIBRATED, DEGENERATE, WATERMARK = 2, 1, 7
ANY = MatchOptions(min_matches=15, min_match_pairs=1)


def write_database(path: Path, names: str, pairs: dict[str, int], config: int = CALIBRATED) -> Path:
    """A database of images named by letters (ids from 1), and of pairs such as "ab" with their inlier matches."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE TABLE IF NOT EXISTS images (image_id INTEGER PRIMARY KEY, name TEXT, camera_id INTEGER)")
        file.execute(
            "CREATE TABLE IF NOT EXISTS two_view_geometries "
            "(pair_id INTEGER PRIMARY KEY, rows INTEGER, cols INTEGER, data BLOB, config INTEGER)"
        )
        file.executemany("INSERT OR REPLACE INTO images VALUES (?, ?, 1)", list(enumerate(names, 1)))
        for (a, b), rows in pairs.items():
            pair_id = PAIR_BASE * (names.index(a) + 1) + names.index(b) + 1
            row = (pair_id, rows, 2, b"\0" * 8 * rows, config)
            file.execute("INSERT INTO two_view_geometries VALUES (?, ?, ?, ?, ?)", row)
    return path


def verified(path: Path, min_matches: int = 15) -> list[tuple[int, int, int]]:
    """All verified pairs of a database: two ids and the inlier matches."""
    blocks = [np.stack(block, axis=1) for block in read_verified_pairs(path, min_matches)]
    return [tuple(row) for block in blocks for row in block.tolist()]


def location(path: str, root: str = "/r") -> ModelLocation:
    """A model without numbered folders, which is its own scene."""
    return ModelLocation(Path(path), Path(root), path, Path(path), "colmap_binary")


def joined(database: Path, *models: str, roots: str = "", options: MatchOptions = ANY) -> list[Join]:
    """Joins of models that hold the images named by letters, all of one photo root unless `roots` says otherwise."""
    places = [location(f"/r/{row}") for row in range(len(models))]
    photo_roots = list(roots or "p" * len(models))
    return joins_by_matches(places, [list(m) for m in models], photo_roots, [GivenDatabase(database)], options)


def test_pairs_with_too_few_matches_or_without_a_common_object_do_not_count(tmp_path: Path) -> None:
    path = write_database(tmp_path / "d.db", "abcd", {"ab": 14, "ac": 15, "ad": 100})
    write_database(path, "abcd", {"bc": 100}, DEGENERATE)
    write_database(path, "abcd", {"bd": 100}, WATERMARK)
    write_database(path, "abcd", {"cd": 100}, 0)
    assert verified(path) == [(1, 3, 15), (1, 4, 100)]
    assert verified(path, 16) == [(1, 4, 100)]


def test_the_configurations_that_do_not_count_are_colmaps() -> None:
    pycolmap = pytest.importorskip("pycolmap")
    from sfm2tuples.readers.colmap_database import MIN_INLIERS, UNVERIFIED

    kinds = pycolmap.TwoViewGeometryConfiguration
    assert tuple(int(kind) for kind in (kinds.UNDEFINED, kinds.DEGENERATE, kinds.WATERMARK)) == UNVERIFIED
    assert pycolmap.TwoViewGeometryOptions().min_num_inliers == MIN_INLIERS


def test_a_database_of_pycolmap_reads_as_pycolmap_reads_it(tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    path = tmp_path / "database.db"
    rng = np.random.default_rng(0)
    with closing(pycolmap.Database.open(path)) as file:
        camera = file.write_camera(pycolmap.Camera.create_from_model_name(1, "SIMPLE_RADIAL", 100, 200, 200))
        ids = [file.write_image(pycolmap.Image(f"x/ä {i}.jpg", [], camera, i)) for i in (3, 1, 2, 7)]
        for kind, (a, b) in enumerate([(3, 1), (1, 7), (2, 7), (2, 3), (1, 2)], 1):
            rows = rng.integers(0, 50, (10 * kind, 2)).astype(np.uint32)
            geometry = pycolmap.TwoViewGeometry(config=pycolmap.TwoViewGeometryConfiguration(kind), inlier_matches=rows)
            file.write_two_view_geometry(a, b, geometry)
        expected = {}
        pairs, geometries = file.read_two_view_geometries()
        for pair, geometry in zip(pairs, geometries, strict=True):
            if len(geometry.inlier_matches) >= 15 and int(geometry.config) not in (0, 1, 7):
                expected[pycolmap.pair_id_to_image_pair(pair)] = len(geometry.inlier_matches)
        names = {image.name: image.image_id for image in file.read_all_images()}
    assert read_image_ids(path) == names
    assert len(names) == len(ids) == 4
    assert {(a, b): rows for a, b, rows in verified(path)} == expected
    assert len(expected) == 4


def test_matches_that_are_not_in_the_file_yet_are_read_too(tmp_path: Path) -> None:
    """COLMAP writes a log beside its database; a process that was killed leaves it behind."""
    path = write_database(tmp_path / "d.db", "ab", {})
    program = (
        "import sqlite3, os, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA journal_mode=wal');"
        f"c.execute('INSERT INTO two_view_geometries VALUES ({PAIR_BASE + 2}, 20, 2, NULL, 2)'); c.commit();"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    assert (tmp_path / "d.db-wal").stat().st_size
    assert verified(path) == [(1, 2, 20)]


def test_nothing_is_written_beside_a_database(tmp_path: Path) -> None:
    path = write_database(tmp_path / "a #?%.db", "ab", {"ab": 20})
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA journal_mode=wal")
    before = path.read_bytes()
    assert verified(path) == [(1, 2, 20)]
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_bytes() == before


def broken(path: Path, how: str) -> Path:
    """A file that is no whole database of COLMAP's."""
    if how == "text":
        path.write_text("no database " * 100)
    elif how == "other":
        with closing(sqlite3.connect(path)) as file, file:
            file.execute("CREATE TABLE notes (text TEXT)")
    elif how == "torn":
        whole = write_database(path, "abcdefgh", {"ab": 4000, "ac": 4000}).read_bytes()
        path.write_bytes(whole[:9000])
    elif how == "words":
        with closing(sqlite3.connect(path)) as file, file:
            file.execute("CREATE TABLE images (image_id TEXT, name TEXT)")
            file.execute("CREATE TABLE two_view_geometries (pair_id TEXT, rows TEXT, config TEXT)")
            file.execute("INSERT INTO images VALUES ('x', 'a')")
            file.execute("INSERT INTO two_view_geometries VALUES ('many', 'more', 'most')")
    elif how == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize("how", ["absent", "empty", "text", "other", "torn", "words", "folder"])
def test_a_file_that_is_no_database_of_colmap_is_one_line(tmp_path: Path, how: str) -> None:
    path = broken(tmp_path / "database.db", how)
    if how == "empty":
        path.touch()
    with pytest.raises(DataError) as error:
        joined(path, "a", "b")
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_two_models_need_enough_pairs_of_enough_matches(tmp_path: Path) -> None:
    path = write_database(tmp_path / "d.db", "abcxyz", {"ax": 30, "by": 29, "bz": 40, "ab": 500})
    assert joined(path, "abc", "xyz", options=MatchOptions(30, 2)) == [Join(0, 1, image_pairs=2, matches=70)]
    assert joined(path, "abc", "xyz", options=MatchOptions(30, 3)) == []
    assert joined(path, "abc", "xyz", options=MatchOptions(15, 3)) == [Join(0, 1, image_pairs=3, matches=99)]


def test_matches_of_images_in_no_model_connect_nothing(tmp_path: Path) -> None:
    path = write_database(tmp_path / "d.db", "abm", {"am": 90, "bm": 90})
    assert joined(path, "a", "b") == []


def test_an_image_in_two_models_speaks_for_both(tmp_path: Path) -> None:
    path = write_database(tmp_path / "d.db", "abc", {"bc": 20})
    assert joined(path, "ab", "b", "c") == [
        Join(0, 2, image_pairs=1, matches=20),
        Join(1, 2, image_pairs=1, matches=20),
    ]


def test_as_few_pairs_of_models_as_connect_them_the_strongest_first(tmp_path: Path) -> None:
    path = write_database(tmp_path / "d.db", "abcd", {"ab": 20, "ac": 30, "ad": 40, "bc": 50, "bd": 60, "cd": 70})
    found = joined(path, *"abcd")
    assert [(j.first, j.second, j.matches) for j in found] == [(2, 3, 70), (1, 3, 60), (0, 3, 40)]


@settings(deadline=None)
@given(
    st.lists(st.frozensets(st.integers(1, 8), min_size=1), min_size=1, max_size=5),
    st.dictionaries(st.tuples(st.integers(1, 9), st.integers(1, 9)).filter(lambda p: p[0] < p[1]), st.integers(15, 99)),
    st.integers(1, 3),
    st.integers(1, 7),
)
def test_joins_connect_what_a_loop_over_all_pairs_connects(
    models: list[frozenset[int]], pairs: dict[tuple[int, int], int], needed: int, block: int
) -> None:
    held = sorted((image, row) for row, images in enumerate(models) for image in images)
    ids, counts = np.unique([image for image, _ in held], return_counts=True)
    images = ImageIds(ids, indptr_of(counts), np.array([row for _, row in held]))
    rows = np.array([(a, b, m) for (a, b), m in sorted(pairs.items())], np.int64).reshape(-1, 3)
    found = match_joins(images, [tuple(rows[i : i + block].T) for i in range(0, len(rows), block)], needed)
    expected = oracles.match_joins_by_loops(models, pairs, needed)
    assert all(expected[j.first, j.second] == (j.image_pairs, j.matches) for j in found)
    places = oracles.places_by_flooding(len(models), list(expected))
    assert oracles.places_by_flooding(len(models), [(j.first, j.second) for j in found]) == places
    assert len(found) == len(models) - len(set(places))


def test_the_nearest_database_up_to_the_root_or_in_the_scene_folder_is_found(tmp_path: Path) -> None:
    scene, models = tmp_path / "scenes/castle", []
    for name in ("castle/sparse/0", "castle/sparse/1", "court/sparse"):
        (tmp_path / "scenes" / name).mkdir(parents=True)
        path = tmp_path / "scenes" / name
        root = tmp_path / "scenes" if name != "court/sparse" else path
        models.append(ModelLocation(path, root, name, tmp_path / "scenes" / name.split("/")[0], "colmap_binary"))
    for folder in ("", "scenes", "scenes/castle", "scenes/castle/sparse/1", "scenes/court"):
        (tmp_path / folder / "database.db").touch()
    scenes = tmp_path / "scenes"
    found = [path and path.parent for path in find_databases(models)]
    assert found == [scene, scene / "sparse/1", scenes / "court"]
    (scene / "database.db").unlink()
    (scenes / "court/database.db").unlink()
    found = [path and path.parent for path in find_databases(models)]
    assert found == [scenes, scene / "sparse/1", None]


def test_a_database_that_was_found_but_cannot_be_read_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models = [location(str(tmp_path / name), str(tmp_path)) for name in "01"]
    (tmp_path / "database.db").write_text("no database " * 99)
    assert joins_by_matches(models, ["a", "b"], ["p", "p"], [], ANY) == []
    assert len(caplog.records) == 1
    assert str(tmp_path / "database.db") in caplog.text
    with pytest.raises(DataError, match=r"database\.db"):
        joins_by_matches(models, ["a", "b"], ["p", "p"], [], ANY, strict=True)


def test_a_database_found_and_given_counts_once(tmp_path: Path) -> None:
    models = [location(str(tmp_path / name), str(tmp_path)) for name in "01"]
    path = write_database(tmp_path / "database.db", "ab", {"ab": 20})
    expected = [Join(0, 1, image_pairs=1, matches=20)]
    assert joins_by_matches(models, ["a", "b"], ["p", "p"], [], ANY) == expected
    assert joins_by_matches(models, ["a", "b"], ["p", "p"], [GivenDatabase(path)], ANY) == expected


def test_a_given_database_that_fits_two_photo_roots_is_refused(tmp_path: Path) -> None:
    path = write_database(tmp_path / "d.db", "ab", {"ab": 20})
    with pytest.raises(DataError, match="2 photo roots, p, q; give --database ROOT=FILE"):
        joined(path, "a", "b", roots="pq")


def test_a_given_database_is_of_the_models_most_of_whose_images_it_holds(tmp_path: Path) -> None:
    path = write_database(tmp_path / "d.db", "abc", {"ab": 20, "bc": 20})
    assert joined(path, "a", "b", "cxy", roots="ppq") == [Join(0, 1, image_pairs=1, matches=20)]
    with pytest.raises(DataError, match="holds the images of no model"):
        joined(path, "x", "y")


def test_a_database_may_be_given_for_one_root(tmp_path: Path) -> None:
    for name in "xy":
        (tmp_path / name).mkdir()
    path = write_database(tmp_path / "d=b.db", "ab", {"ab": 20})
    roots = [tmp_path / "x", tmp_path / "y"]
    choice = GivenDatabase.parse(f"{roots[0]}={path}", roots)
    assert choice == GivenDatabase(path, roots[0])
    assert GivenDatabase.parse(str(path), roots) == GivenDatabase(path)
    with pytest.raises(DataError, match=r"absent\.db: no such file"):
        GivenDatabase.parse(f"{roots[0]}=absent.db", roots)
    models = [location(str(root / name), str(root)) for root in roots for name in "01"]
    found = joins_by_matches(models, ["a", "b", "a", "b"], ["p", "p", "q", "q"], [choice], ANY)
    assert found == [Join(0, 1, image_pairs=1, matches=20)]


def build(root: Path, *databases: Path, **options: object) -> dict[str, str]:
    """Places of an index of a folder, with their reasons."""
    given = [GivenDatabase(path) for path in databases]
    summary = build_index([root], root.parent / "index.h5", IngestOptions(**options), databases=given)  # type: ignore[arg-type]
    return dict(zip(summary.places.name, summary.places.reason, strict=True))


def write_collection(root: Path) -> None:
    """One scene folder with models of three sites, two of which were matched."""
    for row, letters in enumerate(("abc", "def", "ghi")):
        write_scene(root, "c", {letter: letter.encode() for letter in letters}, model=f"sparse/{row}")
    write_database(root / "c/database.db", "abcdefghi", {"ad": 40, "be": 41, "cf": 42, "ag": 500, "dh": 500})


def test_without_joining_scenes_only_matches_join_the_models_of_a_collection(tmp_path: Path) -> None:
    write_collection(tmp_path / "r")
    matched = "c/sparse/0 and c/sparse/1: 123 verified matches over 3 image pairs"
    assert build(tmp_path / "r") == {"c": f"{matched}; same scene folder: c/sparse/0, c/sparse/2"}
    assert build(tmp_path / "r", join_scenes=False) == {"c": matched, "c_2": ""}
    assert build(tmp_path / "r", join_scenes=False, min_matches=41) == {"c": "", "c_2": "", "c_3": ""}
    wide = build(tmp_path / "r", join_scenes=False, min_match_pairs=1)
    assert list(wide) == ["c"]


def test_a_database_elsewhere_joins_the_models_of_two_scenes(tmp_path: Path) -> None:
    write_collection(tmp_path / "r")
    path = (tmp_path / "r/c/database.db").rename(tmp_path / "elsewhere.db")
    assert len(build(tmp_path / "r", join_scenes=False)) == 3
    assert len(build(tmp_path / "r", path, join_scenes=False)) == 2


def test_the_command_takes_databases_and_thresholds(tmp_path: Path) -> None:
    write_collection(tmp_path / "r")
    path = (tmp_path / "r/c/database.db").rename(tmp_path / "elsewhere.db")
    arguments = [str(tmp_path / "r"), "-o", str(tmp_path / "i.h5"), "--database", str(path), "--no-join-scenes"]
    result = CliRunner().invoke(command, [*arguments, "--min-match-pairs", "1"], catch_exceptions=False)
    assert "  c, 3 models\n    c/sparse/0 and c/sparse/1: 123 verified matches over 3 image pairs\n" in result.output
    assert "    c/sparse/0 and c/sparse/2: 500 verified matches over 1 image pair\n" in result.output


# ---- databases that mean harm ----------------------------------------------------------------------------------------


def test_a_view_in_place_of_a_table_is_refused_before_it_is_asked(tmp_path: Path) -> None:
    """Its rows have no end."""
    path = tmp_path / "d.db"
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE TABLE images (image_id INTEGER PRIMARY KEY, name TEXT)")
        endless = "SELECT 5, 50, 2 UNION ALL SELECT pair_id + 1, 50, 2 FROM r"
        file.execute(
            f"CREATE VIEW two_view_geometries AS WITH RECURSIVE r(pair_id, rows, config) AS ({endless}) SELECT * FROM r"
        )
    assert read_image_ids(path) == {}
    with pytest.raises(DataError, match="two_view_geometries is no table"):
        next(read_verified_pairs(path))


def test_a_database_whose_own_texts_are_damaged_is_one_line(tmp_path: Path) -> None:
    path = write_database(tmp_path / "d.db", "ab", {"ab": 20})
    path.write_bytes(
        path.read_bytes().replace(b"CREATE TABLE two_view_geometries", b"CREATE TABLE two_v\xff\xfe\xffgeometries")
    )
    with pytest.raises(DataError, match="cannot be read as COLMAP's database"):
        list(read_verified_pairs(path))


@pytest.mark.parametrize(("pair", "rows"), [(PAIR_BASE + 2, 2**63 - 1), (PAIR_BASE + 2, 2**31), (-1, 20)])
def test_counts_out_of_range_are_refused(tmp_path: Path, pair: int, rows: int) -> None:
    path = write_database(tmp_path / "d.db", "ab", {})
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("INSERT INTO two_view_geometries VALUES (?, ?, 2, NULL, 2)", (pair, rows))
    with pytest.raises(DataError, match="a pair of images has"):
        list(read_verified_pairs(path))


def test_names_of_a_database_are_read_as_those_of_models(tmp_path: Path) -> None:
    path = write_database(tmp_path / "d.db", "a", {})
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("INSERT INTO images VALUES (7, ?, 1)", ("cam0\\b.jpg",))
    assert read_image_ids(path) == {"a": 1, "cam0/b.jpg": 7}


def test_a_view_is_refused_however_its_name_is_written(tmp_path: Path) -> None:
    path = tmp_path / "d.db"
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE VIEW Images AS SELECT 'a.jpg' AS name, 1 AS image_id")
    with pytest.raises(DataError, match="images is no table"):
        read_image_ids(path)


def test_images_whose_names_differ_in_case_alone_stay_apart(tmp_path: Path) -> None:
    assert read_image_ids(write_database(tmp_path / "d.db", "aA", {})) == {"a": 1, "A": 2}
