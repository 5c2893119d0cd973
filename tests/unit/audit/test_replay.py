"""Decisions made again: the same to the byte, or a finding that says what is different."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bootlease.appraisal import CodeIdentity
from bootlease.audit import Replayed, Replayer, replay_decision
from bootlease.evidence import Challenge, LeaseRequest
from bootlease.evidence.expiring import authority_name
from bootlease.ledger import DecisionRecord
from bootlease.model import Effect, Finding
from bootlease.node.confirm import ExpiringTPMKey, Purpose
from bootlease.node.wish import LeaseWish
from bootlease.testing.policies import make_policy
from bootlease.testing.recorded import CODE, Decided, RecordedHistory
from bootlease.testing.scene import AUDIENCE, POLICY, default_lease
from bootlease.token import PublicKey


def digests(decided: Decided) -> list[bytes]:
    """Return the claims digests of a decision."""
    return [claims.digest for claims in decided.claims]


def replayed(history: RecordedHistory, decided: Decided, **changes: object) -> Replayed:
    """Replay a decision, with some members of its record changed."""
    record = dataclasses.replace(decided.record, **changes)  # type: ignore[arg-type]  # any field
    return replay_decision(record, digests(decided), history)


def ids(result: Replayed) -> list[str]:
    """Return the ids of what a replay found."""
    return [finding.id for finding in result.findings]


def varied(history: RecordedHistory) -> list[Decided]:
    """Record decisions of many kinds."""
    scene = history.scene
    history.decide()
    history.decide([default_lease(), default_lease(("repo:acme/tools",))])
    history.decide([default_lease(("deploy:prod",), "https://elsewhere.example")])
    history.decide(full=False)
    history.decide()
    scene.use_policy(POLICY.replace("life = 120", "life = 60"))
    history.decide()
    scene.node.reboot()
    history.decide()
    scene.use_policy(POLICY.replace('accept = ["golden"]', 'accept = ["b", "golden", "a"]'))
    history.decide()
    return history.decided


def test_every_kind_of_decision_is_made_again_to_the_byte(history: RecordedHistory) -> None:
    """Grants and refusals replay to the same record and the same claims, without a finding."""
    replayer = Replayer(history)
    recorded = varied(history)
    assert {each.record.granted for each in recorded} == {True, False}
    for each in recorded:
        again = replayer.replay(each.record, digests(each))
        assert again.findings == ()
        assert again.identical
        assert again.record == each.record.encoded
        assert [claims.encoded() for claims in again.claims] == [
            claims.encoded() for claims in each.claims
        ]


def test_a_grant_that_leaves_something_out_is_made_again_to_the_byte(
    history: RecordedHistory,
) -> None:
    """Record, notes, claims and what the node was told of each lease are those of then."""
    denied = dataclasses.replace(default_lease(("deploy:prod",)), optional=True)
    decided = history.decide([denied, default_lease(), denied])
    assert [each.effect for each in decided.record.findings] == [Effect.NOTES] * 2
    assert len(decided.claims) == 1
    again = Replayer(history).replay(DecisionRecord.parse(decided.record.encoded), digests(decided))
    assert (again.findings, again.record) == ((), decided.record.encoded)
    assert [each.encoded() for each in again.claims] == [each.encoded() for each in decided.claims]
    assert again.result is not None
    assert [each.index for each in again.result.denied] == [0, 2]


def asking(
    history: RecordedHistory, *leash_keys: PublicKey, optional: bool = True
) -> list[LeaseRequest]:
    """Return wishes for keys that wait for permits by these."""
    scene, made = history.scene, []
    session = scene.node.begin_permits()
    for leash in leash_keys:
        wish = LeaseWish(("tool:search",), AUDIENCE, level=3, optional=optional)
        key = ExpiringTPMKey(scene.node, Purpose(leash, scene.enrolment.node, wish.purpose()))
        key.session = session
        made.append(wish.request(key))
    return made


@pytest.mark.parametrize("keys", ["own", "other", "both"])
def test_what_was_decided_of_expiring_keys_is_made_again_to_the_byte(
    history: RecordedHistory, keys: str
) -> None:
    """The verifier's leash key is the one that was accepted, or that the record names."""
    own, other = (
        PublicKey.from_cryptography(ec.generate_private_key(ec.SECP256R1()).public_key())
        for _ in range(2)
    )
    history.scene.authority = authority_name(own)
    wishes = asking(history, *{"own": (own,), "other": (other,), "both": (own, other)}[keys])
    decided = history.decide([*wishes, default_lease()])
    assert len(decided.claims) == len(wishes) + (keys == "own")
    again = Replayer(history).replay(decided.record, digests(decided))
    assert (again.findings, again.record) == ((), decided.record.encoded)


