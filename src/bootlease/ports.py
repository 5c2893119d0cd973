"""What the decisions need from the outside world, as Protocols that shells implement."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bootlease.endorsement import Enrolment
from bootlease.errors import TransportError
from bootlease.evidence import CertifiedKey, Challenge
from bootlease.lineage import HighWaterMark, Prior
from bootlease.model import HashAlg, PCRValues


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> int:
        """Return seconds since the epoch (wall clock)."""

    def boottime(self) -> float:
        """Return seconds since boot, time asleep included (CLOCK_BOOTTIME)."""


@dataclass(frozen=True, slots=True)
class QuotedState:
    """What TPM2_Quote returned, and the PCR values that agree with it: unverified.

    Attributes:
        attest: TPMS_ATTEST.
        signature: TPMT_SIGNATURE.
        pcrs: Values of the selected PCRs.
    """

    attest: bytes
    signature: bytes
    pcrs: PCRValues


class BoundKey(Protocol):
    """A confirmation key inside the TPM."""

    @property
    def certification(self) -> CertifiedKey:
        """The AK's certificate over this key."""

    def sign(self, data: bytes) -> bytes:
        """Sign ``data`` (ES256: SHA-256, raw ``r || s``)."""


class TPMDevice(Protocol):
    """The TPM of a node, real or simulated.

    Every method raises ``TransportError`` when the TPM cannot be reached or refuses.
    """

    def ek_chain(self) -> Sequence[bytes]:
        """Return the EK certificate and its intermediates, DER; empty where there is none."""

    def ek_public(self) -> bytes:
        """Return TPMT_PUBLIC of the EK."""

    def ak_public(self) -> bytes:
        """Return TPMT_PUBLIC of the AK, made and kept at the first call."""

    def activate_credential(self, id_object: bytes, encrypted_secret: bytes) -> bytes:
        """Return the secret that MakeCredential wrapped for this EK and AK."""

    def quote(
        self, qualifying_data: bytes, selection: Mapping[HashAlg, Sequence[int]]
    ) -> QuotedState:
        """Quote the selected PCRs, with values that agree with the quote."""

    def bound_key(self) -> BoundKey:
        """Return a fresh signing key inside the TPM, certified by the AK."""


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
class Governance:
    """What the operator had decided, as numbers that change whenever that changes.

    Attributes:
        epoch: Of the active policy; 0 before the first.
        reference: Number of the reference set registered last; 0 before the first.
        roots: How many roots are trusted.
    """

    epoch: int
    reference: int
    roots: int


@dataclass(frozen=True, slots=True)
class DecisionCommit:
    """Everything that one decision changes, to be stored at once or not at all.

    Attributes:
        node: Node id.
        generation: Of the enrolment whose AK signed.
        nonce: The challenge that the decision consumes.
        lineage_version: Of the lineage that was appraised against.
        lineage: State to continue from, or None: the lineage ends.
        governance: What the operator had decided when it was appraised.
        high_water: The node's high-water mark that it was appraised against.
        counters: Where the quote showed the TPM, to raise that mark.
        digest: Of the decision record.
        record: The decision record.
        claims: Claims digest of each lease granted, in order.
        request: SHA-256 of the request's body: what the same answer is given to again.
        evidence: Digest of ``document``.
        document: The evidence document with its logs left out.
        logs: The logs that came along, by digest.
        answer: What will be answered.
        answer_expires_at: Until when it is answered again to the same evidence.
        next_challenge: The challenge that rides in the answer.
        now: Seconds since the epoch.
    """

    node: bytes
    generation: int
    nonce: bytes
    lineage_version: int
    lineage: Prior | None
    governance: Governance
    high_water: HighWaterMark
    counters: HighWaterMark
    digest: bytes
    record: bytes
    claims: tuple[bytes, ...]
    request: bytes
    evidence: bytes
    document: bytes
    logs: Mapping[bytes, bytes]
    answer: StoredAnswer
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


