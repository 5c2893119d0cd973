"""The tables of a verifier, as SQLAlchemy Core knows them.

What each keeps, and what must hold of it:

- ``nodes``: one row per TPM, EK and AK together, so that a quote can never be checked with the AK
  of another record (attack B9), with what its decisions move: the lineage and ``high_water``, which
  outlives refusals, lineages and re-enrolment. The row is short because every decision rewrites it;
  what is long stands in ``enrolment_records``.
- Decisions, the ledger and all that they name by digest are append-only (``APPEND_ONLY``): triggers
  forbid the rest, whoever opens the file. Evidence and logs (``PRUNED``) may be deleted where a
  row of ``prunings`` says that they are too old to keep; nobody may ever alter them.
- ``challenges``, ``pending_enrolments``, ``proposals`` and ``answers`` are short-lived; what has
  expired is swept.
- ``blobs`` are content-addressed: a fleet booting one image stores its log once.
- ``entries``, ``tiles`` and ``checkpoints`` are the ledger. A tile is stored when it is full; the
  last one of each level is made from what is below it.

Numbers and positions are given by the writer, in order. Each decision costs a page for every index
on something random, so there are few of these: a node's decisions are found by following
``previous`` in their records, and only challenges that were asked for are counted.

Times are whole seconds since the epoch. Secrets are stored as SHA-256 of 256 random bits; they
need no slow hash.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

APPEND_ONLY: Final = (
    "decisions",
    "token_signatures",
    "delegations",
    "policies",
    "reference_sets",
    "roots",
    "enrolment_records",
    "governance",
    "shards",
    "entries",
    "tiles",
    "checkpoints",
    "cosignatures",
    "prunings",
    "revocations",
)
PRUNED: Final = ("evidence", "blobs")

IMPORTED: Final = "imported"
"""Name of the setting that marks a database as made of an export: its value is the SHA-256 of that
file, in hex. It has no nodes, and no verifier opens it."""

TWO_PERSON: Final = "two-person"
"""Name of the setting that is there while the two-person rule holds."""

settings: Final = Table(
    "settings",
    METADATA,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)

credentials: Final = Table(
    "credentials",
    METADATA,
    Column("digest", LargeBinary, primary_key=True),
    Column("label", String, nullable=False),
    Column("roles", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("maker", LargeBinary),
    Column("joint", Integer, nullable=False),
    Column("revoked_at", BigInteger),
)
"""``maker`` is the credential of whoever saw this one when it was made; ``joint`` tells that two
persons made it, because the two-person rule demanded that. Rows stay when they are revoked: who
made whom decides who may approve what."""

join_tokens: Final = Table(
    "join_tokens",
    METADATA,
    Column("digest", LargeBinary, primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("node", LargeBinary),
    Column("labels", String, nullable=False),
    Column("replaces", LargeBinary),
)
"""``labels`` go into the record of the node that enrols; it takes the place of ``replaces``."""

proposals: Final = Table(
    "proposals",
    METADATA,
    Column("digest", LargeBinary, primary_key=True),
    Column("act", String, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("options", LargeBinary, nullable=False),
    Column("proposer", LargeBinary, nullable=False),
    Column("author", String, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("proposed_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)
"""What the two-person rule holds back until another person approves it. A row goes when it is
approved or has expired; the ledger keeps who proposed and approved what."""

roots: Final = Table(
    "roots",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("certificate", LargeBinary, nullable=False),
    Column("added_at", BigInteger, nullable=False),
)

reference_sets: Final = Table(
    "reference_sets",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("name", String, nullable=False, index=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("document", LargeBinary, nullable=False),
    Column("registered_at", BigInteger, nullable=False),
)

policies: Final = Table(
    "policies",
    METADATA,
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("id", String, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("activated_at", BigInteger, nullable=False),
)

revocations: Final = Table(
    "revocations",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("in_force", Integer, nullable=False),
    Column("reason", String, nullable=False),
    Column("author", String, nullable=False),
    Column("at", BigInteger, nullable=False),
)
"""The last row of a kind and subject counts: it revokes, or ends what an earlier one revoked."""

pending_enrolments: Final = Table(
    "pending_enrolments",
    METADATA,
    Column("id", LargeBinary, primary_key=True),
    Column("node", LargeBinary, nullable=False, index=True),
    Column("enrolment", LargeBinary, nullable=False),
    Column("ek_chain", LargeBinary, nullable=False),
    Column("secret_digest", LargeBinary, nullable=False),
    Column("join_token", LargeBinary),
    Column("policy_epoch", Integer, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

nodes: Final = Table(
    "nodes",
    METADATA,
    Column("node", LargeBinary, primary_key=True),
    Column("enrolment", LargeBinary, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("high_water", LargeBinary, nullable=False),
    Column("version", Integer, nullable=False),
    Column("prior", LargeBinary),
    Column("decision", LargeBinary),
    sqlite_with_rowid=False,
)

enrolment_records: Final = Table(
    "enrolment_records",
    METADATA,
    Column("digest", LargeBinary, primary_key=True),
    Column("document", LargeBinary, nullable=False),
    Column("ek_chain", LargeBinary, nullable=False),
)

challenges: Final = Table(
    "challenges",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("nonce", LargeBinary, nullable=False, unique=True),
    Column("node", LargeBinary, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("asked", Integer, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("spent_at", BigInteger),
    Index(None, "node", sqlite_where=text("asked = 1"), postgresql_where=text("asked = 1")),
)

answers: Final = Table(
    "answers",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("request", LargeBinary, nullable=False, unique=True),
    Column("node", LargeBinary, nullable=False),
    Column("granted", Integer, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

blobs: Final = Table(
    "blobs",
    METADATA,
    Column("digest", LargeBinary, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

evidence: Final = Table(
    "evidence",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("document", LargeBinary, nullable=False),
)
"""Under the number of its decision: a challenge is used once, so evidence is decided on once."""

decisions: Final = Table(
    "decisions",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("node", LargeBinary, nullable=False),
    Column("evidence", LargeBinary, nullable=False),
    Column("granted", Integer, nullable=False),
    Column("decided_at", BigInteger, nullable=False),
    Column("shard", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("logs", LargeBinary, nullable=False),
    Column("claims", LargeBinary, nullable=False),
    Column("record", LargeBinary, nullable=False),
)
"""``claims`` and ``logs`` are digests of 32 bytes, one after the other. ``root`` is the evidence
digest that the lineage began with and ``logs`` what its evidence names, entries of an IMA list
among it: what must be kept for it.
"""

token_signatures: Final = Table(
    "token_signatures",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("signatures", LargeBinary, nullable=False),
)
"""What is needed to give the tokens of a grant back besides record and evidence, as in
``token.signatures``, under the number of the decision. For one lease these are 102 bytes, where its
token has more than a thousand; in ``decisions`` they would fill its pages so badly that they took
three times as much.
"""

delegations: Final = Table(
    "delegations",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("lease_id", LargeBinary, nullable=False, unique=True),
    Column("parent", LargeBinary, nullable=False),
    Column("grant_use", LargeBinary, nullable=False, unique=True),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("encoding", String, nullable=False),
    Column("shard", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("record", LargeBinary, nullable=False),
    Column("claims", LargeBinary, nullable=False),
    Column("signatures", LargeBinary, nullable=False),
)
"""Leases that a holder passed on: one row for each grant that became one, for ``grant_use`` is
unique. ``claims`` is what its token says, whole; ``signatures`` as in ``token_signatures``."""

prunings: Final = Table(
    "prunings",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("before", BigInteger, nullable=False),
    Column("record", LargeBinary, nullable=False, unique=True),
)

governance: Final = Table(
    "governance",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("subject", LargeBinary, index=True),
    Column("kind", String, nullable=False),
    Column("record", LargeBinary, nullable=False),
    Column("shard", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
)
"""``subject`` is the digest of what the record is about, where that has one."""

event_streams: Final = Table(
    "event_streams",
    METADATA,
    Column("id", String, primary_key=True),
    Column("method", String, nullable=False),
    Column("audience", String, nullable=False),
    Column("endpoint", String),
    Column("authorization", String),
    Column("secret", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    Column("dropped_at", BigInteger),
)
"""``secret`` is the SHA-256 of what the receiver shows. What the verifier shows to it stands in
``authorization``, the one secret of this database that is no hash: it is sent."""

stream_events: Final = Table(
    "stream_events",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("stream", String, nullable=False, index=True),
    Column("jti", String, nullable=False),
    Column("queued_at", BigInteger, nullable=False),
    Column("document", LargeBinary, nullable=False),
    UniqueConstraint("stream", "jti"),
)
"""What waits for its receiver, which may acknowledge it in any order."""

event_positions: Final = Table(
    "event_positions",
    METADATA,
    Column("source", String, primary_key=True),
    Column("number", BigInteger, nullable=False),
)
"""How far decisions and governance records have been made into events."""

shards: Final = Table(
    "shards",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", String, nullable=False, unique=True),
    Column("origin", String, nullable=False, unique=True),
    Column("opened_at", BigInteger, nullable=False),
)

entries: Final = Table(
    "entries",
    METADATA,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("leaf", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

tiles: Final = Table(
    "tiles",
    METADATA,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("hashes", LargeBinary, nullable=False),
)

checkpoints: Final = Table(
    "checkpoints",
    METADATA,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", LargeBinary, nullable=False),
    Column("protected", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""One for each group of decisions, with what its receipts were signed with."""

cosignatures: Final = Table(
    "cosignatures",
    METADATA,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("name", String, primary_key=True),
    Column("line", LargeBinary, nullable=False),
)
