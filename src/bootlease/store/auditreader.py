"""Reading the database as an auditor: the inputs of decisions, the pieces of proofs.

Nothing is written, and no verifier need run, nor be kept from running: in WAL mode a reader waits
for nobody. Implements ``bootlease.audit.ProofSource``; ``auditrows`` reads rows in ranges.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import bindparam, func, select

from bootlease import cbor
from bootlease.audit import LeaseToken, build_proof
from bootlease.audit.build import Position, Recorded
from bootlease.endorsement import Enrolment, TrustedRoots
from bootlease.errors import MalformedError
from bootlease.evidence.enrolment import MAX_ENROLMENT
from bootlease.ledger import (
    DecisionRecord,
    GovernanceRecord,
    NoteKey,
    Receipt,
    parse_signed_checkpoint,
)
from bootlease.ledger.governance import RECORDS_ENROLMENT
from bootlease.ledger.prooffile import ProofFile
from bootlease.policy import Policy, parse_policy
from bootlease.ports import StoreUnavailableError
from bootlease.reference import AnyReference, parse_any_reference
from bootlease.store import decisions as decided
from bootlease.store import ledgerreads, registry
from bootlease.store.connection import Connection
from bootlease.store.database import Database
from bootlease.store.tables import decisions, enrolment_records, prunings, token_signatures

_ENROLMENT: Final = select(enrolment_records.c.document).where(
    enrolment_records.c.digest == bindparam("record")
)
_CHAIN: Final = select(enrolment_records.c.ek_chain).where(
    enrolment_records.c.digest == bindparam("record")
)
_OF_LEASE: Final = (
    select(decisions.c.digest, decisions.c.record)
    .where(func.instr(decisions.c.record, bindparam("lease")) > 0)
    .order_by(decisions.c.number.desc())
)
_SIGNATURES: Final = (
    select(token_signatures.c.signatures)
    .join_from(token_signatures, decisions, decisions.c.number == token_signatures.c.number)
    .where(decisions.c.digest == bindparam("record"))
)
_PRUNED: Final = select(func.coalesce(func.max(prunings.c.before), 0))


class AuditReader:
    """A verifier's database, read only.

    Args:
        db: A reading connection of its own.
    """

    def __init__(self, db: Connection) -> None:
        self.db: Final = db
        self._pruned_before = 0

    def close(self) -> None:
        """Close the connection."""
        self.db.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read one state of the database, whatever is written meanwhile."""
        with self.db.snapshot():
            yield

    # -- DecisionInputs

    def evidence(self, digest: bytes) -> bytes | None:
        """See ``DecisionInputs``."""
        return decided.evidence_document(self.db, digest)

    def log(self, digest: bytes) -> bytes | None:
        """See ``DecisionInputs``."""
        try:
            return decided.blob(self.db, digest)
        except zlib.error as exc:
            raise MalformedError(f"a log cannot be unpacked: {exc}") from exc

    def enrolment(self, digest: bytes) -> Enrolment | None:
        """See ``DecisionInputs``."""
        row = self.db.one(_ENROLMENT, {"record": digest})
        return None if row is None else Enrolment.parse(row[0])

    def roots(self, digest: bytes) -> TrustedRoots | None:
        """See ``DecisionInputs``."""
        ders = registry.root_set(self.db, digest)
        return None if ders is None else TrustedRoots.of(ders)

    def reference(self, digest: bytes) -> AnyReference | None:
        """See ``DecisionInputs``."""
        stored = registry.reference(self.db, digest)
        return None if stored is None else parse_any_reference(stored.document)

    def policy(self, digest: bytes, epoch: int) -> Policy | None:
        """See ``DecisionInputs``."""
        del digest
        stored = registry.policy_of(self.db, epoch)
        return None if stored is None else parse_policy(stored.document)

    def pruned(self, time: int) -> bool:
        """See ``DecisionInputs``."""
        if time >= self._pruned_before:
            # Evidence goes after its pruning is on record: whoever misses it looks again.
            row = self.db.one(_PRUNED)
            self._pruned_before = 0 if row is None else int(row[0])
        return time < self._pruned_before

    # -- ProofSource

    def decision(self, digest: bytes) -> Recorded | None:
        """See ``ProofSource``."""
        stored = decided.decision(self.db, digest)
        if stored is None:
            return None
        row = self.db.one(_SIGNATURES, {"record": digest})
        return Recorded(stored.record, stored.claims, None if row is None else row[0])

    def position(self, record: bytes) -> Position | None:
        """See ``ProofSource``."""
        place = ledgerreads.position(self.db, record)
        return None if place is None else Position(place[0], place[1])

    def checkpoint(self, shard: int, *, holding: int | None) -> bytes | None:
        """See ``ProofSource``."""
        if holding is not None:
            cosigned = ledgerreads.cosigned_checkpoint(self.db, shard)
            if cosigned is not None:
                size = parse_signed_checkpoint(cosigned).checkpoint.size
                if holding < size:
                    return cosigned
        return ledgerreads.checkpoint(self.db, shard)

    def inclusion(self, shard: int, index: int, size: int) -> Sequence[bytes] | None:
        """See ``ProofSource``."""
        return ledgerreads.inclusion(self.db, shard, index, size)

    def receipt(self, shard: int, index: int) -> Receipt | None:
        """See ``ProofSource``."""
        return ledgerreads.receipt(self.db, shard, index)

    def opening(self, shard: int) -> bytes | None:
        """See ``ProofSource``."""
        return ledgerreads.opening(self.db, shard)

    def ek_chain(self, enrolment: bytes) -> Sequence[bytes]:
        """See ``ProofSource``."""
        row = self.db.one(_CHAIN, {"record": enrolment})
        chain: list[bytes] = [] if row is None else cbor.decode(row[0], max_bytes=MAX_ENROLMENT)
        return chain

    def enrolled_by(self, enrolment: bytes) -> bytes | None:
        """See ``ProofSource``."""
        for record in ledgerreads.governance_about(self.db, enrolment):
            if GovernanceRecord.parse(record).kind in RECORDS_ENROLMENT:
                return record
        return None

    # -- finding a decision

    def latest_of(self, node: bytes) -> bytes | None:
        """Return the digest of the last decision about a node; None for one that is not here."""
        return decided.lineage(self.db, node).decision

    def decision_of(self, lease_id: bytes) -> bytes | None:
        """Return the digest of the decision that granted a lease; looks through every record."""
        for digest, record in self.db.stream(_OF_LEASE, {"lease": lease_id}):
            leases = DecisionRecord.parse(record).leases
            if any(lease.lease_id == lease_id for lease in leases):
                found: bytes = digest
                return found
        return None


