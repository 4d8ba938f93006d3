"""What `tune` is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from retrieval.networks.choice import NetworkChoice
from sfm2tuples.errors import UsageError
from sfm2tuples.files.remote.address import without_credentials
from sfm2tuples.readers.discover import PhotoFolder


@dataclass(frozen=True)
class TuneRequest:
    """Folders, a network, and how much time there is."""

    roots: tuple[Path, ...]
    """Folders with models, with photos, or with both."""
    site: Path
    """The folder to make, or to go on with."""
    choice: NetworkChoice = field(default_factory=NetworkChoice)
    """The network to start from."""
    images: tuple[str, ...] = ()
    """``[ROOT=]DIR``: folders of photos, for models without `images/` beside them."""
    places: Path | None = None
    """CSV that says which models show the same thing."""
    quick: bool = False
    """Take a tenth of the full time."""
    budget: float | None = None
    """Seconds that all steps may take, `reconstruct` and the index too; no limit where left out."""
    device: str | None = None
    """Where the network runs, such as ``cpu`` or ``cuda``; None: cuda where there is one."""
    seed: int = 0
    """Of every draw."""
    progress: bool = False
    """Whether progress bars go to stderr."""

    def __post_init__(self) -> None:
        """Refuse requests that contradict themselves."""
        if not self.roots:
            raise UsageError("no folder with models or photos was given")
        if self.quick and self.budget is not None:
            raise UsageError("--quick and --budget exclude each other: quick is a tenth of the full time")
        if self.budget is not None and not self.budget > 0:
            raise UsageError(f"a budget of {self.budget:g} seconds is none; give 20m, 90s or 2h")

    @property
    def photo_folders(self) -> list[PhotoFolder]:
        """`images`, read."""
        elsewhere = [text for text in self.images if "://" in text]
        if elsewhere:
            remedy = "copy them first, or use build-index, mine-tuples and train, which read photos elsewhere"
            raise UsageError(
                f"--images {without_credentials(elsewhere[0])}: tune reads photos of this machine; {remedy}"
            )
        return [PhotoFolder.parse(text, self.roots) for text in self.images]


Say = Callable[[str], None]
"""Gets a line for people."""
