"""Reference sets as files: reading one of any kind, writing a new one."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import IO, Any, Final

import click

from bootlease.cli.files import name_of, naming
from bootlease.reference import (
    MAX_ANY_FILE,
    AnyReference,
    kind_of,
    parse_any_reference,
    serialise_any_reference,
)

_BETWEEN_LINES: Final = 0.5
_BEFORE_LOG_LINE: Final = 5.0
_BETWEEN_LOG_LINES: Final = 30.0
_UTC: Final = "%Y-%m-%dT%H:%M:%SZ"

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
output_option = click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File to write instead of stdout."
)


class Moment(click.ParamType[int]):
    """A moment: seconds since the epoch, or ``2026-12-31T00:00:00Z``."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Read the option's value."""
        text = str(value)
        if text.isascii() and text.isdecimal() and len(text) < 13:  # noqa: PLR2004 - the year 33658
            return int(text)
        try:
            moment = time.strptime(text, _UTC)
        except ValueError:
            self.fail(f"{text!r:.40} is no moment: write 2026-12-31T00:00:00Z", param, ctx)
        return _seconds(moment)


def _seconds(moment: time.struct_time) -> int:
    import calendar  # noqa: PLC0415 - for two options of a few commands

    return calendar.timegm(moment)


def read_any_reference(file: IO[bytes]) -> AnyReference:
    """Read a reference file of any kind; an error names the file."""
    with naming(f"{name_of(file)} is not a reference set"):
        return parse_any_reference(file.read(MAX_ANY_FILE + 1))


def write_reference(reference: AnyReference, output: Path | None, *, as_json: bool = False) -> None:
    """Write a set to a new file, or to stdout; a word about it to stderr, as JSON to stdout."""
    write_new(serialise_any_reference(reference), output)
    if output is None:
        return
    if as_json:
        click.echo(json.dumps(summary(reference), indent=2))
    else:
        click.echo(f"{output}: {reference.label}, digest {reference.digest.hex()}", err=True)


def write_new(data: bytes, output: Path | None) -> None:
    """Write data to a new file, or to stdout."""
    if output is None:
        click.echo(data, nl=False)
        return
    try:
        with output.open("xb") as file:
            file.write(data)
    except FileExistsError as exc:
        # What nodes are compared with is not lost to a slip of the pen.
        raise click.BadParameter(
            f"{output} exists and is left as it is; remove it or choose another name",
            param_hint="'-o' / '--output'",
        ) from exc


def summary(reference: AnyReference) -> dict[str, Any]:
    """Return what names a set."""
    return {
        "kind": kind_of(reference),
        "name": reference.name,
        "version": reference.version,
        "digest": reference.digest.hex(),
    }


class Progress:
    """Says on stderr how far a long job has come.

    On a terminal in a line that is replaced; elsewhere, as in the log of a build, in a line of its
    own from time to time, and of a short job none.
    """

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._next = 0.0 if self._terminal else time.monotonic() + _BEFORE_LOG_LINE
        self._width = 0

    def say(self, text: str) -> None:
        """Say it if the last time is long enough ago."""
        now = time.monotonic()
        if now < self._next:
            return
        if self._terminal:
            self._next = now + _BETWEEN_LINES
            click.echo(f"\r{text:<{self._width}}", nl=False, err=True)
            self._width = len(text)
        else:
            self._next = now + _BETWEEN_LOG_LINES
            click.echo(text, err=True)

    def end(self) -> None:
        """Remove the line."""
        if self._width:
            click.echo(f"\r{'':<{self._width}}\r", nl=False, err=True)
