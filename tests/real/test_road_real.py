"""A short version of examples/own_models.py: the orderings of the method on landmarks never trained on."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.real
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "own_models.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("own_models", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_whitening_and_fine_tuning_raise_map_on_unseen_landmarks(
    example: ModuleType, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One fold, one round, a third of the distractors: off the shelf < L_w < tuned + L_w, and off the shelf < tuned."""
    write_all = example.write_fold_labels

    def write_fewer(data: Path, held_out: list[str], target: Path) -> Path:
        head, *rows = write_all(data, held_out, target).read_text().splitlines(keepends=True)
        distractors = [row for row in rows if row.rstrip().endswith("distractor")]
        target.write_text(head + "".join(row for row in rows if row not in set(distractors) - set(distractors[::3])))
        return target

    monkeypatch.setattr(example, "write_fold_labels", write_fewer)
    off, off_lw, tuned, tuned_lw = example.run_fold(shared, tmp_path, 1, "gem", 0, 512, 0.0, ["--rounds", "1"])
    assert off_lw > off + 3
    assert tuned > off
    assert tuned_lw > off_lw
