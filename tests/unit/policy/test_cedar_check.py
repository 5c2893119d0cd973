"""``policy check`` over Cedar policies: what does nothing, or not what it seems to say."""

from __future__ import annotations

import pytest

from bootlease.model import Effect
from bootlease.policy import check_policy, parse_policy
from bootlease.testing.policies import make_policy, permit

ANY = "permit (principal, action, resource);"


def found(cedar: str, **changes: str) -> dict[str, Effect]:
    """Return what is wrong with these Cedar policies, by its id, and what it does."""
    policy = parse_policy(make_policy(cedar, **changes))
    return {
        finding.id.removeprefix("policy.check.cedar."): finding.effect
        for finding in check_policy(policy, None, now=1)
    }


def rule(effect: str, resource: str = "resource", condition: str = "") -> str:
    """Return one policy."""
    return f"{effect} (principal, action, {resource}) {condition};"


def test_sound_policies_have_nothing_wrong() -> None:
    """As tests and examples have them."""
    assert found(permit()) == {}
    assert found(ANY) == {}
    assert found(ANY + rule("forbid", 'resource in Scope::"repo:acme/*"')) == {}


@pytest.mark.parametrize(
    ("condition", "expected", "change"),
    [
        ('when { context.audience == "https://b.example" }', "audience-unknown", {}),
        ('when { "https://b.example" == context.audience }', "audience-unknown", {}),
        ('when { ["https://b.example"].contains(context.audience) }', "audience-unknown", {}),
        ('when { principal.references.contains("goldne") }', "reference-unaccepted", {}),
        ("when { principal.ima_appraised }", "ima-unappraised", {}),
        ("when { false }", "never", {}),
        ("unless { true }", "never", {}),
    ],
)
def test_a_condition_that_never_holds(
    condition: str, expected: str, change: dict[str, str]
) -> None:
    """Where it permits it does nothing; where it forbids it is a hole."""
    assert found(ANY + rule("permit", condition=condition), **change) == {expected: Effect.NOTES}
    assert found(ANY + rule("forbid", condition=condition), **change) == {expected: Effect.REFUSES}


@pytest.mark.parametrize(
    "condition",
    [
        'when { context.audience == "https://tools.example" }',
        'when { principal.references.contains("golden") }',
        'when { principal.labels.contains("goldne") }',
        "when { true }",
        "unless { false }",
    ],
)
def test_a_condition_that_may_hold(condition: str) -> None:
    """What cannot be known is not told."""
    assert found(ANY + rule("forbid", condition=condition)) in ({}, {"shadowed": Effect.NOTES})


def test_ima_that_is_appraised() -> None:
    """The fact is one then."""
    ima = {
        "quote__pcrs": "[0, 10]",
        "ima__appraise": '"required"',
        "ima__accept": '["files"]',
        "ima__unlisted": '"refuse"',
        "ima__violations": '"refuse"',
        "ima__signatures": '"ignored"',
    }
    assert found(ANY + rule("permit", condition="when { principal.ima_appraised }"), **ima) == {}


@pytest.mark.parametrize(
    ("permits", "forbids", "shadowed"),
    [
        ('resource in Scope::"a:*"', "resource", True),
        ('resource in Scope::"a:*"', 'resource in Scope::"a:*"', True),
        ('resource in Scope::"a:b/*"', 'resource is Scope in Scope::"a:*"', True),
        ('resource == Scope::"a:b"', 'resource == Scope::"a:b"', True),
        ('resource == Scope::"a:b"', 'resource == Scope::"a:c"', False),
        ('resource in Scope::"a:*"', 'resource == Scope::"a:b"', False),
        ('resource in Scope::"a:*"', 'resource in Scope::"a:b/*"', False),
        ("resource", 'resource in Scope::"a:*"', False),
    ],
)
def test_what_is_permitted_and_forbidden_altogether(
    permits: str,
    forbids: str,
    shadowed: bool,  # noqa: FBT001 - a table's column
) -> None:
    """Only where what forbids has no condition."""
    text = rule("permit", permits) + permit(["z:*"])
    assert ("shadowed" in found(text + rule("forbid", forbids))) == shadowed
    narrow = rule("forbid", forbids, "when { principal.endorsed }")
    assert "shadowed" not in found(text + narrow)
    one = f'forbid (principal == Node::"{"ab" * 32}", action, {forbids});'
    assert "shadowed" not in found(text + one)


def test_what_is_forbidden_and_permitted_by_nothing() -> None:
    """It would be denied anyway."""
    text = permit(["a:b/*"])
    for resource in ('resource in Scope::"c:*"', 'resource == Scope::"a:c"'):
        assert found(text + rule("forbid", resource)) == {"forbids-nothing": Effect.NOTES}
    for resource in ('resource in Scope::"a:*"', 'resource == Scope::"a:b/x"'):
        assert "forbids-nothing" not in found(text + rule("forbid", resource))


def test_a_wildcard_that_is_compared_as_a_name() -> None:
    """Whoever wrote it meant what is under it."""
    resource = 'resource == Scope::"repo:acme/*"'
    assert found(ANY + rule("permit", resource)) == {"wildcard-equal": Effect.NOTES}
    assert found(ANY + rule("forbid", resource)) == {"wildcard-equal": Effect.REFUSES}


def test_a_finding_names_line_and_policy() -> None:
    """So that it can be mended."""
    text = f'{ANY}\n@id("hole") {rule("forbid", condition="when { false }")}'
    (finding,) = check_policy(parse_policy(make_policy(text)), None, now=1)
    assert finding.message == "authorization.cedar, line 2 (hole): its condition is never true."


def test_a_policy_that_would_keep_the_verifier_busy() -> None:
    """Each of many policies tried at each of many names, because of one wildcard."""
    looking = "".join(
        rule("permit", condition=f'when {{ resource == Scope::"r:{at}" }}') for at in range(129)
    )
    assert found(looking)["costly"] is Effect.REFUSES
    by_heads = "".join(rule("permit", f'resource == Scope::"r:{at}"') for at in range(129))
    assert "costly" not in found(by_heads)
