"""The co-visibility graph for other programs: pairs of images for hloc, GraphML for graph tools."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfm2tuples.errors import UsageError, first_three, one_line
from sfm2tuples.files.atomic import write_atomically
from sfm2tuples.index.opened import OpenedIndex
from sfm2tuples.index.splits import SIDES
from sfm2tuples.interop.pair_lists import write_pair_list
from sfm2tuples.mining.queries import rank_in_run

MODEL, KEY = "model", "key"
NAMES = (MODEL, KEY)
MOST_EDGES = 500_000
"""Edges that graph tools still open; a GraphML file of more would be beyond 150 MB."""


@dataclass(frozen=True)
class Edges:
    """The graph between photos, each edge in both directions, rising by query; then most shared points first."""

    row: np.ndarray
    """(n,) int64, a row of the index for each photo: the first that has its name."""
    query: np.ndarray
    """(e,) int64, number of a photo."""
    other: np.ndarray
    """(e,) int64, number of its neighbour. Ties in shared points: lower number first."""
    shared: np.ndarray
    """(e,) int32, shared points."""
    edge: np.ndarray
    """(e,) int64, position in the index's graph."""


def write_neighbours(index: OpenedIndex, path: Path, num_matched: int = 20, names: str = MODEL) -> int:
    """Write hloc's list of pairs from co-visibility: of each image those with most shared points, a line a pair.

    Parameters
    ----------
    index : OpenedIndex
    path : Path
        The text file to write: ``name1 name2``, the images in the order of the index.
    num_matched : int
        Neighbours of an image at most. Ties: the image that is first in the index.
    names : str
        ``model``: the names that COLMAP has for the images. ``key``: the index's keys.

    Returns
    -------
    int
        Number of pairs.

    Raises
    ------
    UsageError
        Two photos have the same name, a name has spaces, or a value has no meaning.
    """
    if num_matched < 1:
        raise UsageError(f"num_matched must be at least 1, not {num_matched}")
    called = _names(index, names)
    edges = edges_between(index, called)
    first = rank_in_run(edges.query) < num_matched
    text = [called[row] for row in edges.row.tolist()]
    pairs = zip(edges.query[first].tolist(), edges.other[first].tolist(), strict=True)
    return write_pair_list(path, [(text[query], text[other]) for query, other in pairs])


def write_graphml(index: OpenedIndex, path: Path, places: Collection[str] = (), min_shared: int = 1) -> tuple[int, int]:
    """Write the graph as GraphML: a node a photo (name, place, split), an edge a pair (shared, scale_change, angle).

    Parameters
    ----------
    index : OpenedIndex
    path : Path
        The file to write. Angles are in radians; an angle or a scale change that is not known is left out.
    places : collection of str
        Names of the places to write; all by default.
    min_shared : int
        Pairs that share fewer points are left out.

    Returns
    -------
    nodes, edges : int

    Raises
    ------
    UsageError
        A place that the index does not have, or more than `MOST_EDGES` edges.
    """
    import networkx

    images = index.images
    unknown = sorted(set(places) - set(index.places.name))
    if unknown:
        raise UsageError(f"the index has no place {first_three(unknown)}; inspect lists its places")
    wanted = np.array([not places or name in places for name in index.places.name], bool)
    key, name, place, split = (column[:] for column in (images.key, images.name, images.place, images.split))
    wanted = wanted[place]
    edges = edges_between(index, key)
    keep = (edges.shared >= min_shared) & (edges.query < edges.other)
    keep &= wanted[edges.row[edges.query]] & wanted[edges.row[edges.other]]
    if keep.sum() > MOST_EDGES:
        raise UsageError(
            f"{int(keep.sum()):,} edges are more than graph tools open ({MOST_EDGES:,}); choose with --place NAME, or "
            "raise --min-shared"
        )
    graph = networkx.Graph()  # XML has no control characters, so names are escaped as in messages
    for row in edges.row[wanted[edges.row]].tolist():
        shows = {"name": one_line(name[row]), "place": one_line(index.places.name[place[row]])}
        graph.add_node(one_line(key[row]), **shows, split=SIDES[split[row]])
    scale_change, angle = index.graph.scale_change[:], index.graph.angle[:]
    for i in np.flatnonzero(keep).tolist():
        edge = edges.edge[i]
        evidence: dict[str, int | float] = {"shared": int(edges.shared[i])}
        known = {"angle": float(angle[edge]), "scale_change": float(scale_change[edge])}
        evidence |= {name: value for name, value in known.items() if not np.isnan(value)}
        ends = (one_line(key[row]) for row in edges.row[[edges.query[i], edges.other[i]]].tolist())
        graph.add_edge(*ends, **evidence)
    content = io.BytesIO()
    networkx.write_graphml(graph, content)
    with write_atomically(path) as temporary:
        temporary.write_bytes(content.getvalue())
    return graph.number_of_nodes(), graph.number_of_edges()


def edges_between(index: OpenedIndex, names: Sequence[str]) -> Edges:
    """The graph between names: images of the same name are one photo, and of two edges the one with more points counts.

    Parameters
    ----------
    index : OpenedIndex
    names : sequence of str
        Name of each image of the index.
    """
    indptr, neighbour, shared = index.graph.indptr[:], index.graph.neighbour[:], index.graph.shared[:]
    number_of = {name: number for number, name in enumerate(dict.fromkeys(names))}
    number = np.array([number_of[name] for name in names], np.int64)
    row = np.unique(number, return_index=True)[1].astype(np.int64)
    query, other = np.repeat(number, np.diff(indptr)), number[neighbour]
    edge = np.flatnonzero(query != other)
    edge = edge[np.lexsort((edge, -shared[edge], other[edge], query[edge]))]
    first = np.ones(len(edge), bool)
    first[1:] = (query[edge[1:]] != query[edge[:-1]]) | (other[edge[1:]] != other[edge[:-1]])
    edge = edge[first]
    edge = edge[np.lexsort((other[edge], -shared[edge], query[edge]))]
    return Edges(row, query[edge], other[edge], shared[edge], edge)


def _names(index: OpenedIndex, names: str) -> list[str]:
    """The names to write, checked."""
    if names not in NAMES:
        raise UsageError(f"names {names!r} is unknown; one of {', '.join(NAMES)}")
    key = index.images.key[:]
    called = index.images.name[:] if names == MODEL else key
    key_of: dict[str, str] = {}
    for name, own in zip(called, key, strict=True):
        if key_of.setdefault(name, own) != own:
            raise UsageError(one_line(f"{name} is the name of two photos, {key_of[name]} and {own}; give --names key"))
    return called
