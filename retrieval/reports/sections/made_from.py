"""What an index was made from, and by which options."""

from __future__ import annotations

from collections.abc import Iterator

from retrieval.reports.index_page import IndexPage
from retrieval.reports.page import Section


def sections(page: IndexPage) -> Iterator[Section]:
    """The header's lines and the options."""
    values = {"header": page.index.header, "options": sorted(page.index.header.options.items())}
    yield Section("made", "Made with", {**values, "missing": page.thumbnails.missing}, "made_from.html.j2")
