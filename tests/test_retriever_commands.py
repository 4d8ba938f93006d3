"""Every family of well-known retrievers goes the whole road: extract, mine, train, whiten, tune, ask and export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hand_made import run
from PIL import Image
from their_names import NAMES, small_network, their_state

from retrieval.networks.choice import NetworkChoice, load_network
from retrieval.networks.numpy_forward import read_layers
from retrieval.site import choices
from retrieval.site.questions import Site
from retrieval.site.request import TuneRequest
from retrieval.site.tuning import tune_site
from sfm2tuples.files.descriptors import read_descriptors
from sfm2tuples.world.synthetic import write_world

pytestmark = pytest.mark.timeout(600)
SIZE = "56x56"
FAMILIES = sorted(set(NAMES) - {"mixvpr", "cosplace"})
"""Those of transformers of 64 channels; the two of ResNets go one road each, since they take their time."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four places, their photos and models, and their index."""
    folder = tmp_path_factory.mktemp("retrievers")
    write_world(folder / "world", places=4, photos_per_place=6, size=(96, 72), jobs=1)
    assert run("build-index", folder / "world", "-o", folder / "index.h5", "--quiet") == 0
    return folder


def file_of(family: str, folder: Path) -> Path:
    """A file as the family's makers save theirs."""
    torch.save(their_state(small_network(family), family), folder / f"{family}.pth")
    return folder / f"{family}.pth"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_goes_the_road(family: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    network = ("--network", file_of(family, tmp_path), "--photo-size", SIZE, "--device", "cpu", "--quiet")
    mining = ("--num-negatives", 2, "--pack-images", 64, "--image-size", 64)
    assert run("mine-tuples", world / "index.h5", "-o", "tuples.h5", *network, *mining) == 0
    training = ("--rounds", 1, "--queries-per-round", 3, "--image-size", 64)
    assert run("train", "tuples.h5", "-o", "run", *network, *training) == 0
    trained = load_network("run/last.pt")
    assert trained.description.photo_size == (56, 56)
    before, after = small_network(family).state_dict(), trained.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before if name.startswith("backbone."))
    assert family == "dinov2" or any(not torch.equal(before[name], after[name]) for name in before if "pool." in name)
    of_run = ("--network", "run/last.pt", "--device", "cpu", "--quiet", "--image-size", 64)
    assert run("extract", world / "index.h5", "-o", "d.h5", *of_run) == 0
    assert run("whiten", "tuples.h5", "--descriptors", "d.h5", "-o", "w.h5", "--shrinkage", 0.1, "--quiet") == 0
    found = read_descriptors(tmp_path / "d.h5")
    assert found.values.shape == (len(found.names), trained.dimension)
    np.testing.assert_allclose(np.linalg.norm(found.values, axis=1), 1, atol=1e-4)
    words = ("export", "--format", "safetensors", "run/last.pt", "--whitening", "w.h5", "-o", "exported", "--quiet")
    assert run(*words) == 0
    assert json.loads((tmp_path / "exported/config.json").read_text())["photo_size"] == [56, 56]


def test_a_transformer_is_written_as_onnx_where_it_has_a_photo_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    import onnxruntime

    file, target = file_of("salad", tmp_path), tmp_path / "n.onnx"
    assert run("export", "--format", "onnx", file, "-o", target) == 2
    said = capsys.readouterr().err
    assert "--photo-size, such as 322x322" in said
    assert not target.exists()
    assert run("export", "--format", "onnx", file, "-o", target, "--photo-size", SIZE, "--quiet") == 0
    network = load_network(file)
    network.set_photo_size((56, 56))
    session = onnxruntime.InferenceSession(target.read_bytes(), providers=["CPUExecutionProvider"])
    for count, height, width in ((2, 56, 56), (1, 120, 150), (3, 31, 47)):
        x = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(height))
        with torch.inference_mode():
            wanted = network(x).numpy()
        np.testing.assert_allclose(session.run(None, {"photos": x.numpy()})[0], wanted, rtol=0, atol=1e-4)
    assert run("export", "--format", "cirtorch", file, "-o", tmp_path / "n.pth", "--photo-size", SIZE) == 2
    assert "--photo-size means nothing for --format cirtorch" in capsys.readouterr().err


@pytest.mark.parametrize("family", sorted(NAMES))
def test_a_family_is_tuned_and_asked(family: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "FROM_RANDOM", {"learning_rate": 1e-4, "rounds": 1})
    monkeypatch.setattr(choices, "PER_PLACE", 2)
    size = None if family == "cosplace" else SIZE
    choice = NetworkChoice(file_of(family, tmp_path), photo_size=size)
    request = TuneRequest((world / "world",), tmp_path / "site", choice, device="cpu", quick=True)
    tuned = tune_site(request, lambda line: None)
    assert load_network(tuned.files.network).description.photo_size == (() if size is None else (56, 56))
    words = ("export", "--format", "safetensors", tuned.files.network, "-o", tmp_path / "exported", "--quiet")
    assert run(*words) == 0
    made = json.loads((tmp_path / "exported" / "config.json").read_text())
    assert made["pooling"] == small_network(family).description.pooling
    # NumPy has not their layers: a question is described by torch.
    assert not read_layers(tuned.files.layers).runs
    photo = next((world / "world").rglob("*.jpg"))
    with Image.open(photo) as picture:
        picture.crop((2, 2, 94, 70)).save(tmp_path / "new.png")
    site = Site.open(tmp_path / "site")
    answers = site.ask(tmp_path / "new.png", 3)
    wanted = site.describe([tmp_path / "new.png"]) @ site.descriptors.values.T
    assert [answer.similarity for answer in answers] == pytest.approx(sorted(wanted[0], reverse=True)[:3])
