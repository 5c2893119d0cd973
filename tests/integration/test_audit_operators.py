"""An audit knows what operators did: labels, re-admission, credentials, the two-person rule."""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bootlease.audit import ProofTrust, verify_proof
from bootlease.cli.ledger_check import Ground, check_ledger
from bootlease.model import Effect
from bootlease.ports import CredentialRevocation, OperatorStore, RuleChange
from bootlease.store import auditoperators
from bootlease.store.auditreader import audit_reader, lease_proof
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.recorded_verifier import (
    AUTHOR,
    RecordedVerifier,
    recorded_verifier,
)
from bootlease.testing.scene import default_lease
from bootlease.token import KeySet, VerificationKey
from bootlease.verifier.datadir import DATABASE
from bootlease.verifier.keys import Keys

ALICE, BOB = b"a" * 32, b"b" * 32


def ground_of(database: Path, keys: Keys) -> Ground:
    """What an audit of a database is told."""
    tokens = KeySet((VerificationKey(keys.token.public),))
    return Ground(database, keys.ledger.key, tokens=tokens.to_cose())


def refusing(database: Path, keys: Keys) -> list[str]:
    """What an audit finds wrong."""
    outcome = check_ledger(ground_of(database, keys), 1, lambda _done, _total: None)
    return [
        each.finding.id for each in outcome.differences if each.finding.effect is Effect.REFUSES
    ]


def labelling(
    node: bytes, labels: tuple[str, ...]
) -> Callable[[OperatorStore, int], Coroutine[Any, Any, None]]:
    """Return an operator's act that gives a node other labels."""

    async def act(store: OperatorStore, now: int) -> None:
        await store.label(node, labels, now=now, author=AUTHOR)

    return act


def test_labels_of_a_node_stand_in_its_proofs(tmp_path: Path, local_ca: LocalCA) -> None:
    """Each lease is proven with the record that it was granted by, of before and after."""
    with recorded_verifier(tmp_path / "verifier", local_ca) as verifier:
        node = verifier.record(1, 2)[0]
        for labels in (("role=build",), (), ("role=test",)):
            verifier.clock.time += 1
            verifier.operate(labelling(node.node, labels))
            assert not verifier.decide(node)
            verifier.lapse(node)
            assert all(verifier.decide(node) for _ in range(2))
        keys = verifier.keys
    trust = ProofTrust(keys.ledger.key, KeySet((VerificationKey(keys.token.public),)))
    proven = []
    with audit_reader(tmp_path / "verifier" / DATABASE) as reader:
        for lease in node.leases:
            proof = lease_proof(reader, lease.lease_id)
            assert proof is not None
            report = verify_proof(proof, trust)
            assert report.enrolled
            proven.append((report.decisions, b"role=build" in proof.enrolment.record))
    # Without labels the record is the one of the enrolment once more.
    assert proven == [(1, False), (2, False), (1, True), (2, True)] + [(1, False), (2, False)] * 2
    assert refusing(tmp_path / "verifier" / DATABASE, keys) == []


def test_a_partly_granted_decision_is_proven_and_audited(tmp_path: Path, local_ca: LocalCA) -> None:
    """What was left out is missing nowhere: not in the ledger, not in a lease's proof."""
    denied = dataclasses.replace(default_lease(("deploy:prod",)), optional=True)
    with recorded_verifier(tmp_path / "verifier", local_ca) as verifier:
        (node,) = verifier.record(1, 1)
        assert verifier.decide(node, [denied, default_lease(), denied, default_lease()])
        assert verifier.decide(node)
        keys = verifier.keys
    trust = ProofTrust(keys.ledger.key, KeySet((VerificationKey(keys.token.public),)))
    with audit_reader(tmp_path / "verifier" / DATABASE) as reader:
        for lease in node.leases:
            proof = lease_proof(reader, lease.lease_id)
            assert proof is not None
            assert verify_proof(proof, trust).enrolled
    assert len(node.leases) == 4
    assert refusing(tmp_path / "verifier" / DATABASE, keys) == []


