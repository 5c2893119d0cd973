"""The keys that sign security events: RSA, apart from every token key.

Specifications: CAEP Interoperability Profile 1.0 §2 (RS256, keys of at least 2048 bits), RFC 7517
§5 (JWK Set).

A key of this set never verifies an execution token, and no token key verifies an event: an event
signed with a stolen token key would be believed by whoever heeds events alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from joserfc.jwk import Key

from bootlease.token import base64url
from bootlease.token.keys import Algorithm, PublishedKeys
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


class EventKeySet(PublishedKeys[EventKey]):
    """The keys that one verifier's events are believed under; immutable."""

    __slots__ = ()

    AT_MOST = MAX_EVENT_KEYS

    @staticmethod
    def member(public: PublicKey) -> EventKey:
        """Return the key as one of events; see ``PublishedKeys``."""
        return EventKey(public)
