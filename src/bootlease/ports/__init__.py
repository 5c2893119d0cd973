"""What the decisions need from the outside world, as Protocols that shells implement."""

from bootlease.ports.device import BoundKey, Clock, QuotedState, TPMDevice
from bootlease.ports.ledger import LedgerReader, Sealer, Shard
from bootlease.ports.store import Store
from bootlease.ports.values import (
    Activated,
    CommitOutcome,
    Committed,
    DecisionCommit,
    EnrolledNode,
    InForce,
    PendingEnrolment,
    Standing,
    StoreBusyError,
    StoredAnswer,
    StoredChallenge,
    StoredCredential,
    StoredDecision,
    StoredLineage,
    StoredPolicy,
    StoredReference,
    StoreUnavailableError,
)

__all__ = [
    "Activated",
    "BoundKey",
    "Clock",
    "CommitOutcome",
    "Committed",
    "DecisionCommit",
    "EnrolledNode",
    "InForce",
    "LedgerReader",
    "PendingEnrolment",
    "QuotedState",
    "Sealer",
    "Shard",
    "Standing",
    "Store",
    "StoreBusyError",
    "StoreUnavailableError",
    "StoredAnswer",
    "StoredChallenge",
    "StoredCredential",
    "StoredDecision",
    "StoredLineage",
    "StoredPolicy",
    "StoredReference",
    "TPMDevice",
]
