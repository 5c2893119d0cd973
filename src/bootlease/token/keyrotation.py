"""Key rotations: the old token key names the new one, so that who trusts the old may follow.

A compact JWS of type ``bootlease-key-rotation+jwt``, signed by the key that is replaced, with these
members and no others: ``iss``, ``iat`` and ``jwk``, the new key. Whoever trusts one key of a chain
gets to the newest by the rotations since.

What this cannot do: a key that was stolen can name a thief's key. Whoever may have stolen one is
kept out by a new join bundle, not by a rotation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bootlease.errors import MalformedError, VerificationError
from bootlease.model import Finding
from bootlease.token import strictjson
from bootlease.token.keys import MAX_KEYS, KeySet, Signer, VerificationKey
from bootlease.token.publickey import PublicKey
from bootlease.token.signedjson import SignedKind, sign_object, verify_object

KEY_ROTATION_TYP: Final = "bootlease-key-rotation+jwt"
MAX_ROTATION: Final = 4096
MAX_ROTATIONS: Final = MAX_KEYS - 1
"""Of one verifier; beyond that its nodes need a new join bundle."""
_MEMBERS: Final = frozenset({"iss", "iat", "jwk"})
_KIND: Final = SignedKind(
    KEY_ROTATION_TYP,
    MAX_ROTATION,
    Finding(
        "rotation.typ.mismatch",
        "The signed object is not a key rotation.",
        expected=KEY_ROTATION_TYP,
    ),
    Finding(
        "rotation.key.unknown", "The key rotation is signed by a key that is not trusted here."
    ),
    Finding(
        "rotation.algorithm.mismatch",
        "The key rotation names an algorithm that does not belong to its key.",
    ),
    Finding("rotation.signature.invalid", "The key rotation's signature does not verify."),
)


def sign_rotation(issuer: str, new: PublicKey, *, now: int, signer: Signer) -> str:
    """Sign that ``new`` takes the signer's place.

    Args:
        issuer: The verifier's URL.
        new: The key that signs tokens from now on.
        now: Seconds since the epoch.
        signer: The key that is replaced.
    """
    return sign_object(_KIND, {"iss": issuer, "iat": now, "jwk": new.jwk()}, signer)


def verify_rotation(text: str, keys: KeySet, *, issuer: str) -> VerificationKey:
    """Prove that a key of ``keys`` named another, and return that.

    Raises:
        MalformedError: Not a rotation.
        VerificationError: By no trusted key, or another verifier's.
    """
    _, members = verify_object(_KIND, text, keys)
    if members.keys() != _MEMBERS or type(members["iat"]) is not int:
        raise MalformedError("key rotation: other members than it must have")
    if members["iss"] != issuer:
        raise VerificationError(
            Finding(
                "rotation.issuer.mismatch",
                "The key rotation is another verifier's.",
                expected=issuer,
                seen=str(members["iss"])[:256],
            )
        )
    try:
        return VerificationKey(PublicKey.from_jwk(members["jwk"]))
    except ValueError as exc:
        raise MalformedError(f"key rotation: {exc}") from exc


def parse_rotations(data: bytes) -> tuple[str, ...]:
    """Read a verifier's list of rotations, ``{"rotations": [JWS, ...]}``, each unverified.

    Raises:
        MalformedError: It is none.
    """
    if len(data) > MAX_ROTATIONS * (MAX_ROTATION + 8):
        raise MalformedError("key rotations: too long")
    listed = strictjson.parse_object(data).get("rotations")
    if type(listed) is not list or len(listed) > MAX_ROTATIONS:
        raise MalformedError("key rotations: no list of them, or too many")
    if any(type(each) is not str for each in listed):
        raise MalformedError("key rotations: one is no text")
    return tuple(listed)


def follow_rotations(keys: KeySet, rotations: Iterable[str], *, issuer: str) -> KeySet:
    """Return ``keys`` with every key that one of them leads to.

    What is signed by other keys is passed over: a verifier publishes all its rotations, of which
    those before the first trusted key prove nothing here.

    Args:
        keys: Trusted.
        rotations: Unverified, the oldest first.
        issuer: The verifier's URL, exact.

    Raises:
        MalformedError: One is no rotation, or there are too many keys.
        VerificationError: One is signed by a trusted key and still does not count.
    """
    for text in rotations:
        try:
            new = verify_rotation(text, keys, issuer=issuer)
        except VerificationError as exc:
            if exc.findings == (_KIND.unknown_key,):
                continue
            raise
        if keys.get(new.key_id) is None:
            if len(keys.keys) == MAX_KEYS:
                raise MalformedError(f"more than {MAX_KEYS} keys by rotation")
            keys = KeySet((*keys.keys, new))
    return keys
