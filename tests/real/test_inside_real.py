"""A real site of five models, mined inside: every pair and every negative against the words of the method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import oracles
import pytest
from oracles_inside import nearest_allowed, photos_proven
from worlds import read_whole, unit_rows

from retrieval.photos.decoding import photo_size
from retrieval.protocols.sfm import sfm_benchmark, tuples_ground_truth
from sfm2tuples.index.opened import open_index
from sfm2tuples.index.schema import TRAIN, VAL
from sfm2tuples.ingest.build import IngestOptions, build_index
from sfm2tuples.mining.amounts import settled, with_queries
from sfm2tuples.mining.options import MiningOptions
from sfm2tuples.mining.photo_table import tables_of_index
from sfm2tuples.mining.rounds import choose_tuples, plan_round
from sfm2tuples.mining.tuple_file import read_tuples, write_tuples

pytestmark = pytest.mark.real


@pytest.mark.parametrize("fragments", ["unknown", "apart"])
def test_tuples_of_gardens_point_are_proven_pair_by_pair(shared: Path, tmp_path: Path, fragments: str) -> None:
    build_index([shared / "sites" / "gardens_point"], tmp_path / "i.h5", IngestOptions(fragments=fragments))
    whole, apart = read_whole(tmp_path / "i.h5"), fragments == "apart"
    with open_index(tmp_path / "i.h5") as index:
        options = settled(MiningOptions(), index, [])
        assert options.inside
        tables = tables_of_index(index, options, photo_size)
        options = with_queries(options, tables.images, tables.places, [])
        rows, spot = tables.images.index_row, tables.images.place
        n = len(rows)
        one, other = np.divmod(np.random.default_rng(0).choice(n * n, 4000, replace=False), n)
        held = tables.barred.holds(one, other)
        for a, b, barred in zip(one.tolist(), other.tolist(), held.tolist(), strict=True):
            assert a == b or barred != photos_proven(whole, [int(rows[a])], [int(rows[b])], apart)
        tuples, values = {}, unit_rows(np.random.default_rng(1), n, 12)
        for split in ("train", "val"):
            of = tables.candidates[split], options
            plan = plan_round(tables.images, tables.places, *of, split, 0, tables.barred)
            found = choose_tuples(plan, values[plan.rows_needed], tables.images, *of, barred=tables.barred)
            tuples[split] = found
            for query, negative in zip(found.query[:12].tolist(), found.negative[:12].tolist(), strict=True):
                proven = [photos_proven(whole, [int(rows[query])], [int(rows[p])], apart) for p in found.pool]
                allowed = [ok and spot[p] != spot[query] for ok, p in zip(proven, found.pool, strict=True)]
                similarity = [oracles.exact_similarity(values[query], values[p]) for p in found.pool]
                expected = nearest_allowed(similarity, spot[found.pool].tolist(), allowed, 2, True)
                assert [r for r in negative if r >= 0] == found.pool[expected].tolist()
        # Measured: 51 tuples a round of 398 photos where models are unknown to each other, 79 of 316 where apart.
        train = int((tables.places.split[spot] == TRAIN).sum())
        assert train / 12 < len(tuples["train"].query) <= options.num_queries == round(train / 4)
        write_tuples(tmp_path / "t.h5", tables.images, tables.places, tuples, tables.candidates, {"inside": True}, [],
                     barred=tables.barred)  # fmt: skip
        file = read_tuples(tmp_path / "t.h5")
        if apart:
            truth, benchmark = tuples_ground_truth(file, VAL, 15).truth, sfm_benchmark(index, VAL, 15)
            assert [file.images.key[q] for q in truth.queries] == benchmark.queries
            assert len(benchmark.database) == n
