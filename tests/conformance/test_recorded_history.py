"""What earlier programs recorded is still proven: fixtures/history, a folder for each version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from bootlease.appraisal import AttestationResult, appraise
from bootlease.audit import ProofTrust, replay, verify_proof
from bootlease.cli.ledger_check import Ground, Outcome, check_ledger
from bootlease.ledger import DecisionRecord, NoteKey
from bootlease.ledger.prooffile import parse_proof
from bootlease.model import Effect
from bootlease.node.bundle import parse_bundle
from bootlease.store import import_into
from bootlease.store.auditreader import audit_reader
from bootlease.verifier.code import code_identity

HISTORY: Final = Path(__file__).parents[2] / "fixtures" / "history"
VERSIONS: Final = sorted(path for path in HISTORY.iterdir() if path.is_dir())
PROOFS: Final = [path for version in VERSIONS for path in sorted(version.glob("*.proof"))]
PROGRAM: Final = {"replay.code.differs", "replay.wording-differs"}
"""What may be said of a decision because another program made it."""
LATER: Final = replace(code_identity(), digest=bytes(32))


def shown(path: Path) -> str:
    """Return how a test's name shows a path."""
    return str(path.relative_to(HISTORY))


def trust(version: Path) -> ProofTrust:
    """Return what an auditor of a recorded verifier trusts: its keys, and two witnesses."""
    keys = parse_bundle((version / "bundle.json").read_bytes())
    witnesses = tuple(map(NoteKey.parse, (version / "witnesses").read_text().split()))
    return ProofTrust(keys.ledger_key, keys.keys, witnesses, quorum=2)


def audit(version: Path, folder: Path) -> Outcome:
    """Import a recorded ledger and make every decision of it again."""
    database = folder / "imported.db"
    import_into(database, version / "ledger.export")
    trusted = trust(version)
    ground = Ground(
        database, trusted.ledger, trusted.witnesses, trusted.tokens.to_cose(), live=False
    )
    return check_ledger(ground, 1, lambda _done, _total: None)


@pytest.fixture
def other_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the program that replays say every finding in other words than ever recorded."""
    decide: Callable[..., AttestationResult] = appraise

    def reworded(*given: Any, **named: Any) -> AttestationResult:
        result = decide(*given, **named)
        findings = [replace(each, message=f"Or: {each.message}") for each in result.findings]
        return replace(result, findings=tuple(findings))

    monkeypatch.setattr(replay, "appraise", reworded)


@pytest.mark.parametrize("path", PROOFS, ids=shown)
def test_a_recorded_proof_is_accepted(path: Path) -> None:
    """Every decision in it is made again; what is noted is that another program made it."""
    proof = parse_proof(path.read_bytes())
    report = verify_proof(proof, trust(path.parent), code=code_identity())
    assert {note.id for note in report.notes} <= PROGRAM
    assert (report.enrolled, report.endorsed, report.receipt) == (True, True, True)
    assert len(report.witnesses) == 2


@pytest.mark.parametrize("version", VERSIONS, ids=shown)
def test_a_recorded_ledger_is_audited(version: Path, tmp_path: Path) -> None:
    """Grants and refusals come out as they did, in every row; so do their tokens."""
    outcome = audit(version, tmp_path)
    assert [each for each in outcome.differences if each.finding.effect is Effect.REFUSES] == []
    assert {each.finding.id for each in outcome.differences} <= PROGRAM
    assert 0 < outcome.granted < outcome.decisions


@pytest.mark.usefixtures("other_words")
@pytest.mark.parametrize("version", VERSIONS, ids=shown)
def test_a_better_sentence_breaks_no_record(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later program that words its findings anew makes the same decisions, and says so."""
    monkeypatch.setattr("bootlease.cli.ledger_check.code_identity", lambda: LATER)
    outcome = audit(version, tmp_path)
    assert [each for each in outcome.differences if each.finding.effect is Effect.REFUSES] == []
    assert {each.finding.id for each in outcome.differences} == PROGRAM
    for path in version.glob("*.proof"):
        verify_proof(parse_proof(path.read_bytes()), trust(version), code=LATER)


@pytest.mark.parametrize("version", VERSIONS, ids=shown)
def test_the_recorded_decisions_are_of_many_kinds(version: Path, tmp_path: Path) -> None:
    """Notes in grants, refusals for several reasons, IMA, shards, both forms of token."""
    database = tmp_path / "imported.db"
    import_into(database, version / "ledger.export")
    with audit_reader(database) as reader:
        rows = reader.db.rows_of("SELECT record FROM decisions")
        records = [DecisionRecord.parse(row[0]) for row in rows]
    noted = {each.id for record in records if record.granted for each in record.findings}
    refused = {each.id for record in records if not record.granted for each in record.findings}
    assert noted >= {"clock.unsafe", "ima.file.unlisted"}
    assert refused >= {"policy.scope.denied", "policy.audience.denied"}
    assert any(each.startswith("reference.boot.") for each in refused)
    proofs = [parse_proof(path.read_bytes()) for path in version.glob("*.proof")]
    assert {proof.token[:1] for proof in proofs if proof.token} == {b"\xd2", b"e"}
    assert {len(proof.shards) for proof in proofs} == {1, 2}
    assert max(len(proof.decisions) for proof in proofs) == 3
