"""Signed JSON objects that are no execution tokens, each kind under its own ``typ``.

Specifications: RFC 7515, RFC 8725 §3.11 (explicit typing). One kind is never taken for another:
whoever checks an object says which kind it must be. The JWS form is in ``jws``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from joserfc.jwk import Key

from bootlease.errors import MalformedError, VerificationError
from bootlease.model import Finding
from bootlease.token import strictjson
from bootlease.token.jws import (
    encode_header,
    header_text,
    parse_header,
    sign_compact,
    verify_compact,
)
from bootlease.token.keys import Algorithm, Signer


class SigningKey(Protocol):
    """A key that may have signed an object, with the one algorithm it does so with."""

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm."""

    @property
    def jose_key(self) -> Key:
        """The public key, as joserfc takes it."""


class SigningKeys(Protocol):
    """The keys of one kind of object."""

    def get(self, key_id: str) -> SigningKey | None:
        """Return the key with this id."""


@dataclass(frozen=True, slots=True)
class SignedKind:
    """A kind of signed object.

    Attributes:
        typ: Its ``typ``.
        max_bytes: Length of the longest one.
        other: What to say of an object of another kind.
        unknown_key: What to say of a key that is not trusted.
        wrong_algorithm: What to say of an algorithm that is not the key's.
        invalid: What to say of a signature that is not the key's.
    """

    typ: str
    max_bytes: int
    other: Finding
    unknown_key: Finding
    wrong_algorithm: Finding
    invalid: Finding


def sign_object(kind: SignedKind, members: Mapping[str, Any], signer: Signer) -> str:
    """Return ``members`` as a compact JWS of this kind."""
    header = encode_header({"alg": signer.algorithm.value, "kid": signer.key_id, "typ": kind.typ})
    return sign_compact(header, strictjson.serialise(members), signer)


def verify_object(kind: SignedKind, text: str, keys: SigningKeys) -> tuple[str, dict[str, Any]]:
    """Prove that a key of ``keys`` signed this object, and that it is of this kind.

    Proves nothing about time, nor about what its members say.

    Args:
        kind: What it must be.
        text: Unverified text.
        keys: The keys of the one issuer the caller trusts.

    Returns:
        The id of the key, and the object's members.

    Raises:
        MalformedError: Not a compact JWS of a JSON object.
        VerificationError: Wrong kind, key, algorithm or signature.
    """
    header = parse_header(header_text(text, max_bytes=kind.max_bytes))
    if header["typ"] != kind.typ:
        raise VerificationError(kind.other)
    key_id = header.get("kid")
    if type(key_id) is not str:
        raise MalformedError("JWS header lacks kid")
    key = keys.get(key_id)
    if key is None:
        raise VerificationError(kind.unknown_key)
    if header["alg"] not in key.algorithm.jose_names:
        raise VerificationError(kind.wrong_algorithm)
    payload = verify_compact(text, key.jose_key, key.algorithm, invalid=kind.invalid)
    return key_id, strictjson.parse_object(payload)
