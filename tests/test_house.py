"""The house rules of the style guide, kept by walking the three packages with `ast`."""

from __future__ import annotations

import ast
import collections
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("sfm2tuples", "retrieval", "cli")
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
ORDER = """
cli.main cli.__main__
cli.commands
cli.options
cli.output
cli.interruption

retrieval.site
retrieval.reports
retrieval.evaluation retrieval.training retrieval.tuple_files
retrieval.localisation
retrieval.search retrieval.reconstruction
retrieval.descriptors retrieval.exporting
retrieval.networks retrieval.local_features
retrieval.protocols retrieval.whitening
retrieval.photos retrieval.metrics

sfm2tuples.interop
sfm2tuples.mining sfm2tuples.ingest
sfm2tuples.relations
sfm2tuples.places sfm2tuples.covisibility
sfm2tuples.index
sfm2tuples.readers sfm2tuples.world sfm2tuples.similarity sfm2tuples.parts
sfm2tuples.files
sfm2tuples.compute
sfm2tuples.errors sfm2tuples.version
"""
"""The rooms, top to bottom: a room imports only rooms of lower lines. docs/architecture.md shows the same."""
LEVEL_OF = {room: level for level, line in enumerate(ORDER.strip().splitlines()) for room in line.split()}
UPWARDS = {("cli.__main__", "cli.main"), ("cli.commands.demo", "cli.main")}
"""The entry point, and the demo, which runs the other commands."""
DOORS = {"sfm2tuples", "retrieval", "cli"}
"""The three packages' own `__init__`."""
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@functools.cache
def walk(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def public_definitions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Public functions and classes of a module, and the public methods of public classes."""
    for node in tree.body:
        if isinstance(node, (*FUNCTION, ast.ClassDef)) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (n for n in node.body if isinstance(n, FUNCTION) and not n.name.startswith("_"))


def imported(tree: ast.Module) -> Iterator[str]:
    """Modules that a module names in its imports, those inside functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path): path for path in MODULES}


@functools.cache
def room_of(name: str) -> str | None:
    """The room that a module is in; None for what is in no room of ours."""
    return next((name[: len(room)] for room in LEVEL_OF if name == room or name.startswith(room + ".")), None)


@pytest.fixture(params=MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def module(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_a_module_has_at_most_350_lines(module: Path) -> None:
    assert len(module.read_text(encoding="utf-8").splitlines()) <= 350


def test_a_function_has_at_most_60_lines(module: Path) -> None:
    lengths = {n.name: n.end_lineno - n.lineno + 1 for n in ast.walk(walk(module)) if isinstance(n, FUNCTION)}
    assert {name: length for name, length in lengths.items() if length > 60} == {}


def test_every_public_name_is_documented(module: Path) -> None:
    tree = walk(module)
    assert ast.get_docstring(tree), "the module has no docstring"
    assert [node.name for node in public_definitions(tree) if not ast.get_docstring(node)] == []


def test_a_public_name_is_defined_once() -> None:
    """But for what a table of modules asks of each of them, such as `read` of a reader."""
    asked = {"command", "read", "build", "sections", "make_benchmark", "models_of"}
    homes = collections.Counter(
        node.name
        for path in MODULES
        for node in walk(path).body
        if isinstance(node, (*FUNCTION, ast.ClassDef)) and not node.name.startswith("_")
    )
    assert {name for name, count in homes.items() if count > 1} - asked == set()


def test_only_commands_print(module: Path) -> None:
    calls = [n for n in ast.walk(walk(module)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    assert [n.lineno for n in calls if n.func.id == "print"] == []


def test_no_bare_except_and_no_assert(module: Path) -> None:
    nodes = list(ast.walk(walk(module)))
    assert [n.lineno for n in nodes if isinstance(n, ast.ExceptHandler) and n.type is None] == []
    assert [n.lineno for n in nodes if isinstance(n, ast.Assert)] == []


def test_no_eval_and_no_exec(module: Path) -> None:
    calls = [n for n in ast.walk(walk(module)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    assert [n.lineno for n in calls if n.func.id in ("eval", "exec")] == []


def test_imports_go_down(module: Path) -> None:
    name = name_of(module)
    if name in DOORS:
        return
    room = room_of(name)
    assert room, "this module is in none of the rooms"
    ours = {other for other in map(room_of, imported(walk(module))) if other and other != room}
    upwards = {other for other in ours if LEVEL_OF[other] <= LEVEL_OF[room] and (name, other) not in UPWARDS}
    assert upwards == set()


def test_no_module_imports_itself_by_way_of_others() -> None:
    """A circle is a way from a module back to it, over imports inside functions too; a package's door is no module."""
    arrows = nx.DiGraph()
    for name, path in NAMES.items():
        arrows.add_edges_from((name, other) for other in imported(walk(path)) if other in NAMES and name not in DOORS)
    arrows.remove_edges_from(UPWARDS)
    assert [sorted(circle) for circle in nx.strongly_connected_components(arrows) if len(circle) > 1] == []


@pytest.mark.parametrize("sign", [p for p in MODULES if p.name == "__init__.py"], ids=name_of)
def test_a_door_sign_names_what_is_there(sign: Path) -> None:
    text = ast.get_docstring(walk(sign)) or ""
    assert len(text) > 40, "it says too little"
    there = {path.stem for path in sign.parent.glob("*.py")} | {path.parent.name for path in sign.parent.glob("*/*.py")}
    elsewhere = {name.split(".")[-1] for name in (*LEVEL_OF, *NAMES) if name.count(".") <= 1 or "commands" in name}
    assert set(re.findall(r"`([a-z_]+)/?`", text)) - there - elsewhere == set()


def test_a_room_has_at_most_22_modules() -> None:
    rooms = collections.Counter(path.parent for path in MODULES)
    assert {str(room): count for room, count in rooms.items() if count > 22} == {}


def test_geometry_needs_no_torch() -> None:
    users = [m.name for m in MODULES if "sfm2tuples" in m.parts[-3:-1] and "torch" in set(imported(walk(m)))]
    assert users == []


def test_libraries_set_no_log_handler(module: Path) -> None:
    if module.relative_to(ROOT).parts[0] == "cli":
        pytest.skip("commands set the log level")
    text = module.read_text(encoding="utf-8")
    assert "basicConfig" not in text
    assert "addHandler" not in text
