"""Leases of nodes whose kernel measures what it loads: what is asked for, spent and kept."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bootlease.errors import VerificationError
from bootlease.evidence import IMASegment, LeaseAnswer, parse_evidence
from bootlease.testing.ima_list import SimulatedIMA
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.recorded_verifier import (
    RecordedNode,
    RecordedVerifier,
    evidence_for,
    recorded_verifier,
)
from bootlease.testing.scene import IMA_POLICY, POLICY, default_lease, files_reference
from bootlease.verifier.asking import new_challenge
from bootlease.verifier.problems import ProblemError, ProblemKind

BASH, CAT = "/usr/bin/bash", "/usr/bin/cat"
FILES = {BASH: b"bash", CAT: b"cat"}
WISHES = (default_lease(),)


@pytest.fixture
def verifier(tmp_path: Path, local_ca: LocalCA) -> Iterator[RecordedVerifier]:
    """A verifier that looks at IMA."""
    folder = tmp_path / "verifier"
    with recorded_verifier(
        folder, local_ca, policy=IMA_POLICY, references=(files_reference(FILES),)
    ) as made:
        yield made


def running(verifier: RecordedVerifier) -> tuple[RecordedNode, SimulatedIMA]:
    """Enrol a node that has loaded one good file."""
    node = verifier.enrol()
    ima = node.device.start_ima()
    ima.measure(BASH, b"bash")
    return node, ima


def problem(
    verifier: RecordedVerifier, node: RecordedNode, *, first: int | None = None
) -> tuple[ProblemKind, list[str]]:
    """Present evidence that cannot be decided about; return what the verifier says."""
    assert node.challenge is not None
    with pytest.raises(ProblemError) as caught:
        verifier.present(node, evidence_for(node, node.challenge, WISHES, first=first))
    return caught.value.kind, [finding.id for finding in caught.value.findings]


def take(node: RecordedNode, body: bytes) -> LeaseAnswer:
    """Continue from an answer."""
    answer = LeaseAnswer.parse(body)
    node.head, node.challenge = answer.head, answer.challenge
    return answer


def test_the_next_challenge_says_how_many_entries_were_accepted(verifier: RecordedVerifier) -> None:
    """A renewal sends what follows them; the answer to one says the new number."""
    node, ima = running(verifier)
    assert verifier.challenge(node).ima == 0
    assert verifier.decide(node)
    assert node.challenge is not None
    assert node.challenge.ima == 2
    ima.measure(CAT, b"cat")
    sent = parse_evidence(evidence_for(node, node.challenge, WISHES))
    assert sent.logs == {"ima": ima.since(2)}
    assert verifier.decide(node)
    assert node.challenge.ima == 3


def test_a_challenge_that_is_asked_for_says_it_too(verifier: RecordedVerifier) -> None:
    """An agent that lost its next challenge goes on where it was."""
    node, _ = running(verifier)
    verifier.decide(node)
    node.challenge = verifier.challenge(node)
    assert node.challenge.ima == 2
    assert verifier.decide(node)


def test_policies_that_do_not_look_at_ima_ask_for_nothing(
    verifier: RecordedVerifier,
) -> None:
    """Their challenges keep their form."""
    node, _ = running(verifier)
    verifier.use_policy(POLICY)
    challenge = verifier.challenge(node)
    assert challenge.ima is None
    assert "ima" not in challenge.wire()


def test_a_challenge_of_before_does_not_do_where_policy_looks_at_ima_now(
    verifier: RecordedVerifier,
) -> None:
    """It is outdated, as one with fewer PCRs is: the lineage goes on with another."""
    verifier.use_policy(POLICY)
    node, _ = running(verifier)
    assert verifier.decide(node)
    verifier.use_policy(IMA_POLICY)
    assert problem(verifier, node) == (ProblemKind.OUTDATED, ["challenge.outdated"])
    node.challenge = verifier.challenge(node)
    assert node.challenge.ima == 0
    assert verifier.decide(node)
    assert node.challenge.ima == 2


def test_a_challenge_that_asked_for_no_list_is_outdated_too(verifier: RecordedVerifier) -> None:
    """Also where it asked for PCR 10: the node could not know that a list was wanted."""
    node, _ = running(verifier)
    verifier.use_policy(POLICY.replace("8, 9, 14]", "8, 9, 10, 14]"))
    node.challenge = verifier.challenge(node)
    verifier.use_policy(IMA_POLICY)
    assert problem(verifier, node) == (ProblemKind.OUTDATED, ["challenge.outdated"])


def test_a_file_that_is_not_listed_ends_the_lineage(verifier: RecordedVerifier) -> None:
    """The refusal is recorded, names the file, and the next lineage begins with the whole list."""
    node, ima = running(verifier)
    verifier.decide(node)
    ima.measure("/opt/miner", b"miner")
    assert node.challenge is not None
    decided = verifier.present(node, evidence_for(node, node.challenge, WISHES))
    assert not decided.answer.granted
    assert decided.commit is not None
    assert "/opt/miner" in decided.answer.body.decode()
    assert [finding.id for finding in decided.findings] == ["ima.file.unlisted"]
    node.head = None
    assert verifier.challenge(node).ima == 0


def test_other_rules_ask_for_the_whole_list_and_spend_nothing(verifier: RecordedVerifier) -> None:
    """The same quote comes again with it, and the lineage goes on."""
    node, ima = running(verifier)
    verifier.decide(node)
    verifier.register(files_reference(FILES, version="2"))
    assert node.challenge is not None
    renewal = evidence_for(node, node.challenge, WISHES)
    with pytest.raises(ProblemError) as caught:
        verifier.present(node, renewal)
    assert caught.value.kind is ProblemKind.IMA_WANTED
    assert [finding.id for finding in caught.value.findings] == ["ima.list.wanted"]
    parsed = parse_evidence(renewal)
    whole = dataclasses.replace(
        parsed, ima=IMASegment.of(0, ima.data), logs={**parsed.logs, "ima": ima.data}
    )
    assert (whole.quote, whole.signature) == (parsed.quote, parsed.signature)
    answer = take(node, verifier.present(node, whole.encode()).answer.body)
    assert answer.sequence == 1
    assert answer.challenge.ima == 2
    assert verifier.decide(node)


def test_what_runs_already_is_judged_by_other_rules_too(verifier: RecordedVerifier) -> None:
    """A policy that no longer waves violations through refuses one that it had accepted."""
    verifier.use_policy(IMA_POLICY.replace('violations = "refuse"', 'violations = "note"'))
    node, ima = running(verifier)
    ima.violate(BASH)
    assert verifier.decide(node)
    verifier.use_policy(IMA_POLICY)
    assert problem(verifier, node)[0] is ProblemKind.IMA_WANTED
    assert node.challenge is not None
    decided = verifier.present(node, evidence_for(node, node.challenge, WISHES, first=0))
    assert [finding.id for finding in decided.findings] == ["ima.violation"]


@pytest.mark.parametrize("first", [1, 3, 4_000_000_000])
def test_the_offset_never_goes_back_nor_ahead(verifier: RecordedVerifier, first: int) -> None:
    """Entries from anywhere else than where the lineage stands are asked for from the first one."""
    node, ima = running(verifier)
    verifier.decide(node)
    ima.measure(CAT, b"cat")
    assert problem(verifier, node, first=first)[0] is ProblemKind.IMA_WANTED
    assert verifier.decide(node)
    assert node.challenge is not None
    assert node.challenge.ima == 3


def test_entries_that_are_named_only_are_asked_for(verifier: RecordedVerifier) -> None:
    """What a document names and does not bring was never seen by anybody."""
    node, _ = running(verifier)
    node.challenge = verifier.challenge(node)
    full = parse_evidence(evidence_for(node, node.challenge, WISHES))
    bare = dataclasses.replace(full, logs={"tcg": full.logs["tcg"]})
    with pytest.raises(ProblemError) as caught:
        verifier.present(node, bare.encode())
    assert caught.value.kind is ProblemKind.IMA_WANTED
    assert verifier.decide(node)


def test_the_same_bytes_get_the_same_answer(verifier: RecordedVerifier) -> None:
    """A lost answer is no second use, with a list as without."""
    node, _ = running(verifier)
    node.challenge = verifier.challenge(node)
    body = evidence_for(node, node.challenge, WISHES)
    first, again = verifier.present(node, body), verifier.present(node, body)
    assert first.commit is not None
    assert again.commit is None
    assert first.answer == again.answer


def test_another_part_of_the_list_for_a_spent_challenge_is_refused(
    verifier: RecordedVerifier,
) -> None:
    """The list is not bound; a challenge is spent all the same."""
    node, ima = running(verifier)
    node.challenge = verifier.challenge(node)
    parsed = parse_evidence(evidence_for(node, node.challenge, WISHES))
    verifier.present(node, parsed.encode())
    ima.measure(CAT, b"cat")
    longer = dataclasses.replace(
        parsed, ima=IMASegment.of(0, ima.data), logs={**parsed.logs, "ima": ima.data}
    )
    with pytest.raises(ProblemError) as caught:
        verifier.present(node, longer.encode())
    assert caught.value.kind is ProblemKind.SPENT


def test_a_list_that_nobody_asked_for_is_not_kept(verifier: RecordedVerifier) -> None:
    """It is refused before anything is recorded."""
    verifier.use_policy(POLICY)
    node, ima = running(verifier)
    node.challenge = verifier.challenge(node)
    parsed = parse_evidence(evidence_for(node, node.challenge, WISHES))
    listed = dataclasses.replace(
        parsed, ima=IMASegment.of(0, ima.data), logs={**parsed.logs, "ima": ima.data}
    )
    with pytest.raises(VerificationError) as caught:
        verifier.present(node, listed.encode())
    assert {finding.id for finding in caught.value.findings} == {"ima.list.unasked"}
    assert verifier.decide(node)


def test_long_documents_are_accepted_where_policy_looks_at_ima(
    verifier: RecordedVerifier,
) -> None:
    """Nobody else may send so much."""
    limits = verifier.service.limits
    assert verifier.service.longest_evidence == limits.evidence_ima
    verifier.use_policy(POLICY)
    assert verifier.service.longest_evidence == limits.evidence


def test_a_long_list_is_judged_aside(
    verifier: RecordedVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop that serves renewals does not wait for it."""
    aside = []
    to_thread = asyncio.to_thread

    async def counted(work: Callable[[], object]) -> object:
        aside.append(work)
        return await to_thread(work)

    node, ima = running(verifier)
    assert verifier.decide(node)
    monkeypatch.setattr(asyncio, "to_thread", counted)
    assert verifier.decide(node)
    assert not aside
    for _ in range(200):
        ima.measure(CAT, b"cat")
    assert verifier.decide(node)
    assert len(aside) == 1


def test_new_challenges_of_a_policy_without_progress_ask_from_the_start(
    verifier: RecordedVerifier,
) -> None:
    """No lineage, no entries."""
    policy = verifier.service.registry.now.policy.policy
    assert new_challenge(bytes(32), policy, 0, None).ima == 0
