"""Print the tables of docs/formats.md from the dataclasses that define the files: python docs/schema_tables.py"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
from collections.abc import Iterator

from sfm2tuples.index import schema
from sfm2tuples.mining import barred, tuple_file

INDEX = {
    "/models": schema.Models,
    "/cameras": schema.Cameras,
    "/images": schema.Images,
    "/observations": schema.Observations,
    "/points": schema.Points,
    "/covisibility": schema.CovisibilityGraph,
    "/places": schema.Places,
}
INSIDE = {f"/{name}": table for name, table in schema.OPTIONAL_TABLES.items()}
TUPLES = {
    "/images": tuple_file.ImageTable,
    "/places": tuple_file.PlaceTable,
    "/train": tuple_file.TupleSet,
    "/train/candidates": tuple_file.Candidates,
}
BARRED = {"/barred": barred.Barred}


def fields_of(table: type) -> Iterator[tuple[str, str, str, str]]:
    """Name, type, shape and meaning of each column of a dataclass, from its source."""
    body = ast.parse(inspect.getsource(table)).body[0].body  # type: ignore[attr-defined]
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            said = " ".join(text.value.value.split()).rstrip(".")  # type: ignore[attr-defined]
            found = re.match(r"\(([^)]*)\) (\w+)[,;:]?\s*(.*)", said)
            shape, kind, meaning = found.groups() if found else ("rows", "string", said)
            yield field.target.id, kind, shape.rstrip(","), meaning  # type: ignore[union-attr]


def table(groups: dict[str, type]) -> str:
    """One table in Markdown for some groups of a file; the types are those that a file has, not those that are read."""
    lines = ["| dataset | type | shape | what |", "|---|---|---|---|"]
    for group, columns in groups.items():
        for name, kind, shape, what in fields_of(columns):
            rule = schema.RULES.get(f"{group}/{name}".strip("/"))
            stored = rule.stored[0] if rule is not None and rule.stored else kind
            lines.append(f"| `{group}/{name}` | {stored} | {shape} | {what} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(INDEX), table(INSIDE), table(TUPLES), table(BARRED), sep="\n\n")
