"""A whole database audited: unchanged it is found so, and one changed cell is found anywhere."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest

from bootlease.audit import ProofTrust, verify_proof
from bootlease.cli import run
from bootlease.cli.ledger_check import Ground, check_ledger
from bootlease.evidence import TokenEncoding
from bootlease.ledger.prooffile import parse_proof
from bootlease.model import Effect
from bootlease.store.auditreader import audit_reader, lease_proof
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.recorded_verifier import (
    ISSUER,
    JWT,
    RecordedNode,
    RecordedVerifier,
    recorded_verifier,
)
from bootlease.testing.scene import POLICY, default_lease
from bootlease.token import KeySet, VerificationKey
from bootlease.verifier.datadir import DATABASE, load_keys
from bootlease.verifier.keys import Keys

MONTH: Final = 31 * 86_400
TABLES: Final = (
    *("decisions", "token_signatures", "evidence", "blobs", "policies", "reference_sets", "roots"),
    *("enrolment_records", "governance", "shards", "entries", "checkpoints", "nodes"),
    *("credentials", "join_tokens"),
)
UNRECORDED: Final = {("nodes", "generation"), ("nodes", "version"), ("join_tokens", "node")}
"""What the ledger does not record, such as the end of a lineage, or whose a join token became."""
NOT_MISSED: Final = {"checkpoints", "credentials", "join_tokens"}
"""Tables of which a row may be gone: a later one covers it, or nobody can use it any more."""


@dataclass(frozen=True, slots=True)
class History:
    """A verifier's folder, closed, and what happened in it.

    Attributes:
        folder: The folder.
        nodes: Its nodes.
    """

    folder: Path
    nodes: list[RecordedNode]

    @property
    def database(self) -> Path:
        """The database."""
        return self.folder / DATABASE

    def ground(self, database: Path | None = None) -> Ground:
        """Return what an audit of a database is told."""
        return ground_of(database or self.database, load_keys(self.folder, ISSUER))


def ground_of(database: Path, keys: Keys, *, live: bool = True) -> Ground:
    """Return what an audit of a database is told, with the keys of its verifier."""
    tokens = KeySet((VerificationKey(keys.token.public),))
    return Ground(database, keys.ledger.key, tokens=tokens.to_cose(), live=live)


def live(verifier: RecordedVerifier) -> list[RecordedNode]:
    """Let three nodes live through two months, a refusal and another policy."""
    nodes = verifier.record(3, 3)
    verifier.decide(nodes[0], [JWT, default_lease(("repo:acme/tools",))])
    assert not verifier.decide(nodes[1], [default_lease(("deploy:prod",))])
    verifier.clock.time += MONTH
    for node in nodes[:2]:
        verifier.lapse(node)
        verifier.decide(node)
    verifier.use_policy(POLICY.replace("120", "90"))
    verifier.clock.time += 30
    verifier.decide(nodes[0], [JWT])
    verifier.add_join_token(b"join")
    return nodes


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory, local_ca: LocalCA) -> History:
    """Two months of three nodes."""
    folder = tmp_path_factory.mktemp("recorded") / "verifier"
    with recorded_verifier(folder, local_ca) as verifier:
        nodes = live(verifier)
    with sqlite3.connect(folder / DATABASE) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return History(folder, nodes)


def refusing(ground: Ground) -> list[str]:
    """Return what an audit finds wrong."""
    outcome = check_ledger(ground, 1, lambda _done, _total: None)
    return [
        f"{each.where}: {each.finding.id}"
        for each in outcome.differences
        if each.finding.effect is Effect.REFUSES
    ]


def altered_copy(history: History, folder: Path) -> sqlite3.Connection:
    """Return an open copy of the database, without the triggers that forbid changes."""
    copy = folder / "copy.db"
    shutil.copy(history.database, copy)
    db = sqlite3.connect(copy)
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    return db


def columns() -> list[tuple[str, str]]:
    """Return the tables and columns of the ledger, as the schema has them."""
    from bootlease.store.tables import METADATA  # noqa: PLC0415 - for the cases alone

    return [
        (name, column)
        for name in TABLES
        for column in METADATA.tables[name].columns.keys()  # noqa: SIM118 - a column collection
        if (name, column) not in UNRECORDED
    ]


def other(value: object) -> object:
    """Return another value of the same kind."""
    if isinstance(value, bytes):
        middle = len(value) // 2
        return value[:middle] + bytes([value[middle] ^ 1]) + value[middle + 1 :]
    if isinstance(value, int):
        return value + 1000
    return b"\x01" * 32 if value is None else f"{value}x"


def test_an_unchanged_ledger_is_found_so(history: History) -> None:
    """Every decision of a sound database is made again, and nothing is found."""
    outcome = check_ledger(history.ground(), 1, lambda _done, _total: None)
    assert outcome.differences == []
    assert outcome.decisions == 14


@pytest.mark.parametrize(("table", "column"), columns())
def test_a_changed_cell_is_found(history: History, tmp_path: Path, table: str, column: str) -> None:
    """One cell of the ledger's tables with another value is found, in the first and last row."""
    db = altered_copy(history, tmp_path)
    key = [row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[5]]
    rows = db.execute(f"SELECT {', '.join(key)} FROM {table} ORDER BY {', '.join(key)}").fetchall()  # noqa: S608 - names of the schema
    db.close()
    where = " AND ".join(f"{name} = ?" for name in key)
    for row in {rows[0], rows[-1]}:
        db = altered_copy(history, tmp_path)
        select = f"SELECT {column} FROM {table} WHERE {where}"  # noqa: S608 - names of the schema
        (value,) = db.execute(select, row).fetchone()
        update = f"UPDATE {table} SET {column} = ? WHERE {where}"  # noqa: S608 - names of the schema
        db.execute(update, (other(value), *row))
        db.commit()
        db.close()
        assert refusing(history.ground(tmp_path / "copy.db")), (table, column, row)


