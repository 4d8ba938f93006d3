"""Naive versions of every numeric routine: loops and sets, written from the definition, slow and obvious."""

from __future__ import annotations

import math
import re

import numpy as np

__all__ = ["math", "np"]


# --- losses (method.md section 6) ---------------------------------------------------------------------------------


def contrastive_loss(query, positives, negatives, margin, eps=0.0):
    """Double loop over lists of descriptors; a missing one is None."""
    total = 0.0
    for q, ps, ns in zip(query, positives, negatives, strict=True):
        for p in ps:
            if p is not None:
                total += 0.5 * sum((a - b + eps) ** 2 for a, b in zip(q, p, strict=True))
        for n in ns:
            if n is not None:
                distance = math.sqrt(sum((a - b + eps) ** 2 for a, b in zip(q, n, strict=True)))
                total += 0.5 * max(0.0, margin - distance) ** 2
    return total


def triplet_loss(query, positives, negatives, margin):
    """Triple loop over lists of descriptors; a missing one is None."""
    total = 0.0
    for q, ps, ns in zip(query, positives, negatives, strict=True):
        for p in ps:
            for n in ns:
                if p is not None and n is not None:
                    to_positive = sum((a - b) ** 2 for a, b in zip(q, p, strict=True))
                    to_negative = sum((a - b) ** 2 for a, b in zip(q, n, strict=True))
                    total += max(0.0, to_positive - to_negative + margin)
    return total


# Mining: candidates, positives, queries, negatives (method.md sections 3 to 5).


def candidate_set(index, row, k, min_shared=1, max_angle=None, max_overlap=None):
    """M(q) of one index row as [(other row, shared, overlap, scale change, angle)], from the sets of points."""
    images, graph, observed = index.images, index.covisibility, index.observations

    def seen(i):
        return set(observed.point[observed.indptr[i] : observed.indptr[i + 1]].tolist())

    own = seen(row)
    found, contents = [], {int(images.photo[row])}
    for e in range(graph.indptr[row], graph.indptr[row + 1]):
        other = int(graph.neighbour[e])
        shared = len(own & seen(other))
        if not images.has_photo[other] or shared < min_shared or graph.axis_angle[e] >= math.pi / 2:
            continue
        if max_angle is not None and graph.angle[e] > math.radians(max_angle):
            continue
        if max_overlap is not None and np.float32(shared / max(len(own), len(seen(other)))) > np.float32(max_overlap):
            continue
        found.append((other, shared, shared / len(own), float(graph.scale_change[e]), float(graph.angle[e])))
    best = []
    for entry in sorted(found, key=lambda entry: (-entry[1], entry[0])):
        if int(images.photo[entry[0]]) not in contents:
            contents.add(int(images.photo[entry[0]]))
            best.append(entry)
    return best[:k]


def m1(entries, similarity):
    """The candidate nearest by descriptor; `similarity` maps a row to its similarity."""
    return min(entries, key=lambda entry: (-similarity[entry[0]], entry[0]))[0] if entries else -1


def m2(entries):
    """The candidate with most shared points."""
    return min(entries, key=lambda entry: (-entry[1], entry[0]))[0] if entries else -1


def m3_allowed(entries, min_overlap=0.2, max_scale_change=1.5):
    """Rows that m3 may draw: enough overlap, little and known change of scale."""
    limit = np.float32(max_scale_change)
    return {e[0] for e in entries if e[2] >= min_overlap and not math.isnan(e[3]) and np.float32(e[3]) <= limit}


def sequences_by_dictionaries(keys, places, cameras):
    """What tells the photos of each place apart, and for each photo the name of its sequence, or None."""
    told, sequence = {}, [None] * len(keys)
    for place in set(places):
        rows = [row for row in range(len(keys)) if places[row] == place]
        stems = {row: keys[row].rpartition("/")[2].rpartition(".")[0] for row in rows}
        numbers = {row: re.findall("[0-9]+", stems[row]) for row in rows}
        ways = {
            "folders": {row: keys[row].rpartition("/")[0] for row in rows},
            "names": {
                row: "#".join(stems[row].rsplit(numbers[row][-1], 1)) if numbers[row] else stems[row] for row in rows
            },
            "cameras": {row: cameras[row] for row in rows},
        }
        for way, label in ways.items():
            accompanied = [row for row in rows if list(label.values()).count(label[row]) > 1]
            if len(set(label.values())) > 1 and 2 * len(accompanied) >= len(rows):
                told[way] = told.get(way, 0) + 1
                for row in rows:
                    sequence[row] = (place, label[row])
                break
    return told, sequence


def exact_similarity(a, b):
    """Dot product rounded once, so that equal rows tie and order of summation is no matter."""
    return math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def n1_negatives(similarity, rows, places, own_place, count):
    """The nearest of other places: similarity and place of each pool row; ties by lower row."""
    others = [i for i in range(len(rows)) if places[i] != own_place]
    return [rows[i] for i in sorted(others, key=lambda i: (-similarity[i], rows[i]))[:count]]


def n2_negatives(similarity, rows, places, own_place, count):
    """As published: sort the whole pool, walk down, skip the query's place and places that were used."""
    used, found = {own_place}, []
    for i in sorted(range(len(rows)), key=lambda i: (-similarity[i], rows[i])):
        if len(found) < count and places[i] not in used:
            used.add(places[i])
            found.append(rows[i])
    return found


