"""The notebook of the quickstart runs from its first cell to its last, as a reader would run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

BUDGET = 'budget="20s"'
"""The time that the notebook gives; here it gets little more than the 10 s that a forecast sets aside."""
NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "quickstart.ipynb"


@pytest.mark.timeout(300)
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert sum(BUDGET in "".join(cell["source"]) for cell in cells) == 1
    names: dict[str, Any] = {}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], "a notebook is kept without what a run of it printed"
            source = "".join(cell["source"]).replace(BUDGET, 'budget="12s"')
            exec(compile(source, f"{NOTEBOOK.name}, cell {number}", "exec"), names)
    said = capsys.readouterr().out
    assert "kept: " in said
    assert (tmp_path / "my_site" / "page" / "index.html").is_file()
    assert {answer.place for answer in names["answers"]} != set()
    assert names["near"].shared[0] > 0
    assert len(names["descriptors"]) == 2
