"""Photos without a model: the one place where `tune` asks for models of them, and for what is in none."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retrieval.networks.choice import NetworkChoice
from retrieval.reconstruction.reconstruction import reconstruct
from retrieval.reconstruction.summary import ReconstructionSummary
from retrieval.reconstruction.work import is_ours
from retrieval.site.request import Say
from retrieval.tuple_files.distractors import ROLE
from sfm2tuples.compute.threads import own_cores
from sfm2tuples.errors import ReconstructionError, UsageError, counted
from sfm2tuples.files.atomic import write_text
from sfm2tuples.files.text import read_csv
from sfm2tuples.readers.discover import is_passed_over

UNREGISTERED = "unregistered.csv"
"""What `reconstruct` leaves of the photos that are in no model; here those of all folders."""


@dataclass(frozen=True)
class Reconstructed:
    """Models of loose photos."""

    models: Path
    """The folder that holds them, with a folder for each folder of photos."""
    distractors: Path | None
    """Photos that were verified against nothing, as `mine-tuples --distractors` takes them; None: there are none. Of
    several folders there are none, for a photo was compared with those of its own folder alone."""


def reconstruct_photos(
    roots: Sequence[Path], models: Path, choice: NetworkChoice, device: str | None, say: Say
) -> Reconstructed:
    """Make models of loose photos, or go on with that; what is there already is not made again.

    Models of folders that are not asked for any more are removed.

    Parameters
    ----------
    roots : sequence of Path
        Folders of photos.
    models : Path
        The folder for the models, in the site.
    choice : NetworkChoice
        Describes the photos where there are too many to compare them all.
    device : str, optional
        Where it runs.
    say : callable
        Gets lines for people.

    Raises
    ------
    ReconstructionError
        No model comes out of a folder.
    DataError
        As `reconstruct`.
    """
    models.mkdir(exist_ok=True)
    names = names_of_models(roots)
    for folder in sorted(models.iterdir()):
        if folder.name not in names and is_ours(folder):
            say(f"  models/{folder.name}: removed, since its photos are not asked for any more")
            shutil.rmtree(folder)
    rows = []
    for name, root in zip(names, roots, strict=True):
        try:
            found = reconstruct(root, models / name, choice, device=device, jobs=own_cores())
        except ReconstructionError as error:
            raise ReconstructionError(error.path, error.what, _remedy(error, len(roots) > 1)) from error
        _say(root, found, say)
        rows += _alone(models / name, name) if found.alone and len(roots) == 1 else []
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerows([("image", "label", "role"), *rows])
    path = models / UNREGISTERED
    if not path.is_file() or path.read_bytes() != table.getvalue().encode():
        write_text(path, table.getvalue())
    return Reconstructed(models, path if rows else None)


def refuse_site_among(roots: Sequence[Path], site: Path) -> None:
    """Refuse a site in a folder of loose photos, whose page would be taken for photos.

    Raises
    ------
    UsageError
        It lies in one of these.
    """
    for root in roots:
        if site.resolve().is_relative_to(root.resolve()):
            raise UsageError(f"{root}: the site lies in this folder of photos; give -o a folder elsewhere")


def names_of_models(roots: Sequence[Path]) -> list[str]:
    """A folder name for each root, unique, and text, since the list of unregistered photos has it.

    Models are looked for in it: a folder `images` goes by the folder that it lies in.
    """
    names: list[str] = []
    for root in roots:
        above = [
            os.fsencode(folder.name).decode("utf-8", "replace") for folder in (root.resolve(), root.resolve().parent)
        ]
        name = next((name for name in above if name and not is_passed_over(name)), "photos")
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names


def _remedy(error: ReconstructionError, is_one_of_several: bool) -> str:
    """What to do, for those who called `tune`, which has other flags than `reconstruct`."""
    said = [*filter(None, [error.remedy]), "these are flags of reconstruct, whose folder of models is a ROOT too"]
    if is_one_of_several:
        said.append("photos that need no model are searched where --images names their folder")
    return "; ".join(said)


def _say(root: Path, found: ReconstructionSummary, say: Say) -> None:
    for line in found.remade:
        say(f"  {line}")
    sizes = ", ".join(str(model.images) for model in found.models[:8])
    say(
        f"  {root}: {counted(len(found.models), 'model')} of {found.registered:,} of {counted(found.photos, 'photo')} "
        f"({sizes}{' …' if found.models[8:] else ''}); verified against nothing: {found.alone:,}"
    )


def _alone(folder: Path, name: str) -> list[tuple[str, str, str]]:
    """Photos of a folder that were verified against nothing, by paths relative to the folder of all models."""
    listed = read_csv(folder / UNREGISTERED, ("image", "label", "role"))
    return [(f"{name}/images/{row['image']}", f"{name}/{row['label']}", ROLE) for row in listed if row["role"] == ROLE]
