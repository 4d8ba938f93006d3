"""Naive versions of what a site's relations mean (method.md section 12): pair by pair, from the words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def images_proven(index: Any, i: int, j: int, apart: bool) -> bool:
    """Whether two images of an index are proven to show different things: of two places, or a proven negative."""
    place, model, inside = index.image_place, index.images.model, index.inside
    if place[i] != place[j]:
        return True
    graph = index.covisibility
    if j in graph.neighbour[graph.indptr[i] : graph.indptr[i + 1]].tolist():
        return False
    if not (inside.takes_part[i] and inside.takes_part[j]):
        return False
    if model[i] != model[j]:
        return apart
    return j not in inside.other[inside.indptr[i] : inside.indptr[i + 1]].tolist()


def photos_proven(index: Any, one: Sequence[int], other: Sequence[int], apart: bool) -> bool:
    """Whether two photos are: each image of the one and each of the other, which lie in the same models.

    A photo of several models tells nothing of an image of one of them that another of its models does not hold.
    """
    return all(images_proven(index, i, j, apart) for i in one for j in other)


def junk_and_positives(
    index: Any, members: Sequence[Sequence[int]], query: int, min_shared: int, apart: bool, walk: Sequence[bool]
) -> tuple[set[int], set[int]]:
    """Positives and junk of one photo among those of a database; `members` has the images of each photo.

    An image of a held-out walk is neither right nor wrong for another of it.
    """
    graph, positives, junk = index.covisibility, set(), {query}
    for photo, images in enumerate(members):
        if photo == query:
            continue
        shared = [
            int(graph.shared[edge])
            for i in members[query]
            for edge in range(graph.indptr[i], graph.indptr[i + 1])
            if graph.neighbour[edge] in images
        ]
        if walk[query] and walk[photo]:
            junk.add(photo)
        elif max(shared, default=0) >= min_shared:
            positives.add(photo)
        elif not photos_proven(index, members[query], images, apart):
            junk.add(photo)
    return positives, junk


def nearest_allowed(
    similarity: Sequence[float], places: Sequence[int], allowed: Sequence[bool], count: int, one_a_place: bool
) -> list[int]:
    """Sort the whole pool, walk down, skip what is not allowed and, for N2, places that were used: positions."""
    found: list[int] = []
    for i in sorted(range(len(places)), key=lambda i: (-similarity[i], i)):
        used = one_a_place and places[i] in {places[f] for f in found}
        if allowed[i] and not used and len(found) < count:
            found.append(i)
    return found
