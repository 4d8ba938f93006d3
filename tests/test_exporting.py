"""An exported network describes photos in other programs as it does here: the examples of docs/export.md are run."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hand_made import run
from PIL import Image
from test_writing import files_of_at_most
from timm_package import import_timm

from retrieval.exporting import onnx_files
from retrieval.exporting.self_contained import description_of, network_to_export
from retrieval.networks.checkpoints import save_checkpoint
from retrieval.networks.choice import load_network
from retrieval.networks.network import Network, build_network
from retrieval.whitening.projection import Whitening, write_whitening
from sfm2tuples.errors import UsageError, WeightsError

PAGE = Path(__file__).resolve().parents[1] / "docs" / "export.md"
SIZES = [(1, 96, 128), (1, 33, 47), (3, 61, 62), (2, 1, 1)]


def example(title: str) -> str:
    """The Python of a section of the page."""
    return re.findall(rf"## {title}.*?```python\n(.*?)```", PAGE.read_text(), re.S)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of Lite0 without a whitening, a whitening of 40 dimensions, and a photo."""
    folder = tmp_path_factory.mktemp("export")
    draw = np.random.default_rng(0)
    save_checkpoint(folder / "best.pt", build_network("efficientnet_lite0", "gem", seed=1))
    projection = draw.normal(0, 1, (40, 1280))
    write_whitening(folder / "w.h5", Whitening(draw.random(1280) / 40, projection, "lw", 0.1))
    Image.fromarray(draw.integers(0, 256, (97, 130, 3)).astype(np.uint8)).resize((118, 85)).save(folder / "photo.jpg")
    return folder


@pytest.fixture(scope="module")
def network(folder: Path) -> Network:
    return network_to_export(folder / "best.pt", folder / "w.h5")


def of_photo(network: Network, folder: Path) -> np.ndarray:
    pixels = np.asarray(Image.open(folder / "photo.jpg").convert("RGB")) / np.float32(255)
    with torch.inference_mode():
        return network(torch.from_numpy(pixels).permute(2, 0, 1)[None]).numpy()


