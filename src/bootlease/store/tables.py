"""The tables of a verifier, as SQLAlchemy Core knows them.

What each keeps, and what must hold of it:

- ``nodes``: one row per TPM, EK and AK together, so that a quote can never be checked with the AK
  of another record (attack B9). ``high_water`` outlives refusals, lineages and re-enrolment.
- Decisions and all that they name by digest are append-only (``APPEND_ONLY``): triggers forbid
  the rest, whoever opens the file.
- ``challenges``, ``pending_enrolments`` and ``answers`` are short-lived; what has expired is swept.
- ``blobs`` are content-addressed: a fleet booting one image stores its log once.

Times are whole seconds since the epoch. Secrets are stored as SHA-256 of 256 random bits; they
need no slow hash.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
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
    "evidence",
    "blobs",
    "policies",
    "reference_sets",
    "enrolment_records",
)

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
    Column("created_at", BigInteger, nullable=False),
)

join_tokens: Final = Table(
    "join_tokens",
    METADATA,
    Column("digest", LargeBinary, primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("node", LargeBinary),
)

roots: Final = Table(
    "roots",
    METADATA,
    Column("digest", LargeBinary, primary_key=True),
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
    Column("ek_chain", LargeBinary, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("high_water", LargeBinary, nullable=False),
)

enrolment_records: Final = Table(
    "enrolment_records",
    METADATA,
    Column("digest", LargeBinary, primary_key=True),
    Column("document", LargeBinary, nullable=False),
)

challenges: Final = Table(
    "challenges",
    METADATA,
    Column("nonce", LargeBinary, primary_key=True),
    Column("node", LargeBinary, ForeignKey("nodes.node"), nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("asked", Integer, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("spent_at", BigInteger),
    Index(None, "node", "expires_at"),
)

lineages: Final = Table(
    "lineages",
    METADATA,
    Column("node", LargeBinary, ForeignKey("nodes.node"), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("prior", LargeBinary),
    Column("decision", LargeBinary),
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
    Column("digest", LargeBinary, primary_key=True),
    Column("document", LargeBinary, nullable=False),
)

decisions: Final = Table(
    "decisions",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("node", LargeBinary, ForeignKey("nodes.node"), nullable=False),
    Column("evidence", LargeBinary, ForeignKey("evidence.digest"), nullable=False),
    Column("granted", Integer, nullable=False),
    Column("decided_at", BigInteger, nullable=False),
    Column("record", LargeBinary, nullable=False),
    Column("claims", LargeBinary, nullable=False),
    Index(None, "node", "number"),
)

answers: Final = Table(
    "answers",
    METADATA,
    Column("request", LargeBinary, primary_key=True),
    Column("node", LargeBinary, nullable=False),
    Column("granted", Integer, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)
