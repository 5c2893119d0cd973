"""``bootlease reference diff``: what changed between sets, boots and nodes, in words.

Each side is a reference set, an event log or an IMA list; which, its first bytes say: a set is
JSON, the first entry of an IMA list is of PCR 10, and an event log begins otherwise. Beside a
verifier's folder, a decision or a node stands for the log of its boot.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO, Final

import click

from bootlease.cli.files import name_of, naming
from bootlease.cli.pcr_selection import PCRList
from bootlease.cli.recorded_log import FileOrRecorded, data_option
from bootlease.cli.reference_files import json_option
from bootlease.cli.reference_options import Bank
from bootlease.eventlog import ReplayedLog, parse_event_log
from bootlease.eventlog import replay as replay_log
from bootlease.ima import IMA_PCR, IMAEntry, Kind, parse_list
from bootlease.model import Effect, Finding, HashAlg
from bootlease.reference import (
    MAX_ANY_FILE,
    AnyReference,
    Difference,
    IMAReferenceSet,
    IMASignatures,
    ReferenceSet,
    appraise_entries,
    appraise_reference,
    expected_value,
    learn,
    parse_any_reference,
)
from bootlease.reference import diff as diff_boot
from bootlease.reference.imadifference import diff_ima
from bootlease.reference.imalearn import learn_files
from bootlease.reference.imaset import Origin

_FIRST_IMA_BYTES: Final = IMA_PCR.to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class _List:
    """An IMA list."""

    data: bytes

    def entries(self) -> Iterator[IMAEntry]:
        """Return its entries."""
        return parse_list(self.data)


@dataclass(frozen=True, slots=True)
class _Demands:
    """What no policy waves through is all that there is to say."""

    unlisted: Effect = Effect.REFUSES
    violations: Effect = Effect.REFUSES
    signatures: IMASignatures = IMASignatures.SUFFICIENT


_Side = AnyReference | ReplayedLog | _List
_Said = Difference | Finding


@click.command()
@click.argument("first", type=FileOrRecorded())
@click.argument("second", type=FileOrRecorded())
@data_option
@click.option("--pcrs", type=PCRList(), help="PCRs of two logs; by default all but IMA's.")
@click.option("--bank", type=Bank(), default=HashAlg.SHA256, help="Bank of two logs (sha256).")
@json_option
def diff(
    first: IO[bytes],
    second: IO[bytes],
    *,
    pcrs: tuple[int, ...] | None,
    bank: HashAlg,
    as_json: bool,
) -> None:
    """Print what changed from FIRST to SECOND.

    Each is a reference set, an event log or a binary IMA list ("-" for standard input). Two sets,
    two logs or two lists are compared with each other; a set as FIRST is compared with a log or
    list as SECOND in the words in which an appraisal would refuse it. Nothing in a log or list is
    verified here.
    """
    said = list(_compare(_read(first), _read(second), pcrs=pcrs, bank=bank))
    if as_json:
        click.echo(json.dumps([each.as_dict() for each in said], indent=2))
        return
    for each in said:
        click.echo(_line(each))
    if not said:
        click.echo("no difference", err=True)


def _read(file: IO[bytes]) -> _Side:
    data = file.read(MAX_ANY_FILE + 1)
    with naming(name_of(file)):
        if data.lstrip()[:1] == b"{":
            return parse_any_reference(data)
        if data[:4] == _FIRST_IMA_BYTES:
            return _List(data)
        with naming("neither a reference set nor an IMA list nor an event log"):
            return replay_log(parse_event_log(data))


def _line(said: _Said) -> str:
    if isinstance(said, Difference):
        return str(said)
    compared = [
        f"{word} {value}"
        for word, value in (("expected", said.expected), ("seen", said.seen))
        if value is not None and value not in said.message
    ]
    detail = f" ({', '.join(compared)})" if compared else ""
    return f"~ {said.message}{detail} [{said.id}]"


def _compare(
    first: _Side, second: _Side, *, pcrs: tuple[int, ...] | None, bank: HashAlg
) -> Iterator[_Said]:
    match first, second:
        case ReferenceSet(), ReferenceSet():
            yield from diff_boot(first, second)
        case IMAReferenceSet(), IMAReferenceSet():
            yield from diff_ima(first, second)
        case ReplayedLog(), ReplayedLog():
            if pcrs is None:
                extended = {*first.pcrs.get(bank, ()), *second.pcrs.get(bank, ())}
                pcrs = tuple(sorted(extended - {IMA_PCR}))
            yield from diff_boot(*(_learned(each, pcrs, bank) for each in (first, second)))
        case _List(), _List():
            yield from diff_ima(*(_loaded(each) for each in (first, second)))
        case ReferenceSet(), ReplayedLog():
            yield from _against_log(first, second)
        case IMAReferenceSet(), _List():
            yield from _against_list(first, second)
        case _:
            raise click.UsageError(
                "compare two of a kind, or a set as FIRST with a log or list of its kind as SECOND"
            )


def _learned(log: ReplayedLog, pcrs: tuple[int, ...], bank: HashAlg) -> ReferenceSet:
    try:
        return learn(log, None, name="log", version="1", bank=bank, pcrs=pcrs)
    except ValueError as exc:
        raise click.UsageError(f"an event log: {exc}") from exc


def _loaded(listed: _List) -> IMAReferenceSet:
    learned = learn_files(listed.entries())
    try:
        return IMAReferenceSet("list", "1", Origin.LEARNED, learned.files, learned.buffers)
    except ValueError as exc:
        raise click.UsageError(f"an IMA list: {exc}") from exc


def _against_log(reference: ReferenceSet, log: ReplayedLog) -> Iterator[Finding]:
    """Yield why a boot of this log would be refused, its validity aside."""
    bank = reference.bank
    lasting = replace(reference, not_before=None, not_after=None)
    values = {bank: {pcr: expected_value(log, bank, pcr) for pcr in reference.pcrs}}
    required = {bank: tuple(reference.pcrs)}
    yield from appraise_reference(log, values, (lasting,), required, now=0).findings


def _against_list(reference: IMAReferenceSet, listed: _List) -> Iterator[Finding]:
    """Yield why a system of this list would be refused, its validity aside."""
    lasting = replace(reference, not_before=None, not_after=None)
    # The boot aggregate is the quote's business, not the set's.
    first = next(listed.entries(), None)
    measured = None if first is None or first.violation else first.measurement()
    aggregates = {}
    if measured is not None and measured.kind is Kind.BOOT_AGGREGATE and measured.digest:
        aggregates = {measured.digest.alg: measured.digest.value}
    yield from appraise_entries(
        listed.entries(), (lasting,), _Demands(), now=0, boot_aggregates=aggregates
    ).findings
