"""Trying a policy on what a node last proved: who would lose or gain what, and why."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from bootlease.audit.simulate import Change, ScopeChange, Simulated, Simulator
from bootlease.ledger import DecisionRecord
from bootlease.policy import parse_policy
from bootlease.reference import AnyReference
from bootlease.testing.ima_list import file_fields
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.policies import AUDIENCE, make_policy, permit
from bootlease.testing.recorded import RecordedHistory
from bootlease.testing.scene import IMA_POLICY, POLICY, Scene, default_lease, files_reference

LOSES, GAINS = Change.LOSES, Change.GAINS
BASH, CAT = "/usr/bin/bash", "/usr/bin/cat"
FILES = {BASH: b"bash", CAT: b"cat"}


@pytest.fixture
def history(local_ca: LocalCA) -> RecordedHistory:
    """A node that began and renewed."""
    history = RecordedHistory(Scene.create(local_ca))
    history.decide()
    history.decide()
    return history


def simulated(
    history: RecordedHistory, text: str, references: list[AnyReference] | None = None
) -> Simulated:
    """Try a policy on the last decision."""
    known: list[AnyReference] = [*history.scene.references, *history.scene.ima_references]
    simulator = Simulator(history, parse_policy(text), known if references is None else references)
    return simulator.simulate(DecisionRecord.parse(history.decided[-1].record.encoded))


def changes(
    history: RecordedHistory, text: str, references: list[AnyReference] | None = None
) -> dict[tuple[Change, str, bool], tuple[str, ...]]:
    """Return what changes, and why; everything must be told, and for one audience."""
    outcome = simulated(history, text, references)
    assert outcome.untold is None
    assert {each.audience for each in outcome.changes} <= {AUDIENCE}
    return {(each.change, each.scope, each.asked): each.reasons for each in outcome.changes}


def with_files(history: RecordedHistory, files: dict[str, bytes]) -> list[AnyReference]:
    """Return the boot references, and an IMA set of other files than the one that counted."""
    return [*history.scene.references, files_reference(files, version="2")]


def test_the_same_policy_changes_nothing(history: RecordedHistory) -> None:
    """Nor does another that means the same."""
    assert changes(history, POLICY) == {}
    assert changes(history, make_policy(permit() + "// a comment\n", lease__life="10")) == {}
    assert changes(history, make_policy(mode='"report-only"')) == {}


def test_a_scope_that_is_not_permitted_any_more_is_lost(history: RecordedHistory) -> None:
    """The one that was asked for, and the one that could have been."""
    assert changes(history, make_policy(permit(["repo:acme/x"]))) == {
        (LOSES, "tool:search", True): ("not permitted",),
        (LOSES, "repo:acme/*", False): ("repo:acme/… is not permitted",),
    }


def test_a_scope_that_becomes_permitted_is_gained(history: RecordedHistory) -> None:
    """Though nobody asked: nobody would have got it."""
    text = permit() + '@id("new") permit (principal, action, resource == Scope::"tool:new");'
    assert changes(history, make_policy(text)) == {
        (GAINS, "tool:new", False): ("before: not permitted", "permitted by new"),
    }


def test_a_refused_node_gains_what_it_asked_for(history: RecordedHistory) -> None:
    """Its last decision is a refusal, and would not be."""
    history.decide([default_lease(("tool:other", "tool:search"))])
    assert not history.decided[-1].record.granted
    text = permit() + '@id("new") permit (principal, action, resource == Scope::"tool:other");'
    assert changes(history, make_policy(text)) == {
        (GAINS, "tool:other", True): ("before: not permitted", "permitted by new"),
    }


def test_what_forbids_is_named(history: RecordedHistory) -> None:
    """With the name that it forbids."""
    text = permit() + '@id("no") forbid (principal, action, resource == Scope::"repo:acme/x");'
    assert changes(history, make_policy(text)) == {
        (LOSES, "repo:acme/*", False): ("repo:acme/x is forbidden by no",),
        (LOSES, "repo:acme/x", False): ("forbidden by no",),
    }


def test_what_refuses_the_node_loses_all(history: RecordedHistory) -> None:
    """Every name, for what is wrong with the boot."""
    found = changes(history, make_policy(boot__deployed_mode='"required"'))
    assert {key[:2] for key in found} == {(LOSES, "tool:search"), (LOSES, "repo:acme/*")}
    assert all("[policy.deployed-mode." in why[0] for why in found.values())
    found = changes(history, POLICY, references=[])
    assert all("[reference.none]" in "".join(why) for why in found.values())


def test_a_node_that_is_refused_no_more_gains_all(history: RecordedHistory) -> None:
    """And what refused it is told."""
    history.scene.use_policy(make_policy(boot__deployed_mode='"required"'))
    history.decide()
    found = changes(history, POLICY)
    assert {key[:2] for key in found} == {(GAINS, "tool:search"), (GAINS, "repo:acme/*")}
    assert all(why[0].startswith("before: Deployed mode") for why in found.values())


def test_an_audience_that_is_gone_is_the_reason(history: RecordedHistory) -> None:
    """Whatever Cedar says."""
    found = changes(history, make_policy(lease__audiences='["https://b.example"]'))
    assert found[LOSES, "tool:search", True] == ("its audience is not in lease.audiences",)


def test_a_policy_that_cannot_be_evaluated_is_the_reason(history: RecordedHistory) -> None:
    """It denies, and says so."""
    text = permit() + (
        '@id("sum") forbid (principal, action, resource)'
        " when { principal.reset_count * 9223372036854775807 * 2 > 0 };"
    )
    (why,) = set(changes(history, make_policy(text)).values())
    assert "cannot be evaluated" in why[0]
    assert "sum" in why[0]


def test_what_was_not_quoted_cannot_be_told(history: RecordedHistory) -> None:
    """The node would be asked for it; nobody knows what it would say."""
    outcome = simulated(history, POLICY.replace("9, 14]", "9, 11, 14]"))
    assert outcome.changes == ()
    assert "PCR 11" in str(outcome.untold)
    outcome = simulated(history, make_policy(quote__banks='["sha256", "sha384"]'))
    assert outcome.untold is not None


def test_what_is_not_kept_cannot_be_told(history: RecordedHistory) -> None:
    """Nor what was altered."""
    evidence = history.decided[-1].record.evidence
    document = history.documents.pop(evidence)
    assert "not there" in str(simulated(history, POLICY).untold)
    history.documents[evidence] = document[:-1] + b"\0"
    assert "not the one" in str(simulated(history, POLICY).untold)


def test_evidence_that_does_not_verify_cannot_be_told(history: RecordedHistory) -> None:
    """A record under which other evidence lies tells nothing."""
    record = history.decided[-1].record
    other = dataclasses.replace(record, evidence=history.decided[0].record.evidence)
    outcome = Simulator(history, parse_policy(POLICY), history.scene.references).simulate(other)
    assert outcome.untold is not None


@pytest.fixture
def looking(local_ca: LocalCA) -> RecordedHistory:
    """A node that loaded a file, another before its first renewal, and none before its second."""
    scene = Scene.create(local_ca, policy=IMA_POLICY)
    scene.ima_references = (files_reference(FILES),)
    ima = scene.node.start_ima()
    ima.measure(BASH, b"bash")
    history = RecordedHistory(scene)
    history.decide()
    ima.measure(CAT, b"cat")
    history.decide()
    history.decide()
    assert history.decided[-1].record.granted
    return history


def test_under_other_rules_the_whole_list_is_judged(looking: RecordedHistory) -> None:
    """A renewal brings the entries since the last alone; those before are of the lineage."""
    assert changes(looking, IMA_POLICY) == {}
    same = with_files(looking, FILES)
    assert changes(looking, IMA_POLICY, same) == {}
    without = with_files(looking, {CAT: b"cat"})
    found = changes(looking, IMA_POLICY, without)
    assert {key[:2] for key in found} == {(LOSES, "tool:search"), (LOSES, "repo:acme/*")}
    assert all(BASH in why[0] for why in found.values())


def test_a_list_that_came_whole_is_judged_as_it_came(looking: RecordedHistory) -> None:
    """Whoever began a lineage sent all of it."""
    del looking.decided[1:]
    without = with_files(looking, {CAT: b"cat"})
    found = changes(looking, IMA_POLICY, without)
    assert all(BASH in why[0] for why in found.values())
    assert found


def test_entries_behind_the_quote_are_put_together_once(looking: RecordedHistory) -> None:
    """A list may run ahead of its quote, and the next renewal brings those entries again."""
    ima = looking.scene.node.ima
    assert ima is not None
    ima.add("ima-ng", file_fields(BASH, hashlib.sha256(b"bash").digest()), extend=False)
    looking.decide()
    ima.catch_up()
    looking.decide()
    assert looking.decided[-1].record.granted
    same = with_files(looking, FILES)
    assert changes(looking, IMA_POLICY, same) == {}


def test_a_list_whose_beginning_is_gone_cannot_be_told(looking: RecordedHistory) -> None:
    """Nor one that was never sent."""
    first = looking.decided[0].evidence.ima
    assert first is not None
    del looking.logs[first.digest]
    other = with_files(looking, FILES)
    assert "beginning" in str(simulated(looking, IMA_POLICY, other).untold)
    assert simulated(looking, IMA_POLICY).untold is None


def test_a_list_that_was_never_asked_for_cannot_be_told(history: RecordedHistory) -> None:
    """A policy that begins to look at files asks for it."""
    assert simulated(history, IMA_POLICY, [files_reference(FILES)]).untold is not None


def test_a_change_is_one_value() -> None:
    """So that nodes to which the same happens are told of together."""
    one = ScopeChange(LOSES, "a", AUDIENCE, True, ("why",))  # noqa: FBT003 - asked
    assert {one: 1}[ScopeChange(LOSES, "a", AUDIENCE, True, ("why",))] == 1  # noqa: FBT003 - asked
