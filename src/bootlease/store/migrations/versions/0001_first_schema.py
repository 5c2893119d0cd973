"""The first schema: nodes, challenges, decisions, the ledger and what the operator decides.

Revision ID: 2026_11_ledger
"""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_ledger"
down_revision = None
branch_labels = None
depends_on = None

_APPEND_ONLY = {
    "decisions": (("number",), ("digest",)),
    "token_signatures": (("number",),),
    "delegations": (("number",), ("digest",), ("lease_id",), ("grant_use",)),
    "policies": (("epoch",),),
    "reference_sets": (("number",), ("digest",)),
    "roots": (("number",), ("digest",)),
    "enrolment_records": (("digest",),),
    "governance": (("number",), ("digest",)),
    "shards": (("number",), ("name",), ("origin",)),
    "entries": (("shard", "position"),),
    "tiles": (("shard", "level", "number"),),
    "checkpoints": (("shard", "size"),),
    "cosignatures": (("shard", "size", "name"),),
    "prunings": (("number",), ("record",)),
    "revocations": (("number",),),
}
"""Tables whose rows stay as they were written, and what is unique in each."""

_IN_USE = (
    "NOT EXISTS (SELECT 1 FROM decisions WHERE number = OLD.number"
    " AND decided_at < (SELECT max(before) FROM prunings))"
)
_PRUNED = {
    "evidence": ((("number",), ("digest",)), _IN_USE),
    "blobs": ((("digest",),), "NOT EXISTS (SELECT 1 FROM prunings)"),
}
"""Tables whose rows may be deleted when they are old, and what forbids it."""


def upgrade() -> None:
    """Make every table, and the triggers that keep the append-only ones append-only."""
    _operator_tables()
    _node_tables()
    _decision_tables()
    _ledger_tables()
    _stream_tables()
    for table, unique in _APPEND_ONLY.items():
        _keep(table, unique)
        _refuse(table, "DELETE")
    for table, (unique, too_young) in _PRUNED.items():
        _keep(table, unique)
        _refuse(table, "DELETE", too_young)


def _keep(table: str, unique: tuple[tuple[str, ...], ...]) -> None:
    _refuse(table, "UPDATE")
    # INSERT OR REPLACE deletes what it replaces, and tells no trigger unless the connection asked
    # for recursive ones.
    same = " OR ".join(
        "(" + " AND ".join(f"{column} = NEW.{column}" for column in columns) + ")"
        for columns in unique
    )
    _refuse(table, "INSERT", f"EXISTS (SELECT 1 FROM {table} WHERE {same})")  # noqa: S608 - of constants


def _refuse(table: str, verb: str, when: str = "TRUE") -> None:
    name = f"{table}_no_{verb.lower()}"
    refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    op.execute(f"CREATE TRIGGER {name} BEFORE {verb} ON {table} WHEN {when} {refuse}")


