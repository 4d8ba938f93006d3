"""Descriptors of a protocol's queries, database and distractors: by a network, or from anybody's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from retrieval.descriptors.described_photos import describe_photos, mismatch_warning, whiten_descriptors
from retrieval.descriptors.extraction import extract_settings
from retrieval.descriptors.query_crops import describe_crops
from retrieval.evaluation.request import EvaluationRequest
from retrieval.networks.choice import load_on
from retrieval.networks.network import Network
from retrieval.photos.origins import refuse_others
from retrieval.photos.sources import PhotoSources, photos_of
from retrieval.protocols.benchmark import Benchmark, ProtocolChoice
from retrieval.protocols.photo_names import PhotoNames, names_of, photos_in
from retrieval.search.window_descriptors import Describer, PhotoWindows, query_regions
from retrieval.search.window_search import WindowFinder
from retrieval.whitening.projection import Whitening, check_applicable, read_whitening
from sfm2tuples.errors import UsageError, told_of
from sfm2tuples.files.container import known_parents
from sfm2tuples.files.descriptor_settings import differing, shortened
from sfm2tuples.files.descriptors import Descriptors, align, read_descriptors
from sfm2tuples.files.remote.address import Address, AnyPath, is_folder

SAME_DESCRIPTOR = 1e-4
"""How far the values of a photo that was described twice may be apart: what batches and machines do to rounding."""


@dataclass(frozen=True)
class DescriptorFiles:
    """The descriptor files that were named, read once."""

    database: Descriptors | None
    """Of the database, and of the queries where they have no file of their own."""
    queries: Descriptors | None
    """Of the queries."""

    @classmethod
    def read(cls, request: EvaluationRequest) -> DescriptorFiles:
        """Read `--descriptors` and `--queries` where they are given."""
        return cls(*(read_descriptors(path) if path else None for path in (request.descriptors, request.queries)))

    def refuse_others(self, index: AnyPath, fingerprint: str) -> None:
        """Raise DataError where one of them was made of another index."""
        for described in filter(None, (self.database, self.queries)):
            refuse_others(described, index, fingerprint)

    def names(self, protocol: ProtocolChoice) -> PhotoNames:
        """Names of the photos that are described; without files, of those in the protocol's folder."""
        if self.database is None:
            return photos_in(protocol)
        if self.queries is None:
            return PhotoNames(self.database.names, self.database.path)
        same = _same_photos(self.queries, self.database)
        return PhotoNames(self.database.names, self.database.path, self.queries.names, same, self.queries.path)


def _same_photos(queries: Descriptors, database: Descriptors) -> frozenset[str]:
    """Names that both files have with one descriptor: a name alone does not make two files' photos one."""
    if queries.values.shape[1] != database.values.shape[1]:
        return frozenset()
    row_of = {name: row for row, name in enumerate(database.names)}
    shared = [(row, row_of[name]) for row, name in enumerate(queries.names) if name in row_of]
    if not shared:
        return frozenset()
    left, right = np.array(shared).T
    apart = np.abs(queries.values[left] - database.values[right]).max(axis=1)
    return frozenset(queries.names[row] for row in left[apart <= SAME_DESCRIPTOR].tolist())


@dataclass(frozen=True)
class BenchmarkDescriptors:
    """What is compared in a protocol; distractors follow the protocol's photos in `database`."""

    queries: Descriptors
    database: Descriptors
    parents: tuple[str, ...] = ()
    """Fingerprints of the files that the descriptors were made from."""
    warnings: tuple[str, ...] = ()
    """Where settings do not fit together, one line each."""
    notes: tuple[str, ...] = ()
    """What was left out, one line each."""
    finder: WindowFinder | None = None
    """Finds windows in the database's photos, where re-ranking by them was asked for."""

    @property
    def settings(self) -> dict[str, Any]:
        """What made the descriptors; the crop is the queries'."""
        crop = self.queries.settings.get("crop")
        return self.database.settings | ({"crop": crop} if crop else {})


