"""What checking a whole database is cut into: ranges of rows, each one process's work.

The rows are append-only, so what is newer than the plan is left for the next time.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bootlease.store import auditrows
from bootlease.store.auditreader import AuditReader

_DECISIONS_AT_ONCE: Final = 250
_CHECKPOINTS_AT_ONCE: Final = 1000
_SLICES: Final = 32
"""Parts that rows named by a digest are cut into."""
_END: Final = b"\xff" * 33


class Kind(enum.StrEnum):
    """What is checked."""

    INTEGRITY = "integrity"
    TREE = "tree"
    DECISIONS = "decisions"
    GOVERNANCE = "governance"
    DELEGATIONS = "delegations"
    CHECKPOINTS = "checkpoints"
    ENROLMENTS = "enrolments"
    LOGS = "logs"
    REGISTRY = "registry"


@dataclass(frozen=True, slots=True)
class Task:
    """Some rows to check.

    Attributes:
        kind: What rows.
        weight: Its share of the work.
        first: Where the rows begin.
        last: Where they end, included.
        shard: Of which tree.
    """

    kind: Kind
    weight: int
    first: int = 0
    last: int = 0
    shard: int = 0

    @property
    def digests(self) -> tuple[bytes, bytes]:
        """Where rows that a digest names begin and end, for a task whose ``first`` is a slice."""
        width = 256 // _SLICES
        last = _END if self.first == _SLICES - 1 else bytes([(self.first + 1) * width])
        return bytes([self.first * width]) if self.first else b"", last


def plan(reader: AuditReader) -> list[Task]:
    """Return the tasks that check everything there is now."""
    sizes = auditrows.sizes(reader.db)
    tasks = [Task(Kind.INTEGRITY, 1 + sum(sizes.values()) // 32)]
    tasks += [Task(Kind.TREE, 1 + size // 32, 0, size, shard) for shard, size in sizes.items()]
    tasks += _ranges(Kind.DECISIONS, auditrows.count_decisions(reader.db), _DECISIONS_AT_ONCE)
    tasks += _ranges(Kind.GOVERNANCE, auditrows.count_governance(reader.db), _DECISIONS_AT_ONCE)
    tasks += _ranges(Kind.DELEGATIONS, auditrows.count_delegations(reader.db), _DECISIONS_AT_ONCE)
    for shard, size in sizes.items():
        tasks += _ranges(Kind.CHECKPOINTS, size, _CHECKPOINTS_AT_ONCE, shard)
    for kind in (Kind.ENROLMENTS, Kind.LOGS):
        tasks += [Task(kind, 10, number) for number in range(_SLICES)]
    return [*tasks, Task(Kind.REGISTRY, 10)]


def _ranges(kind: Kind, count: int, step: int, shard: int = 0) -> Iterator[Task]:
    for first in range(1, count + 1, step):
        last = min(count, first + step - 1)
        yield Task(kind, last - first + 1, first, last, shard)
