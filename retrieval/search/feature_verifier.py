"""Verification of short lists by local features, of which only what is compared is read from their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.local_features.feature_files import LocalFeatures, map_features, warn_if_found_otherwise
from retrieval.local_features.options import VerificationOptions
from retrieval.local_features.spatial_verification import PhotoFeatures, photo_features, verify
from sfm2tuples.errors import DataError, first_three, refuse_some


class FeatureTables:
    """Photos of one table of features or of several.

    Parameters
    ----------
    tables : sequence of LocalFeatures

    Raises
    ------
    DataError
        A table has a photo of the name of one in another table.
    """

    def __init__(self, tables: Sequence[LocalFeatures]) -> None:
        self._tables = tables
        self.fingerprints = [table.fingerprint for table in self._tables]
        self.settings = self._tables[0].settings if self._tables else {}
        self.origin = ", ".join(table.path for table in self._tables)
        self._at: dict[str, tuple[int, int]] = {}
        for number, table in enumerate(self._tables):
            doubled = [name for name in table.names if name in self._at]
            if doubled:
                what = f"{len(doubled):,} of its photos are in another file of features too, first"
                raise DataError(table.path, f"{what} {first_three(doubled)}", "give each photo once")
            self._at.update((name, (number, photo)) for photo, name in enumerate(table.names))
            warn_if_found_otherwise(table, self._tables[0])

    @classmethod
    def of_files(cls, paths: Sequence[Path]) -> FeatureTables:
        """Tables of files; their features stay there until they are asked for.

        Raises
        ------
        DataError
            A file is absent or torn, or as above.
        """
        return cls([map_features(path) for path in paths])

    @property
    def names(self) -> list[str]:
        """Names of all photos."""
        return list(self._at)

    def check_names(self, names: Sequence[str], what: str) -> None:
        """Refuse names of photos that have no features here; `what` is who names them.

        Raises
        ------
        DataError
        """
        absent = [name for name in names if name not in self._at]
        remedy = "extract features and descriptors of the same photos, from the same folder"
        refuse_some(self.origin, absent, len(names), f"{what} have no features here", remedy)

    def photo(self, name: str, box: np.ndarray | None = None) -> PhotoFeatures:
        """Features of a photo; only those inside of a box, where one is given."""
        number, photo = self._at[name]
        return photo_features(self._tables[number], photo, box)


class FeatureVerifier:
    """Counts inliers, see `ranked_lists.Verifier`.

    Parameters
    ----------
    tables : FeatureTables
    queries, database : sequences of str
        Names of photos in the tables, in the order of the queries and of the database's rows.
    options : VerificationOptions
    jobs : int
        Processes that verify.
    boxes : (q, 4) float64, optional
        Left, top, right, bottom in pixels of the query's file: features outside do not count.

    Raises
    ------
    DataError
        A photo has no features.
    """

    def __init__(
        self,
        tables: FeatureTables,
        queries: Sequence[str],
        database: Sequence[str],
        options: VerificationOptions,
        jobs: int = 1,
        boxes: np.ndarray | None = None,
    ) -> None:
        tables.check_names(queries, "queries")
        tables.check_names(database, "images of the database")
        self._tables, self._queries, self._database, self._boxes = tables, queries, database, boxes
        self._options, self._jobs, self.expand_inliers = options, jobs, options.expand_inliers

    @property
    def parents(self) -> list[str]:
        """Fingerprints of the files of features."""
        return self._tables.fingerprints

    def settings(self) -> dict[str, Any]:
        """What images were verified by, as plain values."""
        return {"verification": self._tables.settings | asdict(self._options)}

    def count(self, row: np.ndarray) -> np.ndarray:
        """See `ranked_lists.Verifier.count`."""
        return verify(
            self._asked(), row, lambda one: self._tables.photo(self._database[one]), self._options, self._jobs
        )

    def _asked(self) -> Iterator[PhotoFeatures]:
        for query, name in enumerate(self._queries):
            yield self._tables.photo(name, None if self._boxes is None else self._boxes[query])
