"""Columns in small types, positions in single precision, and what older files become."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hand_made import random_model, run
from hypothesis import given, settings
from hypothesis import strategies as st
from site_models import random_site, write_site
from worlds import random_index, write_whole

from retrieval.reports.verification import verify_file
from sfm2tuples.errors import FileFormatError, UsageError
from sfm2tuples.files.columns import ColumnStream
from sfm2tuples.files.container import content_fingerprint, read_header
from sfm2tuples.files.rules import Rule
from sfm2tuples.index.opened import OpenedIndex, open_index
from sfm2tuples.index.schema import RULES
from sfm2tuples.index.stored_types import narrowed, smallest_type
from sfm2tuples.ingest.build import build_index
from sfm2tuples.ingest.options import IngestOptions
from sfm2tuples.ingest.rounding import MOST_LOST, centre_of, half_of, rounding_loss
from sfm2tuples.ingest.upgrading import upgrade_index
from sfm2tuples.readers.any_kind import read_model
from sfm2tuples.readers.discover import find_models
from sfm2tuples.readers.sparse_model import SparseModel

NEW = ("images/observed", "points/centre")
"""Columns that version 1 did not have."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models, the last far from its world's origin; their index whole, lean, and as version 1."""
    made, rng = tmp_path_factory.mktemp("upgrade"), np.random.default_rng(0)
    for scene in "abc":
        model = random_site(rng, images=20, points=900, side=8)
        model = replace(model, point_errors=rng.uniform(0, 3, len(model.points)))
        model = moved(model, np.array([4e6, 5e5, 4.9e6])) if scene == "c" else model
        write_site(made / "models" / scene / "sparse" / "0", made / "models" / scene / "images", model)
    for name, options in (("whole", IngestOptions()), ("lean", IngestOptions(keep="graph"))):
        build_index([made / "models"], made / f"{name}.h5", options)
    as_version_1(made / "whole.h5", made / "old.h5")
    return made


def moved(model: SparseModel, by: np.ndarray) -> SparseModel:
    """The same model elsewhere in its world."""
    x, y, z, w = (model.quaternions[:, k] for k in (1, 2, 3, 0))
    from scipy.spatial.transform import Rotation

    rotation = Rotation.from_quat(np.stack([x, y, z, w], axis=1)).as_matrix()
    return replace(model, points=model.points + by, translations=model.translations - rotation @ by)


def as_version_1(source: Path, target: Path) -> None:
    """Write an index in the layout before version 2: wide types, whole positions, one fingerprint of all."""
    with open_index(source) as index, h5py.File(source) as file, h5py.File(target, "w", libver="v110") as old:
        xyz = index.points.xyz[:]

        def copy(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset) and name not in NEW:
                wide = RULES[name].dtype
                old[name] = xyz if name == "points/xyz" else item[()].astype(wide)

        file.visititems(copy)
        options = {k: v for k, v in index.header.options.items() if k != "keep"}
        old.attrs.update({"format": "sfm2tuples-index", "version": 1, "software": "sfm2tuples 0.1.0"})
        old.attrs.update({"options": json.dumps(options, sort_keys=True), "parents": "[]"})
        old.attrs["fingerprint"] = content_fingerprint(old, ["models/photo_root"])


def answers(index: OpenedIndex) -> list[np.ndarray]:
    """What an index says of all that it holds."""
    found = [index.num_observed(), index.poses(), index.centres(), index.images.place[:], index.images.id[:]]
    found += [index.points.xyz[:], index.points.error[:], index.points.id[:], index.observations.point[:]]
    for row in range(index.num_images):
        found += [column for name, column in vars(index.covisible(row)).items() if name != "key"]
        found += list(vars(index.points_of(row)).values())
    for point in range(0, index.num_points, 97):
        found += list(vars(index.track(point)).values())
    return found


def test_columns_have_the_smallest_types_and_read_as_before(folder: Path) -> None:
    with h5py.File(folder / "whole.h5") as file:
        types = {name: file[name].dtype.name for name in RULES if RULES[name].stored and name in file}
    assert set(types.values()) == {"int32", "uint32", "uint16", "float32", "float16"}
    assert {name: RULES[name].stored[0] for name in types} == types
    with open_index(folder / "whole.h5") as index:
        for table in (index.images, index.points, index.observations, index.graph):
            for name in dir(table):
                rule = RULES.get(f"{table._group}/{name}")
                if rule is not None:
                    assert getattr(table, name)[:].dtype == rule.dtype, name


def test_an_index_of_version_1_is_read_as_it_is(folder: Path) -> None:
    with open_index(folder / "whole.h5") as new, open_index(folder / "old.h5") as old:
        for left, right in zip(answers(new), answers(old), strict=True):
            np.testing.assert_array_equal(left, right)
            assert left.dtype == right.dtype
    assert read_header(folder / "old.h5").details == ""
    assert verify_file(folder / "old.h5") == read_header(folder / "old.h5").fingerprint


