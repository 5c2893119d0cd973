"""Delegations audited: unchanged they are found so, and one changed cell is found anywhere."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from bootlease import cbor
from bootlease.cli import run
from bootlease.cli.ledger_check import Ground, check_ledger
from bootlease.ledger import DelegationRecord, encode_leaf
from bootlease.model import Effect, sha256
from bootlease.store.tables import METADATA
from bootlease.testing.chains import KEYS, Wish, sign_wish, with_links
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.policies import make_policy
from bootlease.testing.recorded_verifier import (
    ISSUER,
    JWT,
    RecordedNode,
    RecordedVerifier,
    recorded_verifier,
)
from bootlease.testing.tokens import HOLDER
from bootlease.token import (
    ExecutionClaims,
    KeySet,
    VerificationKey,
    base64url,
    sign_cwt,
)
from bootlease.token.delegation import Delegation, DelegationLink, DelegationRoot
from bootlease.token.signatures import TokenSignatures
from bootlease.verifier.datadir import DATABASE, load_keys

POLICY: Final = make_policy(lease__delegation_depth="3")
MONTH: Final = 31 * 86_400
COLUMNS: Final = tuple(METADATA.tables["delegations"].columns.keys())


@dataclass(frozen=True, slots=True)
class History:
    """A verifier's folder, closed, with five delegations in it, the last of depth 3."""

    folder: Path

    @property
    def ground(self) -> Ground:
        """What an audit is told."""
        return ground_of(self.folder)


def ground_of(folder: Path, database: Path | None = None) -> Ground:
    """Return what an audit of a folder is told."""
    keys = load_keys(folder, ISSUER)
    tokens = KeySet((VerificationKey(keys.token.public),))
    return Ground(database or folder / DATABASE, keys.ledger.key, tokens=tokens.to_cose())


def delegate(verifier: RecordedVerifier) -> RecordedNode:
    """Let a node's leases be passed on: a CWT three times, a JWT twice."""
    node = verifier.enrol()
    verifier.decide(node)
    cwt = base64url.encode(node.leases[-1].token)
    for depth in (1, 2, 3):
        holder = HOLDER if depth == 1 else KEYS[depth - 1]
        cwt = verifier.pass_on(cwt, holder, KEYS[depth], depth=3 - depth)
    verifier.clock.time += 40
    verifier.decide(node, [JWT])
    jwt = node.leases[-1].token.decode()
    jwt = verifier.pass_on(jwt, HOLDER, KEYS[1], depth=1)
    verifier.pass_on(jwt, KEYS[1], KEYS[2], scope=("tool:search",))
    return node


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory, local_ca: LocalCA) -> History:
    """A verifier that has given five children."""
    folder = tmp_path_factory.mktemp("recorded") / "verifier"
    with recorded_verifier(folder, local_ca, policy=POLICY) as verifier:
        delegate(verifier)
        verifier.use_policy(make_policy(lease__delegation_depth="2"))
    with sqlite3.connect(folder / DATABASE) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return History(folder)


Change = Callable[[sqlite3.Connection], object]


@pytest.fixture
def found(history: History, tmp_path: Path) -> Callable[[Change], list[str]]:
    """Return what an audit finds in a copy with something changed."""

    def audit(change: Change) -> list[str]:
        copy = tmp_path / "copy.db"
        shutil.copy(history.folder / DATABASE, copy)
        db = sqlite3.connect(copy)
        triggers = db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            db.execute(f"DROP TRIGGER {name}")
        change(db)
        db.commit()
        db.close()
        return findings(ground_of(history.folder, copy))

    return audit


def findings(ground: Ground, effect: Effect = Effect.REFUSES) -> list[str]:
    """Return what an audit finds wrong, or notes."""
    outcome = check_ledger(ground, 1, lambda _done, _total: None)
    return [
        f"{each.where}: {each.finding.id}"
        for each in outcome.differences
        if each.finding.effect is effect
    ]


