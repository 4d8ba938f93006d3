"""The proof that no result changed: what counts as the same file, and what is said of one that is not."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks.same_bytes import Table, compare, main, table_of
from benchmarks.same_bytes_road import lanes


def write_run(folder: Path, seconds: float = 1.0, value: int = 1) -> Table:
    """A folder with a file of each kind, and its table."""
    for name in ("run", "said", "inputs"):
        (folder / name).mkdir(parents=True)
    with h5py.File(folder / "tuples.h5", "w", track_order=True) as file:
        file.attrs["options"], file.attrs["software"] = "{}", f"took {seconds}"
        file["train/query"] = np.array([value, 2])
        file["train/pool"] = np.array([3])
    with h5py.File(folder / "placed.h5", "w") as file:
        roots = [str(folder).encode(), b"same"]
        file["images/root/utf8"] = np.frombuffer(b"".join(roots), np.uint8)
        file["images/root/offsets"] = np.array([0, len(roots[0]), len(roots[0]) + value * 4])
    history = [{"round": 0, "seconds": seconds, "val_map": 0.5}]
    torch.save({"weights": {"w": torch.tensor([value, 2.0])}, "history": history}, folder / "run" / "best.pt")
    (folder / "run" / "curves.csv").write_text(f"round,seconds,val_map\n0,{seconds},{value}\n")
    (folder / "result.json").write_text(json.dumps({"software": str(seconds), "figures": {"mAP": value}}))
    (folder / "page.jpg").write_bytes(bytes([value]))
    (folder / "said" / "demo.txt").write_text(
        f"made {folder}/x in {seconds} s: mAP {value}\n"
        f"  round 1  2e-05  0.2  0.3  {value}  3  {seconds}  0.8  12\n  bytes  {3_000 + int(seconds):,}\n"
    )
    return table_of(folder, {str(folder): "OUT"})


def test_two_runs_that_took_other_times_are_the_same_but_for_bytes(tmp_path: Path) -> None:
    old, new = write_run(tmp_path / "a"), write_run(tmp_path / "b", seconds=27.5)
    assert compare(old, write_run(tmp_path / "c")) == []
    assert compare(old, new) == ["result.json: only bytes differ", "tuples.h5: only bytes differ"]
    assert (
        old["placed.h5"]["bytes"]
        is old["run/best.pt"]["bytes"]
        is old["run/curves.csv"]["bytes"]
        is old["said/demo.txt"]["bytes"]
        is None
    )


def test_what_differs_is_named_down_to_the_dataset_the_tensor_and_the_column(tmp_path: Path) -> None:
    old, new = write_run(tmp_path / "a"), write_run(tmp_path / "b", value=0)
    assert compare(old, new) == [
        "page.jpg: the bytes differ",
        "placed.h5: images/root differ",
        "result.json: figures differ",
        "run/best.pt: /weights/w differ",
        "run/curves.csv: val_map differ",
        "said/demo.txt: text differ",
        "tuples.h5: train/query differ",
    ]


def test_a_file_of_one_run_only_differs(tmp_path: Path) -> None:
    table = write_run(tmp_path / "a")
    less = {name: entry for name, entry in table.items() if name != "page.jpg"}
    assert compare(table, less) == ["page.jpg: only in the old run"]
    assert compare(less, table) == ["page.jpg: only in the new run"]


@pytest.mark.parametrize(("value", "code", "last"), [(1, 0, "0 of 7 files differ"), (0, 1, "7 of 7 files differ")])
def test_compare_ends_with_1_where_anything_differs(tmp_path: Path, value: int, code: int, last: str) -> None:
    for name, content in (("old", 1), ("new", value)):
        (tmp_path / f"{name}.json").write_text(json.dumps(write_run(tmp_path / name, value=content)))
    result = CliRunner().invoke(main, ["compare", str(tmp_path / "old.json"), str(tmp_path / "new.json")])
    assert (result.exit_code, result.output.splitlines()[-1]) == (code, last)


def test_the_lanes_share_no_name_and_ask_every_command() -> None:
    from cli.main import COMMANDS

    steps = [step for lane in lanes(Path("data"), True) for step in lane]
    assert len({step.name for step in steps}) == len(steps)
    # Threads of reconstruct draw, and what tune makes, which ask is asked of, depends on the clock.
    assert {step.words[0] for step in steps} == set(COMMANDS) - {"reconstruct", "tune", "ask"}
    assert not [word for step in steps for word in step.words if "{" in word]
