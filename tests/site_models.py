"""Models of invented sites for tests of relations: cameras with poses among points, random or with many ties."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from sfm2tuples.files.columns import indptr_of
from sfm2tuples.readers.sparse_model import SparseModel

PINHOLE = (1, [100.0, 100.0, 100.0, 100.0])
"""90 degrees wide and high at `SIZE`."""
SIZE = (200, 200)
Camera = tuple[int, list[float]]
"""COLMAP's number of the camera model, and parameters."""


def model_of(
    rotation: np.ndarray, centre: np.ndarray, points: np.ndarray, seen: list[np.ndarray], cameras: list[Camera]
) -> SparseModel:
    """A model of images with world-to-camera rotations (n, 3, 3), centres (n, 3), points (p, 3) and observed rows.

    Image i has camera ``i % len(cameras)``.
    """
    n, quaternions = len(centre), np.zeros((len(centre), 4))
    if n:
        quaternions = Rotation.from_matrix(rotation).as_quat()[:, [3, 0, 1, 2]]
    params = [np.array(own) for _, own in cameras]
    return SparseModel(
        camera_ids=np.arange(len(cameras)),
        camera_models=np.array([number for number, _ in cameras], np.int32),
        camera_sizes=np.tile(np.array(SIZE), (len(cameras), 1)),
        camera_indptr=indptr_of(np.array([len(own) for own in params], np.int64)),
        camera_params=np.concatenate([np.zeros(0), *params]),
        image_ids=np.arange(n),
        image_names=[f"{row:04d}.jpg" for row in range(n)],
        image_cameras=np.arange(n) % max(1, len(cameras)),
        quaternions=quaternions,
        translations=-np.einsum("nij,nj->ni", rotation, centre) if n else np.zeros((0, 3)),
        observation_indptr=indptr_of(np.array([len(rows) for rows in seen], np.int64)),
        observation_points=np.concatenate([np.zeros(0, np.int64), *seen]).astype(np.int64),
        observation_xy=np.zeros((sum(map(len, seen)), 2), np.float32),
        point_ids=np.arange(len(points)),
        points=points,
        point_errors=np.zeros(len(points)),
    )


