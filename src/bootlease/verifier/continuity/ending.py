"""Leases that end before they expire: one door, so that nobody forgets to say so.

Whatever ends leases does it here: their bits go into the status list, the next continuity statement
is due at once, and whoever listens (``Service.notify``) hears of it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bootlease.model import Finding, refusals
from bootlease.ports import DecisionCommit
from bootlease.verifier.continuity.live import LiveLeases


class EndKind(enum.Enum):
    """Why leases ended."""

    REFUSED = "refused"
    """Live evidence of their node was refused."""
    SUPERSEDED = "superseded"
    """Their node began another lineage."""
    ENROLLED_AGAIN = "enrolled-again"
    """Their node enrolled once more, or was readmitted."""
    REVOKED = "revoked"
    """An operator revoked them, or what they rest on."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Leases of one node that have ended.

    Attributes:
        kind: Why.
        node: Whose they were.
        lease_ids: Which; may be empty where a node is revoked that had none left.
        reason: Ids of the findings of a refusal, or an operator's words.
        at: Seconds since the epoch.
    """

    kind: EndKind
    node: bytes
    lease_ids: tuple[bytes, ...]
    reason: str
    at: int


class Ending:
    """Ends leases and tells everybody.

    Args:
        live: Knows which leases live.

    Attributes:
        live: The same.
        changed: Called when a bit was set.
        hooks: Called with every end; what they raise is a defect of theirs.
    """

    def __init__(self, live: LiveLeases) -> None:
        self.live = live
        self.changed: list[Callable[[], None]] = []
        self.hooks: list[Callable[[Ended], None]] = []

    def decided(self, commit: DecisionCommit, findings: Sequence[Finding]) -> None:
        """Draw the consequences of a decision that was just committed (attack G9).

        A refusal ends all that its node holds; a new lineage ends every other one. A renewal ends
        nothing: the leases before it run out by themselves.
        """
        if commit.lineage is None:
            reason = " ".join(dict.fromkeys(each.id for each in refusals(tuple(findings))))
            ended = self.live.end_node(commit.node)
            self.tell(Ended(EndKind.REFUSED, commit.node, ended, reason, commit.now))
        elif commit.lineage.sequence == 0:
            ended = self.live.end_node(commit.node, but=commit.root)
            if ended:
                began = f"lineage {commit.root.hex()} began"
                self.tell(Ended(EndKind.SUPERSEDED, commit.node, ended, began, commit.now))

    def node_ended(self, kind: EndKind, node: bytes, reason: str, now: int) -> None:
        """End all that a node holds."""
        ended = self.live.end_node(node)
        if ended or kind is EndKind.REVOKED:
            self.tell(Ended(kind, node, ended, reason, now))

    def tell(self, ended: Ended) -> None:
        """Publish what has ended."""
        if ended.lease_ids:
            for changed in self.changed:
                changed()
        for hook in self.hooks:
            hook(ended)