def test_an_upgraded_index_has_the_bytes_of_a_new_one(folder: Path, tmp_path: Path) -> None:
    for keep, name in (("all", "whole"), ("graph", "lean")):
        assert run("upgrade", folder / "old.h5", "-o", tmp_path / f"{keep}.h5", "--keep", keep, "--quiet") == 0
        assert (tmp_path / f"{keep}.h5").read_bytes() == (folder / f"{name}.h5").read_bytes()
    assert run("upgrade", folder / "whole.h5", "-o", tmp_path / "l.h5", "--keep", "graph", "--quiet") == 0
    assert (tmp_path / "l.h5").read_bytes() == (folder / "lean.h5").read_bytes()


def test_large_columns_are_upgraded_in_blocks(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfm2tuples.ingest.upgrading.BLOCK_ROWS", 7)
    upgrade_index(folder / "old.h5", tmp_path / "new.h5")
    assert (tmp_path / "new.h5").read_bytes() == (folder / "whole.h5").read_bytes()


def test_where_there_is_nothing_to_upgrade_it_says_so(folder: Path, tmp_path: Path) -> None:
    for name, keep, what in (
        ("whole", "all", "has version 2 already"),
        ("lean", "graph", "is lean already"),
        ("lean", "all", "has version 2 already"),
    ):
        with pytest.raises(UsageError, match=what):
            upgrade_index(folder / f"{name}.h5", tmp_path / "x.h5", keep)
    (tmp_path / "no.h5").write_bytes(b"no index")
    with pytest.raises(FileFormatError, match="not a whole HDF5 file"):
        upgrade_index(tmp_path / "no.h5", tmp_path / "x.h5")
    assert not (tmp_path / "x.h5").exists()


def test_positions_are_kept_to_a_fraction_of_a_pixel(folder: Path) -> None:
    """Also of a model whose coordinates single precision alone would round to half a metre."""
    with open_index(folder / "whole.h5") as index:
        for location in find_models([folder / "models"]):
            model, row = read_model(location), index.models.name.index(location.name)
            first, last = index.models.point_start[row : row + 2]
            assert np.abs(index.points.xyz[first:last] - model.points).max() < 1e-4
            errors = index.points.error[first:last]
            np.testing.assert_allclose(errors, model.point_errors, rtol=2**-11, atol=2**-25)
            assert rounding_loss(model) < MOST_LOST / 100
    assert np.abs(np.float32(4.9e6) - 4.9e6 - 0.2).max() > 0.1


def lost_by_projection(model: SparseModel) -> list[float]:
    """Pixels that each observation moves by, from the definition: both positions through a pinhole."""
    from scipy.spatial.transform import Rotation

    centre, lost = np.median(model.points, axis=0), []
    for image in range(len(model.image_names)):
        rotation = Rotation.from_quat(model.quaternions[image][[1, 2, 3, 0]]).as_matrix()
        for k in range(*model.observation_indptr[image : image + 2]):
            seen = []
            point = model.points[model.observation_points[k]]
            for xyz in (point, (point - centre).astype(np.float32).astype(float) + centre):
                x, y, z = rotation @ xyz + model.translations[image]
                seen.append(np.array([100 * x / z, 100 * y / z]))
            lost.append(float(np.linalg.norm(seen[0] - seen[1])))
    return lost


@pytest.mark.parametrize("far", [0.0, 1e3, 1e6])
def test_the_loss_is_about_that_of_projections(far: float) -> None:
    """Half of the images stand far from the others, so that coordinates are large among near points."""
    rng = np.random.default_rng(3)
    model = random_site(rng, images=12, points=600, side=5)
    near = rng.random(len(model.points)) < 0.5
    model = replace(model, points=model.points + far * np.outer(near, [1, 0, 0]))
    lost, bound = np.percentile(lost_by_projection(model), 99), rounding_loss(model)
    assert bound < 20 * lost + 1e-9
    assert lost < 20 * bound + 1e-9


def test_a_model_that_would_lose_too_much_keeps_double_precision(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    ends = [random_site(rng, images=10, points=500, side=6) for _ in range(2)]
    far = moved(ends[1], np.array([3e7, 0, 0]))
    count = len(ends[0].points)
    model = replace(
        ends[0],
        image_ids=np.arange(20),
        image_names=[f"{row:04d}.jpg" for row in range(20)],
        image_cameras=np.zeros(20, np.int64),
        quaternions=np.concatenate([ends[0].quaternions, far.quaternions]),
        translations=np.concatenate([ends[0].translations, far.translations]),
        observation_indptr=np.append(
            ends[0].observation_indptr, far.observation_indptr[1:] + ends[0].observation_indptr[-1]
        ),
        observation_points=np.concatenate([ends[0].observation_points, far.observation_points + count]),
        observation_xy=np.concatenate([ends[0].observation_xy, far.observation_xy]),
        point_ids=np.arange(2 * count),
        points=np.concatenate([ends[0].points, far.points]),
        point_errors=np.zeros(2 * count),
    )
    assert rounding_loss(model) > MOST_LOST
    write_site(tmp_path / "models/a/sparse/0", tmp_path / "models/a/images", model)
    write_site(tmp_path / "models/b/sparse/0", tmp_path / "models/b/images", ends[0])
    build_index([tmp_path / "models"], tmp_path / "i.h5", IngestOptions(inside=False))
    with open_index(tmp_path / "i.h5") as index, h5py.File(tmp_path / "i.h5") as file:
        assert file["points/xyz"].dtype == np.float64
        assert not file["points/centre"][()].any()
        written = read_model(next(one for one in find_models([tmp_path / "models"]) if one.name.startswith("a/")))
        np.testing.assert_array_equal(index.points.xyz[: len(written.points)], written.points)
        assert np.ptp(written.points[:, 0]) > 2e7
    as_version_1(tmp_path / "i.h5", tmp_path / "old.h5")
    upgrade_index(tmp_path / "old.h5", tmp_path / "new.h5")
    assert (tmp_path / "new.h5").read_bytes() == (tmp_path / "i.h5").read_bytes()


def test_a_centre_is_of_most_points_and_of_finite_ones() -> None:
    points = np.array([[0, 0, 0], [1, 1, 1], [2, 2, 2], [3, 3, 3], [1e9, 1e9, 1e9]])
    assert centre_of(points).tolist() == [2, 2, 2]
    assert centre_of(np.zeros((0, 3))).tolist() == [0, 0, 0]
    assert centre_of(np.array([[np.nan, 0, 0]])).tolist() == [0, 0, 0]


def test_what_single_precision_cannot_hold_is_an_infinite_loss() -> None:
    model = random_model(0)
    assert np.isfinite(rounding_loss(model))
    for value in (1e39, np.nan):
        points = model.points.copy()
        points[3, 0] = value
        assert rounding_loss(replace(model, points=points)) == np.inf
    nothing = replace(model, observation_indptr=model.observation_indptr * 0, observation_points=np.zeros(0, np.int64))
    assert rounding_loss(nothing) == 0.0


def test_errors_in_half_precision_stay_finite_and_missing() -> None:
    errors = np.array([0.0, 0.5, 1e9, -1.0, np.nan])
    np.testing.assert_array_equal(half_of(errors), np.array([0, 0.5, 65504, -1, np.nan], np.float16))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-(2**40), 2**40), max_size=5), st.sampled_from([("int32",), ("uint16",), ("uint32",)]))
