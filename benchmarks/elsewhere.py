"""Seconds to describe photos on this disk and behind a web server that waits before each answer.

    python -m benchmarks.elsewhere FOLDER [DELAY]

FOLDER has photos; DELAY is in seconds, 0.02 by default. Needs the extra `remote`. Each way is run three times, in turn,
on one thread of torch; the last figures count.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch

from retrieval.descriptors.extraction import ExtractionOptions, extract
from retrieval.networks.choice import NetworkChoice, load_on
from retrieval.photos import elsewhere
from retrieval.photos.sources import photos_of
from sfm2tuples.files.remote.address import Address

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from photo_server import served

TURNS = 3


def main(folder: Path, delay: float) -> None:
    """Print a line for each way and turn."""
    torch.set_num_threads(1)
    network, options = load_on("cpu", NetworkChoice()), ExtractionOptions(image_size=362)
    with served(folder, delay) as server:
        here, there = photos_of(folder).sources, photos_of(Address.parse(server.url)).sources
        wanted = extract(network, here, options)
        for _ in range(TURNS):
            for name, sources, threads in (("disk", here, 1), ("16 threads", there, 16), ("1 thread", there, 1)):
                elsewhere.AT_ONCE = threads
                start = time.perf_counter()
                found = extract(network, sources, options)
                same = "same" if np.array_equal(found, wanted) else "OTHER"
                print(f"{name:12} {time.perf_counter() - start:7.2f} s, {len(found):,} photos, {same} descriptors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.02)
