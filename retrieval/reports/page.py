"""What a page is made of: a head, and sections under it that a bar of links leads to."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from retrieval.reports.options import ReportOptions
from retrieval.reports.thumbnails import Thumbnails
from retrieval.reports.values import value_text
from sfm2tuples.errors import counted, noun_of
from sfm2tuples.files.container import SOFTWARE

PAGE = "index.html"
"""The file of a page in its folder."""
MARK = b'<meta name="generator" content="sfm2tuples '
"""In each page, near its start."""


@dataclass(frozen=True)
class Report:
    """What was made."""

    page: Path
    """The HTML file."""
    photos: int
    """Photos on the page."""
    missing: list[str]
    """Keys of the photos that could not be shown."""


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading of its own."""

    anchor: str
    """What a link to it ends with."""
    title: str
    """Its heading."""
    values: Mapping[str, Any]
    """What its template shows."""
    template: str = "section.html.j2"
    """File in `templates`. The usual one shows `note`, a text, and `body`, whatever is `Markup`."""
    link: str = ""
    """Its name in the bar of links; its heading where left out."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Names and texts of files that lie beside the page, for its template to link to."""


@dataclass(frozen=True)
class Page:
    """How the page of one format is made."""

    read: Callable[[Path, ReportOptions, Thumbnails], Any]
    """Reads the file to what the sections are made from; its `head` gives what `template` shows."""
    template: str
    """File in `templates` with the page's title and head."""
    sections: Iterable[str]
    """Modules of the room `sections`, in the order of the page."""

    @property
    def kind(self) -> str:
        """What it is a page of: ``tuples``, ``evaluation``, ``index`` or ``run``."""
        return self.template.partition(".")[0]

    def texts(self, path: Path, options: ReportOptions, thumbnails: Thumbnails) -> dict[str, str]:
        """The page and the files beside it, by name; its photos are written on the way."""
        content = self.read(path, options, thumbnails)
        # All sections are there before one is rendered, since the first says which photos of the others are missing.
        sections = [section for name in self.sections for section in _module(name).sections(content)]
        beside = {name: text for section in sections for name, text in section.files.items()}
        return {PAGE: render_page(self.template, sections, content.head()), **beside}


def render_page(template: str, sections: Sequence[Section], head: Mapping[str, Any]) -> str:
    """A page as a text: the head's template with what it shows, and the sections under it."""
    environment = _environment()

    def render(template: str, **values: Any) -> Markup:
        return Markup(environment.get_template(template).render(values, software=SOFTWARE))

    shown = [(section, render(section.template, section=section, **section.values)) for section in sections]
    return render(template, sections=shown, **head)


def _module(name: str) -> Any:
    return importlib.import_module(f"retrieval.reports.sections.{name}")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("retrieval.reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["value"] = value_text
    environment.filters["counted"] = counted
    environment.filters["noun"] = noun_of
    # Where a path is broken into lines, it is so behind a slash.
    environment.filters["breakable"] = lambda path: escape(path).replace("/", Markup("/<wbr>"))
    environment.filters["thousands"] = lambda number: f"{number:,}"
    environment.filters["megabytes"] = lambda number: f"{number / 1e6:,.1f} MB"
    return environment
