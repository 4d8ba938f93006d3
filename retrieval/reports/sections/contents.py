"""What is in a tuple file, what it was made from and by which options."""

from __future__ import annotations

from collections.abc import Iterator

from retrieval.reports.page import Section
from retrieval.reports.tuple_page import TITLES, TuplePage

COUNTS = (
    *("tuples", "different queries", "places of queries", "positives", "negatives", "negatives missing"),
    *("images in the pool", "possible queries", "images", "places"),
)
"""Of `split_counts`, in the order of the table."""


def sections(page: TuplePage) -> Iterator[Section]:
    """Three tables: counts by split, the file's header, its options."""
    file = page.tuples
    values = {
        "splits": TITLES,
        "counts": [(label, [page.counts[split][label] for split in TITLES]) for label in COUNTS],
        "header": file.header,
        "options": sorted(file.header.options.items()),
        "packed_size": file.packed_size,
        "packed_bytes": int(file.photo_indptr[-1]) if file.packed_size else 0,
        "missing": page.thumbnails.missing,
    }
    yield Section("contents", "Contents", values, "contents.html.j2")
