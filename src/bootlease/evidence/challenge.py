"""The challenge a verifier sets, and the answer to evidence that met it.

Layout: docs/protocol.md, "Challenge" and "Lease answer". Both may gain members; a node ignores
those that it does not know, so that a newer verifier does not stop it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.evidence.denied import DeniedLease, parse_denied
from bootlease.evidence.expiring import KeyPermit, parse_permit
from bootlease.evidence.fields import Fields
from bootlease.evidence.request import MAX_ENCODING, MAX_LEASES, TokenEncoding
from bootlease.evidence.segment import MAX_ENTRIES
from bootlease.model import PCR_COUNT, HashAlg

MAX_ANSWER: Final = 4 * 1024 * 1024
"""256 leases of some 3 kB each, with receipts, and what they repeat of evidence."""
MAX_TOKEN: Final = 16 * 1024
MAX_RECEIPT: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Challenge:
    """A question that one node may answer once.

    Attributes:
        nonce: 32 random bytes.
        node: Node id, 32 bytes: who may answer.
        issued_at: Verifier's time of issue, seconds since the epoch. The life of every lease
            granted on this challenge counts from here.
        expires_at: First second at which an answer is too late.
        pcrs: The PCRs to quote, by bank.
        ima: How many entries of the node's IMA list its lineage has accepted; None where the
            policy does not look at IMA.
    """

    nonce: bytes
    node: bytes
    issued_at: int
    expires_at: int
    pcrs: Mapping[HashAlg, tuple[int, ...]]
    ima: int | None = None
    _encoded: bytes | None = field(init=False, default=None, repr=False, compare=False)

    def wire(self) -> dict[str, Any]:
        """Return the wire form."""
        members: dict[str, Any] = {
            "nonce": self.nonce,
            "node": self.node,
            "iat": self.issued_at,
            "exp": self.expires_at,
            "pcrs": {int(bank): list(indices) for bank, indices in self.pcrs.items()},
        }
        return members if self.ima is None else {**members, "ima": self.ima}

    def encode(self) -> bytes:
        """Return the deterministic CBOR."""
        encoded = self._encoded
        if encoded is None:
            encoded = self._encode()
            object.__setattr__(self, "_encoded", encoded)
        return encoded

    def _encode(self) -> bytes:
        # Written out, as the answer around it is: the general encoder takes ten times as long, and
        # every renewal waits for a challenge.
        number, octets, ima = cbor.encode_integer, cbor.encode_bytes, self.ima
        parts = (
            *(b"\xa5" if ima is None else b"\xa6", _EXP, number(self.expires_at)),
            *(_IAT, number(self.issued_at), b"" if ima is None else _IMA + number(ima)),
            *(_NODE, octets(self.node), _PCRS, _encode_selection(tuple(self.pcrs.items()))),
            *(_NONCE, octets(self.nonce)),
        )
        return b"".join(parts)

    @classmethod
    def parse(cls, data: bytes) -> Challenge:
        """Parse an encoded challenge.

        Raises:
            MalformedError: The bytes are not a challenge.
        """
        challenge = cls.from_wire(cbor.decode(data, max_bytes=MAX_ANSWER))
        # As it was written, so that what is recorded of it is what was stored.
        object.__setattr__(challenge, "_encoded", data)
        return challenge

    @classmethod
    def from_wire(cls, value: object) -> Challenge:
        """Read the wire form.

        Raises:
            MalformedError: The value is not a challenge.
        """
        fields = Fields(value, "challenge")
        return cls(
            nonce=fields.digest("nonce"),
            node=fields.digest("node"),
            issued_at=fields.unsigned("iat"),
            expires_at=fields.unsigned("exp"),
            pcrs=_parse_selection(fields.map("pcrs", at_most=len(HashAlg))),
            ima=fields.unsigned("ima", at_most=MAX_ENTRIES) if fields.has("ima") else None,
        )


_MAP: Final = 0xA0
_EXP, _IAT, _IMA = b"\x63exp", b"\x63iat", b"\x63ima"
_NODE, _PCRS, _NONCE = b"\x64node", b"\x64pcrs", b"\x65nonce"


@functools.lru_cache(maxsize=64)
def _encode_selection(banks: tuple[tuple[HashAlg, tuple[int, ...]], ...]) -> bytes:
    # A policy asks all nodes for the same PCRs.
    return cbor.encode({int(bank): list(indices) for bank, indices in banks})


def _parse_selection(banks: Mapping[Any, Any]) -> Mapping[HashAlg, tuple[int, ...]]:
    selection: dict[HashAlg, tuple[int, ...]] = {}
    for number, indices in banks.items():
        try:
            alg = HashAlg(number)
        except ValueError as exc:
            raise MalformedError("challenge names an unknown bank") from exc
        if not isinstance(indices, list | tuple) or not 0 < len(indices) <= PCR_COUNT:
            raise MalformedError(f"challenge needs 1 to {PCR_COUNT} PCRs for {alg.label}")
        if any(type(index) is not int or not 0 <= index < PCR_COUNT for index in indices):
            raise MalformedError(f"challenge names an impossible PCR for {alg.label}")
        if sorted(set(indices)) != list(indices):
            raise MalformedError(f"challenge needs its PCRs for {alg.label} in order, each once")
        selection[alg] = tuple(indices)
    if not selection:
        raise MalformedError("challenge selects no PCR")
    return selection


@dataclass(frozen=True, slots=True)
class IssuedLease:
    """One granted lease: its execution token and how long it lives.

    Attributes:
        lease_id: 16 bytes.
        encoding: Form of the token.
        token: The token; for JWT, its ASCII.
        claims_digest: SHA-256 of the claims' deterministic CBOR.
        expires_at: The token's ``exp``.
        receipt: That the ledger holds the lease, beside a JWT (C2SP tlog-proof); ``None`` for a
            CWT, which carries its own.
        permit: Lets the TPM use the lease's key, where that is an expiring one.
    """

    lease_id: bytes
    encoding: TokenEncoding
    token: bytes
    claims_digest: bytes
    expires_at: int
    receipt: bytes | None = None
    permit: KeyPermit | None = None

    def wire(self) -> dict[str, Any]:
        """Return the wire form."""
        members: dict[str, Any] = {
            "id": self.lease_id,
            "enc": self.encoding.value,
            "token": self.token,
            "claims": self.claims_digest,
            "exp": self.expires_at,
        }
        if self.permit is not None:
            members["permit"] = self.permit.wire()
        return members if self.receipt is None else {**members, "receipt": self.receipt}

    def encode(self) -> bytes:
        """Return the deterministic CBOR of the wire form, written out."""
        octets, receipt, permit = cbor.encode_bytes, self.receipt, self.permit
        count = 5 + (receipt is not None) + (permit is not None)
        parts = (
            *(bytes([_MAP | count]), b"\x62id", octets(self.lease_id)),
            *(b"\x63enc", cbor.encode(self.encoding.value)),
            *(_EXP, cbor.encode_integer(self.expires_at), b"\x65token", octets(self.token)),
            *(b"\x66claims", octets(self.claims_digest)),
            b"" if permit is None else b"\x66permit" + cbor.encode(permit.wire()),
            b"" if receipt is None else b"\x67receipt" + octets(receipt),
        )
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class LeaseAnswer:
    """The answer to accepted evidence.

    Attributes:
        decision: Digest of the recorded decision, 32 bytes.
        head: Head of the lineage after this decision: ``prev`` of the next evidence.
        sequence: Number of the decision in its lineage, from 0.
        life: Seconds the leases live, counted from the issue of the challenge.
        expires_in: Seconds the leases live, counted from the decision.
        leases: Those that were granted, in the order in which they were asked for.
        challenge: The next challenge: a renewal is one round trip.
        denied: The others, all of them optional, in that order too.
    """

    decision: bytes
    head: bytes
    sequence: int
    life: int
    expires_in: int
    leases: tuple[IssuedLease, ...]
    challenge: Challenge
    denied: tuple[DeniedLease, ...] = ()

    def granted(self) -> tuple[int, ...]:
        """Return the place of each lease of ``leases`` among those that were asked for."""
        left_out = {each.index for each in self.denied}
        places = range(len(self.leases) + len(left_out))
        return tuple([place for place in places if place not in left_out])

    def encode(self) -> bytes:
        """Return the deterministic CBOR."""
        number, octets, denied = cbor.encode_integer, cbor.encode_bytes, self.denied
        parts = (
            *(
                b"\xa8\x63seq" if denied else b"\xa7\x63seq",
                number(self.sequence),
                b"\x64head",
                octets(self.head),
            ),
            *(b"\x64life", number(self.life)),
            b"\x66denied" + cbor.encode([each.wire() for each in denied]) if denied else b"",
            *(b"\x66leases", cbor.array([lease.encode() for lease in self.leases])),
            *(b"\x68decision", octets(self.decision)),
            *(b"\x69challenge", self.challenge.encode()),
            *(b"\x6aexpires_in", number(self.expires_in)),
        )
        return b"".join(parts)

    @classmethod
    def parse(cls, data: bytes) -> LeaseAnswer:
        """Parse an encoded answer; its tokens are unverified.

        Raises:
            MalformedError: The bytes are not a lease answer.
        """
        fields = Fields(cbor.decode(data, max_bytes=MAX_ANSWER), "lease answer")
        leases = fields.array("leases", at_most=MAX_LEASES)
        if not leases:
            raise MalformedError("lease answer holds no lease")
        return cls(
            decision=fields.digest("decision"),
            head=fields.digest("head"),
            sequence=fields.unsigned("seq"),
            life=fields.unsigned("life", at_most=86_400),
            expires_in=fields.unsigned("expires_in", at_most=86_400),
            leases=tuple(map(_parse_lease, leases)),
            challenge=Challenge.from_wire(fields.map("challenge", at_most=8)),
            denied=_parse_denied(fields),
        )


def _parse_denied(fields: Fields) -> tuple[DeniedLease, ...]:
    if not fields.has("denied"):
        return ()
    denied = parse_denied(fields.array("denied", at_most=MAX_LEASES - 1))
    if not denied:
        raise MalformedError("lease answer names denied leases without one")
    return denied


def _parse_lease(value: object) -> IssuedLease:
    fields = Fields(value, "issued lease")
    try:
        encoding = TokenEncoding(fields.text("enc", at_most=MAX_ENCODING))
    except ValueError as exc:
        raise MalformedError("issued lease has an unknown encoding") from exc
    lease_id = fields.octets("id", at_most=16)
    if len(lease_id) != 16:  # noqa: PLR2004 - RFC 8392 cti: this protocol's are 16 bytes
        raise MalformedError("issued lease needs an id of 16 bytes")
    return IssuedLease(
        lease_id=lease_id,
        encoding=encoding,
        token=fields.octets("token", at_most=MAX_TOKEN),
        claims_digest=fields.digest("claims"),
        expires_at=fields.unsigned("exp"),
        receipt=fields.octets("receipt", at_most=MAX_RECEIPT) if fields.has("receipt") else None,
        permit=parse_permit(fields.array("permit", at_most=2)) if fields.has("permit") else None,
    )