def benchmark_descriptors(
    benchmark: Benchmark, request: EvaluationRequest, files: DescriptorFiles
) -> BenchmarkDescriptors:
    """Describe the photos of a protocol, or take their descriptors from files; then whiten all of them alike.

    A network is needed without files; beside files only for cropped queries, windows, and distractors that are photos.
    Where none is named it is the default one, which must be the one that made the files.

    Raises
    ------
    UsageError, DataError
        A network is missing or too much, or does not fit the files; a photo has no descriptor or cannot be read.
    """
    needs_network = _needs_network(benchmark, request, files)
    if benchmark.photos and benchmark.photos.parent:
        files.refuse_others(benchmark.photos.origin, benchmark.photos.parent)
    describer = _ProtocolNetwork(request, benchmark)
    if needs_network:
        describer.check_fits(files.database)
    whitening = _whitening(request, files, describer)
    database, queries = _described(benchmark, request.crop, files, describer)
    known = {*database.names, *queries.names, *benchmark.left_out}
    distractors, notes = _distractors(request.distractors, describer, known)
    parents = [database.fingerprint, queries.fingerprint]
    warnings = [_difference("queries", queries, database)]
    if distractors is not None:
        parents.append(distractors.fingerprint)
        warnings.append(_difference("distractors", distractors, database))
    if whitening is not None and request.whitening is not None:
        parents.append(whitening.fingerprint)
        warnings.append(mismatch_warning(request.whitening, whitening, database))
        queries, database = (whiten_descriptors(side, whitening, request.dim) for side in (queries, database))
        distractors = whiten_descriptors(distractors, whitening, request.dim) if distractors is not None else None
    _check_dimension("queries", queries, database)
    database = database if distractors is None else _joined(database, distractors)
    return BenchmarkDescriptors(
        queries,
        database,
        tuple(known_parents(parents)),
        tuple(filter(None, warnings)),
        tuple(notes),
        describer.windows(database.names, whitening) if request.refinement.num_windows else None,
    )


def _needs_network(benchmark: Benchmark, request: EvaluationRequest, files: DescriptorFiles) -> bool:
    """Whether photos are to be described; refuses a network that describes none, and to guess a foreign file's."""
    benchmark.boxes_for(request.crop)
    if files.database is None:
        return True
    needs = {
        f"--crop {request.crop} describes the queries anew": request.crop != "none" and files.queries is None,
        "--rerank R looks at photos": request.refinement.num_windows > 0,
        "photos of distractors need a network": request.distractors is not None and is_folder(request.distractors),
    }
    needed = [what for what, holds in needs.items() if holds]
    if not needed:
        request.choice.refuse_beside_descriptors()
    if needed and not request.choice.named and "network" not in files.database.settings:
        raise UsageError(f"{needed[0]}: name the network of the descriptors, by --network or --backbone")
    return bool(needed)


def _whitening(request: EvaluationRequest, files: DescriptorFiles, describer: _ProtocolNetwork) -> Whitening | None:
    """The whitening that was asked for, known to fit before a photo is described."""
    if request.whitening is None:
        return None
    whitening = read_whitening(request.whitening)
    if files.database is None:
        check_applicable(whitening, describer.network.dimension, request.dim)
    elif "whitening" not in files.database.settings:  # else that is what is wrong, and said below
        check_applicable(whitening, files.database.values.shape[1], request.dim)
    return whitening


@dataclass(frozen=True)
class _ProtocolNetwork:
    """A network, loaded when it is first needed, and the photos of a protocol that it is to describe."""

    request: EvaluationRequest
    benchmark: Benchmark

    @cached_property
    def network(self) -> Network:
        """The network that is named, or the default one."""
        return load_on(self.request.device, self.request.choice)

    @cached_property
    def _all_photos(self) -> PhotoSources:
        """The protocol's photos: those that its data lists, else those of its folder."""
        return self.benchmark.photos or photos_of(self.request.protocol.folder)

    def check_fits(self, descriptors: Descriptors | None) -> None:
        """Refuse files that another network made, or this one at another size."""
        if descriptors is None:
            return
        if "whitening" in descriptors.settings:
            remedy = "extract without --whitening, and give it here"
            raise UsageError(f"{descriptors.path}: whitened already, unlike what the network describes; {remedy}")
        own = Descriptors([], np.empty((0, 0)), extract_settings(self.network, self.request.extraction))
        difference = _difference("the network", own, descriptors)
        if difference:
            remedy = "" if self.request.choice.named else "; name theirs by --network or --backbone"
            raise UsageError(difference + remedy)

    def photos(self, names: Sequence[str]) -> PhotoSources:
        """The protocol's photos of these names."""
        photos = self._all_photos
        if self.benchmark.photos:
            return photos.only(names)
        # Names of a descriptor file need not begin at the protocol's folder.
        return photos.only(names_of(names, PhotoNames(photos.keys, str(photos.origin)), "the protocol"))

    def describe(self, names: Sequence[str]) -> Descriptors:
        """Descriptors of the protocol's photos of these names, all of which must be readable."""
        return describe_photos(self.network, self.photos(names), self.request.extraction, strict=True)[0]

    def windows(self, database: Sequence[str], whitening: Whitening | None) -> PhotoWindows:
        """What finds windows in the photos of a database, whose names go on with those of distractors."""
        describer = Describer(self.network, self.request.extraction, whitening, self.request.dim)
        queries = self._called(self.benchmark.queries)
        regions = query_regions(describer, queries, self.benchmark.boxes_for(self.request.crop), self.request.crop)
        photos = self._called(self.benchmark.database)
        if self.request.distractors is not None and is_folder(self.request.distractors):
            photos = photos.joined(photos_of(self.request.distractors))
        return PhotoWindows(describer, regions, photos, database)

    def _called(self, names: Sequence[str]) -> PhotoSources:
        """The protocol's photos under these names, whatever the folder calls them."""
        return replace(self.photos(names), keys=list(names))

    def describe_crops(self) -> Descriptors:
        """Descriptors of the boxes of the queries."""
        queries, request = self.benchmark.queries, self.request
        boxes = self.benchmark.boxes_for(request.crop)
        return describe_crops(
            self.network,
            self.photos(queries).sources,
            queries,
            np.empty((0, 4)) if boxes is None else boxes,
            request.crop,
            request.extraction,
        )


