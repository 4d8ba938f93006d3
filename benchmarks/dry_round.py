"""A training round without a network: ``python -m benchmarks.dry_round TUPLES DESCRIPTORS [--recipe NAME]``.

It does what `train` does in a round, by the same functions: reads the tuple file, plans, decodes the photos that a
network would describe, mines with descriptors from a file in their place, and decodes the photos of the tuples in the
order in which they would be trained on. What the network would do is left out.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from retrieval.networks.choice import NetworkChoice, load_on
from retrieval.photos.tuple_photos import TuplePhotos
from retrieval.training.loop import Execution
from retrieval.training.options import options_from_recipe
from retrieval.training.remining import tuples_of_round
from retrieval.training.state import TrainingState
from retrieval.training.validation import prepare_validation
from sfm2tuples.files.descriptors import Descriptors, align, read_descriptors
from sfm2tuples.mining.tuple_file import read_tuples
from sfm2tuples.similarity.rows import MatrixRows, block_of


@dataclass(frozen=True)
class _DryState(TrainingState):
    """A state whose descriptors come from a file; photos are decoded all the same."""

    described: Descriptors | None = None
    """Of all photos."""

    def describe(self, rows: np.ndarray, work: str, strict: bool = True) -> np.ndarray:
        """See `TrainingState.describe`."""
        assert self.described is not None
        _decode(self.photos, [[row] for row in rows.tolist()])
        keys = self.photos.names(rows)
        return block_of(MatrixRows(self.described.values, align(self.described, keys, self.tuples.path)), slice(None))


def _decode(photos: TuplePhotos, groups: list[list[int]]) -> None:
    for _ in photos.in_order(groups):
        pass


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("descriptors", type=click.Path(path_type=Path))
@click.option("--recipe", default="eccv16")
def main(source: Path, descriptors: Path, recipe: str) -> None:
    """Do one round and print what it cost."""
    started = time.monotonic()
    tuples, described = read_tuples(source), read_descriptors(descriptors)
    options = options_from_recipe("squeezenet1_1", recipe)
    validation = prepare_validation(tuples, options.min_shared)
    network = load_on("cpu", NetworkChoice(backbone="squeezenet1_1", weights="none"))
    made = Execution().state(tuples, network, options)
    state = _DryState(**{**vars(made), "photos": TuplePhotos(tuples, options.image_size)}, described=described)
    read_at = time.monotonic()
    with state.photos:
        chosen = tuples_of_round(state, 1)
        mined_at = time.monotonic()
        sides = [chosen.query[:, None], chosen.positive, chosen.negative]
        groups = [[row for row in group if row >= 0] for group in np.concatenate(sides, axis=1).tolist()]
        _decode(state.photos, groups)
    ended = time.monotonic()
    figures = {
        "read_seconds": read_at - started,
        "mine_seconds": mined_at - read_at,
        "decode_seconds": ended - mined_at,
        "queries": len(chosen.query),
        "pool": len(chosen.pool),
        "validation_photos": len(validation.rows),
    }
    click.echo(json.dumps(figures))


if __name__ == "__main__":
    main()
