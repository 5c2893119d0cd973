"""The database's rows in ranges, for an audit of all of them; see ``bootlease.audit.rows``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_type_hints

from sqlalchemy import BindParameter, Column, Select, Table, bindparam, func, or_, select, text

from bootlease.audit.rows import (
    BlobRow,
    CheckpointRow,
    CosignatureRow,
    CredentialRow,
    DecisionRow,
    DelegationRow,
    EnrolmentRow,
    GovernanceRow,
    JoinTokenRow,
    NodeRow,
    PolicyRow,
    PruningRow,
    ReferenceRow,
    RevocationRow,
    RootRow,
    ShardRow,
)
from bootlease.ledger.governance import REVOCATION, REVOCATION_LIFTED
from bootlease.ledger.merkle import HASH_SIZE
from bootlease.store.tables import (
    IMPORTED,
    blobs,
    checkpoints,
    cosignatures,
    credentials,
    decisions,
    delegations,
    enrolment_records,
    entries,
    evidence,
    governance,
    join_tokens,
    nodes,
    policies,
    prunings,
    reference_sets,
    revocations,
    roots,
    settings,
    shards,
    tiles,
    token_signatures,
)

if TYPE_CHECKING:
    from bootlease.store.connection import Connection, Row

R = TypeVar("R")

_NEUTRAL: Final[dict[object, tuple[tuple[type, ...], object]]] = {
    int: ((int,), -1),
    str: ((str,), ""),
    bytes: ((bytes,), b""),
    bytes | None: ((bytes, NoneType), None),
    int | None: ((int, NoneType), -1),
}
_FORMS: Final[dict[type[object], dict[str, tuple[tuple[type, ...], object]]]] = {
    kind: {name: _NEUTRAL[hint] for name, hint in get_type_hints(kind).items()}
    for kind in (
        *(BlobRow, CheckpointRow, CosignatureRow, DecisionRow, EnrolmentRow, GovernanceRow),
        *(
            CredentialRow,
            DelegationRow,
            JoinTokenRow,
            NodeRow,
            PolicyRow,
            PruningRow,
            ReferenceRow,
            RevocationRow,
            RootRow,
            ShardRow,
        ),
    )
}


def _row(kind: type[R], cells: Row) -> R:
    """Make a row of cells, whatever types somebody has put into them.

    SQLite lets any cell hold anything. What is of another type than its column is put as nothing,
    which no check takes for what must be there.
    """
    forms = _FORMS[kind].values()
    return kind(
        *(
            cell if isinstance(cell, types) else neutral
            for cell, (types, neutral) in zip(cells, forms, strict=True)
        )
    )


_SPREAD: Final = 256
"""Leaves between two decisions' places, on average, in any range that is worth reading whole."""
_FIRST: Final[BindParameter[Any]] = bindparam("first")
_LAST: Final[BindParameter[Any]] = bindparam("last")


def _columns(table: Table, kind: type[object]) -> list[Column[Any]]:
    return [table.c[name] for name in _FORMS[kind] if name in table.c]


