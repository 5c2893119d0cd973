"""Proofs: what is accepted, and that nothing else is, down to the byte."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from bootlease.appraisal import CodeIdentity
from bootlease.audit import ProofTrust, build_proof, pieces, verify_proof
from bootlease.audit.build import LeaseToken
from bootlease.audit.enrolments import check_enrolment
from bootlease.audit.proof import ProofReport
from bootlease.endorsement import TrustedRoots, parse_certificates
from bootlease.errors import MalformedError, VerificationError
from bootlease.evidence import LeaseRequest, TokenEncoding
from bootlease.ledger import (
    Checkpoint,
    Ed25519Cosigner,
    Ed25519NoteSigner,
    LedgerSigner,
    MLDSA44Cosigner,
    NoteKey,
    SignatureType,
    parse_note,
    parse_tlog_proof,
    sign_note,
)
from bootlease.ledger.prooffile import (
    MAX_PROOF,
    Place,
    ProofFile,
    ProvenDecision,
    ProvenEnrolment,
    ProvenShard,
    parse_proof,
)
from bootlease.testing import recorded
from bootlease.testing.boot import simulate_boot
from bootlease.testing.examples import uki_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.recorded import CODE, Decided, RecordedHistory
from bootlease.testing.scene import POLICY, Scene, default_lease
from bootlease.token import KeySet, PrivateKeySigner, TokenFormat, VerificationKey
from bootlease.token.cose import sign1

JWT = replace(default_lease(), encoding=TokenEncoding.JWT)


def prove(history: RecordedHistory, decided: Decided | None = None, lease: int = 0) -> ProofFile:
    """Build the proof of a lease, by default of the last."""
    decided = decided or history.decided[-1]
    return build_proof(
        decided.record.digest,
        decided.claims[lease].lease_id,
        history,
        token=history.token(decided, lease),
        witnesses=[each.key for each in history.shards[-1].cosigners],
    )


class NoReceipts:
    """A source without receipts."""

    def __init__(self, history: RecordedHistory) -> None:
        self._history = history

    def __getattr__(self, name: str) -> Any:
        return getattr(self._history, name)

    def receipt(self, shard: int, index: int) -> None:
        """Return nothing."""


def trust(history: RecordedHistory) -> ProofTrust:
    """Return what somebody who trusts the history's keys trusts."""
    return ProofTrust(history.ledger.key, history.keys)


def verify(proof: ProofFile | bytes, trusted: ProofTrust) -> ProofReport:
    """Verify a proof from its bytes."""
    return verify_proof(parse_proof(proof if isinstance(proof, bytes) else proof.encode()), trusted)


def findings(proof: ProofFile, trusted: ProofTrust) -> set[str]:
    """Return why a proof is refused."""
    with pytest.raises(VerificationError) as refused:
        verify(proof, trusted)
    return {finding.id for finding in refused.value.findings}


def witness(name: str = "witness.example/one") -> Ed25519Cosigner:
    """Return a witness with a key of its own."""
    return Ed25519Cosigner(name, PrivateKeySigner(ed25519.Ed25519PrivateKey.generate()))


def flipped(data: bytes, place: int, mask: int) -> bytes:
    """Return ``data`` with some bits of one byte changed."""
    return b"".join((data[:place], bytes((data[place] ^ mask,)), data[place + 1 :]))


def accepted_flips(data: bytes, trusted: ProofTrust, places: range | list[int]) -> list[int]:
    """Return where a changed byte was not noticed."""
    accepted = []
    for place in places:
        try:
            verify(flipped(data, place, 1 << place % 8), trusted)
            accepted.append(place)
        except (MalformedError, VerificationError):
            continue
    return accepted


@pytest.mark.parametrize("wish", [default_lease(), JWT], ids=["cwt", "jwt"])
def test_the_proof_of_a_first_lease_is_accepted(history: RecordedHistory, wish: object) -> None:
    """A lease, its token and receipt, and all that it rests on verify with two keys alone."""
    decided = history.decide([wish])  # type: ignore[list-item]  # both are lease requests
    report = verify(prove(history), trust(history))
    assert report.claims == decided.claims[0]
    assert report.claims_digest == decided.claims[0].digest
    assert (report.token, report.receipt) == (TokenFormat(decided.wishes[0].encoding.value), True)
    assert (report.decisions, report.endorsed, report.enrolled) == (1, True, True)
    assert report.code == CODE
    assert report.notes == ()