def lease_proof(
    reader: AuditReader,
    lease_id: bytes,
    *,
    decision: bytes | None = None,
    token: LeaseToken | None = None,
    witnesses: Sequence[NoteKey] = (),
) -> ProofFile | None:
    """Gather the proof of a lease, with its token.

    Args:
        reader: The database.
        lease_id: 16 bytes.
        decision: Digest of its decision, where that is known.
        token: The token to put in, instead of the one that was given.
        witnesses: Keys of witnesses whose cosignatures are to stay in.

    Returns:
        The proof, unverified; None where no decision granted the lease.

    Raises:
        VerificationError: A piece is missing or wrong.
        MalformedError: A piece does not parse.
    """
    with reader.snapshot():
        found = decision or reader.decision_of(lease_id)
        if found is None or reader.decision(found) is None:
            return None
        return build_proof(found, lease_id, reader, token=token, witnesses=witnesses)


def open_reader(path: Path) -> AuditReader:
    """Open a database to read.

    Raises:
        StoreUnavailableError: There is none, or it is of another version.
    """
    database = Database(path)
    database.demand_current()
    return AuditReader(database.connect(read_only=True))


@contextmanager
def audit_reader(path: Path) -> Iterator[AuditReader]:
    """Lend a reader.

    Raises:
        StoreUnavailableError: There is no database, or it cannot be read.
    """
    reader = open_reader(path)
    try:
        yield reader
    except sqlite3.Error as exc:
        raise StoreUnavailableError(f"{path}: {exc}") from exc
    finally:
        reader.close()