def test_a_key_for_another_s_permits_is_told_where_policy_has_no_room_for_it(
    history: RecordedHistory,
) -> None:
    """Else a node could ask for more than it is granted, and no decision on it be made again."""
    own, other = (
        PublicKey.from_cryptography(ec.generate_private_key(ec.SECP256R1()).public_key())
        for _ in range(2)
    )
    history.scene.use_policy(make_policy(lease__max_leases="1"))
    history.scene.authority = authority_name(own)
    needed = asking(history, own, optional=False)
    decided = history.decide([*needed, *asking(history, other)])
    assert len(decided.claims) == 1
    again = Replayer(history).replay(decided.record, digests(decided))
    assert (again.findings, again.record) == ((), decided.record.encoded)


@pytest.mark.parametrize("named", [None, "no hex"])
def test_a_finding_that_names_another_leash_key_is_found_out(
    history: RecordedHistory, named: str | None
) -> None:
    """A record that says nothing of it, or nonsense, does not become the decision."""
    own, other = (
        PublicKey.from_cryptography(ec.generate_private_key(ec.SECP256R1()).public_key())
        for _ in range(2)
    )
    history.scene.authority = authority_name(own)
    decided = history.decide([*asking(history, other), default_lease()])
    (finding,) = decided.record.findings
    said = (dataclasses.replace(finding, expected=named),)
    again = replayed(history, decided, findings=said)
    assert not again.identical or again.record != decided.record.encoded


def test_a_left_out_lease_cannot_be_recorded_as_granted(history: RecordedHistory) -> None:
    """Nor a granted one as left out: the number of leases follows from the evidence."""
    denied = dataclasses.replace(default_lease(("deploy:prod",)), optional=True)
    decided = history.decide([denied, default_lease()])
    again = replayed(history, decided, leases=decided.record.leases * 2)
    assert ids(again) == ["replay.record.differs"]


def test_the_order_of_replays_changes_nothing(history: RecordedHistory) -> None:
    """What was replayed before, and by which replayer, does not show in a replay."""
    recorded = varied(history)
    forth, back = Replayer(history), Replayer(history)
    one = [forth.replay(each.record, digests(each)) for each in recorded]
    other = [back.replay(each.record, digests(each)) for each in reversed(recorded)]
    assert one == other[::-1]
    assert one == [replay_decision(each.record, digests(each), history) for each in recorded]


def test_a_record_survives_being_read_back(history: RecordedHistory) -> None:
    """A record that was parsed from its bytes replays as the one that was written."""
    decided = history.decide()
    record = DecisionRecord.parse(decided.record.encoded)
    assert replay_decision(record, digests(decided), history).identical


@pytest.mark.parametrize("kept", ["documents", "logs", "records", "root_sets", "reference_sets"])
def test_a_missing_input_is_a_finding(history: RecordedHistory, kept: str) -> None:
    """An input that is not kept any more is told, and nothing is compared."""
    decided = history.decide()
    getattr(history, kept).clear()
    again = replayed(history, decided)
    assert ids(again) == ["replay.input.missing"]
    assert again.record is None
    assert not again.identical


def test_a_missing_policy_is_a_finding(history: RecordedHistory) -> None:
    """A policy that is not there in the epoch of the decision is told."""
    decided = history.decide()
    assert ids(replayed(history, decided, policy_epoch=2)) == ["replay.input.missing"]


