"""Does this answer grant what was asked, on the evidence that was sent?

A verifier that answers with somebody else's token, an older one, or one for another key must not
get an agent to hand it on. Checked of every token, with all findings collected:

1. signature by a key of the join bundle, issuer, audience, time (``token.verify_token``);
2. subject, scope, confirmation key, encoding, level: those that were asked for; what is left out
   was optional;
3. evidence digest, nonce and boot counters: those of the evidence that was sent;
4. lineage: root, number and previous head follow on from what this agent holds;
5. what the answer says beside the token (ids, times, digests, next challenge) agrees with it;
6. receipt: the verifier's ledger holds this decision and these claims.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bootlease.errors import VerificationError
from bootlease.evidence import Challenge, IssuedLease, LeaseAnswer
from bootlease.lineage.continuation import head_after
from bootlease.model import ClockInfo, Finding
from bootlease.node.bundle import JoinBundle
from bootlease.node.renewal.receipts import verify_lease_receipt
from bootlease.node.wish import LeaseWish
from bootlease.token import (
    BootClaim,
    ExecutionClaims,
    LineageClaim,
    PublicKey,
    VerifiedToken,
    verify_token,
)


@dataclass(frozen=True, slots=True)
class Expectation:
    """What an answer must agree with.

    Attributes:
        bundle: The verifier and its keys.
        node: This node's id.
        challenge: The challenge that was answered.
        evidence: Digest of the evidence that was sent.
        clock: The counters that were quoted.
        wishes: What was asked for, in order.
        keys: The confirmation key of each.
        expiring: Those of the keys that need a permit.
        lineage: The place that the first token must have in its lineage.
    """

    bundle: JoinBundle
    node: bytes
    challenge: Challenge
    evidence: bytes
    clock: ClockInfo
    wishes: tuple[LeaseWish, ...]
    keys: tuple[PublicKey, ...]
    lineage: LineageClaim
    expiring: frozenset[PublicKey] = frozenset()


def verify_answer(
    answer: LeaseAnswer, expected: Expectation, *, now: float
) -> tuple[VerifiedToken, ...]:
    """Verify that ``answer`` grants what was asked, on the evidence that was sent.

    What was asked for as optional may be left out; why is the verifier's word, under no signature.

    Proves: the verifier of the join bundle signed every token for this node, request, evidence
    and lineage, and its ledger holds what they say. Does not prove that the verifier still stands
    by it a moment later.

    Args:
        answer: As parsed, unverified.
        expected: What it must agree with.
        now: Seconds since the epoch by the verifier's clock, as far as this node can tell.

    Returns:
        The tokens of what was granted, in the order of the wishes: ``LeaseAnswer.granted`` says
        which wish each is for.

    Raises:
        VerificationError: With everything that does not agree.
        MalformedError: A token is none.
    """
    findings = list(_frame_findings(answer, expected))
    tokens: list[VerifiedToken] = []
    if _counts(answer, expected):
        for lease, place in zip(answer.leases, answer.granted(), strict=True):
            wish, key = expected.wishes[place], expected.keys[place]
            try:
                token = _open(lease, wish, expected, now)
                verify_lease_receipt(lease, token, answer.decision, expected.bundle.ledger_key)
            except VerificationError as exc:
                findings += exc.findings
                continue
            tokens.append(token)
            findings += _token_findings(token, lease, wish, key, expected)
    if tokens and len(tokens) == len(answer.leases):
        agrees = answer.head == head_after([token.digest for token in tokens])
        findings += _agreement(agrees, "head", "lineage's head")
    if findings:
        raise VerificationError(*findings)
    return tuple(tokens)


def _counts(answer: LeaseAnswer, expected: Expectation) -> bool:
    """Every wish was either granted or denied, and nothing else was."""
    count = len(expected.wishes)
    return len(answer.leases) + len(answer.denied) == count and all(
        each.index < count for each in answer.denied
    )


def _open(lease: IssuedLease, wish: LeaseWish, expected: Expectation, now: float) -> VerifiedToken:
    bundle = expected.bundle
    return verify_token(
        lease.token, bundle.keys, now=now, issuer=bundle.issuer, audience=wish.audience
    )


def _agreement(agrees: object, part: str, words: str) -> Iterator[Finding]:
    if not agrees:
        yield Finding(
            f"answer.{part}.mismatch",
            f"The verifier's answer does not fit what was sent: another {words}.",
        )


def _frame_findings(answer: LeaseAnswer, expected: Expectation) -> Iterator[Finding]:
    yield from _agreement(_counts(answer, expected), "leases", "number of leases")
    # What an operator said is to be held must not fall away unnoticed.
    optional = [wish.optional for wish in expected.wishes]
    denied = [each.index for each in answer.denied if each.index < len(optional)]
    yield from _agreement(all(optional[at] for at in denied), "denied", "lease that is left out")
    yield from _agreement(answer.sequence == expected.lineage.seq, "sequence", "sequence number")
    challenge = answer.challenge
    yield from _agreement(
        challenge.node == expected.node, "challenge", "node in the next challenge"
    )
    yield from _agreement(
        challenge.expires_at > challenge.issued_at, "challenge", "life of the next challenge"
    )


def _token_findings(
    token: VerifiedToken,
    lease: IssuedLease,
    wish: LeaseWish,
    key: PublicKey,
    expected: Expectation,
) -> Iterator[Finding]:
    claims: ExecutionClaims = token.claims
    clock = expected.clock
    boot = BootClaim(clock.reset_count, clock.restart_count)
    checks = (
        (claims.subject == expected.node.hex(), "node", "node"),
        (set(claims.scope) == set(wish.scope), "scope", "scope"),
        (claims.confirmation == key, "confirmation-key", "confirmation key"),
        (claims.level == wish.level, "level", "level"),
        (token.format.value == wish.encoding.value, "encoding", "encoding"),
        (claims.evidence == expected.evidence, "evidence", "evidence"),
        (claims.nonce == expected.challenge.nonce, "nonce", "challenge"),
        (claims.boot == boot, "boot", "boot"),
        (claims.lineage == expected.lineage, "lineage", "lineage"),
        (lease.lease_id == claims.lease_id, "lease-id", "lease id"),
        (lease.expires_at == claims.expires_at, "expiry", "time of expiry"),
        (lease.claims_digest == token.digest, "claims", "claims digest"),
        ((lease.permit is not None) is (key in expected.expiring), "permit", "permit"),
    )
    for agrees, part, words in checks:
        yield from _agreement(agrees, part, words)
