"""The page of a training run: its curves and rounds, with validation and without."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.commands.report import command
from retrieval.networks.checkpoints import save_checkpoint
from retrieval.networks.description import NetworkDescription
from retrieval.networks.network import Network
from retrieval.reports.curves import Curve, curves
from retrieval.reports.options import ReportOptions
from retrieval.reports.report import write_report
from retrieval.training.curves import RoundFigures
from sfm2tuples.errors import FileFormatError, WeightsError


def figures(number: int, val_map: float, gap: float = math.nan) -> dict[str, Any]:
    return RoundFigures(
        round=number,
        learning_rate=1e-5,
        train_loss=math.nan if number == 0 else 0.5 / number,
        val_loss=0.4,
        val_map=val_map,
        gem_p=3.0,
        seconds=60.0,
        positive_similarity=0.7,
        negative_similarity=0.3,
        queries=0 if number == 0 else 1250,
        gap=gap,
    ).as_dict()


def write_run(folder: Path, history: list[dict[str, Any]], best_round: int, **asked: Any) -> Path:
    folder.mkdir()
    network = Network(NetworkDescription("squeezenet1_1", "gem"))
    save_checkpoint(
        folder / "last.pt",
        network,
        history=history,
        best_round=best_round,
        options={"rounds": 3, "margin": 0.7, **asked},
    )
    return folder


def page_of(source: Path, target: Path) -> str:
    result = CliRunner().invoke(command, [str(source), "-o", str(target)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return (target / "index.html").read_text()


def test_a_run_says_which_round_is_used_and_what_it_gained(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [figures(0, 0.6012), figures(1, 0.7234), figures(2, 0.7)], 1)
    page = page_of(run, tmp_path / "page")
    assert "Round 1 is the best" in page
    for shown in ("60.1 %", "72.3 %", "72.34", "2,500", "<b>best.pt</b>", "margin"):
        assert shown in page
    assert re.search(r'<tr class="used"><td>1</td>', page)
    assert "Gap of the kept-out tuples" not in page


def test_a_blind_run_vouches_for_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [figures(0, math.nan, 0.2), figures(1, math.nan, 0.3)], 1)
    page = page_of(run, tmp_path / "page")
    assert "nothing here says whether the network got better" in page
    assert "best.pt" not in page
    assert "Gap of the kept-out tuples" in page
    assert "mAP of the validation places" not in page
    assert "nan" not in page.replace("dominant", "")


def test_training_that_did_not_help_is_said(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", [figures(0, 0.6), figures(1, 0.5)], 0), tmp_path / "page")
    assert "No round was better than the network before training" in page


def test_validation_that_tells_no_rounds_apart_is_said(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", [figures(0, 1.0), figures(1, 1.0)], 0), tmp_path / "page")
    assert "cannot tell the rounds apart" in page
    assert "No round was better" not in page


def test_a_drawing_names_the_lines_it_has_and_a_short_run_its_seconds(tmp_path: Path) -> None:
    blind = [figures(number, math.nan, 0.2) | {"val_loss": math.nan, "seconds": 11.0} for number in (0, 1)]
    page = page_of(write_run(tmp_path / "run", blind, 1), tmp_path / "page")
    loss = page[page.index("<h3>Loss</h3>") :].split("</figure>")[0]
    assert "training" in loss
    assert "validation" not in loss
    assert "<b>22 s</b><span>of work" in page
    assert "<b>1</b><span>round</span>" in page


@pytest.mark.parametrize(("sampling", "drawn"), [("graph:8x4", "place"), ("photos:8x4", "photo"), ("tuples", "tuple")])
def test_a_run_counts_what_its_batches_are_made_of(tmp_path: Path, sampling: str, drawn: str) -> None:
    run = write_run(tmp_path / "run", [figures(0, 0.6), figures(1, 0.7)], 1, sampling=sampling)
    page = page_of(run, tmp_path / "page")
    assert f"<b>1,250</b><span>{drawn}s drawn</span>" in page
    assert f"<th>{drawn}s</th>" in page
    assert ("tuple" in page[page.index("<h3>Loss</h3>") :].split("</figure>")[0]) == (drawn == "tuple")


def test_a_flat_line_of_all_per_cent_has_no_tick_above_a_hundred() -> None:
    svg = curves([0, 1], [Curve("validation", [100.0, 100.0], "val")], "per cent")
    ticks = [float(tick) for tick in re.findall(r'text-anchor="end">([\d.]+)<', svg)]
    assert max(ticks) == 100
    assert min(ticks) < 100
    heights = [float(height) for height in re.findall(r'cy="([\d.]+)"', svg)]
    assert heights == [16.0, 16.0]


def test_a_checkpoint_without_rounds_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    save_checkpoint(run / "last.pt", Network(NetworkDescription("squeezenet1_1", "gem")))
    with pytest.raises(FileFormatError, match="holds no rounds of training"):
        write_report(run, tmp_path / "page", ReportOptions())


def test_curves_leave_out_what_is_not_known_and_mark_the_round(tmp_path: Path) -> None:
    svg = curves([0, 1, 2], [Curve("loss", [math.nan, 2.0, 1.0], "train")], "loss", marked=1)
    assert svg.count("<circle") == 2
    marked = re.search(r'class="median val" x1="([\d.]+)"', svg)
    dots = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg)
    assert marked
    assert marked.group(1) == dots[0][0]
    assert float(dots[0][1]) < float(dots[1][1])  # 2 stands above 1
    assert "no values" in curves([0], [Curve("loss", [math.nan], "train")], "loss")


@pytest.mark.parametrize(
    ("history", "best", "named"),
    [
        ([figures(0, 0.6)], 3, "best_round"),
        ([figures(0, 0.6)], None, "best_round"),
        ([figures(0, 0.6), figures(2, 0.7)], 0, "history"),
        ([{"round": 0}], 0, "history"),
        ([figures(0, 0.6) | {"seconds": "long"}], 0, "history"),
    ],
)
def test_a_run_whose_rounds_cannot_be_understood_is_one_line(
    tmp_path: Path, history: list[dict[str, Any]], best: Any, named: str
) -> None:
    run = write_run(tmp_path / "run", history, best)
    with pytest.raises(WeightsError, match=rf"last\.pt: its {named}"):
        write_report(run, tmp_path / "page", ReportOptions())
