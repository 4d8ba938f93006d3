"""The commands as a user meets them: help, flags, exit codes, one-line errors, and the whole road on a small world."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest
from hand_made import run

from cli.main import COMMANDS, group
from retrieval.descriptors.extraction import ExtractionOptions
from retrieval.networks.by_name import BACKBONES, POOLINGS
from retrieval.networks.cirtorch_checkpoints import SCALES
from retrieval.networks.devices import PRECISIONS
from retrieval.reconstruction.options import ReconstructionOptions
from retrieval.search.options import SearchOptions
from retrieval.training.options import TrainingOptions
from retrieval.whitening.options import WhiteningOptions
from sfm2tuples.ingest.options import IngestOptions
from sfm2tuples.interop.graph_export import NAMES
from sfm2tuples.mining.options import MiningOptions
from sfm2tuples.world.synthetic import write_world

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = {
    "reconstruct": (ReconstructionOptions, set()),
    "build-index": (IngestOptions, set()),
    "mine-tuples": (MiningOptions, set()),
    "train": (TrainingOptions, set()),
    "whiten": (WhiteningOptions, set()),
    "extract": (ExtractionOptions, set()),
    "search": (SearchOptions, set()),
}


def command_of(name: str) -> click.Command:
    return importlib.import_module(f"cli.commands.{name.replace('-', '_')}").command


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name, "--help") == 0
    text = capsys.readouterr().out
    assert f"Example: sfm2tuples {name}" in text
    undocumented = [p.name for p in command_of(name).params if isinstance(p, click.Option) and not p.help]
    assert set(undocumented) <= {"method", "layout"}


HEAVY = ("torch", "numpy", "h5py", "PIL", "scipy", "numba", "faiss", "jinja2")


def test_help_loads_nothing_that_takes_long() -> None:
    code = f"""
import importlib, sys
import cli.main
for name in {list(COMMANDS)!r}:
    importlib.import_module("cli.commands." + name.replace("-", "_"))
    heavy = [module for module in {HEAVY!r} if module in sys.modules]
    if heavy:
        sys.exit(name + " loads " + ", ".join(heavy))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_field_is_a_flag_of_the_same_name(name: str) -> None:
    table, without_flag = OPTIONS[name]
    flags = {p.name for p in command_of(name).params}
    assert {field.name for field in fields(table)} - flags == without_flag


def test_the_flags_offer_every_backbone_and_pooling() -> None:
    flags = {p.name: p for p in command_of("extract").params}
    assert list(flags["pooling"].type.choices) == list(POOLINGS)
    for name in [name for names in BACKBONES.values() for name in names]:
        assert name in flags["backbone"].help
        assert flags["backbone"].type.convert(name, None, None) == name
    assert flags["precision"].type.choices == PRECISIONS


def test_the_flags_of_export_offer_every_kind_of_name_and_of_scales() -> None:
    flags = {p.name: p for p in command_of("export").params}
    assert tuple(flags["names"].type.choices) == NAMES
    assert tuple(flags["scales"].type.choices) == tuple(SCALES)


def words_of_huge_numbers() -> Iterator[tuple[str, ...]]:
    """Each flag that takes a whole number, in a call of its command."""
    for name in COMMANDS:
        params = command_of(name).params
        needed = [p.opts[-1] for p in params if isinstance(p, click.Option) and p.required]
        values = {"--format": "pairs"}
        call = [name, *("x.h5" for p in params if isinstance(p, click.Argument))]
        call += [word for flag in needed for word in (flag, values.get(flag, "out"))]
        if name == "evaluate":
            call += ["--index", "x.h5"]
        for flag in (p for p in params if isinstance(p.type, (click.IntRange, click.types.IntParamType))):
            if not getattr(flag, "is_flag", False):
                yield (*call, flag.opts[-1], str(10**20))


@pytest.mark.parametrize("words", list(words_of_huge_numbers()), ids=lambda words: f"{words[0]} {words[-2]}")
def test_a_number_beyond_all_is_refused(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert words[-2] in error or words[-1] in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["evaluate"], 2, "say one thing to measure on"),
        (["evaluate", "--index", "a.h5", "--labels", "b.csv"], 2, "say one thing to measure on"),
        (["train", "absent.h5", "-o", "run", "--backbone", "squeezenet1_1"], 1, "absent.h5: no such file"),
        (["build-index", "/absent/models", "-o", "index.h5"], 1, "/absent/models: does not exist"),
        (["inspect", "absent.h5"], 1, "absent.h5: no such file"),
        (["whiten", "absent.h5", "-o", "w.h5", "--shrinkage", "much"], 2, "neither auto nor a number"),
        (["extract", "absent", "-o", "d.h5", "--dim", "3"], 2, "--whitening"),
        (["no-such-command"], 2, "No such command"),
    ],
)
def test_a_wrong_request_is_one_line_and_an_exit_code(
    words: list[str],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words) == code
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_a_command_does_not_write_to_its_argument_even_by_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tuples.h5"
    file.write_text("kept")
    assert run("whiten", file, "-o", file, "--force") == 2
    assert capsys.readouterr().err == f"error: {file}: is read by this command; give the output another name\n"
    assert file.read_text() == "kept"


