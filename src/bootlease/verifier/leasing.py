"""Challenges and leases: from evidence to an answer that is durable before it is given.

Specification: design section 4, steps 2 to 5; docs/protocol.md, "Lease". The order, labelled in
the code:

1. evidence decided on before gets its stored answer; a node that was granted enough waits;
2. the challenge: known, this node's, unspent, in time;
3. the AK signed the evidence, whole, for this challenge, and that asks for all that policy demands
   by now. Until here nothing is recorded and nothing is consumed, so that nobody can end another
   node's lease with garbage in its name;
4. the log, where only its digest came; the whole IMA list, where what came cannot be judged
   without what was judged before;
5. appraisal;
6. record, claims, signatures;
7. one transaction: challenge spent, decision, head, answer, next challenge. Where it finds that
   something moved since it was appraised, everything is done again from 2.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from dataclasses import dataclass, replace
from typing import Final

from bootlease.appraisal import AttestationResult
from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.evidence import (
    Challenge,
    Evidence,
    parse_evidence,
    verify_evidence,
)
from bootlease.model import NODES_REMEMBERED, Finding
from bootlease.ports import (
    Clock,
    CommitOutcome,
    DecisionCommit,
    EnrolledNode,
    Store,
    StoredAnswer,
)
from bootlease.tpm import AttestationKey, accept_attestation_key, parse_public
from bootlease.verifier.answers import Case, Issuer, grant, refuse
from bootlease.verifier.asking import demand_current, demand_judgeable, new_challenge
from bootlease.verifier.bootlogs import ASIDE
from bootlease.verifier.continuity.doubtful import Doubtful
from bootlease.verifier.continuity.ending import Ending
from bootlease.verifier.continuity.indexes import Indexes
from bootlease.verifier.continuity.live import LiveGrant
from bootlease.verifier.glance import core_size, nonce_in
from bootlease.verifier.grants import Grants
from bootlease.verifier.judging import Judging, aside
from bootlease.verifier.limits import Limits
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.recent import Left, Recent
from bootlease.verifier.registry import Registry, Snapshot

_TRIES: Final = 4
_LONG_CORE: Final = 4 * 1024
"""Documents with more than this besides the log are parsed on another thread, a few at a time, and
only where they name a live challenge: made of tiny items, 64 KiB take 50 ms."""
_LONG_AT_ONCE: Final = 2
_MANY_LEASES: Final = 16
"""More are verified and answered on another thread, granted or not: a key in a TPM takes 0.2 ms, a
token 0.1, and what is told of one that is left out nearly that."""

_SPENT: Final = Finding(
    "challenge.spent", "The challenge was answered before, by other evidence; ask for a new one."
)
_EXPIRED: Final = Finding(
    "challenge.expired", "The challenge has expired; ask for a new one and quote again."
)


@dataclass(frozen=True, slots=True)
class Decided:
    """What a lease request came to.

    Attributes:
        answer: What to answer.
        commit: The decision made now; None where the answer is an earlier one's.
        findings: All findings of the decision made now.
    """

    answer: StoredAnswer
    commit: DecisionCommit | None = None
    findings: tuple[Finding, ...] = ()


class Leasing:
    """Sets challenges and answers evidence.

    Args:
        store: Where everything is kept.
        registry: The operator's decisions.
        issuer: Signs tokens.
        clock: Tells the time.
        limits: Bounds.
        ending: Ends leases, and knows which live.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        issuer: Issuer,
        clock: Clock,
        limits: Limits,
        *,
        ending: Ending,
    ) -> None:
        self._store = store
        self._registry = registry
        self._issuer = issuer
        self._clock = clock
        self._limits = limits
        self._long_cores = asyncio.Semaphore(_LONG_AT_ONCE)
        self._judging = Judging(store)
        self._recent = Recent()
        self._doubtful = Doubtful(ending.live)
        self._grants = Grants(store, registry, limits)
        self._ending = ending
        self._live = ending.live
        self._indexes = Indexes(store, ending.live)

    async def challenge(self, node: bytes) -> Challenge:
        """Set a challenge for a node.

        Raises:
            ProblemError: The node is not enrolled, or has too many live challenges.
        """
        now = self._clock.now()
        snapshot = self._registry.now
        snapshot.revoked.demand_not((await self.enrolled(node)).enrolment)
        policy = snapshot.policy.policy
        progress = None
        if policy.ima.required:
            prior = (await self._store.lineage(node)).prior
            progress = None if prior is None else prior.ima
        challenge = new_challenge(node, policy, now, progress)
        # Anybody may ask in a node's name, so what was asked for is soon forgotten. The life of a
        # lease counts from issued_at and is as long as ever.
        soon = min(challenge.expires_at, now + self._limits.challenge_time)
        challenge = replace(challenge, expires_at=soon)
        if not await self._store.add_challenge(
            challenge, now=now, at_most=self._limits.live_challenges
        ):
            raise ProblemError(
                ProblemKind.BUSY_CLIENT,
                "The node has as many unanswered challenges as it may have.",
                retry_after=max(1, (challenge.expires_at - now) // 8),
            )
        return challenge

    async def lease(self, node: bytes, body: bytes) -> Decided:
        """Decide about evidence.

        Raises:
            MalformedError: The evidence or a structure in it does not parse.
            VerificationError: It does not verify; nothing was recorded or consumed.
            ProblemError: It cannot be decided about; nothing was recorded or consumed.
        """
        # 1. A lost answer is no second use: the same bytes get the same answer.
        large = len(body) > ASIDE
        digest = await aside(lambda: hashlib.sha256(body).digest(), when=large)
        left = self._recent.take(node, nonce_in(body))
        if left is None:
            # Nobody's bytes are parsed in the name of a node that is not enrolled.
            left, answer = await self._stands(node, digest)
            if answer is not None:
                return Decided(answer)
        self._grants.demand(node, self._clock.now())
        evidence = await self._parsed(node, body, large=large)
        for _ in range(_TRIES):
            decided = await self._decide(left, evidence, (digest, body), large=large)
            if decided is not None:
                return decided
            left, answer = await self._stands(node, digest)
            if answer is not None:
                return Decided(answer)
        raise ProblemError(
            ProblemKind.BUSY, "The node's state keeps changing; try again.", retry_after=1
        )

    async def _stands(self, node: bytes, digest: bytes) -> tuple[Left, StoredAnswer | None]:
        before = self._doubtful.of(node)
        standing = await self._store.standing(node, digest, now=self._clock.now())
        self._doubtful.settle(node, before, standing.lineage.version)
        left = Left(_known(standing.node), standing.lineage, None)
        if standing.answer is not None:
            self._registry.now.revoked.demand_not(left.node.enrolment)
        return left, standing.answer

    async def _parsed(self, node: bytes, body: bytes, *, large: bool) -> Evidence:
        core = core_size(body)
        if core > self._limits.evidence_core:
            # Strangers' bytes cost by their number: no more of them than the policy has a use for.
            leases = self._registry.now.policy.policy.lease.max_leases
            at_most = max(self._limits.evidence_core, leases * self._limits.evidence_core_per_lease)
            if core > at_most:
                raise ProblemError(
                    ProblemKind.TOO_LARGE,
                    f"Evidence without its logs has at most {at_most} bytes.",
                )
        if core <= _LONG_CORE:
            return await aside(lambda: parse_evidence(body), when=large)
        nonce = nonce_in(body)
        if nonce is None:
            raise MalformedError("the evidence holds no binding of this version")
        await self._challenge(nonce, node, self._clock.now())
        async with self._long_cores:
            return await asyncio.to_thread(parse_evidence, body)

    async def _decide(
        self,
        left: Left,
        evidence: Evidence,
        request: tuple[bytes, bytes],
        *,
        large: bool,
    ) -> Decided | None:
        digest, body = request
        now = self._clock.now()
        snapshot = self._registry.now
        enrolled, lineage = left.node, left.lineage
        # What is revoked while this is decided makes it OUTDATED, and it comes here again.
        snapshot.revoked.demand_not(enrolled.enrolment)
        # 2. The commit looks again whether it is unspent.
        challenge = await self._answered(left, evidence.binding.nonce, now)
        # 3.
        key = _attestation_key(enrolled.enrolment.ak_public)
        authority = self._issuer.authority
        many = len(evidence.leases) > _MANY_LEASES
        verified = await aside(
            lambda: verify_evidence(evidence, challenge, key, now=now, authority=authority),
            when=large or many,
        )
        demand_current(challenge, snapshot.policy.policy, now)
        # 4.
        demand_judgeable(verified, lineage, snapshot, now)
        log = await self._judging.log(verified, snapshot, now, large=large)
        # 5.
        case = Case(
            node=enrolled,
            lineage=lineage,
            challenge=challenge,
            evidence=evidence,
            request=digest,
            document=evidence.without_logs().encode() if evidence.logs else body,
            verified=verified,
            roots=snapshot.roots,
            in_force=snapshot.in_force,
            now=now,
        )
        result = await self._judging.appraised(case, log, snapshot, large=large)
        return await self._recorded(case, result, snapshot)

    async def _recorded(
        self, case: Case, result: AttestationResult, snapshot: Snapshot
    ) -> Decided | None:
        # 6.
        node, now = case.node.enrolment.node, case.now
        granted: LiveGrant | None = None
        if result.accepted:
            # Judging may have taken long, and to who watches it a clock that goes back has leapt.
            lease_ids = await self._indexes.lease_ids(len(result.leases), self._clock.now())
            following = new_challenge(node, snapshot.policy.policy, now, result.ima)
            commit = await aside(
                lambda: grant(case, result, self._issuer, lease_ids, following),
                when=len(case.verified.leases) > _MANY_LEASES,
            )
            granted = self._live.granted(
                node, commit.root, lease_ids, result.expires_at, _rested_on(result, snapshot)
            )
        else:
            commit = refuse(case, result, self._issuer)
        # 7.
        try:
            committed = await self._grants.commit(commit)
        except (ProblemError, TransportError) as exc:
            if granted is not None:
                # Of its own bound the verifier knows that nothing was stored; a disk that fails at
                # the end of a commit leaves it open.
                certain = isinstance(exc, ProblemError)
                self._doubtful.failed(granted, None if certain else case.lineage.version)
            raise
        if committed.answer is not None:
            self._recent.keep(case.node, commit)
            self._ending.decided(commit, result.findings)
            return Decided(committed.answer, commit, result.findings)
        if granted is not None:
            self._live.forget(granted)
        return await self._not_committed(committed.outcome, commit)

    async def _not_committed(
        self, outcome: CommitOutcome, commit: DecisionCommit
    ) -> Decided | None:
        if outcome is CommitOutcome.ANSWERED:
            answer = await self._store.answer(commit.node, commit.request, now=commit.now)
            if answer is not None:
                return Decided(answer)
        if outcome in {CommitOutcome.SPENT, CommitOutcome.ANSWERED}:
            raise _spent()
        if outcome is CommitOutcome.EXPIRED:
            raise VerificationError(_EXPIRED)
        if outcome is CommitOutcome.OUTDATED:
            await self._registry.reload()
        return None

    async def enrolled(self, node: bytes) -> EnrolledNode:
        """Return the record of a node.

        Raises:
            ProblemError: No such node is enrolled.
        """
        return _known(await self._store.node(node))

    async def _answered(self, left: Left, nonce: bytes, now: int) -> Challenge:
        challenge = left.challenge
        if challenge is None or challenge.nonce != nonce:
            return await self._challenge(nonce, left.node.enrolment.node, now)
        if now >= challenge.expires_at:
            raise VerificationError(_EXPIRED)
        return challenge

    async def _challenge(self, nonce: bytes, node: bytes, now: int) -> Challenge:
        stored = await self._store.challenge(nonce)
        if stored is None:
            raise VerificationError(
                Finding(
                    "challenge.unknown",
                    "The verifier set no such challenge, or it expired long ago.",
                )
            )
        challenge = stored.challenge
        if challenge.node != node:
            raise VerificationError(
                Finding("challenge.node.mismatch", "The challenge was set for another node.")
            )
        if stored.spent_at is not None:
            raise _spent()
        if now >= challenge.expires_at:
            raise VerificationError(_EXPIRED)
        return challenge


def _rested_on(result: AttestationResult, snapshot: Snapshot) -> tuple[bytes, ...]:
    """Return the reference sets that leases end with: the boot's, and every one about files."""
    boot = () if result.reference is None else (result.reference.digest,)
    return boot + snapshot.ima_digests if snapshot.ima_digests else boot


def _known(node: EnrolledNode | None) -> EnrolledNode:
    if node is None:
        raise ProblemError(
            ProblemKind.UNKNOWN_NODE,
            "No node with this id is enrolled.",
            findings=[Finding("node.unknown", "No node with this id is enrolled here.")],
        )
    return node


def _spent() -> ProblemError:
    return ProblemError(ProblemKind.SPENT, _SPENT.message, findings=[_SPENT])


@functools.lru_cache(maxsize=NODES_REMEMBERED)
def _attestation_key(ak_public: bytes) -> AttestationKey:
    # Loading a point costs as much as verifying with it; a node's AK hardly ever changes.
    return accept_attestation_key(parse_public(ak_public))
