"""Why none of a model's photos was found, for the line that says so."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sfm2tuples.errors import first_three
from sfm2tuples.files.remote.address import Address
from sfm2tuples.readers.discover import ModelLocation, PhotoFolder, photo_folders


def where_photos_may_be(location: ModelLocation, overrides: Sequence[PhotoFolder], name: str) -> str:
    """Say where a model's photos were looked for, what may be the cause, and what to do.

    Parameters
    ----------
    location : ModelLocation
    overrides : sequence of PhotoFolder
        What the user gave with `--images`.
    name : str
        Name of one of its images.
    """
    found = photo_folders(location, overrides)
    folders = [folder for folder in found if isinstance(folder, Path) and os.path.isdir(folder)]
    elsewhere = [str(folder) for folder in found if isinstance(folder, Address)]
    for folder in folders:
        other = _in_another_case(folder, name)
        if other is not None:
            return f"{other} is there, whose name differs in upper and lower case: rename the photos or the images"
    for folder in folders:
        for parent in Path(os.path.normpath(folder.absolute())).parents:
            if location.scene.parent in parent.parents and os.path.isfile(parent / name):
                return f"{parent / name} is there: give --images {parent}"
    for link in found:
        if isinstance(link, Path) and os.path.islink(link) and not os.path.exists(link):
            what = f"{location.called(link)} is a link to {os.readlink(link)}, where nothing is"
            return f"{what}; let it lead to the photos, or give --images DIR, the folder that the names start from"
    seen = [*map(location.called, folders), *elsewhere]
    looked = f"looked in {first_three(seen)}" if seen else "there is no images/ near the model"
    return f"{looked}; give --images DIR, the folder that the names start from"


def _in_another_case(folder: Path, name: str) -> Path | None:
    """A photo whose name is the image's but for upper and lower case."""
    path = folder / name
    if not os.path.isdir(path.parent):
        return None
    alike = sorted(entry for entry in os.listdir(path.parent) if entry.lower() == path.name.lower())
    return path.parent / alike[0] if alike else None
