"""Queries of an evaluation with what was found for them, as pictures with frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from retrieval.evaluation.evaluation_file import PhotoFinder
from retrieval.photos.decoding import SIDES_SWAPPED, photo_size, turned_box
from retrieval.reports.query_scores import Entry, QueryScore
from retrieval.reports.thumbnails import Thumbnails
from sfm2tuples.errors import PhotoError
from sfm2tuples.files.remote.address import AnyPath


@dataclass(frozen=True)
class CardPhoto:
    """A photo with its frame."""

    role: str
    """``query``, or one of `VERDICTS`; also its CSS class."""
    key: str
    """Its name."""
    url: str
    """Address of the picture; empty where the photo cannot be shown."""
    caption: str
    """What it is, in words: the frame's colour is not enough."""
    similarity: float | None = None
    """Cosine to the query, where the ranking is by it."""
    box: Markup | None = None
    """What is asked for of a query's photo, drawn over it."""


@dataclass(frozen=True)
class Way:
    """One way to answer: its name, its results by query, and how they are judged."""

    name: str
    entries: dict[str, Entry]
    judged: QueryScore

    def score(self, query: str) -> float:
        """What its answer to a query is worth."""
        return self.judged.of(self.entries[query])

    def rising(self) -> list[str]:
        """The queries, worst first; of equal ones that of lower average precision."""
        return sorted(self.entries, key=lambda query: (self.score(query), self.entries[query]["average_precision"]))


class Cards:
    """Makes cards of queries, each photo once.

    Parameters
    ----------
    photos : PhotoFinder
    thumbnails : Thumbnails
        Where the pictures go.
    num_ranked : int
        First ranked images of each query, not counting junk; as much junk among them is shown at most.
    titled_by_group : bool
        Whether a card's title is its query's place or label.
    """

    def __init__(self, photos: PhotoFinder, thumbnails: Thumbnails, num_ranked: int, titled_by_group: bool) -> None:
        self._titled_by_group = titled_by_group
        self._photos = photos
        self._thumbnails = thumbnails
        self._num_ranked = num_ranked
        self._numbers: dict[str, int] = {}

    def card(self, query: str, ways: Sequence[Way]) -> dict[str, Any]:
        """A query with the answers of some ways, as `answers.html.j2` shows it."""
        entry = ways[0].entries[query]
        name = str(entry["query"])
        return {
            "title": entry["group"] if self._titled_by_group else name,
            "query": CardPhoto("query", name, self._url(name), "query", box=self._box(name, entry.get("box"))),
            "positives": entry["positives"],
            "answers": [self._answer(name, way, query) for way in ways],
        }

    def _answer(self, name: str, way: Way, query: str) -> dict[str, Any]:
        """What a way found: the first ranked, and the right images beyond them: the first, and those ranked last."""
        entry = way.entries[query]
        pictures, more_junk = self._first(name, entry)
        shown = {picture.key for picture in pictures}
        late = entry["last"][::-1]
        if entry["ranks"] and entry.get("nearest") not in [one["image"] for one in late]:
            late = [{"image": entry.get("nearest"), "rank": entry["ranks"][0]}, *late]
        late = [one for one in late if one["image"] is not None and str(one["image"]) not in shown]
        return {
            "name": way.name,
            "score": way.judged.text(entry),
            "pictures": pictures,
            "more_junk": more_junk,
            "late": [self._late(one["image"], one["rank"]) for one in late],
        }

    def _first(self, name: str, entry: Entry) -> tuple[list[CardPhoto], int]:
        """The first ranked, without the query itself where it is junk, and the number of junk left out."""
        similarities = entry.get("similarities") or [None] * len(entry["first"])
        pictures: list[CardPhoto] = []
        rank, junk = 0, 0
        for key, verdict, similarity in zip(map(str, entry["first"]), entry["verdicts"], similarities, strict=True):
            if rank == self._num_ranked:
                break
            if verdict == "junk" and key == name:
                continue
            rank += verdict != "junk"
            junk += verdict == "junk"
            if verdict != "junk" or junk <= self._num_ranked:
                said = verdict if verdict == "junk" else f"{rank}: {verdict}"
                pictures.append(CardPhoto(verdict, key, self._url(key), said, similarity))
        return pictures, max(junk - self._num_ranked, 0)

    def _late(self, image: str | int, rank: int | None) -> CardPhoto:
        said = "never ranked" if rank is None else f"rank {rank + 1:,}"
        return CardPhoto("right", str(image), self._url(str(image)), f"right: {said}")

    def _url(self, key: str) -> str:
        number = self._numbers.setdefault(key, len(self._numbers))
        return self._thumbnails.url(number, key, self._source_of(key))

    def _source_of(self, key: str) -> Callable[[int], AnyPath]:
        def source(_: int) -> AnyPath:
            path = self._photos.path(key)
            if path is None:
                raise PhotoError(key, "no such photo")
            return path

        return source

    def _box(self, name: str, box: list[float] | None) -> Markup | None:
        """A query's box as a drawing that fits its photo, however large that is shown, and turned as that is."""
        path, url = self._photos.path(name), self._url(name)
        if box is None or path is None or not url:
            return None
        try:
            width, height = photo_size(path)
        except PhotoError:
            return None
        orientation = self._thumbnails.shape(url)[1]
        left, top, right, bottom = turned_box(np.array(box), width, height, orientation).tolist()
        if orientation in SIDES_SWAPPED:
            width, height = height, width
        return Markup('<svg class="box" viewBox="0 0 {} {}"><rect x="{}" y="{}" width="{}" height="{}"/></svg>').format(
            width, height, left, top, right - left, bottom - top
        )