@pytest.mark.parametrize("table", [name for name in TABLES if name not in NOT_MISSED])
def test_a_deleted_row_is_found(history: History, tmp_path: Path, table: str) -> None:
    """A row of the ledger that is gone is found."""
    db = altered_copy(history, tmp_path)
    key = [row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[5]]
    order = ", ".join(f"{name} DESC" for name in key)
    row = db.execute(f"SELECT {', '.join(key)} FROM {table} ORDER BY {order}").fetchone()  # noqa: S608 - names of the schema
    where = " AND ".join(f"{name} = ?" for name in key)
    db.execute(f"DELETE FROM {table} WHERE {where}", row)  # noqa: S608 - names of the schema
    db.commit()
    db.close()
    assert refusing(history.ground(tmp_path / "copy.db"))


@pytest.mark.parametrize("value", [None, 7, "text", b"", 2.5])
def test_a_cell_of_another_type_is_found(history: History, tmp_path: Path, value: object) -> None:
    """SQLite lets any cell hold anything; what has no place there is found, not stumbled over."""
    db = altered_copy(history, tmp_path)
    db.execute("PRAGMA ignore_check_constraints = ON")
    for column in ("record", "granted", "position"):
        if value is not None:
            db.execute(f"UPDATE decisions SET {column} = ? WHERE number = 2", (value,))  # noqa: S608 - names of the schema
    if value is None:
        db.execute("UPDATE nodes SET decision = NULL")
    db.commit()
    db.close()
    assert refusing(history.ground(tmp_path / "copy.db"))


def test_a_swapped_pair_of_decisions_is_found(history: History, tmp_path: Path) -> None:
    """Two rows that change places keep every digest, and are found all the same."""
    db = altered_copy(history, tmp_path)
    for first, second in ((1, -1), (2, 1), (-1, 2)):
        for table in ("decisions", "evidence"):
            db.execute(f"UPDATE {table} SET number = ? WHERE number = ?", (second, first))  # noqa: S608 - names of the schema
    db.commit()
    db.close()
    assert refusing(history.ground(tmp_path / "copy.db"))


def test_another_ledger_key_is_found(history: History, tmp_path: Path, local_ca: LocalCA) -> None:
    """A ledger that another key signed is not this one's."""
    folder = tmp_path / "other"
    with recorded_verifier(folder, local_ca):
        pass
    keys = load_keys(folder, ISSUER)
    found = refusing(ground_of(history.database, keys))
    assert any("ledger.checkpoint.key.unknown" in each for each in found)
    assert any("stored.token.key.unknown" in each for each in found)