def semi_hard_negatives(similarity, rows, places, own_place, count, positive_similarity, margin):
    """One a place with d(q,p) < d(q,n) < d(q,p) + margin, nearest first, then N2 over the places left."""
    d_p = math.sqrt(max(0.0, 2 - 2 * positive_similarity))
    low = 1 - (d_p + margin) ** 2 / 2
    inside = [i for i in range(len(rows)) if low < similarity[i] < positive_similarity]
    found = n2_negatives([similarity[i] for i in inside], [rows[i] for i in inside], [places[i] for i in inside],
                         own_place, count)  # fmt: skip
    place_of = dict(zip(rows, places, strict=True))
    taken = {place_of[r] for r in found}
    rest = [i for i in range(len(rows)) if places[i] not in taken]
    found += n2_negatives([similarity[i] for i in rest], [rows[i] for i in rest], [places[i] for i in rest],
                          own_place, count - len(found))  # fmt: skip
    similarity_of = dict(zip(rows, similarity, strict=True))
    return sorted(found, key=lambda r: (-similarity_of[r], r))


# --- whitening, descriptor files, evaluation -------------------------------------------------------------------------


def average_precision_by_walking(ranking, positives, junk):
    """AP as in the published program of Oxford 5k: walk down the list, add a trapezoid at each image that is right."""
    positives, junk = set(positives), set(junk)
    if not positives:
        return math.nan
    area, old_recall, old_precision = 0.0, 0.0, 1.0
    found = seen = 0
    for image in ranking:
        if image in junk:
            continue
        seen += 1
        if image in positives:
            found += 1
        recall, precision = found / len(positives), found / seen
        area += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
    return area


def precision_at_by_walking(ranking, positives, junk, k):
    """P@k of the revisited benchmarks: k is lowered to the rank, from 1, of the last positive in the ranking."""
    positives, junk = set(positives), set(junk)
    kept = [image for image in ranking if image not in junk]
    ranks = [rank for rank, image in enumerate(kept, start=1) if image in positives]
    if not ranks:
        return 0.0
    depth = min(k, max(ranks))
    return sum(1 for rank in ranks if rank <= depth) / depth


def ranking_by_sorting(query, database):
    """Rows by falling similarity to one query, ties by the lower row."""
    similarity = [np.float32(sum(float(a) * float(b) for a, b in zip(query, row, strict=True))) for row in database]
    return sorted(range(len(database)), key=lambda row: (-similarity[row], row))


def lw_by_inverse_root(descriptors, pairs, shrinkage=0.0):
    """L_w with C_S^(-1/2) in place of the inverse Cholesky factor: mean, projection; rows differ by sign only."""
    f = [np.array(row, np.float64) for row in descriptors]
    dimension = len(f[0])
    queries = {query for query, _ in pairs}
    mean = sum(f[query] for query in queries) / len(queries)
    matching = sum(np.outer(f[i] - f[j], f[i] - f[j]) for i, j in pairs) / len(pairs)
    matching = (1 - shrinkage) * matching + shrinkage * np.trace(matching) / dimension * np.eye(dimension)
    values, vectors = np.linalg.eigh(matching)
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    everything = sum(np.outer(root @ (row - mean), root @ (row - mean)) for row in f) / len(f)
    values, vectors = np.linalg.eigh(everything)
    order = sorted(range(dimension), key=lambda k: -values[k])
    return mean, np.array([vectors[:, k] for k in order]) @ root


def sfm_positives_and_junk(place, edges, rows, photo, min_shared):
    """Sets of photos by the definition, for each photo that has a positive. `edges` are (image, image, shared)."""
    positives, junk = {}, {}
    for query in sorted({photo[row] for row in rows}):
        own = {row for row in rows if photo[row] == query}
        right = {photo[b] for a, b, n in edges if a in own and b in rows and n >= min_shared} - {query}
        if right:
            beside = {photo[row] for row in rows if place[row] in {place[o] for o in own}}
            positives[query], junk[query] = right, beside - right
    return positives, junk


def labels_positives(table, query):
    """Images with the query's label, the query and all distractors excepted. `table` holds (image, label, role)."""
    label = next(label for image, label, _ in table if image == query)
    return {image for image, other, role in table if other == label and role != "distractor" and image != query}


def hloc_global_descriptors(path):
    """Read a file of global features as hloc does: list the groups that hold a dataset, then ask each by name."""
    import h5py

    with h5py.File(str(path), "r", libver="latest") as fd:
        names = []
        fd.visititems(
            lambda _, obj: names.append(obj.parent.name.strip("/")) if isinstance(obj, h5py.Dataset) else None
        )
        return {name: fd[name]["global_descriptor"].__array__() for name in sorted(set(names))}


# --- co-visibility, twins, places (method.md section 2, DESIGN.md) ---------------------------------------------------


def rotation_matrix(quaternion):
    """Rotation of a wxyz quaternion, column by column: q v q* for the three axes."""

    def product(a, b):
        return (
            a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
            a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
            a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
            a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
        )

    w, x, y, z = (float(v) for v in quaternion)
    columns = [product(product((w, x, y, z), (0.0, *axis)), (w, -x, -y, -z))[1:] for axis in np.eye(3).tolist()]
    return [[columns[c][r] for c in range(3)] for r in range(3)]


def angle_between(u, v):
    """Angle between two vectors by the law of cosines' stable form, in radians; None where one has no length."""
    a, b = math.hypot(*u), math.hypot(*v)
    if a == 0 or b == 0:
        return None
    difference = [x / a - y / b for x, y in zip(u, v, strict=True)]
    total = [x / a + y / b for x, y in zip(u, v, strict=True)]
    return 2 * math.atan2(math.hypot(*difference), math.hypot(*total))


