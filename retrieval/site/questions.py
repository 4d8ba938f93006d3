"""`ask`: the photos of a site that are nearest to a new one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retrieval.networks.numpy_forward import PlainNetwork, read_layers
from retrieval.photos.choices import BILINEAR, EXIF, STORED
from retrieval.photos.decoding import load_oriented, turned
from retrieval.site.photo_list import NO_PLACE, PhotoList, read_photo_list
from retrieval.site.site_files import SiteFiles
from sfm2tuples.errors import DataError, PhotoError, UsageError
from sfm2tuples.files.descriptors import Descriptors, read_descriptors

if TYPE_CHECKING:
    from retrieval.descriptors.extraction import ExtractionOptions
    from retrieval.networks.network import Network


FEW = 8
"""Photos up to which a question is quicker without torch: it takes one to two seconds to load."""


@dataclass(frozen=True)
class Answer:
    """One photo that was found."""

    rank: int
    """From 1."""
    similarity: float
    """Cosine to the photo that was asked for."""
    name: str
    """Name of the photo in the site."""
    file: Path
    """Where it lies."""
    place: str
    """What it shows; empty where it is in no model."""
    inliers: int | None = None
    """Matches of local features that agree; None where nobody looked."""
    verified: bool | None = None
    """Whether these are more than photos of different things share by chance; None where nobody looked."""


@dataclass(frozen=True)
class Answers:
    """What was found for one photo, best first."""

    photo: Path
    """The photo that was asked for."""
    answers: tuple[Answer, ...]

    @property
    def is_unverified(self) -> bool:
        """Whether somebody looked, and no answer is verified."""
        return bool(self.answers) and all(one.verified is False for one in self.answers)


class Site:
    """A site that `tune` made; its network and descriptors are read when they are first needed, and kept.

    Examples
    --------
    >>> site = Site.open("site/")  # doctest: +SKIP
    >>> site.ask("new.jpg")[0].place  # doctest: +SKIP
    'bridge'
    """

    def __init__(self, files: SiteFiles, device: str | None = None) -> None:
        self.files = files
        self._device = device

    @classmethod
    def open(cls, folder: str | Path, device: str | None = None) -> Site:
        """Open the site in a folder.

        Parameters
        ----------
        folder : str or Path
        device : str, optional
            Where its network runs; the processor where left out, since a question is one photo.

        Raises
        ------
        DataError
            There is no site, or `tune` has not ended.
        """
        files = SiteFiles(Path(folder))
        if not files.state.is_file():
            raise DataError(folder, "is no site", "make one: sfm2tuples tune ROOT... -o SITE")
        absent = [path.name for path in (files.network, files.descriptors, files.photos) if not path.is_file()]
        if absent:
            raise DataError(folder, f"has no {absent[0]} yet", "run tune again, which goes on")
        return cls(files, device)

    @cached_property
    def network(self) -> Network:
        """The site's network, its whitening inside: a `torch.nn.Module`."""
        from retrieval.networks.choice import load_network
        from retrieval.networks.devices import choose_device

        return load_network(self.files.network).to(choose_device(self._device or "cpu"))

    @cached_property
    def photos(self) -> PhotoList:
        """All photos that are searched, in the order of `descriptors`."""
        listed = read_photo_list(self.files.photos)
        row_of = {name: row for row, name in enumerate(listed.names)}
        unlisted = [name for name in self.descriptors.names if name not in row_of]
        if unlisted:
            raise DataError(self.files.photos, f"does not know {len(unlisted):,} photos", "run tune again")
        return listed.take([row_of[name] for name in self.descriptors.names])

    @cached_property
    def descriptors(self) -> Descriptors:
        """Their descriptors, (n, D) float32."""
        return read_descriptors(self.files.descriptors)

    @property
    def extraction(self) -> ExtractionOptions:
        """How they were described, and how a question is."""
        from retrieval.site.database import extraction_of

        return extraction_of(self.descriptors.settings)

    def describe(self, photos: Sequence[str | Path]) -> np.ndarray:
        """Descriptors of photos that are asked for: (n, D) float32.

        Raises
        ------
        PhotoError
            A photo is absent or cannot be read.
        """
        values, _, failures = self._describe_readable([Path(photo) for photo in photos])
        if failures:
            raise failures[0]
        return values

    def _describe_readable(self, sources: Sequence[Path]) -> tuple[np.ndarray, Sequence[int], list[PhotoError]]:
        """Descriptors of those that can be read (m, D) float32, their positions, and what is wrong with the others."""
        plain = self._plain(len(sources))
        if plain is None:
            from retrieval.descriptors.extraction import extract_readable

            names = [str(photo) for photo in sources]
            values, rows, failures = extract_readable(self.network, sources, self.extraction, names)
            return values, rows.tolist(), failures
        settings = self.descriptors.settings
        size, is_turned = int(settings["image_size"]), settings.get("upright", STORED) == EXIF
        found: dict[int, np.ndarray] = {}
        failures = []
        for row, photo in enumerate(sources):
            try:
                seen, orientation = load_oriented(photo, size)
                found[row] = plain.describe(turned(seen, orientation) if is_turned else seen, str(photo))
            except PhotoError as error:
                failures.append(error)
        width = self.descriptors.values.shape[1]
        return np.array(list(found.values()), np.float32).reshape(-1, width), list(found), failures

    def _plain(self, count: int) -> PlainNetwork | None:
        """The network without torch, where that is quicker and the same: torch takes longer to load than a few photos.

        None where it is not: for many photos, on a device that was named, or with torch at hand already.
        """
        settings = self.descriptors.settings
        usual = {"scales": [1.0], "precision": "fp32", "filter": BILINEAR}
        if any(settings.get(name, value) != value for name, value in usual.items()):
            return None
        if count > FEW or self._device is not None or "torch" in sys.modules or not self.files.layers.is_file():
            return None
        plain = self._layers
        return plain if plain.runs and plain.network == settings.get("network") else None

    @cached_property
    def _layers(self) -> PlainNetwork:
        """The network's layers, which NumPy runs."""
        return read_layers(self.files.layers)

    def searched(self, only_models: bool = False) -> np.ndarray:
        """Rows of the photos that are looked among: all, or those of models; (m,) int64, rising.

        Raises
        ------
        UsageError
            Those of models are asked for, and there are none.
        """
        if not only_models:
            return np.arange(len(self.photos.names))
        rows = np.flatnonzero([place != NO_PLACE for place in self.photos.places])
        if not len(rows):
            raise UsageError(f"{self.files.folder}: none of its photos is in a model; ask among all of them")
        return rows

    def ask(self, photo: str | Path, num_results: int = 10, only_models: bool = False) -> list[Answer]:
        """The nearest photos of the site, or of its models, best first; a photo of the site does not find itself."""
        return list(self.ask_all([photo], num_results, only_models)[0].answers)

    def ask_all(self, photos: Sequence[str | Path], num_results: int = 10, only_models: bool = False) -> list[Answers]:
        """`ask` for several photos.

        Raises
        ------
        PhotoError
            A photo is absent or cannot be read.
        UsageError
            No photo, or no result, is asked for.
        """
        found, failures = self.ask_readable(photos, num_results, only_models)
        if failures:
            raise failures[0]
        return found

    def ask_readable(
        self, photos: Sequence[str | Path], num_results: int = 10, only_models: bool = False
    ) -> tuple[list[Answers], list[PhotoError]]:
        """`ask_all` for the photos that can be read, and an error for each of the others.

        Raises
        ------
        UsageError
            As `ask_all`.
        """
        if not photos or num_results < 1:
            raise UsageError("ask for one photo or more, and for one result or more")
        searched = self.searched(only_models)
        sources = [Path(photo) for photo in photos]
        described, rows, failures = self._describe_readable(sources)
        similarity = described @ self.descriptors.values[searched].T
        return [
            Answers(sources[row], self._nearest(sources[row], values, searched, num_results))
            for row, values in zip(rows, similarity, strict=True)
        ], failures

    def _nearest(self, source: Path, similarity: np.ndarray, searched: np.ndarray, count: int) -> tuple[Answer, ...]:
        """The nearest of one photo among the searched rows, but for itself; ties by the lower row."""
        photos, own = self.photos, str(source.resolve())
        # One more than is asked for, since the photo itself may be among them.
        most = min(count + 1, len(similarity))
        first = np.argpartition(-similarity, most - 1)[:most]
        # What is as similar as the last of them may stand in a lower row.
        near = np.flatnonzero(similarity >= similarity[first].min())
        order = near[np.lexsort((near, -similarity[near]))]
        similar = dict(zip(searched[order].tolist(), similarity[order].tolist(), strict=True))
        others = [row for row in similar if str(Path(photos.files[row]).resolve()) != own][:count]
        return tuple(
            Answer(i, similar[row], photos.names[row], Path(photos.files[row]), photos.places[row])
            for i, row in enumerate(others, 1)
        )


def reranked(found: Answers, inliers: Sequence[int], least: int) -> Answers:
    """The same with the verified photos first, those that share most local features before others.

    Parameters
    ----------
    found : Answers
    inliers : sequence of int
        Matches that agree, one number an answer.
    least : int
        With fewer a photo is not verified: its number is chance, and says nothing of its place among such photos.
    """
    counted = [
        replace(one, inliers=count, verified=count >= least) for one, count in zip(found.answers, inliers, strict=True)
    ]
    ordered = sorted(counted, key=lambda one: -(one.inliers or 0) if one.verified else 0)
    return Answers(found.photo, tuple(replace(one, rank=rank) for rank, one in enumerate(ordered, 1)))


def place_text(answer: Answer) -> str:
    """What a photo shows, for people."""
    return answer.place if answer.place != NO_PLACE else "-"
