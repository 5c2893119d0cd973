"""Checking a whole database in parallel processes: who performs which task.

Tasks are ranges of rows. Each is checked by one process that knows nothing of the others; what they
find is put together in the order of the tasks, so that neither their number nor their speed shows.
The rows are append-only, so a verifier may go on writing: what is newer than the start is left for
the next time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from bootlease.audit import Replayer
from bootlease.audit.rows import Checked, Difference
from bootlease.audit.storeddecisions import Chains, check_decisions
from bootlease.audit.storeddelegations import DelegationCheck
from bootlease.audit.storedledger import (
    TreeCheck,
    check_checkpoint,
    check_cosignature,
    check_governance,
    check_prunings,
    check_shards,
    check_tile,
)
from bootlease.audit.storedregistry import (
    check_blobs,
    check_credentials,
    check_enrolments,
    check_join_tokens,
    check_policies,
    check_references,
    check_roots,
    check_rule,
)
from bootlease.audit.storedrevocations import check_revocations
from bootlease.cli.ledger_tasks import Kind, Task, plan
from bootlease.cli.processes import perform
from bootlease.ledger import NoteKey
from bootlease.ledger.tiles import TILE_WIDTH
from bootlease.model import Finding
from bootlease.store import auditoperators, auditrows, ledgerreads
from bootlease.store.auditreader import AuditReader, audit_reader
from bootlease.token import KeySet
from bootlease.verifier.code import code_identity

_LEAVES_AT_ONCE: Final = 4096
_NO_IMPORT: Final = Finding(
    "stored.database.imported", "A verifier's own database is marked as made of an export."
)


@dataclass(frozen=True, slots=True)
class Ground:
    """What every process is told.

    Attributes:
        path: The database.
        ledger: The key that signs the ledger.
        witnesses: Keys of witnesses.
        tokens: The keys that sign tokens, as a COSE key set, for keys do not pass between
            processes; ``None`` where they are not known.
        live: In a verifier's own folder, with keys, where no mark of an import counts.
    """

    path: Path
    ledger: NoteKey
    witnesses: tuple[NoteKey, ...] = ()
    tokens: bytes | None = None
    live: bool = True


@dataclass(slots=True)
class Outcome:
    """What checking a database came to.

    Attributes:
        decisions: How many were made again.
        granted: How many of them grant; the others refuse.
        rows: How many rows were checked in all.
        differences: Everything found, notes included, in the order of the tasks.
    """

    decisions: int = 0
    granted: int = 0
    rows: int = 0
    differences: list[Difference] = field(default_factory=list)


class Worker:
    """Performs tasks; one for each process.

    Args:
        reader: The database.
        ground: What it is told.
    """

    def __init__(self, reader: AuditReader, ground: Ground) -> None:
        self._reader = reader
        self._db = reader.db
        self._ground = ground
        self._replayer = Replayer(reader, code_identity())
        self._tokens = None if ground.tokens is None else KeySet.from_cose(ground.tokens)

    @cached_property
    def _origins(self) -> dict[int, str]:
        return {row.number: row.origin for row in auditrows.shard_rows(self._db)}

    def perform(self, task: Task) -> Checked:
        """Check the rows of a task."""
        try:
            checked = _CHECKS[task.kind](self, task)
        except sqlite3.Error as exc:
            # A file whose pages were altered cannot be read everywhere; the rest still is checked.
            checked = Checked()
            unreadable = Finding("stored.database.unreadable", f"The database says: {exc}.")
            checked.say(f"{task.kind} {task.first} to {task.last}", [unreadable])
        return checked

    def decisions(self, task: Task) -> Checked:
        """Make decisions again."""
        rows = auditrows.decision_rows(self._db, task.first, task.last)
        leaves = auditrows.leaves_of(self._db, rows)
        return check_decisions(rows, leaves, self._replayer, self._tokens)

    def governance(self, task: Task) -> Checked:
        """Check governance records."""
        before = auditrows.governance_rows(self._db, task.first - 1, task.first - 1)
        rows = auditrows.governance_rows(self._db, task.first, task.last)
        leaves = auditrows.leaves_at(self._db, rows)
        previous = before[0].digest if before else None
        return check_governance(rows, leaves, first=task.first, previous=previous)

    def delegations(self, task: Task) -> Checked:
        """Make delegated leases again."""
        rows = auditrows.delegation_rows(self._db, task.first, task.last)
        leaves = auditrows.leaves_at(self._db, rows)
        return self._delegations.check(rows, leaves, first=task.first)

    @cached_property
    def _delegations(self) -> DelegationCheck:
        return DelegationCheck(
            self._reader,
            self._replayer,
            decision=self._decision,
            claims=lambda lease_id: auditrows.delegated_claims(self._db, lease_id),
            tokens=self._tokens,
        )

    def _decision(self, digest: bytes) -> tuple[bytes, tuple[bytes, ...]] | None:
        recorded = self._reader.decision(digest)
        return None if recorded is None else (recorded.record, tuple(recorded.claims))

    def tree(self, task: Task) -> Checked:
        """Grow a tree from its entries; compare it with its checkpoints and tiles."""
        db, shard, size = self._db, task.shard, task.last
        checked = Checked(rows=size)
        tree = TreeCheck()
        for signed, root in auditrows.signed_roots(db, shard, size):
            while tree.size < signed:
                last = min(signed, tree.size + _LEAVES_AT_ONCE) - 1
                rows = auditrows.leaves_between(db, shard, tree.size, last)
                if [position for position, _ in rows] != list(range(tree.size, last + 1)):
                    missing = Finding("stored.entry.missing", "The ledger has gaps.")
                    checked.say(f"shard {self._origins.get(shard, shard)}", [missing])
                    return checked
                tree.grow([leaf for _, leaf in rows])
                for level, number, hashes, tile_root in tree.take_tiles():
                    stored = auditrows.stored_tile(db, shard, level, number)
                    where = f"tile {level}/{number} of {self._origins.get(shard, shard)}"
                    checked.say(where, list(check_tile(stored, hashes, tile_root)))
            where = f"checkpoint {signed} of {self._origins.get(shard, shard)}"
            checked.say(where, list(tree.check(signed, root)))
        if tree.size != size:
            gap = Finding("stored.entry.missing", "Entries are behind the last checkpoint.")
            checked.say(f"shard {self._origins.get(shard, shard)}", [gap])
        return checked

    def checkpoints(self, task: Task) -> Checked:
        """Check the signatures of checkpoints."""
        checked = Checked()
        origin = self._origins.get(task.shard, "")
        key, witnesses = self._ground.ledger, self._ground.witnesses
        for row in auditrows.checkpoint_rows(self._db, task.shard, task.first, task.last):
            checked.rows += 1
            where = f"checkpoint {row.size} of {origin}"
            checked.say(where, list(check_checkpoint(row, origin, key, witnesses)))
        return checked

    def enrolments(self, task: Task) -> Checked:
        """Check enrolment records."""
        rows = list(auditrows.enrolment_rows(self._db, *task.digests))
        about = {row.digest: ledgerreads.governance_about(self._db, row.digest) for row in rows}
        roots = {row.digest: row.certificate for row in auditrows.root_rows(self._db)}
        return check_enrolments(rows, about, roots)

    def logs(self, task: Task) -> Checked:
        """Check logs."""
        return check_blobs(auditrows.blob_rows(self._db, *task.digests))

    def integrity(self, task: Task) -> Checked:
        """Let the engine compare its own structures: pages, order of keys, indexes with tables."""
        del task
        checked = Checked()
        said = auditrows.integrity(self._db)
        if said != "ok":
            broken = Finding("stored.database.unreadable", f"The database says: {said}.")
            checked.say("database", [broken])
        return checked

    def registry(self, task: Task) -> Checked:
        """Check what there is little of."""
        del task
        db, ground = self._db, self._ground
        policies, references = auditrows.policy_rows(db), auditrows.reference_rows(db)
        roots, shards = auditrows.root_rows(db), auditrows.shard_rows(db)
        credentials, tokens = auditrows.credential_rows(db), auditrows.join_token_rows(db)
        recorded = (policies, references, roots, credentials, tokens)
        named = {row.digest for rows in recorded for row in rows}
        about = {digest: ledgerreads.governance_about(db, digest) for digest in named}
        parts = [
            check_policies(policies, about),
            check_references(references, about),
            check_roots(roots, about),
            check_credentials(credentials, about),
            check_join_tokens(tokens, about),
            check_revocations(auditrows.revocation_rows(db), auditrows.revocation_records(db)),
            self._rule(),
            check_shards(
                shards,
                {row.number: ledgerreads.opening(db, row.number) for row in shards},
                {row.number: auditrows.final_note(db, row.number) for row in shards},
                ground.ledger.name,
            ),
            self._prunings(),
            self._cosignatures(),
        ]
        stray = Finding("stored.row.stray", "It belongs to no decision.")
        for table, number in auditrows.strays(db):
            parts[0].say(f"{table} {number}", [stray])
        return _together(parts)

    def _rule(self) -> Checked:
        # Settings are not exported.
        if auditrows.imported(self._db):
            return Checked()
        demanded, last = auditoperators.two_person(self._db)
        return check_rule(demanded=demanded, last=last)

    def _prunings(self) -> Checked:
        rows = auditrows.pruning_rows(self._db)
        records = {row.record: ledgerreads.governance_record(self._db, row.record) for row in rows}
        return check_prunings(rows, records)

    def _cosignatures(self) -> Checked:
        checked = Checked()
        for row in auditrows.cosignature_rows(self._db):
            checked.rows += 1
            origin = self._origins.get(row.shard, "")
            under = list(auditrows.checkpoint_rows(self._db, row.shard, row.size, row.size))
            found = check_cosignature(
                row, under[0] if under else None, origin, self._ground.witnesses
            )
            checked.say(f"cosignature of {row.name} under {row.size} of {origin}", list(found))
        return checked


_CHECKS: Final[dict[Kind, Callable[[Worker, Task], Checked]]] = {
    Kind.INTEGRITY: Worker.integrity,
    Kind.TREE: Worker.tree,
    Kind.DECISIONS: Worker.decisions,
    Kind.GOVERNANCE: Worker.governance,
    Kind.DELEGATIONS: Worker.delegations,
    Kind.CHECKPOINTS: Worker.checkpoints,
    Kind.ENROLMENTS: Worker.enrolments,
    Kind.LOGS: Worker.logs,
    Kind.REGISTRY: Worker.registry,
}


def _together(parts: Iterable[Checked]) -> Checked:
    whole = Checked()
    for part in parts:
        whole.rows += part.rows
        whole.differences += part.differences
    return whole


def check_ledger(ground: Ground, workers: int, progress: Callable[[int, int], None]) -> Outcome:
    """Make every decision again and check every row of the ledger.

    Args:
        ground: Where and with which keys.
        workers: Processes.
        progress: Told the work that has been done, and all of it.

    Raises:
        StoreUnavailableError: There is no database, or it cannot be read.
    """
    with audit_reader(ground.path) as reader, reader.snapshot():
        tasks = plan(reader)
        chains = Chains(auditoperators.readmissions(reader.db))
        outcome, leaves = Outcome(), dict[int, int]()
        enrolled = set[tuple[bytes, bytes]]()
        total, done = sum(task.weight for task in tasks), 0
        for task, checked in zip(tasks, perform(_employed, ground, tasks, workers), strict=True):
            outcome.rows += checked.rows
            outcome.decisions += checked.rows if task.kind is Kind.DECISIONS else 0
            outcome.granted += checked.granted
            outcome.differences += checked.differences
            outcome.differences += chains.follow(checked.links)
            enrolled.update(checked.enrolled)
            for shard, count in checked.leaves.items():
                leaves[shard] = leaves.get(shard, 0) + count
            done += task.weight
            progress(done, total)
        # An export has no nodes; that a verifier's own are gone, no mark may hide.
        imported = auditrows.imported(reader.db)
        if imported and ground.live:
            outcome.differences.append(Difference("database", _NO_IMPORT))
        nodes, demanded = auditrows.node_rows(reader.db), ground.live or not imported
        outcome.differences += chains.end(nodes, enrolled, demanded=demanded)
        outcome.differences += _unaccounted(reader, leaves)
    return outcome


def tile_count(size: int) -> int:
    """Return how many full tiles a tree of some size has."""
    count = 0
    while size := size // TILE_WIDTH:
        count += size
    return count


def _unaccounted(reader: AuditReader, leaves: dict[int, int]) -> Iterator[Difference]:
    """Tell of entries that no record stands behind."""
    for shard, size in auditrows.sizes(reader.db).items():
        counts = size, auditrows.count_entries(reader.db, shard), leaves.get(shard, 0)
        if len(set(counts)) != 1:
            yield Difference(
                f"shard {shard}",
                Finding(
                    "stored.entry.unaccounted",
                    "The ledger has more entries, or fewer, than records stand behind.",
                    expected=f"{size} sealed",
                    seen=f"{counts[1]} stored, {counts[2]} accounted for",
                ),
            )
        if tile_count(size) != auditrows.count_tiles(reader.db, shard):
            stray = Finding("stored.tile.stray", "There are other tiles than the entries make.")
            yield Difference(f"shard {shard}", stray)


@contextmanager
def _employed(ground: Ground) -> Iterator[Callable[[Task], Checked]]:
    with audit_reader(ground.path) as reader:
        yield Worker(reader, ground).perform
