"""Values of options as people read them."""

from __future__ import annotations

from typing import Any


def value_text(value: Any) -> str:
    """A value as a page shows it.

    Examples
    --------
    >>> value_text(0.9048374180359595), value_text(True), value_text(()), value_text(None), value_text([0.5, 1.0])
    ('0.904837', 'yes', 'none', 'none', '0.5, 1')
    >>> value_text({"image_size": 362, "weights": None})
    'image size 362, weights none'
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{str(k).replace('_', ' ')} {value_text(v)}" for k, v in sorted(value.items())) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(value_text, value)) or "none"
    return "none" if value is None or value == "" else str(value)
