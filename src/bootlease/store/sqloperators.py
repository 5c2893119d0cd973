"""``OperatorStore`` on SQL: what an operator does with credentials, proposals and nodes."""

from __future__ import annotations

from collections.abc import Sequence

from bootlease.lineage import HighWaterMark
from bootlease.ports import (
    Approval,
    CredentialRevocation,
    EnrolledNode,
    Proposal,
    RuleChange,
)
from bootlease.store import credentials, operators, proposals
from bootlease.store.aside import Aside
from bootlease.store.writer import Writer


class SQLOperators:
    """Implements ``bootlease.ports.OperatorStore``; see there for what each method promises.

    Args:
        reader: Reads on a thread of its own.
        writer: Commits.
    """

    def __init__(self, reader: Aside, writer: Writer) -> None:
        self._reader = reader
        self._writer = writer

    async def revoke_credential(
        self, digest: bytes, *, now: int, author: str
    ) -> CredentialRevocation:
        """See ``OperatorStore``."""
        return await self._writer.submit_recorded(
            now,
            lambda db, to: credentials.revoke_credential(db, to, digest, now=now, author=author),
        )

    async def two_person(self) -> bool:
        """See ``OperatorStore``."""
        return await self._reader.read(credentials.two_person)

    async def set_two_person(self, *, demanded: bool, now: int, author: str) -> RuleChange:
        """See ``OperatorStore``."""
        return await self._writer.submit_recorded(
            now,
            lambda db, to: credentials.set_two_person(
                db, to, demanded=demanded, now=now, author=author
            ),
        )

    async def propose(self, proposal: Proposal) -> Proposal:
        """See ``OperatorStore``."""
        return await self._writer.submit_recorded(
            proposal.proposed_at, lambda db, to: proposals.propose(db, to, proposal)
        )

    async def proposal(self, digest: bytes, *, now: int) -> Proposal | None:
        """See ``OperatorStore``."""
        return await self._reader.read(proposals.proposal, digest, now=now)

    async def proposals(self, *, now: int) -> Sequence[Proposal]:
        """See ``OperatorStore``."""
        return await self._reader.read(proposals.proposals_of, now=now)

    async def approve(self, digest: bytes, approver: bytes, *, now: int, author: str) -> Approval:
        """See ``OperatorStore``."""
        return await self._writer.submit_recorded(
            now,
            lambda db, to: proposals.approve(db, to, digest, approver, now=now, author=author),
        )

    async def label(
        self, node: bytes, labels: Sequence[str], *, now: int, author: str
    ) -> EnrolledNode | None:
        """See ``OperatorStore``."""
        return await self._writer.submit_recorded(
            now, lambda db, to: operators.label(db, to, node, labels, now=now, author=author)
        )

    async def readmit(
        self, node: bytes, reason: str, *, now: int, author: str
    ) -> HighWaterMark | None:
        """See ``OperatorStore``."""
        return await self._writer.submit_recorded(
            now, lambda db, to: operators.readmit(db, to, node, reason, now=now, author=author)
        )

    async def replace(
        self, old: bytes, new: bytes, *, now: int, author: str
    ) -> EnrolledNode | None:
        """See ``OperatorStore``."""
        return await self._writer.submit_recorded(
            now, lambda db, to: operators.replace_node(db, to, old, new, now=now, author=author)
        )

    async def replaced_by(self, node: bytes) -> Sequence[bytes]:
        """See ``OperatorStore``."""
        return await self._reader.read(operators.replaced_by, node)
