"""Photos without a model, for negatives only: a folder whose sub-folders are places, or a CSV of labels."""

from __future__ import annotations

from pathlib import Path

from retrieval.photos.names import leaves_root
from retrieval.photos.sources import photos_of
from sfm2tuples.errors import DataError, told_of
from sfm2tuples.files.regular_files import require_file
from sfm2tuples.files.remote.address import Address, AnyPath
from sfm2tuples.files.text import read_csv
from sfm2tuples.mining.photo_keys import key_of
from sfm2tuples.mining.photo_table import Distractors

ROLE = "distractor"


def read_distractors(source: AnyPath, key_root: AnyPath | None) -> Distractors:
    """List distractors and what each shows.

    Parameters
    ----------
    source : Path or Address
        A folder, here or elsewhere: the photos of each folder below it show one place. Or a CSV with the columns
        ``image,label``, images relative to the CSV's folder or to ``images/`` beside it; where it has a column ``role``
        too, only rows of role ``distractor`` count.
    key_root : Path, Address or None
        Folder that the index's keys are relative to.

    Raises
    ------
    DataError
        There is no such source, or it names no photo.
    """
    folder: AnyPath
    if isinstance(source, Address) or source.is_dir():
        folder, names = source, photos_of(source).keys
        own_name = source.name if isinstance(source, Address) else source.resolve().name
        labels = [Path(name).parent.as_posix() for name in names]
        labels = [own_name if label == "." else label for label in labels]
    else:
        names, labels = _read_labels(source)
        beside = source.parent
        folder = beside if (beside / names[0]).is_file() or not (beside / "images").is_dir() else beside / "images"
    keys = [key_of(folder / name, folder, key_root) for name in names]
    return Distractors(keys, [str(folder)] * len(names), names, labels)


def _read_labels(path: Path) -> tuple[list[str], list[str]]:
    """Images and labels of a CSV's distractors."""
    require_file(path, absent="no such file or folder")
    rows = [row for row in read_csv(path, ("image", "label")) if row.get("role") in (None, "", ROLE)]
    if not rows:
        raise DataError(path, "names no distractor")
    odd = [i for i, row in enumerate(rows) if not row["image"] or row["label"] is None or leaves_root(row["image"])]
    if odd:
        raise DataError(path, told_of(len(odd), "rows have no image and label, or an image outside the folder"))
    return [row["image"] for row in rows], [row["label"] for row in rows]
