"""Keys of photos that are beside an index: where its own keys start, and how others go on with them."""

from __future__ import annotations

from pathlib import Path

from sfm2tuples.files.remote.address import Address, AnyPath, photo_at
from sfm2tuples.index.opened import OpenedIndex


def key_root(index: OpenedIndex) -> AnyPath | None:
    """Folder that the index's keys are relative to; None where no photo's path ends in its key."""
    images, roots = index.images, index.models.photo_root
    for key, name, model, has_photo in zip(images.key, images.name, images.model, images.has_photo, strict=True):
        path, below = photo_at(roots[model], name), Path(key).parts
        if has_photo and path.parts[-len(below) :] == below:
            for _ in below:
                path = path.parent
            return path
    return None


def key_of(path: AnyPath, folder: AnyPath, root: AnyPath | None) -> str:
    """Key of a distractor: relative to the index's keys' folder if it lies there, else behind its own folder's name.

    Parameters
    ----------
    path, folder : Path or Address
        The photo, and the folder of distractors that holds it.
    root : Path, Address or None
        From `key_root`.
    """
    if isinstance(path, Address) or isinstance(folder, Address) or isinstance(root, Address):
        return _key_elsewhere(path, folder, root)
    if root is not None and path.resolve().is_relative_to(root.resolve()):
        return path.resolve().relative_to(root.resolve()).as_posix()
    return (Path(folder.resolve().name) / path.relative_to(folder)).as_posix()


def _key_elsewhere(path: AnyPath, folder: AnyPath, root: AnyPath | None) -> str:
    """As `key_of`, where something lies on another machine."""
    if isinstance(path, Address) and isinstance(root, Address) and path.is_below(root):
        return "/".join(path.parts[len(root.parts) :])
    name = folder.name if isinstance(folder, Address) else folder.resolve().name
    return "/".join([name, *path.parts[len(folder.parts) :]])
