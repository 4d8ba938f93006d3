"""Damage to what a file holds where that is a tree of values, arrays or tables: other types, shapes, names, sizes."""

from __future__ import annotations

import json
import pickle
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Random = np.random.Generator
VALUES: tuple[Callable[[], Any], ...] = (
    *(lambda value=value: value for value in (None, True, -1, 0, 7, 2**31, 2**63, 2**70, 10**400, 1.5, -0.5, 1e308)),
    *(lambda value=value: value for value in (float("nan"), float("inf"), "", "x", "../x", "\ud800", "\0", "x" * 5000)),
    *(list, dict, lambda: [None], lambda: [[[]]], lambda: {"x": 1}, lambda: [1, "x"], lambda: [[1, 2], [3]]),
    *(lambda: _deep(50), lambda: _deep(400), lambda: _laughs(30)),
)
"""What a place in a tree of values is given; lists of lists that share a list, too."""


@dataclass(frozen=True)
class Damage:
    """What was done to a file."""

    what: str
    """In words."""
    certain: bool = False
    """Whether no other result than that of the good file can be right."""


def _deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def _laughs(levels: int) -> Any:
    """A list of few bytes in a pickle that has 2 to the power of `levels` leaves."""
    value: Any = ["ha"]
    for _ in range(levels):
        value = [value, value]
    return value


def _spoil(tree: Any, random: Random, values: tuple[Callable[[], Any], ...] = VALUES) -> str:
    """Change one place of a tree of dicts and lists, in place."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any, depth: int = 0) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in list(items)[:200]:
            # A place near the root is drawn as often as all below it.
            places.extend([(node, key)] * max(1, 12 - 4 * depth))
            walk(value, depth + 1)

    walk(tree)
    node, key = places[int(random.integers(len(places)))]
    kind = random.choice(["value", "value", "value", "drop", "twice", "name"])
    old = type(node[key]).__name__
    if kind == "drop":
        del node[key]
        return f"{key!r} dropped, a {old}"
    if kind == "twice" and isinstance(node, list):
        node.append(node[key])
        return f"item {key} twice"
    if kind == "name" and isinstance(node, dict):
        new = (str(key) + "x", 3, "", "\ud800")[int(random.integers(4))]
        node[new] = node.pop(key)
        return f"{key!r} is now called {new!r}"
    node[key] = values[number := int(random.integers(len(values)))]()
    return f"{key!r}, a {old}, is now value {number}, a {type(node[key]).__name__}"


def damage_json(path: Path, random: Random) -> Damage:
    """Change a JSON file's values."""
    tree = json.loads(path.read_text())
    what = _spoil(tree, random, VALUES[:-1])
    path.write_text(json.dumps(tree, default=str))
    return Damage(what)


def damage_pickle(path: Path, random: Random) -> Damage:
    """Change a pickle's values, and its protocol."""
    tree = pickle.loads(path.read_bytes())
    what = _spoil(tree, random)
    protocol = int(random.integers(6))
    path.write_bytes(pickle.dumps(tree, protocol))
    return Damage(f"{what}, protocol {protocol}")


def damage_checkpoint(path: Path, random: Random) -> Damage:
    """Change the values and tensors of a file of PyTorch."""
    import torch

    tree = torch.load(path, weights_only=True)
    tensors: tuple[Callable[[], Any], ...] = (
        *(lambda: torch.zeros(0), lambda: torch.tensor(float("nan")), lambda: torch.zeros(2, 3, dtype=torch.int8)),
        *(lambda: torch.zeros(1).expand(10**6, 10**4), lambda: torch.ones(3, dtype=torch.complex64)),
        *(lambda: torch.sparse_coo_tensor([[0]], [1.0], (5,)), lambda: torch.zeros(3, device="meta")),
    )
    what = _spoil(tree, random, (*VALUES[:-1], *tensors) if random.random() < 0.9 else VALUES[-1:])
    with path.open("wb") as file:
        torch.save(tree, file)
    return Damage(what)


