"""`sfm2tuples ask`: the photos of a site nearest to a new one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options.idle_flags import Use, given, refuse_idle_flags
from cli.options.paths import FilePath
from cli.output import Output, output_options
from sfm2tuples.errors import counted

if TYPE_CHECKING:
    from retrieval.site.questions import Answers, Site

PATH = FilePath()
USES = (Use(("num_results", "only_models", "target", "pairs", "verify"), "photos that are asked for", given("photos")),)
"""What flags are for that have nothing to do where photos are added alone."""


@click.command("ask", epilog="Example: sfm2tuples ask site/ new.jpg --page page/")
@click.argument("site", type=PATH)
@click.argument("photos", nargs=-1, metavar="PHOTO...", type=PATH)
@click.option("--num-results", type=click.IntRange(1), default=10, show_default=True, help="photos shown for each")
@click.option("--only-models", is_flag=True, help="look among the photos of models alone, not those in no model")
@click.option("--page", "target", type=PATH, help="folder to make: a page with the photos side by side")
@click.option("--pairs", type=PATH, help="pairs of names as text, for hloc")
@click.option(
    "--verify",
    is_flag=True,
    help="put those first that share local features (SIFT) in one geometry, and say which share no more than by chance",
)
@click.option("--add", type=PATH, multiple=True, help="photo, or folder of photos, to add to the site; may be repeated")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="--verify: processes")
@click.option("--device", help="where the network runs, such as cpu or cuda  [default: cpu]")
@click.option("--force", is_flag=True, help="replace the outputs where they exist")
@output_options
def command(
    site: Path,
    photos: tuple[Path, ...],
    num_results: int,
    only_models: bool,
    target: Path | None,
    pairs: Path | None,
    verify: bool,
    add: tuple[Path, ...],
    jobs: int,
    device: str | None,
    force: bool,
    output: Output,
) -> None:
    """Find the photos of SITE that are nearest to each PHOTO; a folder stands for all photos below it."""
    from retrieval.site.questions import Site
    from retrieval.site.site_files import SiteFiles
    from sfm2tuples.errors import UsageError
    from sfm2tuples.files.atomic import refuse_overwrite

    if not photos and not add:
        raise UsageError("say what to ask for: a photo, or a folder of photos; or --add photos")
    refuse_idle_flags(USES)
    for written in (pairs, target):
        if written is not None and SiteFiles(site).owns(written):
            raise UsageError(f"{written}: is a file of the site; give the output another name")
    if pairs is not None:
        refuse_overwrite(pairs, force)
    if target is not None:
        from retrieval.site.answer_page import refuse_answer_page

        refuse_answer_page(target, force)
    if add:
        _add(site, add, device, output)
    if not photos:
        return
    opened = Site.open(site, device)
    found, failures = opened.ask_readable(_asked(photos, site), num_results, only_models)
    if verify and found:
        from retrieval.site.verification import verified

        found = verified(opened, found, jobs)
    _show(found, _among(opened, only_models), output)
    if found:
        _write(site, found, target, pairs, output)
    output.fail_of("photos that were asked for cannot be read", failures)


def _asked(photos: Sequence[Path], site: Path) -> list[Path]:
    """The photos that are named, and all below folders that are."""
    if not any(photo.is_dir() for photo in photos):
        return list(photos)
    from retrieval.site.adding import files_of

    return [path for photo in photos for path in (files_of([photo], site) if photo.is_dir() else [photo])]


def _add(site: Path, sources: Sequence[Path], device: str | None, output: Output) -> None:
    from retrieval.site.adding import add_photos

    added = add_photos(site, sources, device)
    output.warn_of("photos could not be read and are left out", added.failures)
    output.result({"added": added.photos, "known": added.known})
    output.say(f"added {counted(added.photos, 'photo')}; already there: {added.known:,}")


def _among(site: Site, only_models: bool) -> str:
    """What is looked among, and the folder that names are relative to."""
    count = counted(len(site.searched(only_models)), "photo") + (" of models" if only_models else "")
    root = site.photos.root
    return f"among {count}" + (f" below {root}" if root else "")


def _show(found: Sequence[Answers], among: str, output: Output) -> None:
    """Print a table of each question."""
    from retrieval.site.questions import place_text

    header = ["rank", "similarity", "photo", "place"]
    for answers in found:
        output.say(f"{answers.photo}, {among}:")
        counted = any(one.verified is not None for one in answers.answers)
        rows = []
        for one in answers.answers:
            looked = (one.inliers, "verified" if one.verified else "not verified") if counted else ()
            rows.append((one.rank, f"{one.similarity:.3f}", *looked, one.name, place_text(one)))
        output.table(rows, header[:2] + ["matches", ""] * counted + header[2:])
        if answers.is_unverified:
            output.say("not verified: none of these shares more local features with it than other things do by chance")
    output.result(
        {
            "answers": {
                str(answers.photo): [vars(one) | {"file": str(one.file)} for one in answers.answers]
                for answers in found
            }
        }
    )


def _write(site: Path, found: Sequence[Answers], target: Path | None, pairs: Path | None, output: Output) -> None:
    """Write what was asked for beside the table."""
    if pairs is not None:
        from sfm2tuples.interop.pair_lists import write_pair_list

        listed = [(str(answers.photo), one.name) for answers in found for one in answers.answers]
        output.made(pairs, counted(write_pair_list(pairs, listed), "pair"))
    if target is not None:
        from retrieval.site.answer_page import write_answer_page

        report = write_answer_page(target, site.resolve().name, found)
        if report.missing:
            output.warn(f"photos that cannot be shown: {len(report.missing):,}, first {report.missing[0]}")
        output.made(report.page, f"a page with {counted(report.photos, 'photo')}", "open it in a browser")
