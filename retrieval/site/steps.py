"""The steps of `tune`: each makes files of the site by what the command of the same name calls."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.descriptors.described_photos import describe_photos
from retrieval.descriptors.extraction import extract_settings
from retrieval.evaluation.measurement import measure_benchmark
from retrieval.evaluation.request import EvaluationRequest
from retrieval.networks.checkpoints import save_checkpoint
from retrieval.networks.choice import NetworkChoice, load_network
from retrieval.networks.network import Network
from retrieval.networks.plain_layers import write_layers
from retrieval.networks.whitening_layer import WhiteningLayer, add_whitening_layer
from retrieval.photos.sources import PhotoSources, SourceColumns, photos_of
from retrieval.protocols.benchmark import ProtocolChoice
from retrieval.protocols.sfm import searches_all, sfm_benchmark
from retrieval.site.candidates import START, TITLES, WHITENED, Candidate, candidates_of, title_of
from retrieval.site.choices import SEEN, Choices, together_at
from retrieval.site.comparison import (
    BEST_ELSEWHERE,
    SAFEST,
    VERSION,
    Comparison,
    compare,
    read_comparison,
    unmeasured,
    write_comparison,
)
from retrieval.site.database import known_before, whitened_known, write_database
from retrieval.site.photo_list import PhotoList
from retrieval.site.request import Say
from retrieval.site.site_files import SiteFiles
from retrieval.site.state import Workshop, fingerprint_of, stamp
from retrieval.training.curves import RoundFigures
from retrieval.training.last_round import LAST
from retrieval.training.loop import Execution, train
from retrieval.training.options import options_from_recipe
from retrieval.tuple_files.distractors import read_distractors
from retrieval.tuple_files.mining import mine_tuple_file
from retrieval.tuple_files.readable_photos import PhotoOptions
from retrieval.whitening.matching_pairs import learn_whitening, pairs_of_index
from retrieval.whitening.projection import apply, read_whitening, write_whitening
from sfm2tuples.errors import NotFiniteError
from sfm2tuples.files.atomic import write_text
from sfm2tuples.files.container import read_header
from sfm2tuples.files.descriptors import read_descriptors, write_descriptors
from sfm2tuples.index.opened import open_index
from sfm2tuples.index.schema import VAL
from sfm2tuples.mining.photo_keys import key_root
from sfm2tuples.mining.tuple_file import read_tuples

logger = logging.getLogger(__name__)
ALIKE = 1e-4
"""Difference of descriptors, value by value, up to which they are the same."""


@dataclass(frozen=True)
class Steps:
    """The steps after the index, and what all of them go by."""

    files: SiteFiles
    """What they write."""
    workshop: Workshop
    """Makes each file once."""
    say: Say
    """Gets lines for people."""
    choices: Choices
    """Options of all steps."""
    network: NetworkChoice
    """What to start from."""
    start: Network
    """The same, loaded where the work is done."""
    photos: str
    """Fingerprint of the photos of the models."""
    distractors: Path | None = None
    """Photos that show none of the places, as `mine-tuples --distractors` takes them."""
    home: Mapping[str, str] = field(default_factory=dict)
    """What files with paths of photos are made of besides, where these lie below the site's own folder."""
    progress: bool = False
    """Whether progress bars go to stderr."""

    @cached_property
    def before(self) -> str:
        """Fingerprint of the network off the shelf."""
        return self.start.fingerprint()

    @property
    def _index(self) -> str:
        return read_header(self.files.index).fingerprint

    def mine(self) -> None:
        """Mine the tuples, unless nothing is trained."""
        if self.choices.training is None:
            self.workshop.discard(self.files.tuples)
            return
        options, packed = self.choices.mining, self.choices.packed
        device, size = str(self.start.device), self.choices.training_size
        photos = PhotoOptions(self.network, image_size=size, upright=SEEN, device=device, pack_images=packed)
        made_of: dict[str, Any] = {"index": self._index, "photos": self.photos, "network": self.before}
        made_of |= {"options": options.as_dict() | {"packed photos": packed, "upright": SEEN}}
        made_of |= {} if packed else dict(self.home)

        def build(_: bool) -> None:
            mined = mine_tuple_file(self.files.index, self.files.tuples, options, photos, self.distractors)
            alike = [(first, second) for first, second, _ in mined.alike]
            self.workshop.state.note(places_that_look_alike=alike)
            train_tuples, val = (len(mined.tuples[split].query) for split in ("train", "val"))
            self.say(f"  {train_tuples:,} training and {val:,} validation tuples")
            if mined.tables.unreadable:
                count, first = len(mined.tables.unreadable), mined.tables.unreadable[0]
                logger.warning("%d photos cannot be read and are left out, first: %s", count, first)

        self.workshop.make(self.files.tuples, made_of, build)
        self._say_alike()

    def _say_alike(self) -> None:
        alike = self.workshop.state.content.get("places_that_look_alike") or []
        if alike:
            shown = "; ".join(" and ".join(pair) for pair in alike[:3])
            count = "two places" if len(alike) == 1 else f"{len(alike)} pairs of places"
            self.say(
                f"  {count} look alike ({shown}{' …' if alike[3:] else ''}): if two show the same "
                "thing, say so by --places"
            )

    def train(self) -> None:
        """Train, or go on with a training that was interrupted."""
        if self.choices.training is None:
            self.workshop.discard(self.files.run)
            return
        options = options_from_recipe(self.start.description.backbone, **self.choices.training)
        tuples = read_header(self.files.tuples).fingerprint
        made_of = {"tuples": tuples, "photos": self.photos, "network": self.before, "options": options.as_dict()}

        def build(goes_on: bool) -> None:
            resume = goes_on and (self.files.run / LAST).is_file()
            network = copy.deepcopy(self.start)
            execution = Execution(
                together_at(self.choices.training_size, self.start.device.type), progress=self.progress
            )
            how: dict[str, Any] = {"resume": resume, "force": not resume, "execution": execution}
            try:
                train(self.files.tuples, self.files.run, options, network, on_round=self._say_round, **how)
            except NotFiniteError as error:
                if not (self.files.run / LAST).is_file():
                    raise
                logger.warning("the training ends here: %s", error)

        self.workshop.make(self.files.run, made_of, build)

    def _say_round(self, figures: RoundFigures) -> None:
        found = f"mAP {100 * figures.val_map:.1f} among {self._searched}"
        if figures.round == 0:
            self.say(f"  before training: {found}, at {self.choices.training_size} px")
            return
        self.say(f"  round {figures.round}: {found}, {figures.queries:,} tuples in {figures.seconds:.0f} s")

    @cached_property
    def _searched(self) -> str:
        """What held-out photos are searched among between the rounds."""
        everything = searches_all(read_tuples(self.files.tuples))
        return "all photos of the models" if everything else "the held-out places alone"

    @cached_property
    def candidates(self) -> list[Candidate]:
        """The networks that may be kept; known once the training has ended."""
        return list(candidates_of(self.start, self.files.run))

    def whiten(self) -> None:
        """Describe the photos of the index by every candidate, and learn its whitening."""
        names = {candidate.name for candidate in self.candidates}
        for name in TITLES:
            if name not in names:
                self.workshop.discard(self.files.described(name))
            if name not in names or self.choices.whitening is None:
                self.workshop.discard(self.files.whitening(name))
        for candidate in self.candidates:
            self._describe(candidate)
            if self.choices.whitening is not None:
                self._whiten(candidate)

    def _describe(self, candidate: Candidate) -> None:
        target, extraction = self.files.described(candidate.name), self.choices.extraction
        made_of: dict[str, Any] = {"index": self._index, "photos": self.photos, "network": candidate.fingerprint}
        made_of |= {"options": asdict(extraction)}

        def build(_: bool) -> None:
            photos = self._photos()
            title = f"describe, {candidate.name}" if self.progress else None
            found, failures = describe_photos(candidate.network, photos, extraction, title)
            if failures:
                logger.warning("%d photos cannot be read and are left out, first: %s", len(failures), failures[0])
            write_descriptors(target, found, parents=[photos.parent])

        self.workshop.make(target, made_of, build)

    def _photos(self) -> PhotoSources:
        """The photos of the index and, behind them, the distractors."""
        photos = photos_of(self.files.index)
        if self.distractors is None:
            return photos
        with open_index(self.files.index) as index:
            others = read_distractors(self.distractors, key_root(index))
        numbers = np.unique(others.root, return_inverse=True)
        sources = SourceColumns.below(numbers[0].tolist(), numbers[1].astype(np.int64), others.name)
        return photos.joined(PhotoSources(others.key, sources, np.arange(len(others.key)), self.distractors))

    def _whiten(self, candidate: Candidate) -> None:
        described, options = self.files.described(candidate.name), self.choices.whitening
        if options is None:
            return
        made_of: dict[str, Any] = {"index": self._index, "descriptors": read_header(described).fingerprint}
        made_of |= {"options": asdict(options)}

        def build(_: bool) -> None:
            found = read_descriptors(described)
            with open_index(self.files.index) as index:
                pairs = pairs_of_index(index, options).only(set(found.names))
            whitening = learn_whitening(found, pairs, options)[0]
            write_whitening(self.files.whitening(candidate.name), whitening, [self._index, found.fingerprint])

        self.workshop.make(self.files.whitening(candidate.name), made_of, build)

    def evaluate(self, min_shared: int, reason: str) -> Comparison:
        """Measure all candidates on held-out places, and keep the best; `reason` says why where none are held out."""
        evaluations: dict[str, Path] = {}
        if self.choices.measured:
            for way in self._ways():
                self._evaluate(way, min_shared)
                evaluations[way] = self.files.evaluation(way)
        for way in SAFEST:
            if way not in evaluations:
                self.workshop.discard(self.files.evaluation(way))
        made_of: dict[str, Any] = {way: stamp(path) for way, path in evaluations.items()}
        made_of = (made_of or {"nothing is held out": reason}) | {"version of the table": VERSION}
        favoured = SAFEST if self.choices.of_one_place else BEST_ELSEWHERE

        def build(_: bool) -> None:
            unseen = START + (WHITENED if self.choices.whitening is not None else "")
            found = compare(evaluations, favoured) if evaluations else unmeasured(unseen, reason)
            write_comparison(self.files.comparison, found)

        self.workshop.make(self.files.comparison, made_of, build)
        comparison = read_comparison(self.files.comparison)
        self._keep(comparison)
        return comparison

    def _ways(self) -> list[str]:
        whitened = ("", WHITENED) if self.choices.whitening is not None else ("",)
        return [candidate.name + how for candidate in self.candidates if self._tells(candidate) for how in whitened]

    def _tells(self, candidate: Candidate) -> bool:
        """Whether a candidate tells photos apart. Of photos that are all alike the held-out ones would come first."""
        values = read_descriptors(self.files.described(candidate.name)).values
        if candidate.name == START or np.ptp(values, axis=0).max() > ALIKE:
            return True
        self.say(f"  {title_of(candidate.name)}: describes all photos alike, and is left out")
        return False

    def _evaluate(self, way: str, min_shared: int) -> None:
        name = way.removesuffix(WHITENED)
        described = self.files.described(name)
        whitening = self.files.whitening(name) if way != name else None
        made_of: dict[str, Any] = {"index": self._index, "descriptors": read_header(described).fingerprint}
        made_of |= {"whitening": read_header(whitening).fingerprint if whitening else ""}
        made_of |= {"options": {"shared points": min_shared}}

        def build(_: bool) -> None:
            protocol = ProtocolChoice("sfm", self.files.index, min_shared=min_shared)
            with open_index(self.files.index) as index:
                names = read_descriptors(described).names
                benchmark = sfm_benchmark(index, VAL, min_shared, frozenset(names))
            # Places for training are searched too: their photos are wrong answers, which makes the question harder.
            request = EvaluationRequest(protocol, descriptors=described, distractors=described, whitening=whitening)
            found = measure_benchmark(request, benchmark)
            write_text(self.files.evaluation(way), json.dumps(found.as_dict(), indent=1) + "\n")

        self.workshop.make(self.files.evaluation(way), made_of, build)

    def _kept(self, comparison: Comparison) -> tuple[Candidate, Path | None]:
        """The candidate that is kept, and its whitening."""
        name = comparison.kept.removesuffix(WHITENED)
        candidate = next(candidate for candidate in self.candidates if candidate.name == name)
        return candidate, self.files.whitening(name) if comparison.kept != name else None

    def _keep(self, comparison: Comparison) -> None:
        """Write the network that is kept, its whitening inside."""
        candidate, whitening = self._kept(comparison)
        made_of = self._network_is(candidate, whitening)

        def build(_: bool) -> None:
            network = copy.deepcopy(candidate.network)
            network.upright = SEEN
            if whitening is not None:
                add_whitening_layer(network, WhiteningLayer(whitening))
            save_checkpoint(self.files.network, network, parents=[candidate.fingerprint], kept=comparison.title)

        self.workshop.make(self.files.network, made_of, build)

        def build_layers(_: bool) -> None:
            write_layers(self.files.layers, load_network(self.files.network))

        self.workshop.make(self.files.layers, made_of, build_layers)

    @staticmethod
    def _network_is(candidate: Candidate, whitening: Path | None) -> dict[str, str]:
        return {
            "network": candidate.fingerprint,
            "whitening": read_header(whitening).fingerprint if whitening else "",
            "upright": SEEN,
        }

    def search(self, comparison: Comparison, photos: PhotoList) -> None:
        """Describe everything that is to be searched by the network that is kept."""
        candidate, whitening = self._kept(comparison)
        made_of: dict[str, Any] = self._network_is(candidate, whitening) | {"photos": fingerprint_of(vars(photos))}
        made_of |= {"options": asdict(self.choices.extraction)}

        def build(_: bool) -> None:
            described = read_descriptors(self.files.described(candidate.name))
            values = described.values
            if whitening is not None:
                values = apply(read_whitening(whitening), values)
            network = load_network(self.files.network).to(self.start.device)
            settings = extract_settings(network, self.choices.extraction)
            known = [whitened_known(photos, described, values), *known_before(self.files, settings)]
            failures = write_database(self.files, network, self.choices.extraction, photos, known)
            if failures:
                logger.warning("%d photos cannot be read and are left out, first: %s", len(failures), failures[0])

        self.workshop.make(self.files.descriptors, made_of, build, beside=[self.files.photos])