def test_signatures_without_a_key_are_counted(history: History) -> None:
    """Where nobody gave the token keys, the signatures are noted as unchecked, one for one."""
    ground = replace(history.ground(), tokens=None)
    outcome = check_ledger(ground, 1, lambda _done, _total: None)
    assert [each.finding.id for each in outcome.differences] == ["stored.token.unchecked"] * 13


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("SET number = 99 WHERE number = 1", "token_signatures 99: stored.row.stray"),
        ("SET number = (SELECT number FROM decisions WHERE granted = 0)", "stored.token.stray"),
        ("SET number = 99 WHERE number = 1", "decision 1: stored.token.missing"),
        ("SET signatures = (SELECT max(signatures) FROM several)", "stored.token.malformed"),
        ("SET signatures = x'83260000'", "stored.token.malformed"),
        ("SET signatures = (SELECT signatures FROM second)", "token.signature.invalid"),
    ],
)
def test_signatures_in_the_wrong_place_are_found(
    history: History, tmp_path: Path, change: str, expected: str
) -> None:
    """Those of a refusal, of no decision, of another one; one too many; none."""
    db = altered_copy(history, tmp_path)
    view = "CREATE TEMP VIEW {} AS SELECT signatures FROM token_signatures WHERE {}"
    db.execute(view.format("several", "length(signatures) > 120"))
    db.execute(view.format("second", "number = 2"))
    where = "" if "WHERE number" in change else " WHERE number = 1"
    assert db.execute(f"UPDATE token_signatures {change}{where}").rowcount == 1
    db.commit()
    db.close()
    found = refusing(history.ground(tmp_path / "copy.db"))
    assert any(expected in each for each in found), found


def replay_all(history: History, *options: str, **environment: str) -> tuple[int, Any]:
    """Run ``bootlease replay --all --json`` in a process of its own."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bootlease", "replay", "--all", "--json"),
            *("--data", str(history.folder), *options),
        ],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def test_nothing_but_the_rows_shows_in_the_result(history: History, tmp_path: Path) -> None:
    """Hash seed, worker count and time zone change no byte of what is found."""
    db = altered_copy(history, tmp_path)
    db.execute("UPDATE decisions SET granted = 1 - granted WHERE number IN (3, 11)")
    db.execute("UPDATE governance SET kind = 'admin.login' WHERE number = 4")
    db.commit()
    db.close()
    folder = tmp_path / "verifier"
    shutil.copytree(history.folder, folder)
    shutil.copy(tmp_path / "copy.db", folder / DATABASE)
    changed = History(folder, [])
    results = [
        replay_all(changed, "--workers", workers, PYTHONHASHSEED=seed, TZ=zone)
        for workers, seed, zone in (("1", "1", "UTC"), ("3", "2", "Asia/Tokyo"))
    ]
    assert results[0] == results[1]
    code, members = results[0]
    assert (code, members["verdict"], members["decisions"]) == (1, "different", 14)
    assert [each["where"] for each in members["differences"][:2]] == ["decision 3", "decision 11"]


def test_a_running_verifier_is_audited_as_it_stood(tmp_path: Path, local_ca: LocalCA) -> None:
    """An audit beside an open store finds nothing, and neither waits for the other."""
    with recorded_verifier(tmp_path / "verifier", local_ca) as verifier:
        nodes = verifier.record(2, 2)
        ground = ground_of(tmp_path / "verifier" / DATABASE, verifier.keys)
        assert refusing(ground) == []
        verifier.decide(nodes[0])
        assert refusing(ground) == []


def test_pruned_evidence_is_no_difference(tmp_path: Path, local_ca: LocalCA) -> None:
    """What retention let go is counted; the rest is made again, and chains still hold."""
    with recorded_verifier(tmp_path / "verifier", local_ca) as verifier:
        nodes = verifier.record(2, 3)
        verifier.clock.time += MONTH
        for node in nodes:
            verifier.lapse(node)
            verifier.decide(node)
        verifier.prune(verifier.clock.time - 86_400)
        verifier.decide(nodes[0])
        ground = ground_of(tmp_path / "verifier" / DATABASE, verifier.keys)
        outcome = check_ledger(ground, 1, lambda _done, _total: None)
    assert [each.finding.id for each in outcome.differences] == ["replay.input.pruned"] * 6
    assert outcome.decisions == 9


def test_evidence_pruned_during_an_audit_is_not_missed(tmp_path: Path, local_ca: LocalCA) -> None:
    """An auditor that finds evidence gone looks again whether that has been recorded by now."""
    with recorded_verifier(tmp_path / "verifier", local_ca) as verifier:
        node = verifier.record(1, 1)[0]
        decided_at = verifier.clock.time
        with audit_reader(tmp_path / "verifier" / DATABASE) as reader:
            assert not reader.pruned(decided_at)
            verifier.clock.time += MONTH
            verifier.lapse(node)
            verifier.decide(node)
            verifier.prune(verifier.clock.time)
            assert reader.pruned(decided_at)


@pytest.mark.parametrize(
    "insertion",
    [
        "credentials SELECT x'00', label, roles, created_at, NULL, 0, NULL FROM credentials",
        "join_tokens SELECT x'00', created_at, expires_at, NULL, '', NULL FROM join_tokens",
    ],
    ids=["credential", "join token"],
)
def test_a_key_to_the_verifier_that_was_only_written_is_found(
    history: History, tmp_path: Path, insertion: str
) -> None:
    """A credential or join token under another's label and time has no record of its own."""
    db = altered_copy(history, tmp_path)
    db.execute(f"INSERT INTO {insertion}")
    db.commit()
    db.close()
    found = refusing(history.ground(tmp_path / "copy.db"))
    assert [each.partition(" 00")[2] for each in found] == [": stored.row.unrecorded"]


