"""Trying a policy on a whole fleet, in parallel processes, and putting together what it means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from bootlease.audit.simulate import Change, ScopeChange, Simulated, Simulator
from bootlease.cli.processes import perform
from bootlease.errors import VerificationError
from bootlease.ledger import DecisionRecord
from bootlease.model import Finding
from bootlease.policy import parse_policy
from bootlease.reference import AnyReference, parse_any_reference
from bootlease.store import auditrows, registry
from bootlease.store.auditreader import AuditReader, audit_reader
from bootlease.store.revocations import revocations_of
from bootlease.verifier.continuity.revoked import Revoked

_AT_ONCE: Final = 100
"""Nodes that one process tries before it tells of them."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What every process is told.

    Attributes:
        path: The database.
        candidate: The policy to try, as a file.
        references: Reference sets that would be registered with it, as files.
    """

    path: Path
    candidate: bytes
    references: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Outcome:
    """What a candidate would mean for a fleet.

    Attributes:
        nodes: How many were tried.
        undecided: How many were never decided about, so that nothing is known of them.
        revoked: How many are revoked, and get nothing by any policy.
        groups: Nodes by what happens to them alike.
        untold: Nodes of which nothing can be told, by the reason.
        affected: Nodes that lose what they asked for, and that gain it.
    """

    nodes: int = 0
    undecided: int = 0
    revoked: int = 0
    groups: dict[ScopeChange, list[bytes]] = field(default_factory=dict)
    untold: dict[str, list[bytes]] = field(default_factory=dict)
    affected: Counter[str] = field(default_factory=Counter)

    @property
    def losing(self) -> int:
        """Nodes that would lose a scope that they asked for."""
        return self.affected["loses"]

    @property
    def gaining(self) -> int:
        """Nodes that would gain a scope that they asked for."""
        return self.affected["gains"]

    def add(self, simulated: Simulated | None) -> None:
        """Take in one node; None for one that is revoked."""
        if simulated is None:
            self.revoked += 1
            return
        self.nodes += 1
        if simulated.untold is not None:
            self.untold.setdefault(simulated.untold, []).append(simulated.node)
        for each in simulated.changes:
            self.groups.setdefault(each, []).append(simulated.node)
        self.affected.update({each.change.value for each in simulated.changes if each.asked})

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "nodes": self.nodes,
            "undecided": self.undecided,
            "revoked": self.revoked,
            "losing": self.losing,
            "gaining": self.gaining,
            "changes": [
                {
                    "change": each.change.value,
                    "scope": each.scope,
                    "audience": each.audience,
                    "asked": each.asked,
                    "reasons": list(each.reasons),
                    "nodes": [node.hex() for node in nodes],
                }
                for each, nodes in self.ordered()
            ],
            "untold": [
                {"reason": reason, "nodes": [node.hex() for node in nodes]}
                for reason, nodes in sorted(self.untold.items())
            ],
        }

    def ordered(self) -> list[tuple[ScopeChange, list[bytes]]]:
        """Return the groups: losses first, what was asked for first, the largest first."""
        return sorted(
            self.groups.items(),
            key=lambda item: (
                item[0].change is not Change.LOSES,
                not item[0].asked,
                -len(item[1]),
                (item[0].scope, item[0].audience, item[0].reasons),
            ),
        )


def run(ground: Ground, workers: int, progress: Callable[[int, int], None]) -> Outcome:
    """Try a candidate on every node.

    Args:
        ground: Where, and what.
        workers: Processes.
        progress: Told the nodes that have been tried, and all of them.

    Raises:
        StoreUnavailableError: There is no database, or it cannot be read.
    """
    outcome = Outcome()
    with audit_reader(ground.path) as reader, reader.snapshot():
        digests: list[bytes] = []
        for row in auditrows.node_rows(reader.db):
            if row.decision is None:
                outcome.undecided += 1
            else:
                digests.append(row.decision)
    coming = iter(digests)
    tasks = list(iter(lambda: tuple(islice(coming, _AT_ONCE)), ()))
    # A process takes seconds to start: no more of them than there is work for.
    for simulated in perform(_employed, ground, tasks, max(1, min(workers, len(tasks)))):
        for each in simulated:
            outcome.add(each)
        progress(outcome.nodes + outcome.revoked, len(digests))
    return outcome


@contextmanager
def _employed(ground: Ground) -> Iterator[Callable[[Sequence[bytes]], list[Simulated | None]]]:
    with audit_reader(ground.path) as reader:
        revoked = Revoked.of(revocations_of(reader.db))
        simulator = Simulator(
            reader, parse_policy(ground.candidate), _references(reader, ground, revoked)
        )

        def work(task: Sequence[bytes]) -> list[Simulated | None]:
            return list(_simulated(reader, simulator, revoked, task))

        yield work


def _simulated(
    reader: AuditReader, simulator: Simulator, revoked: Revoked, task: Sequence[bytes]
) -> Iterator[Simulated | None]:
    for digest in task:
        recorded = reader.decision(digest)
        if recorded is None:
            raise VerificationError(
                Finding("decision.unknown", "A node's last decision is gone.", seen=digest.hex())
            )
        record = DecisionRecord.parse(recorded.record)
        enrolment = reader.enrolment(record.enrolment)
        if enrolment is not None and revoked.finding(enrolment) is not None:
            yield None
        else:
            yield simulator.simulate(record)


def _references(reader: AuditReader, ground: Ground, revoked: Revoked) -> list[AnyReference]:
    policy = parse_policy(ground.candidate)
    accepted = {*policy.accept, *policy.ima.accept}
    # The newest first, as a verifier compares them.
    registered = [
        each.document
        for each in reversed(registry.references(reader.db))
        if each.name in accepted and each.digest not in revoked.references
    ]
    return [parse_any_reference(each) for each in (*ground.references, *registered)]