def _array(values: np.ndarray, random: Random) -> tuple[np.ndarray, str]:
    kind = random.choice(["type", "shape", "value", "rows"])
    if kind == "type":
        name = str(random.choice(["f2", "f8", ">f4", "i4", "u1", "c8", "U5", "S3", "b1", "O", "M8[s]"]))
        with np.errstate(all="ignore"):
            return (values.view("i4").astype(name) if name == "M8[s]" else values.astype(name)), f"type {name}"
    if kind == "shape":
        shapes = ((-1,), (1, *values.shape), (*values.shape, 1), values.shape[::-1], ())
        shape = shapes[int(random.integers(len(shapes)))]
        return (values.reshape(shape) if shape else values.ravel()[0].reshape(())), f"shape {shape}"
    if kind == "rows":
        rows = int(random.integers(3))
        return (values[:0], values[:-1], np.concatenate([values, values]))[rows], f"rows {rows}"
    values, flat = values.copy(), float(random.choice([np.nan, np.inf, -np.inf, 1e38, 0.0]))
    if values.dtype.kind == "f" and values.size:
        values.reshape(-1)[int(random.integers(values.size))] = flat
    return values, f"one value {flat}"


def damage_npy(path: Path, random: Random) -> Damage:
    """Change the array of an .npy."""
    values, what = _array(np.load(path), random)
    np.save(path, values, allow_pickle=True)
    return Damage(what)


def damage_npz(path: Path, random: Random) -> Damage:
    """Change an array of an .npz, or what is beside."""
    with np.load(path) as file:
        arrays = dict(file)
    name = str(random.choice(list(arrays)))
    if random.random() < 0.2:
        arrays[name + "x"] = arrays.pop(name)
        what = "another name"
    else:
        arrays[name], what = _array(arrays[name], random)
    np.savez(path, **arrays)
    if random.random() < 0.2:  # the same name twice, and a file that is no array
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("odd.npy", random.bytes(50))
        what += ", and odd.npy"
    return Damage(f"{name}: {what}")


def damage_safetensors(path: Path, random: Random) -> Damage:
    """Change the header of a .safetensors."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    what = _spoil(header, random, VALUES[:-2])
    text = json.dumps(header, default=str).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])
    return Damage(what)


SQL = (
    "DROP TABLE images", "DROP TABLE two_view_geometries", "DELETE FROM images", "DELETE FROM two_view_geometries",
    "UPDATE images SET name = 3", "UPDATE images SET name = x'ff00'", "UPDATE images SET name = name || char(0)",
    "UPDATE images SET image_id = image_id - 3", "UPDATE images SET image_id = 9223372036854775807 WHERE image_id = 2",
    "UPDATE two_view_geometries SET rows = 9223372036854775807, data = NULL",
    "UPDATE two_view_geometries SET rows = -5",
    "UPDATE two_view_geometries SET rows = 'many'", "UPDATE two_view_geometries SET rows = 1e300",
    "UPDATE two_view_geometries SET rows = NULL", "UPDATE two_view_geometries SET config = 'x'",
    "UPDATE two_view_geometries SET pair_id = -pair_id", "UPDATE two_view_geometries SET pair_id = pair_id + 9999999",
    "UPDATE two_view_geometries SET data = x'00'", "ALTER TABLE images RENAME COLUMN name TO title",
    "ALTER TABLE two_view_geometries RENAME COLUMN rows TO count", "ALTER TABLE images RENAME TO pictures",
    "ALTER TABLE images RENAME TO i; CREATE VIEW images AS SELECT * FROM i",
    "ALTER TABLE two_view_geometries RENAME TO t; CREATE VIEW two_view_geometries AS WITH RECURSIVE "
    "r(pair_id, rows, cols, data, config) AS (SELECT 2147483656, 50, 2, NULL, 2 UNION ALL "
    "SELECT pair_id + 1, 50, 2, NULL, 2 FROM r) SELECT * FROM r",
    "PRAGMA user_version = 99", "PRAGMA journal_mode = WAL", "CREATE TABLE more(x)",
    "PRAGMA encoding = 'UTF-16'; VACUUM",
)  # fmt: skip


def damage_database(path: Path, random: Random) -> Damage:
    """Change the tables of a database of SQLite."""
    statement = SQL[int(random.integers(len(SQL)))]
    database = sqlite3.connect(path)
    with suppress(sqlite3.IntegrityError):  # what a column may not hold is left as it was
        database.executescript(statement)
    database.commit()
    database.close()
    return Damage(statement[:80])
