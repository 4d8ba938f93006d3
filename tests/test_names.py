"""Names of photos: any bytes that a disk allows, shown escaped, refused only where they leave their folder."""

import logging
import os
from pathlib import Path
from types import SimpleNamespace

import click
import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from hand_made import run, write_binary_model, write_scene, write_text_model
from PIL import Image
from worlds import read_whole

from cli.main import main
from cli.output import Output
from retrieval.networks.choice import NetworkChoice
from retrieval.photos.labels import read_labels
from retrieval.photos.names import leaves_root, photos_below
from retrieval.site.reconstruct import reconstruct_photos
from sfm2tuples.compute.random_draws import item_numbers
from sfm2tuples.errors import DataError
from sfm2tuples.files.atomic import write_text
from sfm2tuples.files.checked_columns import CheckedColumns
from sfm2tuples.files.columns import write_strings
from sfm2tuples.files.descriptors import Descriptors, read_descriptors, write_descriptors
from sfm2tuples.files.rules import text_rules
from sfm2tuples.files.text import read_csv

LATIN = os.fsdecode(b"caf\xe9.jpg")
RED = "\x1b[31m"


@pytest.fixture
def latin_photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (64, 64)).save(folder / "a.jpg")
    (folder / LATIN).write_bytes((folder / "a.jpg").read_bytes())
    return folder


def test_names_that_are_not_utf8_keep_their_bytes_in_files(tmp_path: Path, latin_photos: Path) -> None:
    names = photos_below(latin_photos)
    assert names == ["a.jpg", LATIN]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        write_strings(file, "names", names)
        assert file["names/utf8"][()].tobytes() == b"a.jpgcaf\xe9.jpg"
        assert CheckedColumns(tmp_path / "x.h5", file, text_rules("names", "names")).read("names") == names
    write_descriptors(tmp_path / "d.h5", Descriptors(names, np.eye(2, dtype=np.float32)))
    assert read_descriptors(tmp_path / "d.h5").names == names
    write_text(tmp_path / "pairs.txt", " ".join(names))
    assert (tmp_path / "pairs.txt").read_bytes() == b"a.jpg caf\xe9.jpg"
    assert len(set(item_numbers(names).tolist())) == 2


def write_bundler(folder: Path, names: list[str]) -> None:
    """Cameras that see one point, and their list."""
    folder.mkdir()
    cameras = "800 0 0\n1 0 0\n0 1 0\n0 0 1\n0 0 0\n" * len(names)
    views = " ".join(f"{row} 0 1 1" for row in range(len(names)))
    (folder / "bundle.out").write_text(
        f"# Bundle file v0.3\n{len(names)} 1\n{cameras}0 0 -4\n1 2 3\n{len(names)} {views}\n"
    )
    write_text(folder / "list.txt", "".join(f"{name}\n" for name in names))


def write_nvm(folder: Path, names: list[str]) -> None:
    """Cameras that see one point."""
    folder.mkdir()
    cameras = "".join(f"{name} 800 1 0 0 0 0 0 0 0 0\n" for name in names)
    views = " ".join(f"{row} 0 1 1" for row in range(len(names)))
    write_text(folder / "m.nvm", f"NVM_V3\n{len(names)}\n{cameras}1\n0 0 4 1 2 3 {len(names)} {views}\n0\n")


@pytest.mark.parametrize("write", [write_text_model, write_binary_model, write_bundler, write_nvm])
def test_a_model_of_any_kind_may_name_photos_that_are_not_utf8(tmp_path: Path, write) -> None:
    # Last by its bytes, and first by the code points that Python keeps them as.
    names = ["\uff41.jpg", os.fsdecode(b"\xff.jpg"), LATIN]
    write(tmp_path / "model", names)
    for name in names:
        path = tmp_path / "model/images" / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    assert run("build-index", tmp_path / "model", "-o", tmp_path / "i.h5") == 0
    index = read_whole(tmp_path / "i.h5")
    assert index.images.name == sorted(names, key=os.fsencode)
    assert all(index.photo_path(row).is_file() for row in range(len(names)))


