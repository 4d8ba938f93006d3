"""Descriptors of a protocol's queries, database and distractors: by a network, or from anybody's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.descriptors.described_photos import describe_photos, mismatch_warning, whiten_descriptors
from retrieval.descriptors.extraction import ExtractionOptions, extract_settings
from retrieval.descriptors.query_crops import describe_crops
from retrieval.evaluation.options import MeasurementOptions
from retrieval.networks.choice import NetworkChoice, load_on
from retrieval.networks.network import Network
from retrieval.photos.sources import PhotoSources, photos_of
from retrieval.protocols.benchmark import Benchmark, PhotoNames, names_of
from retrieval.search.window_descriptors import Describer, PhotoWindows, query_regions
from retrieval.search.window_search import WindowFinder
from retrieval.whitening.projection import Whitening, read_whitening
from sfm2tuples.errors import UsageError
from sfm2tuples.files.descriptor_settings import differing
from sfm2tuples.files.descriptors import Descriptors, align, read_descriptors


@dataclass(frozen=True)
class DescriptorFiles:
    """The descriptor files that were named, read once."""

    database: Descriptors | None
    """Of the database, and of the queries where they have no file of their own."""
    queries: Descriptors | None
    """Of the queries."""

    @classmethod
    def read(cls, options: MeasurementOptions) -> DescriptorFiles:
        """Read `--descriptors` and `--queries` where they are given."""
        return cls(
            read_descriptors(options.descriptors) if options.descriptors else None,
            read_descriptors(options.queries) if options.queries else None,
        )

    def names(self) -> PhotoNames | None:
        """Names of the photos that are described; None without files."""
        if self.database is None:
            return None
        queries = self.queries.names if self.queries is not None else None
        return PhotoNames(self.database.names, self.database.path, queries)


@dataclass(frozen=True)
class DescribedBenchmark:
    """What is compared in a protocol; `database.names` goes on with the distractors'."""

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


def describe_benchmark(
    benchmark: Benchmark,
    options: MeasurementOptions,
    files: DescriptorFiles,
    choice: NetworkChoice,
    extraction: ExtractionOptions,
) -> DescribedBenchmark:
    """Describe the photos of a protocol, or take their descriptors from files; then whiten all of them alike.

    Parameters
    ----------
    benchmark : Benchmark
    options : MeasurementOptions
    files : DescriptorFiles
    choice : NetworkChoice
        Needed without files; beside files only for cropped queries and for distractors that are photos.
    extraction : ExtractionOptions
        For the network.

    Raises
    ------
    UsageError, DataError
        A network is missing or too much, or does not fit the files; a photo has no descriptor or cannot be read.
    """
    _check_request(benchmark, options, files, choice)
    describer = None
    if files.database is None or choice.named:
        describer = _Describer(load_on(options.device, choice), extraction, options, benchmark.photos)
        describer.check_fits(files.database)
    database, queries = _described(benchmark, options.crop, files, describer)
    distractors, notes = _distractors(options.distractors, describer, {*database.names, *queries.names})
    parents = [database.fingerprint, queries.fingerprint]
    warnings = [_difference("queries", queries, database)]
    if distractors is not None:
        parents.append(distractors.fingerprint)
        warnings.append(_difference("distractors", distractors, database))
    whitening = None
    if options.whitening is not None:
        whitening = read_whitening(options.whitening)
        parents.append(whitening.fingerprint)
        warnings.append(mismatch_warning(options.whitening, whitening, database))
        queries, database = (whiten_descriptors(part, whitening, options.dim) for part in (queries, database))
        distractors = whiten_descriptors(distractors, whitening, options.dim) if distractors is not None else None
    _check_dimension("queries", queries, database)
    database = database if distractors is None else _joined(database, distractors)
    return DescribedBenchmark(
        queries,
        database,
        tuple(dict.fromkeys(parent for parent in parents if parent)),
        tuple(warning for warning in warnings if warning),
        tuple(notes),
        _needed(describer).windows(benchmark, database.names, whitening) if options.refinement.num_windows else None,
    )


def _check_request(
    benchmark: Benchmark, options: MeasurementOptions, files: DescriptorFiles, choice: NetworkChoice
) -> None:
    if options.crop != "none" and benchmark.boxes is None:
        raise UsageError("--crop needs boxes, which the queries of Oxford and Paris have, original and revisited")
    if files.database is None:
        return
    crops = options.crop != "none" and files.queries is None
    if crops and not choice.named:
        raise UsageError(
            f"--crop {options.crop} describes the queries anew: name the network of the descriptors, or give --queries"
        )
    windows = options.refinement.num_windows > 0
    if windows and not choice.named:
        raise UsageError("--rerank R looks at photos: name the network of the descriptors")
    photos = options.distractors is not None and options.distractors.is_dir()
    if choice.named and not (crops or photos or windows):
        raise UsageError("--descriptors are there already: leave out --network and --backbone, or --descriptors")


