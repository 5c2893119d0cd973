"""What checking a token's signature gives, and what went wrong otherwise."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from bootlease import cbor
from bootlease.errors import VerificationError
from bootlease.frozen import quick_init
from bootlease.model import Finding
from bootlease.token import strictjson
from bootlease.token.claims import ExecutionClaims
from bootlease.token.ear import EAR_PROFILE
from bootlease.token.kinds import TokenFormat

MAX_TOKEN_BYTES: Final = 16 * 1024
"""A token is about 1 kB and its receipt not more; what is longer is not looked at."""

CWT_TYP: Final = f'application/eat+cwt; eat_profile="{EAR_PROFILE}"'
JWT_TYP: Final = "eat+jwt"
"""Media types of the two forms (RFC 9782); the EAR draft prints ``eat-cwt`` by mistake."""

POSSESSION: Final = "bootlease_pop"
"""The critical header parameter of a JWT (RFC 7515 §4.1.11): who does not know it, and so would
take the token from whoever has it, must refuse the token."""

BY_DPOP: Final = "dpop"
"""Its one value: possession is proven as RFC 9449 says."""


@quick_init
@dataclass(frozen=True, slots=True)
class AuthenticToken:
    """A token whose signature verified; whether it counts here and now is not yet judged.

    Attributes:
        format: How it was encoded.
        key_id: The key that signed it.
        payload: The bytes of its claims set.
        members: The claims set as decoded, of the shape that ``shape`` or ``claims`` has checked;
            empty once ``forget_members`` was called.
    """

    format: TokenFormat
    key_id: str
    payload: bytes
    members: dict[Any, Any] = field(repr=False, compare=False)
    _claims: ExecutionClaims | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def claims(self) -> ExecutionClaims:
        """What the token says; built when first asked for.

        Raises:
            MalformedError: The issuer signed a value that the claims model does not allow.
        """
        claims = self._claims
        if claims is None:
            claims = _read(self.format, self.payload, self.members)
            object.__setattr__(self, "_claims", claims)
        return claims

    def forget_members(self) -> None:
        """Keep the payload alone, a fifth of the memory; ``claims`` decodes it where it must."""
        object.__setattr__(self, "members", _FORGOTTEN)

    @property
    def digest(self) -> bytes:
        """The claims' digest, equal for both encodings of one lease."""
        # A CWT's payload is the hashed form itself, with claims that a newer issuer may add.
        if self.format is TokenFormat.CWT:
            return hashlib.sha256(self.payload).digest()
        return self.claims.digest


@quick_init
@dataclass(frozen=True, slots=True)
class VerifiedToken(AuthenticToken):
    """A token that counts: signature, profile, issuer, audience and time have been checked."""


Token = TypeVar("Token", bound=AuthenticToken)
"""The kind of token that is being made."""


_FORGOTTEN: Final[dict[Any, Any]] = {}


def _read(token_format: TokenFormat, payload: bytes, members: dict[Any, Any]) -> ExecutionClaims:
    if token_format is not TokenFormat.CWT:
        return ExecutionClaims.from_jwt(members or strictjson.parse_object(payload))
    if members:
        claims = ExecutionClaims.from_cwt(members)
        if claims.encoded() == payload:
            return claims
    # Claims of a newer issuer, which are ignored, or a form that is refused.
    return ExecutionClaims.from_cwt(cbor.decode(payload, max_bytes=MAX_TOKEN_BYTES))


def refused(
    id_: str, message: str, *, expected: str | None = None, seen: str | None = None
) -> VerificationError:
    """Return the error with one finding."""
    return VerificationError(Finding(id_, message, expected=expected, seen=seen))


def unknown_key(key_id: str) -> VerificationError:
    """Return the error for a key that the key set does not hold."""
    return refused(
        "token.key.unknown", "The token is signed by a key that is not trusted here.", seen=key_id
    )


def wrong_typ(expected: str, seen: str) -> VerificationError:
    """Return the error for an object of another kind than an execution token."""
    return refused(
        "token.typ.mismatch",
        "The signed object is not an execution token.",
        expected=expected,
        seen=seen[:128],
    )


def wrong_algorithm(expected: str, seen: str) -> VerificationError:
    """Return the error for a header whose algorithm is not its key's."""
    return refused(
        "token.algorithm.mismatch",
        "The token names an algorithm that does not belong to its key.",
        expected=expected,
        seen=seen[:128],
    )


def unknown_profile(seen: object) -> VerificationError:
    """Return the error for claims in a profile whose meaning is not known here."""
    return refused(
        "token.profile.unknown",
        "The token's profile is not one that is understood here.",
        expected=EAR_PROFILE,
        seen=repr(seen)[:128],
    )
