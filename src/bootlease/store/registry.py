"""What the operator decides: policies, reference sets, roots, admin credentials."""

from __future__ import annotations

import hashlib
from typing import Final

from sqlalchemy import bindparam, func, insert, select

from bootlease.ports import Governance, StoredPolicy, StoredReference
from bootlease.store.connection import Connection
from bootlease.store.tables import credentials, policies, reference_sets, roots

_POLICY: Final = (
    select(
        policies.c.epoch,
        policies.c.id,
        policies.c.digest,
        policies.c.document,
        policies.c.activated_at,
    )
    .order_by(policies.c.epoch.desc())
    .limit(1)
)
_ADD_POLICY: Final = insert(policies).inline()
_REFERENCES: Final = select(
    reference_sets.c.name,
    reference_sets.c.digest,
    reference_sets.c.document,
    reference_sets.c.registered_at,
).order_by(reference_sets.c.number)
_HAS_REFERENCE: Final = select(reference_sets.c.number).where(
    reference_sets.c.digest == bindparam("content")
)
_ADD_REFERENCE: Final = (
    insert(reference_sets)
    .values({name: bindparam(name) for name in reference_sets.c.keys() if name != "number"})  # noqa: SIM118 - a column collection's keys
    .inline()
)
_ROOTS: Final = select(roots.c.certificate).order_by(roots.c.added_at, roots.c.digest)
_HAS_ROOT: Final = select(roots.c.digest).where(roots.c.digest == bindparam("certificate"))
_ADD_ROOT: Final = insert(roots).inline()
_GOVERNANCE: Final = select(
    select(func.coalesce(func.max(policies.c.epoch), 0)).scalar_subquery(),
    select(func.coalesce(func.max(reference_sets.c.number), 0)).scalar_subquery(),
    select(func.count()).select_from(roots).scalar_subquery(),
)
_CREDENTIALS: Final = select(credentials.c.digest)
_ADD_CREDENTIAL: Final = insert(credentials).inline()


def governance(db: Connection) -> Governance:
    """Return the numbers of what the operator has decided."""
    row = db.one(_GOVERNANCE)
    return Governance(0, 0, 0) if row is None else Governance(*row)


def policy(db: Connection) -> StoredPolicy | None:
    """Return the policy of the highest epoch."""
    row = db.one(_POLICY)
    return None if row is None else StoredPolicy(*row)


def activate_policy(db: Connection, new: StoredPolicy) -> bool:
    """Append a policy where its epoch is the next one."""
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
    return True


def references(db: Connection) -> tuple[StoredReference, ...]:
    """Return every registered reference set, the oldest first."""
    return tuple(StoredReference(*row) for row in db.rows(_REFERENCES))


def add_reference(db: Connection, new: StoredReference) -> bool:
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
    return True


def roots_of(db: Connection) -> tuple[bytes, ...]:
    """Return the trusted roots, DER."""
    return tuple(row[0] for row in db.rows(_ROOTS))


def add_root(db: Connection, certificate: bytes, *, now: int) -> bool:
    """Trust a root; False where it is trusted already."""
    digest = hashlib.sha256(certificate).digest()
    if db.one(_HAS_ROOT, {"certificate": digest}) is not None:
        return False
    db.run(_ADD_ROOT, {"digest": digest, "certificate": certificate, "added_at": now})
    return True


def credential_digests(db: Connection) -> tuple[bytes, ...]:
    """Return the digests of the admin credentials."""
    return tuple(row[0] for row in db.rows(_CREDENTIALS))


def add_credential(db: Connection, digest: bytes, *, label: str, now: int) -> None:
    """Keep the digest of an admin credential."""
    db.run(_ADD_CREDENTIAL, {"digest": digest, "label": label, "created_at": now})
