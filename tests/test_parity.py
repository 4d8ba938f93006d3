"""Well-known retrievers' files describe photos here as their authors' code does, to 1e-5 in every element."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import parity
import pytest
import torch
from torch import Tensor

from retrieval.networks.checkpoints import save_checkpoint
from retrieval.networks.choice import load_network
from retrieval.networks.devices import autocast
from retrieval.networks.network import Network

pytestmark = pytest.mark.real

TOLERANCE = 1e-5
LEAST_COSINE = 0.9999
"""Of a descriptor in bf16 with the authors' in fp32; docs/networks.md names it."""
DESCRIPTIONS = {
    "megaloc_small": ("vit14:96-3-3-7", "salad", (16, 12, 32, 64), 8),
    "salad_small": ("vit14:96-3-3-7", "salad", (16, 12, 512, 0), 8),
    "boq_dinov2_small": ("vit14:96-3-3-7_unnormed", "boq", (128, 16, 2, 4), 0),
    "boq_resnet50": ("resnet50_layer3", "boq", (512, 64, 2, 32), 0),
    "mixvpr_resnet50": ("resnet50_layer3", "mixvpr", (20, 128, 4, 4), 0),
    "cosplace_resnet18": ("resnet18", "cosplace", (256,), 0),
    "cosplace_vgg16": ("vgg16_before_relu", "cosplace", (512,), 0),
    "megaloc": ("dinov2_vitb14", "salad", (256, 256, 512, 8448), 64),
}
"""What a file is told to be: backbone, pooling, sizes of its layers, clusters."""


def describe(network: Network, photos: Tensor) -> np.ndarray:
    with torch.inference_mode():
        return network(photos).float().numpy()


def check(name: str, folder: Path) -> None:
    """Load the released file by its parameter names, and compare: alone, in a batch, in bf16, and after our save."""
    torch.save(parity.state_of(name), folder / "theirs.pth")
    network = load_network(folder / "theirs.pth")
    (folder / "theirs.pth").unlink()
    made = network.description
    assert (made.backbone, made.pooling, made.pooling_sizes, made.clusters) == DESCRIPTIONS[name]
    network.set_photo_size(())
    save_checkpoint(folder / "ours.pt", network)
    again = load_network(folder / "ours.pt")
    (folder / "ours.pt").unlink()
    assert again.description == network.description
    for (height, width), wanted in parity.descriptors_of(name).items():
        photo = parity.photo_of(height, width)
        found = describe(network, photo)
        assert found.shape == (1, network.dimension)
        np.testing.assert_allclose(found[0], wanted, rtol=0, atol=TOLERANCE)
        batch = torch.cat([photo.flip(3), photo, photo.flip(2)])
        np.testing.assert_allclose(describe(network, batch)[1], wanted, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(describe(again, photo)[0], wanted, rtol=0, atol=TOLERANCE)
        with autocast(torch.device("cpu"), "bf16"):
            assert float(describe(network, photo)[0] @ wanted) > LEAST_COSINE


@pytest.mark.parametrize("name", [*parity.SMALL, *parity.LARGE])
def test_a_released_file_describes_as_its_authors_code(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


@pytest.mark.slow
def test_megaloc_in_full_describes_as_its_authors_code(tmp_path: Path) -> None:
    check("megaloc", tmp_path)


def test_safetensors_and_names_behind_module_are_the_same_network(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = parity.state_of("megaloc_small")
    save_file(state, tmp_path / "model.safetensors")
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "m.ckpt")
    first, second = (load_network(tmp_path / name) for name in ("model.safetensors", "m.ckpt"))
    assert first.fingerprint() == second.fingerprint()
    [(height, width), wanted] = next(iter(parity.descriptors_of("megaloc_small").items()))
    np.testing.assert_allclose(describe(first, parity.photo_of(height, width))[0], wanted, rtol=0, atol=TOLERANCE)
