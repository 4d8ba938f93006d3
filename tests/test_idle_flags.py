"""A flag that nothing would come of is refused in one line, whichever command has it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import click
import numpy as np
import pytest
from hand_made import run
from worlds import unit_rows

from cli.options import distillation
from cli.options.idle_flags import NAMES_BELOW, Use
from sfm2tuples.files.container import create_file
from sfm2tuples.files.descriptors import Descriptors, write_descriptors
from sfm2tuples.mining import tuple_file

PLAIN = {
    "evaluate": ("--protocol", "holidays", "--data", ".", "--descriptors", "d.h5", "--queries", "d.h5"),
    "search": ("--queries", "d.h5", "--database", "d.h5", "-o", "r.h5"),
    "report": ("t.h5", "-o", "page"),
    "whiten": ("tuples.h5", "-o", "w.h5", "--descriptors", "d.h5", "--method", "pca"),
    "extract": (".", "-o", "x.h5", "--backbone", "squeezenet1_1"),
    "extract-features": (".", "-o", "f.h5"),
    "mine-tuples": ("i.h5", "-o", "t2.h5", "--positives", "m2", "--negatives", "random"),
    "import-tuples": ("x.pkl", "-o", "t2.h5", "--negatives", "random"),
    "train": ("t.h5", "-o", "run"),
    "ask": ("site", "--add", "new.jpg"),
    "build-bow": ("f.h5", "-o", "b.h5", "--vocabulary", "b2.h5"),
}
"""A call of each command in which its flags of `USES` have nothing to do."""
USES = {
    "extract-features": (NAMES_BELOW,),
    "train": tuple(use for use in distillation.USES if use.flags != ("min_shared",)),
}


def module(command: str):
    return importlib.import_module(f"cli.commands.{command.replace('-', '_')}")


def parameter(command: str, name: str) -> click.Parameter:
    return next(p for p in module(command).command.params if p.name == name)


def typed(option: click.Parameter) -> list[str]:
    """The flag as a user types it, with a value that it takes."""
    if getattr(option, "is_flag", False):
        return [option.opts[-1]]
    if isinstance(option.type, click.Choice):
        return [option.opts[-1], list(option.type.choices)[-1]]
    return [
        option.opts[-1],
        {
            "backbone": "squeezenet1_1",
            "max_scale_change": "9",
            "min_overlap": "0.5",
            "power": "0.5",
            "ratio": "0.5",
            "scales": "1",
        }.get(option.name, "9"),
    ]


def uses(command: str) -> tuple[Use, ...]:
    return USES.get(command) or module(command).USES


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_descriptors(tmp_path / "d.h5", Descriptors(["a", "b"], unit_rows(np.random.default_rng(0), 2, 4)))
    (tmp_path / "e.json").write_text(json.dumps({"format": "sfm2tuples-evaluation"}))
    (tmp_path / "l.csv").write_text("image,label,role\na.jpg,x,query\n")
    monkeypatch.chdir(tmp_path)
    with create_file(tmp_path / "t.h5", tuple_file.FORMAT, tuple_file.VERSION, {}) as file:
        file["x"] = np.zeros(1)
    return tmp_path


IDLE = [
    (command, name)
    for command in PLAIN
    for use in uses(command)
    for name in use.flags
    if command != "report" or name not in ("num_tuples", "num_pairs", "photo_size", "index")
]


@pytest.mark.parametrize(("command", "name"), sorted(set(IDLE)), ids=str)
def test_a_flag_that_would_do_nothing_is_refused(folder: Path, capsys, command: str, name: str) -> None:
    flag = typed(parameter(command, name))
    assert run(command, *PLAIN[command], *flag) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {flag[0]} is for ")
    assert error.endswith("; leave it out\n")
    assert error.count("\n") == 1


LABELS = ("evaluate", "--labels", "l.csv")
BAG = (*LABELS, "--teacher", "bow.h5")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*LABELS, "--descriptors", "d.h5", "--min-shared", "20"), "--min-shared is for --index"),
        ((*LABELS, "--descriptors", "d.h5", "--split", "val"), "--split is for --index or --protocol place-rec"),
        ((*LABELS, "--descriptors", "d.h5", "--weights", "w.npz"), "--descriptors are there already"),
        (("evaluate", "--labels", ".", "--descriptors", "d.h5", "--images", "."), "--images is for --labels CSV"),
        (("train", ".", "-o", "run", "--teacher", "n.pt", "--min-shared", "9"), "--min-shared is for a tuple file"),
        ((*BAG, "--hamming", "24", "--power", "0.5"), "--power is for --teacher without --hamming"),
        ((*BAG, "--hamming-spread", "9"), "--hamming-spread is for --hamming"),
        ((*BAG, "--ratio", "0.7"), "--ratio is for --rerank geometry, or --teacher with --num-verified"),
        ((*BAG, "--num-verified", "9", "--expand-inliers", "9"), "--expand-inliers is for --rerank geometry with --qe"),
        ((*BAG, "--image-size", "64"), "--image-size is for --network or --backbone"),
        (
            (*LABELS, "--descriptors", "d.h5", "--queries", "d.h5", "--crop", "image"),
            "--crop is for queries that are described or verified here, not for those of --queries alone",
        ),
        (("mine-tuples", "i.h5", "-o", "x.h5", "--margin", "0.2"), "--margin is for --negatives semi-hard"),
        (("mine-tuples", "i.h5", "-o", "x.h5", "--positives", "m1", "--min-overlap", "0"), "for --positives m3"),
        (
            ("mine-tuples", "i.h5", "-o", "x.h5", "--descriptors", "d.h5", "--image-size", "64"),
            "--image-size is for --network or --backbone, not for --descriptors",
        ),
        (("mine-tuples", "i.h5", "-o", "x.h5", "--negatives", "random", "--precision", "bf16"), "for --positives m1"),
        (("import-tuples", "x.pkl", "-o", "x.h5", "--image-size", "64"), "--image-size is for --network"),
        (("report", "t.h5", "-o", "page", "--num-queries", "3"), "--num-queries is for an evaluation"),
        (("report", "e.json", "-o", "page", "--num-tuples", "3"), "--num-tuples is for a tuple file"),
        (("report", "e.json", "-o", "page", "--index", "i.h5"), "--index is for a tuple file"),
    ],
    ids=lambda value: value[-2] if isinstance(value, tuple) else "",
)
def test_what_gives_a_flag_something_to_do_is_named(folder: Path, capsys, words: tuple[str, ...], said: str) -> None:
    assert run(*words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        (*LABELS, "--descriptors", "d.h5", "--images", "."),
        (*BAG, "--num-verified", "9", "--ratio", "0.7", "--jobs", "2"),
        (*BAG, "--num-verified", "9", "--num-expanded", "2", "--expand-inliers", "9"),
        (*BAG, "--hamming", "0", "--hamming-spread", "9"),
        (*LABELS, "--descriptors", "d.h5", "--queries", "d.h5", "--rerank", "R", "--crop", "image"),
        (*LABELS, "--descriptors", "d.h5", "--crop", "image"),
        ("mine-tuples", "i.h5", "-o", "x.h5", "--negatives", "semi-hard", "--margin", "0.2", "--image-size", "64"),
        ("mine-tuples", "i.h5", "-o", "x.h5", "--descriptors", "d.h5", "--max-negative-similarity", "0.9"),
        ("mine-tuples", "i.h5", "-o", "x.h5", "--descriptors", "d.h5", "--upright", "exif"),
        ("import-tuples", "x.pkl", "-o", "x.h5", "--backbone", "squeezenet1_1", "--image-size", "64"),
        ("search", "--queries", "d.h5", "--database", "d.h5", "--pairs", "p.txt", "--num-matched", "1"),
        ("extract", "l.csv", "-o", "x.h5", "--images", ".", "--scales", "1,0.5", "--exponent", "2"),
    ],
    ids=lambda words: words[-2],
)
def test_a_flag_that_does_something_is_not_refused(folder: Path, capsys, words: tuple[str, ...]) -> None:
    run(*words)
    assert " is for " not in capsys.readouterr().err