def test_safetensors_alone_load_the_weights_and_the_page_s_example_describes_alike(
    folder: Path, network: Network, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import_timm()
    words = ("export", "--format", "safetensors", folder / "best.pt", "--whitening", folder / "w.h5")
    assert run(*words, "-o", folder / "network") == 0
    assert "load_file" in capsys.readouterr().out.splitlines()[-1]
    assert json.loads((folder / "network" / "config.json").read_text()) == json.loads(
        json.dumps(description_of(network))
    )
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    exec(compile(example("safetensors"), str(PAGE), "exec"), names)
    np.testing.assert_allclose(names["descriptor"].numpy(), of_photo(network, folder), atol=1e-5)
    assert run(*words, "-o", folder / "network") == 2
    before = (folder / "network" / "model.safetensors").read_bytes()
    assert run(*words, "-o", folder / "network", "--force") == 0
    assert (folder / "network" / "model.safetensors").read_bytes() == before


def test_an_exported_folder_is_read_as_the_checkpoint_that_it_came_from(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = build_network("squeezenet1_1", "gem", seed=1, photo_size=(64, 96))
    made.upright = "exif"
    save_checkpoint(tmp_path / "best.pt", made)
    assert run("export", "--format", "safetensors", tmp_path / "best.pt", "-o", tmp_path / "net") == 0
    for path in (tmp_path / "net", tmp_path / "net" / "model.safetensors"):
        again = load_network(path)
        assert (again.fingerprint(), again.description, again.upright) == (
            *(made.fingerprint(), made.description),
            "exif",
        )
    capsys.readouterr()
    assert run("inspect", tmp_path / "net", "--json") == 0
    assert json.loads(capsys.readouterr().out)["network"]["backbone"] == "squeezenet1_1"
    config = json.loads((tmp_path / "net" / "config.json").read_text())
    for wrong, words in (
        ({"version": 2}, "its version is newer than this program reads (1); upgrade"),
        ({"fingerprint": "0" * 64}, "not those that its fingerprint says"),
        ({"pooling": "salad"}, "builds no network"),
        ({"backbone": 3}, "a network's description has 3 for backbone"),
    ):
        (tmp_path / "net" / "config.json").write_text(json.dumps(config | wrong))
        with pytest.raises(WeightsError) as caught:
            load_network(tmp_path / "net")
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    (tmp_path / "net" / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"is no checkpoint of sfm2tuples or cirtorch; an export's config.json"):
        load_network(tmp_path / "net")


@pytest.mark.timeout(600)
def test_onnxruntime_describes_photos_of_any_size_alike(
    folder: Path, network: Network, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in (*onnx_files.PACKAGES, "onnxruntime"):
        pytest.importorskip(name)
    import onnxruntime

    words = ("export", "--format", "onnx", folder / "best.pt", "--whitening", folder / "w.h5")
    assert run(*words, "-o", folder / "network.onnx") == 0
    said = capfd.readouterr()
    assert "made " in said.out
    assert said.err == ""
    content = (folder / "network.onnx").read_bytes()
    assert str(Path(__file__).resolve().parents[1]).encode() not in content
    assert b"site-packages" not in content
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    [photos], [descriptors] = session.get_inputs(), session.get_outputs()
    assert photos.shape == ["batch", 3, "height", "width"]
    assert descriptors.shape[1] == 40
    for count, height, width in SIZES:
        x = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(height))
        with torch.inference_mode():
            wanted = network(x).numpy()
        np.testing.assert_allclose(session.run(None, {"photos": x.numpy()})[0], wanted, rtol=0, atol=1e-4)
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    exec(compile(example("ONNX"), str(PAGE), "exec"), names)
    np.testing.assert_allclose(names["descriptor"], of_photo(network, folder), rtol=0, atol=1e-4)
    assert names["config"]["fingerprint"] == network.fingerprint()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("pooling", ["mac", "crow"])
def test_each_pooling_of_the_whole_map_is_written_for_photos_of_any_size(pooling: str, tmp_path: Path) -> None:
    for name in (*onnx_files.PACKAGES, "onnxruntime"):
        pytest.importorskip(name)
    import onnxruntime

    network = build_network("alexnet", pooling, seed=1).eval()
    onnx_files.write_onnx(tmp_path / "n.onnx", network)
    session = onnxruntime.InferenceSession(tmp_path / "n.onnx", providers=["CPUExecutionProvider"])
    for count, height, width in [(1, 64, 96), (2, 97, 71), (1, 230, 300)]:
        x = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(height))
        with torch.inference_mode():
            wanted = network(x).numpy()
        np.testing.assert_allclose(session.run(None, {"photos": x.numpy()})[0], wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("pooling", "regional"), [("rmac", False), ("mac", True), ("salad", False)])
def test_a_pooling_that_follows_the_size_is_refused_as_onnx_before_any_work(
    pooling: str, regional: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in onnx_files.PACKAGES:
        pytest.importorskip(name)
    monkeypatch.setattr(onnx_files, "_program", lambda network: pytest.fail("the exporter was asked"))
    network = build_network("squeezenet1_1", pooling, regional=regional)
    with pytest.raises(UsageError, match=rf"squeezenet1_1 with {pooling} .* as ONNX .*for each size") as caught:
        onnx_files.write_onnx(tmp_path / "n.onnx", network)
    assert "--photo-size" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert logging.root.manager.disable == logging.NOTSET


@pytest.mark.parametrize(
    ("kind", "package"), [("safetensors", "safetensors.torch"), ("onnx", "onnx"), ("onnx", "onnxscript")]
)
def test_a_missing_package_is_named_before_any_work(folder: Path, monkeypatch, capsys, kind: str, package: str) -> None:
    import sys

    monkeypatch.setitem(sys.modules, package, None)
    assert run("export", "--format", kind, folder / "absent.pt", "-o", folder / "x") == 2
    assert f"needs the package {package.split('.')[0]}: pip install" in capsys.readouterr().err


def test_what_has_no_single_network_is_refused(folder: Path, tmp_path: Path, capsys) -> None:
    twice = ("--whitening", folder / "w.h5", "--whitening", folder / "w.h5")
    assert run("export", "--format", "safetensors", folder / "best.pt", *twice, "-o", tmp_path / "x") == 2
    assert "takes one --whitening" in capsys.readouterr().err
    save_checkpoint(tmp_path / "vlad.pt", build_network("squeezenet1_1", "netvlad", clusters=2))
    assert run("export", "--format", "safetensors", tmp_path / "vlad.pt", "-o", tmp_path / "x") == 2
    assert not (tmp_path / "x").exists()


def test_the_checkpoint_and_its_export_hold_the_same_weights(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    assert run("export", "--format", "safetensors", folder / "best.pt", "-o", tmp_path / "plain") == 0
    state = load_network(folder / "best.pt").state_dict()
    weights = load_file(tmp_path / "plain" / "model.safetensors")
    assert sorted(weights) == sorted(state)
    assert all(torch.equal(weights[name], value) for name, value in state.items())


def test_force_leaves_a_model_of_another_program_alone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"architectures": ["BertModel"]}')
    (tmp_path / "bert" / "model.safetensors").write_bytes(b"theirs")
    words = ("export", "--format", "safetensors", folder / "best.pt", "-o", tmp_path / "bert", "--force")
    assert run(*words) == 2
    assert "is not a folder that export made" in capsys.readouterr().err
    assert (tmp_path / "bert" / "model.safetensors").read_bytes() == b"theirs"


def program_of_one_addition() -> Any:
    """What torch's exporter gives of a network, which takes half a minute: of an addition of 200,000 bytes."""
    onnx, ir = pytest.importorskip("onnx"), pytest.importorskip("onnxscript").ir
    shape = [1, 50_000]
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("x", "y")]
    weights = onnx.numpy_helper.from_array(np.ones(shape, np.float32), "w")
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "addition", values[:1], values[1:], [weights])
    return torch.onnx.ONNXProgram(ir.from_proto(onnx.helper.make_model(graph)), None)


