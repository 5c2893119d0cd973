"""Reference sets: named, versioned, content-addressed statements of what a good boot measures.

A set constrains PCRs of one bank. A PCR is constrained either by its value, or by the set of
events that may extend it. Neither form has a default: a PCR that is not in the set is not
constrained, and an appraisal that needs it refuses.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bootlease import cbor
from bootlease.model import PCR_COUNT, HashAlg
from bootlease.reference.bootrules import BootRules
from bootlease.token import ReferenceClaim

MAX_EVENTS: Final = 20_000
"""Events a set may hold for one PCR: a GRUB that measures every command reaches thousands."""

MAX_VALUES: Final = 256
MAX_DESCRIPTION: Final = 2048
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+~-]{0,63}", re.ASCII)
_MAX_EVENT_TYPE: Final = 0xFFFF_FFFF
REFERENCE_TYPE: Final = "bootlease/reference/1"


def is_reference_name(name: str) -> bool:
    """Tell whether ``name`` has the form of a reference set's name."""
    return _NAME.fullmatch(name) is not None


def is_reference_version(version: str) -> bool:
    """Tell whether ``version`` has the form of a reference set's version."""
    return _VERSION.fullmatch(version) is not None


@dataclass(frozen=True, slots=True)
class KnownEvent:
    """An event that a good boot measures.

    Attributes:
        type: Event type.
        digest: Digest in the set's bank.
        description: What people call it; decides nothing.
        required: A boot without it is refused.
    """

    type: int
    digest: bytes
    description: str
    required: bool

    @property
    def key(self) -> tuple[int, bytes]:
        """What an event of a log must equal to be this one."""
        return self.type, self.digest


@dataclass(frozen=True, slots=True)
class ValueReference:
    """A PCR is good if it has one of these values.

    Attributes:
        values: The values, at least one.
        events: The events that led there, to explain a mismatch with; they decide nothing.
    """

    values: tuple[bytes, ...]
    events: tuple[KnownEvent, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < len(self.values) <= MAX_VALUES:
            raise ValueError(f"a PCR needs 1 to {MAX_VALUES} values")
        if len(set(self.values)) != len(self.values):
            raise ValueError("a PCR value is listed twice")
        # Their order means nothing, so it must not make another set.
        object.__setattr__(self, "values", tuple(sorted(self.values)))


@dataclass(frozen=True, slots=True)
class EventsReference:
    """A PCR is good if only these events extended it, and the required ones did, in this order.

    Attributes:
        events: At least one, each once.
        known: The same by type and digest.
    """

    events: tuple[KnownEvent, ...]
    known: Mapping[tuple[int, bytes], KnownEvent] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.events:
            raise ValueError("a PCR matched by events needs at least one known event")
        known = {event.key: event for event in self.events}
        if len(known) != len(self.events):
            raise ValueError("a known event is listed twice")
        object.__setattr__(self, "known", known)


PCRReference = ValueReference | EventsReference


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """What a good boot measures; valid by construction.

    Attributes:
        name: What policies accept it by.
        version: Which release of the name it is.
        bank: Hash of all values and digests.
        pcrs: Constraints by PCR index, at least one.
        not_before: First second at which it counts, if limited.
        not_after: Last second at which it counts, if limited.
        boot: What the boot must mean besides, if anything.
        digest: SHA-256 of the deterministic CBOR of all of the above: its identity.
        claim: What tokens say of a boot that it describes.
    """

    name: str
    version: str
    bank: HashAlg
    pcrs: Mapping[int, PCRReference]
    not_before: int | None = None
    not_after: int | None = None
    boot: BootRules | None = None
    digest: bytes = field(init=False)
    claim: ReferenceClaim = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not is_reference_name(self.name):
            raise ValueError(f"{self.name!r:.80} is no reference name: use a-z 0-9 . _ -")
        if not is_reference_version(self.version):
            raise ValueError(
                f"{self.version!r:.80} is no version: use letters, digits, . _ : + ~ -"
            )
        if self.bank is HashAlg.SHA1:
            raise ValueError("a reference needs a stronger bank than sha1")
        if not self.pcrs:
            raise ValueError("a reference set constrains at least one PCR")
        for pcr, reference in self.pcrs.items():
            self._check_pcr(pcr, reference)
        start, end = self.not_before, self.not_after
        if start is not None and end is not None and start > end:
            raise ValueError("not_after is before not_before")
        ordered = {pcr: self.pcrs[pcr] for pcr in sorted(self.pcrs)}
        object.__setattr__(self, "pcrs", ordered)
        object.__setattr__(self, "digest", hashlib.sha256(self.encode()).digest())
        object.__setattr__(self, "claim", ReferenceClaim(self.name, self.digest))

    def _check_pcr(self, pcr: int, reference: PCRReference) -> None:
        if not 0 <= pcr < PCR_COUNT:
            raise ValueError(f"there is no PCR {pcr}")
        size = self.bank.size
        if len(reference.events) > MAX_EVENTS:
            raise ValueError(f"PCR {pcr} has more than {MAX_EVENTS} known events")
        for event in reference.events:
            if len(event.digest) != size:
                raise ValueError(f"PCR {pcr}: a {self.bank.label} digest has {size} bytes")
            if not 0 <= event.type <= _MAX_EVENT_TYPE:
                raise ValueError(f"PCR {pcr}: an event type has 32 bits")
            if not event.description.isprintable() or len(event.description) > MAX_DESCRIPTION:
                raise ValueError(f"PCR {pcr}: a description is printable and not too long")
        if isinstance(reference, ValueReference) and any(
            len(value) != size for value in reference.values
        ):
            raise ValueError(f"PCR {pcr}: a {self.bank.label} value has {size} bytes")

    def encode(self) -> bytes:
        """Return the deterministic CBOR whose SHA-256 is the set's digest."""
        members: dict[str, Any] = {
            "type": REFERENCE_TYPE,
            "name": self.name,
            "version": self.version,
            "bank": int(self.bank),
            "pcrs": {pcr: _wire(reference) for pcr, reference in self.pcrs.items()},
        }
        limits = {"nbf": self.not_before, "exp": self.not_after}
        members |= {key: value for key, value in limits.items() if value is not None}
        if self.boot is not None:
            members["boot"] = self.boot.wire()
        return cbor.encode(members)

    def valid_at(self, now: int) -> bool:
        """Tell whether the set counts at ``now``."""
        return (self.not_before is None or self.not_before <= now) and (
            self.not_after is None or now <= self.not_after
        )

    @property
    def label(self) -> str:
        """Name and version, for messages."""
        return f"{self.name} {self.version}"


def _wire(reference: PCRReference) -> list[Any]:
    events = [
        [event.type, event.digest, event.description, event.required] for event in reference.events
    ]
    if isinstance(reference, ValueReference):
        return ["value", list(reference.values), events]
    return ["events", events]
