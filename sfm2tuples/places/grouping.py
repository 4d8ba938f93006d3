"""Join models into places: evidence that two models show the same thing, and groups of models that it connects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import numpy as np

MOST_HOLDERS = 16
"""Of the models that hold one photo, so many are compared with all later ones, which bounds the pairs."""
_BETWEEN = "; "


@dataclass(frozen=True)
class Join:
    """Evidence that two models show the same place; without photos and matches they lie in the same scene folder."""

    first: int
    """Row of a model."""
    second: int
    """Row of another model, higher than `first`."""
    photos: int = 0
    """Photos of the same content that both hold."""
    image_pairs: int = 0
    """Pairs of images, one of each model, that COLMAP verified."""
    matches: int = 0
    """Inlier matches of these pairs together."""


@dataclass(frozen=True)
class Grouping:
    """Models grouped into places."""

    place: np.ndarray
    """(m,) int64, row of each model's place; places are numbered by their first model."""
    name: list[str]
    """Name of each place."""
    reason: list[str]
    """Why the models of a place were joined: evidence that connects them all; empty for a place of one model."""
    contradictions: list[str]
    """Evidence that the places file overrules, one line each."""


def photo_joins(photo: np.ndarray, has_photo: np.ndarray, model: np.ndarray) -> list[Join]:
    """Pairs of models that hold photos of the same content.

    Time and memory are linear in the images, besides a sort of those whose photo another model has too.

    Parameters
    ----------
    photo : (n,) int64
        By image: the first row whose photo has the same content.
    has_photo : (n,) bool
        Whether the photo is there.
    model : (n,) int64
        Row of the model, rising.

    Returns
    -------
    list of Join
        Each model with the first `MOST_HOLDERS` that hold the photo: all pairs where no photo is in more models, and
        always as many as connect them.
    """
    in_several = np.zeros(len(photo), bool)
    in_several[photo[has_photo & (model[photo] != model)]] = True
    rows = np.flatnonzero(has_photo & in_several[photo])
    holders = np.unique(np.stack([photo[rows], model[rows]], axis=1), axis=0)
    starts = np.flatnonzero(np.diff(holders[:, 0], prepend=-1))
    rank = np.arange(len(holders)) - np.repeat(starts, np.diff(np.append(starts, len(holders))))
    pairs = [np.zeros((0, 2), np.int64)]
    for number in range(min(MOST_HOLDERS, int(rank.max(initial=0)))):
        later = np.flatnonzero(rank > number)
        pairs.append(np.stack([holders[later - rank[later] + number, 1], holders[later, 1]], axis=1))
    joined, counts = np.unique(np.concatenate(pairs), axis=0, return_counts=True)
    return [Join(a, b, photos=count) for (a, b), count in zip(joined.tolist(), counts.tolist(), strict=True)]


def scene_joins(scenes: Sequence[Path], photo_roots: Sequence[str]) -> list[Join]:
    """Pairs of models of one scene folder and one photo root: photos of one folder most likely show one site.

    Parameters
    ----------
    scenes : sequence of Path
    photo_roots : sequence of str
        "" where a model has no photos. Models that only share a photo root are not joined: it may be a collection.

    Returns
    -------
    list of Join
        Each model with the first one of its scene.
    """
    first: dict[tuple[Path, str], int] = {}
    pairs = [(first.setdefault(key, model), model) for model, key in enumerate(zip(scenes, photo_roots, strict=True))]
    return [Join(a, b) for a, b in pairs if a != b]


