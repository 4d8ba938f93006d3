"""Positives and negatives on every real model equal naive oracles."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from worlds import read_whole, unit_rows

from retrieval.networks.choice import NetworkChoice
from retrieval.photos.decoding import photo_size
from retrieval.tuple_files.mining import mine_tuple_file
from retrieval.tuple_files.readable_photos import PhotoOptions
from sfm2tuples.compute.random_draws import item_numbers
from sfm2tuples.ingest.build import IngestOptions, build_index
from sfm2tuples.mining.options import MiningOptions
from sfm2tuples.mining.photo_table import tables_of_index
from sfm2tuples.mining.positives import choose_positives, possible_queries
from sfm2tuples.mining.rounds import choose_tuples, plan_round
from sfm2tuples.readers.discover import PhotoFolder

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def index(shared, tmp_path_factory):
    """The index of all reconstructions and of the collection's models."""
    target = tmp_path_factory.mktemp("real") / "index.h5"
    roots = [shared / "reconstructions", shared / "collection_models"]
    photos = [PhotoFolder(shared / "collection" / "images", roots[1])]
    build_index(roots, target, IngestOptions(), photo_roots=photos)
    return target


def merged(read, tables):
    """M(q) of every photo of the table: the entries of its images in all models, most shared points first."""
    table_row = {int(read.images.photo[i]): row for row, i in enumerate(tables.images.index_row)}
    best = [{} for _ in tables.images.key]
    for row in np.flatnonzero(read.images.has_photo):
        mine = best[table_row[int(read.images.photo[row])]]
        for other, *evidence in oracles.candidate_set(read, row, 10**6):
            other = table_row[int(read.images.photo[other])]
            if other not in mine or mine[other][0] < evidence[0]:
                mine[other] = evidence
    ranked = [sorted(mine.items(), key=lambda item: (-item[1][0], item[0])) for mine in best]
    return [[(row, *evidence) for row, evidence in entries[:100]] for entries in ranked]


def test_positives_and_negatives_equal_the_oracles_on_every_model(index):
    read = read_whole(index)
    options = {"query_share": 1.0, "queries_per_place": 10**6, "num_negatives": 5}
    tables = tables_of_index(read.opened(), MiningOptions(), photo_size)
    expected = merged(read, tables)
    descriptors = unit_rows(np.random.default_rng(0), len(tables.images.key), 16)
    similarity = [[oracles.exact_similarity(a, b) for b in descriptors] for a in descriptors]
    place = tables.images.place
    queries = 0
    for split in ("train", "val"):
        candidates = tables.candidates[split]
        for rule in ("m1", "m2", "m3"):
            chosen = MiningOptions(positives=rule, **options)
            plan = plan_round(tables.images, tables.places, candidates, chosen, split, 0)
            tuples = choose_tuples(plan, descriptors[plan.rows_needed], tables.images, candidates, chosen)
            for t, q in enumerate(tuples.query.tolist()):
                entries = {e[0]: e[1:] for e in expected[q]}
                positive = int(tuples.positive[t, 0])
                if rule == "m1":
                    assert positive == oracles.m1(expected[q], similarity[q])
                elif rule == "m2":
                    assert positive == oracles.m2(expected[q])
                else:
                    assert positive in oracles.m3_allowed(expected[q])
                columns = (tuples.shared, tuples.overlap, tuples.scale_change, tuples.angle)
                assert np.allclose([c[t, 0] for c in columns], entries[positive], equal_nan=True)
                rows = tuples.pool.tolist()
                negatives = oracles.n2_negatives([similarity[q][r] for r in rows], rows, place[rows], place[q], 5)
                assert tuples.negative[t].tolist() == negatives
            in_split = [q for q in range(len(place)) if tables.places.split[place[q]] == (split == "val")]
            allowed = [q for q in in_split if (oracles.m3_allowed(expected[q]) if rule == "m3" else expected[q])]
            assert tuples.query.tolist() == allowed
            queries += len(allowed)
    assert queries > 1500


def test_mining_with_a_real_network_finds_the_portal_suspicious(index, shared, tmp_path):
    choice = NetworkChoice(backbone="squeezenet1_1", weights=str(shared / "weights" / "squeezenet1_1.npz"))
    options = MiningOptions(query_share=1.0, queries_per_place=15)
    mined = mine_tuple_file(index, tmp_path / "tuples.h5", options, PhotoOptions(choice, image_size=224))
    assert mined.tables.without_photo == 44
    assert mined.tables.same_photo == 15
    train = mined.tuples["train"]
    assert np.median(train.positive_similarity) > np.median(train.negative_similarity) + 0.05
    names = mined.tables.places.name
    pairs = [{names[pair.first].split("/")[-1], names[pair.second].split("/")[-1]} for pair in mined.suspicious]
    assert any({"entry_p10"} < pair and any("castle" in name for name in pair) for pair in pairs)
    assert len(pairs) < 30


def test_positives_of_a_walk_are_of_the_other_walk_wherever_one_is_allowed(shared, tmp_path):
    site = shared / "sites" / "gardens_point"
    whole = IngestOptions(inside=False)  # nothing of the site is held out
    build_index([site / "sparse"], tmp_path / "i.h5", whole, photo_roots=[PhotoFolder(site / "images")])
    read = read_whole(tmp_path / "i.h5")
    options = MiningOptions().for_one_site()
    tables = tables_of_index(read.opened(), options, photo_size)
    assert tables.sequences.told_by == {"folders": 1}
    assert tables.near_duplicates == 0  # frames lie too far apart
    walk = [key.split("/")[0] for key in tables.images.key]
    share = []
    for split in ("train", "val"):
        candidates = tables.candidates[split]
        query = possible_queries(candidates, options)
        edge = choose_positives(candidates, query, item_numbers(tables.images.key), options, 0)[:, 0]
        for row, positive in zip(query.tolist(), candidates.image[edge].tolist(), strict=True):
            found = oracles.candidate_set(read, int(tables.images.index_row[row]), 100, max_overlap=0.95)
            allowed = oracles.m3_allowed([(table_row_of(tables, e[0]), *e[1:]) for e in found])
            others = {image for image in allowed if walk[image] != walk[row]}
            assert positive in (others or allowed)
            share.append(walk[positive] != walk[row])
    assert len(share) == 400 - 1
    assert np.mean(share) > 0.85


def table_row_of(tables, index_row):
    return int(np.searchsorted(tables.images.index_row, index_row))


@pytest.mark.parametrize(("max_overlap", "pairs"), [(0.95, 0), (0.7, 12)])
def test_the_walks_have_few_near_duplicates(shared, tmp_path, max_overlap, pairs):
    site = shared / "sites" / "gardens_point"
    whole = IngestOptions(inside=False)  # nothing of the site is held out
    build_index([site / "sparse"], tmp_path / "i.h5", whole, photo_roots=[PhotoFolder(site / "images")])
    tables = tables_of_index(read_whole(tmp_path / "i.h5").opened(), MiningOptions(max_overlap=max_overlap), photo_size)
    assert tables.near_duplicates == pairs
