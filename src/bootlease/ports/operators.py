"""Who acts as an operator, and what waits for a second person: as values."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bootlease.lineage import HighWaterMark
from bootlease.ports.values import EnrolledNode


class Role(enum.Enum):
    """What an admin credential is for; ``verifier.operators.roles`` says who may what."""

    OPERATOR = "operator"
    POLICY_AUTHOR = "policy-author"
    AUDITOR = "auditor"
    ENROLLER = "enroller"
    RELYING_PARTY = "relying-party"


@dataclass(frozen=True, slots=True)
class StoredCredential:
    """An admin credential.

    Attributes:
        digest: SHA-256 of the credential.
        label: Whose it is: the author of what is done with it.
        roles: What it is for; without any it is good for nothing.
        created_at: Seconds since the epoch.
        maker: Digest of the credential whose holder made it and so saw it; None where somebody at
            the verifier's machine did.
        joint: Two persons made it, because the two-person rule demanded that.
        revoked_at: Since when it counts for nothing, or None.
    """

    digest: bytes
    label: str
    roles: tuple[Role, ...] = ()
    created_at: int = 0
    maker: bytes | None = None
    joint: bool = False
    revoked_at: int | None = None


class CredentialRevocation(enum.Enum):
    """What became of an admin credential that was to be revoked."""

    REVOKED = "revoked"
    UNKNOWN = "unknown"
    LAST_OPERATOR = "last-operator"
    LAST_PAIR = "last-pair"


class RuleChange(enum.Enum):
    """What became of the two-person rule that was to be switched."""

    CHANGED = "changed"
    SAME = "same"
    NO_PAIR = "no-pair"


class Act(enum.Enum):
    """What the two-person rule holds back: new grounds to accept somebody, and the rule itself.

    Not acts on one node, the end of its revocation among them (docs/operators.md).
    """

    POLICY = "policy"
    REFERENCE = "reference"
    ROOT = "root"
    CREDENTIAL = "credential"
    RULE = "two-person"
    LIFT = "lift"
    """The end of a revocation of a reference set or a family."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one person proposed under the two-person rule.

    Attributes:
        digest: Names it: SHA-256 of act, document and options, so that whoever approves it means
            these bytes.
        act: What is to be done.
        document: With what, byte for byte.
        options: How, by name.
        proposer: Digest of the credential that proposed it.
        author: How the ledger names its holder.
        epoch: Policy epoch that it was proposed in.
        proposed_at: Seconds since the epoch.
        expires_at: First second at which it counts for nothing.
    """

    digest: bytes
    act: Act
    document: bytes
    options: Mapping[str, str]
    proposer: bytes
    author: str
    epoch: int
    proposed_at: int
    expires_at: int


class Approval(enum.Enum):
    """What became of an approval."""

    APPROVED = "approved"
    UNKNOWN = "unknown"
    SAME_PERSON = "same-person"
    OUTDATED = "outdated"


class OperatorStore(Protocol):
    """What an operator does with credentials, proposals and nodes.

    As with ``Store``: a write is durable when its call returns, and leaves a governance record.
    """

    async def revoke_credential(
        self, digest: bytes, *, now: int, author: str
    ) -> CredentialRevocation:
        """Let a credential count for nothing.

        Nothing is done where no operator would be left, or, under the two-person rule, no two
        operators who are two persons.
        """

    async def two_person(self) -> bool:
        """Tell whether the two-person rule holds."""

    async def set_two_person(self, *, demanded: bool, now: int, author: str) -> RuleChange:
        """Switch the two-person rule; on only where two operators are two persons."""

    async def propose(self, proposal: Proposal) -> Proposal:
        """Keep a proposal; return it, or the one of this content that waits already.

        ``StoreBusyError`` where as many wait as may.
        """

    async def proposal(self, digest: bytes, *, now: int) -> Proposal | None:
        """Return a proposal that waits."""

    async def proposals(self, *, now: int) -> Sequence[Proposal]:
        """Return the proposals that wait, the oldest first."""

    async def approve(self, digest: bytes, approver: bytes, *, now: int, author: str) -> Approval:
        """Take a proposal out, where the approver is another person than the proposer.

        ``OUTDATED``: it is a policy, and another one was activated since.
        """

    async def label(
        self, node: bytes, labels: Sequence[str], *, now: int, author: str
    ) -> EnrolledNode | None:
        """Give a node these labels and no others, which ends its lineage.

        Returns the node as it is then; None where it is not enrolled.
        """

    async def readmit(
        self, node: bytes, reason: str, *, now: int, author: str
    ) -> HighWaterMark | None:
        """Forget how far a node's TPM has counted, end its lineage, lift its revocation.

        Returns how far it had; None where it is not enrolled.
        """

    async def replace(
        self, old: bytes, new: bytes, *, now: int, author: str
    ) -> EnrolledNode | None:
        """Let a node take the labels and the place of another, which is revoked.

        Returns the new one as it is then; None where one of them is not enrolled.
        """

    async def replaced_by(self, node: bytes) -> Sequence[bytes]:
        """Return the nodes whose place a node took by enrolling with a join token."""
