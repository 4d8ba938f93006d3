"""`tune`: from folders of models or photos to a network tuned on them and a search, step by step, resumable.

Every file of a site is what a command of its own writes. A second call makes only what has changed.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retrieval.networks.choice import NetworkChoice, load_on
from retrieval.networks.network import Network
from retrieval.reconstruction.triangulation import TrackMaker
from retrieval.site.candidates import START
from retrieval.site.choices import Choices, Effort, can_train, choose_options
from retrieval.site.comparison import Comparison
from retrieval.site.effort import Forecast, Pace, effort_within, forecast, seconds_of
from retrieval.site.facts import Facts, facts_of
from retrieval.site.inventory import Inventory, stamps_of, stamps_of_models, take_inventory
from retrieval.site.photo_gathering import photos_of_models, registered_photos, with_loose_photos
from retrieval.site.photo_list import PhotoList, read_photo_list
from retrieval.site.reconstruct import reconstruct_photos, refuse_site_among
from retrieval.site.request import Say, TuneRequest
from retrieval.site.site_files import SiteFiles, held_site, refuse_no_site
from retrieval.site.site_page import write_site_page
from retrieval.site.state import SiteState, Workshop, fingerprint_of
from retrieval.site.steps import Steps
from sfm2tuples.compute.progress_bars import duration
from sfm2tuples.compute.threads import own_cores
from sfm2tuples.errors import DataError, UsageError, counted
from sfm2tuples.files.container import read_header
from sfm2tuples.files.text import read_csv
from sfm2tuples.index.opened import OpenedIndex, open_index
from sfm2tuples.ingest.build import build_index
from sfm2tuples.ingest.options import IngestOptions
from sfm2tuples.readers.discover import find_models

logger = logging.getLogger(__name__)
STEPS = ("build-index", "mine-tuples", "train", "whiten", "evaluate", "extract", "page")
"""The road, each by the name of the command that does the same."""
RECONSTRUCT = "reconstruct"
"""The step before them, where there are photos alone."""
PAGE_SECONDS = 5.0
"""What a page takes, about."""


@dataclass(frozen=True)
class Tuned:
    """What was made."""

    files: SiteFiles
    """Where everything lies."""
    comparison: Comparison
    """Before and after on held-out places, and what was kept."""
    choices: Choices
    """Every option, with its reason."""
    facts: Facts
    """Places and photos."""
    photos: int
    """Photos that are searched."""


def tune_site(request: TuneRequest, say: Say = logger.info) -> Tuned:
    """Make a site, or go on with one.

    Parameters
    ----------
    request : TuneRequest
    say : callable
        Gets a line for people whenever something begins or is known.

    Raises
    ------
    UsageError, DataError
        The request, a model or a photo is off; another process works on the site.
    """
    started = time.monotonic()
    refuse_no_site(request.site)
    folders = [Path(str(folder.folder)) for folder in request.photo_folders]
    # Before the site's folder is made: what is wrong with the request leaves nothing behind.
    inventory = take_inventory(request.roots, folders, request.site)
    if not inventory.roots:
        refuse_site_among(inventory.loose_roots, request.site)
    if request.places is not None and not request.places.is_file():
        raise DataError(request.places, "no such file", "give a CSV of model,place")
    with held_site(request.site) as files:
        workshop = Workshop(SiteState.read(files.state), say)
        asked = {"roots": [str(root) for root in request.roots], "quick": request.quick, "budget": request.budget}
        workshop.state.note(asked=asked)
        return _Tuning(request, files, workshop, inventory, say, started).run()


def tune(
    roots: str | Path | Sequence[str | Path],
    site: str | Path,
    *,
    network: NetworkChoice | str | Path | None = None,
    budget: float | str | None = None,
    say: Say = logger.info,
    **asked: Any,
) -> Tuned:
    """`tune_site` for Python: make a site of folders of models or photos, or go on with it.

    Parameters
    ----------
    roots : path or sequence of paths
        Folders with models, with photos, or with both.
    site : path
        The folder to make.
    network : NetworkChoice or path, optional
        What to start from: a checkpoint, or a backbone with weights; the default network where left out.
    budget : float or str, optional
        Time in seconds, or a text such as ``20m``.
    say : callable
        Gets lines for people; they are logged where left out.
    **asked
        Other fields of `TuneRequest`: images, places, quick, device, seed, progress.

    Raises
    ------
    UsageError, DataError
        As `tune_site`.
    """
    given = [roots] if isinstance(roots, (str, Path)) else roots
    choice = network if isinstance(network, NetworkChoice) else NetworkChoice(Path(network) if network else None)
    try:
        seconds = seconds_of(budget) if isinstance(budget, str) else budget
    except ValueError as error:
        raise UsageError(f"a budget of {budget!r} is no time such as 90s, 20m or 2h") from error
    request = TuneRequest(tuple(map(Path, given)), Path(site), choice, budget=seconds, **asked)
    return tune_site(request, say)


@dataclass
class _Tuning:
    """One call of `tune_site`."""

    request: TuneRequest
    files: SiteFiles
    workshop: Workshop
    inventory: Inventory
    say: Say
    started: float
    expected: Forecast | None = None
    distractors: Path | None = None

    def run(self) -> Tuned:
        """All steps."""
        # The network first: what is wrong with it is said now, not after an hour of other steps.
        network = load_on(self.request.device, self.request.choice)
        roots = self._reconstruct()
        self._begin("build-index")
        self._build_index(roots)
        with open_index(self.files.index) as index:
            facts, registered = facts_of(index, self._count_distractors()), registered_photos(index)
            models = len(index.models.name)
            photos = self._photos(index)
        loose = len(photos.names) - facts.photos - facts.left_out
        self.say(f"  {facts.sentence()}; {counted(max(loose, 0), 'photo')} in no model")
        if facts.places == 1 and models > 1:
            self.say(
                f"  {models} models are taken for this one place, since they lie in one scene folder or share photos: "
                "if they show different places, say so by --places (a CSV of model,place)"
            )
        effort = self._effort(facts, loose, network, registered)
        choices = self._choices(facts, effort, network)
        for choice in choices.said:
            self.say(f"  {choice}")
        files, state = self.files, self.workshop
        stamps = stamps_of([*registered, *([self.distractors] if self.distractors else [])], files.folder)
        steps = Steps(
            *(files, state, self.say, choices, self.request.choice, network, stamps, self.distractors),
            home=self._home(),
            progress=self.request.progress,
        )
        untrained = "" if choices.training else "nothing is trained"
        self._begin("mine-tuples", untrained)
        steps.mine()
        self._begin("train", untrained)
        steps.train()
        self._begin("whiten")
        steps.whiten()
        self._begin("evaluate", "" if choices.measured else "nothing is held out")
        comparison = steps.evaluate(facts.min_shared, can_train(facts) or "nothing could be held out")
        self._begin("extract")
        steps.search(comparison, photos)
        self._begin("page")
        # Those that could be read: the site lists no others.
        listed = read_photo_list(files.photos)
        tuned = Tuned(files, comparison, choices, facts, len(listed.names))
        self._page(tuned, listed)
        self.workshop.say_kept()
        return tuned

    def _begin(self, step: str, left_out: str = "") -> None:
        """Say which step of how many begins, and how long all that follow will take, or why it is left out."""
        self.workshop.say_kept()
        steps = STEPS if self.inventory.roots else (RECONSTRUCT, *STEPS)
        number = steps.index(step)
        left = "" if self.expected is None else f", about {duration(self._left(self.expected, step))} left"
        more = f": left out, since {left_out}" if left_out else left
        self.say(f"step {number + 1} of {len(steps)}, {step}{more}")

    def _left(self, expected: Forecast, step: str) -> float:
        """Seconds that a step and those behind it will take; what is there already is taken for good."""
        files = self.files
        parts = {
            "mine-tuples": (files.tuples, expected.mine),
            "train": (files.run, expected.train),
            "whiten": (files.described(START), expected.describe),
            "extract": (files.descriptors, expected.search),
            "page": (files.page, PAGE_SECONDS),
        }
        following = [parts[name] for name in STEPS[STEPS.index(step) :] if name in parts]
        return sum(seconds for path, seconds in following if not self.workshop.is_there(path))

    def _reconstruct(self) -> Sequence[Path]:
        """Where the models are: below the roots, or, where nothing but photos is there, in the site, made of these."""
        if self.inventory.roots:
            return self.inventory.roots
        self._begin(RECONSTRUCT)
        request = self.request
        found = reconstruct_photos(
            self.inventory.loose_roots, self.files.models, request.choice, request.device, self.say
        )
        self.distractors = found.distractors
        return [found.models]

    def _count_distractors(self) -> int:
        return len(read_csv(self.distractors, ())) if self.distractors else 0

    def _build_index(self, roots: Sequence[Path]) -> None:
        """Index the models."""
        request, inventory = self.request, self.inventory
        models = inventory.models if inventory.roots else stamps_of_models(find_models(roots), self.files.folder)
        options = IngestOptions(seed=request.seed)
        made_of: dict[str, Any] = {"models": models, "photos": inventory.stamps, "options": asdict(options)}
        made_of["places file"] = stamps_of([request.places] if request.places else [])
        made_of |= self._home()

        def build(_: bool) -> None:
            folders = request.photo_folders
            maker = TrackMaker(self.files.index, folders, jobs=own_cores())
            given: dict[str, Any] = {"photo_roots": folders, "places": request.places, "make_tracks": maker}
            build_index(roots, self.files.index, options, **given, resume=True)
            maker.forget_others()
            for name, made in maker.made.items():
                self.say(f"  {name} had poses alone: {made.points:,} points were found in its photos")

        self.workshop.make(self.files.index, made_of, build)

    def _home(self) -> dict[str, str]:
        """What files are made of that hold paths of photos below the site's own models: they do not go with a move."""
        return {} if self.inventory.roots else {"the site's folder": os.path.abspath(self.files.folder)}

    def _photos(self, index: OpenedIndex) -> PhotoList:
        """All photos that are to be searched: of models, in no model, and those that `ask --add` brought."""
        added = [Path(file) for file in self.workshop.state.content.get("added", [])]
        loose = [*self.inventory.photos, *((file.parent, file) for file in added)]
        photos, copies = with_loose_photos(photos_of_models(index), loose, index)
        if copies:
            what = "photo has the same bytes as another" if copies == 1 else "photos have the same bytes as others"
            self.say(f"  {copies:,} {what}: each content is searched once")
        return photos

    def _effort(self, facts: Facts, loose: int, network: Network, registered: Sequence[Path]) -> Effort:
        """How much is done: all, or what fits; decided once for the same data and wish, for it depends on a clock."""
        state, request = self.workshop.state, self.request
        is_random = _is_random(network)
        key = {"facts": asdict(facts), "network": network.fingerprint(), "seed": request.seed}
        key |= {"quick": request.quick, "budget": request.budget, "device": str(network.device)}
        known = state.content.get("effort", {})
        if known.get("of") == key:
            effort, pace = Effort(**known["effort"]), Pace(**known["pace"])
        else:
            pace = Pace.of(network, list(registered))
            limits: dict[str, Any] = {"budget": self._budget_left(), "quick": request.quick, "is_random": is_random}
            effort = effort_within(facts, loose, pace, network.device.type, **limits)
            state.note(effort={"of": key, "effort": asdict(effort), "pace": asdict(pace)})
        self.expected = forecast(facts, loose, effort, pace)
        return effort

    def _budget_left(self) -> float | None:
        """Seconds of the budget that the steps up to here have left; None where there is no budget."""
        budget = self.request.budget
        if budget is None:
            return None
        spent = time.monotonic() - self.started
        left = max(budget - spent, 0.0)
        said = f"  of the budget of {duration(budget)} {duration(left)} are left"
        self.say(
            said if left else f"{said}: the steps before took {duration(spent)}; what follows is the least there is"
        )
        return left

    def _choices(self, facts: Facts, effort: Effort, network: Network) -> Choices:
        choices = choose_options(
            facts,
            effort,
            network.device.type,
            self.request.seed,
            is_random=_is_random(network),
            is_whitened=network.whitening is not None,
            dimension=network.dimension,
        )
        self.workshop.state.note(choices=choices.as_dict())
        return choices

    def _page(self, tuned: Tuned, photos: PhotoList) -> None:
        products = self.workshop.state.content["products"]
        shown = (self.files.comparison.name, self.files.tuples.name)
        made_of = {name: products[name]["stamp"] for name in shown if name in products}
        made_of |= {"index": read_header(self.files.index).fingerprint, "photos": fingerprint_of(vars(photos))}
        made_of |= {"choices": fingerprint_of(tuned.choices.as_dict())}
        seconds = {name: record["seconds"] for name, record in products.items()}

        def build(_: bool) -> None:
            write_site_page(tuned.files, tuned.comparison, tuned.choices, seconds)

        self.workshop.make(self.files.page, made_of, build)


def _is_random(network: Network) -> bool:
    """Whether a network was never trained on anything."""
    return network.description.weights.startswith("random")
