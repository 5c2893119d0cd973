"""What the last grant to each node left behind, so that the renewal that follows it reads nothing.

One process writes a verifier's store, so what it has just committed is what it would read. It is
never relied on: the transaction that records the next decision compares challenge, enrolment,
lineage and high-water mark with the store again, and where one of them moved, the decision is made
again from what the store says. What is remembered is taken out by the first request that names
its challenge: a second one hears from the store what became of the first.

Only what the node's own answer told it opens anything here, so strangers can neither fill this
memory nor empty it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final

from bootlease.evidence import Challenge
from bootlease.ports import DecisionCommit, EnrolledNode, StoredLineage

REMEMBERED: Final = 16_384
"""Nodes, as many as have their key and their record at hand; some 2 kB each."""


@dataclass(frozen=True, slots=True)
class Left:
    """Where a node stands after a grant.

    Attributes:
        node: Its record, high-water mark included.
        lineage: Where its lineage stands.
        challenge: The challenge that rode in the answer; None where it is not known yet.
    """

    node: EnrolledNode
    lineage: StoredLineage
    challenge: Challenge | None


class Recent:
    """Remembers where nodes stand.

    Args:
        at_most: How many nodes; the one that was granted longest ago is forgotten first.
    """

    __slots__ = ("_at_most", "_left")

    def __init__(self, at_most: int = REMEMBERED) -> None:
        self._at_most = at_most
        self._left: OrderedDict[bytes, Left] = OrderedDict()

    def keep(self, node: EnrolledNode, commit: DecisionCommit) -> None:
        """Remember what a decision left behind that was committed just now.

        Args:
            node: The record that it was appraised against.
            commit: The decision.
        """
        self._left.pop(commit.node, None)
        if commit.next_challenge is None:
            return
        mark = max(commit.high_water, commit.counters)
        self._left[commit.node] = Left(
            node=replace(node, high_water=mark),
            lineage=StoredLineage(commit.lineage_version + 1, commit.lineage, commit.digest),
            challenge=commit.next_challenge,
        )
        if len(self._left) > self._at_most:
            self._left.popitem(last=False)

    def take(self, node: bytes, nonce: bytes | None) -> Left | None:
        """Return what is remembered of a node, once, to whoever names its challenge."""
        left = self._left.get(node)
        if left is None or left.challenge is None or left.challenge.nonce != nonce:
            return None
        del self._left[node]
        return left
