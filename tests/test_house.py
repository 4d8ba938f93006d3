"""The house rules of the style guide, kept by walking the three packages with `ast`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("sfm2tuples", "retrieval", "cli")
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
MAY_IMPORT = {"sfm2tuples": {"sfm2tuples"}, "retrieval": {"sfm2tuples", "retrieval"}, "cli": set(PACKAGES)}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


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
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


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


def test_imports_go_one_way(module: Path) -> None:
    package = module.relative_to(ROOT).parts[0]
    ours = {name.split(".")[0] for name in imported(walk(module))} & set(PACKAGES)
    assert ours <= MAY_IMPORT[package]


def test_geometry_needs_no_torch() -> None:
    users = [m.name for m in MODULES if "sfm2tuples" in m.parts[-3:-1] and "torch" in set(imported(walk(m)))]
    assert users == []


def test_libraries_set_no_log_handler(module: Path) -> None:
    if module.relative_to(ROOT).parts[0] == "cli":
        pytest.skip("commands set the log level")
    text = module.read_text(encoding="utf-8")
    assert "basicConfig" not in text
    assert "addHandler" not in text
