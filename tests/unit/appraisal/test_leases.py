"""Leases that are asked for as optional: left out where policy denies them, and noted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootlease.appraisal import AttestationResult
from bootlease.appraisal.leases import MOST_TOLD
from bootlease.evidence import LeaseRequest, TokenEncoding
from bootlease.evidence.denied import MAX_REASONS
from bootlease.ledger.record import MAX_RECORD
from bootlease.model import Effect, refusals
from bootlease.testing.policies import make_policy
from bootlease.testing.scene import AUDIENCE, POLICY, Scene, default_lease, plain_key

SEARCH = default_lease()
PROD = default_lease(("deploy:prod",))
ELSEWHERE = default_lease(audience="https://elsewhere.example")
BEARER = dataclasses.replace(SEARCH, encoding=TokenEncoding.UNSAFE_BEARER)


def optional(lease: LeaseRequest) -> LeaseRequest:
    """Return the same wish, which may be left out."""
    return dataclasses.replace(lease, optional=True)


def ids(result: AttestationResult) -> list[tuple[str, Effect]]:
    """Return what a result found, and what each finding does."""
    return [(finding.id, finding.effect) for finding in result.findings]


@pytest.mark.parametrize(
    ("lease", "finding"),
    [
        (PROD, "policy.scope.denied"),
        (ELSEWHERE, "policy.audience.denied"),
        (BEARER, "policy.unsafe-bearer.denied"),
    ],
)
def test_what_policy_denies_of_an_optional_lease_is_a_note(
    scene: Scene, lease: LeaseRequest, finding: str
) -> None:
    """The other is granted; the record says which was left out, and why."""
    result = scene.decide([optional(lease), SEARCH])
    assert ids(result) == [(finding, Effect.NOTES)]
    assert result.findings[0].message.startswith("Lease 1 of 2 is left out. The policy")
    assert [each.scope for each in result.leases] == [SEARCH.scope]
    (denied,) = result.denied
    assert denied.index == 0
    assert [each.id for each in denied.findings] == [finding]
    assert result.findings[0].message.endswith(denied.findings[0].message)


def test_policy_on_where_a_key_lives_leaves_out_too(scene: Scene) -> None:
    """A lease whose key the policy does not trust is left out like any other."""
    rule = (
        'permit (principal, action, resource) when { resource == Scope::"tool:search" };'
        'permit (principal, action, resource == Scope::"tool:tpm") when'
        ' { context.key_protection == KeyProtection::"tpm" };'
    )
    scene.use_policy(make_policy(authorization__cedar=f"'''{rule}'''"))
    result = scene.decide([SEARCH, optional(default_lease(("tool:tpm",)))])
    assert ids(result) == [("policy.scope.denied", Effect.NOTES)]
    assert [each.index for each in result.denied] == [1]


def test_what_is_not_optional_refuses_all(scene: Scene) -> None:
    """One lease that must be granted and is not refuses, whatever else is optional."""
    result = scene.decide([PROD, optional(SEARCH), optional(ELSEWHERE)])
    assert ids(result) == [
        ("policy.scope.denied", Effect.REFUSES),
        ("policy.audience.denied", Effect.NOTES),
    ]
    assert (result.leases, result.denied) == ((), ())


def test_where_nothing_is_left_to_grant_it_is_a_refusal(scene: Scene) -> None:
    """All denied, though optional, is what it would be if none were: no grant of nothing."""
    result = scene.decide([optional(PROD), optional(ELSEWHERE)])
    assert ids(result) == [
        ("policy.scope.denied", Effect.REFUSES),
        ("policy.audience.denied", Effect.REFUSES),
    ]
    assert result.findings == scene.decide([PROD, ELSEWHERE]).findings
    assert (result.leases, result.denied) == ((), ())


def test_optional_softens_nothing_but_the_lease(scene: Scene) -> None:
    """A node that does not prove what it must is refused, however little it insists."""
    scene.use_policy(POLICY.replace('accept = ["golden"]', 'accept = ["other"]'))
    result = scene.decide([optional(SEARCH)])
    assert not result.accepted
    assert result.leases == ()


def test_a_lease_that_would_be_over_is_no_optional_matter(scene: Scene) -> None:
    """Life counts from the challenge for every lease alike."""
    challenge = scene.challenge()
    evidence = scene.verify(scene.attest(challenge, [optional(SEARCH)]), challenge)
    scene.use_policy(POLICY.replace("life = 120", "life = 10"))
    scene.now += 10
    assert ids(scene.appraise(evidence, challenge)) == [("lease.life.over", Effect.REFUSES)]


def numbered(count: int, start: int = 0) -> list[LeaseRequest]:
    """Return so many wishes that policy grants, each with a key of its own."""
    return [
        dataclasses.replace(SEARCH, confirmation=plain_key(number + 1))
        for number in range(start, start + count)
    ]


def test_what_must_be_granted_has_its_place_first(scene: Scene) -> None:
    """Optional leases take what places are left, in their order; the others are left out."""
    wanted, wishes = numbered(15), [optional(each) for each in numbered(3, start=15)]
    result = scene.decide([*wishes[:2], *wanted, wishes[2]])
    assert [each.index for each in result.denied] == [1, 17]
    assert {each.findings[0].id for each in result.denied} == {"policy.leases.too-many"}
    assert len(result.leases) == 16
    assert result.denied[0].findings[0].expected == "16"


def test_what_is_left_out_takes_no_place(scene: Scene) -> None:
    """A lease that is denied for what it is stands in nobody's way."""
    scene.use_policy(POLICY.replace("max_leases = 16", "max_leases = 1"))
    result = scene.decide([optional(PROD), optional(SEARCH), optional(SEARCH)])
    assert [each.index for each in result.denied] == [0, 2]
    assert len(result.leases) == 1


