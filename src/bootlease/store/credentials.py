"""Admin credentials, and the two-person rule: transactions on the writing connection.

Under the rule two persons must agree, and a person is known by credentials only. Two of them belong
to two persons where neither holder can have seen the other's credential:

- whoever makes a credential sees it, so its maker and the makers before that are not others;
- while the rule holds, a credential that can propose or approve is made by two, and one of them
  sees it: it counts as that person's, whoever it was handed to. Otherwise one holder could collect
  a second voice from each colleague that they help.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, delete, insert, select, update

from bootlease.ledger import GovernanceDetail
from bootlease.ledger.governance import (
    CREDENTIAL_CREATED,
    CREDENTIAL_REVOKED,
    RULE_DEMANDED,
    RULE_LIFTED,
)
from bootlease.ports import CredentialRevocation, Role, RuleChange, StoredCredential
from bootlease.store.tables import TWO_PERSON, credentials, settings

if TYPE_CHECKING:
    from bootlease.store.appender import Appender
    from bootlease.store.connection import Connection, Row

_columns = credentials.c
_ALL: Final = select(
    _columns.digest,
    _columns.label,
    _columns.roles,
    _columns.created_at,
    _columns.maker,
    _columns.joint,
    _columns.revoked_at,
).order_by(_columns.created_at, _columns.digest)
_ADD: Final = insert(credentials).inline()
_REVOKE: Final = (
    update(credentials)
    .where(_columns.digest == bindparam("which"), _columns.revoked_at.is_(None))
    .values(revoked_at=bindparam("now"))
)
_RULE: Final = select(settings.c.value).where(settings.c.name == TWO_PERSON)
_RULE_ON: Final = insert(settings).values(name=TWO_PERSON, value="on").inline()
_RULE_OFF: Final = delete(settings).where(settings.c.name == TWO_PERSON)


def roles_text(roles: Iterable[Role]) -> str:
    """Return roles as table and ledger have them: names in one order, blanks between."""
    given = set(roles)
    return " ".join(role.value for role in Role if role in given)


def credentials_of(db: Connection) -> tuple[StoredCredential, ...]:
    """Return every admin credential, the oldest first, revoked ones too."""
    return tuple(map(_credential, db.rows(_ALL)))


def _credential(row: Row) -> StoredCredential:
    digest, label, roles, created_at, maker, joint, revoked_at = row
    # A name that is no role gives no right.
    named = roles.split(" ")
    known = tuple(role for role in Role if role.value in named)
    return StoredCredential(digest, label, known, created_at, maker, joint == 1, revoked_at)


def add_credential(db: Connection, ledger: Appender, new: StoredCredential, *, author: str) -> None:
    """Keep the digest of an admin credential."""
    roles = roles_text(new.roles)
    db.run(
        _ADD,
        {
            "digest": new.digest,
            "label": new.label,
            "roles": roles,
            "created_at": new.created_at,
            "maker": new.maker,
            "joint": int(new.joint),
            "revoked_at": None,
        },
    )
    details: dict[str, GovernanceDetail] = {
        "label": new.label,
        "digest": new.digest,
        "roles": roles,
        "joint": int(new.joint),
    }
    if new.maker is not None:
        details["maker"] = new.maker
    ledger.record(
        CREDENTIAL_CREATED, details, author=author, now=new.created_at, subject=new.digest
    )


def revoke_credential(
    db: Connection, ledger: Appender, digest: bytes, *, now: int, author: str
) -> CredentialRevocation:
    """Let a credential count for nothing, unless nobody could act without it."""
    known = credentials_of(db)
    live = [each for each in known if each.revoked_at is None]
    left = [each for each in live if each.digest != digest]
    if len(left) == len(live):
        return CredentialRevocation.UNKNOWN
    if not any(Role.OPERATOR in each.roles for each in left):
        return CredentialRevocation.LAST_OPERATOR
    if two_person(db) and not _has_pair(left, known):
        return CredentialRevocation.LAST_PAIR
    db.run(_REVOKE, {"which": digest, "now": now})
    ledger.record(CREDENTIAL_REVOKED, {"digest": digest}, author=author, now=now, subject=digest)
    return CredentialRevocation.REVOKED


def two_person(db: Connection) -> bool:
    """Tell whether the two-person rule holds."""
    return db.one(_RULE) is not None


def set_two_person(
    db: Connection, ledger: Appender, *, demanded: bool, now: int, author: str
) -> RuleChange:
    """Switch the two-person rule; on only where two operators could switch it off again."""
    if two_person(db) == demanded:
        return RuleChange.SAME
    if demanded:
        known = credentials_of(db)
        if not _has_pair([each for each in known if each.revoked_at is None], known):
            return RuleChange.NO_PAIR
        db.run(_RULE_ON)
    else:
        db.run(_RULE_OFF)
    kind = RULE_DEMANDED if demanded else RULE_LIFTED
    ledger.record(kind, {}, author=author, now=now)
    return RuleChange.CHANGED


def _has_pair(live: Iterable[StoredCredential], known: Iterable[StoredCredential]) -> bool:
    operators = [each for each in live if Role.OPERATOR in each.roles]
    by_digest = {each.digest: each for each in known}
    return any(are_two_persons(*pair, by_digest) for pair in combinations(operators, 2))


def are_two_persons(
    first: StoredCredential,
    second: StoredCredential,
    known: Mapping[bytes, StoredCredential],
) -> bool:
    """Tell whether the holders of two credentials are two persons, as far as these show.

    Args:
        first: One of them.
        second: The other.
        known: Every credential by its digest, revoked ones too.
    """
    one, other = _person(first, known), _person(second, known)
    return one not in _seen_by(second, known) and other not in _seen_by(first, known)


def _person(credential: StoredCredential, known: Mapping[bytes, StoredCredential]) -> bytes:
    """Return the credential that the holder had before any that two persons made for them."""
    while credential.joint and (maker := known.get(credential.maker or b"")) is not None:
        credential = maker
    return credential.digest


def _seen_by(credential: StoredCredential, known: Mapping[bytes, StoredCredential]) -> set[bytes]:
    """Return the credential, and those of everybody who made it or its makers."""
    chain = {credential.digest}
    while (maker := credential.maker) is not None and maker not in chain:
        chain.add(maker)
        if maker not in known:
            break
        credential = known[maker]
    return chain
