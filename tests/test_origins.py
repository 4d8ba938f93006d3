"""Files that do not belong together are refused, and a file that changed since it was written is found out."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hand_made import run
from test_inspection import index_file  # noqa: F401
from worlds import random_index, write_whole

from retrieval.networks.checkpoints import load_checkpoint
from retrieval.photos.origins import origins_of, origins_of_index, refuse_others
from retrieval.reports.verification import verify_file
from sfm2tuples.errors import DataError, FileFormatError, WeightsError
from sfm2tuples.files.container import read_header
from sfm2tuples.files.descriptors import Descriptors, read_descriptors, write_descriptors
from sfm2tuples.index.opened import open_index
from sfm2tuples.world.synthetic import write_world

NETWORK = ["--backbone", "squeezenet1_1", "--image-size", 48, "--quiet"]
MINING = ["--query-share", 1, "--num-negatives", 1, "--min-overlap", 0.05, "--quiet"]


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two worlds whose photos have the same names: indexes, descriptors, tuples, and one index built otherwise."""
    folder = tmp_path_factory.mktemp("sites")
    for seed, site in enumerate("ab"):
        (folder / site).mkdir()
        write_world(folder / site / "world", places=3, photos_per_place=6, size=(96, 72), seed=seed, jobs=1)
        assert run("build-index", folder / site / "world", "-o", folder / f"{site}.h5", "--quiet") == 0
        assert run("extract", folder / f"{site}.h5", "-o", folder / f"{site}_d.h5", *NETWORK) == 0
        descriptors = ["--descriptors", folder / f"{site}_d.h5"]
        assert run("mine-tuples", folder / f"{site}.h5", "-o", folder / f"{site}_t.h5", *descriptors, *MINING) == 0
    again = ["--val-share", 0.6, "--seed", 5, "--quiet"]
    assert run("build-index", folder / "a" / "world", "-o", folder / "a2.h5", *again) == 0
    return folder


def commands(source: str, descriptors: str, out: Path) -> dict[str, list[object]]:
    """Every command that combines an index, or its tuples, with descriptors."""
    tuples = source.replace(".h5", "_t.h5")
    given = ["--descriptors", descriptors, "--quiet"]
    return {
        "mine-tuples": [source, "-o", out / "t.h5", "--descriptors", descriptors, *MINING],
        "whiten": [source, "-o", out / "w.h5", "--method", "pca", *given],
        "whiten tuples": [tuples, "-o", out / "wt.h5", "--method", "pca", *given],
        "evaluate": ["--index", source, "--split", "train", *given],
        "evaluate --queries": [
            *["--index", source, "--split", "train", "--descriptors", source.replace(".h5", "_d.h5")],
            *["--queries", descriptors],
        ],
        "evaluate places": ["--protocol", "place-recognition", "--data", source, "--split", "train", *given],
        "report": [source, "-o", out / "page", *given],
    }


