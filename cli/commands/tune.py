"""`sfm2tuples tune`: folders of models or photos to a tuned network and a search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.options.network import device_option, network_options
from cli.options.paths import FilePath
from cli.output import Output, output_options
from sfm2tuples.errors import counted

if TYPE_CHECKING:
    from retrieval.networks.choice import NetworkChoice

PATH = FilePath()


class BudgetType(click.ParamType):
    """A time such as ``20m``, in seconds."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the text."""
        from retrieval.site.effort import seconds_of

        try:
            return seconds_of(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time such as 90s, 20m or 2h", param, ctx)


@click.command("tune", epilog="Example: sfm2tuples tune my_models/ -o site/")
@click.argument("roots", nargs=-1, required=True, metavar="ROOT...", type=PATH)
@click.option("-o", "--output", "site", type=PATH, required=True, help="folder of the site, made or gone on with")
@click.option(
    "--images",
    multiple=True,
    metavar="[ROOT=]DIR",
    help="folder of photos, for models without images/ beside them; may be repeated",
)
@click.option("--places", type=PATH, help="CSV of model,place[,split] that says which models show the same thing")
@network_options
@click.option("--quick", is_flag=True, help="take a tenth of the full time: fewer rounds, smaller photos")
@click.option("--budget", type=BudgetType(), help="time for all steps, such as 90s, 20m or 2h: what fits is done")
@click.option("--seed", default=0, show_default=True, help="seed of every draw")
@device_option
@output_options
def command(
    roots: tuple[Path, ...],
    site: Path,
    choice: NetworkChoice,
    output: Output,
    **asked: Any,
) -> None:
    """Index, mine, train, whiten, measure, search and report: from models or photos below each ROOT to a site.

    Every option is chosen from the data, and said with its reason. The network that is best on places held out is kept,
    the one before training included. A second call goes on, and makes again what has changed.
    """
    from retrieval.site.request import TuneRequest
    from retrieval.site.tuning import tune_site

    request = TuneRequest(roots, site, choice, progress=not output.quiet, **asked)
    try:
        tuned = tune_site(request, output.say)
    except KeyboardInterrupt as interruption:
        # Not KeyboardInterrupt: click would turn it into an Abort of its own and lose the message.
        raise click.Abort("the same command goes on") from interruption
    rows, header = tuned.comparison.table()
    if rows:
        output.table(rows, header)
    output.say(tuned.comparison.verdict())
    output.result({"comparison": tuned.comparison.as_dict(), "choices": tuned.choices.as_dict()})
    output.result({"photos": tuned.photos, "network": str(tuned.files.network), "page": str(tuned.files.page)})
    output.made(
        tuned.files.page / "index.html",
        f"{counted(tuned.photos, 'photo')} to ask, and {tuned.files.network}, {tuned.comparison.title}",
        f"sfm2tuples ask {site} PHOTO",
    )
