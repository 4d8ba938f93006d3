"""Damage to a file, drawn by a seed: to its bytes, its lines and words, its HDF5 datasets, its values.

`damage` does one to a file in place. What it did is said in words, and whether what a reader may get from the file is
then fixed: damage that is `certain` must be refused, warned of, or change nothing that a command gives.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.content_damage import (
    Damage,
    damage_checkpoint,
    damage_database,
    damage_json,
    damage_npy,
    damage_npz,
    damage_pickle,
    damage_safetensors,
)
from benchmarks.hdf5_damage import damage_hdf5

Random = np.random.Generator
HDF5_SHARE, OTHER_SHARE = 0.75, 0.5
"""Share of the damage that goes to the structure, where a file has one; the rest is done to bytes."""
NUMBERS = (
    *b"-1 0 1 2 -0 1e308 -1e308 1e-320 nan inf -inf 1e999 0x10 1_0 1.5 1,5 --1 +1 2147483647 2147483648".split(b" "),
    *b"4294967296 9223372036854775807 9223372036854775808".split(b" "),
    *(b"9" * 400, "\u0663".encode(), b""),
)
"""What stands for a number of a text."""
WORDS = (
    *b'.. ../x.jpg /etc/passwd C:\\x.jpg a\\b.jpg . / \0 \xff\xfe \x1b[2J \xe9 , # ~ -o %s {} " """'.split(b" "),
    *("é".encode(), "\u2028".encode(), b"x" * 5000, b""),
)
"""What stands for a word of a text."""


def damage(path: Path, random: Random, is_whole: bool) -> Damage:
    """Damage a file in place.

    Parameters
    ----------
    path : Path
        Its suffix says what structure it has.
    random : Generator
    is_whole : bool
        Whether a reader can tell that bytes are missing at its end.
    """
    change = STRUCTURES.get(path.suffix)
    if change and random.random() < (HDF5_SHARE if path.suffix == ".h5" else OTHER_SHARE):
        return change(path, random)
    return _bytes(path, random, is_whole)


def _hdf5(path: Path, random: Random) -> Damage:
    return Damage(*damage_hdf5(path, random))


# --- bytes ------------------------------------------------------------------------------------------------------------


def _bytes(path: Path, random: Random, is_whole: bool = False) -> Damage:
    content = bytearray(path.read_bytes())
    kind = random.choice(["flip", "flip", "set", "cut", "append", "zeros", "remove", "repeat", "insert", "number"])
    at, length = _place(len(content), random), int(2 ** random.uniform(0, 12))
    what, certain = f"{kind} at {at:,}, {length:,} bytes", False
    if kind == "flip":
        for _ in range(length := int(random.integers(1, 5))):
            content[at := _place(len(content), random)] ^= 1 << int(random.integers(8))
        what = f"{length} bits flipped, the last at {at:,}"
    elif kind == "set":
        content[at] = int(random.choice([0, 255, 127, 128, 10, 32, 48, 57, 45]))
        what = f"byte {at:,} set to {content[at]}"
    elif kind == "cut":
        del content[at:]
        what, certain = f"cut at {at:,}", is_whole
    elif kind == "append":
        content += random.bytes(length) if random.random() < 0.7 else bytes(length)
        what = f"{length:,} bytes appended"
    elif kind == "zeros":
        content[at : at + length] = bytes(len(content[at : at + length]))
    elif kind == "remove":
        del content[at : at + length]
    elif kind == "repeat":
        content[at:at] = content[at : at + length]
    elif kind == "insert":
        content[at:at] = random.bytes(length)
    else:
        width, value = int(random.choice([4, 8])), int(random.choice([-1, 0, 1, 2**31 - 1, 2**32 - 1, 2**62, -(2**63)]))
        content[at : at + width] = (value % 2 ** (8 * width)).to_bytes(width, "little")
        what = f"{width} bytes at {at:,} set to {value}"
    path.write_bytes(content)
    return Damage(what, certain)


def _place(size: int, random: Random) -> int:
    """A place in a file; of a large one often near its ends, where the structure lies."""
    near = min(size, 4096)
    if size > near and random.random() < 0.6:
        at = int(random.integers(near))
        return at if random.random() < 0.5 else size - 1 - at
    return int(random.integers(max(1, size)))


# --- texts ------------------------------------------------------------------------------------------------------------


def _text(path: Path, random: Random) -> Damage:
    content = path.read_bytes()
    lines = content.split(b"\n")
    kind = random.choice(
        ["number", "number", "word", "line", "drop", "twice", "swap", "encoding", "ends", "empty"], p=_TEXT
    )
    row, other = int(random.integers(len(lines))), int(random.integers(len(lines)))
    if kind in ("number", "word"):
        pattern, given = (rb"-?\d[\d.e+-]*", NUMBERS) if kind == "number" else (rb"[^\s,]+", WORDS)
        found = list(re.finditer(pattern, content))
        if found:
            match, new = found[int(random.integers(len(found)))], given[int(random.integers(len(given)))]
            path.write_bytes(content[: match.start()] + new + content[match.end() :])
            return Damage(f"{match.group()!r} at {match.start():,} is now {new[:40]!r}")
    if kind == "drop":
        del lines[row]
    elif kind == "twice":
        lines.insert(other, lines[row])
    elif kind == "swap":
        lines[row], lines[other] = lines[other], lines[row]
    elif kind == "line":
        lines[row] = random.choice(list(WORDS)) if random.random() < 0.5 else lines[row][: len(lines[row]) // 2]
    content = b"\n".join(lines)
    if kind == "encoding":
        name = str(random.choice(["utf-16", "utf-32", "utf-8-sig", "utf-16-le", "cp037"]))
        content = content.decode("utf-8", "replace").encode(name)
        kind = f"encoding {name}"
    elif kind == "ends":
        content = content.replace(b"\n", b"\r\n" if random.random() < 0.5 else b"\r")
    elif kind == "empty":
        content = random.choice([b"", b"\n", b" ", b"\0" * 100, b"\n" * 5000])
    path.write_bytes(content)
    return Damage(f"{kind}, line {row + 1}")


_TEXT = np.array([4, 4, 3, 2, 2, 2, 2, 1.5, 1, 0.5]) / 22
STRUCTURES: dict[str, Callable[[Path, Random], Damage]] = {
    ".h5": _hdf5,
    ".json": damage_json,
    ".pkl": damage_pickle,
    ".npy": damage_npy,
    ".npz": damage_npz,
    ".safetensors": damage_safetensors,
    ".db": damage_database,
    **dict.fromkeys((".pt", ".pth"), damage_checkpoint),
    **dict.fromkeys((".txt", ".csv", ".out", ".nvm"), _text),
}
"""By a file's suffix, what knows its structure."""