def group_models(
    names: Sequence[str], scenes: Sequence[Path], joins: Sequence[Join], listed: Sequence[str | None]
) -> Grouping:
    """Group models into places: connected components of the evidence, overruled by the places file.

    Evidence is taken from the strongest to the weakest: shared photos, then verified matches, then the scene folder.
    Evidence that would connect two places of the file is reported and left out, so a model that is not listed stays
    with the models that it has most in common with. Evidence that connects nothing new is no reason: a place of m
    models has m - 1 reasons.

    Parameters
    ----------
    names : sequence of str
        Names of the models, for the reasons.
    scenes : sequence of Path
        Their scene folders, which name the places that the file does not.
    joins : sequence of Join
    listed : sequence of str or None
        By model: its place in the file.
    """
    groups = nx.utils.UnionFind(range(len(names)))
    used: list[Join] = []
    contradictions: list[str] = []
    label: dict[int, str] = {}
    members: dict[str, list[int]] = defaultdict(list)
    for model, place in enumerate(listed):
        if place is not None:
            members[place].append(model)
            groups.union(members[place][0], model)
            label[groups[model]] = place
    for join in sorted(joins, key=lambda j: (-j.photos, -j.image_pairs, -j.matches, j.first, j.second)):
        a, b = groups[join.first], groups[join.second]
        if a == b:
            continue
        if a in label and b in label:
            text = _evidence(join, names)
            contradictions.append(f"places {label[a]} and {label[b]} stay apart as listed, against: {text}")
            continue
        named = label.get(a, label.get(b))
        groups.union(a, b)
        if named is not None:
            label[groups[a]] = named
        used.append(join)
    return _numbered(groups, label, _reasons(used, members, names), contradictions, scenes)


def reasons_of(reason: str) -> list[str]:
    """The single reasons that `Grouping.reason` holds of a place."""
    return reason.split(_BETWEEN) if reason else []


def _evidence(join: Join, names: Sequence[str]) -> str:
    """One piece of evidence as a person reads it."""
    both = f"{names[join.first]} and {names[join.second]}"
    if join.photos:
        return f"{both} share {join.photos:,} {'photo' if join.photos == 1 else 'photos'}"
    if join.image_pairs:
        pairs = f"{join.image_pairs:,} image {'pair' if join.image_pairs == 1 else 'pairs'}"
        return f"{both}: {join.matches:,} verified matches over {pairs}"
    return f"same scene folder: {both}"


def _reasons(used: Sequence[Join], members: dict[str, list[int]], names: Sequence[str]) -> list[tuple[int, str]]:
    """Reasons, each with a model of the place that it is for: the file, then shared photos, matches, scene folders.

    All models that one folder joins, or one place of the file, have one reason together.
    """
    scenes: dict[int, list[int]] = {}
    for join in used:
        if not (join.photos or join.image_pairs):
            scenes.setdefault(join.first, [join.first]).append(join.second)
    listed = [rows for rows in members.values() if len(rows) > 1]
    return [
        *((rows[0], f"places file: {', '.join(names[row] for row in rows)}") for rows in listed),
        *((j.first, _evidence(j, names)) for j in used if j.photos or j.image_pairs),
        *((first, f"same scene folder: {', '.join(names[row] for row in rows)}") for first, rows in scenes.items()),
    ]


def _numbered(
    groups: nx.utils.UnionFind,
    label: dict[int, str],
    reasons: Sequence[tuple[int, str]],
    contradictions: list[str],
    scenes: Sequence[Path],
) -> Grouping:
    """Number the groups by their first model, name them, and give each its reasons."""
    rows: dict[int, int] = {}
    place = np.array([rows.setdefault(groups[model], len(rows)) for model in range(len(scenes))], np.int64)
    firsts = np.unique(place, return_index=True)[1].tolist()
    names = _place_names([label.get(root) for root in rows], [scenes[first].name or "place" for first in firsts])
    texts: dict[int, list[str]] = defaultdict(list)
    for model, text in reasons:
        texts[int(place[model])].append(text)
    return Grouping(place, names, [_BETWEEN.join(texts[row]) for row in range(len(names))], contradictions)


def _place_names(listed: Sequence[str | None], scenes: Sequence[str]) -> list[str]:
    """The file's name of each place, else its scene's, with the first free number where that is taken."""
    taken = {name for name in listed if name is not None}
    last: dict[str, int] = {}
    names: list[str] = []
    for name, scene in zip(listed, scenes, strict=True):
        unique, number = scene, last.get(scene, 1)
        while name is None and unique in taken:
            # Numbers are counted on from the last, so that a hundred thousand scenes of one name stay linear.
            number += 1
            unique = f"{scene}_{number}"
        if name is None:
            last[scene] = number
            taken.add(unique)
        names.append(unique if name is None else name)
    return names