def test_sound_delegations_are_found_so(history: History) -> None:
    """Each is made again from its parent, byte for byte; each leaf is accounted for."""
    outcome = check_ledger(history.ground, 1, lambda _done, _total: None)
    assert outcome.differences == []
    with sqlite3.connect(history.folder / DATABASE) as db:
        assert db.execute("SELECT count(*) FROM delegations").fetchone() == (5,)
    db.close()
    assert run(["replay", "--all", "--data", str(history.folder), "--workers", "2"]) == 0


@pytest.mark.parametrize("column", COLUMNS)
def test_a_changed_cell_is_found(found: Callable[[Change], list[str]], column: str) -> None:
    """One cell with another value is found, in the first row and in the last."""
    for number in (1, 5):

        def change(db: sqlite3.Connection, number: int = number) -> None:
            where = f"FROM delegations WHERE number = {number}"
            (value,) = db.execute(f"SELECT {column} {where}").fetchone()
            if isinstance(value, bytes):
                middle = len(value) // 2
                value = value[:middle] + bytes([value[middle] ^ 1]) + value[middle + 1 :]
            else:
                value = value + 1000 if isinstance(value, int) else f"{value}x"
            db.execute(f"UPDATE delegations SET {column} = ? WHERE number = ?", (value, number))  # noqa: S608 - likewise

        assert any("delegation" in each for each in found(change)), (column, number)


@pytest.mark.parametrize("value", [None, 7, "text", b"", 2.5])
@pytest.mark.parametrize("column", ["record", "claims", "digest", "lease_id", "position"])
def test_a_cell_of_another_type_is_found(
    found: Callable[[Change], list[str]], column: str, value: object
) -> None:
    """What has no place in a cell is found, not stumbled over."""

    def change(db: sqlite3.Connection) -> None:
        if value is None:
            db.execute("DELETE FROM delegations WHERE number = 3")
        else:
            db.execute(f"UPDATE delegations SET {column} = ? WHERE number = 2", (value,))  # noqa: S608 - names of the schema

    assert found(change)


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_deleted_row_is_found(found: Callable[[Change], list[str]], number: int) -> None:
    """Its leaf stands without a record."""
    gone = found(lambda db: db.execute(f"DELETE FROM delegations WHERE number = {number}"))  # noqa: S608 - a number
    assert any("stored.entry.unaccounted" in each for each in gone)


def row_of(db: sqlite3.Connection, number: int) -> tuple[DelegationRecord, ExecutionClaims]:
    """Return the record and the claims of a delegation."""
    question = "SELECT record, claims FROM delegations WHERE number = ?"
    record, claims = db.execute(question, (number,)).fetchone()
    return (
        DelegationRecord.parse(record),
        ExecutionClaims.from_cwt(cbor.decode(claims, max_bytes=1 << 16)),
    )


def rewrite(
    history: History,
    db: sqlite3.Connection,
    number: int,
    record: DelegationRecord,
    claims: ExecutionClaims,
) -> None:
    """Store another delegation as a verifier that lies would: digest, leaf, signature and all."""
    claims = replace(claims, decision=record.digest)
    signer = load_keys(history.folder, ISSUER).token
    signed = TokenSignatures.under([sign_cwt(claims, signer)], signer).encode()
    db.execute(
        "UPDATE delegations SET digest = ?, record = ?, claims = ?, signatures = ?,"
        " encoding = 'cwt' WHERE number = ?",
        (record.digest, record.encoded, claims.encoded(), signed, number),
    )
    db.execute(
        "UPDATE entries SET leaf = ? WHERE position ="
        " (SELECT position FROM delegations WHERE number = ?)",
        (encode_leaf(record.digest, claims.digest), number),
    )


def root_in(claims: ExecutionClaims) -> DelegationRoot:
    """Return what a chain began with."""
    assert claims.delegation is not None
    return claims.delegation.root


Lie = Callable[[DelegationRecord, ExecutionClaims], tuple[DelegationRecord, ExecutionClaims]]


