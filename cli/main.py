"""`sfm2tuples`: one group of commands, each in a file of its own, imported only when it is asked for."""

from __future__ import annotations

import importlib
import io
import os
import re
import sys

import click

from cli import interruption
from sfm2tuples import __version__
from sfm2tuples.errors import SfmTuplesError, one_line

COMMANDS = {
    "tune": "the whole road in one command: models or photos to a tuned network and a search",
    "ask": "the photos of a site nearest to a new one",
    "reconstruct": "make COLMAP models of loose photos, with pycolmap",
    "build-index": "find and read models; write the co-visibility graph, places and splits",
    "mine-tuples": "choose queries, positives and negatives, with the evidence for each choice",
    "train": "train a network on the tuples, mining hard negatives anew each round",
    "whiten": "learn a whitening (L_w or PCA_w) from pairs",
    "extract": "describe photos",
    "extract-features": "find local features in photos, for the BoW teacher",
    "build-bow": "learn visual words and index photos by them",
    "shorten-bow": "join bags of words and reduce them to short descriptors",
    "search": "rank a database of descriptors for each query; pairs for hloc",
    "evaluate": "measure on places unseen in training, on labelled photos, or by a protocol of the field",
    "report": "write an HTML page of tuples, or of an evaluation, to look at",
    "inspect": "say what is in a file of ours",
    "upgrade": "write an index of an earlier version anew, or a lean one of a whole one",
    "export": "write tuples, networks, pairs and the graph for other programs",
    "import-tuples": "turn cirtorch's training data into a tuple file",
    "import-descriptors": "check anybody's descriptors and bring them into our form",
    "demo": "run the whole road on a built-in world",
}
"""Command name to its one-line help, in the order of the road."""

NO_MEMORY = "can't allocate memory|not enough memory|out of memory"
"""What PyTorch says, in a RuntimeError, where memory is short."""


class _Commands(click.Group):
    """A group that imports a command's module when the command is first needed, so that help is quick."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Names in the order of the road."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import `cli.commands.<name>` and return its `command`."""
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"cli.commands.{name.replace('-', '_')}").command
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Example: sfm2tuples build-index my_models/ -o index.h5",
)
@click.version_option(__version__, prog_name="sfm2tuples")
def group() -> None:
    """Turn Structure-from-Motion models into training tuples, train a retrieval network on them, measure the gain."""


def main(arguments: list[str] | None = None) -> None:
    """Run a command; a known error is one line on stderr and an exit code: 1 data, 2 usage, 130 interrupted."""
    try:
        # What a command that exits by itself returns here is its code.
        code = group.main(args=arguments, prog_name="sfm2tuples", standalone_mode=False)
        if isinstance(code, int) and code:
            sys.exit(code)
    except click.exceptions.Exit as exit_request:
        sys.exit(exit_request.exit_code)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        click.echo("\n".join(map(one_line, shown.getvalue().rstrip("\n").split("\n"))), err=True)
        sys.exit(error.exit_code)
    except SfmTuplesError as error:
        click.echo(one_line(f"error: {error}"), err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort) as interrupted:
        interruption.end(str(interrupted))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        click.echo(f"error: {_said_by_the_system(error)}", err=True)
        sys.exit(1)
    except MemoryError as error:
        click.echo(f"error: {_short_of_memory(error)}", err=True)
        sys.exit(1)
    except Exception as error:
        # Ctrl-C in the middle of a library's import may come out as anything.
        if interruption.was_asked():
            interruption.end()
        if isinstance(error, RuntimeError) and re.search(NO_MEMORY, str(error)):
            click.echo(f"error: {_short_of_memory(MemoryError())}", err=True)
            sys.exit(1)
        if not isinstance(error, RecursionError):
            raise
        click.echo("error: something that was read is nested too deeply; is it what it should be?", err=True)
        sys.exit(1)


def _said_by_the_system(error: OSError) -> str:
    """A line that names the file, where the system named one."""
    name = error.filename if error.filename is not None else error.filename2
    what = error.strerror or str(error) or type(error).__name__
    return one_line(f"{os.fsdecode(name)}: {what}" if isinstance(name, (str, bytes)) else what)


def _short_of_memory(error: MemoryError) -> str:
    return one_line(f"not enough memory{f' ({error})' if str(error) else ''}; close other programs, or do it in parts")
