"""The keys that tokens are signed with, one after the other.

One signs. Those before it count until every token that they signed has run out, unless one is
revoked; then they are history, which audits need and nobody else does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bootlease.policy.values import MAX_LIFE
from bootlease.token import KeySet, PublicKey, Signer, VerificationKey
from bootlease.token.keys import Algorithm
from bootlease.verifier.continuity.live import KEPT

OVERLAP: Final = MAX_LIFE + KEPT
"""Seconds for which a key counts that was replaced: no token lives longer."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """A rotation.

    Attributes:
        at: Seconds since the epoch.
        previous: The key that was replaced.
        statement: What it signed of the new one (``token.keyrotation``).
    """

    at: int
    previous: VerificationKey
    statement: str


class TokenKeys:
    """Signs tokens by the newest key; a ``Signer`` that can change its key.

    Args:
        signer: The newest key.
        rotations: What came before it, the oldest first.

    Attributes:
        public: As of every ``Signer``.
        algorithm: Likewise.
        key_id: Likewise.
        sign: Likewise.
        newest: What signs now, and never changes its key: for many signatures by one key.
        rotations: What came before.
        revoked: Returns the ids of keys that were withdrawn.
    """

    def __init__(self, signer: Signer, rotations: Sequence[Rotated] = ()) -> None:
        self.rotations = tuple(rotations)
        self.revoked: Callable[[], frozenset[str]] = frozenset
        self._published: dict[tuple[str, ...], KeySet] = {}
        self._take(signer)

    def _take(self, signer: Signer) -> None:
        # Attributes, not properties: every token that is signed looks at them.
        self.newest = signer
        self.public: PublicKey = signer.public
        self.algorithm: Algorithm = signer.algorithm
        self.key_id: str = signer.key_id
        self.sign: Callable[[bytes], bytes] = signer.sign
        self._counts = VerificationKey(signer.public)

    def replace(self, signer: Signer, rotated: Rotated) -> None:
        """Sign with another key from now on."""
        self.rotations = (*self.rotations, rotated)
        self._take(signer)

    def counting(self, now: int) -> KeySet:
        """Return the keys whose tokens count, the newest first."""
        revoked = self.revoked()
        before = [
            each.previous
            for each in reversed(self.rotations)
            if now < each.at + OVERLAP and each.previous.key_id not in revoked
        ]
        return self._set([self._counts, *before])

    def all(self) -> KeySet:
        """Return every key that ever signed, the newest first."""
        return self._set([self._counts, *(each.previous for each in reversed(self.rotations))])

    def _set(self, keys: list[VerificationKey]) -> KeySet:
        # One set for the same keys: what was learned of a token's header is kept by the set.
        ids = tuple(key.key_id for key in keys)
        known = self._published.get(ids)
        if known is None:
            known = self._published[ids] = KeySet(tuple(keys))
        return known
