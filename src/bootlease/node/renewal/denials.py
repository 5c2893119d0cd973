"""A refusal that speaks of the leases asked for alone, not of this node.

A verifier leaves out the optional leases that its policy denies, and grants the others. Where
nothing is left to grant it has to refuse: then each wish was denied, and the node was not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from bootlease.errors import VerificationError
from bootlease.model import Finding, refusals
from bootlease.node.wishbook import Wished, WishId

DENIALS: Final = frozenset(
    {
        "policy.audience.denied",
        "policy.scope.denied",
        "policy.scope.undecided",
        "policy.unsafe-bearer.denied",
        "policy.leases.too-many",
        "policy.findings.more",
        "lease.level.unproven",
        "expiring-key.authority.mismatch",
    }
)
"""What is said of one lease."""

Denied = Mapping[WishId, tuple[Finding, ...]]


class DeniedError(VerificationError):
    """Every wish was denied.

    Attributes:
        denied: Why, for each.
    """

    def __init__(self, refused: VerificationError, denied: Denied) -> None:
        super().__init__(*refused.findings)
        for note in getattr(refused, "__notes__", ()):
            self.add_note(note)
        self.denied = denied


def all_denied(wished: Sequence[Wished], refused: VerificationError) -> Denied | None:
    """Return why each wish was denied; None where the refusal is of the node.

    Args:
        wished: What was asked for.
        refused: The answer.
    """
    found = refusals(refused.findings)
    if not found or not {finding.id for finding in found} <= DENIALS:
        return None
    if not all(each.wish.optional for each in wished):
        return None
    return {each.id: _about(each, found) for each in wished}


def _about(wished: Wished, found: tuple[Finding, ...]) -> tuple[Finding, ...]:
    # A refusal does not say which lease a finding is of, but what was seen in it.
    named = {*wished.wish.scope, wished.wish.audience}
    return tuple(finding for finding in found if finding.seen in named) or found