def test_the_wheel_holds_the_three_packages_and_the_templates(tmp_path: Path) -> None:
    source = tmp_path / "source"
    skip = shutil.ignore_patterns(".git", ".venv", "build", "demo", "*.egg-info", "__pycache__", ".*_cache", "tests")
    shutil.copytree(ROOT, source, ignore=skip)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "-w", str(tmp_path), str(source)], check=True, capture_output=True)
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    wanted = [p for package in ("sfm2tuples", "retrieval", "cli") for p in (ROOT / package).rglob("*.py")]
    wanted += (ROOT / "retrieval" / "reports" / "templates").iterdir()
    assert {p.relative_to(ROOT).as_posix() for p in wanted} - names == set()
    assert not [name for name in names if name.startswith("tests/")]


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole road on a small world, by commands alone."""
    folder = tmp_path_factory.mktemp("road")
    write_world(folder / "world", places=5, photos_per_place=6, size=(160, 120), jobs=1)
    network = ["--backbone", "squeezenet1_1"]
    size = ["--image-size", 64]
    index, tuples = folder / "index.h5", folder / "tuples.h5"
    assert run("build-index", folder / "world", "-o", index, "--val-share", 0.4) == 0
    mining = ["--query-share", 1, "--num-negatives", 2, "--min-overlap", 0.05, "--pack-images", 96]
    assert run("mine-tuples", index, "-o", tuples, *network, *size, *mining) == 0
    assert run("train", tuples, "-o", folder / "run", *network, *size, "--rounds", 1, "--learning-rate", 1e-3) == 0
    trained = ["--network", folder / "run" / "last.pt"]
    assert run("extract", index, "-o", folder / "d.h5", *trained, *size) == 0
    whitening = ["--descriptors", folder / "d.h5", "--dim", 16, "--min-overlap", 0.05]
    assert run("whiten", tuples, "-o", folder / "w.h5", *whitening) == 0
    measured = ["--descriptors", folder / "d.h5", "--min-shared", 5]
    assert run("evaluate", "--index", index, *measured, "--whitening", folder / "w.h5", "-o", folder / "e.json") == 0
    assert run("report", tuples, "-o", folder / "page") == 0
    return folder


def test_the_road_ends_with_a_map_on_unseen_places(road: Path) -> None:
    result = json.loads((road / "e.json").read_text())
    assert result["format"] == "sfm2tuples-evaluation"
    assert 0 < result["mean_over_queries"] <= 1
    assert result["settings"]["dim"] == 16
    assert len(result["per_query"]) == result["queries"] + result["left_out_without_positives"]


def test_the_demo_replaces_no_folder_but_its_own(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("cli.commands.demo._photograph", lambda *rest: sys.exit(9))
    (tmp_path / "mine" / "world").mkdir(parents=True)
    (tmp_path / "mine" / "world" / "photo.jpg").write_bytes(b"dear to me")
    assert run("demo", "-o", tmp_path / "mine", "--force") == 2
    assert "is no folder that demo made" in capsys.readouterr().err
    assert (tmp_path / "mine" / "world" / "photo.jpg").exists()
    assert run("demo", "-o", tmp_path / "demo") == 9
    (tmp_path / "demo" / "index.h5").write_bytes(b"")
    assert run("demo", "-o", tmp_path / "demo") == 2
    assert run("demo", "-o", tmp_path / "demo", "--force") == 9
    assert not (tmp_path / "demo" / "index.h5").exists()


def test_the_road_leaves_no_temporary_file(road: Path) -> None:
    assert [path.name for path in road.rglob("*.part*")] == []


@pytest.mark.parametrize("name", ["index.h5", "tuples.h5", "d.h5", "w.h5", "run/best.pt"])
def test_inspect_knows_every_file_of_the_road(road: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", road / name) == 0
    assert "sfm2tuples" in capsys.readouterr().out


def test_an_output_that_exists_is_not_replaced(road: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (road / "index.h5").read_bytes()
    assert run("build-index", road / "world", "-o", road / "index.h5") == 2
    assert "--force" in capsys.readouterr().err
    assert (road / "index.h5").read_bytes() == before


def test_the_same_seed_gives_the_same_bytes(road: Path, tmp_path: Path) -> None:
    assert run("build-index", road / "world", "-o", tmp_path / "index.h5", "--val-share", 0.4, "--jobs", 2) == 0
    assert (tmp_path / "index.h5").read_bytes() == (road / "index.h5").read_bytes()


def test_an_unreadable_and_a_missing_photo_are_counted_and_left_out(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(road / "world", tmp_path / "world")
    photos = sorted((tmp_path / "world").rglob("*.jpg"))
    photos[0].write_bytes(b"no photo")
    photos[1].unlink()
    assert run("build-index", tmp_path / "world", "-o", tmp_path / "index.h5") == 0
    assert "1 of " in capsys.readouterr().err
    words = ["--backbone", "squeezenet1_1", "--image-size", 64]
    assert run("extract", tmp_path / "index.h5", "-o", tmp_path / "d.h5", *words) == 0
    error = capsys.readouterr().err
    assert "1 photo could not be read" in error
    assert photos[0].name in error
    assert run("extract", tmp_path / "index.h5", "-o", tmp_path / "e.h5", "--strict", *words) == 1


def test_the_page_of_commands_is_their_help() -> None:
    from docs.command_pages import page

    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_is_the_same_whoever_asked_first(name: str) -> None:
    alone = click.Context(command_of(name), info_name=name)
    below = click.Context(command_of(name), click.Context(group, **group.context_settings), info_name=name)
    options = [[p.opts for p in command_of(name).get_params(context)] for context in (alone, below)]
    assert options[0] == options[1]
    assert options[0][-1] == ["-h", "--help"]
