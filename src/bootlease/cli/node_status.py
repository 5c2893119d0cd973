"""``bootlease node status``: how the leases of this node stand, and whose they are."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from bootlease.cli.exits import ExitCode
from bootlease.cli.node_options import state_option
from bootlease.node.state import read_status
from bootlease.node.status import LeaseState, LeaseStatus, Status

_TITLES: Final = (
    *("RULE", "UID", "PROCESS", "PROGRAM"),
    *("LEVEL", "LEFT", "SCOPE", "AUDIENCE"),
)
_NONE: Final = "-"


@click.command()
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(state: Path, *, as_json: bool) -> int:
    """Show how the leases of this node stand, and whose they are.

    Workloads are shown as they were when they opened their leases, and leases as of the last
    renewal. A lease without a rule is one that the agent keeps by itself.

    Exits with 0 if a lease is held, 1 if the verifier refused, 2 if the status file is damaged, 3
    if there is no lease for another reason or no agent has run.
    """
    found, running = read_status(state)
    now = int(time.time())
    holds = found.state is LeaseState.HELD and now < (found.expires_at or 0)
    if as_json:
        shown = {**found.as_dict(), "running": running, "valid": holds}
        for lease, members in zip(found.leases, shown["leases"], strict=True):
            members["left"] = _left(lease, now)
        click.echo(json.dumps(shown, indent=2))
    else:
        for line in _lines(found, now, running=running, holds=holds):
            click.echo(line)
    if holds:
        return ExitCode.ACCEPTED
    return ExitCode.REFUSED if found.state is LeaseState.REFUSED else ExitCode.UNREACHABLE


def _lines(found: Status, now: int, *, running: bool, holds: bool) -> Iterator[str]:
    if holds:
        yield from _held(found, now)
        yield f"ends in {(found.expires_at or now) - now} s unless renewed"
    elif found.state is LeaseState.HELD:
        yield "no lease: the last one has lapsed"
    elif found.state is LeaseState.NONE:
        yield "no lease: nobody has asked for one, or none has come yet"
    else:
        yield f"no lease: {found.state.value}"
    yield f"verifier {found.issuer}"
    if found.node is not None:
        yield f"node {found.node}"
    if not running:
        yield "no agent is running"
    elif found.next_attempt_at is not None:
        yield f"next attempt in {max(0, found.next_attempt_at - now)} s"
    for finding in found.findings:
        yield str(finding)
    yield from found.notes
    if found.error is not None and not found.findings:
        yield f"last error: {found.error}"


def _held(found: Status, now: int) -> Iterator[str]:
    if all(lease.workload is None for lease in found.leases):
        for lease in found.leases:
            yield f"lease {found.sequence} held: {' '.join(lease.scope)} for {lease.audience}"
        return
    count = "1 lease" if len(found.leases) == 1 else f"{len(found.leases)} leases"
    age = max(0, now - found.updated_at)
    yield f"{count} held, number {found.sequence}, as of {age} s ago"
    yield from _table([_TITLES, *(_row(lease, now) for lease in found.leases)])


def _row(lease: LeaseStatus, now: int) -> tuple[str, ...]:
    whose = lease.workload
    who = (
        (_NONE, _NONE, _NONE, _NONE)
        if whose is None
        else (whose.rule, str(whose.uid), str(whose.pid), whose.exe or "not seen")
    )
    level = _NONE if lease.level is None else str(lease.level)
    return *who, level, f"{_left(lease, now)} s", " ".join(lease.scope), lease.audience


def _left(lease: LeaseStatus, now: int) -> int:
    return max(0, lease.expires_at - now)


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
