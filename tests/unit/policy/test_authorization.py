"""Which scope a node may have: wildcards are decided as if each of their names were tried."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any, Final

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootlease.bootstate.tri import Tri
from bootlease.errors import MalformedError
from bootlease.policy import Authorization, Facts, ScopeVerdict
from bootlease.policy.cedar import Answer, CedarEntities
from bootlease.policy.facts import entity, node_entity, request
from bootlease.testing.policies import permit
from bootlease.token import KeyProtection, Tier, TrustVector
from bootlease.token.scope import covers, is_scope_name

AUDIENCE: Final = "https://tools.example"
NODE: Final = "ab" * 32


def decide(
    cedar: str,
    *names: str,
    facts: Facts | None = None,
    audience: str = AUDIENCE,
    protection: KeyProtection = KeyProtection.PROCESS,
) -> tuple[ScopeVerdict, ...]:
    """Decide about names."""
    rules = Authorization(cedar)
    return rules.decide(rules.known(facts or Facts(node=NODE)), names, audience, protection)


def granted(cedar: str, name: str, **options: object) -> bool:
    """Tell whether one name is granted."""
    return decide(cedar, name, **options)[0].granted  # type: ignore[arg-type]  # passed on


def test_nothing_is_granted_that_no_policy_permits() -> None:
    """Default deny, for a name as for all in a wildcard."""
    cedar = permit(["repo:acme/*"])
    assert granted(cedar, "repo:acme/x")
    assert granted(cedar, "repo:acme/*")
    assert granted(cedar, "repo:acme/x/*")
    for name in (
        "repo:acme",
        "repo:acme/",
        "repo:other/x",
        "repo:*",
        "tool:search",
        "repo:acmes/x",
    ):
        (verdict,) = decide(cedar, name)
        assert not verdict.granted
        assert verdict.policies == ()


def test_what_forbids_wins() -> None:
    """And is named; so is what permits."""
    cedar = f'{permit(["a:*"])} @id("no") forbid (principal, action, resource == Scope::"a:x");'
    yes, no = decide(cedar, "a:y", "a:x")
    assert (yes.granted, yes.at, yes.policies) == (True, "a:y", ("policy 1",))
    assert (no.granted, no.at, no.policies) == (False, "a:x", ("no",))


@pytest.mark.parametrize(
    "forbidden",
    [
        'resource == Scope::"a:b/x"',
        'resource in Scope::"a:b/*"',
        'resource in Scope::"a:b/c/*"',
        'resource is Scope in Scope::"a:b/*"',
        'resource == Scope::"a:b/*"',
    ],
)
def test_a_wildcard_that_covers_something_forbidden_is_denied(forbidden: str) -> None:
    """Whoever holds the wildcard could use the name."""
    cedar = f'{permit(["a:*"])} @id("no") forbid (principal, action, {forbidden});'
    for name in ("a:*", "a:b/*"):
        (verdict,) = decide(cedar, name)
        assert (verdict.granted, verdict.policies) == (False, ("no",))
        assert verdict.at != name or "== Scope" in forbidden or "a:b/*" in forbidden
    assert granted(cedar, "a:c/*")


@pytest.mark.parametrize(
    "condition",
    [
        '[Scope::"a:x"].contains(resource)',
        'resource in [Scope::"b:y", Scope::"a:x"]',
        'Scope::"a:x" in resource',
        'if resource == Scope::"a:x" then true else false',
        '{s: Scope::"a:x"}.s == resource',
    ],
)
def test_a_name_in_a_condition_counts_as_well(condition: str) -> None:
    """Wherever a policy tells one name from the others."""
    cedar = f"{permit(['a:*'])} forbid (principal, action, resource) when {{ {condition} }};"
    assert not granted(cedar, "a:*")
    assert not granted(cedar, "a:x")
    assert granted(cedar, "a:y")


@pytest.mark.parametrize("name", ["a:b/x", "a:b/x/*", "a:b/*", "a:*"])
@pytest.mark.parametrize(
    "condition",
    [
        'when { resource in Scope::"a:b/*" }',
        'when { resource is Scope in Scope::"a:b/*" }',
        'unless { !(resource in [Scope::"a:b/*", Scope::"c"]) }',
    ],
)
def test_a_name_that_no_policy_mentions_is_in_a_wildcard_of_a_condition(
    condition: str, name: str
) -> None:
    """What is forbidden in a condition is forbidden for names that nobody thought of."""
    cedar = (
        f"permit (principal, action, resource); forbid (principal, action, resource) {condition};"
    )
    assert granted(cedar, "a:c")
    assert not granted(cedar, name)


def test_a_wildcard_is_not_granted_for_its_own_name() -> None:
    """A policy that permits the name as it is written permits nothing under it."""
    cedar = 'permit (principal, action, resource == Scope::"a:*");'
    (verdict,) = decide(cedar, "a:*")
    assert (verdict.granted, verdict.at) == (False, "a:…")
    cedar = f'{cedar} permit (principal, action, resource == Scope::"a:x");'
    assert not granted(cedar, "a:*")
    assert granted(cedar, "a:x")


def test_some_other_name_in_a_smaller_wildcard_is_tried() -> None:
    """What permits all written names may still leave others of the branch out."""
    cedar = (
        permit(["a:*"]) + 'forbid (principal, action, resource in Scope::"a:b/*")'
        ' unless { resource == Scope::"a:b/x" || resource == Scope::"a:b/*" };'
    )
    (verdict,) = decide(cedar, "a:*")
    assert (verdict.granted, verdict.at) == (False, "a:b/…")


@pytest.mark.parametrize(
    ("condition", "good", "bad"),
    [
        ('principal.tier == Tier::"affirming"', {"tier": Tier.AFFIRMING}, {"tier": Tier.NONE}),
        (
            "principal.vector has executables && principal.vector.executables <= 3",
            {"vector": TrustVector(executables=3)},
            {"vector": TrustVector(instance_identity=2)},
        ),
        ('principal.references.contains("a")', {"references": ("b", "a")}, {}),
        ('principal.reference_digests.contains("00")', {"reference_digests": ("00",)}, {}),
        ('principal.secure_boot == SecureBoot::"on"', {"secure_boot": Tri.ON}, {}),
        ('principal.secure_boot == SecureBoot::"unknown"', {}, {"secure_boot": Tri.OFF}),
        ("principal.ima_appraised", {"ima_appraised": True}, {}),
        ("principal.endorsed", {"endorsed": True}, {}),
        ('principal has vendor && principal.vendor == "STM"', {"vendor": "STM"}, {"vendor": "IFX"}),
        ('principal has vendor && principal.vendor == "STM"', {"vendor": "STM"}, {}),
        ('principal has model && principal.model like "ST*"', {"model": "ST33"}, {"model": "x"}),
        ('principal has firmware && principal.firmware != "id:1"', {"firmware": "id:2"}, {}),
        ('principal.labels.contains("role=build")', {"labels": ("a", "role=build")}, {}),
        ("principal.reset_count > 3", {"reset_count": 4}, {"reset_count": 3}),
        ("principal.restart_count == 0", {}, {"restart_count": 1}),
        ("principal.lineage_age < 3600", {"lineage_age": 3599}, {"lineage_age": 3600}),
        (f'principal == Node::"{NODE}"', {"node": NODE}, {"node": "cd" * 32}),
    ],
)
def test_each_fact_decides(condition: str, good: dict[str, object], bad: dict[str, object]) -> None:
    """One policy over one fact, which it names as used, and alone."""
    cedar = f"permit (principal, action, resource) when {{ {condition} }};"
    assert granted(cedar, "a", facts=Facts(**good))  # type: ignore[arg-type]  # by their names
    assert not granted(cedar, "a", facts=Facts(**bad))  # type: ignore[arg-type]  # by their names
    assert Authorization(cedar).uses == tuple(good or bad)


def test_what_a_lease_is_for_decides() -> None:
    """Its audience, and where its key lives."""
    cedar = (
        "permit (principal, action, resource) when {"
        f'context.audience == "{AUDIENCE}" && context.key_protection == KeyProtection::"tpm" }};'
    )
    assert granted(cedar, "a", protection=KeyProtection.TPM)
    assert not granted(cedar, "a", protection=KeyProtection.PROCESS)
    assert not granted(cedar, "a", protection=KeyProtection.TPM, audience="https://b.example")


def test_only_facts_that_are_asked_for_tell_nodes_apart() -> None:
    """What changes at every renewal costs nothing where no policy asks for it."""
    rules = Authorization(permit())
    assert rules.uses == ()
    assert rules.known(Facts(lineage_age=1)) == rules.known(Facts(node=NODE, lineage_age=2)) == ()
    aged = Authorization(
        "permit (principal, action, resource) when { principal.lineage_age < 9 && principal.tier =="
        ' Tier::"none" };'
    )
    assert aged.known(Facts(lineage_age=1)) == (Tier.NONE, 1)


def test_what_cannot_be_evaluated_denies() -> None:
    """With the reason."""
    cedar = (
        f'{permit(["a:*"])} @id("sum") forbid (principal, action, resource)'
        " when { principal.reset_count * 9223372036854775807 > 0 };"
    )
    (verdict,) = decide(cedar, "a:x", facts=Facts(reset_count=2))
    assert not verdict.granted
    assert "overflow" in verdict.errors[0]


def test_what_cannot_be_evaluated_denies_where_it_is_about() -> None:
    """A policy that fails says nothing of names that its head is not about."""
    broken = "when { 9223372036854775807 + principal.reset_count > 0 }"
    cedar = f'{permit(["a:*"])} forbid (principal, action, resource in Scope::"a:b/*") {broken};'
    facts = Facts(node=NODE, reset_count=1)
    inside, outside, around = decide(cedar, "a:b/x", "a:c", "a:*", facts=facts)
    assert (inside.granted, outside.granted, around.granted) == (False, True, False)
    assert inside.errors == around.errors != outside.errors == ()


def test_a_policy_that_is_not_what_was_cut_from_it_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a policy says apart from its head is compared with what Cedar's parser made of it."""
    monkeypatch.setattr(
        "bootlease.policy.cedar.permitting",
        lambda *_, **__: "permit (principal, action, resource);",
    )
    with pytest.raises(ValueError, match="cannot be told from its head"):
        Authorization(f"{permit(['a:*'])} forbid (principal, action, resource) when {{ false }};")


