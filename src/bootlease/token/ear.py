"""What an attestation result says: AR4SI tiers and trustworthiness vector.

Specifications: draft-ietf-rats-ar4si-10 §2.3 (claims, values, tiers), draft-ietf-rats-ear-04 §3
(``ear_status``, ``ear_trustworthiness_vector``).

Not handled: the dotted claim names of earlier EAR drafts. They belong to another profile, and a
consumer that tries both can be shown two different results.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from bootlease import cbor

EAR_PROFILE: Final = "tag:ietf.org,2026:rats/ear#04"
NODE_PROFILE: Final = "tag:bootlease.dev,2026:node#1"
"""The profile of the node's submodule: PCR-based appraisal as this project defines it."""


class Tier(enum.IntEnum):
    """A trustworthiness tier; a greater value is a worse result, ``NONE`` apart."""

    NONE = 0
    AFFIRMING = 2
    WARNING = 32
    CONTRAINDICATED = 96

    @property
    def label(self) -> str:
        """The tier's name in JSON."""
        return self.name.lower()


TIERS_BY_LABEL: Final = {tier.label: tier for tier in Tier}
_TIERS: Final = {tier.value: tier for tier in Tier}


def tier_from_value(value: object) -> Tier:
    """Return the tier that an ``ear_status`` of a CWT names.

    Raises:
        ValueError: There is no such tier.
    """
    if type(value) is not int or value not in _TIERS:
        raise ValueError("ear_status is not a trustworthiness tier")
    return _TIERS[value]


def tier_of(value: int) -> Tier:
    """Return the tier of one vector claim (AR4SI §2.3.2)."""
    distance = value if value >= 0 else -1 - value
    if value in {-1, 0, 1}:
        return Tier.NONE
    if distance < Tier.WARNING:
        return Tier.AFFIRMING
    return Tier.WARNING if distance < Tier.CONTRAINDICATED else Tier.CONTRAINDICATED


@dataclass(frozen=True, slots=True)
class TrustVector:
    """An AR4SI trustworthiness vector; ``None`` is a claim that is not made.

    What a value means depends on the claim (AR4SI §2.3.4); the words are in ``MEANINGS``.
    ``encoded`` is the deterministic CBOR of ``to_cwt()``.
    """

    instance_identity: int | None = None
    configuration: int | None = None
    executables: int | None = None
    file_system: int | None = None
    hardware: int | None = None
    runtime_opaque: int | None = None
    storage_opaque: int | None = None
    sourced_data: int | None = None
    encoded: bytes = field(init=False, repr=False, compare=False)
    _tier: Tier = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in _FIELDS:
            value = getattr(self, name)
            if value is not None and (type(value) is not int or not -128 <= value <= 127):  # noqa: PLR2004 - int8
                raise ValueError(f"trustworthiness claim {name} is not an int8")
        claims = self.to_cwt()
        worst = max(map(tier_of, claims.values()), default=Tier.NONE)
        object.__setattr__(self, "encoded", cbor.encode(claims))
        object.__setattr__(self, "_tier", worst)

    def tier(self) -> Tier:
        """Return the worst tier of any claim made; ``NONE`` when none is."""
        return self._tier

    def to_cwt(self) -> dict[int, int]:
        """Return the vector as CBOR has it, keyed by claim number."""
        values = ((label, getattr(self, name)) for label, name in enumerate(_FIELDS))
        return {label: value for label, value in values if value is not None}

    def to_jwt(self) -> dict[str, int]:
        """Return the vector as JSON has it, keyed by claim name."""
        return {LABELS[label]: value for label, value in self.to_cwt().items()}

    @classmethod
    def from_cwt(cls, claims: object) -> TrustVector:
        """Return the vector of an unverified CBOR map.

        Raises:
            ValueError: Not a vector. A claim number beyond AR4SI is refused: an assertion that
                nobody here understands must not vanish silently from a verdict.
        """
        if not isinstance(claims, Mapping):
            raise ValueError("trustworthiness vector is not a map")  # noqa: TRY004 - their bytes
        return _checked(tuple(claims.items()))

    @classmethod
    def from_jwt(cls, claims: object) -> TrustVector:
        """Return the vector of an unverified JSON object.

        Raises:
            ValueError: Not a vector.
        """
        if not isinstance(claims, Mapping):
            raise ValueError("trustworthiness vector is not an object")  # noqa: TRY004 - likewise
        return _checked(tuple((_NUMBERS.get(name), value) for name, value in claims.items()))


_FIELDS: Final = tuple(each.name for each in fields(TrustVector) if each.init)
LABELS: Final = tuple(name.replace("_", "-") for name in _FIELDS)
"""Claim names as JSON spells them, by claim number."""

_NUMBERS: Final = {label: number for number, label in enumerate(LABELS)}


def _checked(items: tuple[tuple[Any, Any], ...]) -> TrustVector:
    # Types before the cache: to a cache, True is 1.
    for number, value in items:
        if type(number) is not int or not 0 <= number < len(_FIELDS) or type(value) is not int:
            raise ValueError("trustworthiness vector has an unknown claim or value")
    return _from_items(items)


@functools.lru_cache(maxsize=256)
def _from_items(items: tuple[tuple[int, int], ...]) -> TrustVector:
    # A fleet shares a handful of verdicts; building one anew costs more than finding it.
    return TrustVector(**{_FIELDS[number]: value for number, value in items})


MEANINGS: Final[Mapping[str, Mapping[int, str]]] = {
    "instance-identity": {
        2: "recognised, not known to be compromised",
        96: "recognised, but not trustworthy",
        97: "not recognised",
    },
    "configuration": {
        2: "an approved configuration",
        3: "no known vulnerability",
        32: "known vulnerabilities",
        36: "elements of the configuration are unavailable",
        96: "a configuration that is not supportable",
    },
    "executables": {
        2: "only approved software during and after boot",
        3: "only approved software during boot",
        32: "recognised software with known bugs",
        33: "software that is not recognised",
        96: "software that must not run",
    },
    "file-system": {2: "approved files", 32: "files that are not recognised", 96: "tampered files"},
    "hardware": {
        2: "genuine",
        32: "known vulnerabilities",
        96: "not trustworthy",
        97: "not recognised",
    },
    "runtime-opaque": {
        2: "memory is encrypted",
        32: "memory is isolated only",
        96: "memory is open",
    },
    "storage-opaque": {
        2: "storage is encrypted",
        32: "storage is isolated only",
        96: "storage is open",
    },
    "sourced-data": {
        2: "from attested sources",
        32: "from partly attested sources",
        96: "untrusted",
    },
}
"""What the values of each claim say, in a few words (AR4SI §2.3.4)."""

_SPECIAL: Final = {
    -1: "the verifier could not judge",
    0: "no assertion",
    1: "unknown elements in the evidence",
    99: "the evidence failed cryptographic validation",
}


def meaning(label: str, value: int) -> str:
    """Return what ``value`` of the claim ``label`` says, in a few words."""
    known = _SPECIAL.get(value) or MEANINGS.get(label, {}).get(value)
    return known or f"a {tier_of(value).label} value of the verifier's own"