def _described(
    benchmark: Benchmark, crop: str, files: DescriptorFiles, describer: _ProtocolNetwork
) -> tuple[Descriptors, Descriptors]:
    """Descriptors of the database and of the queries, before whitening."""
    whole_queries = crop == "none" or files.queries is not None
    everything = files.database
    if everything is None:
        names = [*benchmark.database, *(benchmark.queries if whole_queries else [])]
        everything = describer.describe(list(dict.fromkeys(names)))
    database = _rows(everything, benchmark.database)
    if whole_queries:
        return database, _rows(files.queries or everything, benchmark.queries)
    return database, describer.describe_crops()


def _rows(descriptors: Descriptors, names: Sequence[str]) -> Descriptors:
    values = descriptors.values[align(descriptors, names, "the protocol")]
    return replace(descriptors, names=list(names), values=values)


def _distractors(
    source: AnyPath | None, describer: _ProtocolNetwork, known: set[str]
) -> tuple[Descriptors | None, list[str]]:
    """Descriptors of distractors, without those named as a photo of the protocol is, and what was left out."""
    if source is None:
        return None, []
    notes = []
    if not (isinstance(source, Address) or source.is_dir()):
        found = read_descriptors(source)
    else:
        found, failures = describe_photos(
            describer.network, photos_of(source), describer.request.extraction, "distractors"
        )
        if failures:
            notes.append(
                f"{told_of(len(failures), 'distractors cannot be read and are left out')}, first: {failures[0]}"
            )
    kept = [row for row, name in enumerate(found.names) if name not in known]
    # Of the file of the database itself the other photos are meant: what it has in common with the protocol is no news.
    if len(kept) < len(found.names) and source != describer.request.descriptors:
        doubled = len(found.names) - len(kept)
        notes.append(told_of(doubled, "distractors have the name of a photo of the protocol and are left out"))
    return replace(found, names=[found.names[row] for row in kept], values=found.values[kept]), notes


def _joined(database: Descriptors, distractors: Descriptors) -> Descriptors:
    _check_dimension("distractors", distractors, database)
    values = np.concatenate([database.values, distractors.values])
    return replace(database, names=database.names + distractors.names, values=values)


def _check_dimension(what: str, some: Descriptors, database: Descriptors) -> None:
    sizes = some.values.shape[1], database.values.shape[1]
    if sizes[0] != sizes[1]:
        raise UsageError(f"{what} have {sizes[0]} dimensions, the descriptors {sizes[1]}")


def _difference(what: str, some: Descriptors, database: Descriptors) -> str | None:
    """One line where descriptors were made otherwise than the database's; foreign files do not say how."""
    if not some.settings or not database.settings:
        return None
    found = differing(some.settings, database.settings, always=["whitening"])
    said = ", ".join(f"{key} {shortened(own)}, not {shortened(its)}" for key, own, its in found if key != "crop")
    return f"{some.path or what}: {what} made otherwise than the database's descriptors: {said}" if said else None
