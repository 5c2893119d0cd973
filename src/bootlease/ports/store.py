"""What the verifier remembers, as a Protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from bootlease.endorsement import Enrolment
from bootlease.evidence import Challenge
from bootlease.ledger import GovernanceDetail
from bootlease.ports.continuity import ContinuityStore
from bootlease.ports.delegations import DelegationStore
from bootlease.ports.ledger import LedgerReader
from bootlease.ports.operators import OperatorStore, Role, StoredCredential
from bootlease.ports.streams import EventStreams
from bootlease.ports.values import (
    Activated,
    Committed,
    DecisionCommit,
    EnrolledNode,
    InForce,
    PendingEnrolment,
    Standing,
    StoredAnswer,
    StoredChallenge,
    StoredDecision,
    StoredLineage,
    StoredPolicy,
    StoredReference,
)


class Store(Protocol):
    """What the verifier remembers.

    Every write is durable when its call returns. What the operator changes, and every enrolment,
    leaves a governance record in the ledger, in the same transaction, with its ``author``. Every
    method may raise ``StoreBusyError`` or ``StoreUnavailableError``.
    """

    async def add_pending(self, pending: PendingEnrolment, *, now: int, at_most: int) -> None:
        """Keep a pending enrolment; ``StoreBusyError`` where ``at_most`` are pending already.

        Of one node a few are kept: another one replaces the oldest.
        """

    async def activate(
        self, enrolment: bytes, secret_digest: bytes, *, now: int
    ) -> tuple[Activated, bytes | None]:
        """Delete a pending enrolment and, if the secret is right, enrol its node, at once.

        The EK keeps its node id and its high-water mark; a node that was enrolled begins another
        lineage, whether its AK is the same or not. Where another policy is active than the one
        that admitted the node, nothing is enrolled. Returns the outcome and the node id where
        there was a pending enrolment; ``REPLACED`` where it is enrolled and took the place of
        another node, as its join token says.
        """

    async def node(self, node: bytes) -> EnrolledNode | None:
        """Return an enrolled node."""

    async def standing(self, node: bytes, request: bytes, *, now: int) -> Standing:
        """Return what a lease request of this node and digest finds."""

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

    async def commit_decision(self, commit: DecisionCommit) -> Committed:
        """Consume the challenge and store the decision with all that follows, or nothing.

        Its leaves are in the ledger, sealed under a checkpoint, when this returns.

        ``ANSWERED``: this very evidence has an answer already. ``SPENT``: other evidence used the
        challenge. ``EXPIRED``: it is too late for it. ``CONFLICT``: enrolment, lineage or
        high-water mark are not those that were appraised any more.
        ``OUTDATED``: the operator has decided otherwise since.
        """

    async def decision(self, digest: bytes) -> StoredDecision | None:
        """Return a recorded decision."""

    async def decisions_of(self, node: bytes, *, at_most: int) -> Sequence[StoredDecision]:
        """Return a node's latest decisions, the latest first."""

    async def lease_proof(self, lease_id: bytes) -> bytes | None:
        """Return the proof file of a lease, or None where no recorded decision granted it.

        Raises ``VerificationError`` or ``MalformedError`` where a piece is missing or damaged.
        """

    async def explanation_pieces(self, name: bytes) -> tuple[bytes, bytes] | None:
        """Return a decision's digest and all that its explanation asks for (``explain.gather``).

        ``name`` is that digest, or a node's id for its latest decision. None where there is none.
        Raises ``VerificationError`` or ``MalformedError`` where a record is damaged.
        """

    async def in_force(self) -> InForce:
        """Return the numbers of what the operator has decided."""

    async def activate_policy(
        self, policy: StoredPolicy, *, author: str, revoke_now: bool = False
    ) -> bool:
        """Append a policy; False where ``epoch`` is not the next one.

        With ``revoke_now`` every epoch before it is revoked, in the same transaction.
        """

    async def policy(self) -> StoredPolicy | None:
        """Return the active policy."""

    async def add_reference(self, reference: StoredReference, *, author: str) -> bool:
        """Register a reference set; False where this very content is registered already."""

    async def references(self) -> Sequence[StoredReference]:
        """Return every registered reference set, the oldest first."""

    async def add_root(self, certificate: bytes, *, now: int, author: str) -> bool:
        """Trust a root; False where it is trusted already."""

    async def roots(self) -> Sequence[bytes]:
        """Return the trusted roots, DER."""

    async def add_join_token(
        self,
        digest: bytes,
        *,
        now: int,
        expires_at: int,
        author: str,
        labels: Sequence[str] = (),
        replaces: bytes | None = None,
    ) -> None:
        """Keep the digest of a join token.

        A node that enrols with it for the first time gets its labels; or the labels and the place
        of the node that it ``replaces``.
        """

    async def join_token_admits(self, digest: bytes, node: bytes, *, now: int) -> bool:
        """Tell whether a join token is live and free, or bound to this node."""

    async def add_credential(
        self,
        digest: bytes,
        *,
        label: str,
        now: int,
        author: str,
        roles: Sequence[Role],
        maker: bytes | None = None,
        joint: bool = False,
    ) -> None:
        """Keep the digest of an admin credential with its roles; without any it may do nothing."""

    async def credentials(self) -> Sequence[StoredCredential]:
        """Return the admin credentials, the oldest first, revoked ones too."""

    @property
    def operators(self) -> OperatorStore:
        """What an operator does with credentials, proposals and nodes."""

    async def record_event(
        self, kind: str, details: Mapping[str, GovernanceDetail], *, now: int, author: str
    ) -> None:
        """Append a governance record of something that changes nothing else, such as a login."""

    @property
    def ledger(self) -> LedgerReader:
        """What the ledger publishes."""

    @property
    def delegations(self) -> DelegationStore:
        """Leases that holders passed on."""

    @property
    def continuity(self) -> ContinuityStore:
        """What ended before its time."""

    @property
    def streams(self) -> EventStreams:
        """Streams of security events."""

    def close(self) -> None:
        """Finish the writes that wait and let go of the database."""

    async def check(self) -> None:
        """Raise unless reads work and writes are accepted."""

    async def sweep(self, *, now: int) -> None:
        """Delete what has expired: pending enrolments, challenges, answers."""
