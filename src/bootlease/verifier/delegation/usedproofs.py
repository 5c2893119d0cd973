"""Which proofs of possession were used at this verifier, in bounded memory (RFC 9449 §11.1).

Only a proof that verified is remembered, made with the key that a holder granted to: strangers
cannot fill this memory. Full means busy, never forgetful: forgetting the oldest under load would
let a proof be flushed out and used again.
"""

from __future__ import annotations

from collections import deque

from bootlease.errors import VerificationError
from bootlease.model import Finding, sha256
from bootlease.token import VerifiedProof
from bootlease.verifier.problems import ProblemError, ProblemKind


class UsedProofs:
    """Takes each proof once, for as long as it may pass.

    Args:
        keep: Seconds.
        at_most: How many are remembered.
    """

    __slots__ = ("_at_most", "_keep", "_order", "_seen")

    def __init__(self, *, keep: int, at_most: int) -> None:
        self._keep = keep
        self._at_most = at_most
        self._seen: set[bytes] = set()
        self._order: deque[tuple[int, bytes]] = deque()

    def take(self, proof: VerifiedProof, *, now: int) -> None:
        """Use a proof, for the first and only time.

        Args:
            proof: Verified.
            now: Seconds since the epoch, by the clock that judged its age.

        Raises:
            VerificationError: It was used before.
            ProblemError: There is no room to remember it.
        """
        while self._order and self._order[0][0] <= now:
            self._seen.discard(self._order.popleft()[1])
        name = proof.thumbprint + sha256(proof.jti.encode())
        if name in self._seen:
            raise VerificationError(
                Finding("pop.replayed", "The proof of possession was used before.")
            )
        if len(self._seen) >= self._at_most:
            raise ProblemError(
                ProblemKind.BUSY,
                "Too many proofs are remembered to tell whether this one is new.",
                retry_after=self._keep,
            )
        self._seen.add(name)
        self._order.append((now + self._keep, name))
