"""Token Status List: which leases ended before their tokens expire.

Specification: draft-ietf-oauth-status-list-20, §4 (the list), §5 (its signed forms), §8.3 (checking
it). One bit an index, packed from the least significant bit, zlib: 0 is VALID, 1 is INVALID.

An index belongs to one lease for as long as that lease may live, and to another one later: the ring
of ``STATUS_RING`` indexes goes round. So a bit speaks of tokens that have not expired, and of no
others; ``exp`` is checked besides.

Not handled, and refused: lists of 2, 4 or 8 bits, ``aggregation_uri`` (ignored), historical lists,
COSE_Mac0, the CWT tag (which the draft forbids).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from bootlease import cbor
from bootlease.errors import MalformedError, VerificationError
from bootlease.model import Finding
from bootlease.token import base64url
from bootlease.token.cose import parse_protected, parse_sign1, sign1
from bootlease.token.keys import INVALID_SIGNATURE, KeySet, Signer, VerificationKey
from bootlease.token.signedjson import SignedKind, sign_object, verify_object

STATUS_RING: Final = 1 << 20
"""How many indexes there are. A verifier that grants a thousand leases a second comes round in
17 minutes, which is longer than the longest lease."""

VALID: Final = 0
INVALID: Final = 1

STATUS_JWT_TYP: Final = "statuslist+jwt"
STATUS_CWT_TYP: Final = "application/statuslist+cwt"
STATUS_JWT: Final = "application/statuslist+jwt"
STATUS_CWT: Final = "application/statuslist+cwt"
"""Media types."""

_RING_BYTES: Final = STATUS_RING // 8
_MAX_COMPRESSED: Final = _RING_BYTES + 1024
"""What does not shrink grows by 5 bytes for every 16 kB, and by the frame (RFC 1951 §3.2.4)."""
MAX_LIST_TOKEN: Final = 256 * 1024
"""A full list in base64url, in a JWS in base64url, is some 234 kB."""

_LEVEL: Final = 9
"""With run lengths alone (``Z_RLE``): nothing else repeats in such a list. Ten thousand bits take
0.6 ms and 15 kB, against 80 ms and 14 kB where zlib looks for longer matches."""
_TTL: Final = 65534
_STATUS_LIST: Final = 65533
_SUB, _EXP, _IAT = 2, 4, 6
_CWT_HEAD: Final = b"\xd2"

_OTHER_KIND: Final = Finding(
    "status.typ.mismatch", "The signed object is not a status list.", expected=STATUS_JWT_TYP
)
_UNKNOWN_KEY: Final = Finding(
    "status.key.unknown", "The status list is signed by a key that is not trusted here."
)
_WRONG_ALGORITHM: Final = Finding(
    "status.algorithm.mismatch",
    "The status list names an algorithm that does not belong to its key.",
)
_INVALID: Final = Finding(
    "status.signature.invalid", "The status list's signature does not verify."
)
_KIND: Final = SignedKind(
    STATUS_JWT_TYP, MAX_LIST_TOKEN, _OTHER_KIND, _UNKNOWN_KEY, _WRONG_ALGORITHM, _INVALID
)


@dataclass(frozen=True, slots=True)
class StatusList:
    """The status of each index, one bit each.

    Attributes:
        packed: Eight a byte, the lowest index in the least significant bit.
    """

    packed: bytes

    @classmethod
    def of(cls, indexes: Iterable[int], *, size: int = STATUS_RING) -> StatusList:
        """Return the list of ``size`` in which these are INVALID.

        Raises:
            ValueError: An index does not lie in the list, or the size is no multiple of 8.
        """
        if size % 8 or size <= 0:
            raise ValueError("a status list holds a multiple of 8 indexes")
        packed = bytearray(size // 8)
        for index in indexes:
            if not 0 <= index < size:
                raise ValueError(f"index {index} does not lie in a list of {size}")
            packed[index >> 3] |= 1 << (index & 7)
        return cls(bytes(packed))

    @property
    def size(self) -> int:
        """How many indexes the list has."""
        return len(self.packed) * 8

    def get(self, index: int) -> int:
        """Return the status of an index: VALID or INVALID.

        Raises:
            VerificationError: The list does not speak of it, so nothing is known of it (§8.3).
        """
        packed = self.packed
        if not 0 <= index < len(packed) * 8:
            raise VerificationError(
                Finding(
                    "status.index.unknown",
                    "The status list does not reach to the lease's index.",
                    expected=f"below {self.size}",
                    seen=str(index),
                )
            )
        return packed[index >> 3] >> (index & 7) & 1

    def compress(self) -> bytes:
        """Return the compressed byte array (§4.1)."""
        deflater = zlib.compressobj(_LEVEL, strategy=zlib.Z_RLE)
        return deflater.compress(self.packed) + deflater.flush()

    @classmethod
    def decompress(cls, data: bytes) -> StatusList:
        """Read a compressed byte array; no more than one ring's is ever held.

        Raises:
            MalformedError: It is none, it is longer than a ring, or something follows it.
        """
        if len(data) > _MAX_COMPRESSED:
            raise MalformedError("status list: longer than a ring of indexes can be")
        inflater = zlib.decompressobj()
        try:
            # One byte more than is allowed tells a bomb apart without unpacking it.
            packed = inflater.decompress(data, _RING_BYTES + 1)
        except zlib.error as exc:
            raise MalformedError("status list: not zlib") from exc
        if len(packed) > _RING_BYTES:
            raise MalformedError(f"status list: more than {STATUS_RING} indexes")
        if not inflater.eof or inflater.unused_data or not packed:
            raise MalformedError("status list: cut short, empty, or followed by something")
        return cls(packed)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form (§4.2)."""
        return {"bits": 1, "lst": base64url.encode(self.compress())}

    @classmethod
    def from_json(cls, value: object) -> StatusList:
        """Read the JSON form, unverified.

        Raises:
            MalformedError: It is not one of single bits.
        """
        lst = _members(value)
        if type(lst) is not str:
            raise MalformedError("status list: lst is no text")
        return cls.decompress(base64url.decode(lst))

    def to_cbor(self) -> dict[str, Any]:
        """Return the CBOR form (§4.3), to be encoded."""
        return {"bits": 1, "lst": self.compress()}

    @classmethod
    def from_cbor(cls, value: object) -> StatusList:
        """Read the CBOR form, unverified.

        Raises:
            MalformedError: It is not one of single bits.
        """
        lst = _members(value)
        if type(lst) is not bytes:
            raise MalformedError("status list: lst is no byte string")
        return cls.decompress(lst)


