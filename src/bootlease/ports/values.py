"""What the verifier keeps, as values: what goes into the store and what comes out."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bootlease.endorsement import Enrolment
from bootlease.errors import TransportError
from bootlease.evidence import Challenge
from bootlease.ledger import Receipt
from bootlease.lineage import HighWaterMark, Prior


class StoreBusyError(TransportError):
    """The store has more to do than it can; the same request may succeed a moment later."""


class StoreUnavailableError(TransportError):
    """The store could not do it; nothing of what was asked has been stored."""


@dataclass(frozen=True, slots=True)
class PendingEnrolment:
    """An enrolment that waits for the secret to come back; gone after one try.

    Attributes:
        id: 32 random bytes.
        enrolment: What will be recorded; its time is set at activation.
        ek_chain: The EK's certificates, DER, the EK's own first.
        secret_digest: SHA-256 of the secret; the secret itself is not kept.
        join_token: SHA-256 of the join token that was shown, or None.
        policy_epoch: Epoch of the policy that admitted it.
        expires_at: First second at which the secret comes too late.
    """

    id: bytes
    enrolment: Enrolment
    ek_chain: tuple[bytes, ...]
    secret_digest: bytes
    join_token: bytes | None
    policy_epoch: int
    expires_at: int


class Activated(enum.Enum):
    """What became of an activation."""

    ENROLLED = "enrolled"
    REPLACED = "replaced"
    UNKNOWN = "unknown"
    WRONG_SECRET = "wrong-secret"  # noqa: S105 - an outcome's name
    JOIN_TOKEN_TAKEN = "join-token-taken"  # noqa: S105 - an outcome's name
    POLICY_MOVED = "policy-moved"


@dataclass(frozen=True, slots=True)
class EnrolledNode:
    """A node: its EK and its AK, in one record.

    Attributes:
        enrolment: The record.
        generation: 1 at first, one more with every other AK.
        ek_chain: The EK's certificates, DER, the EK's own first.
        high_water: The furthest that any recorded decision saw the TPM's counters stand. It
            belongs to the EK: neither a refusal nor another AK nor another lineage lowers it.
    """

    enrolment: Enrolment
    generation: int
    ek_chain: tuple[bytes, ...]
    high_water: HighWaterMark


@dataclass(frozen=True, slots=True)
class StoredChallenge:
    """A challenge and whether it was used.

    Attributes:
        challenge: As it was issued.
        spent_at: When a decision consumed it, or None.
        asked: A request asked for it, and anybody may ask; else it rode in the node's own answer.
    """

    challenge: Challenge
    spent_at: int | None
    asked: bool = True


@dataclass(frozen=True, slots=True)
class StoredLineage:
    """Where a node's lineage stands.

    Attributes:
        version: 0 before the first decision; one more with every change, also with an end.
        prior: The state to continue from; None where there is none, or it has ended.
        decision: Digest of the node's last decision, if there was one.
    """

    version: int
    prior: Prior | None
    decision: bytes | None


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What was answered to evidence that was decided on.

    Attributes:
        granted: Whether leases were granted.
        body: The answer, byte for byte.
    """

    granted: bool
    body: bytes


@dataclass(frozen=True, slots=True)
class Standing:
    """What a lease request finds: one read instead of three.

    Attributes:
        answer: What was answered to this very request, while that has not expired.
        node: The node's record, if it is enrolled.
        lineage: Where its lineage stands.
    """

    answer: StoredAnswer | None
    node: EnrolledNode | None
    lineage: StoredLineage


@dataclass(frozen=True, slots=True)
class InForce:
    """What the operator had decided, as numbers that change whenever that changes.

    Attributes:
        epoch: Of the active policy; 0 before the first.
        reference: Number of the reference set registered last; 0 before the first.
        roots: How many roots are trusted.
        revocations: Number of the last revocation, or end of one; 0 before the first.
    """

    epoch: int
    reference: int
    roots: int
    revocations: int = 0


@dataclass(frozen=True, slots=True)
class DecisionCommit:
    """Everything that one decision changes, to be stored at once or not at all.

    Attributes:
        node: Node id.
        generation: Of the enrolment whose AK signed.
        nonce: The challenge that the decision consumes.
        lineage_version: Of the lineage that was appraised against.
        lineage: State to continue from, or None: the lineage ends.
        in_force: What the operator had decided when it was appraised.
        high_water: The node's high-water mark that it was appraised against.
        counters: Where the quote showed the TPM, to raise that mark.
        digest: Of the decision record.
        record: The decision record.
        claims: Claims digest of each lease granted, in order.
        signatures: How their tokens were signed (``token.signatures``); empty for a refusal.
        request: SHA-256 of the request's body: what the same answer is given to again.
        evidence: Digest of ``document``.
        document: The evidence document with its logs left out.
        root: Evidence digest that its lineage began with.
        named_logs: Digests of the logs that the document names: what must be kept with it.
        logs: Those of them that came along, by digest.
        granted: The verdict.
        finish: Makes the answer's body from the receipts of the decision's leaves, one for each
            lease in order, one alone for a refusal. Runs inside the transaction.
        answer_expires_at: Until when it is answered again to the same evidence.
        next_challenge: The challenge that rides in the answer.
        now: Seconds since the epoch.
    """

    node: bytes
    generation: int
    nonce: bytes
    lineage_version: int
    lineage: Prior | None
    in_force: InForce
    high_water: HighWaterMark
    counters: HighWaterMark
    digest: bytes
    record: bytes
    claims: tuple[bytes, ...]
    signatures: bytes
    request: bytes
    evidence: bytes
    document: bytes
    root: bytes
    named_logs: tuple[bytes, ...]
    logs: Mapping[bytes, bytes]
    granted: bool
    finish: Callable[[Sequence[Receipt]], bytes]
    answer_expires_at: int
    next_challenge: Challenge | None
    now: int


class CommitOutcome(enum.Enum):
    """What became of a decision that was to be stored."""

    COMMITTED = "committed"
    ANSWERED = "answered"
    SPENT = "spent"
    EXPIRED = "expired"
    CONFLICT = "conflict"
    OUTDATED = "outdated"


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit came to.

    Attributes:
        outcome: What became of the decision.
        answer: Its answer, where it was committed now.
    """

    outcome: CommitOutcome
    answer: StoredAnswer | None = None


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """A decision as recorded.

    Attributes:
        number: Place among all decisions, from 1.
        digest: Of the record.
        node: Node id.
        granted: Whether leases were granted.
        decided_at: Seconds since the epoch.
        record: The decision record.
        claims: Claims digest of each lease granted, in order.
        evidence: Digest of the evidence document.
    """

    number: int
    digest: bytes
    node: bytes
    granted: bool
    decided_at: int
    record: bytes
    claims: tuple[bytes, ...]
    evidence: bytes


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """An activated policy.

    Attributes:
        epoch: 1 for the first, one more for each activation.
        id: The policy's name.
        digest: SHA-256 of its document.
        document: The file, as activated.
        activated_at: Seconds since the epoch.
    """

    epoch: int
    id: str
    digest: bytes
    document: bytes
    activated_at: int


@dataclass(frozen=True, slots=True)
class StoredReference:
    """A registered version of a reference set.

    Attributes:
        name: The set's name.
        digest: Its content digest.
        document: Its encoded form.
        registered_at: Seconds since the epoch.
    """

    name: str
    digest: bytes
    document: bytes
    registered_at: int
