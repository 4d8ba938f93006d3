"""What every round of a training works on, and with what it is carried out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from retrieval.descriptors.extraction import Forward, extract_readable
from retrieval.descriptors.soundness import warn_of_collapse
from retrieval.networks.network import Network
from retrieval.photos.tuple_photos import TuplePhotos
from retrieval.training.adaptation.adapted import Adaptation
from retrieval.training.adaptation.frozen_part import FrozenPart
from retrieval.training.batches.described import BatchLoss, of_tuples
from retrieval.training.batches.loss_table import build_batch_loss
from retrieval.training.distillation.teaching import Teaching
from retrieval.training.losses_by_name import Loss, build_loss
from retrieval.training.options import TrainingOptions
from retrieval.training.passes import ForwardPlan
from retrieval.training.team import Team
from sfm2tuples.mining.tuple_file import TupleFile


@dataclass(frozen=True)
class Resources:
    """With what a training is carried out; changes its outcome by rounding only."""

    plan: ForwardPlan = field(default_factory=ForwardPlan)
    """How photos go through the network."""
    team: Team = field(default_factory=Team)
    """The processes that train together."""
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))
    """Keeps fp16's gradients from vanishing; does nothing in other precisions."""
    progress: bool = False
    """Whether progress bars go to stderr."""


@dataclass(frozen=True)
class TrainingState:
    """What all rounds share; the network and the optimiser change as they go."""

    options: TrainingOptions
    """What was asked."""
    tuples: TupleFile
    """What is trained on."""
    photos: TuplePhotos
    """Its photos, decoded ahead."""
    network: Network
    """Trained in place."""
    optimiser: torch.optim.Optimizer
    """Of `build_optimiser`."""
    resources: Resources = field(default_factory=Resources)
    """One process, one photo a forward, where left out."""
    warned: set[str] = field(default_factory=set)
    """What was warned of already: once a run is enough."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """Rows of `/images` whose photos could not be read, and why; tuples that hold one are left out."""
    adaptation: Adaptation = field(default_factory=Adaptation)
    """What is kept beside the network where it learns as sums or is averaged; does nothing where left out."""
    teaching: Teaching | None = None
    """What the run has of its teacher; None without one."""
    frozen: FrozenPart | None = None
    """What keeps the output of frozen blocks; None where nothing is kept."""

    @property
    def team(self) -> Team:
        """The processes that train together."""
        return self.resources.team

    @cached_property
    def loss(self) -> Loss:
        """The loss of tuples, built when it is first asked for; a loss of batches takes each tuple as a batch."""
        if self.options.graph is not None:
            return of_tuples(self.batch_loss)
        return build_loss(self.options.loss_options)

    @cached_property
    def batch_loss(self) -> BatchLoss:
        """The loss of graph batches, built when it is first asked for; nothing where the teacher alone is asked."""
        if self.options.photo_batches is not None:
            return lambda batch: batch.descriptors.sum() * 0
        return build_batch_loss(self.options.loss_options)

    def taught(self, descriptors: Tensor, groups: Sequence[Sequence[int] | np.ndarray]) -> Tensor:
        """What a teacher adds to the loss, see `Teaching.loss_of`; 0 without one."""
        return descriptors.new_zeros(()) if self.teaching is None else self.teaching.loss_of(descriptors, groups)

    def shown_unreadable(self) -> str:
        """The first photos that could not be read, and why, for a message; of a team, what this process knows."""
        return "; ".join(list(self.unreadable.values())[:3]) or "another process says which"

    def title(self, work: str) -> str | None:
        """Title of a progress bar; None where none is shown."""
        return work if self.resources.progress and self.team.leads else None

    def describe(self, rows: np.ndarray, work: str, strict: bool = True) -> np.ndarray:
        """Describe photos of the tuple file; each process of a team describes its share.

        Parameters
        ----------
        rows : (m,) int64
            Of `/images`, each once.
        work : str
            Title of the progress bar.
        strict : bool
            False: a photo that cannot be read is kept in `unreadable`, and its descriptor is all zeros.

        Returns
        -------
        (m, D) float32
            The same in every process.

        Raises
        ------
        PhotoError
            A photo of this process's share is absent or unreadable, and `strict` is set.
        NotFiniteError
            The network's descriptor of a photo is not finite.
        SfmTuplesError
            Another process failed at its share.
        """
        own = self.team.rows(len(rows))
        with self.team.shared_work():
            described = self._describe_own(rows[own], work, strict)
        found = self.team.gather_rows(described, len(rows))
        if not strict:
            self._learn_of_unreadable(rows, own)
        # A random network describes photos alike before its first step; that is no collapse.
        if self.team.leads and "collapse" not in self.warned and self.optimiser.state:
            remedy = "the loss is at a constant, so start again with a lower --learning-rate"
            if warn_of_collapse(found, work, remedy):
                self.warned.add("collapse")
        return found

    def _describe_own(self, rows: np.ndarray, work: str, strict: bool) -> np.ndarray:
        frozen = self.frozen
        if frozen is None:
            return self._describe_decoded(rows, work, strict, None)
        found = np.zeros((len(rows), self.network.dimension), np.float32)
        known = frozen.knows(rows.tolist())
        found[known] = frozen.describe(rows[known].tolist(), self.photos.names(rows[known]))
        new = rows[~known]
        if len(new):
            found[~known] = self._describe_decoded(
                new, work, strict, lambda at, x: frozen.describe_photos(new[list(at)].tolist(), x)
            )
        return found

    def _describe_decoded(self, rows: np.ndarray, work: str, strict: bool, forward: Forward | None) -> np.ndarray:
        sources, names = self.photos.sources(rows), self.photos.names(rows)
        values, readable, errors = extract_readable(
            self.network, sources, self.options.extraction, names, self.title(work), strict, forward=forward
        )
        if not errors:
            return values
        failed = np.setdiff1d(np.arange(len(rows)), readable)
        self.unreadable.update(zip(rows[failed].tolist(), map(str, errors), strict=True))
        found = np.zeros((len(rows), values.shape[1]), np.float32)
        found[readable] = values
        return found

    def _learn_of_unreadable(self, rows: np.ndarray, own: np.ndarray) -> None:
        """Let every process of a team know which photos another could not read."""
        bad = np.array([[row in self.unreadable] for row in rows[own].tolist()], np.uint8).reshape(len(own), 1)
        for row in rows[self.team.gather_rows(bad, len(rows))[:, 0] > 0].tolist():
            self.unreadable.setdefault(row, f"{self.photos.names(np.array([row]))[0]}: cannot be read")