def _members(value: object) -> object:
    if type(value) is not dict:
        raise MalformedError("status list: no map")
    if type(value.get("bits")) is not int or value["bits"] != 1:
        raise MalformedError("status list: bits is not 1")
    return value.get("lst")


@dataclass(frozen=True, slots=True)
class StatusListToken:
    """A status list with what is said about it.

    Attributes:
        uri: Where it is published (``sub``); tokens name it.
        issued_at: Seconds since the epoch.
        expires_at: When it stops counting.
        ttl: Seconds after which to fetch another.
        status: The list.
    """

    uri: str
    issued_at: int
    expires_at: int
    ttl: int
    status: StatusList


def sign_status_jwt(token: StatusListToken, signer: Signer) -> str:
    """Sign a status list as a JWT (§5.1)."""
    return sign_object(
        _KIND,
        {
            "sub": token.uri,
            "iat": token.issued_at,
            "exp": token.expires_at,
            "ttl": token.ttl,
            "status_list": token.status.to_json(),
        },
        signer,
    )


def sign_status_cwt(token: StatusListToken, signer: Signer) -> bytes:
    """Sign a status list as a CWT (§5.2)."""
    claims = {
        _SUB: token.uri,
        _EXP: token.expires_at,
        _IAT: token.issued_at,
        _STATUS_LIST: token.status.to_cbor(),
        _TTL: token.ttl,
    }
    return sign1(cbor.encode(claims), signer, typ=STATUS_CWT_TYP)


