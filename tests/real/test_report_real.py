"""The page of an evaluation of the collection's photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import oracles
import pytest
from worlds import read_whole, unit_rows

from cli.main import main
from retrieval.photos.labels import read_labels
from retrieval.reports.options import ReportOptions
from retrieval.reports.report import write_report
from sfm2tuples.files.descriptors import Descriptors, write_descriptors
from sfm2tuples.ingest.build import IngestOptions, build_index
from sfm2tuples.mining.doubtful_pairs import MOST_LISTED, alike_negatives
from sfm2tuples.readers.discover import PhotoFolder

pytestmark = pytest.mark.real


def test_every_photo_of_a_page_of_the_collection_is_found(shared: Path, tmp_path: Path) -> None:
    labels = shared / "collection" / "labels.csv"
    names = read_labels(labels).images
    draw = np.random.default_rng(0).normal(size=(len(names), 8))
    values = draw / np.linalg.norm(draw, axis=1, keepdims=True)
    write_descriptors(tmp_path / "d.h5", Descriptors(names, values.astype(np.float32)))
    words = [
        "--images",
        shared / "collection" / "images",
        "--descriptors",
        tmp_path / "d.h5",
        "-o",
        tmp_path / "r.json",
    ]
    main([str(word) for word in ("evaluate", "--labels", labels, *words)])
    options = ReportOptions(photo_size=64, num_queries=3, num_ranked=5)
    report = write_report(tmp_path / "r.json", tmp_path / "page", options)
    assert report.missing == []
    assert 20 < report.photos <= 6 * (1 + 5 + 4)
    assert len(list((tmp_path / "page" / "photos").iterdir())) == report.photos
    # 60 queries or so with at most 20 names, their verdicts and similarities, and all ranks.
    assert (tmp_path / "r.json").stat().st_size < 1_000_000


def test_the_negatives_to_check_of_a_room_are_those_of_the_oracle(shared: Path, tmp_path: Path) -> None:
    room = shared / "sites" / "meeting_room"
    options = IngestOptions(inside=True, val_share=0)
    build_index([room / "sparse"], tmp_path / "i.h5", options, photo_roots=[PhotoFolder(room / "images")])
    read, rows = read_whole(tmp_path / "i.h5"), np.arange(164)
    values = unit_rows(np.random.default_rng(0), 164, 8)
    found = alike_negatives(read.opened(), rows, values)
    expected = oracles.alike_negatives(read, rows.tolist(), values)
    assert found.looked_at == len(expected) > 3000
    pairs = zip(found.first.tolist(), found.second.tolist(), strict=True)
    assert list(pairs) == [entry[1:] for entry in expected[:MOST_LISTED]]