def covisibility_by_sets(views, xyz):
    """Every pair of images that shares points, each pair once: sets, then a loop over the shared points.

    `views` is a list of (points, rotation, translation, focal length or None), `xyz` maps a point to its position.
    Gives {(i, j): (shared, scale change, mean viewing angle, axis angle)} for i < j, with nan where there is none.
    """
    seen = [{p: _seen(view, xyz[p]) for p in set(view[0])} for view in views]
    edges = {}
    for i in range(len(views)):
        for j in range(i + 1, len(views)):
            shared = seen[i].keys() & seen[j].keys()
            if shared:
                pairs = [(seen[i][p], seen[j][p]) for p in sorted(shared)]
                edges[i, j] = (len(shared), *_evidence_of_pair(views[i], views[j], pairs))
    return edges


def _evidence_of_pair(view, other, pairs):
    ratios, angles = [], []
    for (depth, ray), (other_depth, other_ray) in pairs:
        if view[3] is not None and other[3] is not None and depth > 0 and other_depth > 0:
            ratios.append(math.log((view[3] / depth) / (other[3] / other_depth)))
        if ray is not None and other_ray is not None:
            angles.append(angle_between(ray, other_ray))
    scale_change = math.exp(abs(sum(ratios) / len(ratios))) if ratios else math.nan
    angle = sum(angles) / len(angles) if angles else math.nan
    return scale_change, angle, angle_between(view[1][2], other[1][2])


def _seen(view, position):
    """Depth of a point along the optical axis, and the vector from it to the camera's centre.

    Where the camera is where the point is, but for rounding, the vector is None; where depth is but rounding, it is 0.
    """
    _, rotation, translation, _ = view
    depth = sum(rotation[2][k] * position[k] for k in range(3)) + translation[2]
    centre = [-sum(rotation[r][k] * translation[r] for r in range(3)) for k in range(3)]
    ray = [centre[k] - position[k] for k in range(3)]
    rounding = 1e-9 * (sum(map(abs, position)) + sum(map(abs, ray)))
    return depth if depth > rounding else 0.0, ray if math.hypot(*ray) > rounding else None


def places_by_flooding(num_models, links):
    """Place of each model, numbered by first model: walk from model to model along the links until nothing is new."""
    place = [None] * num_models
    number = 0
    for start in range(num_models):
        if place[start] is None:
            reached = {start}
            while True:
                more = {b for a, b in links if a in reached} | {a for a, b in links if b in reached}
                if more <= reached:
                    break
                reached |= more
            for model in reached:
                place[model] = number
            number += 1
    return place


# --- networks: pooling, R-MAC's grid -------------------------------------------------------------------------------


def pool_mac(x):
    """MAC of one map (K, h, w) by loops."""
    return np.array([max(float(v) for row in channel for v in row) for channel in x])


def pool_spoc(x):
    """SPoC of one map (K, h, w) by loops."""
    return np.array([sum(float(v) for row in channel for v in row) / channel.size for channel in x])


def pool_gem(x, p, eps=1e-6):
    """GeM of one map (K, h, w) by loops."""
    return np.array(
        [(sum(max(float(v), eps) ** p for row in channel for v in row) / channel.size) ** (1 / p) for channel in x]
    )


def rmac_grid(height, width, levels=3):
    """R-MAC's regions (top, left, side) as method.md section 8 words them, all choices by trial."""
    short, long = min(height, width), max(height, width)
    extra = 0
    if height != width:
        best = None
        for steps in (2, 3, 4, 5, 6, 7):
            b = (long - short) / (steps - 1)
            miss = abs(1 - b / short - 0.4)
            if best is None or miss < best - 1e-12:
                best, extra = miss, steps - 1
    regions = []
    for level in range(1, levels + 1):
        side = math.floor(2 * short / (level + 1))
        if side == 0:
            continue
        along, across = level + extra, level
        rows, columns = (along, across) if height > width else (across, along)
        for i in range(rows):
            for j in range(columns):
                top = 0 if rows == 1 else (i * (height - side)) // (rows - 1)
                left = 0 if columns == 1 else (j * (width - side)) // (columns - 1)
                regions.append((top, left, side))
    return regions


def pool_rmac(x, whole_image=False, eps=1e-6):
    """R-MAC of one map (K, h, w): the sum of its regions' normalised MAC vectors."""
    vectors = [pool_mac(x[:, t : t + s, left : left + s]) for t, left, s in rmac_grid(x.shape[1], x.shape[2])]
    if whole_image:
        vectors.append(pool_mac(x))
    return sum(v / (math.sqrt(sum(float(c) ** 2 for c in v)) + eps) for v in vectors)


# ---- readers -------------------------------------------------------------------------------------------------------


def model_by_pycolmap(folder):
    """A model as plain dictionaries, read by COLMAP itself."""
    import pycolmap

    model = pycolmap.Reconstruction(folder)
    images = {}
    for image in model.images.values():
        pose = image.cam_from_world()
        x, y, z, w = pose.rotation.quat
        seen = [(p.point3D_id, tuple(p.xy)) for p in image.points2D if p.has_point3D()]
        images[image.name] = (image.image_id, image.camera_id, (w, x, y, z), tuple(pose.translation), seen)
    cameras = {
        c.camera_id: (c.model.value if hasattr(c.model, "value") else int(c.model), c.width, c.height, tuple(c.params))
        for c in model.cameras.values()
    }
    points = {number: (tuple(p.xyz), p.error) for number, p in model.points3D.items()}
    tracks = {
        number: {(e.image_id, tuple(model.image(e.image_id).points2D[e.point2D_idx].xy)) for e in p.track.elements}
        for number, p in model.points3D.items()
    }
    return {"cameras": cameras, "images": images, "points": points, "tracks": tracks}


