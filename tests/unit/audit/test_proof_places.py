"""Proofs whose leaves stand in the ledger, signed, and still do not fit the lease."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bootlease.audit import ProofTrust, build_proof, verify_proof
from bootlease.audit.enrolments import check_chain, check_enrolment
from bootlease.audit.trees import verify_trees
from bootlease.errors import VerificationError
from bootlease.evidence import TokenEncoding
from bootlease.ledger import Receipt
from bootlease.ledger.prooffile import Place, ProofFile
from bootlease.testing.recorded import Decided, RecordedHistory
from bootlease.testing.scene import default_lease


def sealed_again(history: RecordedHistory, decided: Decided, claims: bytes) -> Receipt:
    """Let the ledger seal a further leaf of a decision, which no honest one does."""
    record = decided.record.digest
    position = history.position(record)
    assert position is not None
    (receipt,) = history.append(record, [claims])
    history._positions[record] = position
    return receipt


def prove(history: RecordedHistory, decided: Decided) -> ProofFile:
    """Build the proof of a decision's first lease, with its token."""
    lease, token = decided.claims[0].lease_id, history.token(decided)
    return build_proof(decided.record.digest, lease, history, token=token)


def refusals(history: RecordedHistory, proof: ProofFile) -> set[str]:
    """Return why a proof is refused."""
    with pytest.raises(VerificationError) as refused:
        verify_proof(proof, ProofTrust(history.ledger.key, history.keys))
    return {finding.id for finding in refused.value.findings}


def test_claims_that_the_decision_does_not_make_refuse(history: RecordedHistory) -> None:
    """A ledger that seals other claims with a decision's record has granted nothing by it."""
    other = history.decide().claims[0]
    decided = history.decide()
    receipt = sealed_again(history, decided, other.digest)
    proof = prove(history, decided)
    last = replace(
        proof.decisions[-1],
        claims=(other.digest,),
        place=Place(0, receipt.index, receipt.path),
    )
    forged = replace(
        proof,
        claims=other.encoded(),
        decisions=(*proof.decisions[:-1], last),
        token=None,
        receipt=None,
    )
    assert refusals(history, forged) == {"proof.claims.mismatch"}


def test_the_receipt_of_another_place_refuses(history: RecordedHistory) -> None:
    """Where a ledger holds a lease twice, token and proof speak of one place."""
    wish = replace(default_lease(), encoding=TokenEncoding.JWT)
    decided = history.decide([wish])
    receipt = sealed_again(history, decided, decided.claims[0].digest)
    proof = replace(prove(history, decided), receipt=receipt.tlog_proof())
    assert refusals(history, proof) == {"proof.receipt.mismatch"}


def test_a_leaf_in_no_shard_of_the_proof_refuses(history: RecordedHistory) -> None:
    """Whoever asks the trees for a shard that they lack is told so."""
    proof = prove(history, history.decide())
    trees = verify_trees(proof, history.ledger.key)
    with pytest.raises(VerificationError) as refused:
        trees.verify_leaf(b"", Place(1, 0, ()))
    assert [finding.id for finding in refused.value.findings] == ["proof.shard.missing"]


def test_a_piece_that_is_gone_is_named(history: RecordedHistory) -> None:
    """What no replay needs, but a proof does, is named where it is not kept."""
    decided = history.decide()
    history._positions.pop(decided.record.digest)
    with pytest.raises(VerificationError) as refused:
        prove(history, decided)
    assert [finding.id for finding in refused.value.findings] == ["proof.piece.missing"]


@pytest.mark.parametrize("member", ["ek_public", "ak_public"])
def test_a_record_with_an_unsound_key_refuses(history: RecordedHistory, member: str) -> None:
    """The keys of an enrolment record are accepted as they were when it was made."""
    changed: dict[str, Any] = {member: b"\0"}
    other = replace(history.scene.enrolment, **changed)
    assert [finding.id for finding in check_enrolment(other)] == ["enrolment.key.invalid"]


def ids_of_chain(history: RecordedHistory, *, chain: Any = None, **endorsement: Any) -> list[str]:
    """Return what is wrong with an endorsement that was changed."""
    enrolment = history.scene.enrolment
    assert enrolment.endorsement is not None
    changed = replace(enrolment, endorsement=replace(enrolment.endorsement, **endorsement))
    roots = history.scene.roots.members
    given = history.scene.node.ek_chain() if chain is None else chain
    return [finding.id for finding in check_chain(changed, given, roots)]


def test_a_manufacturers_word_is_that_of_its_certificates(history: RecordedHistory) -> None:
    """Root, certificates and what they say are those of the record."""
    assert ids_of_chain(history) == []
    assert ids_of_chain(history, root=bytes(32)) == ["endorsement.root.missing"]
    assert ids_of_chain(history, chain=[b"rubbish"]) == ["endorsement.malformed"]
    assert ids_of_chain(history, not_after=1) == ["endorsement.mismatch"]
