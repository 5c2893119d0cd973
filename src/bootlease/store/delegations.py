"""Delegated leases: recorded once for each grant, found by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, func, insert, select

from bootlease.ledger import encode_leaf
from bootlease.model import sha256
from bootlease.ports import (
    LiveDelegation,
    NewDelegation,
    StoredDelegation,
    StoreUnavailableError,
)
from bootlease.store import ledgerreads
from bootlease.store.tables import delegations

if TYPE_CHECKING:
    from bootlease.store.appender import Appender
    from bootlease.store.connection import Connection

_columns = delegations.c
_ADD: Final = insert(delegations).inline()
_LAST: Final = select(func.coalesce(func.max(_columns.number), 0))
_GIVEN: Final = select(
    *(_columns.number, _columns.digest, _columns.record, _columns.lease_id, _columns.parent),
    *(_columns.grant_use, _columns.expires_at, _columns.encoding, _columns.claims),
    *(_columns.signatures, _columns.shard, _columns.position),
).where(_columns.grant_use == bindparam("use"))
_USED: Final = select(_columns.number).where(_columns.grant_use == bindparam("use"))
_LIVE: Final = (
    select(_columns.parent, _columns.lease_id, _columns.expires_at)
    .where(_columns.expires_at > bindparam("now"))
    .order_by(_columns.number)
)


def add(db: Connection, ledger: Appender, new: NewDelegation) -> None:
    """Record a delegated lease and append its leaf, unless its grant has become one already."""
    if db.one(_USED, {"use": new.use}) is not None:
        return
    last = db.one(_LAST)
    position = ledger.append([encode_leaf(new.digest, sha256(new.claims))])
    db.run(
        _ADD,
        {
            "number": 1 if last is None else last[0] + 1,
            "digest": new.digest,
            "lease_id": new.lease_id,
            "parent": new.parent,
            "grant_use": new.use,
            "expires_at": new.expires_at,
            "encoding": new.encoding,
            "shard": ledger.shard.number,
            "position": position,
            "record": new.record,
            "claims": new.claims,
            "signatures": new.signatures,
        },
    )


def given(db: Connection, use: bytes) -> StoredDelegation | None:
    """Return what was given for a grant, with the receipt that went with it.

    Raises:
        StoreUnavailableError: Its leaf is not in the ledger.
    """
    row = db.one(_GIVEN, {"use": use})
    if row is None:
        return None
    number, *values, shard, position = row
    receipt = ledgerreads.receipt(db, shard, position)
    if receipt is None:
        raise StoreUnavailableError("a delegation has no leaf in the ledger")
    return StoredDelegation(number, NewDelegation(*(*values, 0)), receipt)


def live(db: Connection, *, now: int) -> list[LiveDelegation]:
    """Return the delegated leases that are not over, in the order in which they were given."""
    return [LiveDelegation(*row) for row in db.rows(_LIVE, {"now": now})]
