"""The record of one decision: enough to make it again and compare.

A record is written before its answer is given and its digest is in every token granted. It holds
digests of the large inputs, which are kept under them, and the small inputs themselves; with the
code of the stated version, ``appraise`` over these gives this verdict and these findings.

Layout, deterministic CBOR (RFC 8949 §4.2.1), a flat array so that its order needs no sorting::

    ["bootlease/decision/1", node, time, nonce, challenge issued at, challenge expires at,
     evidence, enrolment, prior / null, high water, granted, [finding...],
     lineage root, lineage previous / null, sequence, [reference...],
     policy id, policy digest, policy epoch, roots, code version,
     [[lease id, [scope name...], audience, cnf thumbprint, expires at]...], previous / null]

Everything named without a type is a SHA-256 digest or an identifier of 16 or 32 bytes; ``prior``
is an encoded lineage state, ``high water`` resetCount, restartCount (32 bits each) and clock (64)
of the node's TPM at their furthest. A finding is a map as ``Finding.as_dict`` gives it.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.model import Effect, Finding

RECORD_TYPE: Final = "bootlease/decision/1"
MAX_RECORD: Final = 4 * 1024 * 1024
_MEMBERS: Final = 23
_MAX_TEXT: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class GrantedLease:
    """A lease as it was granted.

    Attributes:
        lease_id: 16 bytes.
        scope: Scope names.
        audience: Relying party.
        thumbprint: RFC 7638 thumbprint of the confirmation key.
        expires_at: First second at which it is over.
    """

    lease_id: bytes
    scope: tuple[str, ...]
    audience: str
    thumbprint: bytes
    expires_at: int


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One decision, grant or refusal.

    Attributes:
        node: Node id.
        time: Seconds since the epoch at which it was made.
        nonce: The challenge answered.
        challenge_issued_at: Its issue.
        challenge_expires_at: Its end.
        evidence: Digest of the evidence document.
        enrolment: Digest of the node's record.
        prior: Encoded lineage state before the decision, if any.
        high_water: The furthest that the TPM's counters were seen to stand before, encoded.
        granted: The verdict.
        findings: All findings.
        lineage_root: Root of the lineage.
        lineage_previous: Head before the decision, ``None`` for the first.
        sequence: Number of the decision in its lineage.
        references: Digests of the reference sets compared.
        policy_id: Name of the policy.
        policy_digest: Digest of the policy.
        policy_epoch: Its epoch.
        roots: Digest of the trusted roots.
        code_version: Version of the program that decided.
        leases: What was granted.
        previous: Digest of the node's decision before this one, if any.
        encoded: The deterministic CBOR.
        digest: SHA-256 of ``encoded``.
    """

    node: bytes
    time: int
    nonce: bytes
    challenge_issued_at: int
    challenge_expires_at: int
    evidence: bytes
    enrolment: bytes
    prior: bytes | None
    high_water: bytes
    granted: bool
    findings: tuple[Finding, ...]
    lineage_root: bytes
    lineage_previous: bytes | None
    sequence: int
    references: tuple[bytes, ...]
    policy_id: str
    policy_digest: bytes
    policy_epoch: int
    roots: bytes
    code_version: str
    leases: tuple[GrantedLease, ...]
    previous: bytes | None
    encoded: bytes = field(init=False, repr=False, compare=False)
    digest: bytes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if self.granted != bool(self.leases):
            raise ValueError("a grant has leases and a refusal has none")
        encoded = self._encode()
        object.__setattr__(self, "encoded", encoded)
        object.__setattr__(self, "digest", hashlib.sha256(encoded).digest())

    def _encode(self) -> bytes:
        # Written out, because every decision waits for it: the general encoder takes twice as long.
        octets, number = cbor.encode_bytes, cbor.encode_integer
        return b"".join(
            (
                *(_HEAD, octets(self.node), number(self.time), octets(self.nonce)),
                *(number(self.challenge_issued_at), number(self.challenge_expires_at)),
                *(octets(self.evidence), octets(self.enrolment), _or_null(self.prior)),
                octets(self.high_water),
                b"\xf5" if self.granted else b"\xf4",
                cbor.encode([finding.as_dict() for finding in self.findings])
                if self.findings
                else b"\x80",
                *(octets(self.lineage_root), _or_null(self.lineage_previous)),
                *(number(self.sequence), cbor.array([*map(octets, self.references)])),
                _encoded(self.policy_id),
                *(octets(self.policy_digest), number(self.policy_epoch), octets(self.roots)),
                _encoded(self.code_version),
                cbor.array([_encode_lease(lease) for lease in self.leases]),
                _or_null(self.previous),
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> DecisionRecord:
        """Parse an encoded record.

        Raises:
            MalformedError: The bytes are no decision record of this version.
        """
        members = _array(cbor.decode(data, max_bytes=MAX_RECORD), _MEMBERS)
        if members[0] != RECORD_TYPE:
            raise MalformedError("the record is not of a type that this version knows")
        try:
            return cls(
                node=_bytes(members[1]),
                time=_integer(members[2]),
                nonce=_bytes(members[3]),
                challenge_issued_at=_integer(members[4]),
                challenge_expires_at=_integer(members[5]),
                evidence=_bytes(members[6]),
                enrolment=_bytes(members[7]),
                prior=_optional(members[8]),
                high_water=_bytes(members[9]),
                granted=_boolean(members[10]),
                findings=tuple(map(_finding, _array(members[11]))),
                lineage_root=_bytes(members[12]),
                lineage_previous=_optional(members[13]),
                sequence=_integer(members[14]),
                references=tuple(map(_bytes, _array(members[15]))),
                policy_id=_text(members[16]),
                policy_digest=_bytes(members[17]),
                policy_epoch=_integer(members[18]),
                roots=_bytes(members[19]),
                code_version=_text(members[20]),
                leases=tuple(map(_lease, _array(members[21]))),
                previous=_optional(members[22]),
            )
        except ValueError as exc:
            raise MalformedError(f"decision record: {exc}") from exc


_HEAD: Final = cbor.array([b""] * _MEMBERS) + cbor.encode(RECORD_TYPE)


def _or_null(data: bytes | None) -> bytes:
    return b"\xf6" if data is None else cbor.encode_bytes(data)


@functools.lru_cache(maxsize=1024)
def _encoded(value: str | tuple[str, ...]) -> bytes:
    return cbor.encode(value)


def _encode_lease(lease: GrantedLease) -> bytes:
    return cbor.array(
        (
            cbor.encode_bytes(lease.lease_id),
            _encoded(lease.scope),
            _encoded(lease.audience),
            cbor.encode_bytes(lease.thumbprint),
            cbor.encode_integer(lease.expires_at),
        )
    )


def _array(value: object, size: int | None = None) -> Sequence[Any]:
    if type(value) is not list or (size is not None and len(value) != size):
        raise MalformedError("decision record: an array is missing or has another length")
    return value


def _bytes(value: object) -> bytes:
    if type(value) is not bytes:
        raise MalformedError("decision record: bytes are missing")
    return value


def _optional(value: object) -> bytes | None:
    return None if value is None else _bytes(value)


def _integer(value: object) -> int:
    if type(value) is not int or value < 0:
        raise MalformedError("decision record: a number is missing")
    return value


def _boolean(value: object) -> bool:
    if type(value) is not bool:
        raise MalformedError("decision record: the verdict is missing")
    return value


def _text(value: object) -> str:
    if type(value) is not str or len(value) > _MAX_TEXT:
        raise MalformedError("decision record: text is missing")
    return value


def _lease(value: object) -> GrantedLease:
    lease_id, scope, audience, thumbprint, expires_at = _array(value, 5)
    return GrantedLease(
        _bytes(lease_id),
        tuple(map(_text, _array(scope))),
        _text(audience),
        _bytes(thumbprint),
        _integer(expires_at),
    )


_FINDING_MEMBERS: Final = {"id", "effect", "message", "pcr", "event", "expected", "seen"}


def _finding(value: object) -> Finding:
    if (
        type(value) is not dict
        or not {"id", "effect", "message"} <= value.keys() <= _FINDING_MEMBERS
    ):
        raise MalformedError("decision record: a finding has other members")
    numbers = {key: _integer(value[key]) for key in ("pcr", "event") if key in value}
    texts = {key: _text(value[key]) for key in ("expected", "seen") if key in value}
    return Finding(
        id=_text(value["id"]),
        message=_text(value["message"]),
        effect=Effect(_text(value["effect"])),
        pcr=numbers.get("pcr"),
        event=numbers.get("event"),
        expected=texts.get("expected"),
        seen=texts.get("seen"),
    )