_DECISIONS: Final = (
    select(
        *_columns(decisions, DecisionRow),
        evidence.c.digest.label("document_digest"),
        evidence.c.document,
        token_signatures.c.signatures,
    )
    .join_from(decisions, evidence, evidence.c.number == decisions.c.number, isouter=True)
    .outerjoin(token_signatures, token_signatures.c.number == decisions.c.number)
    .where(decisions.c.number >= _FIRST, decisions.c.number <= _LAST)
    .order_by(decisions.c.number)
)
_LEAVES: Final = (
    select(entries.c.position, entries.c.leaf)
    .where(
        entries.c.shard == bindparam("of"),
        entries.c.position >= _FIRST,
        entries.c.position <= _LAST,
    )
    .order_by(entries.c.position)
)
_GOVERNANCE: Final = (
    select(*_columns(governance, GovernanceRow))
    .where(governance.c.number >= _FIRST, governance.c.number <= _LAST)
    .order_by(governance.c.number)
)
_DELEGATIONS: Final = (
    select(*_columns(delegations, DelegationRow))
    .where(delegations.c.number >= _FIRST, delegations.c.number <= _LAST)
    .order_by(delegations.c.number)
)
_CLAIMS_OF: Final = select(delegations.c.claims).where(delegations.c.lease_id == bindparam("lease"))
_POLICIES: Final = select(*_columns(policies, PolicyRow)).order_by(policies.c.epoch)
_REFERENCES: Final = select(*_columns(reference_sets, ReferenceRow)).order_by(
    reference_sets.c.number
)
_ROOTS: Final = select(*_columns(roots, RootRow)).order_by(roots.c.number)
_CREDENTIALS: Final = select(*_columns(credentials, CredentialRow)).order_by(credentials.c.digest)
_REVOCATIONS: Final = select(*_columns(revocations, RevocationRow)).order_by(revocations.c.number)
_REVOKED: Final = (
    select(governance.c.record)
    .where(or_(*map(governance.c.kind.startswith, (REVOCATION, REVOCATION_LIFTED))))
    .order_by(governance.c.number)
)
_JOIN_TOKENS: Final = select(*_columns(join_tokens, JoinTokenRow)).order_by(join_tokens.c.digest)
_ENROLMENTS: Final = (
    select(*_columns(enrolment_records, EnrolmentRow))
    .where(enrolment_records.c.digest >= _FIRST, enrolment_records.c.digest < _LAST)
    .order_by(enrolment_records.c.digest)
)
_BLOBS: Final = (
    select(*_columns(blobs, BlobRow))
    .where(blobs.c.digest >= _FIRST, blobs.c.digest < _LAST)
    .order_by(blobs.c.digest)
)
_SHARDS: Final = select(*_columns(shards, ShardRow)).order_by(shards.c.number)
_CHECKPOINTS: Final = (
    select(*_columns(checkpoints, CheckpointRow))
    .where(
        checkpoints.c.shard == bindparam("of"),
        checkpoints.c.size >= _FIRST,
        checkpoints.c.size <= _LAST,
    )
    .order_by(checkpoints.c.size)
)
_ROOTS_OF: Final = (
    select(checkpoints.c.size, checkpoints.c.root)
    .where(checkpoints.c.shard == bindparam("of"), checkpoints.c.size <= _LAST)
    .order_by(checkpoints.c.size)
)
_FINAL: Final = (
    select(checkpoints.c.note)
    .where(checkpoints.c.shard == bindparam("of"))
    .order_by(checkpoints.c.size.desc())
    .limit(1)
)
_COSIGNATURES: Final = select(*_columns(cosignatures, CosignatureRow)).order_by(
    cosignatures.c.shard, cosignatures.c.size, cosignatures.c.name
)
_TILE: Final = select(tiles.c.hashes, tiles.c.root).where(
    tiles.c.shard == bindparam("of"),
    tiles.c.level == bindparam("height"),
    tiles.c.number == bindparam("place"),
)
_TILE_COUNT: Final = select(func.count()).select_from(tiles).where(tiles.c.shard == bindparam("of"))
_PRUNINGS: Final = select(*_columns(prunings, PruningRow)).order_by(prunings.c.number)
_NODES: Final = select(*_columns(nodes, NodeRow)).order_by(nodes.c.node)


def _strays(table: Table) -> Select[Any]:
    number = table.c.number
    joined = select(number).join_from(table, decisions, number == decisions.c.number, isouter=True)
    return joined.where(decisions.c.number.is_(None)).order_by(number)


_STRAYS: Final = {table.name: _strays(table) for table in (evidence, token_signatures)}
_IMPORTED: Final = select(settings.c.value).where(settings.c.name == IMPORTED)
_INTEGRITY: Final = text("PRAGMA integrity_check(1)")
_SIZES: Final = (
    select(checkpoints.c.shard, func.max(checkpoints.c.size))
    .group_by(checkpoints.c.shard)
    .order_by(checkpoints.c.shard)
)
_ENTRY_COUNT: Final = (
    select(func.count()).select_from(entries).where(entries.c.shard == bindparam("of"))
)