def _operator_tables() -> None:
    op.create_table(
        "settings",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_settings")),
    )
    op.create_table(
        "credentials",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("roles", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("maker", sa.LargeBinary(), nullable=True),
        sa.Column("joint", sa.Integer(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_credentials")),
    )
    op.create_table(
        "join_tokens",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("node", sa.LargeBinary(), nullable=True),
        sa.Column("labels", sa.String(), nullable=False),
        sa.Column("replaces", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_join_tokens")),
    )
    op.create_table(
        "proposals",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("act", sa.String(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("options", sa.LargeBinary(), nullable=False),
        sa.Column("proposer", sa.LargeBinary(), nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("proposed_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_proposals")),
    )
    op.create_table(
        "revocations",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("in_force", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_revocations")),
    )
    op.create_table(
        "policies",
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("activated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("epoch", name=op.f("pk_policies")),
    )
    op.create_table(
        "reference_sets",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("registered_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_reference_sets")),
        sa.UniqueConstraint("digest", name=op.f("uq_reference_sets_digest")),
    )
    op.create_index(op.f("ix_reference_sets_name"), "reference_sets", ["name"], unique=False)
    op.create_table(
        "roots",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("certificate", sa.LargeBinary(), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_roots")),
        sa.UniqueConstraint("digest", name=op.f("uq_roots_digest")),
    )


def _node_tables() -> None:
    op.create_table(
        "nodes",
        sa.Column("node", sa.LargeBinary(), nullable=False),
        sa.Column("enrolment", sa.LargeBinary(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("high_water", sa.LargeBinary(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("prior", sa.LargeBinary(), nullable=True),
        sa.Column("decision", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("node", name=op.f("pk_nodes")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "enrolment_records",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("ek_chain", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_enrolment_records")),
    )
    op.create_table(
        "pending_enrolments",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("node", sa.LargeBinary(), nullable=False),
        sa.Column("enrolment", sa.LargeBinary(), nullable=False),
        sa.Column("ek_chain", sa.LargeBinary(), nullable=False),
        sa.Column("secret_digest", sa.LargeBinary(), nullable=False),
        sa.Column("join_token", sa.LargeBinary(), nullable=True),
        sa.Column("policy_epoch", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pending_enrolments")),
    )
    op.create_index(
        op.f("ix_pending_enrolments_expires_at"), "pending_enrolments", ["expires_at"], unique=False
    )
    op.create_index(
        op.f("ix_pending_enrolments_node"), "pending_enrolments", ["node"], unique=False
    )
    op.create_table(
        "challenges",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("node", sa.LargeBinary(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("spent_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_challenges")),
        sa.UniqueConstraint("nonce", name=op.f("uq_challenges_nonce")),
    )
    op.create_index(op.f("ix_challenges_expires_at"), "challenges", ["expires_at"], unique=False)
    op.create_index(
        op.f("ix_challenges_node"),
        "challenges",
        ["node"],
        unique=False,
        sqlite_where=sa.text("asked = 1"),
        postgresql_where=sa.text("asked = 1"),
    )


def _decision_tables() -> None:
    op.create_table(
        "decisions",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("node", sa.LargeBinary(), nullable=False),
        sa.Column("evidence", sa.LargeBinary(), nullable=False),
        sa.Column("granted", sa.Integer(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("logs", sa.LargeBinary(), nullable=False),
        sa.Column("claims", sa.LargeBinary(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_decisions")),
        sa.UniqueConstraint("digest", name=op.f("uq_decisions_digest")),
    )
    op.create_table(
        "token_signatures",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("signatures", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_token_signatures")),
    )
    op.create_table(
        "evidence",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_evidence")),
        sa.UniqueConstraint("digest", name=op.f("uq_evidence_digest")),
    )
    op.create_table(
        "blobs",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_blobs")),
    )
    op.create_table(
        "delegations",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("lease_id", sa.LargeBinary(), nullable=False),
        sa.Column("parent", sa.LargeBinary(), nullable=False),
        sa.Column("grant_use", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("encoding", sa.String(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.Column("claims", sa.LargeBinary(), nullable=False),
        sa.Column("signatures", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_delegations")),
        sa.UniqueConstraint("digest", name=op.f("uq_delegations_digest")),
        sa.UniqueConstraint("grant_use", name=op.f("uq_delegations_grant_use")),
        sa.UniqueConstraint("lease_id", name=op.f("uq_delegations_lease_id")),
    )
    op.create_index(op.f("ix_delegations_expires_at"), "delegations", ["expires_at"], unique=False)
    op.create_table(
        "prunings",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("before", sa.BigInteger(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_prunings")),
        sa.UniqueConstraint("record", name=op.f("uq_prunings_record")),
    )
    op.create_table(
        "answers",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("node", sa.LargeBinary(), nullable=False),
        sa.Column("granted", sa.Integer(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_answers")),
        sa.UniqueConstraint("request", name=op.f("uq_answers_request")),
    )
    op.create_index(op.f("ix_answers_expires_at"), "answers", ["expires_at"], unique=False)


def _stream_tables() -> None:
    op.create_table(
        "event_streams",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("audience", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=True),
        sa.Column("authorization", sa.String(), nullable=True),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("dropped", sa.BigInteger(), nullable=False),
        sa.Column("dropped_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event_streams")),
    )
    op.create_table(
        "stream_events",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("jti", sa.String(), nullable=False),
        sa.Column("queued_at", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_stream_events")),
        sa.UniqueConstraint("stream", "jti", name=op.f("uq_stream_events_stream_jti")),
    )
    op.create_index(op.f("ix_stream_events_stream"), "stream_events", ["stream"], unique=False)
    op.create_table(
        "event_positions",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_event_positions")),
    )


def _ledger_tables() -> None:
    op.create_table(
        "governance",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("subject", sa.LargeBinary(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_governance")),
        sa.UniqueConstraint("digest", name=op.f("uq_governance_digest")),
    )
    op.create_index(op.f("ix_governance_subject"), "governance", ["subject"], unique=False)
    op.create_table(
        "shards",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_shards")),
        sa.UniqueConstraint("name", name=op.f("uq_shards_name")),
        sa.UniqueConstraint("origin", name=op.f("uq_shards_origin")),
    )
    op.create_table(
        "entries",
        sa.Column("shard", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("leaf", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("shard", "position", name=op.f("pk_entries")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tiles",
        sa.Column("shard", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("shard", "level", "number", name=op.f("pk_tiles")),
    )
    op.create_table(
        "checkpoints",
        sa.Column("shard", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.Column("protected", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("shard", "size", name=op.f("pk_checkpoints")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "cosignatures",
        sa.Column("shard", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("line", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("shard", "size", "name", name=op.f("pk_cosignatures")),
    )