@pytest.mark.parametrize("kept", ["documents", "logs"])
def test_pruned_evidence_is_a_note(history: RecordedHistory, kept: str) -> None:
    """What retention rules let go cannot be made again, which is told and is no alarm."""
    decided = history.decide()
    getattr(history, kept).clear()
    history.pruned_before = decided.record.time + 1
    again = replayed(history, decided)
    assert ids(again) == ["replay.input.pruned"]
    assert (again.identical, again.refuses) == (False, False)


def test_altered_evidence_is_a_finding(history: RecordedHistory) -> None:
    """A document that is not the one recorded is never looked into."""
    decided = history.decide()
    history.documents[decided.record.evidence] += b"\0"
    assert ids(replayed(history, decided)) == ["replay.input.altered"]


def test_an_altered_log_is_a_finding(history: RecordedHistory) -> None:
    """A log whose digest is not the one that the quote is bound to is told."""
    decided = history.decide()
    (digest,) = history.logs
    history.logs[digest] = history.logs[digest][:-1]
    assert ids(replayed(history, decided)) == ["replay.input.altered"]


def test_another_enrolment_under_the_digest_is_a_finding(history: RecordedHistory) -> None:
    """An enrolment record that is not the one recorded is told."""
    decided = history.decide()
    other = dataclasses.replace(history.scene.enrolment, enrolled_at=1)
    history.records[decided.record.enrolment] = other
    assert ids(replayed(history, decided)) == ["replay.input.altered"]


def test_another_reference_under_the_digest_is_a_finding(history: RecordedHistory) -> None:
    """A reference set that is not the one recorded is told."""
    decided = history.decide()
    (digest,) = decided.record.references
    other = dataclasses.replace(history.reference_sets[digest], version="2")
    history.reference_sets[digest] = other
    assert ids(replayed(history, decided)) == ["replay.input.altered"]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("sequence", 1),
        ("lineage_root", b"\x01" * 32),
        ("policy_id", "another"),
        ("findings", (Finding("a.note", "A note.", Effect.NOTES),)),
    ],
)
def test_a_record_that_says_something_else_differs(
    history: RecordedHistory, member: str, value: object
) -> None:
    """A member that the decision does not lead to is named; the claims are the true record's."""
    decided = history.decide()
    again = replayed(history, decided, **{member: value})
    assert ids(again) == ["replay.record.differs"]
    assert member in again.findings[0].message


def test_a_refusal_recorded_as_a_grant_differs(history: RecordedHistory) -> None:
    """A lease that policy does not grant is not granted by being recorded."""
    lease = history.decide().record.leases
    refused = history.decide([default_lease(("deploy:prod",))])
    again = replayed(history, refused, granted=True, findings=(), leases=lease)
    assert ids(again) == ["replay.record.differs"]
    assert again.findings[0].seen == "refused: policy.scope.denied"


def test_other_claims_differ(history: RecordedHistory) -> None:
    """Claims that were recorded beside the record are compared too."""
    decided = history.decide()
    again = replay_decision(decided.record, [hashlib.sha256(b"other").digest()], history)
    assert ids(again) == ["replay.claims.differs"]


def test_a_quote_for_another_challenge_was_never_decided_about(history: RecordedHistory) -> None:
    """Evidence that the AK did not sign for the recorded challenge is told."""
    decided = history.decide()
    challenge = history.scene.challenge().encode()
    again = replayed(history, decided, challenge=challenge)
    assert ids(again) == ["replay.evidence.unverified"]
    assert "challenge.nonce.mismatch" in (again.findings[0].seen or "")


def test_a_challenge_set_for_another_node_is_a_finding(history: RecordedHistory) -> None:
    """What one node was asked, no other can have answered, though the nonce is the quoted one."""
    decided = history.decide()
    asked = Challenge.parse(decided.record.challenge)
    challenge = dataclasses.replace(asked, node=b"\x01" * 32).encode()
    again = replayed(history, decided, challenge=challenge)
    assert ids(again) == ["replay.input.altered"]
    assert "challenge" in again.findings[0].message