def model_as_dictionaries(model):
    """A SparseModel in the form of `model_by_pycolmap`, row by row."""
    cameras = {}
    for row, camera in enumerate(model.camera_ids.tolist()):
        params = model.camera_params[model.camera_indptr[row] : model.camera_indptr[row + 1]]
        width, height = model.camera_sizes[row].tolist()
        cameras[camera] = (int(model.camera_models[row]), width, height, tuple(params.tolist()))
    ids = model.point_ids.tolist()
    points = {ids[row]: (tuple(model.points[row].tolist()), float(model.point_errors[row])) for row in range(len(ids))}
    images, tracks = {}, {number: set() for number in ids}
    for row, name in enumerate(model.image_names):
        span = range(model.observation_indptr[row], model.observation_indptr[row + 1])
        seen = [(ids[model.observation_points[o]], tuple(model.observation_xy[o].tolist())) for o in span]
        image, camera = int(model.image_ids[row]), int(model.camera_ids[model.image_cameras[row]])
        pose = tuple(model.quaternions[row].tolist()), tuple(model.translations[row].tolist())
        images[name] = (image, camera, *pose, seen)
        for number, xy in seen:
            tracks[number].add((image, xy))
    return {"cameras": cameras, "images": images, "points": points, "tracks": tracks}


def assert_same_model(model, folder):
    """Every number of a SparseModel is COLMAP's; rotations up to the rounding of normalising them."""
    ours, theirs = model_as_dictionaries(model), model_by_pycolmap(folder)
    assert ours["cameras"] == theirs["cameras"]
    assert ours["points"] == theirs["points"]
    assert ours["tracks"] == theirs["tracks"]
    assert list(ours["images"]) == sorted(theirs["images"], key=lambda name: name.encode())
    for name, (image, camera, quaternion, translation, seen) in theirs["images"].items():
        mine = ours["images"][name]
        assert mine[:2] == (image, camera)
        norm = math.sqrt(sum(q * q for q in quaternion))
        np.testing.assert_allclose(mine[2], np.array(quaternion) / norm, rtol=0, atol=1e-14)
        np.testing.assert_allclose(mine[3], translation, rtol=0, atol=1e-12)
        assert mine[4] == seen


# --- joining ---


