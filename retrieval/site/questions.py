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
from retrieval.photos.choices import BILINEAR, STORED
from retrieval.photos.decoding import load_photo
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


@dataclass(frozen=True)
class Answers:
    """What was found for one photo, best first."""

    photo: Path
    """The photo that was asked for."""
    answers: tuple[Answer, ...]


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
        sources = [Path(photo) for photo in photos]
        plain = self._plain(len(sources))
        if plain is not None:
            size = int(self.descriptors.settings["image_size"])
            return np.stack([plain.describe(load_photo(photo, size), str(photo)) for photo in sources])
        from retrieval.descriptors.extraction import extract

        return extract(self.network, sources, self.extraction, [str(photo) for photo in sources])

    def _plain(self, count: int) -> PlainNetwork | None:
        """The network without torch, where that is quicker and the same: torch takes longer to load than a few photos.

        None where it is not: for many photos, on a device that was named, or with torch at hand already.
        """
        settings = self.descriptors.settings
        usual = {"scales": [1.0], "precision": "fp32", "filter": BILINEAR, "upright": STORED}
        if any(settings.get(name, value) != value for name, value in usual.items()):
            return None
        if count > FEW or self._device is not None or "torch" in sys.modules or not self.files.layers.is_file():
            return None
        plain = read_layers(self.files.layers)
        return plain if plain.runs and plain.network == settings.get("network") else None

    def ask(self, photo: str | Path, num_results: int = 10) -> list[Answer]:
        """The nearest photos of the site, best first; a photo of the site does not find itself."""
        return list(self.ask_all([photo], num_results)[0].answers)

    def ask_all(self, photos: Sequence[str | Path], num_results: int = 10) -> list[Answers]:
        """`ask` for several photos.

        Raises
        ------
        PhotoError
            A photo is absent or cannot be read.
        UsageError
            No photo, or no result, is asked for.
        """
        if not photos or num_results < 1:
            raise UsageError("ask for one photo or more, and for one result or more")
        sources = [Path(photo) for photo in photos]
        for source in sources:
            if not source.is_file():
                raise PhotoError(source, "no such photo")
        similarity = self.describe(sources) @ self.descriptors.values.T
        return [
            Answers(source, self._nearest(source, row, num_results))
            for source, row in zip(sources, similarity, strict=True)
        ]

    def _nearest(self, source: Path, similarity: np.ndarray, count: int) -> tuple[Answer, ...]:
        """The nearest of one photo, but for itself; ties by the lower row."""
        photos, own = self.photos, str(source.resolve())
        count = min(count + 1, len(similarity))
        first = np.argpartition(-similarity, count - 1)[:count]
        # What is as similar as the last of them may stand in a lower row.
        near = np.flatnonzero(similarity >= similarity[first].min())
        order = near[np.lexsort((near, -similarity[near]))]
        others = [row for row in order.tolist() if str(Path(photos.files[row]).resolve()) != own][: max(1, count - 1)]
        return tuple(
            Answer(i, float(similarity[row]), photos.names[row], Path(photos.files[row]), photos.places[row])
            for i, row in enumerate(others, 1)
        )


def reranked(found: Answers, inliers: Sequence[int]) -> Answers:
    """The same with the photos that share most local features first; `inliers` is one number an answer."""
    counted = [replace(one, inliers=count) for one, count in zip(found.answers, inliers, strict=True)]
    ordered = sorted(counted, key=lambda one: -(one.inliers or 0))
    return Answers(found.photo, tuple(replace(one, rank=rank) for rank, one in enumerate(ordered, 1)))


def place_text(answer: Answer) -> str:
    """What a photo shows, for people."""
    return answer.place if answer.place != NO_PLACE else "-"
