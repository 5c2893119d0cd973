"""What a node asks for: leases, each for a scope, an audience and a confirmation key.

Layout: docs/protocol.md, "Evidence". Unverified until the quote is seen to be bound to the digests
of it.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.evidence.expiring import MEMBERS, ExpiringKey, parse_expiring_key
from bootlease.evidence.fields import Fields
from bootlease.token import scope as scopes
from bootlease.token.kinds import MAX_LEVEL

MAX_LEASES: Final = 256
"""Workloads of one node that one quote can serve."""

MAX_AUDIENCE: Final = 512
"""Characters: what a token's claim of text holds."""

MAX_ENCODING: Final = 16
"""Characters of the name of a token's form."""

MAX_KEY: Final = 1024
MAX_TPM_STRUCTURE: Final = 4096
"""TPM2B_PUBLIC, TPM2B_ATTEST and TPMT_SIGNATURE stay far below (TPM 2.0 part 2 §10)."""


class TokenEncoding(enum.Enum):
    """The signed form a node asks for; only that one is made."""

    CWT = "cwt"
    JWT = "jwt"
    UNSAFE_BEARER = "unsafe-bearer"
    """A JWT for a relying party that asks for no proof of possession; policy must allow it."""


@dataclass(frozen=True, slots=True)
class PlainKey:
    """A confirmation key that lives in a process.

    Attributes:
        cose_key: Deterministic CBOR of its public COSE_Key (RFC 9052 §7).
    """

    cose_key: bytes

    def wire(self) -> dict[str, bytes]:
        """Return the wire form."""
        return {"key": self.cose_key}


@dataclass(frozen=True, slots=True)
class CertifiedKey:
    """A confirmation key that lives in the TPM, certified by the AK (TPM2_Certify).

    Attributes:
        public: TPMT_PUBLIC of the key.
        attest: TPMS_ATTEST of type certify over it.
        signature: TPMT_SIGNATURE of the AK over ``attest``.
    """

    public: bytes
    attest: bytes
    signature: bytes

    def wire(self) -> dict[str, bytes]:
        """Return the wire form."""
        return {"public": self.public, "attest": self.attest, "signature": self.signature}


ConfirmationRequest = PlainKey | CertifiedKey | ExpiringKey
"""A confirmation key as evidence presents it."""


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """One lease that the evidence asks for.

    Attributes:
        scope: Scope names, at least one, without repetition.
        audience: The relying party it is for.
        confirmation: The key its holder proves possession of.
        encoding: How its token is to be signed.
        level: Level 0 to 3 at which the agent says that it will enforce the end of the lease, or
            None where it says nothing. Its own word, which the token repeats as such.
        optional: Where policy denies it, it is left out, and the others are granted all the same.
    """

    scope: tuple[str, ...]
    audience: str
    confirmation: ConfirmationRequest
    encoding: TokenEncoding = TokenEncoding.CWT
    level: int | None = None
    optional: bool = False
    _encoded: tuple[bytes, bytes] | None = field(
        init=False, default=None, repr=False, compare=False
    )

    def encoded(self) -> tuple[bytes, bytes]:
        """Return the deterministic CBOR of what it is for and of whom it is for, made once."""
        encoded = self._encoded
        if encoded is None:
            purpose = encode_purpose(
                self.scope, self.audience, self.encoding, self.level, optional=self.optional
            )
            encoded = purpose, cbor.encode(self.confirmation.wire())
            object.__setattr__(self, "_encoded", encoded)
        return encoded

    def __hash__(self) -> int:
        # The encoding says everything, and byte strings keep their hash.
        return hash(self.encoded())

    def wire(self) -> dict[str, Any]:
        """Return the wire form."""
        return {
            "scope": list(self.scope),
            "aud": self.audience,
            "cnf": self.confirmation.wire(),
            "enc": self.encoding.value,
            **({} if self.level is None else {"lvl": self.level}),
            **({"opt": True} if self.optional else {}),
        }


def encode_purpose(
    scope: Sequence[str],
    audience: str,
    encoding: TokenEncoding,
    level: int | None,
    *,
    optional: bool,
) -> bytes:
    """Return the deterministic CBOR of what a lease is for: all of its request but the key."""
    wish: list[object] = [list(scope), audience, encoding.value]
    if level is not None:
        wish.append(level)
    if optional:
        wish.append(True)
    return cbor.encode(wish)


def parse_lease_request(value: object) -> LeaseRequest:
    """Read one decoded lease request into unverified values.

    Raises:
        MalformedError: It has not the form of one.
    """
    fields = Fields(value, "lease request")
    encoding = fields.text("enc", at_most=MAX_ENCODING)
    try:
        token_encoding = TokenEncoding(encoding)
    except ValueError as exc:
        raise MalformedError(f"lease request asks for unknown encoding {encoding!r}") from exc
    lease = LeaseRequest(
        scope=_parse_scope(fields.array("scope", at_most=scopes.MAX_NAMES)),
        audience=fields.text("aud", at_most=MAX_AUDIENCE),
        confirmation=_parse_confirmation(fields.map("cnf", at_most=MEMBERS)),
        encoding=token_encoding,
        level=fields.unsigned("lvl", at_most=MAX_LEVEL) if fields.has("lvl") else None,
        optional=_parse_optional(fields),
    )
    fields.end()
    return lease


def _parse_optional(fields: Fields) -> bool:
    if not fields.has("opt"):
        return False
    # One form for each meaning: whether two wishes are the same must not depend on who wrote them.
    if not fields.flag("opt"):
        raise MalformedError("lease request says that it is not optional, which goes without it")
    return True


def _parse_scope(names: tuple[Any, ...]) -> tuple[str, ...]:
    try:
        scopes.check(names)
    except ValueError as exc:
        raise MalformedError(f"lease request: {exc}") from exc
    return names


def _parse_confirmation(value: Mapping[Any, Any]) -> ConfirmationRequest:
    fields = Fields(value, "confirmation key")
    key: ConfirmationRequest
    if fields.has("key"):
        key = PlainKey(fields.octets("key", at_most=MAX_KEY))
    elif fields.has("salt"):
        key = parse_expiring_key(fields)
    else:
        key = CertifiedKey(
            public=fields.octets("public", at_most=MAX_TPM_STRUCTURE),
            attest=fields.octets("attest", at_most=MAX_TPM_STRUCTURE),
            signature=fields.octets("signature", at_most=MAX_TPM_STRUCTURE),
        )
    fields.end()
    return key


def scope_digest(leases: Sequence[LeaseRequest]) -> bytes:
    """Hash what the leases are for: scope, audience and all else but the key, in order."""
    return hashlib.sha256(cbor.array([lease.encoded()[0] for lease in leases])).digest()


def confirmation_digest(leases: Sequence[LeaseRequest]) -> bytes:
    """Hash whom the leases are for: the confirmation key of each, in order."""
    return hashlib.sha256(cbor.array([lease.encoded()[1] for lease in leases])).digest()
