"""The page of a site: before and after, what was chosen and why, and links to the pages of its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.reports.evaluation_cards import CardPhoto
from retrieval.reports.options import ReportOptions
from retrieval.reports.page import PAGE, Section, render_page
from retrieval.reports.report import write_report
from retrieval.reports.thumbnails import Thumbnails
from retrieval.site.candidates import START, title_of
from retrieval.site.choices import Choices
from retrieval.site.comparison import Comparison
from retrieval.site.photo_list import NO_PLACE, PhotoList, read_photo_list
from retrieval.site.site_files import SiteFiles
from retrieval.training.last_round import LAST
from sfm2tuples.compute.progress_bars import duration
from sfm2tuples.errors import counted
from sfm2tuples.files.atomic import write_folder_atomically, write_text

MOST_PLACES = 12
"""Places that are shown with a photo, the largest."""
PHOTO_SIZE = 320
"""Longest side of these photos, pixels."""


@dataclass(frozen=True)
class _Link:
    """A page below this one."""

    url: str
    title: str
    said: str


def write_site_page(files: SiteFiles, comparison: Comparison, choices: Choices, seconds: Mapping[str, float]) -> None:
    """Write the page; an earlier one is replaced as a whole.

    Parameters
    ----------
    files : SiteFiles
    comparison : Comparison
        Before and after.
    choices : Choices
        What was chosen.
    seconds : mapping of str to float
        File to the time that it took.
    """
    with write_folder_atomically(files.page) as folder:
        links = _pages_below(folder, files, comparison)
        shown = _photos_of_places(read_photo_list(files.photos), Thumbnails(folder, PHOTO_SIZE))
        rows, header = comparison.table()
        table = {"rows": rows, "header": header, "comparison": comparison, "kept": comparison.kept}
        sections = [
            Section("photos", "Its photos", shown, "site_photos.html.j2"),
            Section("table", "Before and after", table, "site_table.html.j2"),
            Section("choices", "What was chosen, and why", {"choices": choices.said}, "site_choices.html.j2"),
            Section("pages", "To look at", {"links": links}, "site_links.html.j2"),
            Section(
                "files",
                "Files",
                {"files": [(name, duration(taken)) for name, taken in seconds.items()]},
                "site_files.html.j2",
            ),
        ]
        head = {"name": files.folder.resolve().name, "comparison": comparison, "row": comparison.row}
        start = next((row for row in comparison.rows if row.way == START), None)
        write_text(folder / PAGE, render_page("site.html.j2", sections, head | {"start": start}))


def _photos_of_places(photos: PhotoList, thumbnails: Thumbnails) -> dict[str, Any]:
    """A photo of each of the largest places, and how many photos and places there are."""
    rows = [row for row, place in enumerate(photos.places) if place != NO_PLACE]
    members: dict[str, list[int]] = {}
    for row in rows:
        members.setdefault(photos.places[row], []).append(row)
    largest = sorted(members.items(), key=lambda one: (-len(one[1]), one[0]))[:MOST_PLACES]
    cards = []
    for place, own in largest:
        row = own[len(own) // 2]
        url = thumbnails.url(row, photos.names[row], lambda row: Path(photos.files[row]))
        cards.append(CardPhoto("found", counted(len(own), "photo"), url, place))
    counts = {"photos": len(photos.names), "loose": len(photos.names) - len(rows), "places": len(members)}
    return counts | {"cards": cards, "root": photos.root}


def _pages_below(folder: Path, files: SiteFiles, comparison: Comparison) -> list[_Link]:
    """Make the pages of the site's files, and say where they are."""
    links: list[_Link] = []

    def add(name: str, source: Path, options: ReportOptions, title: str, said: str) -> None:
        write_report(source, folder / name, options)
        links.append(_Link(f"{name}/{PAGE}", title, said))

    name = files.folder.resolve().name
    options = ReportOptions(descriptors=files.described(START), title=name)
    add("places", files.index, options, "Places", "models from above, shared points, and places that look alike")
    if files.tuples.is_file():
        said = "what the network was trained on, with the numbers that spoke for each choice"
        add("tuples", files.tuples, ReportOptions(title=name, index=files.index), "Tuples", said)
    if (files.run / LAST).is_file():
        add("training", files.run, ReportOptions(title=name), "Training", "mAP and loss, round by round")
    if comparison.rows:
        against = None if comparison.kept == START else files.evaluation(START)
        title = f"{comparison.title}, on what was held out"
        options = ReportOptions(compare=against, title=title, called=comparison.title, compare_called=title_of(START))
        said = "held-out photos that are asked for, the worst and the best, before and after"
        add("held_out", files.evaluation(comparison.kept), options, "Questions on what was held out", said)
    return links
