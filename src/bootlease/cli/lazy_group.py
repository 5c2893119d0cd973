"""A group whose commands are imported when they run or are listed, one module each."""

from __future__ import annotations

import difflib
import importlib
import keyword
from collections.abc import Mapping

import click


class LazyGroup(click.Group):
    """A command group.

    Args:
        modules: Command name to the module under ``bootlease.cli`` that holds it, under the same
            name; with an underscore after it where Python has the name for itself.
    """

    def __init__(self, *args: object, modules: Mapping[str, str], **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # click's own, unchanged
        self._modules = modules

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name those that are spelt nearly like it."""
        near = difflib.get_close_matches(args[0], self._modules) if args else []
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as exc:
            if not near:
                raise
            hint = f"Did you mean {' or '.join(map(repr, near))}?"
            raise click.UsageError(f"{exc.message} {hint}", ctx) from exc

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names."""
        return sorted({*super().list_commands(ctx), *self._modules})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported now."""
        if cmd_name not in self._modules:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(f"bootlease.cli.{self._modules[cmd_name]}")
        name = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command: click.Command = getattr(module, name)
        return command