def test_a_name_without_an_answer_is_not_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that answers fewer requests than it was asked is a defect, and no permit."""
    rules = Authorization(
        "permit (principal, action, resource);"
        'forbid (principal, action, resource) when { resource == Scope::"a:b" };'
    )
    known = rules.known(Facts(node=NODE))
    rules.decide(known, ("c",), AUDIENCE, KeyProtection.PROCESS)
    monkeypatch.setattr(cedarpy, "is_authorized_batch", lambda *_: [])
    with pytest.raises(ValueError, match="shorter"):
        rules.decide(known, ("a:b",), AUDIENCE, KeyProtection.PROCESS)


def test_text_decides_which_policies_are_the_same() -> None:
    """A policy's digest covers it, and what is remembered is remembered by it."""
    assert Authorization(permit()) == Authorization(permit())
    assert hash(Authorization(permit())) == hash(Authorization(permit()))
    assert Authorization(permit()) != Authorization(permit() + " ")


SEGMENTS: Final = ("a", "b")
BASES: Final = [
    "".join(parts)
    for length in (1, 2, 3)
    for words in itertools.product(SEGMENTS, repeat=length)
    for seps in itertools.product(":/", repeat=length - 1)
    for parts in [[words[0], *(s + w for s, w in zip(seps, words[1:], strict=True))]]
]
WILDCARDS: Final = [f"{base}{end}" for base in BASES if base.count("a") < 3 for end in (":*", "/*")]
# "z" stands in no policy: names with it are those that nobody thought of.
NAMES: Final = sorted(
    {*BASES, *(f"{base}{sep}{word}" for base in BASES for sep in ":/" for word in "abz")}
    | {f"{base}{sep}z{more}" for base in BASES for sep in ":/" for more in (":a", "/b")}
)
literals = st.sampled_from([*BASES[:20], *WILDCARDS])


