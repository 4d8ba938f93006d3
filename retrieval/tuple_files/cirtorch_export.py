"""A tuple file as cirtorch's training data: pickles, and every photo as a JPEG below the id that it gets."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval.photos.decoding import PhotoSource, pack_photo
from retrieval.photos.elsewhere import threads_for
from retrieval.photos.packing import BATCH, THREADS
from retrieval.photos.sources import photos_of_tuples
from sfm2tuples.compute.progress_bars import ProgressBar
from sfm2tuples.errors import DataError, PhotoError
from sfm2tuples.files.atomic import OurFolder, refuse_folder_overwrite, write_folder_atomically, write_text
from sfm2tuples.files.remote.address import Address
from sfm2tuples.files.room import require_room
from sfm2tuples.index.schema import SPLITS, TRAIN
from sfm2tuples.interop.cirtorch_files import PHOTOS, CirtorchSplit, photo_path, pickle_names, write_cirtorch
from sfm2tuples.interop.cirtorch_tables import to_cirtorch, tuple_pairs
from sfm2tuples.mining.tuple_file import TupleFile, read_tuples

IMAGE_SIZE = 1024
"""Longest side of the released photos in pixels."""
LIST = "images.csv"
"""Says which photo each id is. Released data sets have none, so it tells that `export` made the folder."""
COLUMNS = ("split", "cid", "cluster", "place", "key")
"""Of the list."""
CID_LENGTH = 32
"""Hexadecimal digits of an id, as many as the released ones have."""
NAME_PREFIX = "retrieval-SfM"
"""cirtorch opens data sets of such names only."""


@dataclass(frozen=True)
class CirtorchExport:
    """What was written."""

    splits: dict[str, CirtorchSplit]
    """By split name."""
    pairs_left_out: int
    """Pairs of photos that could not be read."""
    pairs_across: int
    """Pairs of a held-out walk's image and one for training: no split of cirtorch's has both."""
    unreadable: list[PhotoError]
    """The photos that could not be read and are left out."""
    image_size: int
    """Longest side of the photos, in pixels, at most."""


def export_cirtorch(source: Path, target: Path, image_size: int | None = None) -> CirtorchExport:
    """Write the folder of a tuple file; it appears whole or not at all.

    Parameters
    ----------
    source : Path
        The tuple file.
    target : Path
        The folder to make; the pickles bear its name. One that is there is replaced.
    image_size : int, optional
        Longest side of the photos in pixels; by default that of the packed photos, else `IMAGE_SIZE`. Packed photos
        are taken where they are large enough, else the files. A JPEG that is small enough is copied byte for byte.

    Raises
    ------
    DataError, FileFormatError
        It is no tuple file, has no training tuples, or none of its photos can be read.
    """
    tuples = read_tuples(source)
    if len(tuples.tuples[SPLITS[TRAIN]].query) == 0:
        raise DataError(source, "has no training tuples to export", "mine again")
    size = image_size or tuples.packed_size or IMAGE_SIZE
    if size == tuples.packed_size:
        require_room(target, int(tuples.photo_indptr[-1]))
    with write_folder_atomically(target) as folder:
        cids, unreadable = _write_photos(folder, tuples, size)
        if not any(cids):
            raise DataError(source, f"none of its {len(cids):,} photos can be read, first: {unreadable[0]}")
        splits = to_cirtorch(tuples, cids)
        write_cirtorch(folder, pickle_names(target.absolute()), splits)
        write_text(folder / LIST, _list(tuples, cids))
    query, positive = np.concatenate([tuple_pairs(tuples.tuples[name]) for name in SPLITS], axis=1)
    pairs, across = len(query), int((tuples.image_split[query] != tuples.image_split[positive]).sum())
    left_out = pairs - across - sum(len(split.qidxs) for split in splits.values())
    return CirtorchExport(splits, left_out, across, unreadable, size)


def check_cirtorch_target(target: Path, force: bool) -> None:
    """Refuse a folder that exists, unless it is an earlier export (or empty) and `force` is set.

    Raises
    ------
    UsageError
        The target may not be replaced.
    DataError
        The folder that should hold it does not exist.
    """
    names = (*pickle_names(target.absolute()), PHOTOS, LIST)
    mark = ",".join(COLUMNS).encode()
    refuse_folder_overwrite(target, force, OurFolder("folder that export made", names, LIST, mark))


def cautions(target: Path, splits: dict[str, CirtorchSplit], num_negatives: int = 5) -> list[str]:
    """What cirtorch would stumble over, a line each."""
    name, found = target.absolute().name, []
    if not name.startswith(NAME_PREFIX):
        found.append(f"cirtorch opens only data sets whose name begins with {NAME_PREFIX}, and this is {name}")
    for split, lists in splits.items():
        places = len(np.unique(lists.cluster))
        if len(lists.qidxs) and places <= num_negatives:
            found.append(
                f"{split} has {places} places: cirtorch needs {num_negatives + 1} for {num_negatives} negatives"
            )
    return found


def _write_photos(folder: Path, tuples: TupleFile, size: int) -> tuple[list[str], list[PhotoError]]:
    """Write the tree; the id of every image ("" for one that cannot be read), and what is wrong with those."""
    cids: list[str] = []
    taken: set[str] = set()
    unreadable: list[PhotoError] = []
    for key, photo in _packed(tuples, size):
        if isinstance(photo, PhotoError):
            unreadable.append(photo)
            cids.append("")
            continue
        cid = _cid(key, photo, taken)
        path = folder / PHOTOS / photo_path(cid)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo)
        cids.append(cid)
    return cids, unreadable


def _packed(tuples: TupleFile, size: int) -> Iterator[tuple[str, bytes | PhotoError]]:
    """JPEG bytes of every image, in order, made by a few threads; few are in memory at a time."""
    photos = photos_of_tuples(tuples, size)

    def pack(source: PhotoSource, key: str) -> bytes | PhotoError:
        try:
            return pack_photo(source, size, None if isinstance(source, Path | Address) else key)
        except PhotoError as error:
            return error

    bar = ProgressBar(total=len(photos.keys), desc="export", unit="photo")
    with bar, ThreadPoolExecutor(threads_for(photos.sources, THREADS)) as threads:
        for start in range(0, len(photos.keys), BATCH):
            keys, sources = photos.keys[start : start + BATCH], photos.sources[start : start + BATCH]
            for key, photo in zip(keys, threads.map(pack, sources, keys), strict=True):
                yield key, photo
                bar.update()


def _cid(key: str, photo: bytes, taken: set[str]) -> str:
    """An id from the content; from the key too where another image has the same content."""
    cid = hashlib.sha256(photo).hexdigest()[:CID_LENGTH]
    if cid in taken:
        cid = hashlib.sha256(photo + key.encode("utf-8", "surrogateescape")).hexdigest()[:CID_LENGTH]
    taken.add(cid)
    return cid


def _list(tuples: TupleFile, cids: list[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    clusters = tuples.image_place.tolist()
    for row, (cid, place) in enumerate(zip(cids, tuples.images.place.tolist(), strict=True)):
        if cid:
            split = SPLITS[int(tuples.places.split[place])]
            writer.writerow([split, cid, clusters[row], tuples.places.name[place], tuples.images.key[row]])
    return text.getvalue()
