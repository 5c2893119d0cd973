"""``bootlease ledger``: what others do with a verifier's ledger.

One module for each command, loaded when it is asked for.
"""

from __future__ import annotations

import difflib
import importlib
import keyword
from typing import Final

import click

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


class _LazyGroup(click.Group):
    """A group that imports a command only when it runs or is listed."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        near = difflib.get_close_matches(args[0], _COMMANDS) if args else []
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as exc:
            if not near:
                raise
            hint = f"Did you mean {' or '.join(map(repr, near))}?"
            raise click.UsageError(f"{exc.message} {hint}", ctx) from exc

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(f"bootlease.cli.{_COMMANDS[cmd_name]}")
        name = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command: click.Command = getattr(module, name)
        return command


@click.group(name="ledger", cls=_LazyGroup)
def ledger() -> None:
    """Follow, witness, check and hand on a verifier's ledger."""
