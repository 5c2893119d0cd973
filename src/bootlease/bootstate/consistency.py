"""Events whose data is not what was measured, although their type demands that it be.

Specification: TCG PFP 1.06 §10.4.1 (what the digest of each event type is over).

Such a log replays, because replay takes digests alone; its words are an attacker's (attacks D1,
D16). Facts never come from such an event anyway. This finds the lie itself, for every attested PCR,
and costs one hash for each event that could lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from bootlease.bootstate.findings import MAX_FINDINGS, data_mismatch
from bootlease.bootstate.variables import read_variable
from bootlease.bootstate.view import AttestedLog
from bootlease.eventlog import DATA_IS_MEASURED, Event, EventType, contradicts_digest
from bootlease.eventlog.bodies import GRUB_PREFIXES
from bootlease.eventlog.hashes import NewHash, hash_constructor
from bootlease.model import Finding

_COVERED_TYPES: Final = frozenset(map(int, DATA_IS_MEASURED))
_CACHED_TYPES: Final = frozenset(
    {
        int(EventType.EV_EFI_VARIABLE_DRIVER_CONFIG),
        int(EventType.EV_EFI_VARIABLE_AUTHORITY),
    }
)
_IPL: Final = int(EventType.EV_IPL)


def altered_events(view: AttestedLog) -> tuple[Finding, ...]:
    """Return a refusing finding for each event whose data was altered, up to ``MAX_FINDINGS``."""
    new_hash = hash_constructor(view.bank)
    if new_hash is None:
        raise RuntimeError("a view of a bank that cannot be computed")
    suspects = [*_typed(view, new_hash), *_strings(view, new_hash)]
    found = (data_mismatch(event) for event in suspects if contradicts_digest(event, view.bank))
    return tuple(islice(found, MAX_FINDINGS))


def _typed(view: AttestedLog, new_hash: NewHash) -> Iterator[Event]:
    """Yield events whose type demands that the digest be over the data, where it plainly is not."""
    bank, column, types = view.bank, view.column, _COVERED_TYPES
    for events in view.registers.values():
        for event in events:
            event_type = event[2]
            if event_type not in types:
                continue
            # What was read of a variable before need not be hashed again.
            if event_type in _CACHED_TYPES and read_variable(event, bank, column) is not None:
                continue
            if new_hash(event[5]).digest() != event[4][column]:
                yield event


def _strings(view: AttestedLog, new_hash: NewHash) -> Iterator[Event]:
    """Yield strings of GRUB whose digest plainly is not over them."""
    column, prefixes = view.column, GRUB_PREFIXES
    for events in view.registers.values():
        for event in events:
            data = event[5]
            if event[2] != _IPL or not data.startswith(prefixes):
                continue
            # Every prefix ends with its only space; what follows is what GRUB measured.
            text = data[data.index(b" ") + 1 :].rstrip(b"\0")
            if new_hash(text).digest() != event[4][column]:
                yield event