@pytest.mark.parametrize("name", list(commands("a.h5", "a_d.h5", Path())))
def test_descriptors_of_another_index_are_refused_and_its_own_taken(
    sites: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(sites)
    command = name.split()[0]
    assert run(command, *commands("a.h5", "a_d.h5", tmp_path)[name]) == 0
    capsys.readouterr()
    assert run(command, *commands("a.h5", "b_d.h5", tmp_path)[name], *_again(command)) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: b_d.h5: was made of another index (")
    assert re.search(r"than (\S*/)?a(_t)?\.h5 \(.*; run extract on \S+ or on the folder of its photos$", said)
    assert said.count("\n") == 1


def _again(command: str) -> list[str]:
    return [] if command == "evaluate" else ["--force"]


@pytest.mark.parametrize("made_of", ["a_t.h5", "a2.h5", "a", "list.txt"])
def test_descriptors_of_the_same_photos_are_taken_whatever_named_them(
    sites: Path, tmp_path: Path, made_of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tuples, a build with other splits, the folder, a list."""
    monkeypatch.chdir(sites)
    names = read_descriptors("a_d.h5").names
    (sites / "list.txt").write_text("\n".join(names) + "\n")
    prefix = "" if (sites / "a" / names[0]).is_file() else "world/"
    source = sites / "a" / prefix if made_of in ("a", "list.txt") else sites / made_of
    more = ["--images", source] if made_of == "list.txt" else []
    source = sites / made_of if made_of == "list.txt" else source
    assert run("extract", source, "-o", tmp_path / "d.h5", *more, *NETWORK) == 0
    assert run("whiten", "a_t.h5", "-o", tmp_path / "w.h5", "--method", "pca", "--descriptors", tmp_path / "d.h5") == 0


def test_a_build_with_other_splits_is_of_the_same_photos(sites: Path) -> None:
    assert read_header(sites / "a.h5").fingerprint != read_header(sites / "a2.h5").fingerprint
    assert origins_of(sites / "a.h5")[1] == origins_of(sites / "a2.h5")[1]
    assert origins_of(sites / "a_t.h5") == origins_of(sites / "a.h5") == origins_of(sites / "a_d.h5")
    assert not set(origins_of(sites / "a.h5")) & set(origins_of(sites / "b.h5"))


def test_images_are_told_apart_by_names_and_rotations_in_any_order(tmp_path: Path) -> None:
    index = random_index(np.random.default_rng(3), (4, 5), (0, 1))

    def fingerprint_of(turn: bool = False, rolled: int = 0, name: str = "") -> str:
        images = index.images
        key = [name, *images.key[1:]] if name else images.key
        changed = replace(images, key=key, quaternion=np.roll(images.quaternion, rolled, 1))
        if turn:
            columns = {c: getattr(changed, c)[::-1] for c in ("key", "quaternion")}
            changed = replace(changed, **columns)
        write_whole(tmp_path / "i.h5", replace(index, images=changed))
        with open_index(tmp_path / "i.h5") as opened:
            return origins_of_index(opened)[1]

    whole = fingerprint_of()
    assert fingerprint_of(turn=True) == whole
    assert len({whole, fingerprint_of(rolled=1), fingerprint_of(name="other.jpg")}) == 3


def test_files_that_do_not_say_whose_photos_they_are_about_are_taken(tmp_path: Path) -> None:
    index = random_index(np.random.default_rng(3), (4, 5), (0, 1))
    write_whole(tmp_path / "i.h5", index)
    values = np.ones((1, 1), np.float32)
    refuse_others(Descriptors(["x"], values), tmp_path / "i.h5", "")
    refuse_others(Descriptors(["x"], values, origins=("other",)), tmp_path, "")
    refuse_others(Descriptors(["x"], values, origins=("other",)), tmp_path / "i.h5", "other")
    with pytest.raises(DataError, match="another index"):
        refuse_others(Descriptors(["x"], values, path="d.h5", origins=("other",)), tmp_path / "i.h5", "")


# --- inspect --verify -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.h5", "a_d.h5", "a_t.h5"])
def test_the_fingerprint_of_a_file_as_it_was_written_is_right(
    sites: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("inspect", "--verify", sites / name) == 0
    fingerprint = read_header(sites / name).fingerprint
    assert capsys.readouterr().out == f"{sites / name}: fingerprint right ({fingerprint[:16]})\n"
    assert run("inspect", "--verify", "--json", sites / name) == 0
    assert json.loads(capsys.readouterr().out) == {"fingerprint": fingerprint, "verified": True}


def test_a_single_changed_value_is_found(
    index_file: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    verify_file(index_file)
    with h5py.File(index_file, "r+") as file:
        file["points/xyz"][3, 1] += 1e-3
    assert run("inspect", "--verify", index_file) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {index_file}: was changed or damaged after it was written")
    assert said.count("\n") == 1


def test_where_photos_lie_is_not_verified(index_file: Path) -> None:  # noqa: F811
    with h5py.File(index_file, "r+") as file:
        if len(file["models/photo_root/utf8"]):
            file["models/photo_root/utf8"][0] = ord("#")
        else:
            del file["models/photo_root"]
    verify_file(index_file)


def test_descriptors_in_hlocs_layout_are_verified_too(tmp_path: Path) -> None:
    write_descriptors(tmp_path / "d.h5", Descriptors(["a/b.jpg"], np.eye(1, 4, dtype=np.float32)), "hloc")
    verify_file(tmp_path / "d.h5")
    with h5py.File(tmp_path / "d.h5", "r+") as file:
        file["a/b.jpg/global_descriptor"][0] = 0.5
    with pytest.raises(FileFormatError, match="changed or damaged"):
        verify_file(tmp_path / "d.h5")


def test_a_checkpoint_is_verified_by_its_weights(sites: Path, tmp_path: Path) -> None:
    options = ["--rounds", 1, "--queries-per-round", 4, "--backbone", "squeezenet1_1", "--image-size", 48, "--quiet"]
    assert run("train", sites / "a_t.h5", "-o", tmp_path / "run", *options) == 0
    path = tmp_path / "run" / "last.pt"
    assert verify_file(path) == load_checkpoint(path)["fingerprint"]
    content = torch.load(path, weights_only=True)
    name = next(iter(content["weights"]))
    content["weights"][name] = content["weights"][name] + 1
    torch.save(content, path)
    with pytest.raises(WeightsError, match="not those that its fingerprint says"):
        verify_file(path)
