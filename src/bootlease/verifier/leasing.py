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
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from bootlease.appraisal import (
    AppraisalCache,
    AttestationResult,
    BootLog,
    appraise,
    boot_log_of,
    verdict_known,
)
from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.evidence import (
    IMA_LIST,
    Challenge,
    Evidence,
    VerifiedEvidence,
    parse_evidence,
    verify_evidence,
)
from bootlease.model import NODES_REMEMBERED, Finding
from bootlease.ports import (
    Clock,
    CommitOutcome,
    DecisionCommit,
    EnrolledNode,
    Standing,
    Store,
    StoredAnswer,
)
from bootlease.tpm import AttestationKey, accept_attestation_key, parse_public
from bootlease.verifier.answers import Case, Issuer, grant, refuse
from bootlease.verifier.asking import demand_current, demand_judgeable, new_challenge
from bootlease.verifier.bootlogs import ASIDE, BootLogs
from bootlease.verifier.continuity.doubtful import Doubtful
from bootlease.verifier.continuity.ending import Ending
from bootlease.verifier.continuity.indexes import Indexes
from bootlease.verifier.continuity.live import LiveGrant
from bootlease.verifier.glance import core_size, nonce_in
from bootlease.verifier.grants import Grants
from bootlease.verifier.limits import Limits
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.recent import Left, Recent
from bootlease.verifier.registry import Registry, Snapshot

T = TypeVar("T")

TCG_LOG: Final = "tcg"
_TRIES: Final = 4
_LONG_CORE: Final = 4 * 1024
"""Documents with more than this besides the log are parsed on another thread, a few at a time, and
only where they name a live challenge: made of tiny items, 64 KiB take 50 ms."""
_LONG_AT_ONCE: Final = 2
_LONG_LIST: Final = 8 * 1024
"""IMA lists that are longer are judged on another thread, a few at a time: some 60 entries take
half a millisecond."""
_LISTS_AT_ONCE: Final = 2
_MANY_LEASES: Final = 32
"""Evidence that asks for more is verified and judged on another thread: 256 keys in a TPM take
40 ms, and as many wildcards as fit into it some 100."""

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
        self._verdicts = AppraisalCache(lock=threading.Lock())
        self._long_cores = asyncio.Semaphore(_LONG_AT_ONCE)
        self._long_lists = asyncio.Semaphore(_LISTS_AT_ONCE)
        self._logs = BootLogs(store)
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
        digest = await _run(large, lambda: hashlib.sha256(body).digest())
        left = self._recent.take(node, nonce_in(body))
        if left is None:
            standing = await self._standing(node, digest)
            # Nobody's bytes are parsed in the name of a node that is not enrolled.
            left = Left(_known(standing.node), standing.lineage, None)
            if standing.answer is not None:
                self._registry.now.revoked.demand_not(left.node.enrolment)
                return Decided(standing.answer)
        self._grants.demand(node, self._clock.now())
        evidence = await self._parsed(node, body, large=large)
        for _ in range(_TRIES):
            decided = await self._decide(left, evidence, (digest, body), large=large)
            if decided is not None:
                return decided
            standing = await self._standing(node, digest)
            left = Left(_known(standing.node), standing.lineage, None)
        raise ProblemError(
            ProblemKind.BUSY, "The node's state keeps changing; try again.", retry_after=1
        )

    async def _standing(self, node: bytes, digest: bytes) -> Standing:
        before = self._doubtful.of(node)
        standing = await self._store.standing(node, digest, now=self._clock.now())
        self._doubtful.settle(node, before, standing.lineage.version)
        return standing

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
            return await _run(large, lambda: parse_evidence(body))
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
        node = enrolled.enrolment.node
        # What is revoked while this is decided makes it OUTDATED, and it comes here again.
        snapshot.revoked.demand_not(enrolled.enrolment)
        # 2. The commit looks again whether it is unspent.
        challenge, nonce = left.challenge, evidence.binding.nonce
        if challenge is None or challenge.nonce != nonce:
            challenge = await self._challenge(nonce, node, now)
        elif now >= challenge.expires_at:
            raise VerificationError(_EXPIRED)
        # 3.
        key = _attestation_key(enrolled.enrolment.ak_public)
        authority = self._issuer.authority
        many = len(evidence.leases) > _MANY_LEASES
        verified = await _run(
            large or many,
            lambda: verify_evidence(evidence, challenge, key, now=now, authority=authority),
        )
        demand_current(challenge, snapshot.policy.policy, now)
        # 4.
        demand_judgeable(verified, lineage, snapshot, now)
        log = await self._log(verified, snapshot, now, large=large)
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
        result = await self._appraised(case, log, snapshot, large=large)
        # 6.
        granted: LiveGrant | None = None
        if result.accepted:
            lease_ids = await self._indexes.lease_ids(len(result.leases), now)
            following = new_challenge(node, snapshot.policy.policy, now, result.ima)
            commit = grant(case, result, self._issuer, lease_ids, following)
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
                self._doubtful.failed(granted, None if certain else lineage.version)
            raise
        if committed.answer is not None:
            self._recent.keep(enrolled, commit)
            self._ending.decided(commit, result.findings)
            return Decided(committed.answer, commit, result.findings)
        if granted is not None:
            self._live.forget(granted)
        return await self._not_committed(committed.outcome, commit)

    async def _appraised(
        self, case: Case, log: BootLog | None, snapshot: Snapshot, *, large: bool
    ) -> AttestationResult:
        def work() -> AttestationResult:
            return appraise(
                case.verified,
                log,
                challenge=case.challenge,
                prior=case.lineage.prior,
                high_water=case.node.high_water,
                enrolment=case.node.enrolment,
                roots=case.roots,
                references=snapshot.accepted,
                policy=snapshot.policy,
                now=case.now,
                ima_references=snapshot.accepted_ima,
                # A long document is judged aside, without the cache of verdicts.
                cache=None if large else self._verdicts,
            )

        if len(case.evidence.logs.get(IMA_LIST, b"")) <= _LONG_LIST:
            return await _run(large or len(case.evidence.leases) > _MANY_LEASES, work)
        async with self._long_lists:
            return await asyncio.to_thread(work)

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

    async def _log(
        self, verified: VerifiedEvidence, snapshot: Snapshot, now: int, *, large: bool
    ) -> BootLog | None:
        digest = verified.log_digests.get(TCG_LOG)
        if digest is None:
            return None
        banks = snapshot.policy.policy.quote.banks
        if large:
            return await asyncio.to_thread(boot_log_of, verified, banks)
        if verdict_known(self._verdicts, verified, snapshot.accepted, snapshot.policy, now=now):
            return None
        return await self._logs.of(verified, digest, banks)


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


async def _run(large: bool, work: Callable[[], T]) -> T:  # noqa: FBT001 - how, not what
    """Do ``work`` here, or on another thread where it may take long."""
    return await asyncio.to_thread(work) if large else work()
