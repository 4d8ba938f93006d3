"""Models of files that say no size of their photos: what they prove once photos say it, and where photos cannot."""

from __future__ import annotations

import logging
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from sfm2tuples.index.opened import OpenedIndex, open_index
from sfm2tuples.ingest.build import build_index
from sfm2tuples.ingest.options import IngestOptions
from sfm2tuples.readers.sparse_model import SparseModel
from sfm2tuples.relations.frusta import rotations_of
from tests.site_models import SIZE, corridor, write_site

TURN = np.diag([1.0, -1.0, -1.0])
"""COLMAP's camera axes to Bundler's."""
FOCAL = 100


@pytest.fixture(scope="module")
def model() -> SparseModel:
    return corridor(np.random.default_rng(0), images=40, length=60.0)


def seen(model: SparseModel) -> list[tuple[np.ndarray, np.ndarray]]:
    """By image, the points that it observes, and where it sees them from the middle of its photo, y down."""
    found = []
    for row, points in enumerate(np.split(model.observation_points, model.observation_indptr[1:-1])):
        x, y, z = rotations_of(model.quaternions)[row] @ model.points[points].T + model.translations[row][:, None]
        found.append((points, FOCAL * np.stack([x / z, y / z], axis=1)))
    return found


def write_bundle(folder: Path, model: SparseModel) -> None:
    tracks: list[list[str]] = [[] for _ in model.points]
    lines = ["# Bundle file v0.3", f"{len(model.image_names)} {len(model.points)}"]
    for row, (points, xy) in enumerate(seen(model)):
        rotation, shift = TURN @ rotations_of(model.quaternions)[row], TURN @ model.translations[row]
        lines += [f"{FOCAL} 0 0", *(" ".join(map(repr, line)) for line in [*rotation.tolist(), shift.tolist()])]
        for point, (x, y) in zip(points.tolist(), xy.tolist(), strict=True):
            tracks[point].append(f"{row} 0 {x!r} {-y!r}")
    for xyz, track in zip(model.points.tolist(), tracks, strict=True):
        lines += [" ".join(map(repr, xyz)), "0 0 0", f"{len(track)} {' '.join(track)}"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bundle.out").write_text("\n".join(lines) + "\n")
    (folder / "list.txt").write_text("".join(f"{name}\n" for name in model.image_names))


def write_nvm(folder: Path, model: SparseModel, corner: bool = False, second: str = "NVM_V3") -> None:
    """With coordinates from the middle of the photo as VisualSFM's, or from its upper left corner as COLMAP's."""
    tracks: list[list[str]] = [[] for _ in model.points]
    lines = [second, "", str(len(model.image_names))]
    for row, (points, xy) in enumerate(seen(model)):
        centre = -rotations_of(model.quaternions)[row].T @ model.translations[row]
        pose = [*model.quaternions[row].tolist(), *centre.tolist()]
        lines.append(f"{model.image_names[row]} {FOCAL} {' '.join(map(repr, pose))} 0 0")
        for point, place in zip(points.tolist(), (xy + corner * np.array(SIZE) / 2).tolist(), strict=True):
            tracks[point].append(f"{row} 0 {place[0]!r} {place[1]!r}")
    kept = [(xyz, track) for xyz, track in zip(model.points.tolist(), tracks, strict=True) if track]
    lines += ["", str(len(kept))]
    lines += [f"{' '.join(map(repr, xyz))} 0 0 0 {len(track)} {' '.join(track)}" for xyz, track in kept]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "site.nvm").write_text("\n".join(lines) + "\n\n0\n")


def photograph(folder: Path, model: SparseModel, size: tuple[int, int] = SIZE) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for row, name in enumerate(model.image_names):
        Image.new("RGB", size, (row, 0, 0)).save(folder / name, "PNG")


def built(folder: Path, **options: object) -> OpenedIndex:
    build_index([folder], folder / "index.h5", IngestOptions(inside=True, **options))
    return open_index(folder / "index.h5")


def relations(index: OpenedIndex) -> list[list[object]]:
    inside, graph = index.inside, index.graph
    assert inside is not None
    columns = (inside.takes_part, inside.spot, inside.split, inside.indptr, inside.other, inside.hops, graph.neighbour)
    return [column[:].tolist() for column in columns]


@pytest.mark.parametrize("kind", ["bundle", "nvm", "nvm from the corner", "lean"])
def test_photos_give_a_model_without_sizes_the_proofs_of_one_with_sizes(
    tmp_path: Path, model: SparseModel, kind: str
) -> None:
    write_site(tmp_path / "colmap" / "sparse" / "0", tmp_path / "colmap" / "images", model)
    expected = built(tmp_path / "colmap")
    if kind.startswith("nvm"):
        write_nvm(tmp_path / "other", model, corner="corner" in kind)
    else:
        write_bundle(tmp_path / "other", model)
    photograph(tmp_path / "other" / "images", model)
    found = built(tmp_path / "other", keep="graph" if kind == "lean" else "all")
    assert found.inside.takes_part[:].sum() > 20
    assert relations(found) == relations(expected)
    with h5py.File(tmp_path / "other" / "index.h5") as file:
        assert not file["cameras/size"][:].any()


@pytest.mark.parametrize("size", [(180, 180), (150, 200), (20, 20)], ids=str)
def test_photos_that_the_model_was_not_made_from_prove_nothing(
    tmp_path: Path, model: SparseModel, size: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    write_bundle(tmp_path, model)
    photograph(tmp_path / "images", model, size)
    with caplog.at_level(logging.WARNING):
        assert not built(tmp_path).inside.takes_part[:].any()
    assert "bundle.out: says no size of its photos, and has observations outside of those that are here" in caplog.text


def test_an_image_without_a_photo_takes_no_part_and_a_principal_point_elsewhere_is_not_guessed(
    tmp_path: Path, model: SparseModel
) -> None:
    write_bundle(tmp_path / "a", model)
    photograph(tmp_path / "a" / "images", model)
    (tmp_path / "a" / "images" / model.image_names[3]).unlink()
    (tmp_path / "a" / "images" / model.image_names[4]).write_text("no photo")
    takes_part = built(tmp_path / "a").inside.takes_part[:]
    assert not takes_part[3:5].any()
    assert takes_part.sum() > 20
    write_nvm(tmp_path / "b", model, second=f"NVM_V3 FixedK {FOCAL} 90 {FOCAL} 100 0")
    photograph(tmp_path / "b" / "images", model)
    assert not built(tmp_path / "b").inside.takes_part[:].any()
