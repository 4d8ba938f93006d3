"""Ranked lists in a file of ours, and as pairs of names for hloc."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sfm2tuples.errors import UsageError
from sfm2tuples.files.checked_columns import CheckedColumns
from sfm2tuples.files.columns import write_strings
from sfm2tuples.files.container import create_file, header_of, open_file
from sfm2tuples.files.plain_items import plain_item
from sfm2tuples.files.rules import Rule, Rules, text_rules
from sfm2tuples.interop.pair_lists import write_pair_list

FORMAT = "sfm2tuples-ranks"
VERSION = 1
RULES: Rules = {
    **text_rules("queries", "queries"),
    **text_rules("names", "names"),
    "row": Rule(("queries", "results"), "int64", row_of="names", or_none=True),
    "similarity": Rule(("queries", "results"), "float32", unknown=-np.inf),
}
INLIER_RULES: Rules = {"inliers": Rule(("queries", "results"), "int32", least=0)}
"""Of the column that verified lists have."""


@dataclass(frozen=True)
class Ranks:
    """What was found for each query, best first."""

    queries: list[str]
    """Names of the queries."""
    names: list[str]
    """Names of the database's images, in the order of its file."""
    row: np.ndarray
    """(q, k) int64: rows of `names`; -1 where there are fewer."""
    similarity: np.ndarray
    """(q, k) float32: cosine that the row was ranked by; -inf where there is none. Falling, except where re-ranked
    rows, which have the similarity of their window or stand by their inliers, are followed by others."""
    options: dict[str, Any] = field(default_factory=dict)
    """How they were searched for."""
    fingerprint: str = ""
    """Fingerprint of the file that they were read from."""
    inliers: np.ndarray | None = None
    """(q, k) int32: matches of local features that agreed, 0 where an image is not verified or was not looked at; None
    where nothing was verified."""

    def found(self, query: int) -> list[str]:
        """Names that were found for the query number `query`, best first."""
        return [self.names[row] for row in self.row[query].tolist() if row >= 0]

    def matched(self, query: int) -> list[str]:
        """Those of `found` whose similarity is not negative; all of them where a least similarity was asked for."""
        names = self.found(query)
        if self.options.get("min_similarity") is not None:
            return names
        similarity = self.similarity[query][self.row[query] >= 0]
        return [name for name, value in zip(names, similarity.tolist(), strict=True) if value >= 0]

    def made_with(self, options: dict[str, Any]) -> Ranks:
        """The same, with more to say about how they were searched for."""
        return replace(self, options=self.options | options)


def write_ranks(path: str | Path, ranks: Ranks, parents: Sequence[str] = ()) -> None:
    """Write ranked lists; `parents` are the fingerprints of the descriptor files."""
    with create_file(path, FORMAT, VERSION, ranks.options, parents) as file:
        write_strings(file, "queries", ranks.queries)
        write_strings(file, "names", ranks.names)
        file["row"] = np.asarray(ranks.row, np.int64)
        file["similarity"] = np.asarray(ranks.similarity, np.float32)
        if ranks.inliers is not None:
            file["inliers"] = np.asarray(ranks.inliers, np.int32)


def read_ranks(path: str | Path) -> Ranks:
    """Read ranked lists; errors as of `open_file`, and FileFormatError for columns that do not fit together."""
    with open_file(path, FORMAT, VERSION) as file:
        verified, header = plain_item(path, file, "inliers") is not None, header_of(path, file)
        columns = CheckedColumns(path, file, {**RULES, **INLIER_RULES} if verified else RULES)
        queries, names, row, similarity = (columns.read(name) for name in ("queries", "names", "row", "similarity"))
        inliers = columns.read("inliers") if verified else None
    return Ranks(queries, names, row, similarity, header.options, header.fingerprint, inliers)


def write_pairs(path: str | Path, ranks: Ranks, num_matched: int) -> int:
    """Write ``query name`` lines for hloc: the first `num_matched` of each query, best first; gives their number.

    Images of a negative similarity are no pairs, as in hloc, unless `min_similarity` was asked for.

    Raises
    ------
    UsageError
        A name holds spaces, or `num_matched` is less than 1.
    """
    if num_matched < 1:
        raise UsageError(f"num_matched must be at least 1, not {num_matched}")
    pairs = [(query, name) for i, query in enumerate(ranks.queries) for name in ranks.matched(i)[:num_matched]]
    return write_pair_list(path, pairs)