def test_a_readmitted_node_is_no_broken_chain(tmp_path: Path, local_ca: LocalCA) -> None:
    """Its counters begin anew where the ledger says so, and only there."""
    with recorded_verifier(tmp_path / "verifier", local_ca) as verifier:
        node, other = verifier.record(2, 2)
        cleared = node.device.clock_info
        node.device.clock_info = dataclasses.replace(cleared, reset_count=9)
        verifier.lapse(node)
        assert verifier.decide(node)
        node.device.clock_info = cleared
        verifier.lapse(node)
        assert not verifier.decide(node)
        verifier.operate(
            lambda store, now: store.readmit(node.node, "cleared", now=now, author=AUTHOR)
        )
        assert verifier.decide(node)
        assert verifier.decide(other)
        verifier.operate(
            lambda store, now: store.readmit(node.node, "again", now=now, author=AUTHOR)
        )
        keys = verifier.keys
    database = tmp_path / "verifier" / DATABASE
    assert refusing(database, keys) == []
    with pytest.MonkeyPatch.context() as forgetting:
        forgetting.setattr(auditoperators, "readmissions", lambda _db: [])
        assert set(refusing(database, keys)) == {"stored.chain.broken", "stored.node.differs"}


@contextmanager
def altered(database: Path, folder: Path) -> Iterator[tuple[sqlite3.Connection, Path]]:
    """Lend a copy of a database without the triggers that forbid changes."""
    copy = folder / "copy.db"
    shutil.copy(database, copy)
    db = sqlite3.connect(copy)
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    yield db, copy
    db.close()


def run_office(verifier: RecordedVerifier) -> None:
    """Let alice and bob run a verifier under the rule; bob goes, and carol comes."""
    add = verifier.add_credential
    add(ALICE, "alice", maker=BOB)
    add(BOB, "bob")
    add(b"c" * 32, "carol")
    switched = verifier.operate(
        lambda store, now: store.set_two_person(demanded=True, now=now, author=AUTHOR)
    )
    assert switched is RuleChange.CHANGED
    gone = verifier.operate(
        lambda store, now: store.revoke_credential(b"c" * 32, now=now, author=AUTHOR)
    )
    assert gone is CredentialRevocation.REVOKED


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("SELECT 1", []),
        (
            "UPDATE credentials SET roles = 'auditor' WHERE label = 'alice'",
            ["stored.row.unrecorded"],
        ),
        (
            "UPDATE credentials SET joint = 1 WHERE label = 'alice'",
            ["stored.row.unrecorded"],
        ),
        (
            "UPDATE credentials SET maker = NULL WHERE label = 'alice'",
            ["stored.row.unrecorded"],
        ),
        (
            "UPDATE credentials SET revoked_at = NULL WHERE label = 'carol'",
            ["stored.credential.revocation"],
        ),
        (
            "UPDATE credentials SET revoked_at = revoked_at + 1 WHERE label = 'carol'",
            ["stored.credential.revocation"],
        ),
        (
            "UPDATE credentials SET revoked_at = 1 WHERE label = 'alice'",
            ["stored.credential.revocation"],
        ),
        ("DELETE FROM settings WHERE name = 'two-person'", ["stored.two-person.differs"]),
        ("UPDATE join_tokens SET labels = 'role=prod'", ["stored.row.unrecorded"]),
        ("UPDATE join_tokens SET replaces = x'00'", ["stored.row.unrecorded"]),
    ],
)
def test_rights_that_were_only_written_are_found(
    office: tuple[Path, Keys], tmp_path: Path, change: str, found: list[str]
) -> None:
    """Another role, a revocation taken back, the rule switched off behind the ledger's back."""
    database, keys = office
    with altered(database, tmp_path) as (db, copy):
        db.execute(change)
        db.commit()
        assert refusing(copy, keys) == found


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory, local_ca: LocalCA) -> tuple[Path, Keys]:
    """The database of a verifier that several people ran, and its keys."""
    folder = tmp_path_factory.mktemp("office") / "verifier"
    with recorded_verifier(folder, local_ca) as verifier:
        verifier.record(1, 1)
        verifier.add_join_token(b"join")
        run_office(verifier)
        keys = verifier.keys
    with sqlite3.connect(folder / DATABASE) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return folder / DATABASE, keys