@pytest.mark.parametrize(
    ("number", "lie", "expected"),
    [
        (
            1,
            lambda record, claims: (record, replace(claims, evidence=bytes(32))),
            "stored.delegation.differs",
        ),
        (
            2,
            lambda record, claims: (record, replace(claims, nonce=bytes(32))),
            "stored.delegation.differs",
        ),
        (
            1,
            lambda record, claims: (replace(record, time=record.time + 1), claims),
            "stored.delegation.differs",
        ),
        (
            3,
            lambda record, claims: (replace(record, parent_claims=bytes(32)), claims),
            "stored.delegation.differs",
        ),
        (
            1,
            lambda record, claims: (replace(record, policy_digest=bytes(32)), claims),
            "stored.delegation.differs",
        ),
        (
            1,
            lambda record, claims: (record, replace(claims, scope=("x:y",))),
            "delegation.end.mismatch",
        ),
        (
            3,
            lambda record, claims: (
                record,
                with_links(claims, claims.delegation.links[1:]),
            ),
            "delegation.key.mismatch",
        ),
        (
            1,
            lambda record, claims: (record, replace(claims, delegation=None)),
            "stored.delegation.differs",
        ),
    ],
)
def test_what_the_verifier_itself_wrote_wrongly_is_found(
    history: History,
    found: Callable[[Change], list[str]],
    number: int,
    lie: Lie,
    expected: str,
) -> None:
    """Its own key signs and its own ledger seals: what it says must follow all the same."""

    def change(db: sqlite3.Connection) -> None:
        rewrite(history, db, number, *lie(*row_of(db, number)))

    assert f"delegation {number}: {expected}" in found(change)


def test_a_record_under_another_digest_is_found(found: Callable[[Change], list[str]]) -> None:
    """Though the ledger has a leaf for it."""

    def change(db: sqlite3.Connection) -> None:
        _, claims = row_of(db, 1)
        db.execute("UPDATE delegations SET digest = ? WHERE number = 1", (bytes(32),))
        db.execute(
            "UPDATE entries SET leaf = ? WHERE position ="
            " (SELECT position FROM delegations WHERE number = 1)",
            (encode_leaf(bytes(32), claims.digest),),
        )

    about = [each for each in found(change) if each.startswith("delegation 1")]
    assert about == ["delegation 1: stored.record.altered"]


def test_a_root_that_no_decision_granted_is_found(
    history: History, found: Callable[[Change], list[str]]
) -> None:
    """What a chain began with is looked up in the decision that it names."""

    def claim_more(db: sqlite3.Connection) -> None:
        record, claims = row_of(db, 1)
        assert claims.delegation is not None
        root = replace(claims.delegation.root, scope=("tool:search", "x:y"))
        rewrite(
            history,
            db,
            1,
            record,
            replace(claims, delegation=replace(claims.delegation, root=root)),
        )

    def claim_another(db: sqlite3.Connection) -> None:
        record, claims = row_of(db, 1)
        assert claims.delegation is not None
        root = replace(claims.delegation.root, decision=bytes(32))
        rewrite(
            history,
            db,
            1,
            record,
            replace(claims, delegation=replace(claims.delegation, root=root)),
        )

    for change in (claim_more, claim_another):
        assert "delegation 1: stored.delegation.differs" in found(change)


def test_a_depth_that_no_policy_allowed_is_found(
    history: History, found: Callable[[Change], list[str]]
) -> None:
    """The policy that the record names says how often the lease may be passed on."""

    def change(db: sqlite3.Connection) -> None:
        record, claims = row_of(db, 3)
        (digest,) = db.execute("SELECT digest FROM policies WHERE epoch = 2").fetchone()
        rewrite(history, db, 3, replace(record, policy_digest=digest, policy_epoch=2), claims)

    about = [each for each in found(change) if each.startswith("delegation 3")]
    assert about == ["delegation 3: stored.delegation.differs"]


def test_claims_in_another_form_are_found(found: Callable[[Change], list[str]]) -> None:
    """What is stored is what a token would say, and nothing besides that nobody reads."""

    def change(db: sqlite3.Connection) -> None:
        (data,) = db.execute("SELECT claims FROM delegations WHERE number = 5").fetchone()
        record, _ = row_of(db, 5)
        more = cbor.encode({**cbor.decode(data, max_bytes=1 << 16), -70000: "more"})
        db.execute("UPDATE delegations SET claims = ? WHERE number = 5", (more,))
        db.execute(
            "UPDATE entries SET leaf = ? WHERE position ="
            " (SELECT position FROM delegations WHERE number = 5)",
            (encode_leaf(record.digest, sha256(more)),),
        )

    assert "delegation 5: stored.record.malformed" in found(change)