class Store(Protocol):
    """What the verifier remembers.

    Every write is durable when its call returns. Every method may raise ``StoreBusyError`` or
    ``StoreUnavailableError``.
    """

    async def add_pending(self, pending: PendingEnrolment, *, now: int, at_most: int) -> None:
        """Keep a pending enrolment; ``StoreBusyError`` where ``at_most`` are pending already.

        Of one node a few are kept: another one replaces the oldest.
        """

    async def activate(
        self, enrolment: bytes, secret_digest: bytes, *, now: int
    ) -> tuple[Activated, bytes | None]:
        """Delete a pending enrolment and, if the secret is right, enrol its node, at once.

        The EK keeps its node id and its high-water mark; another AK replaces the old one and ends
        the lineage. Where another policy is active than the one that admitted the node, nothing
        is enrolled. Returns the outcome and the node id where there was a pending enrolment.
        """

    async def node(self, node: bytes) -> EnrolledNode | None:
        """Return an enrolled node."""

    async def enrolment(self, digest: bytes) -> Enrolment | None:
        """Return an enrolment record of now or before, as a decision names it."""

    async def nodes(self, *, after: bytes, at_most: int) -> Sequence[EnrolledNode]:
        """Return enrolled nodes in the order of their ids, those behind ``after``."""

    async def add_challenge(self, challenge: Challenge, *, now: int, at_most: int) -> bool:
        """Keep a challenge that was asked for, unless ``at_most`` of the node's are live."""

    async def challenge(self, nonce: bytes) -> StoredChallenge | None:
        """Return the challenge with this nonce."""

    async def lineage(self, node: bytes) -> StoredLineage:
        """Return where the node's lineage stands."""

    async def log(self, digest: bytes) -> bytes | None:
        """Return a log that came with recorded evidence."""

    async def evidence(self, digest: bytes) -> bytes | None:
        """Return a recorded evidence document with its logs left out."""

    async def answer(self, node: bytes, evidence: bytes, *, now: int) -> StoredAnswer | None:
        """Return what was answered to this evidence, while that has not expired."""

    async def commit_decision(self, commit: DecisionCommit) -> CommitOutcome:
        """Consume the challenge and store the decision with all that follows, or nothing.

        ``ANSWERED``: this very evidence has an answer already. ``SPENT``: other evidence used the
        challenge. ``EXPIRED``: it is too late for it. ``CONFLICT``: enrolment, lineage or
        high-water mark are not those that were appraised any more.
        ``OUTDATED``: the operator has decided otherwise since.
        """

    async def decision(self, digest: bytes) -> StoredDecision | None:
        """Return a recorded decision."""

    async def decisions_of(self, node: bytes, *, at_most: int) -> Sequence[StoredDecision]:
        """Return a node's latest decisions, the latest first."""

    async def governance(self) -> Governance:
        """Return the numbers of what the operator has decided."""

    async def activate_policy(self, policy: StoredPolicy) -> bool:
        """Append a policy; False where ``epoch`` is not the next one."""

    async def policy(self) -> StoredPolicy | None:
        """Return the active policy."""

    async def add_reference(self, reference: StoredReference) -> bool:
        """Register a reference set; False where this very content is registered already."""

    async def references(self) -> Sequence[StoredReference]:
        """Return every registered reference set, the oldest first."""

    async def add_root(self, certificate: bytes, *, now: int) -> bool:
        """Trust a root; False where it is trusted already."""

    async def roots(self) -> Sequence[bytes]:
        """Return the trusted roots, DER."""

    async def add_join_token(self, digest: bytes, *, now: int, expires_at: int) -> None:
        """Keep the digest of a join token."""

    async def join_token_admits(self, digest: bytes, node: bytes, *, now: int) -> bool:
        """Tell whether a join token is live and free, or bound to this node."""

    async def add_credential(self, digest: bytes, *, label: str, now: int) -> None:
        """Keep the digest of an admin credential."""

    async def credentials(self) -> Sequence[bytes]:
        """Return the digests of the admin credentials."""

    def close(self) -> None:
        """Finish the writes that wait and let go of the database."""

    async def check(self) -> None:
        """Raise unless reads work and writes are accepted."""

    async def sweep(self, *, now: int) -> None:
        """Delete what has expired: pending enrolments, challenges, answers."""
