"""Small models for tests: random ones as arrays, and a writer of COLMAP text models."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from cli.main import main
from sfm2tuples.errors import ModelError
from sfm2tuples.files.columns import indptr_of
from sfm2tuples.readers.camera_models import CAMERA_MODELS
from sfm2tuples.readers.sparse_model import SparseModel


def model_of(
    seen: Sequence[Sequence[int]],
    points: np.ndarray,
    quaternions: np.ndarray | None = None,
    translations: np.ndarray | None = None,
    camera_models: Sequence[int] = (1,),
    focal: float = 100.0,
    names: Sequence[str] | None = None,
) -> SparseModel:
    """A model from the points that each image sees; images look along +z from the origin unless told otherwise."""
    n, counts = len(seen), np.array([len(s) for s in seen], np.int64)
    params = [np.arange(CAMERA_MODELS[m].num_params) * 0.01 for m in camera_models]
    for row, model in enumerate(camera_models):
        params[row][: CAMERA_MODELS[model].num_focal] = focal * (1 + np.arange(CAMERA_MODELS[model].num_focal))
    flat = np.array([p for s in seen for p in s], np.int64)
    return SparseModel(
        camera_ids=np.arange(1, len(camera_models) + 1),
        camera_models=np.array(camera_models, np.int32),
        camera_sizes=np.full((len(camera_models), 2), 200, np.int64),
        camera_indptr=indptr_of(np.array([len(p) for p in params], np.int64)),
        camera_params=np.concatenate(params),
        image_ids=np.arange(1, n + 1),
        image_names=list(names) if names is not None else [f"{i:04d}.jpg" for i in range(n)],
        image_cameras=np.arange(n) % len(camera_models),
        quaternions=np.tile([1.0, 0, 0, 0], (n, 1)) if quaternions is None else quaternions,
        translations=np.zeros((n, 3)) if translations is None else translations,
        observation_indptr=indptr_of(counts),
        observation_points=flat,
        observation_xy=np.full((len(flat), 2), 50.0),
        point_ids=np.arange(1, len(points) + 1),
        points=np.asarray(points, np.float64).reshape(-1, 3),
        point_errors=np.ones(len(points)),
    )


def random_model(seed: int, num_images: int = 12, num_points: int = 60, max_seen: int = 30) -> SparseModel:
    """Random cameras and points: some points behind a camera, seen twice, or by nobody; all camera models in turn."""
    random = np.random.default_rng(seed)
    quaternions = random.normal(size=(num_images, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    seen = [random.integers(0, num_points, random.integers(0, max_seen + 1)).tolist() for _ in range(num_images)]
    return model_of(
        seen,
        random.normal(size=(num_points, 3)),
        quaternions,
        random.normal(size=(num_images, 3)),
        camera_models=random.permutation(sorted(CAMERA_MODELS)).tolist(),
    )


def write_text_model(folder: Path, names: Sequence[str], num_points: int = 5) -> None:
    """A COLMAP text model whose images all see all points."""
    folder.mkdir(parents=True)
    (folder / "cameras.txt").write_text("1 SIMPLE_PINHOLE 200 200 100 100 100\n")
    row = " ".join(f"{10 + p} 20 {p + 1}" for p in range(num_points))
    lines = [f"{i} 1 0 0 0 {0.1 * i} 0 0 1 {name}\n{row}\n" for i, name in enumerate(names, 1)]
    (folder / "images.txt").write_bytes(os.fsencode("".join(lines)))
    track = [" ".join(f"{i} {p}" for i in range(1, len(names) + 1)) for p in range(num_points)]
    points = [f"{p + 1} {p} 0 {5 + p} 0 0 0 0.5 {track[p]}\n" for p in range(num_points)]
    (folder / "points3D.txt").write_text("".join(points))


def write_scene(root: Path, scene: str, photos: dict[str, bytes], model: str = "sparse/0", num_points: int = 5) -> Path:
    """A scene folder with one model and the photos (any bytes) that it names; gives the model's folder."""
    write_text_model(root / scene / model, sorted(photos), num_points)
    for name, content in photos.items():
        path = root / scene / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root / scene / model


def write_binary_model(folder: Path, names: Sequence[str], num_points: int = 5, shift: float = 0.0) -> None:
    """A COLMAP binary model whose images all see all points; quick to write, for many models and large ones."""
    folder.mkdir(parents=True)
    n = len(names)
    camera = struct.pack("<QiiQQ3d", 1, 1, 0, 200, 200, 100.0, 100.0, 100.0)
    (folder / "cameras.bin").write_bytes(camera)
    seen = np.zeros(num_points, np.dtype([("x", "<f8"), ("y", "<f8"), ("point", "<i8")]))
    seen["x"], seen["y"], seen["point"] = 10 + np.arange(num_points) % 180, 20, np.arange(1, num_points + 1)
    images = [struct.pack("<Q", n)]
    for i, name in enumerate(names, 1):
        pose = struct.pack("<i7di", i, 1, 0, 0, 0, 0.1 * i + shift, 0, 0, 1)
        images.append(pose + os.fsencode(name) + b"\0" + struct.pack("<Q", num_points) + seen.tobytes())
    (folder / "images.bin").write_bytes(b"".join(images))
    point = np.dtype(
        [
            ("id", "<i8"),
            ("xyz", "<f8", 3),
            ("rgb", "u1", 3),
            ("error", "<f8"),
            ("length", "<i8"),
            ("track", "<i4", (n, 2)),
        ]
    )
    points = np.zeros(num_points, point)
    points["id"], points["error"], points["length"] = np.arange(1, num_points + 1), 0.5, n
    points["xyz"] = np.stack([np.arange(num_points), np.zeros(num_points), 5 + np.arange(num_points)], axis=1)
    points["track"][:, :, 0] = np.arange(1, n + 1)
    points["track"][:, :, 1] = np.arange(num_points)[:, None]
    (folder / "points3D.bin").write_bytes(struct.pack("<Q", num_points) + points.tobytes())


def error_of(read: Callable[[Path], object], path: Path) -> str:
    """The message that reading a model gives, or nothing."""
    try:
        read(path)
    except ModelError as error:
        return str(error)
    return ""


def damaged(whole: str, letters: bytes, seed: int, count: int = 1500) -> Iterator[bytes]:
    """The bytes of a text with one to three of them changed to others of `letters`, again and again."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        content = bytearray(whole.encode())
        for at in random.integers(0, len(content), random.integers(1, 4)):
            content[at] = random.choice(list(letters))
        yield bytes(content)


def refused(read: Callable[[Path], object], path: Path) -> bool:
    """Whether reading a model is refused; then in one line that begins with the file's name."""
    error = error_of(read, path)
    assert not error or (error.startswith(f"{path}: ") and error.isprintable())
    return bool(error)


def run(*words: object) -> int:
    """Exit code of a command, run in this process."""
    try:
        main([str(word) for word in words])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0