@st.composite
def policies(draw: st.DrawFn) -> str:
    """Draw a policy that tells names apart in some way."""
    one, other = draw(literals), draw(literals)
    head = draw(
        st.sampled_from(
            [
                "resource",
                "resource is Scope",
                f'resource == Scope::"{one}"',
                f'resource in Scope::"{one}"',
                f'resource is Scope in Scope::"{one}"',
            ]
        )
    )
    condition = draw(
        st.sampled_from(
            [
                "",
                f'when {{ resource == Scope::"{other}" }}',
                f'unless {{ resource == Scope::"{other}" }}',
                f'when {{ resource in Scope::"{other}" }}',
                f'unless {{ resource in [Scope::"{other}", Scope::"{one}"] }}',
                f'unless {{ [Scope::"{other}", Scope::"{one}"].contains(resource) }}',
                f'when {{ Scope::"{other}" in resource || Scope::"{one}" == resource }}',
                f'when {{ Scope::"{other}" in Scope::"{one}" }}',
                f'when {{ (resource in Scope::"{one}") == (resource in Scope::"{other}") }}',
            ]
        )
    )
    effect = draw(st.sampled_from(["permit", "forbid"]))
    return f"{effect} (principal, action, {head}) {condition};"


def tried(cedar: str, names: list[str]) -> list[bool]:
    """Decide about each name by itself, in a hierarchy of all wildcards: what must hold."""
    mentioned = Authorization(cedar).policies.scopes
    everything = {*names, *mentioned}
    wildcards = {*filter(lambda each: each.endswith("*"), everything), *WILDCARDS}
    entities = [node_entity(Facts(node=NODE))]
    for name in {*everything, *wildcards}:
        above = [each for each in wildcards if each != name and covers(each, name)]
        uid = {"type": "Scope", "id": name}
        parents = [{"type": "Scope", "id": each} for each in above]
        entities.append({"uid": uid, "attrs": {}, "parents": parents})
    asked = request(NODE, names, AUDIENCE, KeyProtection.PROCESS)
    results = cedarpy.is_authorized_batch(asked, cedar, json.dumps(entities))
    return [result.allowed for result in results]


