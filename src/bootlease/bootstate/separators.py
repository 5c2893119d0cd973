"""What ends firmware's measurements, and what hands over to the operating system.

Specifications: TCG PFP 1.06 §3.3.2 (one separator in each of PCR 0 to 7), §10.4.1 (EV_SEPARATOR,
EV_EFI_ACTION); for CCELs, whose registers take the separators of several PCRs, see ``ccel``.

These are facts. That a separator is missing, repeated or false refuses an appraisal; that check is
:func:`bootlease.appraisal.bootlog.check_separators` and is not repeated here.
"""

from __future__ import annotations

from typing import Final

from bootlease.bootstate.digests import (
    EXIT_FAILURE,
    EXIT_INVOCATION,
    EXIT_SUCCESS,
    NO_ERROR,
    is_separator,
    known_digests,
)
from bootlease.bootstate.pcrs import BOOT_CONFIGURATION_PCR
from bootlease.bootstate.tri import Tri
from bootlease.bootstate.values import ExitBootServices, Separator, SeparatorState
from bootlease.bootstate.view import AttestedLog
from bootlease.eventlog import Event, EventType

_SEPARATOR: Final = int(EventType.EV_SEPARATOR)
_FIRMWARE_PCRS: Final = range(8)
_CCEL_REGISTERS: Final = (1, 2)


def separators(view: AttestedLog) -> tuple[Separator, ...]:
    """Return the separator of every attested PCR that must have one."""
    indices = _CCEL_REGISTERS if view.is_ccel else _FIRMWARE_PCRS
    return tuple(_separator(view, index) for index in indices if index in view.attested)


def _separator(view: AttestedLog, index: int) -> Separator:
    known = known_digests(view.bank)
    found = [
        event for event in view.registers.get(index, ()) if is_separator(event, view.column, known)
    ]
    return Separator(index, _state(view, found), tuple(event.number for event in found))


def _state(view: AttestedLog, found: list[Event]) -> SeparatorState:
    no_error = known_digests(view.bank).no_error
    if not found:
        return SeparatorState.MISSING
    if any(event.type != _SEPARATOR for event in found):
        return SeparatorState.RETYPED
    digests = {view.digest(event) for event in found}
    if digests - {no_error}:
        errors = known_digests(view.bank).separators
        return SeparatorState.ERROR if digests <= errors else SeparatorState.INVALID
    if any(event.unverified_data != NO_ERROR for event in found):
        return SeparatorState.INVALID
    repeated = len(found) > 1 and not view.is_ccel
    return SeparatorState.REPEATED if repeated else SeparatorState.SOUND


def exit_boot_services(view: AttestedLog) -> ExitBootServices:
    """Return whether firmware ended its services (attack D11), as far as PCR 5 is attested."""
    actions = known_digests(view.bank).actions
    events: dict[str, list[int]] = {EXIT_INVOCATION: [], EXIT_SUCCESS: [], EXIT_FAILURE: []}
    after, last = 0, ""
    for event in view.events(BOOT_CONFIGURATION_PCR):
        text = actions.get(view.digest(event), "")
        if events[EXIT_SUCCESS]:
            after += 1
        if text in events:
            events[text].append(event.number)
            last = text
    if not view.attests(BOOT_CONFIGURATION_PCR):
        state = Tri.UNKNOWN
    else:
        ended = last == EXIT_SUCCESS and bool(events[EXIT_INVOCATION])
        state = Tri.ON if ended else Tri.OFF
    return ExitBootServices(
        state=state,
        invocations=tuple(events[EXIT_INVOCATION]),
        successes=tuple(events[EXIT_SUCCESS]),
        failures=tuple(events[EXIT_FAILURE]),
        events_after=after,
    )
