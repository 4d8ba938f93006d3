"""Which photos a site searches: those of its models, those in no model, and those that were added."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from retrieval.site.photo_list import NO_PLACE, PhotoList
from retrieval.site.state import size_and_time
from sfm2tuples.index.opened import OpenedIndex
from sfm2tuples.mining.photo_keys import key_of, key_root
from sfm2tuples.places.photo_contents import number_photos


def photos_of_models(index: OpenedIndex) -> PhotoList:
    """The photos of an index, each content once, under the key of its first image.

    Links that lead to their folders are followed: one in the site's own models would lead nowhere if the site is moved.
    """
    images, roots, places = index.images, _real_roots(index), index.places
    rows = np.flatnonzero(images.has_photo[:])
    _, first = np.unique(images.photo[rows], return_index=True)
    rows = rows[np.sort(first)]
    model, place, keys, names = images.model[rows], images.place[rows], images.key[rows], images.name[rows]
    first_of = {key: i for i, key in reversed(list(enumerate(keys)))}
    kept = [i for i, key in enumerate(keys) if first_of[key] == i]
    files = [str(Path(roots[model[i]], names[i])) for i in kept]
    shown = [places.name[place[i]] for i in kept]
    return PhotoList([keys[i] for i in kept], files, shown, [list(size_and_time(Path(file))) for file in files])


def with_loose_photos(
    known: PhotoList, photos: Sequence[tuple[Path, Path]], index: OpenedIndex
) -> tuple[PhotoList, int]:
    """Add photos that are in no model; one of the same content as another is left out.

    Parameters
    ----------
    known : PhotoList
        Of the models.
    photos : sequence of (Path, Path)
        Each photo's folder and path.
    index : OpenedIndex
        Its keys begin at a folder that names of photos begin at too.

    Returns
    -------
    photos : PhotoList
    copies : int
        Files, of models or in none, that have the same bytes as another one, and are left out for that.
    """
    images, roots = index.images, index.models.photo_root
    registered = [str(Path(roots[m], name)) for m, name in zip(images.model[:], images.name[:], strict=True)]
    files = registered + known.files + [str(path) for _, path in photos]
    content, there = number_photos(files, [str(row) for row in range(len(files))])
    first = len(registered) + len(known.files)
    fresh = [i for i in range(len(photos)) if there[first + i] and content[first + i] == first + i]
    base, taken = key_root(index), set(known.names)
    names, chosen = [], []
    for i in fresh:
        folder, path = photos[i]
        name = _free_name(key_of(path, folder, base), path, taken)
        taken.add(name)
        names.append(name)
        chosen.append(path.absolute())
    stamps = [list(size_and_time(path)) for path in chosen]
    every = np.array([os.path.realpath(file) for file in files])
    copies = len(np.unique(every[there])) - len(np.unique(content[there]))
    return known + PhotoList(names, [str(path) for path in chosen], [NO_PLACE] * len(names), stamps), copies


def _free_name(name: str, path: Path, taken: Collection[str]) -> str:
    """A name that no other photo has: its own, else its whole path, else with a number behind it."""
    for candidate in (name, path.absolute().as_posix()):
        if candidate not in taken:
            return candidate
    return next(found for i in range(2, len(taken) + 3) if (found := f"{name} #{i}") not in taken)


def registered_photos(index: OpenedIndex) -> list[Path]:
    """Files of the photos of an index, each once; links that lead to their folders are followed."""
    images, roots = index.images, _real_roots(index)
    columns = zip(images.model[:], images.name[:], images.has_photo[:], strict=True)
    return sorted({Path(roots[model], name) for model, name, there in columns if there})


def _real_roots(index: OpenedIndex) -> list[str]:
    """The folder of each model's photos; empty where it has none."""
    return [root and os.path.realpath(root) for root in index.models.photo_root]