def test_narrow_columns_hold_what_they_held(values: list[int], stored: tuple[str, ...]) -> None:
    column, rule = np.array(values, np.int64), Rule(("x",), "int64", stored)
    small = narrowed(rule, column)
    assert isinstance(small, np.ndarray)
    np.testing.assert_array_equal(small.astype(np.int64), column)
    limits = np.iinfo(stored[0])
    fits = all(limits.min <= value <= limits.max for value in values)
    assert small.dtype == (stored[0] if fits else np.int64)
    bounds = (min(values, default=0), max(values, default=0))
    stream = ColumnStream(np.dtype(np.int64), column.shape, lambda: iter([column]), bounds)
    found = narrowed(rule, stream)
    assert isinstance(found, ColumnStream)
    assert found.dtype == small.dtype == smallest_type(rule, *bounds)
    unknown = narrowed(rule, replace(stream, bounds=None))
    assert isinstance(unknown, ColumnStream)
    assert unknown.dtype == np.int64


def test_rows_beyond_32_bits_are_read_from_wide_columns(tmp_path: Path) -> None:
    """What an index of more than 2^31 points would hold, of ids, which have no table to be rows of."""
    index = random_index(np.random.default_rng(0), (3, 4), (0, 1))
    index.points.id[5] = 2**40
    write_whole(tmp_path / "i.h5", index)
    with open_index(tmp_path / "i.h5") as opened, h5py.File(tmp_path / "i.h5") as file:
        assert file["points/id"].dtype == np.int64
        np.testing.assert_array_equal(opened.points.id, index.points.id)
        np.testing.assert_array_equal(opened.points.centre, index.points.centre)


def test_a_negative_row_in_32_bits_is_refused(tmp_path: Path) -> None:
    index = random_index(np.random.default_rng(0), (3, 4), (0, 1))
    write_whole(tmp_path / "i.h5", index)
    with h5py.File(tmp_path / "i.h5", "r+") as file:
        file["observations/point"][0] = -1
    with open_index(tmp_path / "i.h5") as opened, pytest.raises(FileFormatError, match="names the row -1"):
        opened.points_of(0)
