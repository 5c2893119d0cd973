"""The values that every layer speaks in: hash algorithms, PCR values, findings.

Specifications: TCG Algorithm Registry 1.34 (algorithm identifiers); TPM 2.0 Library
part 2 §10.11.1 (TPMS_CLOCK_INFO).
"""

from __future__ import annotations

import enum
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final


class HashAlg(enum.IntEnum):
    """A hash algorithm by its TPM_ALG_ID; names a PCR bank where a bank is meant."""

    SHA1 = 0x0004
    SHA256 = 0x000B
    SHA384 = 0x000C
    SHA512 = 0x000D
    SM3_256 = 0x0012
    SHA3_256 = 0x0027
    SHA3_384 = 0x0028
    SHA3_512 = 0x0029

    @property
    def label(self) -> str:
        """The name used in files and messages, for example ``sha256``."""
        return self.name.lower()

    @property
    def size(self) -> int:
        """Digest length in bytes."""
        return _DIGEST_SIZES[self]

    def digest(self, data: bytes) -> bytes:
        """Hash ``data``.

        Raises:
            ValueError: This build of OpenSSL does not offer the algorithm.
        """
        return HASH_CONSTRUCTORS[self](data).digest()

    @classmethod
    def from_label(cls, label: str) -> HashAlg:
        """Return the algorithm that ``label`` names.

        Raises:
            ValueError: No algorithm has this name.
        """
        try:
            return _BY_LABEL[label]
        except KeyError:
            known = ", ".join(_BY_LABEL)
            raise ValueError(f"unknown hash algorithm {label!r}; known are {known}") from None


_DIGEST_SIZES: Final = {
    HashAlg.SHA1: 20,
    HashAlg.SHA256: 32,
    HashAlg.SHA384: 48,
    HashAlg.SHA512: 64,
    HashAlg.SM3_256: 32,
    HashAlg.SHA3_256: 32,
    HashAlg.SHA3_384: 48,
    HashAlg.SHA3_512: 64,
}
HASH_CONSTRUCTORS: Final[Mapping[HashAlg, Callable[[bytes], hashlib._Hash]]] = {
    HashAlg.SHA1: functools.partial(hashlib.sha1, usedforsecurity=False),
    HashAlg.SHA256: hashlib.sha256,
    HashAlg.SHA384: hashlib.sha384,
    HashAlg.SHA512: hashlib.sha512,
    HashAlg.SM3_256: functools.partial(hashlib.new, "sm3"),
    HashAlg.SHA3_256: hashlib.sha3_256,
    HashAlg.SHA3_384: hashlib.sha3_384,
    HashAlg.SHA3_512: hashlib.sha3_512,
}
"""What computes each; looking a hash up by name costs more than hashing an extend."""
_BY_LABEL: Final = {alg.name.lower(): alg for alg in HashAlg}

NODES_REMEMBERED: Final = 16_384
"""Nodes of which a process keeps what it worked out for one renewal until the next. A memo for
fewer than renew in turn is worse than none: each finds that it was the first to be forgotten."""

PCR_COUNT: Final = 24
"""PCRs of a PC client TPM (TCG PTP 1.05 §4.6)."""

PCRValues = Mapping[HashAlg, Mapping[int, bytes]]
"""PCR values by bank and index."""


def sha256(data: bytes) -> bytes:
    """Return the digest that names a record, a document or a piece of evidence."""
    return hashlib.sha256(data).digest()


class FixedPCRValues(Mapping[HashAlg, Mapping[int, bytes]]):
    """PCR values that nobody can change, so that what follows from them may be remembered.

    Args:
        values: Copied.
    """

    __slots__ = ("_banks", "_hash")

    def __init__(self, values: PCRValues) -> None:
        self._banks: Final = {alg: MappingProxyType(dict(bank)) for alg, bank in values.items()}
        self._hash: Final = hash(
            frozenset([(alg, frozenset(bank.items())) for alg, bank in self._banks.items()])
        )

    def __getitem__(self, alg: HashAlg) -> Mapping[int, bytes]:
        return self._banks[alg]

    def __iter__(self) -> Iterator[HashAlg]:
        return iter(self._banks)

    def __len__(self) -> int:
        return len(self._banks)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if type(other) is FixedPCRValues:
            return self._banks == other._banks
        return other == self._banks


class Effect(enum.Enum):
    """What a finding does to a decision."""

    REFUSES = "refuses"
    NOTES = "notes"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a check found, in a form for programs and for people.

    Attributes:
        id: Stable dotted identifier, for example ``quote.nonce.mismatch``.
        message: One sentence a tired operator understands.
        effect: Whether the finding refuses or is only noted.
        pcr: The PCR it speaks of.
        event: Number of the event-log entry it speaks of, counted from 0.
        expected: What was required, as text.
        seen: What was found, as text.
    """

    id: str
    message: str
    effect: Effect = Effect.REFUSES
    pcr: int | None = None
    event: int | None = None
    expected: str | None = None
    seen: str | None = None

    def __str__(self) -> str:
        """Return one line for people: what it does, what was found and required, and its id."""
        compared = [
            f"{word} {value}"
            for word, value in (("expected", self.expected), ("seen", self.seen))
            if value is not None and value not in self.message
        ]
        detail = f" ({', '.join(compared)})" if compared else ""
        word = "refused" if self.effect is Effect.REFUSES else "note"
        return f"{word}: {self.message}{detail} [{self.id}]"

    def as_dict(self) -> dict[str, Any]:
        """Return the finding with absent members left out (JSON and CBOR form)."""
        full: dict[str, Any] = {
            "id": self.id,
            "effect": self.effect.value,
            "message": self.message,
            "pcr": self.pcr,
            "event": self.event,
            "expected": self.expected,
            "seen": self.seen,
        }
        return {key: value for key, value in full.items() if value is not None}


def legible(text: str, *, at_most: int) -> str:
    """Return text that somebody else wrote for one line: cut, what does not print as ``?``."""
    return "".join(char if char.isprintable() else "?" for char in text[:at_most])


def refusals(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Return the findings that refuse."""
    return tuple(finding for finding in findings if finding.effect is Effect.REFUSES)


@dataclass(frozen=True, slots=True)
class ClockInfo:
    """TPMS_CLOCK_INFO (TPM 2.0 part 2 §10.11.1).

    Attributes:
        clock: Milliseconds the TPM has been powered since its last clear.
        reset_count: TPM resets since the last clear.
        restart_count: TPM restarts and resumes since the last reset.
        safe: No greater clock value was reported before by this TPM.
    """

    clock: int
    reset_count: int
    restart_count: int
    safe: bool
