"""Decisions about nodes that measure what they load: made again, proven, and nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from dataclasses import replace

import pytest

from bootlease.audit import ProofTrust, build_proof, verify_proof
from bootlease.audit.proof import ProofReport
from bootlease.audit.replay import Replayed, replay_decision
from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger import DecisionRecord
from bootlease.ledger.prooffile import ProofFile, parse_proof
from bootlease.lineage import Prior
from bootlease.model import Effect
from bootlease.testing.ima_list import SimulatedIMA
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.recorded import Decided, RecordedHistory
from bootlease.testing.scene import IMA_POLICY, Scene, files_reference

BASH, CAT = "/usr/bin/bash", "/usr/bin/cat"
FILES = {BASH: b"bash", CAT: b"cat"}
FLIPS = 200


@pytest.fixture
def looking(local_ca: LocalCA) -> RecordedHistory:
    """A node that has loaded one good file, and a policy that looks at it."""
    scene = Scene.create(local_ca, policy=IMA_POLICY)
    scene.ima_references = (files_reference(FILES),)
    scene.node.start_ima().measure(BASH, b"bash")
    return RecordedHistory(scene)


def list_of(history: RecordedHistory) -> SimulatedIMA:
    """Return the node's list."""
    ima = history.scene.node.ima
    assert ima is not None
    return ima


def live(history: RecordedHistory) -> list[Decided]:
    """Record a beginning, a renewal with a new file, and one in which nothing was loaded."""
    first = history.decide()
    list_of(history).measure(CAT, b"cat")
    second = history.decide()
    return [first, second, history.decide()]


def replayed(history: RecordedHistory, decided: Decided) -> Replayed:
    """Make a decision again."""
    claims = [each.digest for each in decided.claims]
    return replay_decision(DecisionRecord.parse(decided.record.encoded), claims, history)


def prove(history: RecordedHistory) -> ProofFile:
    """Build the proof of the last lease."""
    decided = history.decided[-1]
    return build_proof(
        decided.record.digest,
        decided.claims[0].lease_id,
        history,
        token=history.token(decided),
    )


def verify(history: RecordedHistory, proof: bytes) -> ProofReport:
    """Verify a proof from its bytes."""
    return verify_proof(parse_proof(proof), ProofTrust(history.ledger.key, history.keys))


def test_every_decision_comes_out_the_same(looking: RecordedHistory) -> None:
    """From the state before, the entries that came and the sets that were compared."""
    for decided in live(looking):
        again = replayed(looking, decided)
        assert again.identical, again.findings
        assert again.record == decided.record.encoded
    states = [Prior.parse(each.record.prior).ima for each in looking.decided if each.record.prior]
    assert [each.state.entries for each in states if each is not None] == [2, 3]


def test_a_refusal_comes_out_the_same(looking: RecordedHistory) -> None:
    """A file that nobody lists is refused again, by the same findings."""
    looking.decide()
    list_of(looking).measure("/opt/miner", b"miner")
    refusal = looking.decide()
    assert not refusal.result.accepted
    again = replayed(looking, refusal)
    assert again.identical, again.findings
    assert again.record == refusal.record.encoded


@pytest.mark.parametrize("number", [0, 1])
def test_another_list_is_found(looking: RecordedHistory, number: int) -> None:
    """Entries that are gone, or others than those that were decided on, stop the replay."""
    decided = live(looking)[number]
    assert decided.evidence.ima is not None
    digest = decided.evidence.ima.digest
    kept = looking.logs.pop(digest)
    assert ids(replayed(looking, decided)) == {"replay.input.missing"}
    looking.logs[digest] = kept + kept
    assert ids(replayed(looking, decided)) == {"replay.input.altered"}


def ids(again: Replayed) -> set[str]:
    """Return what refuses."""
    return {each.id for each in again.findings if each.effect is Effect.REFUSES}


def test_another_state_before_is_found(looking: RecordedHistory) -> None:
    """A record that starts from other entries than were accepted comes out otherwise."""
    _, second, _ = live(looking)
    assert second.record.prior is not None
    prior = Prior.parse(second.record.prior)
    assert prior.ima is not None
    state = prior.ima.state
    for other in (
        replace(state, pcrs={bank: bytes(bank.size) for bank in state.pcrs}),
        replace(state, entries=1),
    ):
        forged = replace(prior, ima=replace(prior.ima, state=other)).encode()
        altered = dataclasses.replace(second.record, prior=forged)
        claims = [each.digest for each in second.claims]
        again = replay_decision(DecisionRecord.parse(altered.encoded), claims, looking)
        assert "replay.record.differs" in ids(again)


def test_a_proof_holds_every_part_of_the_list(looking: RecordedHistory) -> None:
    """From the boot aggregate to the last file that was accepted, each part once."""
    live(looking)
    proof = prove(looking)
    ima = list_of(looking)
    assert set(proof.logs) == {looking.scene.node.event_log, ima.data[: -len(ima.since(2))]} | {
        ima.since(2)
    }
    assert len(proof.references) == 2
    report = verify(looking, proof.encode())
    assert (report.decisions, report.notes) == (3, ())


def test_a_part_that_is_missing_or_more_is_refused(looking: RecordedHistory) -> None:
    """The list stands in the proof as it was decided on, or it is no proof."""
    live(looking)
    proof = prove(looking)
    part = list_of(looking).since(2)
    less = replace(proof, logs=tuple(each for each in proof.logs if each != part))
    more = sorted([*proof.logs, part + part], key=lambda each: hashlib.sha256(each).digest())
    for altered, expected in ((less, "replay.input.missing"), (more, "proof.surplus")):
        spoilt = altered if isinstance(altered, ProofFile) else replace(proof, logs=tuple(altered))
        with pytest.raises(VerificationError) as refused:
            verify(looking, spoilt.encode())
        assert expected in {finding.id for finding in refused.value.findings}


def test_no_bit_of_a_proof_can_be_changed(looking: RecordedHistory) -> None:
    """Wherever it lies, in a list too."""
    live(looking)
    data = prove(looking).encode()
    part = data.index(list_of(looking).since(2))
    places = [*random.Random(7).sample(range(len(data)), FLIPS), *range(part, part + 40)]  # noqa: S311 - the same places each time
    for place in places:
        flipped = data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]
        with pytest.raises((MalformedError, VerificationError)):
            verify(looking, flipped)
