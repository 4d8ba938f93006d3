"""Damage to the structure of an HDF5 file: types, shapes, values, rows, names, links, attributes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Random = np.random.Generator
FREE = ("id", "photo", "index_row", "size", "shared", "similarity", "inliers", "signature", "descriptors", "jpeg")
"""Columns of integers where other numbers can be right, by the last part of their name."""
ATTRIBUTES: tuple[Any, ...] = (
    *(0, -1, 2, 10**18, 1.5, float("nan"), "", "x", "[]", "{}", "{", "null", "3", '"x"', "[" * 3000, b"\xff\xfe"),
    *(
        np.zeros(3),
        np.zeros((2, 2), np.int8),
        h5py.Empty("f8"),
        ["a", "b"],
        '{"settings": 3}',
        '[["x"]]',
        "sfm2tuples-x",
    ),
)
OPTIONS: tuple[Any, ...] = (None, -1, 0, 10**20, 1e308, "", "x", [], [1], {}, {"x": 1}, True, "\ud800", "\x1b[2J")
"""What an option in a header is given."""


def damage_hdf5(path: Path, random: Random) -> tuple[str, bool]:
    """Change one thing in a file; what, in words, and whether it is certain to be wrong (see `damage.Damage`)."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        datasets = [name for name in names if isinstance(file[name], h5py.Dataset)]
        kinds = (_retype, _reshape, _rows, _value, _value, _value, _remove, _link, _attribute, _option, _swap, _strange)
        name = datasets[int(random.integers(len(datasets)))]
        what, certain = kinds[int(random.integers(len(kinds)))](file, name, random)
    return what, certain


def _put(file: h5py.File, name: str, values: Any, **how: Any) -> None:
    """Replace a dataset."""
    del file[name]
    file.create_dataset(name, data=values, **how)


def _retype(file: h5py.File, name: str, random: Random) -> tuple[str, bool]:
    values, kind = (
        file[name][()],
        str(random.choice(["f2", "f4", "f8", "i1", "i4", "i8", "u8", ">i8", "c8", "S4", "b1", "text"])),
    )
    with np.errstate(all="ignore"):
        new = values.astype(str).astype(object) if kind == "text" else values.astype(kind)
    _put(file, name, new, **({"dtype": h5py.string_dtype()} if kind == "text" else {}))
    return f"{name}: {values.dtype} to {kind}", kind in ("c8", "S4", "text")


def _reshape(file: h5py.File, name: str, random: Random) -> tuple[str, bool]:
    values = file[name][()]
    shapes = ((-1, 1), (1, -1), (*values.shape, 2), "scalar", "empty", values.shape[::-1])
    shape = shapes[int(random.integers(len(shapes)))]
    if shape == "scalar":
        _put(file, name, values.reshape(-1)[0] if values.size else 0)
    elif shape == "empty":
        _put(file, name, h5py.Empty(values.dtype))
    elif shape == (*values.shape, 2):
        _put(file, name, np.repeat(values[..., None], 2, -1))
    else:
        _put(file, name, values.reshape(shape))
    same = shape == "scalar" or shape == "empty" or file[name].shape == values.shape
    return f"{name}: shape {values.shape} to {shape}", shape in ("scalar", "empty") or not same


