"""Stored rows as an audit reads them, and what it says of them.

The columns are those of the verifier's database (``bootlease.store``); nothing here reads one.
Nothing in a row is believed: columns that repeat what a record says are compared with the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bootlease.model import Finding


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as it must be, and where.

    Attributes:
        where: The row, such as ``decision 17``.
        finding: What is wrong with it, or worth noting.
    """

    where: str
    finding: Finding


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """A decision with its evidence document, which may have been let go.

    A refusal has no signatures.
    """

    number: int
    digest: bytes
    node: bytes
    evidence: bytes
    granted: int
    decided_at: int
    record: bytes
    claims: bytes
    root: bytes
    logs: bytes
    shard: int
    position: int
    document_digest: bytes | None
    document: bytes | None
    signatures: bytes | None


@dataclass(frozen=True, slots=True)
class DelegationRow:
    """A delegated lease."""

    number: int
    digest: bytes
    lease_id: bytes
    parent: bytes
    grant_use: bytes
    expires_at: int
    encoding: str
    shard: int
    position: int
    record: bytes
    claims: bytes
    signatures: bytes


@dataclass(frozen=True, slots=True)
class GovernanceRow:
    """A governance record."""

    number: int
    digest: bytes
    subject: bytes | None
    kind: str
    record: bytes
    shard: int
    position: int


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """An activated policy."""

    epoch: int
    id: str
    digest: bytes
    document: bytes
    activated_at: int


@dataclass(frozen=True, slots=True)
class ReferenceRow:
    """A registered reference set."""

    number: int
    name: str
    digest: bytes
    document: bytes
    registered_at: int


@dataclass(frozen=True, slots=True)
class RootRow:
    """A trusted root."""

    number: int
    digest: bytes
    certificate: bytes
    added_at: int


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """An admin credential."""

    digest: bytes
    label: str
    roles: str
    created_at: int
    maker: bytes | None
    joint: int
    revoked_at: int | None


@dataclass(frozen=True, slots=True)
class RevocationRow:
    """A revocation, or the end of one."""

    number: int
    kind: str
    subject: str
    in_force: int
    reason: str
    author: str
    at: int


@dataclass(frozen=True, slots=True)
class JoinTokenRow:
    """A join token."""

    digest: bytes
    created_at: int
    expires_at: int
    labels: str
    replaces: bytes | None


@dataclass(frozen=True, slots=True)
class EnrolmentRow:
    """An enrolment record with the EK's certificates as the node sent them."""

    digest: bytes
    document: bytes
    ek_chain: bytes


@dataclass(frozen=True, slots=True)
class BlobRow:
    """A log, compressed."""

    digest: bytes
    size: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ShardRow:
    """A tree of the ledger."""

    number: int
    name: str
    origin: str
    opened_at: int


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """A signed tree."""

    shard: int
    size: int
    root: bytes
    note: bytes
    protected: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class CosignatureRow:
    """A witness's line under a checkpoint."""

    shard: int
    size: int
    name: str
    line: bytes


@dataclass(frozen=True, slots=True)
class PruningRow:
    """That evidence older than a time was let go."""

    number: int
    before: int
    record: bytes


@dataclass(frozen=True, slots=True)
class NodeRow:
    """Where a node stands."""

    node: bytes
    enrolment: bytes
    high_water: bytes
    prior: bytes | None
    decision: bytes | None


UNKNOWN_STATE = b""
"""Stands for the state after a decision that cannot be made again."""


@dataclass(frozen=True, slots=True)
class Link:
    """What one decision of a node says of the one before, and leaves for the next.

    Attributes:
        number: Of the decision.
        place: Shard and position of its first leaf.
        node: Node id.
        digest: Of the record.
        previous: Digest of the node's decision before, if any.
        prior: SHA-256 of the lineage's state that it started from, if any.
        after: SHA-256 of the state that it left; ``None`` for a refusal.
        high_water: The TPM's high-water mark that it started from.
        counters: Where its quote showed the TPM; empty where nobody can tell.
    """

    number: int
    place: tuple[int, int]
    node: bytes
    digest: bytes
    previous: bytes | None
    prior: bytes | None
    after: bytes | None
    high_water: bytes
    counters: bytes


@dataclass(slots=True)
class Checked:
    """What checking some rows came to.

    Attributes:
        rows: How many were checked.
        granted: How many of them are decisions that grant.
        differences: Everything found.
        leaves: Leaves of the ledger that were accounted for, by shard.
        links: The decisions among them, in order.
        enrolled: Node and digest of the enrolment records among them.
    """

    rows: int = 0
    granted: int = 0
    differences: list[Difference] = field(default_factory=list)
    leaves: dict[int, int] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    enrolled: list[tuple[bytes, bytes]] = field(default_factory=list)

    def say(self, where: str, findings: Sequence[Finding]) -> None:
        """Add what was found in a row."""
        self.differences += [Difference(where, finding) for finding in findings]

    def account(self, shard: int, leaves: int) -> None:
        """Count leaves that belong to a row."""
        self.leaves[shard] = self.leaves.get(shard, 0) + leaves
