"""``bootlease reference``: learn, show and compare reference sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import click

from bootlease.cli.admin import register
from bootlease.cli.files import naming
from bootlease.cli.pcr_selection import PCRList
from bootlease.errors import MalformedError
from bootlease.eventlog import DEFAULT_LIMITS, parse_event_log, replay, type_name
from bootlease.model import PCR_COUNT, HashAlg
from bootlease.reference import (
    DEFAULT_PCRS,
    EventsReference,
    ReferenceSet,
    diff,
    learn,
    parse_reference,
    serialise_reference,
)
from bootlease.reference.file import MAX_FILE
from bootlease.token import strictjson

if TYPE_CHECKING:
    from bootlease.model import PCRValues
    from bootlease.reference import PCRReference

_DIGEST_SHOWN: Final = 16
_MAX_PCR_FILE: Final = 1 << 20
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class _Match(click.ParamType[tuple[int, ...]]):
    """How PCRs are matched: ``events:4,8`` or ``value``."""

    name = "match"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        mode, colon, pcrs = str(value).partition(":")
        if mode == "value" and not colon:
            return ()
        if mode != "events" or not pcrs:
            self.fail("write events:4,8 (those PCRs by their events) or value", param, ctx)
        return PCRList().convert(pcrs, param, ctx)


class _Bank(click.ParamType[HashAlg]):
    """A PCR bank by name."""

    name = "bank"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> HashAlg:
        if isinstance(value, HashAlg):
            return value
        try:
            return HashAlg.from_label(str(value))
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 2 and int(text) < PCR_COUNT  # noqa: PLR2004 - two digits


def read_reference(file: IO[bytes]) -> ReferenceSet:
    """Read a reference file; an error names the file."""
    with naming(f"{file.name} is not a reference set"):
        return parse_reference(file.read(MAX_FILE + 1))


def _bank_values(data: bytes, bank: HashAlg) -> dict[int, bytes]:
    banks = strictjson.parse_object(data)
    values = banks.get(bank.label)
    if not isinstance(values, dict):
        raise MalformedError(f"the PCR values have no bank {bank.label}")
    found: dict[int, bytes] = {}
    for index, text in values.items():
        try:
            value = bytes.fromhex(text) if isinstance(text, str) else b""
        except ValueError:
            value = b""
        if not _is_index(index) or len(value) != bank.size:
            raise MalformedError(f"the PCR values have no {bank.label} value under {index!r:.40}")
        found[int(index)] = value
    return found


@click.group(name="reference")
def reference() -> None:
    """Learn, show and compare reference sets: what a good boot measures."""


@reference.command(name="learn")
@click.option(
    "--log", "log_file", required=True, type=click.File("rb", lazy=True), help="The golden log."
)
@click.option(
    "--quoted",
    type=click.File("rb", lazy=True),
    help='PCR values of the same boot, {"sha256": {"0": "<hex>", ...}}: the log must explain them.',
)
@click.option(
    "--pcrs",
    type=PCRList(),
    default=DEFAULT_PCRS,
    help="PCRs to constrain, as 0-9,14 (the default).",
)
@click.option("--bank", type=_Bank(), default=HashAlg.SHA256, help="PCR bank (sha256).")
@click.option("--name", required=True, help="The set's name: policies accept it by name.")
@click.option("--version", default="1", show_default=True, help="The set's version.")
@click.option(
    "--match",
    "match_events",
    type=_Match(),
    default=(),
    help="PCRs to match by their events, as events:4,8; the others match by value.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File to write instead of stdout."
)
def learn_command(
    *,
    log_file: IO[bytes],
    quoted: IO[bytes] | None,
    pcrs: tuple[int, ...],
    bank: HashAlg,
    name: str,
    version: str,
    match_events: tuple[int, ...],
    output: Path | None,
) -> None:
    """Make a reference set of what a golden node booted.

    The node is golden because you say so: nothing in its log can tell.
    """
    with naming(f"--log {log_file.name} is not a TCG event log"):
        log = parse_event_log(log_file.read(DEFAULT_LIMITS.max_bytes + 1))
    values: PCRValues | None = None
    if quoted is not None:
        with naming(f"--quoted {quoted.name} does not hold PCR values"):
            values = {bank: _bank_values(quoted.read(_MAX_PCR_FILE), bank)}
    try:
        learned = learn(
            replay(log),
            values,
            name=name,
            version=version,
            bank=bank,
            pcrs=pcrs,
            match_events=match_events,
        )
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    data = serialise_reference(learned)
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
    click.echo(f"{output}: {learned.label}, digest {learned.digest.hex()}", err=True)


@reference.command()
@click.argument("file", type=click.File("rb", lazy=True))
@_json
def show(file: IO[bytes], *, as_json: bool) -> None:
    """Print the reference set in FILE ("-" for standard input)."""
    loaded = read_reference(file)
    if as_json:
        members = json.loads(serialise_reference(loaded))
        click.echo(json.dumps({"digest": loaded.digest.hex(), **members}, indent=2))
        return
    click.echo(f"{loaded.label}, bank {loaded.bank.label}")
    click.echo(f"digest {loaded.digest.hex()}")
    if loaded.not_before is not None or loaded.not_after is not None:
        click.echo(f"valid from {loaded.not_before or 0} to {loaded.not_after or 'any time'}")
    for pcr, constraint in loaded.pcrs.items():
        _show_pcr(pcr, constraint)


def _show_pcr(pcr: int, constraint: PCRReference) -> None:
    if isinstance(constraint, EventsReference):
        click.echo(f"PCR {pcr}: by events, {len(constraint.events)} known")
    else:
        values = " or ".join(value.hex() for value in constraint.values)
        click.echo(f"PCR {pcr}: {values}")
    for event in constraint.events:
        mark = " " if event.required else "?"
        shown = event.digest.hex()[:_DIGEST_SHOWN]
        click.echo(f"  {mark} {type_name(event.type):<32}  {shown}  {event.description}")


@reference.command(name="diff")
@click.argument("first", type=click.File("rb", lazy=True))
@click.argument("second", type=click.File("rb", lazy=True))
@_json
def diff_command(first: IO[bytes], second: IO[bytes], *, as_json: bool) -> None:
    """Print what changed from reference FIRST to reference SECOND."""
    differences = diff(read_reference(first), read_reference(second))
    if as_json:
        click.echo(json.dumps([each.as_dict() for each in differences], indent=2))
        return
    for difference in differences:
        click.echo(str(difference))
    if not differences:
        click.echo("no difference", err=True)


reference.add_command(register)