def random_site(
    rng: np.random.Generator,
    images: int = 40,
    points: int = 3000,
    side: float = 16.0,
    cameras: list[Camera] | None = None,
) -> SparseModel:
    """Cameras anywhere in a cube, turned at random; each observes most points before it that are near.

    Some points are observed twice, some by mistake; some images see too few to take part.
    """
    rotation, centre = Rotation.random(images, random_state=rng).as_matrix(), rng.uniform(0, side, (images, 3))
    xyz = rng.uniform(0, side, (points, 3))
    xyz[: points // 50] *= 10
    return model_of(
        rotation,
        centre,
        xyz,
        [_observed(rng, r, c, xyz) for r, c in zip(rotation, centre, strict=True)],
        cameras or [PINHOLE],
    )


def _observed(rng: np.random.Generator, rotation: np.ndarray, centre: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    x, y, z = rotation @ (xyz - centre).T
    near = (z > 0) & (abs(x) <= z) & (abs(y) <= z) & (z < 3.5) & (rng.random(len(xyz)) < 0.8)
    rows = np.append(np.flatnonzero(near), rng.integers(len(xyz), size=rng.integers(2)))
    return rng.permutation(np.append(rows, rows[: rng.integers(4)]))


def tied_site(rng: np.random.Generator, images: int = 24) -> SparseModel:
    """Everything on a grid of whole numbers: points on borders of pictures, equal depths, cameras in one place."""
    turns = np.array([np.diag(signs) for signs in ((1, 1, 1), (-1, -1, 1), (1, -1, -1), (-1, 1, -1))], float)
    rotation, centre = turns[rng.integers(4, size=images)], rng.integers(0, 12, (images, 3)).astype(float)
    centre[:, 1] = 0
    grid = np.stack(np.meshgrid(np.arange(13), [-1, 0, 1], np.arange(13), indexing="ij"), axis=-1).reshape(-1, 3)
    xyz = grid.astype(float)
    seen = []
    for r, c in zip(rotation, centre, strict=True):
        x, y, z = r @ (xyz - c).T
        seen.append(np.flatnonzero((z > 0) & (z <= 3) & (abs(x) <= z) & (abs(y) <= z) & (rng.random(len(xyz)) < 0.9)))
    return model_of(rotation, centre, xyz, seen, [PINHOLE])


def moved(model: SparseModel, rng: np.random.Generator) -> SparseModel:
    """The same model in other coordinates: turned, shifted and scaled."""
    turn, shift, scale = Rotation.random(random_state=rng).as_matrix(), rng.uniform(-5, 5, 3), rng.uniform(0.1, 9)
    rotation = Rotation.from_quat(model.quaternions[:, [1, 2, 3, 0]]).as_matrix()
    centre = -np.einsum("nij,ni->nj", rotation, model.translations)
    new_rotation, new_centre = rotation @ turn.T, scale * centre @ turn.T + shift
    return replace(
        model,
        quaternions=Rotation.from_matrix(new_rotation).as_quat()[:, [3, 0, 1, 2]],
        translations=-np.einsum("nij,nj->ni", new_rotation, new_centre),
        points=scale * model.points @ turn.T + shift,
    )


def reordered(model: SparseModel, order: np.ndarray) -> SparseModel:
    """The same model with its images in another order."""
    own = np.split(model.observation_points, model.observation_indptr[1:-1])
    rows = [own[row] for row in order.tolist()]
    return replace(
        model,
        image_names=[model.image_names[row] for row in order.tolist()],
        image_cameras=model.image_cameras[order],
        quaternions=model.quaternions[order],
        translations=model.translations[order],
        observation_indptr=indptr_of(np.array([len(one) for one in rows], np.int64)),
        observation_points=np.concatenate(rows),
    )


def corridor(rng: np.random.Generator, images: int = 100, length: float = 60.0, rooms: int = 12) -> SparseModel:
    """Cameras along a corridor of some rooms in a row; each looks at one wall, and at nothing of other rooms."""
    stretch = length / rooms
    along = np.sort(rng.uniform(0, length, images))
    turns = np.where(rng.random(images) < 0.5, 1.0, -1.0)
    rotation = np.stack([np.array([[0, 0, -s], [0, 1, 0], [s, 0, 0]]) for s in turns])
    centre = np.stack([np.zeros(images), np.zeros(images), along], axis=1)
    xyz = np.stack([rng.choice([-1.5, 1.5], 6000), rng.uniform(-1, 1, 6000), rng.uniform(0, length, 6000)], axis=1)
    seen = []
    for r, c in zip(rotation, centre, strict=True):
        x, y, z = r @ (xyz - c).T
        near = (z > 0) & (abs(x) <= z) & (abs(y) <= z) & (xyz[:, 2] // stretch == c[2] // stretch)
        seen.append(np.flatnonzero(near & (rng.random(len(xyz)) < 0.8)))
    return model_of(rotation, centre, xyz, seen, [PINHOLE])


def write_site(folder: Path, photos: Path | None, model: SparseModel) -> None:
    """Write a model of pinhole cameras as COLMAP's text files, and photos (any bytes) for its images."""
    folder.mkdir(parents=True)
    cameras = [
        f"{row + 1} PINHOLE {SIZE[0]} {SIZE[1]} "
        + " ".join(map(repr, model.camera_params[4 * row : 4 * row + 4].tolist()))
        for row in range(len(model.camera_ids))
    ]
    (folder / "cameras.txt").write_text("\n".join(cameras) + "\n")
    lines, tracks = [], [[] for _ in model.points]  # type: ignore[var-annotated]
    own = np.split(model.observation_points, model.observation_indptr[1:-1])
    for row, (name, points) in enumerate(zip(model.image_names, own, strict=True)):
        pose = " ".join(map(repr, [*model.quaternions[row].tolist(), *model.translations[row].tolist()]))
        lines += [f"{row + 1} {pose} {model.image_cameras[row] + 1} {name}"]
        lines += [" ".join(f"1 1 {point + 1}" for point in points.tolist())]
        for place, point in enumerate(points.tolist()):
            tracks[point].append(f"{row + 1} {place}")
        if photos is not None:
            (photos / name).parent.mkdir(parents=True, exist_ok=True)
            (photos / name).write_bytes(str((folder.name, name)).encode())
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    kept = [
        f"{row + 1} " + " ".join(map(repr, xyz)) + f" 0 0 0 0.5 {' '.join(track)}"
        for row, (xyz, track) in enumerate(zip(model.points.tolist(), tracks, strict=True))
        if track
    ]
    (folder / "points3D.txt").write_text("\n".join(kept) + "\n")
