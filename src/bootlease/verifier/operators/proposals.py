"""The two-person rule: what one person proposes, another must approve before it is done.

It holds back new grounds to accept somebody: policies, reference sets, roots, the end of a
revocation of a set or family, credentials that could propose or approve, and the rule's own end. A
proposal is named by the digest of what it would do, so whoever approves a digest approves these
bytes and no others; what is done is what was proposed.

The rule is off at first. An operator switches it on where there are two operators who are two
persons (``store.credentials``); it takes both of them to switch it off again.

One person's proposals take up a part of the places only.

Not held back: acts on one node, its readmission among them.

Not handled: more than two persons; a proposer taking a proposal back (it expires after a day).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from bootlease import cbor
from bootlease.ports import (
    Act,
    Approval,
    Clock,
    Proposal,
    RuleChange,
    Store,
    StoredCredential,
)
from bootlease.verifier.operators.logins import author_of
from bootlease.verifier.operators.roles import ACT_ROLES, demand_role
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.registry import Registry

PROPOSAL_LIFE: Final = 86_400
"""Seconds in which a proposal may be approved."""
_TYPE: Final = "bootlease/proposal/1"

_REFUSED: Final = {
    Approval.UNKNOWN: (
        ProblemKind.NOT_FOUND,
        "No such proposal waits: it was approved or has expired, or its proposer was revoked.",
    ),
    Approval.SAME_PERSON: (
        ProblemKind.CONFLICT,
        "Another person must approve it: neither may have made, or seen, the other's credential.",
    ),
    Approval.OUTDATED: (
        ProblemKind.CONFLICT,
        "Another policy was activated since this one was proposed; propose it again.",
    ),
}


def proposal_digest(act: Act, document: bytes, options: Mapping[str, str]) -> bytes:
    """Return the name of a proposal: SHA-256 over all that it would do."""
    return hashlib.sha256(cbor.encode([_TYPE, act.value, document, dict(options)])).digest()


class Proposals:
    """Keeps what waits for a second person.

    Args:
        store: Where it is kept.
        registry: The operator's decisions.
        clock: Dates them.
    """

    def __init__(self, store: Store, registry: Registry, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock

    async def demanded(self) -> bool:
        """Tell whether the rule holds."""
        return await self._store.operators.two_person()

    async def propose(
        self,
        act: Act,
        document: bytes,
        by: StoredCredential,
        options: Mapping[str, str] | None = None,
    ) -> Proposal:
        """Keep a proposal, or return the one of this content that waits already.

        Args:
            act: What is to be done.
            document: With what; the caller has seen that it parses.
            by: Who proposes it.
            options: How, by name.

        Raises:
            StoreBusyError: As many wait as may.
        """
        now, how = self._clock.now(), dict(options or {})
        active = self._registry.now.active
        return await self._store.operators.propose(
            Proposal(
                digest=proposal_digest(act, document, how),
                act=act,
                document=document,
                options=how,
                proposer=by.digest,
                author=author_of(by),
                epoch=0 if active is None else active.epoch,
                proposed_at=now,
                expires_at=now + PROPOSAL_LIFE,
            )
        )

    async def waiting(self, digest: bytes) -> Proposal:
        """Return a proposal that waits.

        Raises:
            ProblemError: None of this digest does.
        """
        found = await self._store.operators.proposal(digest, now=self._clock.now())
        if found is None:
            raise ProblemError(*_REFUSED[Approval.UNKNOWN])
        return found

    async def approve(self, digest: bytes, by: StoredCredential) -> tuple[Proposal, str]:
        """Take a proposal out for the caller to do, in the name of both persons.

        Returns:
            The proposal, and its authors as the ledger names them.

        Raises:
            ProblemError: There is none, or this credential may not approve it.
        """
        waiting = await self.waiting(digest)
        demand_role(by.roles, ACT_ROLES[waiting.act])
        outcome = await self._store.operators.approve(
            digest, by.digest, now=self._clock.now(), author=author_of(by)
        )
        if outcome is not Approval.APPROVED:
            raise ProblemError(*_REFUSED[outcome])
        return waiting, f"{waiting.author}, approved by {author_of(by)}"

    async def switch(self, *, demanded: bool, author: str) -> None:
        """Switch the rule.

        Raises:
            ProblemError: There are no two operators who are two persons.
        """
        changed = await self._store.operators.set_two_person(
            demanded=demanded, now=self._clock.now(), author=author
        )
        if changed is RuleChange.NO_PAIR:
            raise ProblemError(
                ProblemKind.CONFLICT,
                "The rule needs two operators who are two persons: two credentials, neither of"
                " which was made with the other (`bootlease verifier credential add`).",
            )
