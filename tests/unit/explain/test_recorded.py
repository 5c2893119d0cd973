"""Explanations of recorded decisions: what changed, since when, and beside which boot."""

from __future__ import annotations

import dataclasses

import pytest

from bootlease.errors import VerificationError
from bootlease.explain import LookingBack, Status, explain_decision
from bootlease.model import Effect
from bootlease.testing.boot import SimulatedBoot, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.recorded import RecordedHistory
from bootlease.testing.scene import default_lease
from tests.unit.explain.conftest import Boots, explained


def test_a_refusal_names_what_changed_since_the_last_good_boot(
    history: RecordedHistory, boots: Boots, shell: SimulatedBoot
) -> None:
    """Meaning, events and PCRs are compared with those of the last boot that was granted."""
    good = history.decided[-1]
    decided = boots(shell)
    explanation = explained(history).explanation
    assert not explanation.accepted
    assert explanation.findings == decided.record.findings
    assert explanation.history is not None
    assert explanation.history.good is not None
    assert explanation.history.good.digest == good.record.digest
    assert not explanation.history.same_boot
    changes = explanation.history.changes
    assert changes is not None
    assert [(each.what, each.before, each.after) for each in changes.meaning] == [
        ("kernel parameter", None, "init=/bin/sh")
    ]
    assert changes.pcrs == (8, 9)
    assert [(each.pcr, "init=/bin/sh" in (each.after or "")) for each in changes.events] == [
        *((8, True), (8, True), (9, False))
    ]
    assert all(each.before and each.event for each in changes.events)


def test_refusals_since_the_last_good_decision_are_counted(
    history: RecordedHistory, boots: Boots, shell: SimulatedBoot
) -> None:
    """The first refusal's time is told, and how many there were, this one included."""
    first = boots(shell)
    boots(shell)
    boots(shell)
    told = explained(history).explanation.history
    assert told is not None
    assert (told.refusals, told.refused_since) == (3, first.record.time)
    assert told.good is not None
    assert told.good.digest == history.decided[0].record.digest


def test_a_grant_is_explained_without_advice(history: RecordedHistory) -> None:
    """Where nothing refuses, every event is approved and nothing is to be done."""
    explanation = explained(history).explanation
    assert explanation.accepted
    assert explanation.nearest is not None
    assert explanation.nearest.matches
    assert explanation.nearest.known == explanation.nearest.measured > 0
    assert {status for each in explanation.timeline for status in each.counts} == {Status.APPROVED}
    assert explanation.advice.as_dict() == {
        "remedies": [],
        "approvals": [],
        "caveats": [],
        "commands": [],
    }
    assert explanation.history is not None
    assert explanation.history.good is None
    assert explanation.history.refused_since is None


def test_a_renewal_is_the_same_boot(history: RecordedHistory) -> None:
    """Within a boot nothing changes, which is said."""
    history.decide()
    told = explained(history).explanation.history
    assert told is not None
    assert told.same_boot
    assert told.changes is not None
    assert (told.changes.meaning, told.changes.events, told.changes.pcrs) == ((), (), ())


def test_what_extends_a_pcr_at_run_time_is_nobody_s_word(history: RecordedHistory) -> None:
    """A PCR that the log does not lead to is unattested; its events are not compared."""
    node = history.scene.node
    bank = history.scene.references[0].bank
    node.pcr_extend(14, {bank: bank.digest(b"something")})
    history.decide()
    explanation = explained(history).explanation
    (shim,) = [each for each in explanation.timeline if each.pcr == 14]
    assert not shim.attested
    assert shim.why == "the log does not lead to the quoted value"
    assert shim.counts.keys() == {Status.UNATTESTED}
    assert explanation.history is not None
    assert explanation.history.changes is not None
    assert explanation.history.changes.pcrs == (14,)
    assert explanation.history.changes.events == ()
    assert explanation.advice.commands == ()
    assert "cannot be approved" in explanation.advice.remedies[0]


@pytest.mark.parametrize("kept", ["documents", "logs", "records", "root_sets", "reference_sets"])
def test_without_its_evidence_a_decision_is_explained_by_its_findings(
    history: RecordedHistory, boots: Boots, shell: SimulatedBoot, kept: str
) -> None:
    """What is not kept any more is said; findings, history and remedies stay."""
    decided = boots(shell)
    getattr(history, kept).clear()
    made = explained(history)
    assert made.boot is None
    assert made.explanation.findings == decided.record.findings
    assert made.explanation.timeline == ()
    assert made.explanation.advice.remedies
    assert made.explanation.advice.commands == ()
    assert [note.id for note in made.explanation.notes] == ["replay.input.missing"]
    assert made.explanation.history is not None
    assert made.explanation.history.changes is None