def verify_status_list(
    data: bytes | str, keys: KeySet, *, now: float, uri: str, leeway: int
) -> StatusListToken:
    """Prove that a key of ``keys`` signed this list for ``uri``, and that it counts at ``now``.

    Args:
        data: Unverified: the bytes of a CWT, or the text of a JWT.
        keys: The keys of the one issuer the caller trusts.
        now: Seconds since the epoch.
        uri: What the token names, exact (§8.3).
        leeway: Seconds by which clocks may differ.

    Raises:
        MalformedError: Not a status list of single bits.
        VerificationError: It does not count.
    """
    token = _open_cwt(data, keys) if isinstance(data, bytes) else _open_jwt(data, keys)
    findings = []
    if token.uri != uri:
        findings.append(
            Finding(
                "status.uri.mismatch",
                "The status list is not the one that the token names.",
                expected=uri,
                seen=token.uri[:256],
            )
        )
    if token.expires_at <= now - leeway:
        findings.append(
            Finding(
                "status.expired",
                "The status list is too old to say anything.",
                expected=f"now before {token.expires_at}",
                seen=str(int(now)),
            )
        )
    if token.issued_at > now + leeway:
        findings.append(
            Finding(
                "status.issued.future",
                "The status list says that it was issued in the future; a clock is wrong.",
                expected=f"now not before {token.issued_at}",
                seen=str(int(now)),
            )
        )
    if findings:
        raise VerificationError(*findings)
    return token


def _open_jwt(text: str, keys: KeySet) -> StatusListToken:
    _, members = verify_object(_KIND, text, keys)
    said = StatusList.from_json(members.get("status_list"))
    return _made([members.get(name) for name in ("sub", "iat", "exp", "ttl")], said)


def _open_cwt(data: bytes, keys: KeySet) -> StatusListToken:
    # §5.2: never inside the CWT tag, which parse_sign1 would take.
    if not data.startswith(_CWT_HEAD):
        raise MalformedError("status list: not a COSE_Sign1 of tag 18")
    message = parse_sign1(data, max_bytes=MAX_LIST_TOKEN)
    header = parse_protected(message.protected)
    if header.typ != STATUS_CWT_TYP:
        raise VerificationError(_OTHER_KIND)
    key = keys.get(base64url.encode(header.key_id))
    if key is None:
        raise VerificationError(_UNKNOWN_KEY)
    if header.algorithm not in key.algorithm.cose_ids:
        raise VerificationError(_WRONG_ALGORITHM)
    _demand_signed(key, message.signature, message.to_be_signed())
    members = cbor.decode(message.payload, max_bytes=MAX_LIST_TOKEN)
    if type(members) is not dict:
        raise MalformedError("status list: the claims set is not a map")
    said = StatusList.from_cbor(members.get(_STATUS_LIST))
    return _made([members.get(name) for name in (_SUB, _IAT, _EXP, _TTL)], said)


def _demand_signed(key: VerificationKey, signature: bytes, data: bytes) -> None:
    try:
        key.verify(signature, data)
    except VerificationError as exc:
        if exc.findings != (INVALID_SIGNATURE,):
            raise
        raise VerificationError(_INVALID) from exc


def _made(claims: list[Any], status: StatusList) -> StatusListToken:
    uri, issued_at, expires_at, ttl = claims
    # §5 leaves exp and ttl out at will; ours has them, and a list without an end is none.
    if type(uri) is not str or not uri:
        raise MalformedError("status list: no sub")
    if type(issued_at) is not int or type(expires_at) is not int or type(ttl) is not int:
        raise MalformedError("status list: iat, exp or ttl is not a number")
    if ttl <= 0:
        raise MalformedError("status list: ttl is not positive")
    return StatusListToken(uri, issued_at, expires_at, ttl, status)
