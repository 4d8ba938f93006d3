"""`inspect` says of each kind of file what it holds, and of a foreign one that it is foreign."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from test_report import write_example
from worlds import random_index, unit_rows, write_whole

from cli.commands.inspect import command
from retrieval.reports.inspection import inspect_file
from retrieval.search.ranks_file import Ranks, write_ranks
from retrieval.site.photo_list import PhotoList, write_photo_list
from retrieval.whitening.projection import Whitening, write_whitening
from sfm2tuples.errors import DataError
from sfm2tuples.files.container import create_file
from sfm2tuples.files.descriptors import Descriptors, write_descriptors


def printed(path: Path, *flags: str) -> str:
    result = CliRunner().invoke(command, [str(path), *flags], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def from_json(path: Path) -> dict[str, Any]:
    return json.loads(printed(path, "--json"))


@pytest.fixture
def index_file(tmp_path: Path) -> Path:
    index = random_index(np.random.default_rng(3), (4, 5, 6), (0, 0, 1), val=1)
    index.places.reason[0] = "model0 and model1 share 7 photos"
    index.images.has_photo[:2] = False
    write_whole(tmp_path / "index.h5", index, {"min_shared": 1}, ["e" * 64])
    return tmp_path / "index.h5"


def test_an_index_says_its_counts_places_and_why_models_were_joined(index_file: Path) -> None:
    index = random_index(np.random.default_rng(3), (4, 5, 6), (0, 0, 1), val=1)
    found = from_json(index_file)
    assert found["content"] == {
        "models": 3,
        "places": 2,
        "images": 15,
        "images with a photo": 13,
        "different photos": 13,
        "cameras": 1,
        "points": 75,
        "observations": len(index.observations.point),
        "pairs that share points": len(index.covisibility.neighbour) // 2,
    }
    assert found["places"] == {
        "place0": {"split": "train", "models": 2, "images": 9, "with a photo": 7},
        "place1": {"split": "val", "models": 1, "images": 6, "with a photo": 6},
    }
    why = ["model0 and model1 share 7 photos"]
    assert found["joined places"] == {"place0": {"models": ["model0", "model1"], "why": why}}
    text = printed(index_file)
    assert "  place0, 2 models\n    model0 and model1 share 7 photos\n" in text
    assert "e" * 16 in text


def test_of_many_joined_places_and_reasons_a_screenful_is_shown(tmp_path: Path) -> None:
    index = random_index(np.random.default_rng(0), (1,) * 60, tuple(np.repeat(np.arange(30), 2).tolist()))
    index.places.reason[:] = [f"reason {i}" for i in range(30)]
    index.places.reason[0] = "; ".join(["same scene folder: " + "x" * 500] + [f"reason 0.{i}" for i in range(1, 9)])
    write_whole(tmp_path / "index.h5", index, {})
    text, everything = printed(tmp_path / "index.h5"), printed(tmp_path / "index.h5", "--all")
    assert "… 10 more joined places" in text
    assert "… 4 more reasons" in text
    assert "reason 0.5" not in text
    assert max(map(len, text.splitlines())) < 200
    assert "reason 29" in everything
    assert "reason 0.8" in everything
    assert "x" * 500 in everything
    assert "…" not in everything


def test_an_index_of_many_places_fits_on_a_screen(tmp_path: Path) -> None:
    index = random_index(np.random.default_rng(0), (2,) * 60, tuple(range(60)))
    write_whole(tmp_path / "index.h5", index, {})
    assert len(printed(tmp_path / "index.h5").splitlines()) <= 50
    assert "40 more; --all shows them" in printed(tmp_path / "index.h5")
    assert len(from_json(tmp_path / "index.h5")["places"]) == 60


@pytest.mark.parametrize("packed", [False, True])
def test_tuples_say_counts_of_each_split_medians_and_packing(tmp_path: Path, packed: bool) -> None:
    found = from_json(write_example(tmp_path / "tuples.h5", tmp_path / "photos", packed))
    table = found["tuples"]
    assert table["tuples"] == {"train": 2, "val": 1}
    assert table["negatives"] == {"train": 2, "val": 1}
    assert table["negatives missing"] == {"train": 0, "val": 1}
    assert table["median overlap"]["train"] == pytest.approx(0.315)
    assert table["median angle in degrees"]["train"] == pytest.approx(12.8)
    assert table["median similarity of negatives"]["val"] == pytest.approx(0.601)
    if packed:
        assert found["content"]["packed photos"] == 6
        assert found["content"]["packed size in pixels"] == 48
        with h5py.File(tmp_path / "tuples.h5") as file:
            assert found["content"]["packed bytes"] == file["photos/jpeg"].size
    else:
        assert found["content"]["packed photos"] == "none"


@pytest.mark.parametrize(("layout", "kind"), [("columnar", "float32"), ("hloc", "float16")])
def test_descriptors_say_their_number_length_and_settings(tmp_path: Path, layout: str, kind: str) -> None:
    values = unit_rows(np.random.default_rng(0), 3, 8)
    descriptors = Descriptors(["a/1.jpg", "a/2.jpg", "b.jpg"], values, {"image_size": 512, "scales": [1.0, 0.5]})
    write_descriptors(tmp_path / "d.h5", descriptors, layout)
    found = from_json(tmp_path / "d.h5")
    assert found["content"] == {
        "descriptors": 3,
        "dimensions": 8,
        "layout": layout,
        "type": kind,
        "first": "a/1.jpg",
        "last": "b.jpg",
    }
    assert found["options"]["image_size"] == 512
    assert "1, 0.5" in printed(tmp_path / "d.h5")


def test_an_image_without_a_usable_descriptor_is_named(tmp_path: Path) -> None:
    write_descriptors(tmp_path / "d.h5", Descriptors(["a.jpg", "b.jpg"], np.eye(2, dtype=np.float32)), "hloc")
    with h5py.File(tmp_path / "d.h5", "r+") as file:
        del file["b.jpg/global_descriptor"]
        file["b.jpg/global_descriptor"] = np.zeros(2, [("x", "f4")])
    with pytest.raises(DataError, match=r"1 of 2 images have no usable global_descriptor, first b\.jpg"):
        inspect_file(tmp_path / "d.h5")


def test_a_whitening_says_its_method_dimensions_and_shrinkage(tmp_path: Path) -> None:
    write_whitening(tmp_path / "w.h5", Whitening(np.zeros(8), np.eye(8)[:4], "lw", 0.3, {"size": 362}, 77, 6))
    found = from_json(tmp_path / "w.h5")
    assert found["content"] == {
        "method": "lw",
        "dimensions of descriptors": 8,
        "dimensions kept": 4,
        "shrinkage": 0.3,
        "pairs": 77,
        "rank of the covariance": 6,
    }
    assert "size 362" in printed(tmp_path / "w.h5")


def test_a_checkpoint_says_its_network_round_and_validation(tmp_path: Path) -> None:
    from retrieval.networks.checkpoints import save_checkpoint
    from retrieval.networks.network import build_network

    network = build_network("squeezenet1_1", "gem", None)
    history = [{"round": r, "val_map": m, "val_loss": float("nan")} for r, m in ((0, 0.5), (1, 0.715))]
    options = {"loss": "graded-contrastive", "loss_option": ("grade=1",)}
    state = {"round": 1, "best_round": 1, "history": history, "parents": ["e" * 64], "options": options}
    save_checkpoint(tmp_path / "best.pt", network, **state)
    found = from_json(tmp_path / "best.pt")
    assert found["network"]["backbone"] == "squeezenet1_1"
    assert found["network"]["parameters"] == sum(p.numel() for p in network.state_dict().values())
    assert found["training"] == {"round": 1, "best_round": 1}
    assert found["options"] == {"loss": "graded-contrastive", "loss_option": ["grade=1"]}
    assert found["rounds"]["round 1"] == {"val_map": 0.715, "val_loss": None}
    assert found["file"]["fingerprint"] == network.fingerprint()
    assert found["file"]["parents"] == ["e" * 64]
    text = printed(tmp_path / "best.pt")
    assert text.index("round 1 ") < text.index("round 0 ")
    assert "0.715" in text


def test_a_checkpoint_says_what_was_chosen_between_start_and_end_and_what_is_kept_beside_it(tmp_path: Path) -> None:
    from retrieval.networks.checkpoints import save_checkpoint
    from retrieval.networks.network import build_network
    from retrieval.training.adaptation.adapted import adapt
    from retrieval.training.adaptation.parts import learners_of

    network = build_network("vit14:12-4-3-3", "gem", None)
    beside = adapt(network, learners_of("lora:2"), 0.9, 0).state()
    between = {"end": 3, "shares": (0.0, 0.5, 1.0), "val_maps": (0.6, 0.7, float("nan")), "kept": 0.5}
    options = {"train_only": "lora:2", "ema": 0.9}
    (tmp_path / "run").mkdir()
    save_checkpoint(tmp_path / "run" / "last.pt", network, adaptation=beside, options=options)
    found = from_json(tmp_path / "run")  # the folder of a run: last.pt, where there is no best.pt
    assert found["file"]["name"] == "last.pt"
    assert found["options"] == options
    learned = sum(value.numel() for value in beside["stepped"].values())
    assert found["kept beside the network"] == {
        "projections that learn by lora": 8,
        "numbers kept for them": 4 * (12 * 36 + 2 * (12 + 36) + 12 * 12 + 2 * (12 + 12)),
        "numbers that are averaged": learned,
    }
    assert "interpolated" not in found
    save_checkpoint(tmp_path / "run" / "best.pt", network, interpolated=between)
    found = from_json(tmp_path / "run")
    assert found["file"]["name"] == "best.pt"
    assert found["interpolated"] == {
        "share": 0.5,
        "between": "the network before training (0) and round 3 (1)",
        "val mAP at 0.0": 0.6,
        "val mAP at 0.5": 0.7,
        "val mAP at 1.0": None,
    }
    assert "kept beside the network" not in found
    assert "round 3 (1)" in printed(tmp_path / "run")
    for odd in ({"adaptation": {"factors": 3, "stepped": [1]}}, {"interpolated": {"kept": 1}}, {"interpolated": "x"}):
        save_checkpoint(tmp_path / "odd.pt", network, **odd)
        assert not from_json(tmp_path / "odd.pt").keys() & {"interpolated", "kept beside the network"}
    with pytest.raises(DataError):
        inspect_file(tmp_path)


def test_rounds_need_not_have_the_same_figures(tmp_path: Path) -> None:
    from retrieval.networks.checkpoints import save_checkpoint
    from retrieval.networks.network import build_network

    history = [{"round": 0, "val_map": 0.5}, {"round": 1, "gap": 0.25}]
    save_checkpoint(tmp_path / "last.pt", build_network("squeezenet1_1", "gem", None), history=history)
    assert from_json(tmp_path / "last.pt")["rounds"]["round 1"] == {"gap": 0.25, "val_map": ""}
    assert "0.25" in printed(tmp_path / "last.pt")


def test_every_kind_names_its_format_version_and_fingerprint(index_file: Path) -> None:
    file = from_json(index_file)["file"]
    with h5py.File(index_file) as opened:
        assert file["fingerprint"] == opened.attrs["fingerprint"]
    assert (file["format"], file["version"], file["parents"]) == ("sfm2tuples-index", 2, ["e" * 64])
    assert file["bytes"] == index_file.stat().st_size


def foreign(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros(3)
    return path


def of_unknown_format(path: Path) -> Path:
    with create_file(path, "sfm2tuples-dreams", 1, {}) as file:
        file["x"] = np.zeros(3)
    return path


def newer(path: Path) -> Path:
    with create_file(path, "sfm2tuples-index", 99, {}) as file:
        file["x"] = np.zeros(3)
    return path


def torn(path: Path) -> Path:
    whole = of_unknown_format(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def text(path: Path) -> Path:
    path.write_text("no file of ours")
    return path


def archive(path: Path) -> Path:
    np.savez(path.with_suffix(".npz"), x=np.zeros(2))
    return path.with_suffix(".npz")


def test_a_table_of_ours_in_json_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "photos.json"
    write_photo_list(path, PhotoList([], [], [], []))
    with pytest.raises(DataError, match="is text, sfm2tuples-site-photos; any editor shows it"):
        inspect_file(path)


@pytest.mark.parametrize("make", [foreign, of_unknown_format, newer, torn, text, archive, lambda path: path])
def test_a_foreign_torn_newer_or_absent_file_is_one_line(tmp_path: Path, make: Any) -> None:
    path = make(tmp_path / "file.h5")
    with pytest.raises(DataError) as error:
        inspect_file(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_torn_checkpoint_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(DataError, match=r"best\.pt"):
        inspect_file(tmp_path / "best.pt")


def test_ranked_lists_say_how_many_were_searched_and_found(tmp_path: Path) -> None:
    row, similarity = np.array([[1, 0], [2, -1]]), np.array([[0.9, 0.8], [0.7, -np.inf]], np.float32)
    write_ranks(tmp_path / "r.h5", Ranks(["q", "r"], ["a", "b", "c"], row, similarity, {"engine": "flat"}))
    sections = inspect_file(tmp_path / "r.h5")
    assert list(sections["content"].values()) == [2, 3, 2, 3]
    assert sections["options"]["engine"] == "flat"
    verified = np.array([[15, 0], [0, 0]])
    write_ranks(tmp_path / "v.h5", Ranks(["q", "r"], ["a", "b", "c"], row, similarity, inliers=verified))
    assert inspect_file(tmp_path / "v.h5")["content"]["verified"] == 1


def test_titles_are_plain_where_there_is_no_terminal(index_file: Path) -> None:
    lines = printed(index_file).splitlines()
    assert {"file", "content", "places", "joined places"} <= set(lines)
    assert "x1b" not in "".join(lines)


def test_an_index_of_one_site_says_how_many_images_are_on_each_side(tmp_path: Path) -> None:
    from worlds import random_index, with_inside, write_whole

    rng = np.random.default_rng(3)
    index = with_inside(rng, random_index(rng, (14, 12), (0, 0)), 4)
    write_whole(tmp_path / "i.h5", index)
    content = inspect_file(tmp_path / "i.h5")["content"]
    sides = [content[f"images, {side}"] for side in ("train", "val", "left out")]
    assert sides == np.bincount(index.inside.split, minlength=3).tolist()
    assert min(sides) > 0
