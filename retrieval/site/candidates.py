"""The networks that a site may keep: as it came, after training, and half-way between the two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from retrieval.networks.choice import load_network
from retrieval.networks.interpolation import between
from retrieval.networks.network import Network
from retrieval.training.last_round import LAST
from retrieval.training.run_folder import BEST

START, HALFWAY, TUNED = "start", "halfway", "tuned"
TITLES = {START: "off the shelf", HALFWAY: "half-way", TUNED: "tuned"}
"""Names of the candidates, simplest first, as people call them; of equals the first is kept."""
WHITENED = "_lw"
"""What follows a candidate's name where its whitening is applied."""


@dataclass(frozen=True)
class Candidate:
    """One network, in evaluation mode."""

    name: str
    """One of `TITLES`."""
    network: Network
    """Where the work is done."""
    fingerprint: str
    """Of its weights."""


def candidates_of(start: Network, run: Path) -> Iterator[Candidate]:
    """Yield the candidates of a site; only the start where nothing was trained.

    Parameters
    ----------
    start : Network
        Before training.
    run : Path
        Folder of the training; it may be absent.
    """
    before = start.fingerprint()
    yield Candidate(START, start, before)
    tuned = _tuned(run, before)
    if tuned is not None:
        tuned = tuned.to(start.device)
        middle = between(start, tuned)
        yield Candidate(HALFWAY, middle, middle.fingerprint())
        yield Candidate(TUNED, tuned, tuned.fingerprint())


def title_of(way: str) -> str:
    """A candidate with or without its whitening, as people call it.

    Examples
    --------
    >>> title_of("halfway_lw")
    'half-way + L_w'
    """
    name = way.removesuffix(WHITENED)
    return TITLES[name] + (" + L_w" if way != name else "")


def _tuned(run: Path, before: str) -> Network | None:
    """The best of the training; where that is its start, the last."""
    for name in (BEST, LAST):
        if (run / name).is_file():
            network = load_network(run / name)
            if network.fingerprint() != before:
                return network
    return None
