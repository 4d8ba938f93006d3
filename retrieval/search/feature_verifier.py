"""Verification of a descriptors' ranking by local features in files, of which only what is compared is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.local_features.feature_files import map_features, warn_if_found_otherwise
from retrieval.local_features.spatial_verification import PhotoFeatures, VerificationOptions, photo_features, verify
from retrieval.search.options import Refinement
from retrieval.search.verified_lists import NO_FEATURES
from sfm2tuples.errors import DataError, UsageError, first_three


@dataclass(frozen=True)
class VerificationSources:
    """What ``--rerank geometry:N`` compares, and how, as a command is told."""

    features: tuple[Path, ...] = ()
    """Files of features, made by ``extract-features``; together they hold the photos of queries and database."""
    options: VerificationOptions = field(default_factory=VerificationOptions)
    """How photos are verified."""
    jobs: int = 1
    """Processes that verify; changes no figure."""

    def check(self, refinement: Refinement) -> None:
        """Refuse features without verification, and the other way round.

        Raises
        ------
        UsageError
        """
        if refinement.num_verified and not self.features:
            raise UsageError(NO_FEATURES)
        if self.features and not refinement.num_verified:
            raise UsageError("--features are for --rerank geometry:N; leave them out, or ask for it")


class FeatureTables:
    """Photos of one file of features or of several; their features stay there until they are asked for.

    Parameters
    ----------
    paths : sequence of Path

    Raises
    ------
    DataError
        A file is absent or torn, or has a photo of the name of one in another file.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._tables = [map_features(path) for path in paths]
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
        if absent:
            raise DataError(
                self.origin,
                f"{len(absent):,} of {len(names):,} {what} have no features here, first {first_three(absent)}",
                "extract features and descriptors of the same photos, from the same folder",
            )

    def photo(self, name: str, box: np.ndarray | None = None) -> PhotoFeatures:
        """Features of a photo; only those inside of a box, where one is given."""
        number, photo = self._at[name]
        return photo_features(self._tables[number], photo, box)


class FeatureVerifier:
    """Counts inliers, see `verified_rankings.Verifier`.

    Parameters
    ----------
    tables : FeatureTables
    queries, database : sequences of str
        Names of photos in the tables, in the order of the queries and of the database's rows.
    sources : VerificationSources
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
        sources: VerificationSources,
        boxes: np.ndarray | None = None,
    ) -> None:
        tables.check_names(queries, "queries")
        tables.check_names(database, "images of the database")
        self._tables, self._queries, self._database, self._boxes = tables, queries, database, boxes
        self._options, self._jobs = sources.options, sources.jobs
        self.expand_inliers = sources.options.expand_inliers

    @property
    def parents(self) -> list[str]:
        """Fingerprints of the files of features."""
        return self._tables.fingerprints

    def settings(self) -> dict[str, Any]:
        """What images were verified by, as plain values."""
        return {"verification": self._tables.settings | asdict(self._options)}

    def count(self, row: np.ndarray) -> np.ndarray:
        """See `verified_rankings.Verifier.count`."""
        return verify(
            self._asked(), row, lambda one: self._tables.photo(self._database[one]), self._options, self._jobs
        )

    def _asked(self) -> Iterator[PhotoFeatures]:
        for query, name in enumerate(self._queries):
            yield self._tables.photo(name, None if self._boxes is None else self._boxes[query])
