"""Print docs/commands.md from the commands' own help: python docs/command_pages.py > docs/commands.md"""

from __future__ import annotations

import click

from cli.main import COMMANDS, group


def page() -> str:
    """The help of every command, in the order of the road."""
    parts = ["# Commands", "", "Printed by `python docs/command_pages.py`; a test compares.", ""]
    road = click.Context(group, **group.context_settings)
    for name, text in COMMANDS.items():
        command = group.get_command(road, name)
        if command is None:
            raise LookupError(name)
        context = click.Context(command, road, f"sfm2tuples {name}", terminal_width=100, max_content_width=100)
        parts += [f"## {name}: {text}", "", "```", command.get_help(context), "```", ""]
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
