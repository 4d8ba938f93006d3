"""A new command, and a new section of a page, is one module and one line in a table: shown in a copy of the house."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_report import write_example

ROOT = Path(__file__).resolve().parents[1]
COMMAND = '''"""`sfm2tuples count`: how many words there are."""

import click

from cli.output import Output, output_options


@click.command("count", epilog="Example: sfm2tuples count a b")
@click.argument("words", nargs=-1)
@output_options
def command(words: tuple[str, ...], output: Output) -> None:
    """Count WORDS."""
    output.say(f"{len(words)} words")
'''
SECTION = '''"""How large the photos are."""

from retrieval.reports.drawings import Series, histogram
from retrieval.reports.page import Section


def sections(page):
    """A histogram of their widths."""
    widths = Series("query", page.tuples.images.size[:, 0])
    yield Section("sizes", "Sizes", {"note": "Of <all> photos.", "body": histogram([widths], "pixels")})
'''


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """The three packages, copied."""
    for package in ("sfm2tuples", "retrieval", "cli"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def add_line(file: Path, before: str, line: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(before) == 1
    file.write_text(text.replace(before, line + before), encoding="utf-8")


def said(house: Path, *words: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(house)}
    command = [sys.executable, "-m", "cli", *words]
    done = subprocess.run(command, cwd=house, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_command_is_one_module_and_one_line(house: Path) -> None:
    (house / "cli/commands/count.py").write_text(COMMAND)
    add_line(house / "cli/main.py", '    "report": ', '    "count": "count words",\n')
    assert "count words" in said(house, "--help")
    assert "Count WORDS." in said(house, "count", "--help")
    assert said(house, "count", "a", "b") == "2 words\n"


def test_a_section_of_a_page_is_one_module_and_one_line(house: Path) -> None:
    (house / "retrieval/reports/sections/sizes.py").write_text(SECTION)
    add_line(house / "retrieval/reports/report.py", '        "evidence",\n', '        "sizes",\n')
    said(house, "report", str(write_example(house / "tuples.h5", house / "photos")), "-o", "page")
    page = (house / "page/index.html").read_text(encoding="utf-8")
    assert '<a href="#contents">Contents</a><a href="#sizes">Sizes</a><a href="#evidence">' in page
    section = page[page.index('<section id="sizes">') : page.index('<section id="evidence">')]
    assert "<h2>Sizes</h2>" in section
    assert "Of &lt;all&gt; photos." in section
    assert '<rect class="bar query"' in section
