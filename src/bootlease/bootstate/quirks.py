"""Oddities of real firmware and boot loaders that are understood, each by itself.

Sources: shim commit 8a27a4809a6a (one byte too many in the log of authorities), shim ``shim.c``
before 15.5 (authorities without their owner), go-attestation issue 157, logs of real machines.

What the readers of this package accept beyond the specifications stands here with an identifier,
so that people see that it happened. Nothing depends on this module: a quirk explains a log and
excuses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from bootlease.bootstate.digests import is_separator, known_digests
from bootlease.bootstate.keyfacts import AuthorityKind
from bootlease.bootstate.pcrs import (
    BOOT_CONFIGURATION_PCR,
    CONFIGURATION_PCR,
    FIRMWARE_PCR,
    SECURE_BOOT_PCR,
)
from bootlease.bootstate.values import Quirk
from bootlease.bootstate.variables import MeasuredVariable, read_variable
from bootlease.bootstate.view import AttestedLog
from bootlease.errors import MalformedError
from bootlease.eventlog import Coverage, Event, EventType
from bootlease.eventlog.bodies import parse_variable_data

_CONFIG: Final = int(EventType.EV_EFI_VARIABLE_DRIVER_CONFIG)
_AUTHORITY: Final = int(EventType.EV_EFI_VARIABLE_AUTHORITY)
_ACTION: Final = int(EventType.EV_EFI_ACTION)
_BOOT_TYPES: Final = frozenset(
    {int(EventType.EV_EFI_VARIABLE_BOOT), int(EventType.EV_EFI_VARIABLE_BOOT2)}
)
_SIGNATURES: Final = frozenset({AuthorityKind.CERTIFICATE, AuthorityKind.HASH})


@dataclass(frozen=True, slots=True)
class _Seen:
    """A log, and what of PCR 7 several quirks show in, read once."""

    view: AttestedLog
    variables: tuple[tuple[Event, MeasuredVariable], ...]
    authorities: tuple[tuple[Event, MeasuredVariable], ...]


def quirks(view: AttestedLog) -> tuple[Quirk, ...]:
    """Return the oddities that the attested events show, in the order of ``QUIRKS``."""
    seen = _Seen(
        view,
        tuple(_variables(view, SECURE_BOOT_PCR, _CONFIG)),
        tuple(_variables(view, SECURE_BOOT_PCR, _AUTHORITY)),
    )
    found: list[Quirk] = []
    for identifier, sentence, find in QUIRKS:
        by_pcr: dict[int, list[int]] = {}
        for event in find(seen):
            by_pcr.setdefault(event.pcr, []).append(event.number)
        found += [
            Quirk(identifier, pcr, events[0], len(events), sentence)
            for pcr, events in by_pcr.items()
        ]
    return tuple(found)


def _variables(view: AttestedLog, pcr: int, kind: int) -> Iterator[tuple[Event, MeasuredVariable]]:
    for event in view.events(pcr):
        if event.type == kind:
            variable = read_variable(event, view.bank, view.column)
            if variable is not None:
                yield event, variable


def _empty_secure_boot(seen: _Seen) -> Iterator[Event]:
    for event, variable in seen.variables:
        if variable.role == "SecureBoot" and not variable.value:
            yield event


def _padded_authorities(seen: _Seen) -> Iterator[Event]:
    for event, variable in seen.authorities:
        authority = variable.authority
        if variable.coverage is Coverage.ALL_BUT_LAST_BYTE or (authority and authority.padded):
            yield event


def _ownerless_authorities(seen: _Seen) -> Iterator[Event]:
    for event, variable in seen.authorities:
        authority = variable.authority
        if authority and authority.ownerless:
            yield event


def _repeated_authorities(seen: _Seen) -> Iterator[Event]:
    known: set[tuple[str, bytes]] = set()
    for event, variable in seen.authorities:
        authority = variable.authority
        if authority and authority.kind in _SIGNATURES:
            key = (variable.name, authority.data)
            if key in known:
                yield event
            known.add(key)


def _unknown_actions(seen: _Seen) -> Iterator[Event]:
    actions = known_digests(seen.view.bank).actions
    for event in seen.view.events(SECURE_BOOT_PCR):
        if (
            event.type == _ACTION
            and seen.view.digest(event) not in actions
            and seen.view.verified(event)
        ):
            yield event


def _unnamed_databases(seen: _Seen) -> Iterator[Event]:
    for event in seen.view.events(SECURE_BOOT_PCR):
        if event.type == _CONFIG:
            verified = seen.view.verified(event)
            if verified is not None and verified.coverage is Coverage.VARIABLE_VALUE:
                yield event


def _modes_in_pcr1(seen: _Seen) -> Iterator[Event]:
    if seen.view.is_ccel:
        return
    for event, variable in _variables(seen.view, CONFIGURATION_PCR, _CONFIG):
        if variable.role in ("AuditMode", "DeployedMode", "SetupMode"):
            yield event


def _boot_options_in_pcr5(seen: _Seen) -> Iterator[Event]:
    if seen.view.is_ccel:
        return
    for event in seen.view.events(BOOT_CONFIGURATION_PCR):
        if event.type in _BOOT_TYPES:
            try:
                parse_variable_data(event.unverified_data)
            except MalformedError:
                continue
            yield event


def _zero_crtm_contents(seen: _Seen) -> Iterator[Event]:
    known = known_digests(seen.view.bank)
    for event in seen.view.events(FIRMWARE_PCR):
        if seen.view.digest(event) in known.separators and not is_separator(
            event, seen.view.column, known
        ):
            yield event


Finder = Callable[[_Seen], Iterator[Event]]

QUIRKS: Final[tuple[tuple[str, str, Finder], ...]] = (
    (
        "empty-secure-boot-variable",
        "The firmware measured SecureBoot as a variable that does not exist, which is off.",
        _empty_secure_boot,
    ),
    (
        "shim-authority-with-extra-bytes",
        "shim before 15.3 logged an authority with bytes behind it, one of them never measured.",
        _padded_authorities,
    ),
    (
        "shim-authority-without-owner",
        "shim measured a certificate without the owner that a signature database has before it.",
        _ownerless_authorities,
    ),
    (
        "authority-measured-again",
        "shim measured an authority that was measured before; firmware measures each one once.",
        _repeated_authorities,
    ),
    (
        "unknown-action-in-pcr7",
        "The firmware measured an action of its maker's own into PCR 7.",
        _unknown_actions,
    ),
    (
        "secure-boot-value-without-name",
        "The firmware measured a Secure Boot variable without its name, as TPM 1.2 platforms did.",
        _unnamed_databases,
    ),
    (
        "secure-boot-mode-in-pcr1",
        "The firmware measured a Secure Boot mode into PCR 1.",
        _modes_in_pcr1,
    ),
    (
        "zero-s-crtm-contents",
        "The firmware measured a part of its root of trust as zeros, which looks like a separator.",
        _zero_crtm_contents,
    ),
    (
        "boot-options-in-pcr5",
        "The firmware measured boot options into PCR 5, as platforms of 2014 and before did.",
        _boot_options_in_pcr5,
    ),
)
"""Identifier, sentence and the events that show it. The affected PCR is that of the event."""
