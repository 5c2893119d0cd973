"""What waits for a second person: transactions on the writing connection.

A proposal is named by its content, is approved once, by somebody else, and expires. What it holds
is kept byte for byte until then; afterwards the ledger alone tells of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, delete, insert, select

from bootlease import cbor
from bootlease.ports import Act, Approval, Proposal, StoreBusyError
from bootlease.store.credentials import are_two_persons, credentials_of
from bootlease.store.inforce import numbers_in_force
from bootlease.store.tables import proposals

if TYPE_CHECKING:
    from bootlease.store.appender import Appender
    from bootlease.store.connection import Connection, Row

MAX_PROPOSALS: Final = 16
"""That wait at a time: each may hold a reference file of tens of megabytes."""
MAX_OF_ONE: Final = 6
"""Of one person: two who would block the others leave these room, and more than two need no rule
to stop them."""
_MAX_OPTIONS: Final = 4096

_columns = proposals.c
_SELECTED: Final = select(
    _columns.digest,
    _columns.act,
    _columns.document,
    _columns.options,
    _columns.proposer,
    _columns.author,
    _columns.epoch,
    _columns.proposed_at,
    _columns.expires_at,
)
_LIVE: Final = _SELECTED.where(_columns.expires_at > bindparam("now")).order_by(
    _columns.proposed_at, _columns.digest
)
_ONE: Final = _SELECTED.where(
    _columns.digest == bindparam("which"), _columns.expires_at > bindparam("now")
)
_PROPOSERS: Final = select(_columns.proposer)
_ADD: Final = insert(proposals).inline()
_SWEEP: Final = delete(proposals).where(_columns.expires_at <= bindparam("now"))
_DROP: Final = delete(proposals).where(_columns.digest == bindparam("which"))


def propose(db: Connection, ledger: Appender, new: Proposal) -> Proposal:
    """Keep a proposal and return it, or the one with this very content that waits already.

    Raises:
        StoreBusyError: As many wait as may, or as many of this person's.
    """
    now = new.proposed_at
    db.run(_SWEEP, {"now": now})
    if (waiting := proposal(db, new.digest, now=now)) is not None:
        return waiting
    waiting_of = [proposer for (proposer,) in db.rows(_PROPOSERS)]
    if len(waiting_of) >= MAX_PROPOSALS:
        raise StoreBusyError("too many proposals wait to be approved")
    if _of_one_person(db, new.proposer, waiting_of) >= MAX_OF_ONE:
        raise StoreBusyError(f"{MAX_OF_ONE} proposals of this person wait to be approved")
    db.run(
        _ADD,
        {
            "digest": new.digest,
            "act": new.act.value,
            "document": new.document,
            "options": cbor.encode(dict(new.options)),
            "proposer": new.proposer,
            "author": new.author,
            "epoch": new.epoch,
            "proposed_at": now,
            "expires_at": new.expires_at,
        },
    )
    ledger.record(
        f"{new.act.value}.proposed",
        {
            "proposal": new.digest,
            "document": hashlib.sha256(new.document).digest(),
            "expires_at": new.expires_at,
        },
        author=new.author,
        now=now,
        subject=new.digest,
    )
    return new


def _of_one_person(db: Connection, proposer: bytes, others: Sequence[bytes]) -> int:
    """Count the proposals that the proposer's person may have made, by whatever credential."""
    known = {each.digest: each for each in credentials_of(db)}
    own = known.get(proposer)
    return sum(
        other == proposer
        or own is None
        or other not in known
        or not are_two_persons(own, known[other], known)
        for other in others
    )


def proposal(db: Connection, digest: bytes, *, now: int) -> Proposal | None:
    """Return a proposal that waits."""
    row = db.one(_ONE, {"which": digest, "now": now})
    return None if row is None else _proposal(row)


def proposals_of(db: Connection, *, now: int) -> tuple[Proposal, ...]:
    """Return the proposals that wait, the oldest first."""
    return tuple(_proposal(row) for row in db.rows(_LIVE, {"now": now}))


def _proposal(row: Row) -> Proposal:
    digest, act, document, options, proposer, author, epoch, proposed_at, expires_at = row
    return Proposal(
        digest,
        Act(act),
        document,
        cbor.decode(options, max_bytes=_MAX_OPTIONS),
        proposer,
        author,
        epoch,
        proposed_at,
        expires_at,
    )


def approve(
    db: Connection, ledger: Appender, digest: bytes, approver: bytes, *, now: int, author: str
) -> Approval:
    """Take a proposal out where another person than its proposer approves it."""
    waiting = proposal(db, digest, now=now)
    if waiting is None:
        return Approval.UNKNOWN
    known = {each.digest: each for each in credentials_of(db)}
    one, other = known.get(waiting.proposer), known.get(approver)
    # A proposer whose credential was revoked since is nobody's first voice any more.
    if one is None or one.revoked_at is not None or other is None or other.revoked_at is not None:
        return Approval.UNKNOWN
    if not are_two_persons(one, other, known):
        return Approval.SAME_PERSON
    if waiting.act is Act.POLICY and waiting.epoch != numbers_in_force(db).epoch:
        # It was written to follow a policy that another one has followed.
        return Approval.OUTDATED
    db.run(_DROP, {"which": digest})
    ledger.record(
        f"{waiting.act.value}.approved",
        {"proposal": digest, "proposer": waiting.author},
        author=author,
        now=now,
        subject=digest,
    )
    return Approval.APPROVED


def sweep(db: Connection, *, now: int) -> int:
    """Delete proposals that nobody approved in time; return how many."""
    return db.run(_SWEEP, {"now": now})
