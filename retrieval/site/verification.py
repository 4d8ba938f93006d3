"""`ask --verify`: local features of the nearest photos, found once and kept, matched with the question's."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from retrieval.local_features.feature_extraction import FeatureOptions, extract_features
from retrieval.local_features.feature_files import LocalFeatures, map_features, write_features
from retrieval.local_features.options import VerificationOptions
from retrieval.photos.sources import PhotoSources, SourceColumns
from retrieval.search.feature_verifier import FeatureTables, FeatureVerifier
from retrieval.site.database import sources_of
from retrieval.site.questions import Answers, Site, reranked
from retrieval.site.site_files import held_site
from retrieval.site.state import fingerprint_of, size_and_time
from sfm2tuples.errors import DataError, PhotoError, told_of

logger = logging.getLogger(__name__)
LEAST_MATCHES = 20
"""Matches in one geometry that verify a photo: see `docs/tune.md` for how many other things share by chance."""
COUNTED = 8
"""Fewer matches, which nearly fix a geometry by their number alone, count as none."""
QUESTION = "asked: "
"""Stands before the name of a photo that is asked for, so that no photo of the site is called so."""


def verified(site: Site, found: Sequence[Answers], jobs: int = 1) -> list[Answers]:
    """Put the photos first that share most local features with the question, if they are more than chance.

    Parameters
    ----------
    site : Site
        Features of its photos are kept in its folder, where that can be written to.
    found : sequence of Answers
    jobs : int
        Processes that find features and match them.

    Raises
    ------
    DataError
        A photo that is asked for, or none of those that were found, can be read.
    UsageError
        pycolmap is absent.
    """
    options = VerificationOptions(min_inliers=COUNTED)
    listed = sorted({one.name for answers in found for one in answers.answers})
    asked = _features_of_questions([answers.photo for answers in found], jobs)
    features = _features_of_site(site, listed, jobs)
    wanted = list(features)
    tables = FeatureTables([*features.values(), asked])
    names = [QUESTION + str(number) for number in range(len(found))]
    verifier = FeatureVerifier(tables, names, wanted, options, jobs)
    row_of = {name: row for row, name in enumerate(wanted)}
    width = max(len(answers.answers) for answers in found)
    rows = np.full((len(found), width), -1, np.int64)
    for number, answers in enumerate(found):
        rows[number, : len(answers.answers)] = [row_of.get(one.name, -1) for one in answers.answers]
    counts = verifier.count(rows)
    return [
        reranked(answers, counts[number, : len(answers.answers)].tolist(), LEAST_MATCHES)
        for number, answers in enumerate(found)
    ]


def _features_of_questions(photos: Sequence[Path], jobs: int) -> LocalFeatures:
    """Local features of the photos that are asked for."""
    names = [QUESTION + str(number) for number in range(len(photos))]
    everything = np.arange(len(photos))
    files = [str(photo.absolute()) for photo in photos]
    sources = SourceColumns.below(["/"], np.zeros(len(photos), np.int64), files)
    asked = PhotoSources(names, sources, everything, Path("/"))
    try:
        return extract_features(asked, FeatureOptions(), jobs, strict=True)[0]
    except PhotoError as error:
        raise PhotoError(photos[int(error.path.removeprefix(QUESTION))], error.what, error.remedy) from error


def _features_of_site(site: Site, wanted: Sequence[str], jobs: int) -> dict[str, LocalFeatures]:
    """Features of photos of the site by name: those that are kept, and those that are found now and kept if possible.

    A question is answered all the same where they cannot be kept: on a medium that is read alone, in somebody else's
    folder, while `tune` works there, or on a full disk.

    A photo that cannot be read any more has none, and a warning says so: the others are an answer still.
    A file of features is named after its photos and their stamps, so that one of a changed photo is not looked at.
    """
    row_of = {name: row for row, name in enumerate(site.photos.names)}
    photos = site.photos.take([row_of[name] for name in wanted])
    path_of = {
        name: site.files.features / f"{_stamp_of(file)}.h5"
        for name, file in zip(photos.names, photos.files, strict=True)
    }
    features = {name: one for name, path in path_of.items() if (one := _kept(path, name)) is not None}
    absent = [row for row, name in enumerate(photos.names) if name not in features]
    if not absent:
        return features
    fresh: dict[str, LocalFeatures] = {}
    what = "photos of the site cannot be read any more and are taken to share nothing"
    try:
        found, failures = extract_features(sources_of(photos.take(absent), site.files.photos), FeatureOptions(), jobs)
    except DataError:
        if not features:
            raise
        logger.warning("%s, first: %s", told_of(len(absent), what), photos.names[absent[0]])
    else:
        fresh = {name: found.only([name]) for name in found.names}
        if failures:
            logger.warning("%s, first: %s", told_of(len(failures), what), failures[0])
    try:
        _keep(site, {path_of[name]: one for name, one in fresh.items()})
    except (DataError, OSError) as error:
        logger.warning("the local features are not kept for the next question: %s", error)
    return {name: one for name in photos.names if (one := features.get(name) or fresh.get(name)) is not None}


def _kept(path: Path, name: str) -> LocalFeatures | None:
    """The features of a photo that were kept; None where there are none, or they are torn."""
    try:
        found = map_features(path) if path.is_file() else None
    except DataError:
        return None
    return found if found is not None and found.names == [name] else None


def _keep(site: Site, features: Mapping[Path, LocalFeatures]) -> None:
    """Write features of the site's photos, each to its file."""
    with held_site(site.files.folder) as files:
        files.features.mkdir(exist_ok=True)
        for path, one in features.items():
            write_features(path, one)


def _stamp_of(file: str) -> str:
    """A name for the features of a photo as it is now."""
    return fingerprint_of([file, *size_and_time(Path(file))])[:32]
