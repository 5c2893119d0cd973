"""Write docs/cli.md from the commands' own help; ``--check`` only says whether it is current."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from bootlease.cli import bootlease

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = Path(__file__).with_name("cli.md")
WIDTH: Final = 88
HEAD: Final = """\
# Commands

Written by `make docs` from the commands' own `--help`; do not edit. Data goes to stdout, logs
and errors to stderr. Exit codes: 0 accepted, 1 refused, 2 usage or malformed input, 3 cannot
reach.
"""


def sections(command: click.Command, parent: click.Context | None) -> Iterator[str]:
    """Yield the text on ``command`` and on all below it that is not hidden."""
    context = command.context_class(
        command,
        info_name=command.name,
        parent=parent,
        max_content_width=WIDTH,
        terminal_width=WIDTH,
    )
    yield f"\n## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from sections(child, context)


def main() -> None:
    """Write the page, or compare it."""
    text = HEAD + "".join(sections(bootlease, None))
    if sys.argv[1:] == ["--check"]:
        if not PAGE.is_file() or PAGE.read_text() != text:
            raise SystemExit("docs/cli.md is not what the commands say: run `make docs`")
        return
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
