"""Another token key takes the place of the one that signs, and both count for a while.

Order: the new key is durable, then the ledger has the rotation, then the folder names it, then it
signs. Relying parties find both keys in the key sets; nodes follow the rotation, which the old key
signed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from bootlease.ledger.governance import KEY_ROTATED
from bootlease.ports import Clock, Store
from bootlease.token import Signer, VerificationKey, base64url
from bootlease.token.keyrotation import MAX_ROTATIONS, sign_rotation
from bootlease.verifier.loglines import log_event
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.tokenkeys import Rotated, TokenKeys


class KeyMaker(Protocol):
    """Where token keys are made and kept."""

    def make(self) -> Signer:
        """Make the next key, durable before this returns; it signs nothing yet."""

    def settle(self, rotations: Sequence[Rotated]) -> None:
        """Let the next key take its place, durable before this returns."""


class Rotating:
    """Rotates the token key.

    Args:
        store: Where the ledger is.
        keys: The token keys.
        issuer: The verifier's URL.
        clock: Tells the time.
        maker: Makes keys, or None where this process cannot.
    """

    def __init__(
        self, store: Store, keys: TokenKeys, issuer: str, clock: Clock, maker: KeyMaker | None
    ) -> None:
        self._store = store
        self._keys = keys
        self._issuer = issuer
        self._clock = clock
        self._maker = maker
        self._one = asyncio.Lock()

    async def rotate(self, *, author: str) -> VerificationKey:
        """Sign with a new key from now on, and return it.

        Raises:
            ProblemError: This verifier cannot make keys, or has rotated as often as it may.
        """
        maker = self._maker
        if maker is None:
            raise ProblemError(ProblemKind.CONFLICT, "This verifier's keys are made elsewhere.")
        async with self._one:
            if len(self._keys.rotations) >= MAX_ROTATIONS:
                raise ProblemError(
                    ProblemKind.CONFLICT, "The key was rotated as often as nodes can follow."
                )
            now = self._clock.now()
            new = await asyncio.to_thread(maker.make)
            statement = sign_rotation(self._issuer, new.public, now=now, signer=self._keys)
            rotated = Rotated(now, VerificationKey(self._keys.public), statement)
            await self._store.record_event(
                KEY_ROTATED,
                {
                    "key": base64url.decode(new.key_id),
                    "previous": base64url.decode(rotated.previous.key_id),
                },
                now=now,
                author=author,
            )
            await asyncio.to_thread(maker.settle, (*self._keys.rotations, rotated))
            self._keys.replace(new, rotated)
        log_event("key-rotated", key=new.key_id, previous=rotated.previous.key_id)
        return VerificationKey(new.public)