def test_an_altered_policy_that_allowed_the_depth_is_found(
    history: History, found: Callable[[Change], list[str]]
) -> None:
    """A chain that its policy did not allow is found, though every signature holds."""

    def change(db: sqlite3.Connection) -> None:
        record, claims = row_of(db, 3)
        (document,) = db.execute("SELECT document FROM policies").fetchone()
        text = document.decode().replace("delegation_depth = 3", "delegation_depth = 2").encode()
        db.execute("UPDATE policies SET document = ?", (text,))
        rewrite(history, db, 3, record, claims)

    assert "delegation 3: stored.delegation.differs" in found(change)


def test_another_token_key_is_found(history: History) -> None:
    """And without keys, what was not checked is counted."""
    other = KeySet((VerificationKey(KEYS[9].public),)).to_cose()
    unknown = findings(replace(history.ground, tokens=other))
    assert "delegation 1: stored.token.key.unknown" in unknown
    noted = findings(replace(history.ground, tokens=None), Effect.NOTES)
    assert sum(each.startswith("delegation ") for each in noted) == 5


def test_retention_leaves_delegations_checkable(tmp_path: Path, local_ca: LocalCA) -> None:
    """Without the evidence they are compared with the decision's record, and that is noted."""
    folder = tmp_path / "verifier"
    with recorded_verifier(folder, local_ca, policy=POLICY) as verifier:
        node = delegate(verifier)
        verifier.clock.time += MONTH
        verifier.lapse(node)
        verifier.decide(node)
        verifier.prune(verifier.clock.time - 86_400)
    assert findings(ground_of(folder)) == []
    noted = findings(ground_of(folder), Effect.NOTES)
    assert [each for each in noted if "stored.delegation.root-unmade" in each] == [
        "delegation 1: stored.delegation.root-unmade",
        "delegation 4: stored.delegation.root-unmade",
    ]
    with sqlite3.connect(folder / DATABASE) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            db.execute(f"DROP TRIGGER {name}")
        four, last = row_of(db, 4)
        wider = replace(root_in(last), scope=(*root_in(last).scope, "x:y"))
        assert last.delegation is not None
        more = replace(last, delegation=replace(last.delegation, root=wider))
        rewrite(History(folder), db, 4, four, more)
        record, claims = row_of(db, 1)
        # The holder is in league with the verifier, and signs over a lease that nobody granted.
        root = replace(root_in(claims), digest=bytes(32))
        grant = sign_wish(
            Wish(1, claims.scope, claims.audience, claims.expires_at, 2), HOLDER, root.digest
        )
        chain = Delegation(root, (DelegationLink(claims.lease_id, record.thumbprint, grant),))
        grants = (sha256(grant.encode()),)
        rewrite(
            History(folder),
            db,
            1,
            replace(record, grants=grants),
            replace(claims, delegation=chain),
        )
    db.close()
    wrong = findings(ground_of(folder))
    assert "delegation 1: stored.delegation.differs" in wrong
    assert "delegation 4: stored.delegation.differs" in wrong


def test_delegations_travel_with_an_export(history: History, tmp_path: Path) -> None:
    """An import has them, and an audit of it makes each again."""
    export, target = tmp_path / "export", tmp_path / "imported"
    assert run(["ledger", "export", "--data", str(history.folder), "--output", str(export)]) == 0
    keys = load_keys(history.folder, ISSUER)
    assert run(["ledger", "import", str(export), "--data", str(target), "--issuer", ISSUER]) == 0
    with sqlite3.connect(target / DATABASE) as db:
        assert db.execute("SELECT count(*) FROM delegations").fetchone() == (5,)
    db.close()
    ground = Ground(target / DATABASE, keys.ledger.key, live=False)
    assert findings(ground) == []