def test_a_stored_document_with_its_logs_inside_is_a_finding(history: RecordedHistory) -> None:
    """A log counts under its own digest: a document that brings one was never stored so."""
    decided = history.decide()
    document = decided.evidence.encode()
    digest = hashlib.sha256(document).digest()
    history.documents[digest] = document
    again = replayed(history, decided, evidence=digest, lineage_root=digest)
    assert ids(again) == ["replay.input.malformed"]
    assert "logs left out" in again.findings[0].message


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("challenge", b"\xa0"),
        ("prior", b"\xa0"),
        ("time", 1 << 60),
        ("policy_epoch", 0),
        ("issuer", "a\nb"),
    ],
)
def test_a_record_of_no_sense_is_a_finding(
    history: RecordedHistory, member: str, value: object
) -> None:
    """A record may hold anything; replaying it tells so and raises nothing."""
    decided = history.decide()
    history.policies[decided.record.policy_digest, 0] = history.scene.policy.policy
    assert not replayed(history, decided, **{member: value}).identical


OTHER_CODE = CodeIdentity(CODE.version, b"\x01" * 32)


def reworded(record: DecisionRecord, **changes: object) -> DecisionRecord:
    """Return a record whose findings are said in other words, and otherwise changed as told."""
    findings = [
        dataclasses.replace(each, message="In other words.", **changes)  # type: ignore[arg-type]  # any field
        for each in record.findings
    ]
    return dataclasses.replace(record, findings=tuple(findings))


@pytest.mark.parametrize("code", [OTHER_CODE, None], ids=["another", "unknown"])
def test_a_reworded_refusal_of_another_program_is_the_same(
    history: RecordedHistory, code: CodeIdentity | None
) -> None:
    """A sentence is no part of a verdict: the record is made again in the words of its program."""
    record = reworded(history.decide([default_lease(("deploy:prod",))]).record)
    again = Replayer(history, code).replay(record, [])
    noted = (
        {"replay.wording-differs", "replay.code.differs"} if code else {"replay.wording-differs"}
    )
    assert set(ids(again)) == noted
    assert again.findings[0].seen == "policy.scope.denied"
    assert again.identical
    assert again.record == record.encoded


def test_the_claims_of_a_reworded_grant_are_those_recorded(history: RecordedHistory) -> None:
    """They name the record by its digest, the words of its notes included."""
    history.scene.use_policy(POLICY.replace('unsafe_clock = "refuse"', 'unsafe_clock = "note"'))
    history.scene.node.clock_info = dataclasses.replace(history.scene.node.clock_info, safe=False)
    decided = history.decide()
    record = reworded(decided.record)
    assert record.granted
    assert record.digest != decided.record.digest
    again = Replayer(history, OTHER_CODE).replay(record, None)
    assert again.identical
    assert [claims.decision for claims in again.claims] == [record.digest]


def test_the_same_program_says_it_in_the_same_words(history: RecordedHistory) -> None:
    """A sentence that the recorded program does not say was not recorded by it."""
    record = reworded(history.decide([default_lease(("deploy:prod",))]).record)
    again = Replayer(history, CODE).replay(record, [])
    assert ids(again) == ["replay.record.differs"]
    assert "findings" in again.findings[0].message


@pytest.mark.parametrize(
    "changes",
    [
        *({"id": "policy.scope.other"}, {"effect": Effect.NOTES}, {"pcr": 1}, {"event": 1}),
        *({"expected": "x"}, {"seen": "repo:acme/x"}),
    ],
)
def test_more_than_words_differs_whatever_the_program(
    history: RecordedHistory, changes: dict[str, object]
) -> None:
    """Id, effect, PCR, event, expected and seen are compared for every program."""
    refused = history.decide([default_lease(("deploy:prod",))])
    again = Replayer(history, OTHER_CODE).replay(reworded(refused.record, **changes), [])
    assert ids(again) == ["replay.record.differs", "replay.code.differs"]


def test_another_program_is_noted_and_refuses_nothing(history: RecordedHistory) -> None:
    """That another program decided is told, and only told."""
    decided = history.decide()
    again = Replayer(history, OTHER_CODE).replay(decided.record, digests(decided))
    assert ids(again) == ["replay.code.differs"]
    assert again.identical
    assert Replayer(history, CODE).replay(decided.record, digests(decided)).findings == ()
