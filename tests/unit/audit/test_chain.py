"""Lineages in which a verifier recorded one thing otherwise than the decision before left it.

Its ledger key signs whatever it likes, and each decision, made again by itself, comes out the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bootlease.audit import ProofTrust, build_proof, verify_proof
from bootlease.errors import VerificationError
from bootlease.evidence import Evidence
from bootlease.lineage import HighWaterMark
from bootlease.model import Finding
from bootlease.testing import recorded
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.recorded import RecordedHistory
from bootlease.testing.scene import Scene


def refusals(history: RecordedHistory) -> tuple[Finding, ...]:
    """Return why all recorded decisions together are no lineage."""
    proofs = [
        build_proof(each.record.digest, each.claims[0].lease_id, history)
        for each in history.decided
    ]
    whole = replace(proofs[-1], decisions=tuple(each.decisions[-1] for each in proofs))
    with pytest.raises(VerificationError) as refused:
        verify_proof(whole, ProofTrust(history.ledger.key, history.keys))
    return refused.value.findings


def broken_links(history: RecordedHistory) -> list[str]:
    """Return how all recorded decisions together are broken as one lineage, and in nothing else."""
    findings = refusals(history)
    assert {finding.id for finding in findings} == {"proof.lineage.broken"}
    return [finding.message for finding in findings]


def test_a_link_from_another_state_refuses(history: RecordedHistory) -> None:
    """A renewal that made its lapsed lease live again does not continue it."""
    history.decide()
    scene = history.scene
    assert scene.prior is not None
    scene.now += 120
    scene.prior = replace(scene.prior, expires_at=scene.now + 60)
    history.decide()
    assert broken_links(history) == [
        "Decision 1 of the lineage does not start from the state that the one before left."
    ]


def test_a_link_that_names_another_before_it_refuses(history: RecordedHistory) -> None:
    """Each record names the one before it, and no earlier one."""
    history.decide()
    history.decide()
    history._previous = history.decided[0].record.digest
    history.decide()
    assert broken_links(history) == ["Decision 2 of the lineage does not name the one before it."]


def test_a_link_that_begins_anew_refuses(
    history: RecordedHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full evidence begins a lineage of its own, though another is live."""
    history.decide()
    scene, attest = history.scene, history.scene.attest

    def anew(*given: Any, **named: Any) -> Evidence:
        return attest(*given, **{**named, "previous": None, "full": True})

    monkeypatch.setattr(scene, "attest", anew)
    history.decide()
    assert broken_links(history) == ["Decision 1 of the lineage has another number."]


def test_a_link_of_another_node_refuses(
    history: RecordedHistory, local_ca: LocalCA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An enrolled node does not continue the lineage of another one."""
    scene, other = history.scene, Scene.create(local_ca)
    other.node.clock_info = replace(other.node.clock_info, clock=1_000_000)
    first = scene.node, scene.enrolment, scene.key
    chains = {each.enrolment.digest: each.node.ek_chain() for each in (scene, other)}
    monkeypatch.setattr(history, "ek_chain", chains.__getitem__)
    scene.node, scene.enrolment, scene.key = second = other.node, other.enrolment, other.key
    history.enrol()
    scene.node, scene.enrolment, scene.key = first
    history.decide()
    scene.node, scene.enrolment, scene.key = second
    history.decide()
    assert [finding.id for finding in refusals(history)] == ["replay.input.missing"]


def test_a_link_of_another_verifier_refuses(
    history: RecordedHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verifier that renews is the one that looked at the full evidence."""
    with monkeypatch.context() as patch:
        patch.setattr(recorded, "ISSUER", "https://other.example")
        history.decide()
    history.decide()
    assert broken_links(history) == ["Decision 1 of the lineage is another verifier's."]


def test_a_link_that_stands_before_its_forerunner_refuses(history: RecordedHistory) -> None:
    """The ledger has decisions in the order in which they were made."""
    digests = [history.decide().record.digest for _ in range(2)]
    one, two = (history._positions[digest] for digest in digests)
    history._positions.update(zip(digests, (two, one), strict=True))
    leaves = history.shards[0].leaves
    leaves[one.index], leaves[two.index] = leaves[two.index], leaves[one.index]
    assert broken_links(history) == [
        "Decision 1 of the lineage stands before the one before it in the ledger."
    ]


def test_a_link_with_a_lower_high_water_mark_refuses(history: RecordedHistory) -> None:
    """How far the TPM's counters had come is not forgotten on the way."""
    history.decide()
    history.scene.high_water = HighWaterMark()
    history.decide()
    assert broken_links(history) == [
        "Decision 1 of the lineage forgets how far the TPM's counters had come."
    ]