@dataclass(frozen=True)
class _Describer:
    """A network and how it is to describe photos."""

    network: Network
    extraction: ExtractionOptions
    options: MeasurementOptions
    listed: PhotoSources | None
    """The protocol's photos, where its data lists them."""

    def check_fits(self, descriptors: Descriptors | None) -> None:
        """Refuse files that another network made, or this one at another size."""
        if descriptors is None:
            return
        if "whitening" in descriptors.settings:
            remedy = "extract without --whitening, and give it here"
            raise UsageError(f"{descriptors.path}: whitened already, unlike what the network describes; {remedy}")
        own = Descriptors([], np.empty((0, 0)), extract_settings(self.network, self.extraction))
        difference = _difference("the network", own, descriptors)
        if difference:
            raise UsageError(difference)

    def photos(self, names: Sequence[str]) -> PhotoSources:
        """The protocol's photos of these names."""
        if self.listed is not None:
            return self.listed.only(names)
        folder = self.options.choice.folder
        photos = photos_of(folder)
        # Names of a descriptor file need not begin at the protocol's folder.
        return photos.only(names_of(names, PhotoNames(photos.keys, str(folder)), "the protocol"))

    def describe(self, names: Sequence[str]) -> Descriptors:
        """Descriptors of the protocol's photos of these names, all of which must be readable."""
        descriptors, failures = describe_photos(self.network, self.photos(names), self.extraction)
        if failures:
            raise failures[0]
        return descriptors

    def windows(self, benchmark: Benchmark, database: Sequence[str], whitening: Whitening | None) -> PhotoWindows:
        """What finds windows in the photos of a database, whose names go on with those of distractors."""
        describer = Describer(self.network, self.extraction, whitening, self.options.dim)
        regions = query_regions(describer, self._called(benchmark.queries), benchmark.boxes, self.options.crop)
        photos = self._called(benchmark.database)
        if self.options.distractors is not None and self.options.distractors.is_dir():
            photos = photos.joined(photos_of(self.options.distractors))
        return PhotoWindows(describer, regions, photos, database)

    def _called(self, names: Sequence[str]) -> PhotoSources:
        """The protocol's photos under these names, whatever the folder calls them."""
        return replace(self.photos(names), keys=list(names))

    def describe_crops(self, benchmark: Benchmark) -> Descriptors:
        """Descriptors of the boxes of the queries."""
        sources = self.photos(benchmark.queries).sources
        boxes = np.empty((0, 4)) if benchmark.boxes is None else benchmark.boxes
        return describe_crops(self.network, sources, benchmark.queries, boxes, self.options.crop, self.extraction)


def _described(
    benchmark: Benchmark, crop: str, files: DescriptorFiles, describer: _Describer | None
) -> tuple[Descriptors, Descriptors]:
    """Descriptors of the database and of the queries, before whitening."""
    whole_queries = crop == "none" or files.queries is not None
    everything = files.database
    if everything is None:
        names = [*benchmark.database, *(benchmark.queries if whole_queries else [])]
        everything = _needed(describer).describe(list(dict.fromkeys(names)))
    database = _rows(everything, benchmark.database)
    if whole_queries:
        return database, _rows(files.queries or everything, benchmark.queries)
    return database, _needed(describer).describe_crops(benchmark)


def _needed(describer: _Describer | None) -> _Describer:
    if describer is None:
        raise UsageError("name a network: --network CHECKPOINT, or --backbone NAME with --weights FILE")
    return describer


def _rows(descriptors: Descriptors, names: Sequence[str]) -> Descriptors:
    values = descriptors.values[align(descriptors, names, "the protocol")]
    return replace(descriptors, names=list(names), values=values)


def _distractors(
    source: Path | None, describer: _Describer | None, known: set[str]
) -> tuple[Descriptors | None, list[str]]:
    """Descriptors of distractors, without those named as a photo of the protocol is, and what was left out."""
    if source is None:
        return None, []
    notes = []
    if not source.is_dir():
        found = read_descriptors(source)
    else:
        if describer is None:
            raise UsageError(f"{source}: photos of distractors need a network; or give a file of their descriptors")
        found, failures = describe_photos(describer.network, photos_of(source), describer.extraction, "distractors")
        if failures:
            notes.append(f"{len(failures):,} distractors cannot be read and are left out, first: {failures[0]}")
    kept = [row for row, name in enumerate(found.names) if name not in known]
    if len(kept) < len(found.names):
        doubled = len(found.names) - len(kept)
        notes.append(f"{doubled:,} distractors have the name of a photo of the protocol and are left out")
    return replace(found, names=[found.names[row] for row in kept], values=found.values[kept]), notes


def _joined(database: Descriptors, distractors: Descriptors) -> Descriptors:
    _check_dimension("distractors", distractors, database)
    values = np.concatenate([database.values, distractors.values])
    return replace(database, names=database.names + distractors.names, values=values)


def _check_dimension(what: str, part: Descriptors, database: Descriptors) -> None:
    sizes = part.values.shape[1], database.values.shape[1]
    if sizes[0] != sizes[1]:
        raise UsageError(f"{what} have {sizes[0]} dimensions, the descriptors {sizes[1]}")


def _difference(what: str, part: Descriptors, database: Descriptors) -> str | None:
    """One line where descriptors were made otherwise than the database's; foreign files do not say how."""
    if not part.settings or not database.settings:
        return None
    found = differing(part.settings, database.settings, always=["whitening"])
    said = ", ".join(f"{key} {str(own)[:20]}, not {str(its)[:20]}" for key, own, its in found if key != "crop")
    return f"{part.path or what}: {what} made otherwise than the database's descriptors: {said}" if said else None
