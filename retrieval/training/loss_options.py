"""`--loss-option key=value`: arguments of a loss as text."""

from __future__ import annotations

from collections.abc import Iterable

from sfm2tuples.errors import UsageError

Setting = bool | int | float | str


def parse_settings(settings: Iterable[str]) -> dict[str, Setting]:
    """Text to values: whole and decimal numbers, true and false; anything else stays text.

    Raises
    ------
    UsageError
        One is not ``key=value``, or a key comes twice.

    Examples
    --------
    >>> parse_settings(["temperature=0.1", "smooth_loss=true", "k=3"])
    {'temperature': 0.1, 'smooth_loss': True, 'k': 3}
    """
    values: dict[str, Setting] = {}
    for setting in settings:
        key, sign, text = setting.partition("=")
        if not (sign and key and text):
            raise UsageError(f"loss_option {setting!r} is not key=value")
        if key in values:
            raise UsageError(f"loss_option {key} is given twice")
        values[key] = _value(text)
    return values


def _value(text: str) -> Setting:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