def photo_joins_by_sets(images: list[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """How many photos two models share, by pair of models that share any: from (model, content)."""
    held = {model: {content for other, content in images if other == model} for model, _ in images}
    shared = {(a, b): len(held[a] & held[b]) for a in held for b in held if a < b}
    return {pair: count for pair, count in shared.items() if count}


# ---- Bundler and VisualSFM ------------------------------------------------------------------------------------------


def bundler_projection(rotation, translation, focal, k1, k2, point):
    """Bundler's manual: P = R X + t, p = -P / P.z, p' = f (1 + k1 |p|^2 + k2 |p|^4) p; centre of the photo, y up."""
    seen = [sum(rotation[i][j] * point[j] for j in range(3)) + translation[i] for i in range(3)]
    x, y = -seen[0] / seen[2], -seen[1] / seen[2]
    square = x * x + y * y
    factor = focal * (1 + k1 * square + k2 * square * square)
    return factor * x, factor * y


def colmap_projection(quaternion, translation, focal, k1, k2, point):
    """COLMAP's RADIAL camera with the principal point 0: z forward, y down."""
    rotation = rotation_matrix(quaternion)
    seen = [sum(rotation[i][j] * point[j] for j in range(3)) + translation[i] for i in range(3)]
    x, y = seen[0] / seen[2], seen[1] / seen[2]
    square = x * x + y * y
    factor = focal * (1 + k1 * square + k2 * square * square)
    return factor * x, factor * y


def export_bundler(reconstruction, path, list_path):
    """Write a COLMAP model (pycolmap) as COLMAP's converter writes Bundler's format, cameras by their mean focal."""
    images = [reconstruction.images[i] for i in sorted(reconstruction.reg_image_ids())]
    row_of = {image.image_id: row for row, image in enumerate(images)}
    lines = ["# Bundle file v0.3", f"{len(images)} {len(reconstruction.points3D)}"]
    for image in images:
        camera, pose = reconstruction.cameras[image.camera_id], np.array(image.cam_from_world().matrix())
        k1, k2 = _radial(camera)
        flipped = pose * np.array([[1.0], [-1.0], [-1.0]])
        lines.append(f"{camera.mean_focal_length()!r} {k1!r} {k2!r}")
        lines += [" ".join(repr(float(v)) for v in row) for row in flipped[:, :3]]
        lines.append(" ".join(repr(float(v)) for v in flipped[:, 3]))
    for point in reconstruction.points3D.values():
        lines.append(" ".join(repr(float(v)) for v in point.xyz))
        lines.append(" ".join(str(int(v)) for v in point.color))
        views = []
        for element in point.track.elements:
            image = reconstruction.images[element.image_id]
            camera, xy = reconstruction.cameras[image.camera_id], image.points2D[element.point2D_idx].xy
            x, y = float(xy[0]) - camera.principal_point_x, camera.principal_point_y - float(xy[1])
            views.append(f"{row_of[element.image_id]} {element.point2D_idx} {x!r} {y!r}")
        lines.append(" ".join([str(len(views)), *views]))
    path.write_text("\n".join(lines) + "\n")
    list_path.write_text("".join(f"{image.name}\n" for image in images))


def export_nvm(reconstruction, path):
    """Write a COLMAP model (pycolmap) as COLMAP's own converter writes NVM: absolute coordinates, one view an image."""
    images = [reconstruction.images[i] for i in sorted(reconstruction.reg_image_ids())]
    row_of = {image.image_id: row for row, image in enumerate(images)}
    lines = ["NVM_V3 ", " ", f"{len(images)}  "]
    for image in images:
        camera, pose = reconstruction.cameras[image.camera_id], image.cam_from_world()
        x, y, z, w = (float(v) for v in pose.rotation.quat)
        centre = [float(v) for v in image.projection_center()]
        numbers = [camera.mean_focal_length(), w, x, y, z, *centre, -_radial(camera)[0]]
        lines.append(f"{image.name} {' '.join(repr(v) for v in numbers)} 0")
    lines += ["", str(len(reconstruction.points3D))]
    for point in reconstruction.points3D.values():
        views = {}
        for element in point.track.elements:
            x, y = reconstruction.images[element.image_id].points2D[element.point2D_idx].xy
            text = f"{row_of[element.image_id]} {element.point2D_idx} {float(x)!r} {float(y)!r}"
            views.setdefault(element.image_id, text)
        xyz, color = [repr(float(v)) for v in point.xyz], [str(int(v)) for v in point.color]
        lines.append(" ".join([*xyz, *color, str(len(views)), *views.values()]))
    path.write_text("\n".join(lines) + "\n")


def _radial(camera):
    """Radial distortion of SIMPLE_RADIAL and RADIAL cameras; 0 of all others."""
    name, params = camera.model.name, [float(v) for v in camera.params]
    if name == "SIMPLE_RADIAL":
        return params[3], 0.0
    return (params[3], params[4]) if name == "RADIAL" else (0.0, 0.0)


def assert_same_geometry(ours, original):
    """A model read through another format: same images, poses, points and graph as the COLMAP original, ids aside."""
    from sfm2tuples.covisibility.graph import covisibility

    assert ours.image_names == original.image_names
    for row in range(len(original.image_names)):
        r, s = rotation_matrix(ours.quaternions[row]), rotation_matrix(original.quaternions[row])
        assert np.allclose(r, s, atol=1e-9)
        a, b = np.array(r).T @ ours.translations[row], np.array(s).T @ original.translations[row]
        assert np.allclose(a, b, rtol=1e-9, atol=1e-9)
        seen = _points_seen(ours, row)
        assert np.allclose(seen, _points_seen(original, row), rtol=1e-12, atol=1e-12)
    assert sorted(map(tuple, ours.points.tolist())) == sorted(map(tuple, original.points.tolist()))
    a, b = covisibility(ours), covisibility(original)
    assert np.array_equal(a.indptr, b.indptr)
    assert np.array_equal(a.neighbour, b.neighbour)
    assert np.array_equal(a.shared, b.shared)
    for name in ("scale_change", "angle", "axis_angle"):
        assert np.allclose(getattr(a, name), getattr(b, name), rtol=1e-5, atol=1e-6, equal_nan=True)


def _points_seen(model, row):
    """Positions of the points that an image sees, each once, in order."""
    rows = model.observation_points[model.observation_indptr[row] : model.observation_indptr[row + 1]]
    return sorted(map(tuple, model.points[sorted(set(rows.tolist()))].tolist()))


def match_joins_by_loops(models, pairs, needed):
    """(low model, high model) to (image pairs, matches), from each model's images and {(image, image): matches}."""
    found = {}
    for (a, b), matches in pairs.items():
        for m, images in enumerate(models):
            for n, others in enumerate(models):
                if m != n and a in images and b in others:
                    pair = min(m, n), max(m, n)
                    count, total = found.get(pair, (0, 0))
                    found[pair] = count + 1, total + matches
    return {pair: evidence for pair, evidence in found.items() if evidence[0] >= needed}


# --- more poolings and losses (method.md sections 6 and 8) --------------------------------------------------------


def pool_gem_channels(x, p, eps=1e-6):
    """GeM with an exponent for each channel: (K, h, w) and K numbers to (K,)."""
    return np.array([pool_gem(x[k : k + 1], p[k], eps)[0] for k in range(len(x))])


def pool_crow(x, eps=1e-6):
    """CroW of one map (K, h, w), cell by cell and channel by channel."""
    channels, height, width = x.shape
    strength = {(i, j): sum(x[k, i, j] for k in range(channels)) for i in range(height) for j in range(width)}
    norm = math.sqrt(sum(s * s for s in strength.values()))
    share = [sum(1 for cell in strength if x[(k, *cell)] > 0) / (height * width) for k in range(channels)]
    pooled = []
    for k in range(channels):
        weight = math.log((channels * eps + sum(share)) / (eps + share[k]))
        pooled.append(sum(weight * math.sqrt(s / norm) * x[(k, *cell)] for cell, s in strength.items() if s > 0))
    return np.array(pooled, dtype=np.float64)


def pool_regions(x, pool_one, matrix, offset, whole_image=False, eps=1e-6):
    """Each region pooled, divided by its norm, projected, divided again; the sum."""
    regions = [x[:, top : top + side, left : left + side] for top, left, side in rmac_grid(x.shape[1], x.shape[2])]
    total = np.zeros(len(matrix))
    for region in ([x] if whole_image else []) + regions:
        vector = pool_one(region)
        vector = vector / (math.sqrt(sum(v * v for v in vector)) + eps)
        projected = np.array([sum(m * v for m, v in zip(row, vector, strict=True)) for row in matrix]) + offset
        total += projected / (math.sqrt(sum(v * v for v in projected)) + eps)
    return total


def pool_netvlad(x, weight, bias, centres):
    """NetVLAD of one map (D, h, w): softmax of linear scores, residual sums, each part divided by its norm."""
    sums = np.zeros(centres.shape)
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            cell, norm = x[:, i, j], math.sqrt(sum(v * v for v in x[:, i, j]))
            cell = cell / norm if norm > 0 else cell
            scores = [float(w @ cell) + b for w, b in zip(weight, bias, strict=True)]
            powers = [math.exp(score - max(scores)) for score in scores]
            for k, power in enumerate(powers):
                sums[k] += power / sum(powers) * (cell - centres[k])
    parts = []
    for part in sums:
        norm = math.sqrt(sum(v * v for v in part))
        parts.append(part / norm if norm > 0 else part)
    return np.concatenate(parts)


def graded_contrastive_loss(query, positives, negatives, margin, overlap, grade):
    """Contrastive loss whose positives weigh overlap ** grade, or 1 where the overlap is None."""
    total = contrastive_loss(query, [[] for _ in query], negatives, margin)
    for q, ps, overlaps in zip(query, positives, overlap, strict=True):
        for p, o in zip(ps, overlaps, strict=True):
            if p is not None:
                total += (1.0 if o is None else o**grade) * contrastive_loss([q], [[p]], [[]], margin)
    return total


def generalized_contrastive_loss(query, positives, negatives, margin, overlap):
    """A pair of likeness o costs o times what a positive costs, and 1 - o times what a negative costs; None is 1."""
    total = contrastive_loss(query, [[] for _ in query], negatives, margin)
    for q, ps, overlaps in zip(query, positives, overlap, strict=True):
        for p, o in zip(ps, overlaps, strict=True):
            if p is not None:
                psi = 1.0 if o is None else o
                total += psi * contrastive_loss([q], [[p]], [[]], margin)
                total += (1 - psi) * contrastive_loss([q], [[]], [[p]], margin)
    return total


# --- protocols of the field (method.md section 10) ------------------------------------------------------------------


def holidays_average_precision(query, ranked, numbers):
    """AP of one query as in INRIA's program: the query dropped from the list, then trapezoids at the ranks found."""
    group = {number for number in numbers if number // 100 == query // 100} - {query}
    ranks = [rank for rank, number in enumerate([n for n in ranked if n != query]) if number in group]
    area = 0.0
    for found, rank in enumerate(ranks):
        before = 1.0 if rank == 0 else found / rank
        area += (before + (found + 1) / (rank + 1)) / 2 / len(group)
    return area


def ukbench_score(rankings):
    """Mean number of an object's four photos in the top four; `rankings` maps a photo's number to ranked numbers."""
    return sum(sum(n // 4 == query // 4 for n in ranked[:4]) for query, ranked in rankings.items()) / len(rankings)


def recall_at(rankings, queries, database, own, max_distance, n):
    """Share of queries with a near photo in the top n; `own` is each query's row of the database, or None."""
    hits = []
    for ranked, (x, y), self_ in zip(rankings, queries, own, strict=True):
        near = {row for row, (a, b) in enumerate(database) if math.hypot(a - x, b - y) <= max_distance and row != self_}
        if near:
            hits.append(any(row in near for row in [r for r in ranked if r != self_][:n]))
    return sum(hits) / len(hits)


def revisited_lists(entry, setup):
    """What is right and what is junk for one query of the revisited benchmarks, as their program has it."""
    if setup == "easy":
        return entry["easy"], [*entry["junk"], *entry["hard"]]
    if setup == "medium":
        return [*entry["easy"], *entry["hard"]], entry["junk"]
    return entry["hard"], [*entry["junk"], *entry["easy"]]


def receptive_field(backbone, width, column):
    """First and last pixel that a cell of the map's middle row sees along the width: where the gradient is not zero.

    All filters and max-pools become means, of a photo so dark that no ReLU6 is full: so nothing that is looked at has
    no influence.
    """
    import copy

    import torch

    seeing = copy.deepcopy(backbone).double().eval()
    with torch.no_grad():
        for name, weight in seeing.named_parameters():
            weight.fill_(1.0 / weight[0].numel() if name.endswith("weight") else 0.0)

    def replaced(module):
        for name, child in module.named_children():
            if isinstance(child, torch.nn.MaxPool2d):
                mean = torch.nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(module, name, mean)
            else:
                replaced(child)

    replaced(seeing)
    photo = torch.full((1, 3, 64, width), 1e-6, dtype=torch.float64, requires_grad=True)
    features = seeing(photo)
    features[0, 0, features.shape[2] // 2, column].backward()
    columns = photo.grad.abs().sum(dim=(0, 1, 2)).nonzero().ravel()
    return int(columns[0]), int(columns[-1]), features.shape[3]


# --- search, query expansion, re-ranking (method.md section 10) ------------------------------------------------------


def most_similar_by_sorting(query, database, own, count):
    """Rows by falling similarity, ties by the lower row, without the query's own row: [(row, similarity)]."""
    found = [(row, exact_similarity(query, vector)) for row, vector in enumerate(database) if row != own]
    return sorted(found, key=lambda entry: (-entry[1], entry[0]))[:count]


def expanded_query(query, found, alpha):
    """Mean of a query (weight 1) and [(vector, similarity)], weights max(similarity, 0)^alpha; then L2."""
    total = [float(x) for x in query]
    for vector, similarity in found:
        weight = max(similarity, 0.0) ** alpha
        total = [t + weight * float(x) for t, x in zip(total, vector, strict=True)]
    length = math.sqrt(sum(t * t for t in total))
    return [t / length for t in total]


def window_similarity(features, query, window, exponent=10):
    """Cosine of a query and the generalised mean of each channel (K, h, w) over a window, summed directly."""
    top, left, bottom, right = window
    vector = []
    for channel in features:
        total = sum(max(float(channel[y, x]), 0.0) ** exponent for y in range(top, bottom) for x in range(left, right))
        vector.append((total / ((bottom - top) * (right - left))) ** (1 / exponent))
    length = math.sqrt(sum(v * v for v in vector))
    return sum(a * b for a, b in zip(vector, query, strict=True)) / length if length else 0.0


def coarse_windows(height, width, ratio, step=3, aspect=1.1):
    """Windows whose sides are multiples of the step or the far border, of about the query's width / height."""
    tops, bottoms = range(0, height, step), [*range(step, height, step), height]
    lefts, rights = range(0, width, step), [*range(step, width, step), width]
    windows = [(t, a, b, r) for t in tops for b in bottoms for a in lefts for r in rights if t < b and a < r]
    fits = [(t, a, b, r) for t, a, b, r in windows if max(q := (r - a) / (b - t) / ratio, 1 / q) <= aspect + 1e-12]
    return fits or [(0, 0, height, width)]


def localised_window(features, query, ratio):
    """The best coarse window, then each side moved by 3, 2, 1 cells where that helps, at most five sweeps each."""
    height, width = features.shape[1:]
    best = max(coarse_windows(height, width, ratio), key=lambda window: window_similarity(features, query, window))
    best = list(best)
    for step in (3, 2, 1):
        for _ in range(5):
            before = list(best)
            for side in range(4):
                tried = []
                for place in (best[side], best[side] - step, best[side] + step):
                    window = [*best[:side], place, *best[side + 1 :]]
                    if 0 <= window[0] < window[2] <= height and 0 <= window[1] < window[3] <= width:
                        tried.append(window)
                best = max(tried, key=lambda window: window_similarity(features, query, window))
            if best == before:
                break
    return tuple(best)


def tf_idf_cosines(queries, database, power=1.0):
    """Cosines of bags given as dicts of word to count; idf over the database."""

    def vector(bag):
        held = {w: sum(1 for b in database if b.get(w, 0) > 0) for w in bag}
        entries = {w: c**power * math.log(len(database) / held[w]) for w, c in bag.items() if c > 0 and held[w]}
        length = math.sqrt(sum(e * e for e in entries.values()))
        return {w: e / length for w, e in entries.items()} if length else {}

    vectors = [vector(bag) for bag in database]
    return [[sum(e * v.get(w, 0.0) for w, e in vector(q).items()) for v in vectors] for q in queries]


def nearest_words(descriptor, words, count, softness):
    """Words by distance and exp(-d^2 / 2 softness^2), made to sum to 1."""
    distance = [math.dist([float(v) / 512 for v in descriptor], [float(v) for v in word]) for word in words]
    order = sorted(range(len(words)), key=lambda w: distance[w])[:count]
    raw = [math.exp(-(distance[w] ** 2) / (2 * softness**2)) for w in order]
    return order, [r / sum(raw) for r in raw]


def mutual_matches(left, right, ratio):
    """Pairs that are each other's nearest, at most `ratio` of the distance to the left one's second."""
    distance = [[math.dist(a.tolist(), b.tolist()) for b in right] for a in left]
    found = []
    for i, row in enumerate(distance):
        first, second = sorted(range(len(row)), key=lambda j: row[j])[:2]
        mutual = min(range(len(left)), key=lambda k: distance[k][first]) == i
        if mutual and row[first] <= ratio * row[second]:
            found.append((i, first))
    return found


def hamming_similarity(query, photo, idf, max_distance, spread):
    """Of lists of (word, bits): matching pairs weigh idf^2 exp(-d^2/spread^2), over both plain tf-idf lengths."""

    def length(features):
        words = [word for word, _ in features]
        return math.sqrt(sum((words.count(word) * idf[word]) ** 2 for word in set(words)))

    total = 0.0
    for word, bits in query:
        for other, others in photo:
            distance = bin(bits ^ others).count("1")
            if word == other and distance <= max_distance:
                total += idf[word] ** 2 * math.exp(-(distance**2) / spread**2)
    both = length(query) * length(photo)
    return total / both if both else 0.0


def confirmed(own, chosen, max_distance):
    """The query's (word, bits), and those of chosen photos that match one of the query or of another chosen photo."""
    photos = [own, *chosen]
    kept = list(own)
    for number, photo in enumerate(photos[1:], start=1):
        for word, bits in photo:
            others = [f for other, p in enumerate(photos) if other != number for f in p]
            if any(word == w and bin(bits ^ b).count("1") <= max_distance for w, b in others):
                kept.append((word, bits))
    return kept


# --- a network's ranking verified by local features ------------------------------------------------------------------


def verified_ranking(query, database, own, depth, inliers, least, expansion=None):
    """Rows best first: the first `depth` that are verified go in front by inliers, all others keep their order.

    `inliers` is a dictionary of rows, 0 where one is not verified. With `expansion` (number, alpha), a query whose
    short list has images of at least `least` inliers is averaged with the first of them, and all rows are ranked anew.
    """

    def ranked(vector):
        rows = [row for row in range(len(database)) if row != own]
        return sorted(rows, key=lambda row: (-exact_similarity(vector, database[row]), row))

    first = ranked(query)
    short = first[:depth]
    verified = sorted((r for r in short if inliers[r] > 0), key=lambda r: (-inliers[r], short.index(r)))
    enough = [r for r in verified if inliers[r] >= least]
    if expansion is None or not enough:
        return verified + [r for r in first if r not in verified]
    number, alpha = expansion
    found = [(database[r], exact_similarity(query, database[r])) for r in enough[:number]]
    return ranked(np.float32(expanded_query(query, found, alpha)))


# --- What an evaluation keeps to be looked at -------------------------------------------------------------------------


def first_and_last_by_lists(ranking, verdict_of, first, at_most, last):
    """First rows, their verdicts, and (row, rank) of the positives that come last; verdicts 1 right, 2 junk.

    The first rows end with the `first`-th that is no junk, or after `at_most`.
    """
    rank_of, rank = {}, 0
    for row in ranking:
        if verdict_of[row] != 2:
            rank_of[row] = rank
            rank += 1
    positives = [row for row in range(len(verdict_of)) if verdict_of[row] == 1]
    never = [(row, -1) for row in positives if row not in rank_of]
    found = sorted(((row, rank_of[row]) for row in positives if row in rank_of), key=lambda pair: -pair[1])
    seen = []
    for row in ranking[:at_most]:
        if sum(verdict_of[other] != 2 for other in seen) < first:
            seen.append(row)
    return seen, [verdict_of[row] for row in seen], (never + found)[:last]


def most_shared_of_squares(rows, columns, shared, size, most):
    """Neighbouring images are joined until at most `most` rows remain: the most that any pair of each square shares."""
    together = 1
    while (size + together - 1) // together > most:
        together += 1
    count = (size + together - 1) // together
    table = [[0] * count for _ in range(count)]
    for r, c, s in zip(rows.tolist(), columns.tolist(), shared.tolist(), strict=True):
        table[r // together][c // together] = max(table[r // together][c // together], s)
    return np.array(table)


# --- intervals ----------------------------------------------------------------------------------------------------


def bootstrap_interval(values, resamples, level):
    """Quantiles of the means of given resamples, by the definition: linear between the sorted means."""
    means = sorted(sum(values[row] for row in rows) / len(rows) for rows in resamples)

    def quantile(share):
        at = share * (len(means) - 1)
        below = math.floor(at)
        above = min(below + 1, len(means) - 1)
        return means[below] + (at - below) * (means[above] - means[below])

    return quantile((1 - level) / 2), quantile((1 + level) / 2)


# Pairs to check: where descriptors and models disagree most.


def unlike_positives(index, rows, vectors):
    """[(similarity, row, other)] of the pairs that m3 allows in one direction, each two photos once, rising."""
    graph, images, observed = index.covisibility, index.images, index.observations
    points = [set(observed.point[observed.indptr[i] : observed.indptr[i + 1]].tolist()) for i in range(len(images.key))]
    best = {}
    for row in rows:
        for e in range(graph.indptr[row], graph.indptr[row + 1]):
            other = int(graph.neighbour[e])
            photos = frozenset((int(images.photo[row]), int(images.photo[other])))
            overlap = len(points[row] & points[other]) / len(points[row])
            evidence = [(other, 0, overlap, float(graph.scale_change[e]))]
            opposite = graph.axis_angle[e] >= math.pi / 2
            if other in rows and len(photos) == 2 and not opposite and m3_allowed(evidence):
                pair = (exact_similarity(vectors[row], vectors[other]), min(row, other), max(row, other))
                best[photos] = min(best.get(photos, pair), pair)
    return sorted(best.values())


def alike_negatives(index, rows, vectors, apart=False):
    """[(similarity, row, other)] of the pairs that `Inside` proves negatives, falling; ties: lower rows first."""
    inside, graph, images = index.inside, index.covisibility, index.images
    found = []
    for row in rows:
        for other in rows:
            related = graph.neighbour[graph.indptr[row] : graph.indptr[row + 1]].tolist()
            related += inside.other[inside.indptr[row] : inside.indptr[row + 1]].tolist()
            twice = [i for i in (row, other) if images.photo.tolist().count(images.photo[i]) > 1]
            if not (
                row >= other
                or twice
                or other in related
                or not inside.takes_part[row]
                or not inside.takes_part[other]
                or index.image_place[row] != index.image_place[other]
                or (images.model[row] != images.model[other] and not apart)
            ):
                found.append((exact_similarity(vectors[row], vectors[other]), row, other))
    return sorted(found, key=lambda entry: (-entry[0], entry[1:]))


# --- pages -----------------------------------------------------------------------------------------------------------


def shared_observations(index, first, second):
    """What two images both see, from the models' point ids: {id: (x and y in the one, x and y in the other)}."""
    images, observed, points = index.images, index.observations, index.points
    if images.model[first] != images.model[second]:
        return {}
    places = []
    for row in (first, second):
        seen = {}
        for k in range(observed.indptr[row], observed.indptr[row + 1]):
            at = tuple(observed.xy[k].tolist())
            place = None if any(math.isnan(v) for v in at) else at
            known = seen.setdefault(int(points.id[observed.point[k]]), place)
            if known is None:
                seen[int(points.id[observed.point[k]])] = place
        places.append(seen)
    return {point: (places[0][point], places[1][point]) for point in sorted(places[0]) if point in places[1]}
