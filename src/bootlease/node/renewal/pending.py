"""Evidence that has not been answered, and how it outlives the agent that sent it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bootlease import cbor
from bootlease.errors import MalformedError, VerificationError
from bootlease.evidence import (
    ConfirmationRequest,
    ExpiringKey,
    LeaseAnswer,
    LeaseRequest,
    PlainKey,
    parse_evidence,
)
from bootlease.evidence.request import MAX_KEY
from bootlease.node.bundle import JoinBundle
from bootlease.node.confirm import ConfirmationKey
from bootlease.node.lease import HeldLease, Holding
from bootlease.node.logs import EventLogSource
from bootlease.node.memory import MAX_SENT, Lineage, Question, Sent
from bootlease.node.renewal.answer import Expectation
from bootlease.node.renewal.attest import Attestation
from bootlease.node.wish import LeaseWish
from bootlease.node.wishbook import Wished, WishId
from bootlease.token import LineageClaim, PublicKey, VerifiedToken
from bootlease.tpm import accept_bound_key, parse_attest, parse_public


@dataclass(slots=True)
class Pending:
    """Evidence that has not been answered.

    Attributes:
        attestation: The evidence.
        question: What it answers.
        continued: The lineage that it continues; None where it begins one.
        wished: What it asks for.
        keys: Whom that is for.
        first_sent_at: CLOCK_BOOTTIME when it was sent for the first time.
        maybe_arrived: The verifier may have it.
        orphaned: An agent sent it that has ended since, and its keys with it. What it is granted is
            of use to nobody; the answer says where the lineage goes on, no more.
    """

    attestation: Attestation
    question: Question
    continued: Lineage | None
    wished: tuple[Wished, ...]
    keys: tuple[ConfirmationKey, ...]
    first_sent_at: float | None = None
    maybe_arrived: bool = False
    orphaned: bool = False

    def to_remember(self, boot_id: str, sent_at: float) -> Sent | None:
        """Return what must be remembered before it is sent; None where too little would be lost."""
        if self.continued is None or len(self.attestation.data) > MAX_SENT:
            return None
        return Sent(boot_id, self.question, sent_at, self.attestation.data)

    def expectation(self, bundle: JoinBundle, node: bytes) -> Expectation:
        """Return what an answer must agree with."""
        before, digest = self.continued, self.attestation.digest
        return Expectation(
            bundle=bundle,
            node=node,
            challenge=self.question.challenge,
            evidence=digest,
            clock=self.attestation.clock,
            wishes=tuple(wished.wish for wished in self.wished),
            keys=tuple(key.public for key in self.keys),
            expiring=frozenset(
                key.public for key in self.keys if isinstance(key.request, ExpiringKey)
            ),
            lineage=LineageClaim(digest, 0)
            if before is None
            else LineageClaim(before.root, before.sequence + 1, before.head),
        )

    def held(self, answer: LeaseAnswer, tokens: Sequence[VerifiedToken]) -> HeldLease:
        """Put together what an answer grants.

        Args:
            answer: Verified against ``expectation``.
            tokens: Its tokens.
        """
        issued_at, wished = self.question.challenge.issued_at, self.wished
        holdings = tuple(
            Holding(
                *(wished[place].id, wished[place].wish, token, issued.token, self.keys[place]),
                holder=wished[place].holder,
            )
            for place, token, issued in zip(answer.granted(), tokens, answer.leases, strict=True)
        )
        ends = [token.claims.expires_at for token in tokens]
        life = min(answer.life, *(end - issued_at for end in ends))
        return HeldLease(
            holdings,
            expires_at=min(ends),
            deadline=self.question.asked_at + life,
            life=float(life),
            denied={wished[each.index].id: each.findings for each in answer.denied},
        )


@dataclass(frozen=True, slots=True)
class _FormerKey:
    """A confirmation key whose private half is gone, or was never here."""

    public: PublicKey
    request: ConfirmationRequest
    signer: None = None

    def export(self) -> None:
        """Return None: it is gone."""


def orphan(sent: Sent, lineage: Lineage, log: EventLogSource) -> Pending | None:
    """Return what an earlier agent sent, to be sent again; None where it says nothing any more.

    Args:
        sent: What was remembered of it.
        lineage: The lineage to continue.
        log: The event log of this boot, should it be asked for.

    Raises:
        TransportError: The log cannot be read.
    """
    try:
        evidence = parse_evidence(sent.evidence)
        if evidence.binding.previous != lineage.head:
            return None
        keys = tuple(map(_former_key, evidence.leases))
        clock = parse_attest(evidence.quote).clock_info
    except (MalformedError, VerificationError):
        return None
    if (clock.reset_count, clock.restart_count) != (lineage.reset_count, lineage.restart_count):
        return None
    wished = tuple(
        Wished(WishId(0), _wish(request), key)
        for request, key in zip(evidence.leases, keys, strict=True)
    )
    return Pending(
        *(Attestation(evidence, log.read(), clock), sent.question, lineage, wished, keys),
        first_sent_at=sent.sent_at,
        maybe_arrived=True,
        orphaned=True,
    )


def _wish(request: LeaseRequest) -> LeaseWish:
    return LeaseWish(
        request.scope, request.audience, request.encoding, request.level, request.optional
    )


def _former_key(request: LeaseRequest) -> _FormerKey:
    asked = request.confirmation
    if isinstance(asked, PlainKey):
        public = PublicKey.from_cose(cbor.decode(asked.cose_key, max_bytes=MAX_KEY))
    else:
        public = PublicKey.from_cryptography(accept_bound_key(parse_public(asked.public)).key)
    return _FormerKey(public, asked)
