"""``bootlease eventlog``: reading and replaying measured-boot logs."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any, Final

import click

from bootlease.bootstate.read import read_boot_state
from bootlease.bootstate.view import AttestedLog
from bootlease.cli.boot_json import boot_state_as_dict
from bootlease.cli.boot_text import boot_state_lines
from bootlease.cli.files import naming
from bootlease.cli.pcr_selection import PCRList
from bootlease.eventlog import (
    DEFAULT_LIMITS,
    EventType,
    LogFormat,
    bank_label,
    contradicts_digest,
    describe,
    parse_event_log,
    replay,
    type_name,
    verified_data,
)
from bootlease.eventlog.hashes import hash_constructor
from bootlease.model import HashAlg

if TYPE_CHECKING:
    from bootlease.bootstate.read import BootState
    from bootlease.eventlog import Event, EventLog, ReplayedLog

_PREFERRED_BANKS: Final = (
    HashAlg.SHA256,
    HashAlg.SHA384,
    HashAlg.SHA512,
    HashAlg.SHA3_256,
    HashAlg.SHA3_384,
    HashAlg.SHA3_512,
    HashAlg.SM3_256,
    HashAlg.SHA1,
)
_DIGEST_PREFIX: Final = 16
_NO_LOG: Final = "not a TCG event log"
_NO_PCR: Final = 0xFFFF_FFFF

_file = click.argument("file", type=click.File("rb"))
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_ccel = click.option(
    "--ccel/--no-ccel",
    default=None,
    help="Read FILE as a CCEL of a confidential VM, or not; by default its first event decides.",
)


@click.group(name="eventlog")
def eventlog() -> None:
    """Read and replay measured-boot event logs.

    Of the forms TCG PFP (crypto agile), TCG 1.2 (SHA-1) and CCEL.
    """


@eventlog.command()
@_file
@_json
@click.option(
    "--pcrs",
    type=PCRList(),
    help="Show these PCRs alone, as if a quote attested no other; of a CCEL, registers. For"
    " example 0-7,14.",
)
@_ccel
def show(
    file: IO[bytes], *, as_json: bool, pcrs: tuple[int, ...] | None, ccel: bool | None
) -> None:
    """Print every event of a log, and what they mean.

    FILE holds the log; "-" is standard input. Nothing of it is attested: anybody can write a log,
    and only a quote over the PCRs that it replays to attests its digests. What an event says of
    itself is unverified; one whose data is not what was measured is marked. The meaning comes from
    data that its digest is over; what stands in parentheses is the log's word alone.
    """
    log = _parse(file, ccel)
    view = _view(log, pcrs)
    state = None if view is None else read_boot_state(view)
    events = [event for event in log.events if pcrs is None or event.pcr in pcrs]
    if as_json:
        click.echo(json.dumps(_log_as_dict(log, events, view, state), indent=2))
        return
    bank = _best_bank(log)
    for event in events:
        click.echo(_line(log, event, bank))
    click.echo(f"\n{_preamble(log, view, pcrs)}")
    for line in () if state is None else boot_state_lines(state):
        click.echo(line)


def _view(log: EventLog, pcrs: tuple[int, ...] | None) -> AttestedLog | None:
    """Look at a log as if ``pcrs`` had been quoted in its best bank."""
    bank = _best_bank(log)
    if bank is None or hash_constructor(bank) is None:
        return None
    return AttestedLog.of(replay(log, [bank]), bank, pcrs)


def _preamble(log: EventLog, view: AttestedLog | None, pcrs: tuple[int, ...] | None) -> str:
    if view is None:
        return "What this means is not known: no hash of its banks can be computed here."
    registers = "registers" if log.format is LogFormat.CCEL else "PCRs"
    scope = "" if pcrs is None else f" {registers} {', '.join(map(str, pcrs))} alone,"
    return (
        f"What this means, by{scope} bank {view.bank.label}. Nothing is attested: no quote was"
        " given."
    )


@eventlog.command(name="replay")
@_file
@_json
@_ccel
def replay_command(file: IO[bytes], *, as_json: bool, ccel: bool | None) -> None:
    """Print the PCRs that a log leads to, bank by bank.

    FILE holds the log; "-" is standard input.
    """
    replayed = replay(_parse(file, ccel))
    if as_json:
        click.echo(json.dumps(_replayed_as_dict(replayed), indent=2))
        return
    for bank, values in replayed.pcrs.items():
        for pcr, value in values.items():
            click.echo(f"{bank.label}:{pcr:<2}  {value.hex()}")
        if not values:
            click.echo(f"{bank.label}: nothing is extended in this bank")
    for algorithm in replayed.unreplayed:
        click.echo(f"{bank_label(algorithm)}: not replayed, this build lacks the hash")


def _parse(file: IO[bytes], ccel: bool | None) -> EventLog:  # noqa: FBT001 - as the option
    # One byte beyond the limit is enough for the parser to refuse an endless input.
    data = file.read(DEFAULT_LIMITS.max_bytes + 1)
    with naming(f"{_name(file)} is {_NO_LOG}"):
        return parse_event_log(data, ccel=ccel)


def _name(file: IO[bytes]) -> str:
    name = getattr(file, "name", None)
    return name if isinstance(name, str) and name != "<stdin>" else "standard input"


def _best_bank(log: EventLog) -> HashAlg | None:
    return next((bank for bank in _PREFERRED_BANKS if bank in log.banks), None)


def _line(log: EventLog, event: Event, bank: HashAlg | None) -> str:
    register = "MR" if log.format is LogFormat.CCEL else "PCR"
    index = "-" if event.pcr == _NO_PCR else str(event.pcr)
    digest = None if bank is None or event.type == EventType.EV_NO_ACTION else event.digest(bank)
    shown = digest.hex()[:_DIGEST_PREFIX] if digest else "-"
    altered = bank is not None and contradicts_digest(event, bank)
    note = "  [its data is not what was measured]" if altered else ""
    return (
        f"{event.number:>5}  {register} {index:>2}  {type_name(event.type):<32}"
        f"  {shown:<{_DIGEST_PREFIX}}  {describe(event)}{note}"
    )


def _log_as_dict(
    log: EventLog, events: list[Event], view: AttestedLog | None, state: BootState | None
) -> dict[str, Any]:
    return {
        "format": log.format.value,
        "banks": [bank_label(bank) for bank in log.banks],
        "startup_locality": log.startup_locality,
        "padding": log.padding,
        "events": [_event_as_dict(event, _best_bank(log)) for event in events],
        "attested": False,
        "meaning_bank": None if view is None else view.bank.label,
        "meaning": None if state is None else boot_state_as_dict(state),
    }


def _event_as_dict(event: Event, bank: HashAlg | None) -> dict[str, Any]:
    covered = verified_data(event, bank) if bank is not None else None
    return {
        "number": event.number,
        "pcr": event.pcr,
        "type": event.type,
        "type_name": type_name(event.type),
        "digests": {bank_label(alg): digest.hex() for alg, digest in event.digests.items()},
        "unverified_data": event.unverified_data.hex(),
        "covered": covered.coverage.value if covered else None,
        "description": describe(event),
    }


def _replayed_as_dict(replayed: ReplayedLog) -> dict[str, Any]:
    result: dict[str, Any] = {
        "banks": {
            bank.label: {str(pcr): value.hex() for pcr, value in values.items()}
            for bank, values in replayed.pcrs.items()
        },
        "events": len(replayed.log.events),
        "startup_locality": replayed.log.startup_locality,
    }
    if replayed.unreplayed:
        result["unreplayed"] = [bank_label(algorithm) for algorithm in replayed.unreplayed]
    return result