def test_a_renewal_is_proven_back_to_full_evidence(history: RecordedHistory) -> None:
    """The proof of a renewal holds the whole lineage, through a change of policy."""
    history.decide([default_lease(), default_lease(("repo:acme/tools",))])
    history.decide()
    history.scene.use_policy(POLICY.replace("life = 120", "life = 90"))
    last = history.decide([default_lease(("tool:search",)), JWT])
    proof = prove(history, lease=1)
    report = verify(proof, trust(history))
    assert (report.decisions, report.claims) == (3, last.claims[1])
    assert (len(proof.logs), len(proof.policies)) == (1, 2)
    assert report.begun_at == history.decided[0].record.time


def test_a_lineage_over_shards_is_chained(history: RecordedHistory) -> None:
    """Decisions in three shards verify, each shard tied to the one before."""
    for name in ("2026-12", "2027-01"):
        history.decide()
        history.open_shard(name)
    history.decide()
    proof = prove(history)
    assert len(proof.shards) == 3
    assert verify(proof, trust(history)).origin.endswith("/2027-01")


def test_shards_before_the_enrolment_stay_out(local_ca: LocalCA) -> None:
    """A proof begins with the shard that its first piece lies in."""
    history = RecordedHistory(Scene.create(local_ca))
    history.open_shard("2026-12")
    history.enrol()
    history.governance = {
        digest: record
        for digest, record in history.governance.items()
        if record.kind != "node.enrolled" or digest in list(history.governance)[3:]
    }
    history.decide()
    proof = prove(history)
    assert len(proof.shards) == 1
    verify(proof, trust(history))


def test_a_proof_without_token_says_so(history: RecordedHistory) -> None:
    """Where nobody kept the token, ledger and replay still prove the lease."""
    decided = history.decide()
    proof = build_proof(decided.record.digest, decided.claims[0].lease_id, history)
    report = verify(proof, trust(history))
    assert (report.token, report.receipt) == (None, False)


def test_a_token_without_receipt_is_proven_by_the_checkpoint(history: RecordedHistory) -> None:
    """A token that lost its receipt is as well proven by the proof's own inclusion path."""
    decided = history.decide()
    token = history.token(decided, receipt=False)
    proof = replace(prove(history), token=token.token)
    assert verify(proof, trust(history)).receipt is False


# -- trust


def test_own_roots_are_demanded(history: RecordedHistory, local_ca: LocalCA) -> None:
    """With roots of its own, a verifier takes no others: neither the file's nor none."""
    history.decide()
    proof = prove(history)
    own = TrustedRoots.of(parse_certificates(local_ca.roots_pem))
    assert verify(proof, replace(trust(history), roots=own)).own_roots
    strange = TrustedRoots.of(parse_certificates(LocalCA.create().roots_pem))
    refused = findings(proof, replace(trust(history), roots=strange))
    assert refused == {"proof.root.untrusted"}


def test_another_ledger_key_refuses(history: RecordedHistory, local_ca: LocalCA) -> None:
    """A proof says nothing to somebody who trusts another ledger."""
    history.decide()
    other = RecordedHistory(Scene.create(local_ca))
    trusted = replace(trust(history), ledger=other.ledger.key)
    assert findings(prove(history), trusted) == {"ledger.checkpoint.key.unknown"}


def test_another_ledgers_name_refuses(history: RecordedHistory) -> None:
    """A key vouches for the ledger that it is named after, and for no other."""
    history.decide()
    key = history.ledger.key
    renamed = NoteKey("other.example/ledger", SignatureType.ED25519, key.public)
    assert findings(prove(history), replace(trust(history), ledger=renamed)) == {
        "ledger.checkpoint.origin.mismatch"
    }


