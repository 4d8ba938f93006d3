"""What the benches of networks share: photos to describe, the usual way to decode them, timing in turns."""

from __future__ import annotations

import copy
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from retrieval.descriptors.extraction import DECODERS
from retrieval.networks.network import Network, build_network

VIT_B = "vit14:768-12-12-37"
"""A backbone of a ViT-B's sizes, with patches of 14 pixels."""
REPEATS = 5
DETAIL = 48
"""Blobs along the long side of a photo; noise of a few levels lies over them, as in a camera's."""


def write_photos(folder: Path, count: int, size: int) -> list[Path]:
    """JPEG photos of longest side `size`, two of three landscape; those that are there are kept."""
    paths = [folder / f"{size}px" / f"{number:04d}.jpg" for number in range(count)]
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(paths):
        if path.exists():
            continue
        rng = np.random.default_rng(number)
        blobs = Image.fromarray(rng.integers(0, 256, (DETAIL * 3 // 4, DETAIL, 3), dtype=np.uint8))
        smooth = np.asarray(blobs.resize((size, size * 3 // 4), Image.Resampling.BICUBIC), np.int16)
        noisy = smooth + rng.normal(0, 2.5, smooth.shape).astype(np.int16)
        photo = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        (photo.rotate(90, expand=True) if number % 3 == 2 else photo).save(path, quality=90)
    return paths


def random_network(backbone: str, device: str) -> Network:
    """GeM on a backbone with random weights."""
    return build_network(backbone, "gem").to(device)


def in_default_layout(network: Network) -> Network:
    """A copy whose weights lie as torch makes them; ours are channels-last."""
    usual = copy.deepcopy(network)
    usual.backbone.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return usual


def decoded(paths: Sequence[Path], size: int, device: torch.device) -> Iterator[Tensor]:
    """The usual way: (1, 3, H, W) each, decoded in full, ahead in as many threads as ours has."""
    with ThreadPoolExecutor(DECODERS["cpu" if device.type == "cpu" else "cuda"]) as pool:
        for photo in pool.map(lambda path: full_decode(path, size), paths):
            yield photo[None].to(device)


def full_decode(path: Path, size: int) -> Tensor:
    """Decode every pixel, then make it smaller: (3, H, W) float32 in 0..1, as torchvision's ToTensor lays it."""
    with Image.open(path) as image:
        photo = image.convert("RGB")
    scale = min(1.0, size / max(photo.size))
    photo = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(photo)).permute(2, 0, 1).contiguous().float().div_(255)


def seconds_in_turns(ways: Mapping[str, Callable[[], Any]], repeats: int = REPEATS) -> dict[str, float]:
    """Median seconds of each way; they take turns, since on a noisy machine only ratios of one moment count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:  # the first warms up
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def has_bf16() -> bool:
    """Whether this processor multiplies bf16 by itself; torch would imitate it, slowly."""
    flags = Path("/proc/cpuinfo")
    return flags.exists() and any(name in flags.read_text() for name in ("avx512_bf16", "amx_bf16", " bf16"))


def busy_share(work: Callable[[], Any]) -> str:
    """Share of the time that the GPU is busy in a piece of work, asked ten times a second, as a note."""
    try:
        torch.cuda.utilization()
    except (ModuleNotFoundError, RuntimeError):
        return "; how busy the GPU is: install nvidia-ml-py to see"
    shares: list[int] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.1):
            shares.append(torch.cuda.utilization())

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        work()
        torch.cuda.synchronize()
    finally:
        over.set()
        asking.join()
    return f"; GPU busy {statistics.mean(shares):.0f} %, goal 85 %" if shares else "; too short to see the GPU"
