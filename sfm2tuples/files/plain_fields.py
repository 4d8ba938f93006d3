"""Plain values that a file holds for the fields of a dataclass: is each of the kind that its annotation names?"""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints


def odd_field(values: Mapping[str, object], table: type) -> str | None:
    """The first name of `values` whose value is of another kind than the field of that name; None where all fit.

    A whole number serves as a decimal one, a list as a tuple.

    Examples
    --------
    >>> from sfm2tuples.mining.options import MiningOptions
    >>> odd_field({"margin": 1, "positives": 3}, MiningOptions)
    'positives'
    """
    kinds = get_type_hints(table)
    return next((name for name, value in values.items() if name in kinds and not _is_of(value, kinds[name])), None)


def _is_of(value: object, kind: Any) -> bool:
    if isinstance(kind, UnionType):
        return any(_is_of(value, one) for one in get_args(kind))
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if not isinstance(value, (list, tuple)):
            return False
        if kinds[-1] is not Ellipsis and len(kinds) != len(value):
            return False
        return all(_is_of(item, kinds[0]) for item in value)
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_is_of(item, get_args(kind)[0]) for item in value)
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, kind)