def test_every_lease_is_provable_after_an_enrolment_with_the_same_ak(
    tmp_path: Path, local_ca: LocalCA
) -> None:
    """It ends the lineage, also that of a node remembered as it stood before."""
    with recorded_verifier(tmp_path / "verifier", local_ca) as verifier:
        node = verifier.record(1, 2)[0]
        verifier.enrol_again(node)
        assert not verifier.decide(node)
        verifier.lapse(node)
        assert all(verifier.decide(node) for _ in range(2))
        keys = verifier.keys
    trust = ProofTrust(keys.ledger.key, KeySet((VerificationKey(keys.token.public),)))
    lengths = []
    with audit_reader(tmp_path / "verifier" / DATABASE) as reader:
        for lease in node.leases:
            proof = lease_proof(reader, lease.lease_id)
            assert proof is not None
            lengths.append(verify_proof(proof, trust).decisions)
    assert lengths == [1, 2, 1, 2]
    assert refusing(ground_of(tmp_path / "verifier" / DATABASE, keys)) == []


def test_evidence_that_nobody_pruned_is_missed(history: History, tmp_path: Path) -> None:
    """Evidence that is gone without a pruning on record is a difference."""
    db = altered_copy(history, tmp_path)
    db.execute("DELETE FROM evidence WHERE number = 1")
    db.commit()
    db.close()
    assert "decision 1: replay.input.missing" in refusing(history.ground(tmp_path / "copy.db"))


# -- commands


@pytest.fixture
def bundle(history: History, tmp_path: Path) -> Path:
    """The join bundle of the verifier."""
    path = tmp_path / "bundle.json"
    assert run(["verifier", "bundle", "--data", str(history.folder), "-o", str(path)]) == 0
    return path