def count_decisions(db: Connection) -> int:
    """Return the number of the last decision."""
    row = db.one(select(func.coalesce(func.max(decisions.c.number), 0)))
    return 0 if row is None else int(row[0])


def count_delegations(db: Connection) -> int:
    """Return the number of the last delegation."""
    row = db.one(select(func.coalesce(func.max(delegations.c.number), 0)))
    return 0 if row is None else int(row[0])


def delegation_rows(db: Connection, first: int, last: int) -> list[DelegationRow]:
    """Return delegations by their numbers, ``last`` included."""
    return [
        _row(DelegationRow, row) for row in db.rows(_DELEGATIONS, {"first": first, "last": last})
    ]


def delegated_claims(db: Connection, lease_id: bytes) -> bytes | None:
    """Return what the token of a delegated lease says."""
    row = db.one(_CLAIMS_OF, {"lease": lease_id})
    return None if row is None or not isinstance(row[0], bytes) else row[0]


def count_governance(db: Connection) -> int:
    """Return the number of the last governance record."""
    row = db.one(select(func.coalesce(func.max(governance.c.number), 0)))
    return 0 if row is None else int(row[0])


def sizes(db: Connection) -> dict[int, int]:
    """Return the sealed size of each shard."""
    return {int(shard): int(size) for shard, size in db.rows(_SIZES)}


def count_entries(db: Connection, shard: int) -> int:
    """Return how many entries of a shard are stored."""
    row = db.one(_ENTRY_COUNT, {"of": shard})
    return 0 if row is None else int(row[0])


def decision_rows(db: Connection, first: int, last: int) -> list[DecisionRow]:
    """Return decisions by their numbers, ``last`` included."""
    return [_row(DecisionRow, row) for row in db.rows(_DECISIONS, {"first": first, "last": last})]


