"""The lineage in a proof: from the decision over full evidence to the lease's own.

Every decision is in the ledger, is made again, and continues exactly the one before it: its state,
its head, its digest. All rest on the one enrolment in the file, without which none is made again,
and so are about one node. So the last lease stands on every appraisal since the lineage began.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bootlease.appraisal import AttestationResult, prior_after
from bootlease.audit.replay import Replayer
from bootlease.audit.trees import ProvenTrees
from bootlease.errors import VerificationError
from bootlease.evidence import VerifiedEvidence
from bootlease.ledger import DecisionRecord, encode_leaf
from bootlease.ledger.prooffile import ProvenDecision
from bootlease.lineage import HighWaterMark, head_after
from bootlease.model import Effect, Finding
from bootlease.token import ExecutionClaims


@dataclass(frozen=True, slots=True)
class ChainLink:
    """One decision of a lineage that was made again.

    Attributes:
        decision: The pieces.
        record: The record.
        result: The attestation result, made now.
        claims: The claims of its leases, made now.
        evidence: The evidence, verified now.
    """

    decision: ProvenDecision
    record: DecisionRecord
    result: AttestationResult
    claims: tuple[ExecutionClaims, ...]
    evidence: VerifiedEvidence


@dataclass(frozen=True, slots=True)
class VerifiedChain:
    """A lineage, whole. Made by ``verify_chain``.

    Attributes:
        links: From its first decision.
        notes: Findings that refuse nothing.
    """

    links: tuple[ChainLink, ...]
    notes: tuple[Finding, ...]


def verify_chain(
    decisions: Sequence[ProvenDecision],
    lease: bytes,
    trees: ProvenTrees,
    replayer: Replayer,
) -> VerifiedChain:
    """Prove that a lease is the last of a lineage whose every decision was rightly made.

    Args:
        decisions: Unverified.
        lease: Claims digest of the lease.
        trees: The verified trees.
        replayer: Makes decisions again from the proof's pieces.

    Raises:
        MalformedError: A record does not parse.
        VerificationError: With every check that failed.
    """
    links: list[ChainLink] = []
    findings: list[Finding] = []
    last = len(decisions) - 1
    for number, decision in enumerate(decisions):
        record = DecisionRecord.parse(decision.record)
        if number == last and decision.claims != (lease,):
            findings.append(_not_granted(lease))
        findings += _leaf_findings(decision, record, trees)
        # Of the last decision the file holds one lease; the others are nobody else's business.
        replayed = replayer.replay(record, None if number == last else decision.claims)
        findings += replayed.findings
        result, evidence = replayed.result, replayed.evidence
        if result is None or evidence is None or not replayed.identical:
            break
        links.append(ChainLink(decision, record, result, replayed.claims, evidence))
    if links:
        findings += _beginning(links[0])
    for number, (before, link) in enumerate(itertools.pairwise(links), 1):
        findings += _continuity(before, link, number)
    refusing = [finding for finding in findings if finding.effect is Effect.REFUSES]
    if refusing:
        raise VerificationError(*refusing)
    return VerifiedChain(tuple(links), tuple(dict.fromkeys(findings)))


def _not_granted(lease: bytes) -> Finding:
    return Finding(
        "proof.lease.missing",
        "The last decision did not grant the lease that the proof is about.",
        expected=lease.hex(),
    )


def _leaf_findings(
    decision: ProvenDecision, record: DecisionRecord, trees: ProvenTrees
) -> Iterator[Finding]:
    try:
        trees.verify_leaf(encode_leaf(record.digest, decision.claims[0]), decision.place)
    except VerificationError as exc:
        yield from exc.findings


def _beginning(first: ChainLink) -> Iterator[Finding]:
    record = first.record
    if record.sequence != 0 or record.lineage_root != record.evidence:
        yield Finding(
            "proof.lineage.beginning",
            "The lineage does not begin with its first decision.",
            expected="decision 0",
            seen=f"decision {record.sequence}",
        )


def _continuity(before: ChainLink, link: ChainLink, number: int) -> Iterator[Finding]:
    record = link.record
    logs = dict(before.evidence.log_digests)
    state = prior_after(before.result, head_after(before.decision.claims), logs)
    where = (link.decision.place.shard, link.decision.place.index)
    earlier = (before.decision.place.shard, before.decision.place.index)
    reached = HighWaterMark.of(before.result.clock_info)
    marks = HighWaterMark.parse(before.record.high_water), HighWaterMark.parse(record.high_water)
    checks = (
        (record.prior == state.encode(), "does not start from the state that the one before left"),
        (record.previous == before.record.digest, "does not name the one before it"),
        (record.sequence == number, "has another number"),
        (record.issuer == before.record.issuer, "is another verifier's"),
        (where > earlier, "stands before the one before it in the ledger"),
        (marks[1] >= max(marks[0], reached), "forgets how far the TPM's counters had come"),
    )
    for holds, problem in checks:
        if not holds:
            yield Finding(
                "proof.lineage.broken",
                f"Decision {number} of the lineage {problem}.",
                seen=record.digest.hex(),
            )
