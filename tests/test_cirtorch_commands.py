"""`export` takes networks to cirtorch and whitenings from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hand_made import run

from retrieval.networks.checkpoints import save_checkpoint
from retrieval.networks.cirtorch_checkpoints import read_cirtorch_checkpoint, write_cirtorch_checkpoint
from retrieval.networks.network import build_network
from retrieval.whitening.projection import Whitening, read_whitening, write_whitening


def whitening(scale: float = 1.0, **settings) -> Whitening:
    return Whitening(np.zeros(512), scale * np.eye(512), "lw", 0.0, settings)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "best.pt", build_network("squeezenet1_1", "gem", seed=1))
    return tmp_path / "best.pt"


def test_a_checkpoint_becomes_a_network_of_cirtorch(checkpoint, tmp_path, capsys):
    assert run("export", "--format", "cirtorch", checkpoint, "-o", tmp_path / "net.pth") == 0
    found = read_cirtorch_checkpoint(tmp_path / "net.pth")
    assert found.network.fingerprint() == build_network("squeezenet1_1", "gem", seed=1).fingerprint()
    assert found.whitenings == {}
    assert "squeezenet1_1 with gem" in capsys.readouterr().out
    assert run("export", "--format", "cirtorch", checkpoint, "-o", tmp_path / "net.pth") == 2


def test_a_whitening_file_goes_into_its_meta_and_comes_back(checkpoint, tmp_path, capsys):
    write_whitening(tmp_path / "lw.h5", whitening(2.0, scales=[1.0, 0.5], network="0" * 64))
    words = ("export", "--format", "cirtorch", checkpoint, "-o", tmp_path / "net.pth")
    assert run(*words, "--whitening", tmp_path / "lw.h5") == 0
    said = capsys.readouterr()
    assert "another network" in said.err
    assert "learned at several scales and serves a single scale too" in said.err
    assert f"--network-path {tmp_path / 'net.pth'} --whitening retrieval-SfM-120k" in said.out
    words = ("export", "--format", "whitening", tmp_path / "net.pth", "-o", tmp_path / "back.h5")
    assert run(*words, "--scales", "ms") == 0
    assert np.array_equal(read_whitening(tmp_path / "back.h5").projection, 2.0 * np.eye(512))


def test_cirtorch_s_test_loads_and_applies_the_whitenings_as_it_stands(checkpoint, tmp_path, capsys):
    """Its own steps: torch.load, the name that its flag takes, ss or ms by the number of scales, NumPy's product."""
    files = {"ss": whitening(3.0), "ms": whitening(2.0, scales=[1.0, 0.5])}
    for name, learned in files.items():
        write_whitening(tmp_path / f"{name}.h5", learned)
    words = ("export", "--format", "cirtorch", checkpoint, "-o", tmp_path / "net.pth")
    assert run(*words, "--whitening", tmp_path / "ss.h5", "--whitening", tmp_path / "ms.h5") == 0
    assert "serves" not in capsys.readouterr().err
    vectors = np.random.default_rng(0).random((512, 3)).astype(np.float32)
    for weights_only in (True, False):
        state = torch.load(tmp_path / "net.pth", weights_only=weights_only)
        for kind, learned in files.items():
            lw = state["meta"]["Lw"]["retrieval-SfM-120k"][kind]
            found = np.dot(lw["P"][: lw["P"].shape[0], :], vectors - lw["m"])
            assert isinstance(found, np.ndarray)
            np.testing.assert_allclose(found, learned.projection @ (vectors - learned.mean[:, None]), rtol=1e-6)
    assert run(*words, "--force", "--whitening", tmp_path / "ss.h5", "--whitening", tmp_path / "ss.h5") == 2
    assert run(*words, "--force", "--whitening", tmp_path / "ss.h5", "--learned-on", "mine") == 0
    assert "not mine" in capsys.readouterr().err
    assert run(*words, "--force", "--learned-on", "mine") == 2


