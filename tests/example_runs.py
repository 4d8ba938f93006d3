"""What tests of the examples share: data to point them at, commands that are noted in place of being run, and calls."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LANDMARKS = ("a", "b", "c", "d", "e", "f")


class Commands:
    """In place of the commands: notes them, writes an empty output, and answers evaluate with a running number."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.fail_on = ""

    def run(self, *arguments: object) -> dict:
        import own_models

        words = [str(argument) for argument in arguments]
        self.calls.append(words)
        if self.fail_on and self.fail_on in words:
            raise own_models.CommandFailed(words, 1)
        if words[0] == "evaluate":
            return {"mean_over_groups": len(self.calls) / 1000}
        target = Path(words[words.index("-o") + 1])
        if words[0] == "train":
            target.mkdir(parents=True)
        else:
            target.write_text("")
        return {}

    def of(self, command: str) -> list[list[str]]:
        return [words for words in self.calls if words[0] == command]


def landmark_data(folder: Path) -> Path:
    """A folder that has the landmarks' models and labels in name only."""
    for name in LANDMARKS:
        (folder / "collection_models" / name).mkdir(parents=True)
    (folder / "collection").mkdir()
    (folder / "collection" / "labels.csv").write_text("image,label,role\nx.jpg,a,query\n")
    return folder


def load_example(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An example as a module."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module(name)


def note_commands(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Have an example's commands noted."""
    noted = Commands()
    monkeypatch.setattr(example.own_models, "run", noted.run)
    return noted


def call(example: ModuleType, data: Path, *flags: str) -> str:
    """What an example says that succeeds."""
    result = CliRunner().invoke(example.main, [str(data), str(data.parent / "work"), *flags])
    assert result.exit_code == 0, result.output
    return result.output