@settings(max_examples=150, deadline=None)
@given(st.lists(policies(), min_size=1, max_size=5), st.sampled_from(WILDCARDS))
def test_a_wildcard_is_decided_as_if_every_name_were_tried(rules: list[str], wanted: str) -> None:
    """Brute force over hundreds of names: granted if and only if each is."""
    cedar = "\n".join([*rules, 'permit (principal, action, resource in Scope::"a:*");'])
    mentioned = Authorization(cedar).policies.scopes
    under = [name for name in {*NAMES, *mentioned} if covers(wanted, name) and name != wanted]
    under += [wanted] if wanted in mentioned else []
    assert all(map(is_scope_name, under))
    assert len(under) > 3
    assert granted(cedar, wanted) == all(tried(cedar, under))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(policies(), min_size=1, max_size=5),
    st.sampled_from(NAMES),
)
def test_a_name_is_decided_as_in_the_whole_hierarchy(rules: list[str], wanted: str) -> None:
    """Wildcards that no policy mentions make no difference, so they are left out."""
    cedar = "\n".join([*rules, 'permit (principal, action, resource in Scope::"b/*");'])
    assert granted(cedar, wanted) == tried(cedar, [wanted])[0]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(policies(), min_size=1, max_size=5),
    st.sampled_from(WILDCARDS),
    st.sampled_from([*NAMES, *WILDCARDS]),
)
def test_a_part_of_a_grant_is_granted(rules: list[str], wider: str, narrower: str) -> None:
    """What may be delegated from a grant is nothing that would have been denied."""
    cedar = "\n".join([*rules, 'permit (principal, action, resource in Scope::"a/*");'])
    if covers(wider, narrower) and granted(cedar, wider):
        assert granted(cedar, narrower)


def whole(rules: Authorization, names: Sequence[str], facts: Facts) -> list[Answer]:
    """Ask Cedar about each name with all policies as they are written."""
    mentioned = {*rules.policies.scopes}
    entities = [node_entity(facts)]
    for name in {*names, *mentioned}:
        above = [each for each in mentioned if each != name and covers(each, name)]
        entities.append(entity("Scope", name, above))
    asked = request(facts.node, names, AUDIENCE, KeyProtection.PROCESS)
    return list(rules.policies.answer(asked, CedarEntities(entities)))


FACTS_ASKED: Final = (
    "principal.endorsed",
    "principal.reset_count * 9223372036854775807 > 0",
    'principal.labels.contains("x") || principal.reset_count > 1',
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(policies(), min_size=1, max_size=6),
    st.lists(st.sampled_from(FACTS_ASKED), min_size=6, max_size=6),
    st.tuples(st.booleans(), st.integers(0, 3), st.sampled_from([(), ("x",)])),
    st.sampled_from(NAMES),
)
def test_heads_are_compared_as_cedar_compares_them(
    rules: list[str], asked: list[str], told: tuple[bool, int, tuple[str, ...]], wanted: str
) -> None:
    """Verdict, names and errors are those of Cedar with all policies as they are written."""
    endorsed, reset_count, labels = told
    facts = Facts(node=NODE, endorsed=endorsed, reset_count=reset_count, labels=labels)
    joined = [
        f"{rule[:-1]} when {{ {condition} }};"
        for rule, condition in zip(rules, asked, strict=False)
    ]
    made = Authorization(
        "\n".join([*joined, 'permit (principal, action, resource in Scope::"a/*");'])
    )
    (verdict,) = made.decide(made.known(facts), (wanted,), AUDIENCE, KeyProtection.PROCESS)
    (answer,) = whole(made, [wanted], facts)
    assert verdict.granted == answer.allowed
    assert verdict.policies == answer.policies
    assert sorted(verdict.errors) == sorted(answer.errors)


