"""``bootlease reference learn``: a reference set of what a golden node booted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import click

from bootlease.cli.files import naming
from bootlease.cli.pcr_selection import PCRList
from bootlease.cli.reference_files import Moment, json_option, output_option, write_reference
from bootlease.cli.reference_options import Bank, Match
from bootlease.errors import MalformedError
from bootlease.eventlog import DEFAULT_LIMITS, parse_event_log
from bootlease.eventlog import replay as replay_log
from bootlease.model import PCR_COUNT, HashAlg
from bootlease.reference import DEFAULT_PCRS
from bootlease.reference import learn as learn_set
from bootlease.token import strictjson

if TYPE_CHECKING:
    from bootlease.model import PCRValues

_MAX_PCR_FILE: Final = 1 << 20


@click.command(name="learn")
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
@click.option("--bank", type=Bank(), default=HashAlg.SHA256, help="PCR bank (sha256).")
@click.option("--name", required=True, help="The set's name: policies accept it by name.")
@click.option("--version", default="1", show_default=True, help="The set's version.")
@click.option(
    "--match",
    "match_events",
    type=Match(),
    default=(),
    help="PCRs to match by their events, as events:4,8; the others match by value.",
)
@click.option(
    "--boot-rules/--no-boot-rules",
    default=True,
    help="Learn the state of Secure Boot, its keys and revocations as rules too (the default).",
)
@click.option(
    "--command-line",
    is_flag=True,
    help="Learn the kernel's parameters as rules; needs --pcrs with 8, 9, 11 and 12.",
)
@click.option(
    "--known-command-line",
    "known_command_lines",
    multiple=True,
    help="A command line to recognise where the log holds its digest alone.",
)
@click.option("--not-before", type=Moment(), help="First moment at which the set counts.")
@click.option("--not-after", type=Moment(), help="Last moment at which the set counts.")
@output_option
@json_option
def learn(
    *,
    log_file: IO[bytes],
    quoted: IO[bytes] | None,
    pcrs: tuple[int, ...],
    bank: HashAlg,
    name: str,
    version: str,
    match_events: tuple[int, ...],
    boot_rules: bool,
    command_line: bool,
    known_command_lines: tuple[str, ...],
    not_before: int | None,
    not_after: int | None,
    output: Path | None,
    as_json: bool,
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
        learned = learn_set(
            replay_log(log),
            values,
            name=name,
            version=version,
            bank=bank,
            pcrs=pcrs,
            match_events=match_events,
            boot_rules=boot_rules,
            command_line=command_line,
            known_command_lines=known_command_lines,
        )
        learned = replace(learned, not_before=not_before, not_after=not_after)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    write_reference(learned, output, as_json=as_json)


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 2 and int(text) < PCR_COUNT  # noqa: PLR2004 - two digits


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