def _rows(file: h5py.File, name: str, random: Random) -> tuple[str, bool]:
    values, kind = file[name][()], str(random.choice(["none", "one less", "one more", "twice", "half", "turned round"]))
    if not values.shape:
        return f"{name}: as it was", True
    new = {
        "none": values[:0], "one less": values[:-1], "one more": np.concatenate([values, values[-1:]]),
        "twice": np.concatenate([values, values]), "half": values[: len(values) // 2], "turned round": values[::-1],
    }[kind]  # fmt: skip
    _put(file, name, new)
    # A bag of one part, such as the jpegs, the pool or the words, may have any number of rows.
    return f"{name}: {len(values):,} rows, {kind}", len(new) != len(values) and "/" in name and "pool" not in name


def _value(file: h5py.File, name: str, random: Random) -> tuple[str, bool]:
    dataset = file[name]
    if not dataset.size:
        return f"{name}: as it was", True
    values = dataset[()]
    at = int(random.integers(values.size))
    flat = values.reshape(-1)
    certain = False
    if values.dtype.kind == "f":
        new = float(random.choice([np.nan, np.inf, -np.inf, 1e30, -1e30, -1.0, 0.0, 2.0]))
        with np.errstate(over="ignore"):
            flat[at] = new
    else:
        limits = np.iinfo(values.dtype if values.dtype.kind in "iu" else np.uint8)
        choices = [-1, -2, 0, 1, values.size, limits.max, limits.min, limits.max // 2, int(flat[at]) + 1]
        new = min(max(int(choices[int(random.integers(len(choices)))]), int(limits.min)), int(limits.max))
        flat[at] = new
        last = name.split("/")[-1]
        certain = last not in FREE and limits.bits > 8 and (new > 10**6 or new < -10)
    dataset[...] = flat.reshape(values.shape) if values.shape else flat[0]
    return f"{name}[{at}] = {new}", certain


def _remove(file: h5py.File, name: str, random: Random) -> tuple[str, bool]:
    kind = str(random.choice(["removed", "its group removed", "renamed", "a group in its place", "nothing else"]))
    group = name.rpartition("/")[0]
    if kind == "nothing else":
        for other in [key for key in file if key != name.split("/")[0]]:
            del file[other]
    elif kind == "renamed":
        file.move(name, name + "s")
    elif kind == "its group removed" and group:
        del file[group]
    else:
        del file[name]
        if kind == "a group in its place":
            file.create_group(name)
    # A file may do without inliers, or without an image; and of one dataset alone there may be nothing else.
    return f"{name}: {kind}", not name.endswith(("inliers", "global_descriptor")) and kind != "nothing else"


def _link(file: h5py.File, name: str, random: Random) -> tuple[str, bool]:
    kind = str(
        random.choice(["to itself", "to a group", "to nothing", "to another file", "to another dataset", "reference"])
    )
    values = file[name][()]
    del file[name]
    if kind == "reference":
        file.create_dataset(name, data=file.ref, dtype=h5py.ref_dtype)
    elif kind == "to another file":
        file[name] = h5py.ExternalLink("descriptors.h5", "/descriptors")
    else:
        file["spare"] = values
        target = {"to itself": f"/{name}", "to a group": "/", "to nothing": "/nowhere", "to another dataset": "/spare"}
        file[name] = h5py.SoftLink(target[kind])
    return f"{name}: a link {kind}", kind != "to another dataset"


def _attribute(file: h5py.File, name: str, random: Random) -> tuple[str, bool]:
    holder: Any = file
    if random.random() < 0.2:
        holder = file[name.rpartition("/")[0] or "/"]
    names = list(holder.attrs)
    if not names:
        holder, names = file, list(file.attrs)
    if not names:
        file.attrs["format"] = "sfm2tuples-descriptors"
        return "a header that is no more than a format", False
    attribute = str(random.choice(names))
    old = holder.attrs[attribute]
    if random.random() < 0.25:
        del holder.attrs[attribute]
        return f"attribute {attribute} removed", False
    new = ATTRIBUTES[int(random.integers(len(ATTRIBUTES)))]
    del holder.attrs[attribute]
    holder.attrs[attribute] = new
    return f"attribute {attribute}: {str(old)[:40]!r} is now {str(new)[:40]!r}", False


def _option(file: h5py.File, name: str, random: Random) -> tuple[str, bool]:
    """Change one value in the header's JSON, also in what lies in it."""
    key = "options" if random.random() < 0.8 else "parents"
    try:
        tree = json.loads(file.attrs[key])
    except (KeyError, ValueError):
        return "as it was", True
    places = [(tree, k) for k in (tree if isinstance(tree, dict) else range(len(tree)))]
    places += [(value, k) for node, at in places if isinstance(value := node[at], dict) for k in value]
    if not places:
        return "as it was", True
    node, at = places[int(random.integers(len(places)))]
    old, new = node[at], OPTIONS[int(random.integers(len(OPTIONS)))]
    if random.random() < 0.2 and isinstance(node, dict):
        del node[at]
        what = f"{key}: {at} removed"
    else:
        node[at] = new
        what = f"{key}: {at} {str(old)[:40]!r} is now {new!r}"
    file.attrs[key] = json.dumps(tree)
    return what, False


def _swap(file: h5py.File, name: str, random: Random) -> tuple[str, bool]:
    names: list[str] = []
    file.visititems(lambda key, item: names.append(key) if isinstance(item, h5py.Dataset) else None)
    other = str(random.choice(names))
    if other != name:
        file.move(name, "spare")
        file.move(other, name)
        file.move("spare", other)
    return f"{name} and {other} change places", False


def _strange(file: h5py.File, name: str, random: Random) -> tuple[str, bool]:
    values = file[name][()]
    kind = str(random.choice(["huge", "huge in chunks", "packed", "packed and torn", "compound", "external", "more"]))
    if kind == "more":
        file["more/of/this"] = np.zeros(3)
        return "another dataset", True
    shape = values.shape or (1,)
    del file[name]
    if kind.startswith("huge"):
        chunks = (1, *shape[1:]) if kind == "huge in chunks" else None
        more = {"chunks": chunks, "maxshape": (None, *shape[1:])} if chunks else {}
        if chunks is None:  # space is taken late, so that the file stays small
            plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plan.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
            space = h5py.h5s.create_simple((10**10, *shape[1:]))
            lcpl = h5py.h5p.create(h5py.h5p.LINK_CREATE)
            lcpl.set_create_intermediate_group(True)
            h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(values.dtype), space, plan, lcpl)
        else:
            file.create_dataset(name, (10**10, *shape[1:]), values.dtype, **more)
        return f"{name}: {kind}", True
    if kind.startswith("packed"):
        dataset = file.create_dataset(name, data=values.reshape(shape), compression="gzip", chunks=True)
        if kind == "packed and torn" and values.size:
            dataset.id.write_direct_chunk((0,) * len(shape), random.bytes(20))
            return f"{name}: {kind}", True
        return f"{name}: {kind}", True
    if kind == "compound":
        file.create_dataset(name, data=np.zeros(shape, [("x", "f4"), ("y", "i4")]))
        return f"{name}: compound", True
    size = int(np.prod(shape)) * values.dtype.itemsize
    file.create_dataset(name, shape, values.dtype, external=[("photos.txt", 0, size)])
    return f"{name}: bytes of another file", True
