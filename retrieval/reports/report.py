"""HTML pages to look at: a folder with `index.html` and its photos, which needs nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from retrieval.evaluation import evaluation_file
from retrieval.reports.evaluation_page import EvaluationPage
from retrieval.reports.index_page import IndexPage
from retrieval.reports.options import ReportOptions
from retrieval.reports.page import MARK, PAGE, Page, Report
from retrieval.reports.run_page import RunPage
from retrieval.reports.sections.pairs_to_check import PAIRS
from retrieval.reports.thumbnails import FOLDER, Thumbnails
from retrieval.reports.tuple_page import TuplePage
from retrieval.training.last_round import LAST
from sfm2tuples.errors import DataError, FileFormatError
from sfm2tuples.files.atomic import OurFolder, refuse_folder_overwrite, write_folder_atomically, write_text
from sfm2tuples.files.container import read_header
from sfm2tuples.files.opening import is_hdf5
from sfm2tuples.files.regular_files import require_file
from sfm2tuples.files.text import begins_with
from sfm2tuples.index import schema
from sfm2tuples.mining import tuple_file

TUPLES = Page(
    TuplePage,
    "tuples.html.j2",
    (
        "contents",
        "evidence",
        "frequent_negatives",
        "pairs_to_check",
        "tuples",
    ),
)
EVALUATION = Page(
    EvaluationPage,
    "evaluation.html.j2",
    (
        "figures",
        "localisation",
        "worst_and_best",
        "differences",
    ),
)
INDEX = Page(
    IndexPage,
    "index.html.j2",
    (
        "models_from_above",
        "models_in_numbers",
        "places",
        "alike_places",
        "pairs_to_check",
        "made_from",
    ),
)
RUN = Page(RunPage, "run.html.j2", ("rounds",))
RUN_FOLDER = "the folder of a training run"
PAGES = {
    schema.FORMAT: INDEX,
    tuple_file.FORMAT: TUPLES,
    evaluation_file.FORMAT: EVALUATION,
    RUN_FOLDER: RUN,
}
"""Format of a file to its page. A section is a module of the room `sections` and a line in a page's list."""


def write_report(source: Path, target: Path, options: ReportOptions, force: bool = False) -> Report:
    """Write the page of a file of ours; the folder appears whole or not at all.

    Parameters
    ----------
    source : Path
        An index, a tuple file, an evaluation, or the folder of a training run.
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
    refuse_folder_overwrite(target, force, OurFolder("page that report made", (PAGE, FOLDER, PAIRS), PAGE, MARK))
    page = page_of(source)
    if options.compare is not None:
        require_file(options.compare, remedy="--compare takes what evaluate -o wrote")
    with write_folder_atomically(target) as folder:
        thumbnails = Thumbnails(folder, options.photo_size)
        for name, text in page.texts(source, options, thumbnails).items():
            write_text(folder / name, text)
    return Report(target / PAGE, thumbnails.count, thumbnails.missing)


def page_of(source: Path) -> Page:
    """The page that a source has; a JSON file is taken for an evaluation, whose reader tells more.

    Raises
    ------
    FileFormatError
        No page can be made of such a file.
    DataError
        It is absent, or a folder without a training run.
    """
    remedy = "give an index (build-index), a tuple file (mine-tuples), an evaluation (evaluate -o) or a folder of train"
    if source.is_dir():
        if not (source / LAST).is_file():
            raise DataError(source, f"is a folder without a training run ({LAST})", remedy)
        return RUN
    require_file(source)
    if not is_hdf5(source):
        if not begins_with(source, b"{"):
            raise FileFormatError(source, "is no file that a report can be made of", remedy)
        return EVALUATION
    format = read_header(source).format
    if format not in PAGES:
        raise FileFormatError(source, f"is {format}, which has no report", remedy)
    return PAGES[format]
