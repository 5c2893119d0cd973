"""What the operator decides: policies, reference sets, roots."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, insert, select

from bootlease import cbor
from bootlease.ledger.governance import (
    POLICY_ACTIVATED,
    REFERENCE_REGISTERED,
    ROOT_ADDED,
)
from bootlease.ports import RevokedKind, StoredPolicy, StoredReference, StoredRevocation
from bootlease.store import revocations
from bootlease.store.connection import Connection
from bootlease.store.inforce import numbers_in_force
from bootlease.store.tables import policies, reference_sets, roots

if TYPE_CHECKING:
    from bootlease.store.appender import Appender

_POLICY_COLUMNS: Final = (
    policies.c.epoch,
    policies.c.id,
    policies.c.digest,
    policies.c.document,
    policies.c.activated_at,
)
_POLICY: Final = select(*_POLICY_COLUMNS).order_by(policies.c.epoch.desc()).limit(1)
_POLICY_OF: Final = select(*_POLICY_COLUMNS).where(policies.c.epoch == bindparam("of"))
_ADD_POLICY: Final = insert(policies).inline()
_REFERENCE_COLUMNS: Final = (
    reference_sets.c.name,
    reference_sets.c.digest,
    reference_sets.c.document,
    reference_sets.c.registered_at,
)
_REFERENCES: Final = select(*_REFERENCE_COLUMNS).order_by(reference_sets.c.number)
_REFERENCE: Final = select(*_REFERENCE_COLUMNS).where(
    reference_sets.c.digest == bindparam("content")
)
_HAS_REFERENCE: Final = select(reference_sets.c.number).where(
    reference_sets.c.digest == bindparam("content")
)
_ADD_REFERENCE: Final = (
    insert(reference_sets)
    .values({name: bindparam(name) for name in reference_sets.c.keys() if name != "number"})  # noqa: SIM118 - a column collection's keys
    .inline()
)
_REVOKED_AT_ONCE: Final = "activated with revoke-now"
_ROOTS: Final = select(roots.c.certificate, roots.c.digest).order_by(roots.c.number)
_HAS_ROOT: Final = select(roots.c.digest).where(roots.c.digest == bindparam("certificate"))
_ADD_ROOT: Final = insert(roots).inline()


def policy(db: Connection) -> StoredPolicy | None:
    """Return the policy of the highest epoch."""
    row = db.one(_POLICY)
    return None if row is None else StoredPolicy(*row)


def policy_of(db: Connection, epoch: int) -> StoredPolicy | None:
    """Return the policy of an epoch."""
    row = db.one(_POLICY_OF, {"of": epoch})
    return None if row is None else StoredPolicy(*row)


def activate_policy(
    db: Connection, ledger: Appender, new: StoredPolicy, *, author: str, revoke_now: bool = False
) -> bool:
    """Append a policy where its epoch is the next one; perhaps revoke all epochs before it."""
    current = policy(db)
    if new.epoch != (1 if current is None else current.epoch + 1):
        return False
    db.run(
        _ADD_POLICY,
        {
            "epoch": new.epoch,
            "id": new.id,
            "digest": new.digest,
            "document": new.document,
            "activated_at": new.activated_at,
        },
    )
    ledger.record(
        POLICY_ACTIVATED,
        {
            "epoch": new.epoch,
            "id": new.id,
            "digest": new.digest,
            # The digest is that of its meaning; a file has bytes besides.
            "document": hashlib.sha256(new.document).digest(),
        },
        author=author,
        now=new.activated_at,
        subject=new.digest,
    )
    if revoke_now:
        floor = StoredRevocation(
            RevokedKind.EPOCH,
            str(new.epoch),
            in_force=True,
            reason=_REVOKED_AT_ONCE,
            author=author,
            at=new.activated_at,
        )
        revocations.add(db, ledger, floor)
    return True


def references(db: Connection) -> tuple[StoredReference, ...]:
    """Return every registered reference set, the oldest first."""
    return tuple(StoredReference(*row) for row in db.rows(_REFERENCES))


def reference(db: Connection, digest: bytes) -> StoredReference | None:
    """Return a reference set by its content digest."""
    row = db.one(_REFERENCE, {"content": digest})
    return None if row is None else StoredReference(*row)


def add_reference(db: Connection, ledger: Appender, new: StoredReference, *, author: str) -> bool:
    """Register a reference set; False where this content is registered."""
    if db.one(_HAS_REFERENCE, {"content": new.digest}) is not None:
        return False
    db.run(
        _ADD_REFERENCE,
        {
            "name": new.name,
            "digest": new.digest,
            "document": new.document,
            "registered_at": new.registered_at,
        },
    )
    ledger.record(
        REFERENCE_REGISTERED,
        {
            "name": new.name,
            "digest": new.digest,
            "document": hashlib.sha256(new.document).digest(),
        },
        author=author,
        now=new.registered_at,
        subject=new.digest,
    )
    return True


def roots_of(db: Connection) -> tuple[bytes, ...]:
    """Return the trusted roots, DER."""
    return tuple(row[0] for row in db.rows(_ROOTS))


def root_set(db: Connection, digest: bytes) -> tuple[bytes, ...] | None:
    """Return the roots that were trusted when their set had this digest.

    Roots are only ever added, so every set that was in force is a beginning of the list.
    """
    rows = db.rows(_ROOTS)
    fingerprints: list[bytes] = []
    for count in range(len(rows) + 1):
        if roots_digest(fingerprints) == digest:
            return tuple(row[0] for row in rows[:count])
        fingerprints += [row[1] for row in rows[count : count + 1]]
    return None


def roots_digest(fingerprints: Sequence[bytes]) -> bytes:
    """Return the name of a set of roots, as ``TrustedRoots.digest`` makes it."""
    return hashlib.sha256(cbor.encode(sorted(fingerprints))).digest()


def add_root(
    db: Connection, ledger: Appender, certificate: bytes, *, now: int, author: str
) -> bool:
    """Trust a root; False where it is trusted already."""
    digest = hashlib.sha256(certificate).digest()
    if db.one(_HAS_ROOT, {"certificate": digest}) is not None:
        return False
    db.run(
        _ADD_ROOT,
        {
            "number": numbers_in_force(db).roots + 1,
            "digest": digest,
            "certificate": certificate,
            "added_at": now,
        },
    )
    ledger.record(ROOT_ADDED, {"digest": digest}, author=author, now=now, subject=digest)
    return True
