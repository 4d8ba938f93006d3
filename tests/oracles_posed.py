"""Naive versions for models of poses: other formats written from a model, with loops and 4 x 4 matrices; cones."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from sfm2tuples.readers.camera_models import CAMERA_MODELS
from sfm2tuples.readers.sparse_model import SparseModel


def matrix_of(quaternion, translation):
    """A pose as 4 x 4, by turning the three axes: v + 2 w (u x v) + 2 u x (u x v)."""
    w, u = quaternion[0], np.array(quaternion[1:])
    pose = np.eye(4)
    for axis in range(3):
        v = np.eye(3)[axis]
        pose[:3, axis] = v + 2 * w * np.cross(u, v) + 2 * np.cross(u, np.cross(u, v))
    pose[:3, 3] = translation
    return pose


def camera_of(model: SparseModel, image: int):
    """COLMAP's model, size and parameters of an image's camera."""
    camera = int(model.image_cameras[image])
    params = model.camera_params[model.camera_indptr[camera] : model.camera_indptr[camera + 1]].tolist()
    return CAMERA_MODELS[int(model.camera_models[camera])].name, model.camera_sizes[camera].tolist(), params


def transforms_of(model: SparseModel, folder: str = "images/"):
    """The JSON of nerfstudio for a model of PINHOLE and SIMPLE_PINHOLE cameras, intrinsics in each frame."""
    frames = []
    for image, name in enumerate(model.image_names):
        _, (width, height), params = camera_of(model, image)
        *focal, cx, cy = params
        to_world = np.linalg.inv(matrix_of(model.quaternions[image], model.translations[image]))
        for row in range(3):
            to_world[row, 1], to_world[row, 2] = -to_world[row, 1], -to_world[row, 2]
        frames.append(
            {"file_path": folder + name, "w": width, "h": height, "fl_x": focal[0], "fl_y": focal[-1], "cx": cx,
             "cy": cy, "transform_matrix": to_world.tolist()}
        )  # fmt: skip
    return {
        "camera_model": "OPENCV",
        "frames": frames,
        "applied_transform": [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]],
    }


def write_kapture(folder: Path, model: SparseModel, *, rig: bool = False, version: str = "1.1", keypoints: bool = True):
    """A model as a kapture; with `rig`, every second image hangs on a rig half a metre beside it."""
    (folder / "sensors").mkdir(parents=True)
    kind = folder / "reconstruction" / "keypoints" / ("SIFT" if version == "1.1" else "")
    kind.mkdir(parents=True)
    head = f"# kapture format: {version}\n# columns\n"
    offset = matrix_of([math.cos(0.2), 0.0, math.sin(0.2), 0.0], [0.5, -0.1, 0.2])
    sensors, records, trajectories, rigs = head, head, head, head
    for image, name in enumerate(model.image_names):
        camera, size, params = camera_of(model, image)
        words = [f"cam{image}", "a phone", "camera", camera, *size, *params]
        sensors += ", ".join(map(str, words)) + "\n"
        records += f"{image}, cam{image}, {name}\n"
        pose = matrix_of(model.quaternions[image], model.translations[image])
        device = f"cam{image}"
        if rig and image % 2:
            device = f"rig{image}"
            rigs += f"{device}, cam{image}, {_pose_text(offset)}\n"
            pose = np.linalg.inv(offset) @ pose
        trajectories += f"{image}, {device}, {_pose_text(pose)}\n"
    sensors += "wifi0, , wifi\n"
    points = head + "".join(", ".join(map(str, [*xyz, 1, 2, 3])) + "\n" for xyz in model.points.tolist())
    seen = [[] for _ in model.points]
    for image, name in enumerate(model.image_names):
        begin, end = model.observation_indptr[image : image + 2]
        for number, point in enumerate(model.observation_points[begin:end].tolist()):
            seen[point].append((name, number))
        if keypoints:
            path = kind / f"{name}.kpt"
            path.parent.mkdir(parents=True, exist_ok=True)
            values = np.hstack([model.observation_xy[begin:end], np.full((end - begin, 2), 7.0)])
            path.write_bytes(values.astype("<f8").tobytes())
    lead = ", SIFT" if version == "1.1" else ""
    observations = head + "".join(
        f"{point}{lead}" + "".join(f", {name}, {number}" for name, number in track) + "\n"
        for point, track in enumerate(seen)
        if track
    )
    (kind / "keypoints.txt").write_text(head + "SIFT, float64, 4\n")
    for name, text in {
        "sensors/sensors.txt": sensors, "sensors/records_camera.txt": records, "sensors/trajectories.txt": trajectories,
        "reconstruction/points3d.txt": points, "reconstruction/observations.txt": observations,
    }.items():  # fmt: skip
        (folder / name).write_text(text)
    if rig:
        (folder / "sensors/rigs.txt").write_text(rigs)


def _pose_text(pose):
    """Quaternion, by the largest of the four ways, and translation of a 4 x 4 pose."""
    best, found = -1.0, None
    for a, signs in enumerate(([1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1])):
        square = 1 + sum(sign * pose[axis, axis] for axis, sign in enumerate(signs))
        if square > best:
            best, found = square, a
    size = math.sqrt(best) * 2
    xyz = [(pose[2, 1], pose[1, 2]), (pose[0, 2], pose[2, 0]), (pose[1, 0], pose[0, 1])]
    if found == 0:
        q = [size / 4, *((p - m) / size for p, m in xyz)]
    else:
        i = found - 1
        q = [0.0] * 4
        q[0] = (xyz[i][0] - xyz[i][1]) / size
        q[1 + i] = size / 4
        for k in range(3):
            if k != i:
                q[1 + k] = (pose[i, k] + pose[k, i]) / size
    return ", ".join(repr(float(v)) for v in [*q, *pose[:3, 3]])


def cones_meet(one, other, depths, grid, share):
    """Whether the cones of two views meet; a view is (rotation, centre, focal, middle, size, fisheye, around)."""
    apart = math.dist(one[1], other[1]) or 1.0
    best = 0.0
    for first, second in ((one, other), (other, one)):
        for depth in depths:
            hits = sum(
                _falls_in(second, np.array(first[1]) + depth * apart * _ray(first, column, row, grid))
                for row in range(grid)
                for column in range(grid)
            )
            best = max(best, hits / grid**2)
    return best >= share


def _ray(view, column, row, grid):
    rotation, _, focal, middle, size, fisheye, around = view
    along, down = (column + 0.5) / grid, (row + 0.5) / grid
    if around:
        turn, lift = 2 * math.pi * (along - 0.5), math.pi * (0.5 - down)
        ray = [math.cos(lift) * math.sin(turn), -math.sin(lift), math.cos(lift) * math.cos(turn)]
    else:
        x, y = (along * size[0] - middle[0]) / focal[0], (down * size[1] - middle[1]) / focal[1]
        angle = math.hypot(x, y)
        if fisheye:
            side = math.sin(angle) / angle if angle else 0.0
            ray = [x * side, y * side, math.cos(angle)]
        else:
            ray = [x, y, 1.0]
    return rotation.T @ (np.array(ray) / np.linalg.norm(ray))


def _falls_in(view, point):
    rotation, centre, focal, middle, size, fisheye, around = view
    if around:
        return True
    x, y, z = rotation @ (point - np.array(centre))
    off = math.hypot(x, y)
    if fisheye:
        scale = math.atan2(off, z) / off if off else 0.0
    elif z > 0:
        scale = 1 / z
    else:
        return False
    return 0 <= focal[0] * x * scale + middle[0] <= size[0] and 0 <= focal[1] * y * scale + middle[1] <= size[1]


def meeting_pairs(views, count, looked, depths, grid, share):
    """Each view with its nearest that meet it, by loops."""
    pairs = set()
    for i, one in enumerate(views):
        order = sorted((sum((a - b) ** 2 for a, b in zip(one[1], other[1], strict=True)), j)
                       for j, other in enumerate(views) if j != i)  # fmt: skip
        met = [j for _, j in order[: looked * count] if cones_meet(one, views[j], depths, grid, share)]
        pairs |= {(min(i, j), max(i, j)) for j in met[:count]}
    return sorted(pairs)
