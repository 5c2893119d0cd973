"""``bootlease reference``: sets of what a good boot measures and of what a good system loads."""

from __future__ import annotations

from typing import Final

import click

from bootlease.cli.admin import register
from bootlease.cli.lazy_group import LazyGroup

_COMMANDS: Final = {
    "diff": "reference_diff",
    "export": "reference_corim",
    "ima": "reference_ima",
    "import": "reference_corim",
    "learn": "reference_learn",
    "show": "reference_show",
}
"""Command name to the module under ``bootlease.cli`` that holds it, under the same name; where that
is a keyword, with an underscore after it."""


@click.group(name="reference", cls=LazyGroup, modules=_COMMANDS)
def reference() -> None:
    """Make, show, compare and exchange reference sets.

    A set says what a good boot measures, or which files a good system may load.
    """


reference.add_command(register)