def test_what_cirtorch_cannot_do_is_refused_or_said(tmp_path, capsys):
    network = build_network("squeezenet1_1", "gem", seed=1)
    network.upright = "exif"
    save_checkpoint(tmp_path / "upright.pt", network)
    words = ("export", "--format", "cirtorch", "-o", tmp_path / "net.pth")
    assert run(*words, tmp_path / "upright.pt") == 0
    assert "was trained on photos turned by their EXIF" in capsys.readouterr().err
    (tmp_path / "net.pth").unlink()
    write_whitening(tmp_path / "lw.h5", Whitening(np.zeros(40), np.eye(40), "lw", 0.0, {"scales": [1.0]}))
    assert run(*words, tmp_path / "upright.pt", "--whitening", tmp_path / "lw.h5") == 2
    assert "the whitening is for descriptors of 40 dimensions, these have 512" in capsys.readouterr().err
    save_checkpoint(tmp_path / "warped.pt", build_network("squeezenet1_1", "gem", seed=1, photo_size=(64, 96)))
    assert run(*words, tmp_path / "warped.pt") == 2
    assert "this network warps them to 64x96 pixels" in capsys.readouterr().err
    assert not (tmp_path / "net.pth").exists()


def test_one_of_several_whitenings_must_be_named(tmp_path, capsys):
    network = build_network("squeezenet1_1", "mac")
    lw = {"30k": {"ss": whitening(1.0)}, "120k": {"ss": whitening(3.0)}}
    write_cirtorch_checkpoint(tmp_path / "net.pth", network, lw)
    words = ("export", "--format", "whitening", tmp_path / "net.pth", "-o", tmp_path / "w.h5")
    assert run(*words) == 2
    assert "120k, 30k; choose one by --learned-on" in capsys.readouterr().err
    assert run(*words, "--learned-on", "120k") == 0
    assert read_whitening(tmp_path / "w.h5").projection[0, 0] == 3.0


def test_a_network_without_whitening_is_one_line(checkpoint, tmp_path, capsys):
    write_cirtorch_checkpoint(tmp_path / "net.pth", build_network("squeezenet1_1", "mac"))
    assert run("export", "--format", "whitening", tmp_path / "net.pth", "-o", tmp_path / "w.h5") == 1
    assert "has no whitening" in capsys.readouterr().err
    assert run("export", "--format", "whitening", checkpoint, "-o", tmp_path / "w.h5") == 1
    assert "no checkpoint of cirtorch" in capsys.readouterr().err


@pytest.mark.parametrize("flag", [("--image-size", "362"), ("--scales", "ms")])
def test_flags_of_other_exports_are_refused(checkpoint, tmp_path, flag):
    assert run("export", "--format", "cirtorch", checkpoint, "-o", tmp_path / "net.pth", *flag) == 2


def test_inspect_shows_a_network_of_cirtorch(tmp_path, capsys):
    network = build_network("squeezenet1_1", "gem")
    write_cirtorch_checkpoint(tmp_path / "net.pth", network, {"120k": {"ss": whitening()}}, epoch=9)
    assert run("inspect", tmp_path / "net.pth") == 0
    said = capsys.readouterr().out
    assert "squeezenet1_1" in said
    assert "120k ss" in said


def test_extract_describes_with_a_network_of_cirtorch(tmp_path):
    from PIL import Image

    write_cirtorch_checkpoint(tmp_path / "net.pth", build_network("squeezenet1_1", "gem", seed=1))
    (tmp_path / "photos").mkdir()
    pixels = (torch.rand(60, 80, 3, generator=torch.Generator().manual_seed(0)) * 255).byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "photos" / "a.jpg")
    words = ("extract", "--network", tmp_path / "net.pth", tmp_path / "photos", "-o", tmp_path / "d.h5")
    assert run(*words) == 0
    assert (tmp_path / "d.h5").is_file()
