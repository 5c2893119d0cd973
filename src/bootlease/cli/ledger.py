"""``bootlease ledger``: what others do with a verifier's ledger.

One module for each command, loaded when it is asked for.
"""

from __future__ import annotations

from typing import Final

import click

from bootlease.cli.lazy_group import LazyGroup

_COMMANDS: Final = {
    "export": "keeping",
    "import": "keeping",
    "monitor": "ledger_monitor",
    "proof": "ledger_proof",
    "verify": "ledger_verify",
    "witness": "ledger_witness",
}
"""Command name to the module under ``bootlease.cli`` that holds it, under the same name; where that
is a keyword, with an underscore after it."""


@click.group(name="ledger", cls=LazyGroup, modules=_COMMANDS)
def ledger() -> None:
    """Follow, witness, check and hand on a verifier's ledger."""
