"""Well-known retrievers by name and by file: weights from files, addresses, the hub, and one line for what is wrong."""

from __future__ import annotations

import hashlib
import logging
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from hand_made import run
from their_names import NAMES, SMALL, small_network, their_state
from timm_package import import_timm

from retrieval.descriptors.extraction import ExtractionOptions, extract
from retrieval.networks import choice
from retrieval.networks.checkpoints import save_checkpoint
from retrieval.networks.choice import NetworkChoice, load_chosen, load_network
from retrieval.networks.network import Network, build_network
from retrieval.networks.plain_layers import write_layers
from retrieval.networks.retrievers import by_name, table
from retrieval.networks.retrievers.dirtorch_checkpoints import POWER, read_checkpoint_with_whitenings
from retrieval.networks.retrievers.table import Retriever, retriever_called, retriever_names
from retrieval.whitening.projection import apply, read_whitening
from sfm2tuples.errors import SfmTuplesError, UsageError, WeightsError


def described(network: Network) -> np.ndarray:
    x = torch.rand(2, 3, 70, 90, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return network(x).numpy()


def error_of(path: str | Path, **more: str) -> str:
    with pytest.raises(SfmTuplesError) as caught:
        load_chosen(NetworkChoice(Path(path), **more))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("family", sorted(NAMES))
def test_a_file_is_told_by_its_parameters(family: str, tmp_path: Path) -> None:
    network = small_network(family)
    torch.save(their_state(network, family), tmp_path / "theirs.ckpt")
    again = load_network(tmp_path / "theirs.ckpt")
    for part in ("backbone", "pooling", "pooling_sizes", "clusters", "mean", "std", "photo_size"):
        assert getattr(again.description, part) == getattr(network.description, part)
    np.testing.assert_allclose(described(again), described(network), rtol=0, atol=1e-5)


WRAPPED = {
    "compiled": "_orig_mod.{}",
    "parallel and compiled": "module._orig_mod.{}",
    "in a module of Lightning": "model.{}",
    "compiled in a module of Lightning": "model._orig_mod.{}",
    "in a module called net": "net.{}",
}


@pytest.mark.parametrize("names", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("family", ["salad", "dinov2"])
def test_names_behind_what_training_puts_before_them(family: str, names: str, tmp_path: Path) -> None:
    state = their_state(small_network(family), family)
    content = {"state_dict": {names.format(name): value for name, value in state.items()}, "epoch": 3}
    torch.save(content, tmp_path / "theirs.ckpt")
    again = described(load_network(tmp_path / "theirs.ckpt"))
    np.testing.assert_allclose(again, described(small_network(family)), rtol=0, atol=1e-5)


IN_TRANSFORMERS = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "blocks": "encoder.layer",
    "attn.proj": "attention.output.dense",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
}


def in_transformers(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A DINOv2's weights by the names of Hugging Face's `Dinov2Model`, as its source has them."""
    found = {"embeddings.mask_token": torch.zeros(1, 64)}
    for name, value in state.items():
        theirs = "layernorm" + name.removeprefix("norm") if name.startswith("norm.") else name
        for ours, part in IN_TRANSFORMERS.items():
            theirs = theirs.replace(ours, part)
        if "attn.qkv" in theirs:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[theirs.replace("attn.qkv", f"attention.attention.{part}")] = third.clone()
        else:
            found[theirs] = value
    return found


def test_a_dinov2_of_transformers_is_told_by_its_names(tmp_path: Path) -> None:
    network = small_network("dinov2")
    state = in_transformers(their_state(network, "dinov2"))
    assert "encoder.layer.0.attention.attention.key.bias" in state
    torch.save(state, tmp_path / "model.bin")
    again = described(load_network(tmp_path / "model.bin"))
    np.testing.assert_allclose(again, described(network), rtol=0, atol=1e-6)
    asked = NetworkChoice(backbone=network.description.backbone, pooling="cls", weights=str(tmp_path / "model.bin"))
    assert torch.equal(load_chosen(asked).backbone.pos_embed, network.backbone.pos_embed)
    del state["encoder.layer.1.attention.attention.value.bias"]
    torch.save(state, tmp_path / "model.bin")
    assert "blocks.1.attn.qkv.bias" in error_of(tmp_path / "model.bin")
    with pytest.raises(WeightsError, match=r"blocks\.1\.attn\.qkv\.bias"):
        load_chosen(asked)


def test_a_part_alone_is_compiled_and_a_loss_stands_beside_the_network(tmp_path: Path) -> None:
    state = their_state(small_network("salad"), "salad")
    part = {f"model.{name.replace('backbone.', 'backbone._orig_mod.')}": value for name, value in state.items()}
    torch.save({"state_dict": part | {"loss_fn.W": torch.ones(2)}}, tmp_path / "theirs.ckpt")
    assert load_network(tmp_path / "theirs.ckpt").description.pooling == "salad"
    backbone = their_state(small_network("dinov2"), "dinov2")
    unknown = {f"model.{name}": value for name, value in backbone.items()} | {"head.weight": torch.ones(2)}
    torch.save(unknown, tmp_path / "unknown.pth")
    assert "no checkpoint" in error_of(tmp_path / "unknown.pth")  # and no DINOv2 without its head


def test_megaloc_s_first_release_has_a_model_inside_its_backbone(tmp_path: Path) -> None:
    state = their_state(small_network("megaloc"), "megaloc")
    first = {name.replace("backbone.", "backbone.model."): value for name, value in state.items()}
    torch.save(first, tmp_path / "megaloc.torch")
    again = load_network(tmp_path / "megaloc.torch")
    np.testing.assert_allclose(described(again), described(small_network("megaloc")), rtol=0, atol=1e-5)


def test_a_whole_file_of_other_sizes_is_not_said_to_be_cut(tmp_path: Path) -> None:
    state = their_state(small_network("dinov2"), "dinov2")
    torch.save(state | {"register_tokens": torch.zeros(1, 4, 64)}, tmp_path / "reg.pth")
    words = error_of(tmp_path / "reg.pth")
    assert "register tokens; --backbone timm:NAME has DINOv2 with them" in words
    torch.save(state | {"patch_embed.proj.weight": torch.zeros(64, 3, 16, 16)}, tmp_path / "16.pth")
    assert "patches of 16 pixels" in error_of(tmp_path / "16.pth")
    for file in ("reg.pth", "16.pth"):
        assert "downloaded whole" not in error_of(tmp_path / file)


@pytest.mark.parametrize("family", sorted(NAMES))
def test_a_file_that_lacks_a_part_is_refused_in_one_line(family: str, tmp_path: Path) -> None:
    state = their_state(small_network(family), family)
    mark = next(name for name in by_name_marks() if name in state)
    for name in (next(iter(state)), list(state)[-1], sorted(state)[len(state) // 2]):
        torch.save({key: value for key, value in state.items() if key != name}, tmp_path / "cut.pth")
        words = error_of(tmp_path / "cut.pth")
        assert "cut.pth" in words
        torch.save({**state, name: state[name].flatten()[:1]}, tmp_path / "short.pth")
        assert "short.pth" in error_of(tmp_path / "short.pth")
    torch.save({key: value for key, value in state.items() if key != mark}, tmp_path / "unmarked.pth")
    assert "no checkpoint" in error_of(tmp_path / "unmarked.pth")


def by_name_marks() -> list[str]:
    from retrieval.networks.retrievers.their_files import _MARKS

    return list(_MARKS)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Retriever:
    """MegaLoc, as if it were small, at a file's address."""
    torch.save(their_state(small_network("megaloc"), "megaloc"), tmp_path / "small.pth")
    url = (tmp_path / "small.pth").as_uri()
    small = replace(
        table.retriever_called("megaloc"), backbone=SMALL, sizes=(6, 5, 7, 9), clusters=3, url=url, repository=""
    )
    for module in (by_name, choice):
        monkeypatch.setattr(module, "retriever_called", lambda name: small if name == "megaloc" else None)
    return small


def test_a_name_fetches_the_weights_of_its_makers(known: Retriever, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        network = load_chosen(NetworkChoice(Path("megaloc")))
    assert network.description.photo_size == (322, 322)
    assert "licence MIT" in caplog.text
    network.set_photo_size(())
    np.testing.assert_allclose(described(network), described(small_network("megaloc")), rtol=0, atol=1e-5)


def test_weights_are_a_file_an_address_with_its_hash_or_random(known: Retriever, tmp_path: Path) -> None:
    named, file = NetworkChoice(Path("megaloc")), tmp_path / "small.pth"
    wanted = load_chosen(named).fingerprint()
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for weights in (str(file), file.as_uri(), f"{file.as_uri()}#sha256={digest}"):
        assert load_chosen(replace(named, weights=weights)).fingerprint() == wanted
    assert "hash is" in error_of("megaloc", weights=f"{file.as_uri()}#sha256={'0' * 64}")
    random = load_chosen(replace(named, weights="none"), seed=3)
    assert random.fingerprint() != wanted
    assert random.fingerprint() == load_chosen(replace(named, weights="none"), seed=3).fingerprint()
    assert random.description.weights == "random, seed 3"


def test_a_file_of_another_retriever_or_of_none_is_refused(known: Retriever, tmp_path: Path) -> None:
    torch.save(their_state(small_network("salad"), "salad"), tmp_path / "salad.pth")
    words = error_of("megaloc", weights=str(tmp_path / "salad.pth"))
    assert f"is {SMALL} with salad 3-6-5-7-0, 23 dimensions; megaloc is {SMALL} with salad 3-6-5-7-9" in words
    torch.save({"x": torch.zeros(3)}, tmp_path / "x.pth")
    assert "has the parameters of no retriever" in error_of("megaloc", weights=str(tmp_path / "x.pth"))
    assert "no such file" in error_of("megaloc", weights=str(tmp_path / "absent.pth"))
    assert "no such file, and no retriever has this name" in error_of("megalok")
    assert error_of("MegaLoc").endswith("; give a file, or one of megaloc")
    assert "one of cosplace-resnet18-32|64|128|256|512, cosplace-resnet50-" in error_of("cosplace")
    assert "no such file" in error_of("megalok.pth")
    assert "leave out --pooling" in error_of("megaloc", pooling="gem")


def test_a_file_goes_before_a_name(known: Retriever, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path / "megaloc", build_network(SMALL, "gem"))
    assert load_chosen(NetworkChoice(Path("megaloc"))).description.pooling == "gem"


def test_a_folder_goes_before_a_name_only_where_it_holds_a_network(
    known: Retriever, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    monkeypatch.chdir(tmp_path)
    (tmp_path / "megaloc").mkdir()  # a clone of its makers' code, or what another command wrote
    (tmp_path / "megaloc" / "hubconf.py").touch()
    assert load_chosen(NetworkChoice(Path("megaloc"))).description.photo_size == (322, 322)
    (tmp_path / "megaloc" / "config.json").write_text('{"feat_dim": 9}')  # theirs, of the hub
    theirs = {name: value.contiguous() for name, value in their_state(small_network("salad"), "salad").items()}
    save_file(theirs, tmp_path / "megaloc" / "model.safetensors")
    assert load_chosen(NetworkChoice(Path("megaloc"))).dimension == 23
    (tmp_path / "run").mkdir()
    assert "run: is a folder; give a file in it" in error_of("run")


def test_the_hub_s_cache_is_used_where_its_library_is_installed(
    known: Retriever, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_hub = replace(known, repository="someone/Net", file="model.safetensors", url="file:///absent.pth")
    monkeypatch.setattr(by_name, "retriever_called", lambda name: on_hub)
    hub, asked = ModuleType("huggingface_hub"), []

    def hf_hub_download(repository: str, file: str) -> str:
        asked.append((repository, file))
        return str(tmp_path / "small.pth")

    hub.hf_hub_download = hf_hub_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert load_chosen(NetworkChoice(Path("megaloc"))).dimension == 9
    assert asked == [("someone/Net", "model.safetensors")]

    def offline(repository: str, file: str) -> str:
        raise RuntimeError("no way\nto the hub")

    hub.hf_hub_download = offline
    assert "someone/Net: model.safetensors cannot be fetched from the hub (no way" in error_of("megaloc")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "absent.pth" in error_of("megaloc")  # its address, then


def test_the_table_names_networks_that_can_be_built() -> None:
    names = [name for name in retriever_names() if "BACKBONE" not in name]
    names += ["cosplace-resnet18-512", "cosplace-vgg16-64", "eigenplaces-resnet50-2048", "eigenplaces-resnet101-128"]
    dimensions = {}
    for name in names:
        retriever = retriever_called(name)
        assert retriever is not None
        assert retriever.name == name
        assert retriever.licence
        assert retriever.url or retriever.remedy or retriever.backbone.startswith("timm:")
        assert retriever.url.startswith("https://") or not retriever.url
        dimensions[name] = retriever.sizes
    # Their files are called resnet50_MixVPR_128_channels(64)_rows(2), …_512_channels(256)_rows(2) and so on.
    assert dimensions["mixvpr-resnet50-128"] == (20, 64, 2, 4)
    assert dimensions["mixvpr-resnet50-512"] == (20, 256, 2, 4)
    assert dimensions["mixvpr-resnet50-4096"] == (20, 1024, 4, 4)
    assert retriever_called("cosplace-vgg16-64").url.endswith("CosPlace/releases/download/v1.0/VGG16_64_cosplace.pth")
    for name in (
        "cosplace-resnet18-1024",
        "eigenplaces-resnet152-512",
        "cosplace-resnet18-500",
        "cosplace-alexnet-512",
        "megaloc2",
        "dinov2-huge",
    ):
        assert retriever_called(name) is None
    with pytest.raises(UsageError, match="have no lasting address; fetch it from"):
        load_network("mixvpr-resnet50-512")


@pytest.mark.parametrize("name", ["cosplace-resnet18-32", "mixvpr-resnet50-128", "dinov2-small"])
def test_a_name_with_random_weights_has_the_published_dimension(name: str) -> None:
    network = load_chosen(NetworkChoice(Path(name), weights="none"))
    assert network.dimension == {"c": 32, "m": 128, "d": 384}[name[0]]
    assert np.isfinite(described(network)).all()


def test_dinov3_is_timm_s_class_token() -> None:
    import_timm()
    network = load_chosen(NetworkChoice(Path("dinov3-small"), weights="none"))
    x = torch.rand(1, 3, 64, 80)
    with torch.inference_mode():
        token = network.backbone.model.forward_features((x - network.mean) / network.std)[:, 0]
        torch.testing.assert_close(network(x), torch.nn.functional.normalize(token), rtol=0, atol=1e-5)


class TestPhotoSize:
    def test_photos_are_warped_to_it(self, tmp_path: Path) -> None:
        network = load_chosen(NetworkChoice(backbone="alexnet", weights="none", photo_size="64x96"))
        x = torch.rand(1, 3, 70, 90)
        warped = torch.nn.functional.interpolate(x, size=(64, 96), mode="bilinear", antialias=True)
        plain = load_chosen(NetworkChoice(backbone="alexnet", weights="none"))
        with torch.inference_mode():
            torch.testing.assert_close(network(x), plain(warped))
            torch.testing.assert_close(network(warped), plain(warped))
        assert network.fingerprint() != plain.fingerprint()
        save_checkpoint(tmp_path / "n.pt", network)
        assert load_network(tmp_path / "n.pt").description.photo_size == (64, 96)
        own = load_chosen(NetworkChoice(tmp_path / "n.pt", photo_size="any"))
        assert own.fingerprint() == plain.fingerprint()

    def test_numpy_leaves_such_networks_and_transformers_to_torch(self, tmp_path: Path) -> None:
        for network, runs in (
            (build_network("alexnet", "gem"), True),
            (build_network("alexnet", "gem", photo_size=(64, 64)), False),
            (build_network(SMALL, "gem"), False),
            (build_network("alexnet", "cosplace"), False),
        ):
            assert write_layers(tmp_path / "l.npz", network) is runs

    @pytest.mark.parametrize("text", ["", "322", "322x", "x322", "-3x4", "0x322", "5000x5000", "3.5x4", "322X322 "])
    def test_a_text_that_is_no_size_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match=r"photo.size"):
            load_chosen(NetworkChoice(backbone="alexnet", weights="none", photo_size=text))

    def test_scales_and_parts_of_photos_are_refused(self, tmp_path: Path) -> None:
        from retrieval.descriptors.query_crops import check_crop
        from retrieval.search.window_descriptors import Describer

        network = load_chosen(NetworkChoice(backbone="alexnet", weights="none", photo_size="64x64"))
        with pytest.raises(UsageError, match="leave out --scales, or add --photo-size any"):
            extract(network, [], ExtractionOptions(64, scales=(1.0, 0.5)))
        with pytest.raises(UsageError, match="warps photos to 64x64 pixels"):
            check_crop(network, "activations")
        with pytest.raises(UsageError, match="windows of a map; this network warps"):
            Describer(network, ExtractionOptions(64))
        with pytest.raises(UsageError, match="cls describes whole photos only"):
            Describer(build_network(SMALL, "cls"), ExtractionOptions(64))


def test_a_size_of_a_pooling_is_a_name_and_a_number() -> None:
    asked = NetworkChoice(backbone=SMALL, weights="none", pooling="boq", pooling_size=("width=64", "queries=2"))
    assert load_chosen(asked).description.pooling_sizes == (64, 2, 2, 32)
    for text in ("width", "width=", "=3", "width=-1", "width=3.5"):
        with pytest.raises(UsageError, match="give NAME=NUMBER"):
            load_chosen(replace(asked, pooling_size=(text,)))
    assert "leave out --pooling-size" in error_of("x.pt", pooling_size=("a=1",))


def dirtorch_file(path: Path) -> tuple[Network, SimpleNamespace]:
    """A file as dirtorch saves it, with a whitening that scikit-learn's class names; the network and the whitening."""
    network = build_network("resnet18", "ap-gem", pooling_sizes={"output": 16})
    state = {name.removeprefix("backbone."): value for name, value in network.state_dict().items()}
    state = {name.replace("pool.gem.p", "adpool.p").replace("pool.linear.", "fc."): v for name, v in state.items()}
    draw = np.random.default_rng(0)
    # Written as a class of the name that scikit-learn had then.
    module = ModuleType("sklearn.decomposition.pca")
    module.PCA = type("PCA", (), {"__module__": module.__name__})
    pca = module.PCA()
    components = np.linalg.qr(draw.normal(0, 1, (16, 16)))[0]
    vars(pca).update(mean_=draw.random(16) / 16, components_=components, explained_variance_=draw.random(16) + 0.1)
    vars(pca).update(n_components=None, noise_variance_=np.float64(0.5), _sklearn_version="0.20.2")
    content = {
        "state_dict": {f"module.{name}": value for name, value in state.items()},
        "model_options": {"arch": "resnet18_rmac", "out_dim": 16, "pooling": "gem", "gemp": 3},
        "current_iter": 376,
        "pca": {"Landmarks_clean": pca},
    }
    before = {name: sys.modules.get(name) for name in ("sklearn", "sklearn.decomposition", module.__name__)}
    try:
        for name in before:
            sys.modules.setdefault(name, ModuleType(name))
        sys.modules[module.__name__] = module
        torch.save(content, path)
    finally:
        for name, one in before.items():
            if one is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = one
    return network, SimpleNamespace(**vars(pca))


def test_a_file_of_dirtorch_is_read_with_its_whitening(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network, pca = dirtorch_file(tmp_path / "ap-gem.pt")
    again = load_network(tmp_path / "ap-gem.pt")
    assert (again.description.backbone, again.description.pooling) == ("resnet18", "ap-gem")
    np.testing.assert_allclose(described(again), described(network), rtol=0, atol=1e-5)
    target = tmp_path / "w.h5"
    assert run("export", "--format", "whitening", tmp_path / "ap-gem.pt", "-o", target) == 0
    found = apply(read_whitening(target), described(again))
    wanted = [(pca.components_ @ (x - pca.mean_)) / pca.explained_variance_**POWER for x in described(again)]
    np.testing.assert_allclose(found, [x / np.linalg.norm(x) for x in wanted], rtol=0, atol=1e-5)
    capsys.readouterr()
    assert run("inspect", tmp_path / "ap-gem.pt") == 0
    said = capsys.readouterr().out
    assert "checkpoint of dirtorch" in said
    assert "Landmarks_clean ss" in said


def test_a_pca_that_is_none_is_refused_and_nothing_of_a_pickle_runs(tmp_path: Path) -> None:
    network = build_network("resnet18", "ap-gem", pooling_sizes={"output": 4})
    state = {name.removeprefix("backbone."): value for name, value in network.state_dict().items()}
    state = {name.replace("pool.gem.p", "adpool.p").replace("pool.linear.", "fc."): v for name, v in state.items()}
    torch.save({"state_dict": state, "pca": {"x": {"mean_": 3}}}, tmp_path / "odd.pt")
    with pytest.raises(WeightsError, match="whitenings under pca cannot be understood"):
        read_checkpoint_with_whitenings(tmp_path / "odd.pt")

    class Runs:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": state, "pca": {"x": Runs()}}, tmp_path / "hostile.pt")
    with pytest.raises(WeightsError, match="plain containers and tensors"):
        load_network(tmp_path / "hostile.pt")
    assert not (tmp_path / "ran").exists()
