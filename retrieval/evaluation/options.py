"""What the `evaluate` command is asked to measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from retrieval.protocols.by_name import ProtocolChoice
from retrieval.protocols.place_recognition import MAX_DISTANCE
from retrieval.protocols.sfm import MIN_SHARED
from retrieval.search.options import Refinement
from sfm2tuples.errors import UsageError


@dataclass(frozen=True)
class MeasurementOptions:
    """Which protocol, on which photos, and what answers its queries besides a network."""

    index: Path | None = None
    """An index: the SfM protocol on the places of `split`."""
    labels: Path | None = None
    """A CSV of image,label,role, or a folder whose sub-folders are labels: the protocol of labelled photos."""
    protocol: str | None = None
    """One of `protocols.choice.PROTOCOLS`."""
    data: Path | None = None
    """Its folder or file."""
    images: Path | None = None
    """Folder that the labelled photos' names start from; the CSV's own by default."""
    descriptors: Path | None = None
    """A descriptor file, in place of a network."""
    queries: Path | None = None
    """Descriptors of the queries, where they are in a file of their own."""
    rankings: Path | None = None
    """Ranked lists, in place of descriptors (see `rankings.read_rankings`)."""
    crop: str = "none"
    """What of a query's photo is described: one of `cropping.CROPS`."""
    split: str = "val"
    """Places of the index that are measured."""
    min_shared: int = MIN_SHARED
    """Shared points that make a positive of the SfM protocol."""
    max_distance: float = MAX_DISTANCE
    """Distance within which a photo is right in place recognition."""
    unit_length: float = 1.0
    """Length of a unit of an index's models, in the unit of `max_distance`."""
    distractors: Path | None = None
    """Descriptor file or folder of photos that is added to the database; never right."""
    whitening: Path | None = None
    """A whitening file to apply."""
    dim: int | None = None
    """Dimensions of the whitening to keep; all by default."""
    device: str | None = None
    """Where a network runs, such as ``cpu`` or ``cuda``; None: cuda where there is one."""
    qe: str | None = None
    """Query expansion, see `search_options.Refinement`."""
    dba: str | None = None
    """Database-side augmentation."""
    rerank: str | None = None
    """Re-ranking: by windows, which needs a network and photos, or by geometry, which needs local features."""

    teacher: Path | None = None
    """A bag of words that answers too, beside a network or descriptors, or alone."""

    def __post_init__(self) -> None:
        """Refuse requests that contradict themselves."""
        Refinement(self.qe, self.dba, self.rerank)
        if sum(source is not None for source in (self.index, self.labels, self.protocol)) != 1:
            raise UsageError("say one thing to measure on: --index FILE, --labels CSV, or --protocol NAME --data DIR")
        if (self.protocol is None) != (self.data is None):
            raise UsageError("--protocol NAME and --data DIR go together")
        if self.dim is not None and self.whitening is None:
            raise UsageError("--dim keeps the first dimensions of a whitening; give --whitening too")
        if self.queries is not None and self.descriptors is None:
            raise UsageError("--queries are descriptors beside those of the database; give --descriptors too")
        if self.rankings is not None and self.teacher is not None:
            raise UsageError("--rankings are answers already: leave out --teacher, or --rankings")
        if self.rankings is not None and (self.describes or self.crop != "none" or self.refinement.any):
            raise UsageError(
                "--rankings are answers already: leave out descriptors, queries, distractors, whitening, crop, qe, dba "
                "and rerank"
            )

    @property
    def describes(self) -> bool:
        """Whether anything speaks of descriptors."""
        return any(path is not None for path in (self.descriptors, self.queries, self.distractors, self.whitening))

    @property
    def refinement(self) -> Refinement:
        """What is done beyond one search."""
        return Refinement(self.qe, self.dba, self.rerank)

    @property
    def choice(self) -> ProtocolChoice:
        """The protocol and its data."""
        name, data = self.protocol, self.data
        if self.index is not None:
            name, data = "sfm", self.index
        elif self.labels is not None:
            name, data = "labels", self.labels
        return ProtocolChoice(
            str(name), Path(str(data)), self.split, self.min_shared, self.max_distance, self.unit_length, self.images
        )
