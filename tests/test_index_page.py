"""The page of an index: maps that keep lengths, matrices that count, places that look alike, hostile names."""

from __future__ import annotations

import html
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from oracles import most_shared_of_squares
from scipy.spatial.transform import Rotation
from test_report import HOSTILE, jpeg
from worlds import random_index, write_whole

from cli.commands.report import command
from retrieval.reports.matrices import MOST, binned_matrix
from retrieval.reports.options import ReportOptions
from retrieval.reports.plan_views import HEIGHT, WIDTH, ground_axes, plan_view
from retrieval.reports.report import write_report
from sfm2tuples.errors import DataError, FileFormatError, UsageError
from sfm2tuples.files.descriptors import Descriptors, write_descriptors


def around_a_tower(count: int, up: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Level cameras that look at the origin from a ring around it: poses (n, 3, 4), centres (n, 3)."""
    rng = np.random.default_rng(seed)
    ground = np.linalg.svd(up[None])[2][1:]
    angle = np.sort(rng.uniform(0, 2 * np.pi, count))
    centres = np.stack([np.cos(angle) * 3, np.sin(angle) * 2], axis=1) @ ground
    poses = []
    for centre in centres:
        ahead = -centre / np.linalg.norm(centre)
        rotation = np.stack([np.cross(-up, ahead), -up, ahead])
        poses.append(np.c_[rotation, -rotation @ centre])
    return np.array(poses), centres


def wedges(svg: str) -> np.ndarray:
    """Corners of the cameras of a drawing: (n, 3, 2)."""
    corners = re.findall(r'<polygon class="camera" points="([^"]+)"', svg)
    return np.array([[[float(v) for v in corner.split(",")] for corner in line.split()] for line in corners])


@given(st.integers(3, 12), st.integers(0, 10**6))
def test_a_map_keeps_the_lengths_of_the_ground_and_shows_where_cameras_look(count: int, seed: int) -> None:
    up = Rotation.random(rng=seed).apply([0.0, 0, 1])
    pose, centres = around_a_tower(count, up, seed)
    axes = ground_axes(pose, centres)
    assert np.allclose(axes @ axes.T, np.eye(2), atol=1e-9)
    assert np.allclose(axes @ up, 0, atol=1e-9)
    points = np.random.default_rng(seed).normal(size=(50, 3)) * 0.3
    view = plan_view(pose, points, np.array([[0, 1]]), np.array([9]), [f"{i}" for i in range(count)], "tower")
    corners = wedges(view.svg)
    assert corners.shape == (count, 3, 2)
    drawn = np.linalg.norm(corners[:, None, 0] - corners[None, :, 0], axis=2)
    true = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    scale = drawn.max() / true.max()
    assert np.allclose(drawn, true * scale, atol=0.3)
    assert ((corners[:, 0] >= 0) & (corners[:, 0] <= [WIDTH, HEIGHT])).all()
    # Seen from above without a mirror: cameras that follow each other around the tower turn one way, as they do.
    tower = corners[:, 0].mean(axis=0) - (centres @ axes.T * [1, -1] * scale).mean(axis=0)
    ahead = corners[:, 1:].mean(axis=1) - corners[:, 0]
    towards = tower - corners[:, 0]
    cosine = (ahead * towards).sum(axis=1) / np.linalg.norm(ahead, axis=1) / np.linalg.norm(towards, axis=1)
    assert (cosine > 0.95).all()


@pytest.mark.parametrize("num_points", [0, 1, 40])
def test_cameras_in_one_spot_and_a_single_camera_have_a_map_too(num_points: int) -> None:
    points = np.zeros((num_points, 3))
    for count in (1, 2, 5):
        pose = np.tile(np.eye(3, 4), (count, 1, 1))
        view = plan_view(pose, points, np.zeros((0, 2), np.int64), np.zeros(0), ["a"] * count, "spot")
        assert "nan" not in view.svg
        assert view.cameras == count


def test_points_without_a_position_are_left_out() -> None:
    pose, _ = around_a_tower(4, np.array([0.0, 0, 1]), 0)
    points = np.r_[np.zeros((3, 3)), np.full((2, 3), np.nan), np.full((1, 3), np.inf)]
    assert "nan" not in plan_view(pose, points, np.zeros((0, 2), np.int64), np.zeros(0), list("abcd"), "x").svg


@given(st.integers(1, 3 * MOST), st.integers(0, 40), st.integers(0, 10**6))
def test_a_matrix_shows_the_most_that_any_pair_of_a_square_shares(size: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(size, size=(2, count))
    shared = rng.integers(1, 500, count)
    found = binned_matrix(rows, columns, shared, size)
    assert len(found) <= MOST
    assert np.array_equal(found, most_shared_of_squares(rows, columns, shared, size, MOST))


@pytest.fixture
def index_file(tmp_path: Path) -> Path:
    """Three models of two places; the photos of the first model are there, the first has a hostile key."""
    index = random_index(np.random.default_rng(3), (4, 5, 6), (0, 0, 1), val=1)
    index.models.photo_root[0] = str(tmp_path / "photos")
    index.models.name[1] = HOSTILE
    index.images.key[0] = HOSTILE
    index.places.reason[0] = "model0 and model1 share 7 photos"
    for row in range(4):
        photo = tmp_path / "photos" / index.images.name[row]
        photo.parent.mkdir(parents=True, exist_ok=True)
        photo.write_bytes(jpeg(30 * row))
    write_whole(tmp_path / "index.h5", index, {"min_shared": 1}, ["e" * 64])
    return tmp_path / "index.h5"


def page_of(source: Path, target: Path, *flags: str) -> str:
    result = CliRunner().invoke(command, [str(source), "-o", str(target), *flags], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return (target / "index.html").read_text()


def test_a_page_shows_models_places_and_how_to_look_for_places_that_look_alike(
    index_file: Path, tmp_path: Path
) -> None:
    page = page_of(index_file, tmp_path / "page")
    assert page.count('class="plan"') == 3
    assert page.count('class="plan matrix"') == 2
    assert "model0 and model1 share 7 photos" in page
    assert "by --descriptors" in page
    assert HOSTILE not in page
    assert HOSTILE in html.unescape(page)
    assert page_of(index_file, tmp_path / "few", "--num-models", "1", "--num-places", "0").count('class="plan') == 1


def test_models_are_shown_in_the_figures_of_colmap(index_file: Path, tmp_path: Path) -> None:
    page = page_of(index_file, tmp_path / "page")
    table = page[page.index('id="numbers"') :].split("</section>")[0]
    rows = [re.findall(r"<td>([^<]+)</td>", row) for row in table.split("<tr style")[1:]]
    index = random_index(np.random.default_rng(3), (4, 5, 6), (0, 0, 1), val=1)
    for model, row in zip((2, 1, 0), rows, strict=True):
        mine = [i for i in range(15) if index.images.model[i] == model]
        pointers = index.observations.indptr
        seen = sum(len(set(index.observations.point[pointers[i] : pointers[i + 1]].tolist())) for i in mine)
        points = slice(*index.models.point_start[model : model + 2].tolist())
        error = float(np.mean(index.points.error[points].astype(np.float16).astype(float)))
        expected = [
            f"{len(mine)}",
            f"{len(mine)}",
            "25",
            f"{seen / len(mine):.1f}",
            f"{seen / 25:.1f}",
            f"{error:.2f} px",
        ]
        assert row == expected


def test_an_index_of_one_of_everything_is_spoken_of_in_the_singular(tmp_path: Path) -> None:
    index = random_index(np.random.default_rng(0), (2,), (0,))
    index.images.has_photo[:] = [True, False]
    write_whole(tmp_path / "one.h5", index, {})
    page = page_of(tmp_path / "one.h5", tmp_path / "page")
    said = [" ".join(re.sub("<[^>]+>", " ", found).split()) for found in re.findall(r'card stat">(.*?)</div>', page)]
    assert said == ["1 place", "1 model", "2 images", "25 points", "1 pair that shares points", "1 image with a photo"]
    assert "The only model." in page
    assert "joined because" not in page
    assert not re.search(r"\b1 (places|models|images|points|pairs|photos)\b", re.sub("<[^>]+>", "", page))


def test_places_that_look_alike_are_shown_side_by_side(index_file: Path, tmp_path: Path) -> None:
    index = random_index(np.random.default_rng(3), (4, 5, 6), (0, 0, 1), val=1)
    names = [HOSTILE, *index.images.key[1:]]
    values = np.random.default_rng(0).normal(size=(15, 16)).astype(np.float32) * 0.02
    values[:9, 0], values[9:, 1] = 1, 1
    values[[1, 2, 3, 10, 11, 12], 2] = 2  # some photos of both places look alike
    values[[2, 11], 3] = 4  # two of them most of all
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    write_descriptors(tmp_path / "d.h5", Descriptors(names, values))
    page = page_of(index_file, tmp_path / "page", "--descriptors", str(tmp_path / "d.h5"))
    assert "place0 · place1" in page or "place1 · place0" in page
    first = page.index('class="pair"')
    assert {names[2], names[11]} == set(re.findall(r"<bdi>([^<]+)</bdi>", page[first:])[:2])
    assert (tmp_path / "page" / "photos" / "000002.jpg").is_file()
    assert "photo cannot be read" in page


def test_descriptors_of_other_photos_are_refused(index_file: Path, tmp_path: Path) -> None:
    write_descriptors(tmp_path / "d.h5", Descriptors(["other.jpg"], np.eye(1, 4, dtype=np.float32)))
    options = ReportOptions(descriptors=tmp_path / "d.h5")
    with pytest.raises(DataError, match=r"d\.h5: describes none of the index's photos"):
        write_report(index_file, tmp_path / "page", options)
    assert not (tmp_path / "page").exists()


def test_a_folder_without_a_run_and_numbers_below_0_are_refused(index_file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder without a training run"):
        write_report(tmp_path, tmp_path / "page", ReportOptions())
    with pytest.raises(UsageError, match="--num-models -1"):
        ReportOptions(num_models=-1)
    (tmp_path / "text.txt").write_text("a")
    with pytest.raises(FileFormatError, match="give an index"):
        write_report(tmp_path / "text.txt", tmp_path / "page", ReportOptions())
