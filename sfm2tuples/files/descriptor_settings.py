"""The settings that made descriptors, compared between two files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

BEFORE = {"precision": "fp32", "upright": "stored"}
"""What made the files that are older than a setting and so do not say it."""


def differing(first: dict[str, Any], second: dict[str, Any], always: Iterable[str] = ()) -> list[tuple[str, Any, Any]]:
    """Settings that both know and that differ, with both values, in order of name.

    Foreign files do not say how they were made, so a setting that only one file knows is not compared.

    Parameters
    ----------
    first, second : dict
        `Descriptors.settings` or `Whitening.settings`.
    always : iterable of str
        Settings that are compared all the same; None where they are absent.
    """
    first, second = _completed(first), _completed(second)
    compared = (set(first) & set(second)) | set(always)
    pairs = [(key, first.get(key), second.get(key)) for key in sorted(compared)]
    return [(key, one, other) for key, one, other in pairs if _plain(one) != _plain(other)]


def shortened(value: Any) -> str:
    """A setting's value for a message: of long ones, such as fingerprints, the first twenty letters."""
    text = str(value)
    return text if len(text) <= 24 else text[:20] + "…"


def _completed(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with those of `BEFORE`, where a network made the descriptors."""
    return {**BEFORE, **settings} if "network" in settings else settings


def _plain(value: Any) -> Any:
    """Lists and tuples compare alike: a file gives lists back."""
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