def test_photos_and_folders_that_are_not_utf8_are_indexed_mined_and_reported(tmp_path: Path, capsys) -> None:
    for scene in ("a", "b", "c", os.fsdecode(b"d\xff")):
        photos = {}
        for row in range(4):
            path = tmp_path / "photo.png"
            Image.new("RGB", (8, 8), (row, ord(scene[0]), 9)).save(path)
            photos[f"{row}{LATIN}"] = path.read_bytes()
        write_scene(tmp_path / "site", scene, photos, num_points=40)
    assert run("build-index", tmp_path / "site", "-o", tmp_path / "i.h5") == 0
    keys = read_whole(tmp_path / "i.h5").images.key
    assert os.fsencode(keys[-1]) == b"d\xff/images/3caf\xe9.jpg"
    values = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
    write_descriptors(tmp_path / "d.h5", Descriptors(keys, values / np.linalg.norm(values, axis=1, keepdims=True)))
    mine = ("mine-tuples", tmp_path / "i.h5", "-o", tmp_path / "t.h5", "--descriptors", tmp_path / "d.h5")
    assert run(*mine, "--num-negatives", 1) == 0
    assert run("report", tmp_path / "t.h5", "-o", tmp_path / "page") == 0
    capsys.readouterr()
    assert run("inspect", tmp_path / "t.h5", "--verify") == 0


def test_models_of_photos_in_a_folder_that_is_not_utf8_are_named_by_text(tmp_path: Path, monkeypatch) -> None:
    root = tmp_path / os.fsdecode(b"caf\xe9")
    root.mkdir()

    def alone(root: Path, output: Path, *given, **how) -> SimpleNamespace:
        output.mkdir(exist_ok=True)
        (output / "unregistered.csv").write_text("image,label,role\na.jpg,a,distractor\n")
        return SimpleNamespace(remade=[], models=[], registered=0, photos=1, alone=1)

    monkeypatch.setattr("retrieval.site.reconstruct.reconstruct", alone)
    for _ in range(2):
        found = reconstruct_photos([root], tmp_path / "models", NetworkChoice(), None, lambda line: None)
        assert read_csv(found.distractors, ("image", "label", "role"))[0]["image"] == "caf\ufffd/images/a.jpg"


def test_hlocs_layout_refuses_such_a_name_before_the_work(
    tmp_path: Path, latin_photos: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("retrieval.networks.choice.load_on", lambda *_: pytest.fail("the work began"))
    with pytest.raises(SystemExit) as end:
        main(["extract", str(latin_photos), "-o", str(tmp_path / "d.h5"), "--layout", "hloc"])
    assert end.value.code == 1
    error = capsys.readouterr().err
    assert "1 name cannot stand in hloc's layout, first caf\\udce9.jpg; use the columnar layout" in error


@pytest.mark.parametrize(
    "name", ["../a.jpg", "a/../../b.jpg", "..\\a.jpg", "/a.jpg", "C:\\a.jpg", "\\\\host\\a.jpg", ".."]
)
def test_names_that_leave_their_root_are_refused(tmp_path: Path, name: str) -> None:
    assert leaves_root(name)
    (tmp_path / "labels.csv").write_text(f"image,label,role\na.jpg,x,query\n{name},x,database\n")
    with pytest.raises(DataError, match="1 image lies outside of the photos' folder"):
        read_labels(tmp_path / "labels.csv")


@pytest.mark.parametrize("name", ["a.jpg", "a/../b.jpg", "..a.jpg", "a../b..jpg", "c:a.jpg", "a\\b.jpg", LATIN])
def test_names_that_stay_below_their_root_are_not(name: str) -> None:
    assert not leaves_root(name)


def test_names_are_shown_escaped_by_whatever_prints_them(capsys) -> None:
    output = Output()
    output.say(f"{RED}said")
    output.warn(f"{RED}warned {LATIN}")
    output.table([[f"{RED}cell"]], ["name"])
    output.made(f"{RED}made", "what")
    for arguments in (["inspect", f"{RED}absent"], ["inspect", f"--{RED}option"], [f"{RED}command"]):
        with pytest.raises(SystemExit):
            main(arguments)
    logging.getLogger("sfm2tuples").warning("%s", f"{RED}logged")
    shown = "".join(capsys.readouterr())
    assert "\x1b" not in shown
    assert shown.count("\\x1b[31m") >= 6


def test_a_heading_is_bold_on_a_terminal_alone_and_its_title_is_escaped() -> None:
    def shown(color: bool) -> str:
        command = click.Command("x", callback=lambda: Output().heading(f"{RED}title"))
        return CliRunner().invoke(command, color=color).output

    assert shown(color=False) == "\\x1b[31mtitle\n"
    assert shown(color=True) == "\x1b[1m\\x1b[31mtitle\x1b[0m\n"


def test_a_follower_of_a_team_says_nothing_not_even_json(capsys) -> None:
    for output in (Output(), Output(json=True)):
        output.silence()
        output.say("a line")
        output.made("run", "a network")
        output.close()
    assert capsys.readouterr().out == ""
