"""What a relying party demands of a token besides that it counts: said once, in its configuration.

Specifications: draft-ietf-rats-ar4si-10 §2.3.2 (tiers); RFC 9942 (receipts in a CWT), C2SP
tlog-proof (receipts beside a JWT). All of it follows from the token alone, so that it is judged
once for each token. What may change while a token lives is in ``checker``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bootlease.errors import VerificationError
from bootlease.ledger import NoteKey, encode_leaf, verify_receipt, verify_tlog_proof
from bootlease.model import Finding
from bootlease.relyingparty.standing import Standing
from bootlease.token import Tier, TokenFormat, VerifiedToken
from bootlease.token.delegation import verify_chain
from bootlease.token.grants import MAX_DEPTH
from bootlease.token.kinds import MAX_LEVEL
from bootlease.token.receipts import receipts_of
from bootlease.token.verify import unwrap

_RANK: Final = {Tier.AFFIRMING: 3, Tier.WARNING: 2, Tier.NONE: 1, Tier.CONTRAINDICATED: 0}
"""Better is more. An appraisal that says nothing is worse than one that says what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What a token must be.

    Attributes:
        max_depth: Grants that may lie between a node's own lease and the token; 0 for none.
        min_tier: The worst appraisal of a node that is enough.
        require_level: The level, 0 to 3, at which the node must say that it enforces.
        require_receipt: The ledger's key: it must have signed that the ledger holds the lease.
    """

    max_depth: int = 0
    min_tier: Tier = Tier.AFFIRMING
    require_level: int | None = None
    require_receipt: NoteKey | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.max_depth <= MAX_DEPTH:
            raise ValueError(f"max_depth is 0 to {MAX_DEPTH}")
        if self.min_tier is Tier.CONTRAINDICATED:
            raise ValueError("no relying party serves a node that is known to be unsound")
        if self.require_level is not None and not 0 <= self.require_level <= MAX_LEVEL:
            raise ValueError(f"require_level is 0 to {MAX_LEVEL}")

    def verify(self, token: bytes | str, standing: Standing, receipt: bytes | None) -> None:
        """Prove that a verified token is all that is demanded, and its chain of grants whole.

        Args:
            token: The token as presented.
            standing: The same, verified.
            receipt: The ledger's proof beside a JWT, unverified.

        Raises:
            MalformedError: What is there is no receipt.
            VerificationError: With every demand that is not met; the chain and the receipt are
                looked at where the others are met.
        """
        # Nothing said is nothing promised, also where level 0 would do.
        level = -1 if standing.level is None else standing.level
        too_deep = standing.depth > self.max_depth
        too_bad = _RANK[standing.tier] < _RANK[self.min_tier]
        too_lax = self.require_level is not None and level < self.require_level
        if too_deep or too_bad or too_lax:
            raise VerificationError(
                *(self._too_deep(standing),) * too_deep,
                *(self._too_bad(standing),) * too_bad,
                *(self._too_lax(standing),) * too_lax,
            )
        if standing.depth:
            verify_chain(standing.token.claims)
        if self.require_receipt is not None:
            _verify_receipt(token, standing.token, receipt, self.require_receipt)

    def _too_deep(self, standing: Standing) -> Finding:
        return Finding(
            "token.depth.exceeded",
            "The lease was delegated more often than is accepted here.",
            expected=f"at most {self.max_depth}",
            seen=str(standing.depth),
        )

    def _too_bad(self, standing: Standing) -> Finding:
        return Finding(
            "token.tier.insufficient",
            "The appraisal of the node is worse than is accepted here.",
            expected=self.min_tier.label,
            seen=standing.tier.label,
        )

    def _too_lax(self, standing: Standing) -> Finding:
        return Finding(
            "token.level.insufficient",
            "The node enforces less than is demanded here.",
            expected=f"at least {self.require_level}",
            seen="none" if standing.level is None else str(standing.level),
        )


def _verify_receipt(
    token: bytes | str, verified: VerifiedToken, receipt: bytes | None, key: NoteKey
) -> None:
    leaf = encode_leaf(verified.claims.decision, verified.digest)
    form = unwrap(token)
    if verified.format is TokenFormat.CWT and isinstance(form, bytes):
        carried = receipts_of(form)
        if len(carried) == 1:
            verify_receipt(carried[0], leaf, key)
            return
    elif receipt is not None:
        verify_tlog_proof(receipt, leaf, key)
        return
    raise VerificationError(
        Finding("token.receipt.missing", "Nothing proves that the ledger holds the lease.")
    )