def test_without_the_last_good_evidence_its_time_is_still_told(
    history: RecordedHistory, boots: Boots, shell: SimulatedBoot
) -> None:
    """Where only the good boot's evidence is gone, this boot is explained all the same."""
    good = history.decided[-1]
    boots(shell)
    del history.documents[good.record.evidence]
    explanation = explained(history).explanation
    assert explanation.timeline
    assert explanation.history is not None
    assert explanation.history.good is not None
    assert explanation.history.good.reset_count is None
    assert explanation.history.changes is None


def test_a_decision_that_comes_out_otherwise_is_noted(
    history: RecordedHistory, boots: Boots, shell: SimulatedBoot
) -> None:
    """A record whose findings are not those made now says so, beside the explanation."""
    decided = boots(shell)
    altered = dataclasses.replace(decided.record, findings=decided.record.findings[:1])
    history.decided[-1] = dataclasses.replace(decided, record=altered)
    explanation = explained(history).explanation
    assert [note.id for note in explanation.notes] == ["replay.record.differs"]
    assert explanation.findings == decided.record.findings


def test_an_unknown_decision_is_refused(history: RecordedHistory) -> None:
    """A digest that nothing is recorded under is no decision."""
    with pytest.raises(VerificationError) as caught:
        explain_decision(bytes(32), LookingBack(history))
    assert [finding.id for finding in caught.value.findings] == ["decision.unknown"]


def test_what_can_be_saved_is_what_was_decided_about(
    history: RecordedHistory, boots: Boots, shell: SimulatedBoot
) -> None:
    """Log, quoted values and the nearest reference come along."""
    decided = boots(shell)
    boot = explained(history).boot
    assert boot is not None
    assert boot.log == shell.event_log
    assert boot.quoted == decided.evidence.pcrs
    assert boot.reference == history.scene.references[0]
    assert boot.ima is None


def test_a_wish_that_is_denied_is_no_matter_of_the_boot(history: RecordedHistory) -> None:
    """A scope that policy does not grant leaves the boot approved and nothing to approve."""
    history.decide([default_lease(("deploy:prod",))])
    explanation = explained(history).explanation
    assert [finding.id for finding in explanation.refusing] == ["policy.scope.denied"]
    assert explanation.nearest is not None
    assert explanation.nearest.matches
    assert explanation.advice.commands == ()
    assert "authorization.cedar" in explanation.advice.remedies[0]


def test_a_lease_that_was_left_out_is_told_with_the_grant(history: RecordedHistory) -> None:
    """A grant has nothing to mend, and still says which lease policy denied and why."""
    denied = dataclasses.replace(default_lease(("deploy:prod",)), optional=True)
    history.decide([default_lease(), denied])
    explanation = explained(history).explanation
    assert explanation.refusing == ()
    (note,) = explanation.findings
    assert (note.id, note.effect) == ("policy.scope.denied", Effect.NOTES)
    assert note.message.startswith("Lease 2 of 2 is left out. ")


def test_secure_boot_switched_off_is_a_change_of_meaning(
    history: RecordedHistory, boots: Boots
) -> None:
    """States are told as before and after, lists by what came and went."""
    boots(simulate_boot(grub_description().with_secure_boot(enabled=False)))
    told = explained(history).explanation.history
    assert told is not None
    assert told.changes is not None
    first, *rest = told.changes.meaning
    assert (first.what, first.before, first.after) == ("Secure Boot", "on", "off")
    assert {each.what for each in rest} == {"authority that vouched for an image"}
    assert all(each.after is None for each in rest)


def test_json_holds_everything(
    history: RecordedHistory, boots: Boots, shell: SimulatedBoot
) -> None:
    """Every part of an explanation is in its JSON form."""
    boots(shell)
    members = explained(history).explanation.as_dict()
    assert members["verdict"] == "refused"
    assert members.keys() == {
        *("verdict", "decision", "findings", "history", "nearest_reference"),
        *("timeline", "advice", "notes"),
    }
    events = [event for each in members["timeline"] for event in each["events"]]
    assert {event["status"] for event in events} == {"approved", "unknown"}
