"""What came out of a reconstruction, as an object and as `reconstruction.json`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retrieval.reconstruction.work import UNREGISTERED, WorkFolder
from sfm2tuples.errors import DataError
from sfm2tuples.files.atomic import write_text
from sfm2tuples.files.text import read_json

_BLOCK = 1 << 20
FORMAT, VERSION = "sfm2tuples-reconstruction", 2


@dataclass(frozen=True)
class ModelSummary:
    """One model."""

    name: str
    """Its folder below the output."""
    images: int
    points: int
    error: float
    """Mean reprojection error in pixels."""


@dataclass(frozen=True)
class ReconstructionSummary:
    """What came out."""

    output: Path
    photos: int
    """Photos that were named, the unreadable ones among them."""
    unreadable: list[str]
    """A message each."""
    copies: int
    """Photos of the same bytes as another one; they take part in nothing."""
    pairs: int
    """Pairs of photos that were compared."""
    verified_pairs: int
    """Pairs of which one geometry explains 15 matches or more."""
    models: list[ModelSummary]
    """The largest first."""
    registered: int
    """Photos in the models, each once."""
    crumbs: int
    """Models that were left out for too few images or points."""
    crumb_images: int
    """Their images together."""
    twins: int
    """Models that were left out because another one holds all their images."""
    verified_only: int
    """Photos in no model that are verified against another photo."""
    alone: int
    """Photos in no model that are verified against none: of use as distractors."""
    photos_linked: bool
    """Whether `images` leads to the photos; else build-index needs `--images`."""
    remade: list[str]
    """What an earlier run had done and this one made again, and why."""
    seconds: dict[str, float]
    """What each step of this run took."""

    def write(self, work: WorkFolder, made_of: dict[str, Any]) -> None:
        """Write it with what it was made of; the last file of a run."""
        content = {
            **asdict(self),
            "output": str(self.output),
            "format": FORMAT,
            "version": VERSION,
            "made_of": made_of,
            "files": _digests(work),
            "database": list(_size_and_time(work.database)),
        }
        write_text(work.summary, json.dumps(content, indent=1, sort_keys=True, ensure_ascii=True))


def read_summary(work: WorkFolder, made_of: dict[str, Any]) -> ReconstructionSummary | None:
    """The summary of a finished run that was made of the same; None where there is none, or models are not whole."""
    try:
        content = read_json(work.summary)
        same = content["format"] == FORMAT and of_same_names(content["made_of"], made_of) == made_of
        if not same or content["files"] != _digests(work):
            return None
        values = {name: content[name] for name in ReconstructionSummary.__dataclass_fields__}
        models = [ModelSummary(**model) for model in values["models"]]
        return ReconstructionSummary(**{**values, "output": work.path, "models": models, "remade": [], "seconds": {}})
    except (DataError, KeyError, TypeError, AttributeError):
        return None


def made_of_before(work: WorkFolder) -> dict[str, Any]:
    """What the models of the last finished run were made of; empty where there is none."""
    try:
        found = read_json(work.summary)["made_of"]
    except (DataError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def of_same_names(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What was noted before of what counts now: an earlier version noted the folder of the photos too."""
    return {name: value for name, value in before.items() if name in now}


def database_is_untouched(work: WorkFolder) -> bool:
    """Whether the database has the bytes and the time of change that it had at the end of the last finished run."""
    try:
        return bool(read_json(work.summary)["database"] == list(_size_and_time(work.database)))
    except (DataError, KeyError, TypeError, OSError):
        return False


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What has changed of some settings, in words."""
    words = []
    for name, value in now.items():
        known = before.get(name)
        if isinstance(known, dict) and isinstance(value, dict):
            words.append(difference(known, value))
        elif known != value:
            words.append(f"{name.replace('_', ' ')} was {known}, is {value}")
    return "; ".join(filter(None, words))


def _digests(work: WorkFolder) -> dict[str, str]:
    """SHA-256 of each file of the models and of the list of photos in none, by path below the folder."""
    files = [file for folder in work.model_folders() for file in folder.iterdir()]
    files += [file for file in [work.path / UNREGISTERED] if file.is_file()]
    found = {}
    for file in sorted(files):
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
        found[file.relative_to(work.path).as_posix()] = digest.hexdigest()
    return found


def _size_and_time(path: Path) -> tuple[int, int]:
    """Bytes and time of the last change (ns)."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns
