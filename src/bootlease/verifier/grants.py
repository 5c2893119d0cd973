"""How often a node is granted leases: so often within the life of one, and then it has to wait.

Every grant is a record that is kept. A node renews some three times in the life of a lease; without
a bound, one that is admitted could let the ledger grow as fast as the disk writes.

Grants are what is counted, and only evidence that the node's own AK signed leads to one. So nobody
else can use up what a node may have, and it can be told to wait before anything is parsed for it.
"""

from __future__ import annotations

from bootlease.ports import Committed, DecisionCommit, Store
from bootlease.verifier.limits import Limits, Rate
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.rates import RateCounter
from bootlease.verifier.registry import Registry


class Grants:
    """Counts the grants to each node.

    Args:
        store: Where decisions are committed.
        registry: The operator's decisions: how long a lease lives.
        limits: Bounds.
    """

    def __init__(self, store: Store, registry: Registry, limits: Limits) -> None:
        self._store = store
        self._registry = registry
        self._at_most = limits.grants_per_life
        self._counter = RateCounter(Rate(self._at_most, 1), limits.tracked_clients, shared=False)

    def demand(self, node: bytes, now: int) -> None:
        """Demand that a node may have one more grant.

        Args:
            node: The node.
            now: Seconds since the epoch.

        Raises:
            ProblemError: It has had as many as it may.
        """
        life = self._registry.now.policy.policy.lease.life
        self._counter.rate = Rate(self._at_most, life)
        if wait := self._counter.wait((node.hex(),), now):
            raise _enough(wait)

    async def commit(self, commit: DecisionCommit) -> Committed:
        """Commit a decision; a grant is counted before, and given back where it was none.

        Raises:
            ProblemError: It is a grant, and others of this node were faster.
        """
        if not commit.granted:
            return await self._store.commit_decision(commit)
        self.demand(commit.node, commit.now)
        key = (commit.node.hex(),)
        self._counter.count(key, commit.now)
        stored = False
        try:
            committed = await self._store.commit_decision(commit)
            stored = committed.answer is not None
        finally:
            if not stored:
                self._counter.give_back(key)
        return committed


def _enough(wait: int) -> ProblemError:
    return ProblemError(
        ProblemKind.BUSY_CLIENT,
        "The node was granted as many leases as it may have in the life of one.",
        retry_after=wait,
    )
