"""A path where a command may write: what is there is never replaced."""

from __future__ import annotations

from pathlib import Path

import click


def demand_new(ctx: click.Context, param: click.Parameter, output: Path) -> Path:
    """Demand a path where a file can be made; the callback of an option."""
    if str(output) == "-":
        raise click.BadParameter("it is written to a file, never to standard output.", ctx, param)
    if output.exists():
        raise click.BadParameter(f"{output} exists; it is left as it is.", ctx, param)
    if not output.parent.is_dir():
        raise click.BadParameter(f"there is no folder {output.parent}.", ctx, param)
    return output