def test_a_tree_under_the_ledgers_own_name_refuses(history: RecordedHistory) -> None:
    """A shard's origin lies under the ledger's name; the name itself is that of no shard."""
    signer, name = PrivateKeySigner(ed25519.Ed25519PrivateKey.generate()), history.ledger.key.name
    history.ledger = LedgerSigner(name, signer)
    decided = history.decide()
    proof = build_proof(decided.record.digest, decided.claims[0].lease_id, history)
    tree = history.shards[0]
    bare = Checkpoint(name, len(tree.leaves), tree.root()).encode()
    shard = replace(proof.shards[0], checkpoint=sign_note(bare, Ed25519NoteSigner(name, signer)))
    assert findings(replace(proof, shards=(shard,)), trust(history)) == {"proof.origin.mismatch"}


def test_decisions_of_another_verifier_refuse(
    history: RecordedHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger does not vouch for what another verifier decided, though it has sealed it."""
    monkeypatch.setattr(recorded, "ISSUER", "https://other.example")
    history.decide()
    assert findings(prove(history), trust(history)) == {"proof.issuer.mismatch"}


def test_another_token_key_refuses(history: RecordedHistory) -> None:
    """A token of a key that is not trusted refuses the proof."""
    history.decide()
    stranger = PrivateKeySigner(ed25519.Ed25519PrivateKey.generate())
    keys = KeySet((VerificationKey(stranger.public),))
    assert findings(prove(history), replace(trust(history), tokens=keys)) == {"token.key.unknown"}


def test_another_program_is_noted(history: RecordedHistory) -> None:
    """A proof made by another program verifies, and the report says that it was another."""
    history.decide()
    report = verify_proof(prove(history), trust(history), code=CodeIdentity("9", b"\x01" * 32))
    assert [note.id for note in report.notes] == ["replay.code.differs"]


# -- witnesses


def test_witnesses_count_only_where_they_are_trusted(history: RecordedHistory) -> None:
    """Cosignatures verify by keys in the file; only a key from outside makes one count."""
    known, unknown = witness(), MLDSA44Cosigner("pq.example", MLDSA44PrivateKey.generate())
    history.cosign(known)
    history.cosign(unknown)
    history.decide()
    proof = prove(history)
    report = verify(proof, replace(trust(history), witnesses=(known.key,), quorum=1))
    assert (report.witnesses, report.unchecked) == (("witness.example/one",), ("pq.example",))
    two = replace(trust(history), witnesses=(known.key, witness("two").key), quorum=2)
    assert findings(proof, two) == {"proof.witness.quorum"}


def test_a_witness_with_two_keys_counts_once(history: RecordedHistory) -> None:
    """A quorum counts witnesses, each of which may be deceived alone, and not their keys."""
    one = witness()
    both = (one, MLDSA44Cosigner(one.key.name, MLDSA44PrivateKey.generate()))
    for each in both:
        history.cosign(each)
    history.decide()
    keys = tuple(each.key for each in both)
    proof = prove(history)
    report = verify(proof, replace(trust(history), witnesses=keys, quorum=1))
    assert report.witnesses == ("witness.example/one",)
    with pytest.raises(ValueError, match="quorum"):
        replace(trust(history), witnesses=keys, quorum=2)
    three = replace(trust(history), witnesses=(*keys, witness("two").key), quorum=2)
    assert findings(proof, three) == {"proof.witness.quorum"}


def test_a_witness_key_that_is_given_twice_is_misuse(history: RecordedHistory) -> None:
    """Not even under two names: a cosignature by it can be given out as either's."""
    signer = PrivateKeySigner(ed25519.Ed25519PrivateKey.generate())
    one, two = Ed25519Cosigner("one.example", signer), Ed25519Cosigner("two.example", signer)
    for keys in ((one.key, one.key), (one.key, two.key)):
        with pytest.raises(ValueError, match="twice"):
            replace(trust(history), witnesses=keys)


def test_a_signature_of_an_unlisted_key_refuses(history: RecordedHistory) -> None:
    """A line that nobody can check is not carried along."""
    history.cosign(witness())
    history.decide()
    proof = prove(history)
    assert findings(replace(proof, witnesses=()), trust(history)) == {"proof.witness.unknown"}


def test_the_key_of_an_absent_witness_refuses(history: RecordedHistory) -> None:
    """A key that signed nothing has no place in the file."""
    history.decide()
    proof = replace(prove(history), witnesses=(str(witness().key),))
    assert findings(proof, trust(history)) == {"proof.witness.surplus"}


def test_a_quorum_of_more_than_all_is_misuse(history: RecordedHistory) -> None:
    """A quorum that nobody can meet is the caller's mistake."""
    with pytest.raises(ValueError, match="quorum"):
        replace(trust(history), quorum=1)


# -- what stands in the file


Change = Callable[[ProofFile, ProofFile], ProofFile]


def with_last(proof: ProofFile, **changes: object) -> ProofFile:
    """Return the proof with its last decision changed."""
    last = replace(proof.decisions[-1], **changes)  # type: ignore[arg-type]  # any field
    return replace(proof, decisions=(*proof.decisions[:-1], last))


def with_enrolment(proof: ProofFile, **changes: object) -> ProofFile:
    """Return the proof with its enrolment changed."""
    changed = replace(proof.enrolment, **changes)  # type: ignore[arg-type]  # any field
    return replace(proof, enrolment=changed)


def merged(one: tuple[bytes, ...], other: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return both pools as one."""
    return tuple(sorted({*one, *other}, key=lambda piece: hashlib.sha256(piece).digest()))


SWAPS: dict[str, tuple[Change, str]] = {
    "token": (lambda a, b: replace(a, token=b.token), "ledger.receipt.signature.invalid"),
    "claims": (lambda a, b: replace(a, claims=b.claims), "proof.lease.missing"),
    "checkpoint": (lambda a, b: replace(a, shards=b.shards), "ledger.inclusion.invalid"),
    "record": (lambda a, b: with_last(a, record=b.decisions[-1].record), "replay.input.missing"),
    "evidence": (
        lambda a, b: with_last(a, evidence=b.decisions[-1].evidence),
        "replay.input.missing",
    ),
    "claims digests": (
        lambda a, b: with_last(a, claims=b.decisions[-1].claims),
        "proof.lease.missing",
    ),
    "place": (lambda a, b: with_last(a, place=b.decisions[-1].place), "ledger.inclusion.invalid"),
    "decisions": (lambda a, b: replace(a, decisions=b.decisions), "proof.lease.missing"),
    "enrolment": (lambda a, b: replace(a, enrolment=b.enrolment), "replay.input.missing"),
    "chain": (
        lambda a, b: with_enrolment(a, chain=b.enrolment.chain),
        "endorsement.key.mismatch",
    ),
    "logs": (lambda a, b: replace(a, logs=b.logs), "replay.input.missing"),
    "policies": (lambda a, b: replace(a, policies=b.policies), "replay.input.missing"),
    "more policies": (
        lambda a, b: replace(a, policies=merged(a.policies, b.policies)),
        "proof.surplus",
    ),
    "more logs": (lambda a, b: replace(a, logs=merged(a.logs, b.logs)), "proof.surplus"),
}


@pytest.mark.parametrize("name", SWAPS)
def test_pieces_of_another_proof_refuse(name: str, local_ca: LocalCA) -> None:
    """A piece of another node's proof, sound in its place, is refused in this one."""
    swap, expected = SWAPS[name]
    history = RecordedHistory(Scene.create(local_ca))
    other = RecordedHistory(Scene.create(local_ca, policy=POLICY.replace("120", "60")))
    other.ledger, other.signer = history.ledger, history.signer
    other.govern("admin.login", {"label": "somebody"})
    for each in (history, other):
        each.decide()
    one, two = prove(history), prove(other)
    if name in {"logs", "more logs"}:
        two = replace(two, logs=(b"a log",))
    verify(one, trust(history))
    assert expected in findings(swap(one, two), trust(history))


def test_a_lineage_that_leaves_one_out_refuses(history: RecordedHistory) -> None:
    """A decision between the first and the last cannot be passed over."""
    for _ in range(3):
        history.decide()
    proof = prove(history)
    short = replace(proof, decisions=(proof.decisions[0], proof.decisions[2]))
    assert "proof.lineage.broken" in findings(short, trust(history))


def test_a_lineage_without_its_beginning_refuses(history: RecordedHistory) -> None:
    """A renewal alone, whose first evidence nobody sees, proves nothing."""
    history.decide()
    history.decide()
    proof = prove(history)
    assert "proof.lineage.beginning" in findings(
        replace(proof, decisions=proof.decisions[1:]), trust(history)
    )


def test_two_lineages_are_no_lineage(history: RecordedHistory) -> None:
    """A lease after a refusal does not continue the one before it."""
    first = history.decide()
    history.decide([default_lease(("deploy:prod",))])
    second = history.decide()
    one, two = prove(history, first), prove(history, second)
    both = replace(two, decisions=(*one.decisions, *two.decisions))
    assert "proof.lineage.broken" in findings(both, trust(history))


def test_a_lineage_under_two_enrolments_is_no_lineage(history: RecordedHistory) -> None:
    """Another enrolment ends a lineage, also one that the ledger has before its first decision."""
    first = history.scene.enrolment
    history.scene.enrolled_as(enrolled_at=first.enrolled_at + 1)
    history.enrol()
    history.decide()
    history.scene.enrolled_as(enrolled_at=first.enrolled_at)
    history.decide()
    assert findings(prove(history), trust(history)) == {"replay.input.missing"}


def test_an_unchained_shard_refuses(history: RecordedHistory) -> None:
    """A second tree must be tied to the first by its first record."""
    history.decide()
    history.open_shard("2026-12")
    history.decide()
    proof = prove(history)
    first, second = proof.shards
    loose = replace(proof, shards=(first, replace(second, opening=None, path=())))
    assert findings(loose, trust(history)) == {"proof.shard.unchained"}
    login = history.govern("admin.login", {"label": "somebody"})
    other = replace(proof, shards=(first, replace(second, opening=login.encoded)))
    assert findings(other, trust(history)) == {"proof.shard.unchained"}


def test_a_fork_of_an_earlier_shard_refuses(history: RecordedHistory) -> None:
    """An earlier shard that its successor does not name is another history."""
    history.decide()
    history.open_shard("2026-12")
    history.decide()
    proof = prove(history)
    history.shards[0].leaves.append(history.shards[0].leaves[0])
    forked = replace(proof.shards[0], checkpoint=history.checkpoint(1))
    assert "proof.shard.fork" in findings(
        replace(proof, shards=(forked, proof.shards[1])), trust(history)
    )


def test_a_place_outside_the_shards_refuses(history: RecordedHistory) -> None:
    """A leaf in a shard that the file does not have is in none."""
    history.decide()
    proof = prove(history)
    place = proof.decisions[-1].place
    away = with_last(proof, place=Place(1, place.index, place.path))
    assert "proof.shard.surplus" in findings(away, trust(history))


def test_a_certificate_that_no_path_needs_refuses(history: RecordedHistory) -> None:
    """Certificates ride along only where a signature that was checked covers them."""
    history.decide()
    proof = prove(history)
    chain = (*proof.enrolment.chain, LocalCA.create().intermediate_der)
    assert findings(with_enrolment(proof, chain=chain), trust(history)) == {"endorsement.surplus"}


def test_another_records_governance_refuses(history: RecordedHistory) -> None:
    """A governance record in the ledger that is not of this enrolment does not stand for it."""
    login = history.govern("admin.login", {"label": "somebody"})
    history.decide()
    proof = prove(history)
    position = history.position(login.digest)
    assert position is not None
    size = len(history.shards[0].leaves)
    path = tuple(history.inclusion(1, position.index, size) or ())
    place = Place(0, position.index, path)
    other = with_enrolment(proof, governance=login.encoded, place=place)
    assert findings(other, trust(history)) == {"proof.enrolment.mismatch"}


@pytest.mark.parametrize("member", ["node", "enrolment"])
def test_the_record_of_another_enrolment_refuses(history: RecordedHistory, member: str) -> None:
    """The ledger's record of an enrolment must name this node, and this very enrolment."""
    enrolment = history.scene.enrolment
    details: dict[str, str | bytes] = {"node": enrolment.node, "enrolment": enrolment.digest}
    other = history.govern("node.enrolled", details | {member: bytes(32)})
    history.decide()
    position = history.position(other.digest)
    assert position is not None
    path = history.inclusion(1, position.index, len(history.shards[0].leaves)) or ()
    place = Place(0, position.index, tuple(path))
    swapped = with_enrolment(prove(history), governance=other.encoded, place=place)
    assert findings(swapped, trust(history)) == {"proof.enrolment.mismatch"}


def test_an_enrolment_after_its_decision_refuses(history: RecordedHistory) -> None:
    """A node that decided before it enrolled was not enrolled when it counted."""
    history.decide()
    history.governance.clear()
    history.enrol()
    assert findings(prove(history), trust(history)) == {"proof.enrolment.late"}


def test_an_enrolment_without_governance_record_says_so(history: RecordedHistory) -> None:
    """Where the ledger has no record of an enrolment, the report says so."""
    history.governance.clear()
    history.decide()
    assert verify(prove(history), trust(history)).enrolled is False


@pytest.mark.parametrize(
    ("member", "expected"),
    [("node", "enrolment.node.mismatch"), ("ek_digest", "enrolment.ek.mismatch")],
)
def test_an_enrolment_that_contradicts_itself_refuses(
    history: RecordedHistory, member: str, expected: str
) -> None:
    """Node id and EK digest are recomputed from the EK in the record."""
    scene = history.scene
    value = getattr(scene.enrolment, member)
    scene.enrolled_as(**{member: value[:-1] + bytes([value[-1] ^ 1])})
    history.enrol()
    history.decide()
    assert expected in findings(prove(history), trust(history))


def test_an_enrolment_with_another_aks_name_refuses(history: RecordedHistory) -> None:
    """The AK's name is recomputed from its public area."""
    name = history.scene.enrolment.ak_name
    other = replace(history.scene.enrolment, ak_name=name[:-1] + bytes([name[-1] ^ 1]))
    assert [finding.id for finding in check_enrolment(other)] == ["enrolment.ak.mismatch"]
    assert check_enrolment(history.scene.enrolment) == ()


# -- the token


def test_a_header_beside_the_receipt_refuses(history: RecordedHistory) -> None:
    """Nothing unsigned rides in the token but a receipt."""
    decided = history.decide()
    token = sign1(
        decided.claims[0].encoded(),
        history.signer,
        typ='application/eat+cwt; eat_profile="tag:ietf.org,2026:rats/ear#04"',
        unprotected={"note": "hello"},
    )
    with pytest.raises(MalformedError, match="unprotected"):
        verify(replace(prove(history), token=token), trust(history))


def test_a_receipt_without_its_token_is_malformed(history: RecordedHistory) -> None:
    """A receipt stands beside a JWT, or in a CWT, and nowhere else."""
    jwt = history.decide([JWT])
    proof = prove(history)
    with pytest.raises(MalformedError, match="without token"):
        verify(replace(proof, token=None), trust(history))
    cwt = history.token(replace(jwt, wishes=(default_lease(),)))
    with pytest.raises(MalformedError, match="rides in the CWT"):
        verify(replace(proof, token=cwt.token), trust(history))


def test_the_token_of_another_lease_refuses(history: RecordedHistory) -> None:
    """Two leases of one decision are two leases."""
    decided = history.decide([default_lease(), default_lease(("repo:acme/tools",))])
    proof = prove(history, lease=0)
    other = history.token(decided, 1, receipt=False)
    assert findings(replace(proof, token=other.token), trust(history)) == {"proof.token.mismatch"}


def test_the_receipt_of_another_leaf_refuses(history: RecordedHistory) -> None:
    """A receipt is for one leaf."""
    decided = history.decide([JWT, replace(JWT, scope=("repo:acme/tools",))])
    other = LeaseToken(b"", decided.receipts[1].tlog_proof())
    proof = replace(prove(history), receipt=other.receipt)
    assert findings(proof, trust(history)) == {"ledger.proof.leaf.mismatch"}


def test_a_receipt_beside_a_jwt_holds_its_ledger_entry(history: RecordedHistory) -> None:
    """It says the same without: one lease would have two files."""
    history.decide([JWT])
    proof = prove(history)
    assert proof.receipt is not None
    bare = replace(parse_tlog_proof(proof.receipt), extra=None).encode()
    with pytest.raises(MalformedError, match="does not hold its ledger entry"):
        verify(replace(proof, receipt=bare), trust(history))


def test_cosignatures_in_the_receipt_beside_a_jwt_are_malformed(history: RecordedHistory) -> None:
    """Nobody would check them: they stand under the proof's checkpoints, with their keys."""
    history.decide([JWT])
    proof = prove(history)
    assert proof.receipt is not None
    checkpoint = parse_note(parse_tlog_proof(proof.receipt).checkpoint)
    line = witness().cosign(checkpoint.body, history.scene.now).line()
    with pytest.raises(MalformedError, match="other signatures"):
        verify(replace(proof, receipt=proof.receipt + line), trust(history))


# -- building


@pytest.mark.parametrize("wish", [default_lease(), JWT], ids=["cwt", "jwt"])
def test_a_token_is_given_back_as_it_was_given(
    history: RecordedHistory, wish: LeaseRequest
) -> None:
    """From its signature, record, evidence and ledger: the same bytes, receipt and all."""
    history.decide()
    decided = history.decide([default_lease(("repo:acme/tools",)), wish])
    given = history.keep_signatures(decided)
    history.decide()
    lease = decided.claims[1].lease_id
    built = build_proof(decided.record.digest, lease, history)
    assert (built.token, built.receipt) == (given[1].token, given[1].receipt)
    assert verify(built, trust(history)).receipt


def test_a_token_without_the_ledgers_receipt_goes_without(history: RecordedHistory) -> None:
    """A source that has no receipt gives the token all the same."""
    decided = history.decide()
    history.keep_signatures(decided)
    built = build_proof(decided.record.digest, decided.claims[0].lease_id, NoReceipts(history))
    report = verify(built, trust(history))
    assert (report.token, report.receipt) == (TokenFormat.CWT, False)


def test_a_token_that_nobody_kept_is_left_out(history: RecordedHistory) -> None:
    """Without a signature there is no token, and the rest is proven."""
    decided = history.decide()
    built = build_proof(decided.record.digest, decided.claims[0].lease_id, history)
    assert verify(built, trust(history)).token is None


def test_signatures_that_are_none_are_malformed(history: RecordedHistory) -> None:
    """What is kept of tokens is read like anything that is stored."""
    decided = history.decide()
    history.signatures[decided.record.digest] = b"rubbish"
    with pytest.raises(MalformedError):
        build_proof(decided.record.digest, decided.claims[0].lease_id, history)


def test_a_missing_piece_is_named(history: RecordedHistory) -> None:
    """What is not kept any more cannot be proven, and is named."""
    decided = history.decide()
    history.logs.clear()
    with pytest.raises(VerificationError) as refused:
        prove(history, decided)
    assert {finding.id for finding in refused.value.findings} >= {"replay.input.missing"}


def test_a_lease_whose_evidence_retention_has_deleted_is_told_so(history: RecordedHistory) -> None:
    """It was granted; that cannot be proven to have been right any more."""
    decided = history.decide()
    history.documents.clear()
    history.pruned_before = decided.record.time + 1
    with pytest.raises(VerificationError) as refused:
        prove(history, decided)
    assert [finding.id for finding in refused.value.findings] == ["proof.evidence.pruned"]


def test_an_unknown_lease_is_refused(history: RecordedHistory) -> None:
    """A lease that a decision did not grant has no proof."""
    decided = history.decide()
    with pytest.raises(VerificationError, match="did not grant"):
        build_proof(decided.record.digest, bytes(16), history)
    with pytest.raises(VerificationError, match="not kept"):
        build_proof(bytes(32), bytes(16), history)


def test_a_lineage_of_too_many_decisions_is_not_gathered(
    history: RecordedHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing stored makes the way back to the first evidence longer than a lineage may be."""
    monkeypatch.setattr("bootlease.audit.build.MAX_SEQUENCE", 1)
    for _ in range(2):
        history.decide()
    assert len(prove(history).decisions) == 2
    history.decide()
    with pytest.raises(MalformedError, match="more than 2 decisions"):
        prove(history)


def test_proofs_of_one_lease_are_one_file(history: RecordedHistory) -> None:
    """Building twice gives the same bytes."""
    history.decide()
    decided = history.decide()
    lease = decided.claims[0].lease_id
    one, two = (build_proof(decided.record.digest, lease, history).encode() for _ in "ab")
    assert one == two


# -- every byte


@pytest.fixture
def read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a policy or reference set once for all proofs that hold the very same bytes.

    Both are pure functions of these bytes, and nearly all that verifying thousands of proofs takes.
    """
    for name in ("parse_canonical_policy", "parse_any_canonical_reference"):
        parse = getattr(pieces, name)
        monkeypatch.setattr(pieces, name, functools.lru_cache(maxsize=8)(parse))


# A changed certificate may be one that the library still reads, and complains of.
@pytest.mark.usefixtures("read_once")
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_a_changed_byte_anywhere_is_noticed(local_ca: LocalCA) -> None:
    """One bit of every single byte of a small proof, changed, refuses it."""
    history = RecordedHistory(Scene.create(local_ca, simulate_boot(uki_description())))
    history.decide()
    data = prove(history).encode()
    trusted = trust(history)
    verify(data, trusted)
    assert accepted_flips(data, trusted, range(len(data))) == []


@pytest.mark.usefixtures("read_once")
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_a_changed_byte_of_what_may_be_there_is_noticed(history: RecordedHistory) -> None:
    """The bytes of JWT, tlog-proof, cosignatures and a second shard's opening count too."""
    history.decide([JWT])
    history.open_shard("2026-12")
    history.decide([JWT])
    history.cosign(witness())
    proof = prove(history)
    data, trusted = proof.encode(), trust(history)
    verify(data, trusted)
    pieces = [proof.token, proof.receipt, proof.witnesses[0].encode()]
    pieces += [piece for each in proof.shards for piece in (each.checkpoint, each.opening)]
    for piece in pieces:
        if piece is not None:
            start = data.index(piece)
            assert accepted_flips(data, trusted, range(start, start + len(piece), 2)) == []


@pytest.mark.usefixtures("read_once")
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_changed_bytes_of_a_large_proof_are_noticed(history: RecordedHistory) -> None:
    """A proof over shards, policies and renewals notices changes wherever they are sampled."""
    chosen = random.Random(20261123)  # noqa: S311 - the same sample in every run
    for name in ("2026-12", "2027-01", "2027-02"):
        for _ in range(4):
            history.decide([default_lease(), JWT])
        history.scene.use_policy(POLICY.replace("120", str(60 + len(history.decided))))
        history.open_shard(name)
    history.decide()
    data = prove(history).encode()
    trusted = trust(history)
    verify(data, trusted)
    places = sorted(chosen.sample(range(len(data)), 400))
    assert accepted_flips(data, trusted, places) == []


def test_a_truncated_proof_is_malformed(history: RecordedHistory) -> None:
    """A file that ends early, or late, is no proof."""
    history.decide()
    data = prove(history).encode()
    for end in {*range(0, len(data), 211), len(data) - 1}:
        with pytest.raises(MalformedError):
            parse_proof(data[:end])
    with pytest.raises(MalformedError):
        parse_proof(data + b"\0")


def test_the_report_is_plain_data(history: RecordedHistory) -> None:
    """The report for JSON holds text, numbers and lists alone."""
    history.decide()
    report = verify(prove(history), trust(history)).as_dict()
    assert report["lease"] == history.decided[0].claims[0].lease_id.hex()
    assert dataclasses.is_dataclass(report) is False


@pytest.mark.parametrize(
    "filler", [b"\x9a\x00\x98\x96\x80" + b"\x80" * 10_000_000, b"\x9a\x00\x98\x96\x80"]
)
def test_a_proof_of_too_many_items_is_malformed_before_it_is_decoded(filler: bytes) -> None:
    """Ten megabytes of empty arrays would take a gigabyte."""
    data = b"\xa1dlogs" + filler
    with pytest.raises(MalformedError, match="items"):
        parse_proof(data)


def test_a_proof_of_too_many_bytes_is_malformed() -> None:
    """However few items they are."""
    with pytest.raises(MalformedError, match="more than"):
        parse_proof(bytes(MAX_PROOF + 1))


def test_the_proof_of_a_long_lineage_fits() -> None:
    """Ten thousand renewals in a tree of a million leaves are within the bounds."""
    path = tuple(bytes((number,)) * 32 for number in range(20))
    renewals = tuple(
        ProvenDecision(b"r" * 1700, b"e" * 900, (b"c" * 32,), Place(0, index, path))
        for index in range(10_000)
    )
    enrolment = ProvenEnrolment(b"e", ())
    long = ProofFile(
        *(
            None,
            None,
            b"c",
            (ProvenShard(b"n"),),
            (),
            renewals,
            enrolment,
            (b"p",),
            (),
            ((),),
            (),
            (),
        )
    )
    assert parse_proof(long.encode()) == long
