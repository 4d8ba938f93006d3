"""The page of `ask`: each photo that was asked for beside what was found, as a folder that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retrieval.reports.evaluation_cards import CardPhoto
from retrieval.reports.page import MARK, PAGE, Report, Section, render_page
from retrieval.reports.thumbnails import FOLDER, Thumbnails
from retrieval.site.questions import Answer, Answers
from sfm2tuples.files.atomic import OurFolder, refuse_folder_overwrite, write_folder_atomically, write_text

PHOTO_SIZE = 400
"""Longest side of the page's photos, pixels."""
FOUND = "found"
"""CSS class of a photo that was found."""


def refuse_answer_page(target: Path, force: bool) -> None:
    """Refuse a folder that is there and may not be replaced, before any work."""
    refuse_folder_overwrite(target, force, OurFolder("page that ask made", (PAGE, FOLDER), PAGE, MARK))


def write_answer_page(target: Path, site: str, found: Sequence[Answers]) -> Report:
    """Write the page; the folder appears whole or not at all.

    Parameters
    ----------
    target : Path
    site : str
        What the site is called.
    found : sequence of Answers
    """
    with write_folder_atomically(target) as folder:
        pictures = _Pictures(Thumbnails(folder, PHOTO_SIZE))
        cards = [_card(answers, pictures) for answers in found]
        section = Section("answers", "Answers", {"cards": cards}, "site_answers.html.j2")
        head = {"site": site, "questions": len(found)}
        write_text(folder / PAGE, render_page("site_asked.html.j2", [section], head))
    return Report(target / PAGE, pictures.thumbnails.count, pictures.thumbnails.missing)


class _Pictures:
    """Small pictures by the photo's path, each written once."""

    def __init__(self, thumbnails: Thumbnails) -> None:
        self.thumbnails = thumbnails
        self._numbers: dict[Path, int] = {}

    def url(self, file: Path, key: str) -> str:
        number = self._numbers.setdefault(file, len(self._numbers))
        return self.thumbnails.url(number, key, lambda _: file)


def _card(answers: Answers, pictures: _Pictures) -> dict[str, Any]:
    name = answers.photo.name
    return {
        "title": name,
        "query": CardPhoto("query", str(answers.photo), pictures.url(answers.photo, name), "asked for"),
        "pictures": [_picture(one, pictures) for one in answers.answers],
    }


def _picture(answer: Answer, pictures: _Pictures) -> CardPhoto:
    place = answer.place or "in no model"
    # First what must not be cut off where a card is narrow.
    verified = "" if answer.verified is None else f"{'verified' if answer.verified else 'not verified'}, "
    matches = "" if answer.inliers is None else f", {answer.inliers:,} matches"
    said = f"{answer.rank}: {verified}{place}{matches}"
    return CardPhoto(FOUND, answer.name, pictures.url(answer.file, answer.name), said, answer.similarity)