@pytest.mark.parametrize("kind", ["safetensors", "onnx"])
def test_a_full_disk_is_one_line_and_leaves_the_earlier_export(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    words = ("export", "--format", kind, folder / "best.pt", "-o", tmp_path / "made")
    if kind == "onnx":
        program = program_of_one_addition()
        monkeypatch.setattr(onnx_files, "_program", lambda network: program)
        (tmp_path / "made").write_bytes(b"earlier")
    else:
        assert run(*words) == 0
    files = [path for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    before = [path.read_bytes() for path in files]
    capsys.readouterr()
    with files_of_at_most(100_000):
        assert run(*words, "--force") == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'made'}: File too large; nothing was kept")
    assert [path for path in sorted(tmp_path.rglob("*")) if path.is_file()] == files
    assert [path.read_bytes() for path in files] == before


@pytest.mark.parametrize("format", ["cirtorch", "pairs", "graphml", "whitening", "safetensors", "onnx"])
def test_a_folder_is_called_one(tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str) -> None:
    assert run("export", tmp_path, "-o", tmp_path / "x", "--format", format) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}: is a folder; give a file in it\n"


def test_a_description_says_that_photos_are_to_be_turned(folder: Path, tmp_path: Path) -> None:
    network = load_network(folder / "best.pt")
    assert "upright" not in description_of(network)
    network.upright = "exif"
    save_checkpoint(tmp_path / "upright.pt", network)
    assert run("export", "--format", "safetensors", tmp_path / "upright.pt", "-o", tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / "config.json").read_text())["upright"] == "exif"
