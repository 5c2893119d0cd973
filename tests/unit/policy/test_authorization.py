"""Which scope a node may have: wildcards are decided as if each of their names were tried."""

from __future__ import annotations

import itertools
import json
from typing import Final

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootlease.bootstate.tri import Tri
from bootlease.policy import Authorization, Facts, ScopeVerdict
from bootlease.policy.facts import node_entity, request
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
