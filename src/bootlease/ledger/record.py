"""The record of one decision: enough to make it again and compare.

A record is written before its answer is given and its digest is in every token granted. It holds
digests of the large inputs, which are kept under them, and the small inputs themselves; with the
code of the stated version, ``appraise`` over these gives this verdict and these findings.

Layout, deterministic CBOR (RFC 8949 §4.2.1), a flat array so that its order needs no sorting::

    ["bootlease/decision/2", issuer, node, time, challenge,
     evidence, enrolment, prior / null, high water, granted, [finding...],
     lineage root, lineage previous / null, sequence, [reference...],
     policy id, policy digest, policy epoch, roots, code version, code,
     [[lease id, [scope name...], audience, cnf thumbprint, expires at]...], previous / null]

Everything named without a type is a SHA-256 digest or an identifier of 16 or 32 bytes;
``challenge`` and ``prior`` are an encoded challenge and an encoded lineage state, ``high water``
resetCount, restartCount (32 bits each) and clock (64) of the node's TPM at their furthest. A
finding is a map as ``Finding.as_dict`` gives it. ``code`` covers the program's sources, so that
another program that calls itself by the same version shows.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.frozen import quick_init
from bootlease.model import NODES_REMEMBERED, Effect, Finding

RECORD_TYPE: Final = "bootlease/decision/2"
MAX_RECORD: Final = 4 * 1024 * 1024
_MEMBERS: Final = 23
_MAX_TEXT: Final = 64 * 1024


@quick_init
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


@quick_init
@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One decision, grant or refusal.

    Attributes:
        issuer: URL of the verifier that decided.
        node: Node id.
        time: Seconds since the epoch at which it was made.
        challenge: The challenge answered, encoded.
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
        code: Digest of that program's sources, 32 bytes.
        leases: What was granted.
        previous: Digest of the node's decision before this one, if any.
        encoded: The deterministic CBOR.
        digest: SHA-256 of ``encoded``.
    """

    issuer: str
    node: bytes
    time: int
    challenge: bytes
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
    code: bytes
    leases: tuple[GrantedLease, ...]
    previous: bytes | None
    encoded: bytes = field(init=False, repr=False, compare=False)
    digest: bytes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if self.granted != bool(self.leases):
            raise ValueError("a grant has leases and a refusal has none")
        before, previous = self.lineage_previous, self.previous
        if not (
            len(self.node) == len(self.evidence) == len(self.enrolment) == _DIGEST_SIZE
            and len(self.lineage_root) == _DIGEST_SIZE
            and (before is None or len(before) == _DIGEST_SIZE)
            and (previous is None or len(previous) == _DIGEST_SIZE)
        ):
            raise ValueError("a digest or identifier has another size than 32 bytes")
        if len(self.high_water) != _MARK_SIZE:
            raise ValueError(f"the high-water mark has another size than {_MARK_SIZE} bytes")
        encoded = self._encode()
        object.__setattr__(self, "encoded", encoded)
        object.__setattr__(self, "digest", hashlib.sha256(encoded).digest())

    def _encode(self) -> bytes:
        # Written out, because every decision waits for it: the general encoder takes four times as
        # long. What a node's decisions share is encoded once.
        number, previous, prior = cbor.encode_integer, self.lineage_previous, self.prior
        references, policy = self.references, self.policy_id
        # fmt: off
        return b"".join(
            (
                _opening(self.issuer, self.node), number(self.time),
                cbor.encode_bytes(self.challenge), _DIGEST, self.evidence,
                _DIGEST, self.enrolment, _NULL if prior is None else cbor.encode_bytes(prior),
                _MARK, self.high_water, b"\xf5" if self.granted else b"\xf4",
                _encode_findings(self.findings) if self.findings else b"\x80",
                _DIGEST, self.lineage_root, _NULL if previous is None else _DIGEST + previous,
                number(self.sequence),
                _rules(
                    references, policy, self.policy_digest, self.policy_epoch,
                    self.roots, self.code_version, self.code,
                ),
                cbor.array([_encode_lease(lease) for lease in self.leases]),
                _NULL if self.previous is None else _DIGEST + self.previous,
            )
        )
        # fmt: on

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
                issuer=_text(members[1]),
                node=_bytes(members[2]),
                time=_integer(members[3]),
                challenge=_bytes(members[4]),
                evidence=_bytes(members[5]),
                enrolment=_bytes(members[6]),
                prior=_optional(members[7]),
                high_water=_bytes(members[8]),
                granted=_boolean(members[9]),
                findings=tuple(map(_finding, _array(members[10]))),
                lineage_root=_bytes(members[11]),
                lineage_previous=_optional(members[12]),
                sequence=_integer(members[13]),
                references=tuple(map(_bytes, _array(members[_REFERENCES]))),
                policy_id=_text(members[15]),
                policy_digest=_bytes(members[16]),
                policy_epoch=_integer(members[17]),
                roots=_bytes(members[18]),
                code_version=_text(members[19]),
                code=_bytes(members[20]),
                leases=tuple(map(_lease, _array(members[_LEASES]))),
                previous=_optional(members[22]),
            )
        except ValueError as exc:
            raise MalformedError(f"decision record: {exc}") from exc


def parse_granted(data: bytes) -> tuple[tuple[GrantedLease, ...], tuple[bytes, ...]]:
    """Parse what an encoded record of a grant says of its leases: them, and the reference sets.

    Where a hundred thousand records are read that this program wrote itself: nothing else in the
    record is looked at, which takes half as long as ``DecisionRecord.parse``.

    Raises:
        MalformedError: The bytes are no decision record of this version.
    """
    members = _array(cbor.decode(data, max_bytes=MAX_RECORD), _MEMBERS)
    if members[0] != RECORD_TYPE:
        raise MalformedError("the record is not of a type that this version knows")
    references = tuple(map(_bytes, _array(members[_REFERENCES])))
    return tuple(map(_lease, _array(members[_LEASES]))), references


_REFERENCES: Final = 14
_LEASES: Final = 21
_DIGEST_SIZE: Final = 32
_MARK_SIZE: Final = 16

_DIGEST: Final = b"\x58\x20"
_MARK: Final = b"\x50"
_NULL: Final = b"\xf6"
_HEAD: Final = cbor.array([b""] * _MEMBERS) + cbor.encode(RECORD_TYPE)


def _encode_findings(findings: tuple[Finding, ...]) -> bytes:
    return cbor.encode([finding.as_dict() for finding in findings])


@functools.lru_cache(maxsize=NODES_REMEMBERED)
def _opening(issuer: str, node: bytes) -> bytes:
    return _HEAD + cbor.encode(issuer) + cbor.encode(node)


@functools.lru_cache(maxsize=256)
def _rules(references: tuple[bytes, ...], *others: str | bytes | int) -> bytes:
    # From the references to the code: what verifiers of one policy write in every record.
    return cbor.encode(references) + b"".join(map(cbor.encode, others))


def _encode_lease(lease: GrantedLease) -> bytes:
    granted = _granted(lease.scope, lease.audience, lease.thumbprint)
    lease_id, expires_at = cbor.encode_bytes(lease.lease_id), cbor.encode_integer(lease.expires_at)
    return b"\x85" + lease_id + granted + expires_at


@functools.lru_cache(maxsize=NODES_REMEMBERED)
def _granted(scope: tuple[str, ...], audience: str, thumbprint: bytes) -> bytes:
    return cbor.encode(scope) + cbor.encode(audience) + cbor.encode(thumbprint)


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