@pytest.fixture
def out(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Read what a command printed."""
    return lambda: capsys.readouterr().out


def test_a_lease_is_proven_from_the_folder_to_the_verdict(
    history: History, tmp_path: Path, bundle: Path, out: Callable[[], str]
) -> None:
    """``ledger proof`` writes what ``ledger verify`` accepts, by the bundle alone."""
    lease = history.nodes[0].leases[-1]
    file = tmp_path / "lease.proof"
    data = ("--data", str(history.folder))
    assert run(["ledger", "proof", lease.lease_id.hex(), *data, "--out", str(file)]) == 0
    out()
    assert run(["ledger", "verify", str(file), "--trust", str(bundle), "--json"]) == 0
    report = json.loads(out())
    assert (report["verdict"], report["lease"]) == ("accepted", lease.lease_id.hex())
    assert (report["token"], report["receipt"]) == ("jwt", True)
    assert report["lineage"]["decisions"] == 2
    assert report["proves"]
    assert report["does_not_prove"]
    assert run(["replay", str(file)]) == 0
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    assert run(["ledger", "verify", str(file), "--trust", str(bundle), "--json"]) == 1


@pytest.mark.parametrize("number", range(7))
def test_a_token_is_in_the_proof_years_later(
    history: History, tmp_path: Path, bundle: Path, number: int
) -> None:
    """Long after every answer was swept, token and receipt come back as the node got them."""
    folder = tmp_path / "verifier"
    shutil.copytree(history.folder, folder)
    with sqlite3.connect(folder / DATABASE) as db:
        db.execute("DELETE FROM answers")
    db.close()
    lease = history.nodes[0].leases[number]
    file = tmp_path / "lease.proof"
    asked = [lease.lease_id.hex(), "--data", str(folder), "--out", str(file)]
    assert run(["ledger", "proof", *asked]) == 0
    proof = parse_proof(file.read_bytes())
    assert (proof.token, proof.receipt) == (lease.token, lease.receipt)
    assert run(["ledger", "verify", str(file), "--trust", str(bundle)]) == 0


@pytest.fixture
def imported(history: History, tmp_path: Path) -> Path:
    """A folder made of an export."""
    export, folder = tmp_path / "export", tmp_path / "imported"
    assert run(["ledger", "export", "--data", str(history.folder), "-o", str(export)]) == 0
    asked = [str(export), "--data", str(folder), "--issuer", ISSUER]
    assert run(["ledger", "import", *asked]) == 0
    return folder


def test_an_import_is_audited_like_the_original(
    imported: Path, history: History, bundle: Path, out: Callable[[], str], tmp_path: Path
) -> None:
    """With the keys from outside nothing is found, and its leases are proven, tokens and all."""
    out()
    keys = ["--ledger-key", str(bundle), "--token-keys", str(bundle)]
    asked = ["replay", "--all", "--workers", "1", "--json", "--data", str(imported)]
    assert run([*asked, *keys]) == 0
    members = json.loads(out())
    assert (members["verdict"], members["decisions"]) == ("identical", 14)
    assert (members["differences"], members["notes"]) == ([], {})
    assert run([*asked, *keys[:2]]) == 0
    assert json.loads(out())["notes"] == {"stored.token.unchecked": 13}
    lease = history.nodes[0].leases[-1]
    file = tmp_path / "lease.proof"
    proven = [lease.lease_id.hex(), "--data", str(imported), "--out", str(file)]
    assert run(["ledger", "proof", *proven]) == 2
    assert run(["ledger", "proof", *proven, "--trust", str(bundle)]) == 0
    assert parse_proof(file.read_bytes()).token == lease.token


def test_a_token_of_an_import_is_checked(imported: Path, bundle: Path) -> None:
    """A signature that was altered before the export is found with the keys from outside."""
    db = sqlite3.connect(imported / DATABASE)
    db.execute("DROP TRIGGER token_signatures_no_update")
    (signed,) = db.execute("SELECT signatures FROM token_signatures WHERE number = 2").fetchone()
    change = "UPDATE token_signatures SET signatures = ? WHERE number = 2"
    db.execute(change, (signed[:-1] + bytes([signed[-1] ^ 1]),))
    db.commit()
    db.close()
    keys = ["--ledger-key", str(bundle), "--token-keys", str(bundle)]
    asked = ["replay", "--all", "--workers", "1", "--data", str(imported)]
    assert run([*asked, *keys]) == 1


def test_the_mark_of_an_import_hides_nothing_in_a_live_folder(
    history: History, tmp_path: Path, out: Callable[[], str]
) -> None:
    """Nodes that are gone are found there; the mark is a difference of its own."""
    folder = tmp_path / "verifier"
    shutil.copytree(history.folder, folder)
    with sqlite3.connect(folder / DATABASE) as db:
        db.execute("DELETE FROM nodes")
        db.execute("INSERT INTO settings VALUES ('imported', '00')")
    db.close()
    asked = ["replay", "--all", "--workers", "1", "--json", "--data", str(folder)]
    assert run(asked) == 1
    ids = [each["id"] for each in json.loads(out())["differences"]]
    assert sorted(ids) == ["stored.database.imported", *["stored.node.missing"] * 3]
    # Without keys nothing is served; but without the mark it is no import either.
    ground = ground_of(folder / DATABASE, load_keys(folder, ISSUER), live=False)
    assert refusing(ground) == []
    with sqlite3.connect(folder / DATABASE) as db:
        db.execute("DELETE FROM settings")
    db.close()
    assert len(refusing(ground)) == 3


def test_a_token_finds_its_decision(history: History, tmp_path: Path, bundle: Path) -> None:
    """The token itself, with its receipt, stands in the proof as it was given."""
    node = history.nodes[0]
    for lease in node.leases[3:5]:
        token, receipt = tmp_path / "token", tmp_path / "receipt"
        token.write_bytes(lease.token)
        receipt.write_bytes(lease.receipt or b"")
        beside = ["--receipt", str(receipt)] if lease.encoding is TokenEncoding.JWT else []
        file = tmp_path / f"{lease.lease_id.hex()}.proof"
        data = ["--data", str(history.folder), "--out", str(file)]
        assert run(["ledger", "proof", str(token), *data, *beside]) == 0
        assert run(["ledger", "verify", str(file), "--trust", str(bundle)]) == 0


def test_a_refused_proof_says_why(
    history: History, tmp_path: Path, bundle: Path, local_ca: LocalCA, out: Callable[[], str]
) -> None:
    """Keys that are not the ledger's refuse with a finding; rubbish is malformed."""
    file = tmp_path / "lease.proof"
    lease = history.nodes[2].leases[0].lease_id.hex()
    assert run(["ledger", "proof", lease, "--data", str(history.folder), "--out", str(file)]) == 0
    with recorded_verifier(tmp_path / "other", local_ca):
        pass
    strange = tmp_path / "strange.json"
    run(["verifier", "bundle", "--data", str(tmp_path / "other"), "-o", str(strange)])
    out()
    assert run(["ledger", "verify", str(file), "--trust", str(strange), "--json"]) == 1
    assert json.loads(out())["findings"][0]["id"] == "ledger.checkpoint.key.unknown"
    file.write_bytes(b"rubbish")
    assert run(["ledger", "verify", str(file), "--trust", str(bundle), "--json"]) == 2
    assert json.loads(out())["verdict"] == "malformed"
    assert run(["ledger", "verify", str(file)]) == 2


def test_a_proof_replaces_no_file(history: History, tmp_path: Path) -> None:
    """A file that stands where a proof is wanted is left as it is."""
    file = tmp_path / "lease.proof"
    file.write_bytes(b"kept")
    lease = history.nodes[2].leases[0].lease_id.hex()
    assert run(["ledger", "proof", lease, "--data", str(history.folder), "--out", str(file)]) == 2
    assert file.read_bytes() == b"kept"


def test_one_decision_replays(history: History, tmp_path: Path, out: Callable[[], str]) -> None:
    """A decision by its digest is made again; one that nobody made is refused."""
    data = ["--data", str(history.folder)]
    decision = history.nodes[0].decisions[-1].hex()
    assert run(["replay", decision, *data]) == 0
    assert out() == f"{decision} identical\n"
    assert run(["replay", "00" * 32, *data]) == 1
    assert run(["replay", decision]) == 2
    assert run(["replay", "--all"]) == 2
    assert run(["ledger", "proof", "00" * 16, *data, "--out", str(tmp_path / "proof")]) == 2


def test_a_folder_without_database_is_not_audited(history: History, tmp_path: Path) -> None:
    """A verifier's folder that has lost its database is not taken for an empty one."""
    folder = tmp_path / "verifier"
    shutil.copytree(history.folder, folder)
    (folder / DATABASE).unlink()
    assert run(["replay", "--all", "--data", str(folder)]) == 2
    assert not (folder / DATABASE).exists()
