"""HTML pages to look at: a folder with `index.html` and its photos, which needs nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import jinja2

from retrieval.reports.evaluation_page import EvaluationOptions, evaluation_page
from retrieval.reports.thumbnails import FOLDER, Thumbnails
from retrieval.reports.tuple_page import tuple_page
from sfm2tuples.errors import DataError, FileFormatError, UsageError
from sfm2tuples.files.atomic import refuse_folder_overwrite, write_folder_atomically, write_text
from sfm2tuples.files.container import SOFTWARE, read_header
from sfm2tuples.mining.tuple_file import FORMAT as TUPLES_FORMAT

PAGE = "index.html"


@dataclass(frozen=True)
class ReportOptions:
    """How much of a file a page shows."""

    num_tuples: int = 40
    """Tuples shown of each split, balanced over places."""
    photo_size: int = 320
    """Longest side of the photos on the page, in pixels."""
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    """What is shown of an evaluation."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.num_tuples < 0:
            raise UsageError(f"--num-tuples {self.num_tuples}: give a number of at least 0")
        if self.photo_size < 16:
            raise UsageError(f"--photo-size {self.photo_size}: give at least 16 pixels")


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
class _Kind:
    """How the page of one format is made."""

    template: str
    collect: Callable[[Path, ReportOptions, Thumbnails], dict[str, Any]]


_TUPLES = _Kind("tuples.html.j2", lambda path, options, shown: tuple_page(path, options.num_tuples, shown))
_EVALUATION = _Kind("evaluation.html.j2", lambda path, options, shown: evaluation_page(path, options.evaluation, shown))


def write_report(source: Path, target: Path, options: ReportOptions, force: bool = False) -> Report:
    """Write the page of a file of ours; the folder appears whole or not at all.

    Parameters
    ----------
    source : Path
        A tuple file, or an evaluation.
    target : Path
        The folder to make.
    options : ReportOptions
    force : bool
        Replace an earlier page. Any other folder is left alone.

    Raises
    ------
    FileFormatError
        No page can be made of such a file.
    UsageError
        The target exists and may not be replaced.
    DataError
        A file is absent.
    """
    refuse_folder_overwrite(target, force, {PAGE, FOLDER}, "page that report made")
    kind = _kind(source)
    compared = options.evaluation.compare
    if compared is not None and not compared.is_file():
        raise DataError(compared, "no such file", "--compare takes what evaluate -o wrote")
    with write_folder_atomically(target) as folder:
        thumbnails = Thumbnails(folder, options.photo_size)
        shown = kind.collect(source, options, thumbnails)
        write_text(folder / PAGE, _environment().get_template(kind.template).render(shown, software=SOFTWARE))
    return Report(target / PAGE, thumbnails.count, thumbnails.missing)


def _kind(source: Path) -> _Kind:
    if not source.is_file():
        raise DataError(source, "no such file")
    remedy = "give a tuple file, which mine-tuples writes, or an evaluation, which evaluate -o does"
    if not h5py.is_hdf5(source):
        if source.read_bytes()[:1] != b"{":
            raise FileFormatError(source, "is no file that a report can be made of", remedy)
        return _EVALUATION
    format = read_header(source).format
    if format != TUPLES_FORMAT:
        raise FileFormatError(source, f"is {format}, which has no report", remedy)
    return _TUPLES


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("retrieval.reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["thousands"] = lambda number: f"{number:,}"
    environment.filters["megabytes"] = lambda number: f"{number / 1e6:,.1f} MB"
    return environment
