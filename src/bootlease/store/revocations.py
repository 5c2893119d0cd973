"""Revocations, status indexes, and the leases that have not expired."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, desc, insert, null, select, update

from bootlease.errors import MalformedError
from bootlease.ledger import GovernanceDetail
from bootlease.ledger.governance import REVOCATION, REVOCATION_LIFTED
from bootlease.ledger.record import parse_granted
from bootlease.policy import parse_policy
from bootlease.policy.values import MAX_LIFE
from bootlease.ports import (
    RecentGrants,
    RevokedKind,
    StoredGrant,
    StoredPolicy,
    StoredRevocation,
)
from bootlease.store.decisions import lineage
from bootlease.store.tables import decisions, nodes, policies, revocations, settings

if TYPE_CHECKING:
    from bootlease.store.appender import Appender
    from bootlease.store.connection import Connection

BLOCK_SETTING: Final = "status.block"
"""Name of the setting that counts the blocks of status indexes handed out."""

_CLOCK_STEPS: Final = 300
"""Seconds by which decisions may be out of order because a clock was set back."""
_SUBJECT_BYTES: Final = 32
_POLICIES: Final = 16
"""Policies that are read to find how long leases lived of late."""

_BLOCK: Final = select(settings.c.value).where(settings.c.name == BLOCK_SETTING)
_FIRST_BLOCK: Final = insert(settings).values(name=BLOCK_SETTING, value=bindparam("number"))
_NEXT_BLOCK: Final = (
    update(settings).where(settings.c.name == BLOCK_SETTING).values(value=bindparam("number"))
)
_COLUMNS: Final = (
    revocations.c.kind,
    revocations.c.subject,
    revocations.c.in_force,
    revocations.c.reason,
    revocations.c.author,
    revocations.c.at,
    revocations.c.number,
)
_ALL: Final = select(*_COLUMNS).order_by(revocations.c.number)
_LAST_OF: Final = (
    select(revocations.c.in_force)
    .where(revocations.c.kind == bindparam("what"), revocations.c.subject == bindparam("which"))
    .order_by(desc(revocations.c.number))
    .limit(1)
)
_LAST: Final = select(revocations.c.number).order_by(desc(revocations.c.number)).limit(1)
_ADD: Final = insert(revocations).inline()
_END_ANY: Final = (
    update(nodes)
    .where(nodes.c.node == bindparam("id"))
    .values(version=nodes.c.version + 1, prior=null())
)
_LATEST_POLICIES: Final = (
    select(
        policies.c.epoch,
        policies.c.id,
        policies.c.digest,
        policies.c.document,
        policies.c.activated_at,
    )
    .order_by(desc(policies.c.epoch))
    .limit(bindparam("count"))
)
_TIMES: Final = select(decisions.c.decided_at).order_by(desc(decisions.c.number))
_BACKWARDS: Final = select(
    decisions.c.node,
    decisions.c.root,
    decisions.c.granted,
    decisions.c.decided_at,
    decisions.c.record,
).order_by(desc(decisions.c.number))


def reserve_block(db: Connection) -> int:
    """Count one block on and return its number, from 0."""
    row = db.one(_BLOCK)
    if row is None:
        db.run(_FIRST_BLOCK, {"number": "0"})
        return 0
    number = int(row[0]) + 1
    db.run(_NEXT_BLOCK, {"number": str(number)})
    return number


def add(db: Connection, ledger: Appender, new: StoredRevocation) -> bool:
    """Append a revocation, and its governance record."""
    last = db.one(_LAST_OF, {"what": new.kind.value, "which": new.subject})
    if new.in_force == (last is not None and last[0] == 1):
        return False
    before = db.one(_LAST)
    db.run(
        _ADD,
        {
            "number": 1 if before is None else before[0] + 1,
            "kind": new.kind.value,
            "subject": new.subject,
            "in_force": int(new.in_force),
            "reason": new.reason,
            "author": new.author,
            "at": new.at,
        },
    )
    digest = _digest_in(new)
    details: dict[str, GovernanceDetail] = {
        "subject": new.subject if digest is None else digest,
        "reason": new.reason,
    }
    what = REVOCATION if new.in_force else REVOCATION_LIFTED
    ledger.record(
        what + new.kind.value,
        details,
        author=new.author,
        now=new.at,
        subject=digest,
    )
    return True


def _digest_in(revocation: StoredRevocation) -> bytes | None:
    if revocation.kind in {RevokedKind.NODE, RevokedKind.LINEAGE, RevokedKind.REFERENCE}:
        digest = bytes.fromhex(revocation.subject)
        return digest if len(digest) == _SUBJECT_BYTES else None
    return None


def revocations_of(db: Connection) -> tuple[StoredRevocation, ...]:
    """Return every revocation, the oldest first."""
    return tuple(
        StoredRevocation(RevokedKind(kind), subject, in_force == 1, reason, author, at, number)
        for kind, subject, in_force, reason, author, at, number in db.rows(_ALL)
    )


def end_lineages(db: Connection, lineages: Sequence[tuple[bytes, bytes | None]]) -> None:
    """End the lineages of nodes where they are those that are meant."""
    for node, root in lineages:
        prior = lineage(db, node).prior
        if prior is not None and root in {None, prior.root}:
            db.run(_END_ANY, {"id": node})


def latest_policies(db: Connection, *, at_most: int) -> tuple[StoredPolicy, ...]:
    """Return the policies activated last, the latest first."""
    return tuple(StoredPolicy(*row) for row in db.rows(_LATEST_POLICIES, {"count": at_most}))


def live_grants(db: Connection, *, since: int, now: int) -> list[StoredGrant]:
    """Return the grants whose leases are not over, the oldest first."""
    goes_on = _lineages(db)
    found = []
    since = max(since, now - _longest_life(db, since))
    for node, root, record in _granted(db, since):
        leases, references = parse_granted(record)
        expires_at = max(each.expires_at for each in leases)
        if expires_at <= now:
            continue
        found.append(
            StoredGrant(
                node,
                root,
                tuple(each.lease_id for each in leases),
                expires_at,
                references,
                goes_on=goes_on(node) == root,
            )
        )
    return found[::-1]


def recent_grants(db: Connection, *, kept: int, step: int) -> RecentGrants:
    """Return the grants whose leases may count somewhere, whatever the clock says or said.

    How long ago a decision was made is counted in steps from each to the one after it, so that a
    clock that leapt, or was wrong when one of them was made, adds no more than ``step`` seconds.
    """
    window = _window(db, MAX_LIFE + kept, step)
    if window is None:
        return RecentGrants((), None)
    latest, earliest = window
    longest = _longest_life(db, earliest) + kept
    ago, before, found = 0, latest, []
    goes_on = _lineages(db)
    for node, root, granted, decided_at, record in db.stream(_BACKWARDS):
        ago, before = ago + min(abs(before - decided_at), step), decided_at
        if ago > longest:
            break
        if granted == 1:
            leases, references = parse_granted(record)
            expires_at = max(each.expires_at for each in leases)
            if ago <= expires_at - decided_at + kept:
                ids = tuple(each.lease_id for each in leases)
                on = goes_on(node) == root
                found.append(StoredGrant(node, root, ids, expires_at, references, goes_on=on))
    return RecentGrants(tuple(found[::-1]), latest)


def _window(db: Connection, seconds: int, step: int) -> tuple[int, int] | None:
    """Return the latest and the earliest time of the decisions of so many seconds."""
    ago, latest, earliest, before = 0, None, 0, 0
    for (decided_at,) in db.stream(_TIMES):
        if latest is None:
            latest = earliest = before = decided_at
        ago, before = ago + min(abs(before - decided_at), step), decided_at
        if ago > seconds:
            break
        earliest = min(earliest, decided_at)
    return None if latest is None else (latest, earliest)


def _lineages(db: Connection) -> Callable[[bytes], bytes | None]:
    """Return what says the root of a node's lineage, read once for each."""
    roots: dict[bytes, bytes | None] = {}

    def root_of(node: bytes) -> bytes | None:
        if node not in roots:
            prior = lineage(db, node).prior
            roots[node] = None if prior is None else prior.root
        return roots[node]

    return root_of


def _longest_life(db: Connection, since: int) -> int:
    """Return for how long at most a lease lives that was granted in this second or later.

    A lease lives as long as the policy says that was active, counted from a challenge that was set
    no later than the decision: of 16 minutes of grants, those of the last two may be all that live.
    """
    longest = 0
    latest = latest_policies(db, at_most=_POLICIES)
    for policy in latest:
        try:
            life = parse_policy(policy.document).lease.life
        except MalformedError:
            # Of an earlier version: whatever it said, no lease lives longer than this.
            return MAX_LIFE
        longest = max(longest, life)
        if policy.activated_at < since - _CLOCK_STEPS:
            return longest
    return longest if 0 < len(latest) < _POLICIES else MAX_LIFE


def _granted(db: Connection, since: int) -> Iterator[tuple[bytes, bytes, bytes]]:
    for node, root, granted, decided_at, record in db.stream(_BACKWARDS):
        if decided_at < since - _CLOCK_STEPS:
            return
        if granted == 1 and decided_at >= since:
            yield node, root, record
