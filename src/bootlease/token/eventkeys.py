"""The keys that sign security events: RSA, apart from every token key.

Specifications: CAEP Interoperability Profile 1.0 §2 (RS256, keys of at least 2048 bits), RFC 7517
§5 (JWK Set).

A key of this set never verifies an execution token, and no token key verifies an event: an event
signed with a stolen token key would be believed by whoever heeds events alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from joserfc.jwk import Key

from bootlease.errors import MalformedError
from bootlease.token import base64url, strictjson
from bootlease.token.keys import MAX_KEY_SET_BYTES, Algorithm
from bootlease.token.publickey import KeyKind, PublicKey

MAX_EVENT_KEYS: Final = 16


@dataclass(frozen=True, slots=True)
class EventKey:
    """A key that may verify security events.

    Attributes:
        public: The key.
        algorithm: The one algorithm it verifies.
        key_id: Its RFC 7638 thumbprint as base64url text.
        jose_key: The key as joserfc takes it.
    """

    public: PublicKey
    algorithm: Algorithm = field(init=False, default=Algorithm.RS256)
    key_id: str = field(init=False)
    jose_key: Key = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # ``PublicKey`` knows no RSA key of less than 2048 bits.
        if self.public.kind is not KeyKind.RSA:
            raise ValueError("security events are signed with RSA keys")
        object.__setattr__(self, "key_id", base64url.encode(self.public.thumbprint()))
        object.__setattr__(self, "jose_key", self.public.load_jose())


class EventKeySet:
    """The keys that one verifier's events are believed under; immutable."""

    __slots__ = ("_by_id", "keys")

    def __init__(self, keys: tuple[EventKey, ...]) -> None:
        """Hold ``keys``.

        Raises:
            ValueError: There is no key, there are too many, or one is repeated.
        """
        self.keys: Final = keys
        self._by_id: Final = {key.key_id: key for key in keys}
        if not 0 < len(keys) <= MAX_EVENT_KEYS:
            raise ValueError(f"a set of event keys has 1 to {MAX_EVENT_KEYS} keys")
        if len(self._by_id) != len(keys):
            raise ValueError("a set of event keys holds a key twice")

    def get(self, key_id: str) -> EventKey | None:
        """Return the key with this id."""
        return self._by_id.get(key_id)

    def to_jwks(self) -> dict[str, Any]:
        """Return the JWK Set to publish."""
        return {
            "keys": [
                {**key.public.jwk(), "kid": key.key_id, "alg": key.algorithm.value, "use": "sig"}
                for key in self.keys
            ]
        }

    @classmethod
    def from_jwks(cls, data: bytes) -> EventKeySet:
        """Parse an unverified JWK Set; the caller vouches for where it came from.

        Raises:
            MalformedError: Not a set in which every key may verify events.
        """
        if len(data) > MAX_KEY_SET_BYTES:
            raise MalformedError(f"key set is longer than {MAX_KEY_SET_BYTES} bytes")
        members = strictjson.parse_object(data).get("keys")
        if type(members) is not list or len(members) > MAX_EVENT_KEYS:
            raise MalformedError("JWK Set has no keys, or too many")
        try:
            return cls(tuple(map(_from_jwk, members)))
        except ValueError as exc:
            raise MalformedError(str(exc)) from exc


def _from_jwk(jwk: object) -> EventKey:
    key = EventKey(PublicKey.from_jwk(jwk))
    if not isinstance(jwk, dict) or jwk.get("kid") != key.key_id:
        raise MalformedError("a key id is not the key's RFC 7638 thumbprint")
    if jwk.get("alg", key.algorithm.value) != key.algorithm.value:
        raise MalformedError("a key's alg does not fit the key")
    if jwk.get("use", "sig") != "sig" or jwk.get("key_ops", ["verify"]) != ["verify"]:
        raise MalformedError("a key is not meant for signatures")
    return key
