"""What the `evaluate` command is asked to measure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from retrieval.descriptors.extraction import ExtractionOptions
from retrieval.localisation.options import LocalisationOptions, PoseThresholds
from retrieval.networks.choice import NetworkChoice
from retrieval.protocols.benchmark import ProtocolChoice
from retrieval.search.options import Refinement, TeacherOptions, VerificationSources
from sfm2tuples.errors import UsageError
from sfm2tuples.files.remote.address import AnyPath


@dataclass(frozen=True)
class EvaluationRequest:
    """A protocol, and what answers its queries: a network, descriptors, rankings, or the BoW teacher."""

    protocol: ProtocolChoice
    """What is measured on."""
    choice: NetworkChoice = field(default_factory=NetworkChoice)
    """A network."""
    extraction: ExtractionOptions = field(default_factory=ExtractionOptions)
    """How it describes photos."""
    device: str | None = None
    """Where it runs, such as ``cpu`` or ``cuda``; None: cuda where there is one."""
    descriptors: Path | None = None
    """A descriptor file, in place of a network."""
    queries: Path | None = None
    """Descriptors of the queries, where they are in a file of their own."""
    rankings: Path | None = None
    """Ranked lists, in place of descriptors (see `named_rankings.read_rankings`)."""
    crop: str = "none"
    """What of a query's photo is described: one of `cropping.CROPS`."""
    distractors: AnyPath | None = None
    """Descriptor file or folder of photos that is added to the database; never right."""
    whitening: Path | None = None
    """A whitening file to apply."""
    dim: int | None = None
    """Dimensions of the whitening to keep; all by default."""
    refinement: Refinement = field(default_factory=Refinement)
    """What is done beyond one search; windows need a network and photos, geometry needs local features."""
    verification: VerificationSources = field(default_factory=VerificationSources)
    """Local features for re-ranking by geometry."""
    teacher: Path | None = None
    """A bag of words that answers too, beside a network or descriptors, or alone."""
    teaching: TeacherOptions = field(default_factory=TeacherOptions)
    """How it answers."""
    poses: PoseThresholds | None = None
    """When a pose is right; with it an index's queries are looked at as a localiser would."""
    localise: LocalisationOptions | None = None
    """Localise the queries by their first results; the processes are those of `verification`."""

    def __post_init__(self) -> None:
        """Refuse requests that contradict themselves."""
        if self.poses is not None and self.protocol.name != "sfm":
            raise UsageError("poses and shared points are those of an index: --index FILE")
        if self.localise is not None and self.poses is None:
            raise UsageError("queries are localised within thresholds: say which")
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
        self.verification.check(self.refinement)
        if self.rankings is not None and self.choice.named:
            raise UsageError("--rankings are answers already: leave out the network, or --rankings")
        if self.teacher_alone and (self.describes or self.refinement.any):
            raise UsageError(
                "--queries, --distractors, --whitening, --qe, --dba and --rerank are for descriptors: name a network "
                "or --descriptors beside --teacher; the teacher has --num-verified and --num-expanded"
            )

    @property
    def describes(self) -> bool:
        """Whether anything speaks of descriptors."""
        return any(path is not None for path in (self.descriptors, self.queries, self.distractors, self.whitening))

    @property
    def teacher_alone(self) -> bool:
        """Whether nothing but the teacher answers."""
        return self.teacher is not None and self.descriptors is None and not self.choice.named