def test_a_wildcard_over_many_policies_is_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand policies on a thousand names are asked once, whatever a node asks for."""
    lines = [
        f'permit (principal, action, resource in Scope::"r:{at}/*") when {{ principal.endorsed }};'
        for at in range(1000)
    ]
    made = Authorization("\n".join([*lines, permit(["r:*"])]))
    asked: list[int] = []
    batch = cedarpy.is_authorized_batch

    def counted(requests: list[Any], *others: Any) -> Any:
        asked.append(len(requests))
        return batch(requests, *others)

    monkeypatch.setattr(cedarpy, "is_authorized_batch", counted)
    known = made.known(Facts(endorsed=True))
    for names in (("r:*",), ("r:*", "r:7/*", "r:7/x"), ("s:*",)):
        made.decide(known, names, AUDIENCE, KeyProtection.PROCESS)
    assert asked == [1]


def looking_at(count: int, *more: str) -> Authorization:
    """Return policies of which so many look at the scope in their conditions."""
    lines = [
        f'permit (principal, action, resource) when {{ resource == Scope::"r:{at:03}" }};'
        for at in range(count)
    ]
    return Authorization("\n".join([*lines, *more]))


def test_cedar_is_asked_about_a_few_names_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it answers no other thread runs, so no question is long."""
    made = looking_at(100, permit(["r:*"]))
    asked: list[int] = []
    batch = cedarpy.is_authorized_batch

    def counted(requests: list[Any], *others: Any) -> Any:
        asked.append(len(requests))
        return batch(requests, *others)

    monkeypatch.setattr(cedarpy, "is_authorized_batch", counted)
    (verdict,) = made.decide(made.known(Facts()), ("r:*",), AUDIENCE, KeyProtection.PROCESS)
    assert verdict.granted
    assert sum(asked) == 1 + 102
    assert max(asked) * 100 < 2048


@pytest.mark.parametrize("at", [0, 14, 15, 16, 99])
def test_whatever_is_forbidden_is_found_however_it_is_asked(at: int) -> None:
    """Answers to several questions are put together in their order."""
    forbid = f'forbid (principal, action, resource) when {{ resource == Scope::"r:{at:03}" }};'
    made = looking_at(100, permit(["r:*"]), forbid)
    (verdict,) = made.decide(made.known(Facts()), ("r:*",), AUDIENCE, KeyProtection.PROCESS)
    assert (verdict.granted, verdict.at) == (False, f"r:{at:03}")


def test_the_effort_is_that_of_the_names_that_are_tried() -> None:
    """A wildcard takes as long as there are names under it, and policies that look at each."""
    plain, many = Authorization(permit(["r:1", "r:2", "s:*"])), looking_at(100)

    def effort(rules: Authorization, kinds: int, *names: str) -> int:
        return rules.effort(kinds, names, at_most=1_000_000)

    assert effort(plain, 1, "r:*") > effort(plain, 1, "r:1")
    assert effort(many, 1, "r:*") > 100 * 100
    assert effort(many, 1, "s:*") < effort(many, 1, "r:*") / 10
    assert effort(plain, 1, *["r:*"] * 32) < 2000
    assert effort(plain, 2) == 2 * effort(plain, 1)
    assert effort(many, 1) > effort(plain, 1) + 100


def test_the_effort_of_a_name_is_a_question_to_cedar_where_policies_look_at_it() -> None:
    """However few they are."""
    plain, one = Authorization(permit(["r:*"])), looking_at(1, permit(["r:*"]))
    (least, most) = (rules.effort(0, ["r:1"], at_most=1_000_000) for rules in (plain, one))
    assert most > least + 250


def test_the_effort_counts_what_each_wildcard_under_another_stands_for() -> None:
    """Of each its own name is tried, and some other name in it."""
    nested = Authorization(permit([f"r:{at}:*" for at in range(50)]))
    flat = Authorization(permit([f"s:{at}" for at in range(50)]))
    asked = {"at_most": 1_000_000}
    assert nested.effort(1, ["r:*"], **asked) >= flat.effort(1, ["r:*"], **asked) + 2 * 50


def test_the_effort_is_not_reckoned_beyond_what_matters() -> None:
    """A node chooses how many names it asks for, and the loop waits for this sum."""
    plain = Authorization(permit(["r:1"]))
    assert 500 < plain.effort(1, itertools.repeat("r:1"), at_most=500) < 1000


def test_a_costly_text_is_read_but_not_activated() -> None:
    """What was activated before there was a bound can still be replayed."""
    looking = [
        f'permit (principal, action, resource) when {{ resource == Scope::"r:{at}" }};'
        for at in range(129)
    ]
    made = Authorization("\n".join(looking))
    assert made.policies.looking == 129
    with pytest.raises(MalformedError, match="129 policies look at resource"):
        made.policies.demand_affordable()
    Authorization("\n".join(looking[:128])).policies.demand_affordable()