def leaves_of(db: Connection, rows: Sequence[DecisionRow]) -> Mapping[tuple[int, int], bytes]:
    """Return the leaves of the ledger from the first to the last place that decisions name."""
    found: dict[tuple[int, int], bytes] = {}
    for shard in sorted({row.shard for row in rows}):
        places = [(row.position, len(row.claims)) for row in rows if row.shard == shard]
        last = max(position + claims // HASH_SIZE for position, claims in places)
        first = min(places)[0]
        if last - first > _SPREAD * len(places):
            # Somebody wrote another number into a row: it must not make this one read everything.
            continue
        for position, leaf in db.rows(_LEAVES, {"of": shard, "first": first, "last": last}):
            found[shard, position] = leaf
    return found


def leaves_at(
    db: Connection, rows: Sequence[GovernanceRow | DelegationRow]
) -> Mapping[tuple[int, int], bytes]:
    """Return the leaves of the ledger at the places that records with one leaf each name."""
    found: dict[tuple[int, int], bytes] = {}
    for row in rows:
        where = {"of": row.shard, "first": row.position, "last": row.position}
        for position, leaf in db.rows(_LEAVES, where):
            found[row.shard, position] = leaf
    return found


def leaves_between(db: Connection, shard: int, first: int, last: int) -> list[tuple[int, bytes]]:
    """Return positions and leaves of a shard, ``last`` included."""
    where = {"of": shard, "first": first, "last": last}
    return [(position, leaf) for position, leaf in db.rows(_LEAVES, where)]


def governance_rows(db: Connection, first: int, last: int) -> list[GovernanceRow]:
    """Return governance records by their numbers, ``last`` included."""
    return [
        _row(GovernanceRow, row) for row in db.rows(_GOVERNANCE, {"first": first, "last": last})
    ]


def policy_rows(db: Connection) -> list[PolicyRow]:
    """Return every policy."""
    return [_row(PolicyRow, row) for row in db.rows(_POLICIES)]


def reference_rows(db: Connection) -> list[ReferenceRow]:
    """Return every reference set."""
    return [_row(ReferenceRow, row) for row in db.rows(_REFERENCES)]


def root_rows(db: Connection) -> list[RootRow]:
    """Return every root."""
    return [_row(RootRow, row) for row in db.rows(_ROOTS)]


def credential_rows(db: Connection) -> list[CredentialRow]:
    """Return every admin credential."""
    return [_row(CredentialRow, row) for row in db.rows(_CREDENTIALS)]


def revocation_rows(db: Connection) -> list[RevocationRow]:
    """Return every revocation, in the order of their numbers."""
    return [_row(RevocationRow, row) for row in db.rows(_REVOCATIONS)]


def revocation_records(db: Connection) -> list[bytes]:
    """Return every governance record about a revocation, in the order of the ledger."""
    return [row[0] for row in db.rows(_REVOKED) if isinstance(row[0], bytes)]


def join_token_rows(db: Connection) -> list[JoinTokenRow]:
    """Return every join token that is kept."""
    return [_row(JoinTokenRow, row) for row in db.rows(_JOIN_TOKENS)]


def enrolment_rows(db: Connection, first: bytes, last: bytes) -> Iterator[EnrolmentRow]:
    """Yield enrolment records by their digests, ``last`` not included."""
    for row in db.stream(_ENROLMENTS, {"first": first, "last": last}):
        yield _row(EnrolmentRow, row)


def blob_rows(db: Connection, first: bytes, last: bytes) -> Iterator[BlobRow]:
    """Yield logs by their digests, ``last`` not included."""
    for row in db.stream(_BLOBS, {"first": first, "last": last}):
        yield _row(BlobRow, row)


def shard_rows(db: Connection) -> list[ShardRow]:
    """Return every shard."""
    return [_row(ShardRow, row) for row in db.rows(_SHARDS)]


def checkpoint_rows(db: Connection, shard: int, first: int, last: int) -> Iterator[CheckpointRow]:
    """Yield checkpoints by their sizes, ``last`` included."""
    for row in db.stream(_CHECKPOINTS, {"of": shard, "first": first, "last": last}):
        yield _row(CheckpointRow, row)


def signed_roots(db: Connection, shard: int, last: int) -> Iterator[tuple[int, bytes]]:
    """Yield sizes and roots that were signed, up to a size."""
    for size, root in db.rows(_ROOTS_OF, {"of": shard, "last": last}):
        yield int(size), bytes(root)


def final_note(db: Connection, shard: int) -> bytes | None:
    """Return the last checkpoint of a shard, without cosignatures."""
    row = db.one(_FINAL, {"of": shard})
    return None if row is None else row[0]


def cosignature_rows(db: Connection) -> list[CosignatureRow]:
    """Return every cosignature."""
    return [_row(CosignatureRow, row) for row in db.rows(_COSIGNATURES)]


def stored_tile(db: Connection, shard: int, level: int, number: int) -> tuple[bytes, bytes] | None:
    """Return hashes and root of a stored tile."""
    row = db.one(_TILE, {"of": shard, "height": level, "place": number})
    return None if row is None else (row[0], row[1])


def count_tiles(db: Connection, shard: int) -> int:
    """Return how many tiles of a shard are stored."""
    row = db.one(_TILE_COUNT, {"of": shard})
    return 0 if row is None else int(row[0])


def pruning_rows(db: Connection) -> list[PruningRow]:
    """Return every pruning."""
    return [_row(PruningRow, row) for row in db.rows(_PRUNINGS)]


def node_rows(db: Connection) -> Iterator[NodeRow]:
    """Yield where each node stands."""
    for row in db.stream(_NODES):
        yield _row(NodeRow, row)


def strays(db: Connection) -> list[tuple[str, int]]:
    """Return table and number of evidence documents and signatures that belong to no decision."""
    return [(name, int(row[0])) for name, found in _STRAYS.items() for row in db.rows(found)]


def imported(db: Connection) -> bool:
    """Tell whether the database says that it was made of an export."""
    return db.one(_IMPORTED) is not None


def integrity(db: Connection) -> str:
    """Return what the engine says of its own structures: "ok", or the first thing that is wrong."""
    row = db.one(_INTEGRITY)
    return "nothing" if row is None else str(row[0])