def test_too_many_that_must_be_granted_are_refused(scene: Scene) -> None:
    """Optional leases make no room for the others, and count for nothing against them."""
    result = scene.decide([*numbered(17), optional(SEARCH)])
    refusing = refusals(result.findings)
    assert [(each.id, each.seen) for each in refusing] == [("policy.leases.too-many", "17")]


def test_no_more_are_judged_than_must_be_granted(scene: Scene) -> None:
    """Policy is not asked about what could not be granted; one optional lease changes nothing."""
    result = scene.decide([*numbered(16), PROD, optional(SEARCH)])
    assert {each.id for each in result.findings} == {"policy.leases.too-many"}


def test_few_of_many_reasons_are_given(scene: Scene) -> None:
    """One reason is enough to leave a lease out; a note is no list of everything."""
    names = tuple(f"deploy:{number}" for number in range(9))
    result = scene.decide([SEARCH, optional(default_lease(names))])
    assert len(result.findings) == MAX_REASONS
    assert len(result.denied[0].findings) == MAX_REASONS


def test_a_refusal_gives_no_more_findings_than_an_agent_reads(scene: Scene) -> None:
    """The rest is counted, and refuses if any of it would."""
    names = tuple(f"deploy:{number}" for number in range(32))
    result = scene.decide([default_lease(names)] * 16)
    assert len(result.findings) == MOST_TOLD + 1
    assert (result.findings[-1].id, result.findings[-1].effect) == (
        "policy.findings.more",
        Effect.REFUSES,
    )
    assert result.findings[-1].seen == str(16 * 32 - MOST_TOLD)
    softened = [optional(default_lease(names))] * 100
    scene.use_policy(POLICY.replace("max_leases = 16", "max_leases = 256"))
    result = scene.decide([*softened, PROD])
    assert result.findings[-1].effect is Effect.REFUSES
    result = scene.decide([PROD, *softened])
    assert (len(result.findings), result.findings[-1].effect) == (MOST_TOLD + 1, Effect.NOTES)


KINDS = (SEARCH, default_lease(("repo:acme/tools",)), PROD, ELSEWHERE, BEARER)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    wishes=st.lists(st.tuples(st.sampled_from(KINDS), st.booleans()), min_size=1, max_size=8),
    extra=st.sampled_from(KINDS),
    data=st.data(),
)
def test_an_optional_lease_changes_nothing_for_the_others(
    scene: Scene,
    wishes: Sequence[tuple[LeaseRequest, bool]],
    extra: LeaseRequest,
    data: st.DataObject,
) -> None:
    """Wherever one more stands, what else is granted, denied or refused stays what it was."""
    scene.use_policy(POLICY)
    asked = [optional(lease) if may else lease for lease, may in wishes]
    at = data.draw(st.integers(0, len(asked)))
    before = scene.decide(asked)
    after = scene.decide([*asked[:at], optional(extra), *asked[at:]])
    places = [*range(at), *range(at + 1, len(asked) + 1)]
    # The one case in which it matters to the verdict: nothing else was left to grant.
    alone = not before.accepted and all(lease.optional for lease in asked)
    if not alone:
        assert before.accepted == after.accepted
    if before.accepted:
        granted = list(after.leases)
        denied = {each.index for each in after.denied}
        if at not in denied:
            del granted[at - len([each for each in denied if each < at])]
        assert granted == list(before.leases)
        assert [each for each in after.denied if each.index != at] == [
            dataclasses.replace(each, index=places[each.index]) for each in before.denied
        ]


def test_the_bound_on_notes_keeps_records_readable(scene: Scene) -> None:
    """The longest notes on the most leases are far from what a record may hold."""
    audience = "https://" + "x" * 500
    scene.use_policy(
        make_policy(lease__audiences=f'["{AUDIENCE}", "{audience}"]', lease__max_leases="256")
    )
    names = tuple(f"deploy:{number}:{'y' * 100}" for number in range(8))
    result = scene.decide([SEARCH, *[optional(default_lease(names, audience))] * 255])
    assert len(result.findings) == 255 * MAX_REASONS
    assert sum(len(str(each.as_dict())) for each in result.findings) < MAX_RECORD / 2
