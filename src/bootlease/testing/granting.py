"""An agent's core that grants what is wished for when a test says so: no TPM, no verifier.

What it grants are real tokens of a ``FakeIssuer``, with the keys that an agent would make, so that
what is handed to workloads can be checked as a relying party does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from bootlease.model import Finding
from bootlease.node.confirm import Confirmation, ConfirmationKey, ProcessKey
from bootlease.node.lease import EndReason, HeldLease, Holding, LeaseOutput
from bootlease.node.wishbook import Wished, Wishes, WishId
from bootlease.ports import Clock
from bootlease.testing.tokens import FakeIssuer, execution_claims
from bootlease.token import LineageClaim, TokenFormat, VerifiedToken, verify_token


class GrantingAgent:
    """Grants what its book holds.

    Args:
        clock: Both clocks.

    Attributes:
        wishes: The book.
        issuer: Signs the tokens.
        output: Where leases are handed to.
        special: Keys to grant to instead of new ones, by their kind.
    """

    def __init__(self, clock: Clock) -> None:
        self.wishes = Wishes()
        self.issuer = FakeIssuer()
        self.output: LeaseOutput | None = None
        self.special: Mapping[Confirmation, ConfirmationKey] = {}
        self._clock = clock
        self._keys: dict[WishId, ConfirmationKey] = {}
        self._sequence = -1

    def grant(
        self, life: float = 60.0, denied: Mapping[WishId, tuple[Finding, ...]] | None = None
    ) -> HeldLease:
        """Grant or renew every wish for ``life`` seconds, but for those denied."""
        self._sequence += 1
        left_out = denied or {}
        holdings = tuple(
            self._holding(wished, life)
            for wished in self.wishes.snapshot()
            if wished.id not in left_out
        )
        lease = HeldLease(
            holdings,
            expires_at=self._clock.now() + int(life),
            deadline=self._clock.boottime() + life,
            life=life,
            denied=left_out,
        )
        if self.output is not None:
            self.output.granted(lease)
        return lease

    def end(self, reason: EndReason, *findings: Finding) -> None:
        """End what was granted."""
        if self.output is not None:
            self.output.ended(reason, findings)

    def _holding(self, wished: Wished, life: float) -> Holding:
        key, now = self._key(wished), self._clock.now()
        wish, form = wished.wish, TokenFormat(wished.wish.encoding.value)
        claims = execution_claims(
            scope=wish.scope,
            audience=wish.audience,
            confirmation=key.public,
            issued_at=now,
            not_before=now,
            expires_at=now + int(life),
            lease_id=os.urandom(16),
            level=wish.level,
            lineage=LineageClaim(bytes(32), self._sequence, bytes(32) if self._sequence else None),
        )
        signed = self.issuer.token(claims, form)
        encoded = signed if isinstance(signed, bytes) else signed.encode()
        return Holding(wished.id, wish, self._verified(signed, claims.audience), encoded, key)

    def _verified(self, token: bytes | str, audience: str) -> VerifiedToken:
        return verify_token(
            token,
            self.issuer.keys,
            issuer=execution_claims().issuer,
            audience=audience,
            now=self._clock.now(),
        )

    def _key(self, wished: Wished) -> ConfirmationKey:
        if not isinstance(wished.key, Confirmation):
            return wished.key
        if wished.key in self.special:
            return self.special[wished.key]
        return self._keys.setdefault(wished.id, ProcessKey())
