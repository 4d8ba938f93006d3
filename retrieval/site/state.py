"""What a site's files were made of: a file is made again when that has changed, and a line says what has."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfm2tuples.errors import FileFormatError, one_line
from sfm2tuples.files.atomic import write_text
from sfm2tuples.files.container import SOFTWARE
from sfm2tuples.files.text import read_json

FORMAT, VERSION = "sfm2tuples-site", 2
ANOTHER = "give another folder, or remove this one"
Made = Mapping[str, Any]
"""What a file is made of: a name for people to a fingerprint, or to plain values."""
_FINGERPRINT = 64
"""Letters of a fingerprint, which is not shown to people."""


@dataclass
class SiteState:
    """The content of `state.json`, which is written whenever something was made."""

    path: Path
    """The file."""
    content: dict[str, Any] = field(default_factory=dict)
    """`products`: name of a file to what it was made of, its stamp, how long it took, and names of files that are made
    with it; `begun`: what those are made of that are not ended; and what the steps note. The file holds a digest of
    it besides, so that a damaged state is refused and never gone by."""

    @classmethod
    def read(cls, path: Path) -> SiteState:
        """Read the file of a site; a new state where there is none.

        Raises
        ------
        FileFormatError
            It is no such file, is damaged, or newer than this program.
        """
        fresh = {"format": FORMAT, "version": VERSION, "products": {}, "begun": {}}
        if not path.exists():
            return cls(path, fresh)
        content = read_json(path, ANOTHER)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise FileFormatError(path, "is not the state of a site", ANOTHER)
        if content.get("version") != VERSION:
            what = f"is of version {content.get('version')}, this program reads {VERSION}"
            raise FileFormatError(path, one_line(what), "run tune into a new folder")
        software, digest = content.pop("software", None), content.pop("digest", None)
        if digest != _digest(content, software):
            raise FileFormatError(path, "is damaged: it is not as tune left it", ANOTHER)
        return cls(path, content)

    def note(self, **values: Any) -> None:
        """Keep plain values, and write the file."""
        self.content.update(values)
        written = {"software": SOFTWARE, "digest": _digest(self.content, SOFTWARE)}
        write_text(self.path, json.dumps(self.content | written, indent=1) + "\n")

    def product(self, name: str) -> dict[str, Any]:
        """The record of a file; empty where it was never made."""
        record: dict[str, Any] = self.content["products"].get(name, {})
        return record


@dataclass(frozen=True)
class Workshop:
    """Makes the files of a site, each when it is absent or what it is made of has changed."""

    state: SiteState
    """What was made before."""
    say: Callable[[str], None]
    """Gets a line for each file that is made again."""
    kept: list[str] = field(default_factory=list)
    """Files that were kept since `say_kept`."""

    def make(self, path: Path, made_of: Made, build: Callable[[bool], None], beside: Sequence[Path] = ()) -> bool:
        """Make a file or folder of the site, unless it is there as it should be; say whether it was made.

        Parameters
        ----------
        path : Path
            It appears whole or not at all, but for a training's folder.
        made_of : mapping
        build : callable
            Gets whether an interrupted making of the same may be gone on with.
        beside : sequence of Path
            Other files of the site's folder that are made with it: where one is absent or touched, all are made again.
        """
        name = path.name
        made_of = json.loads(json.dumps(made_of))
        record = self.state.product(name)
        if record and record["made_of"] == made_of and self.is_there(path):
            self.kept.append(name)
            return False
        begun = self.state.content["begun"]
        goes_on = begun.get(name) == made_of
        if record and not goes_on:
            self.say(f"  {name}: made again, {_why(record, made_of, [path, *beside])}")
        begun[name] = made_of
        self.state.content["products"].pop(name, None)
        self.state.note()
        started = time.monotonic()
        build(goes_on)
        del begun[name]
        seconds = round(time.monotonic() - started, 1)
        made = {"made_of": made_of, "stamp": stamp(path, *beside), "seconds": seconds}
        self.state.content["products"][name] = made | {"beside": [other.name for other in beside]}
        self.state.note()
        return True

    def is_there(self, path: Path) -> bool:
        """Whether a file was made, and nothing has touched it since; it may still be made again."""
        record = self.state.product(path.name)
        return bool(record) and record["stamp"] == stamp(path, *(path.parent / name for name in record["beside"]))

    def say_kept(self) -> None:
        """Say in one line which files were kept since this was called last, if any."""
        if self.kept:
            self.say(f"  kept as it is, for nothing has changed: {', '.join(self.kept)}")
            self.kept.clear()

    def discard(self, path: Path) -> None:
        """Remove a file or folder that is of no use any more."""
        if path.name in self.state.content["products"] or path.name in self.state.content["begun"]:
            self.state.content["products"].pop(path.name, None)
            self.state.content["begun"].pop(path.name, None)
            self.state.note()
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def stamp(*paths: Path) -> str:
    """Tells whether files or folders were touched: a digest of names, sizes and times; empty where one is absent."""
    if not all(path.exists() for path in paths):
        return ""
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return fingerprint_of([[file.name, *size_and_time(file)] for file in files if file.is_file()])


def size_and_time(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in nanoseconds; -1 each where there is no such file."""
    try:
        found = path.stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def fingerprint_of(values: Any) -> str:
    """SHA-256 (64 hex digits) of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _digest(content: Mapping[str, Any], software: Any) -> str:
    """A fingerprint of what the file holds, as it is read again."""
    return fingerprint_of(json.loads(json.dumps([content, software])))


def _why(record: Made, made_of: Made, paths: Sequence[Path]) -> str:
    """What has changed, in words."""
    changes = _changes(record["made_of"], made_of)
    if changes:
        return f"since {'; '.join(changes)}"
    absent = [path for path in paths if not path.exists()]
    if not absent:
        return "since something else has written to it"
    return f"since {'it' if absent[0] == paths[0] else absent[0].name} was removed"


def _changes(before: Made, now: Made) -> list[str]:
    found = []
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            found += _changes(old, new)
        elif any(isinstance(value, str) and len(value) == _FINGERPRINT for value in (old, new)):
            found.append(f"{key} changed")
        else:
            found.append(f"{key} is {new}, was {old}")
    return found
