"""Cedar policies: what is not valid is named with its place, and nothing is passed over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.bootstate.tri import Tri
from bootlease.errors import MalformedError
from bootlease.policy.cedar import MAX_SCOPES, CedarEntities, read_cedar
from bootlease.policy.facts import Facts, entity, node_entity, request
from bootlease.token import KeyProtection, Tier, TrustVector

PERMIT = "permit (principal, action, resource);"


MANY = ",".join(f'Scope::"s{number}"' for number in range(MAX_SCOPES + 1))


def permit_when(condition: str) -> str:
    """Return a policy with a condition."""
    return f"permit (principal, action, resource) when {{ {condition} }};"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no policy permits anything"),
        ("forbid (principal, action, resource);", "no policy permits anything"),
        (f"{PERMIT}\n\npermit (principal is Node", "line 3: .*open|line 3: .*unexpected"),
        (f"{PERMIT}\npermit (principal, action, resource)", "line 2: unexpected end"),
        (f"{PERMIT}\npermit (principle, action, resource);", "line 2: .*principle"),
        ('permit (principal, action == Action::"grant", resource);', r"line 1 \(policy 1\).*grant"),
        (f'{PERMIT} @id("x")\n{permit_when("principal.tire")}', r"line 1 \(x\): .*`tire`"),
        (permit_when('principal.tier == "affirming"'), "not compatible"),
        (permit_when('principal.tier == Tier::"afirming"'), "afirming"),
        (permit_when('principal.secure_boot == SecureBoot::"On"'), "On"),
        (permit_when('principal.vendor == "STM"'), "vendor"),
        (permit_when('resource like "repo*"'), "Scope"),
        (permit_when('resource.getTag("x") == 1'), "tag"),
        ("permit (principal == ?principal, action, resource);", "template"),
        (f'@id("a") {PERMIT}\n@id("a") {PERMIT}', "line 2: the policy in line 1 is 'a' too"),
        (f'@id("policy 2") {PERMIT}\n{PERMIT}', "line 2: the policy in line 1"),
        (f'@id("") {PERMIT}', "line 1: @id"),
        (f'@id("a\\nb") {PERMIT}', "line 1: @id"),
        (f'@id("{"a" * 65}") {PERMIT}', "line 1: @id"),
        ('permit (principal, action, resource == Scope::"repo*");', "'repo\\*' is no scope name"),
        ('permit (principal, action, resource in Scope::"*");', "is no scope name"),
        (permit_when('[Scope::"a b"].contains(resource)'), "'a b' is no scope name"),
        ('permit (principal == Node::"AB", action, resource);', "'AB' is no node id"),
        (
            permit_when(f"[{MANY}].contains(resource)"),
            "scope names",
        ),
    ],
)
def test_each_rule_of_a_policy_refuses_alone(text: str, said: str) -> None:
    """What is misspelt would never match: where it forbids, that is a hole."""
    with pytest.raises(MalformedError, match=said):
        read_cedar(text)


def test_literals_are_found_wherever_they_stand() -> None:
    """Head, condition, set, record, and neither string nor annotation."""
    node = "ab" * 32
    text = f"""
    @type("Scope") @id("o:p")
    permit (principal == Node::"{node}", action, resource in Scope::"a:*")
    when {{ [Scope::"b:x", Scope::"b:y"].contains(resource) || Scope::"c:z" in resource }}
    unless {{ {{s: Scope::"d:1"}}.s == resource || "Scope::\\"e:1\\"" == context.audience }};
    forbid (principal, action, resource is Scope in Scope::"f/*");
    permit (principal, action, resource == Scope::"g\\u{{3a}}1");
    """
    policies = read_cedar(text)
    assert policies.scopes == ("a:*", "b:x", "b:y", "c:z", "d:1", "f/*", "g:1")
    assert policies.nodes == {node}
    assert [rule.name for rule in policies.rules] == ["o:p", "policy 2", "policy 3"]
    assert [rule.line for rule in policies.rules] == [2, 6, 7]


def test_attributes_are_found_however_they_are_read() -> None:
    """By a dot, in brackets, asked for by ``has``."""
    text = permit_when(
        'principal.tier == Tier::"none" && principal["labels"].isEmpty() && principal has vendor'
        " && principal has vector.executables"
    )
    (rule,) = read_cedar(text).rules
    assert rule.attributes() == {"tier", "labels", "vendor", "vector", "executables"}


def test_what_cannot_be_evaluated_grants_nothing() -> None:
    """Cedar passes over a policy that fails; one that forbids must not be passed over."""
    policies = read_cedar(
        f'{PERMIT} @id("sum") forbid (principal, action, resource)'
        " when { principal.reset_count * 9223372036854775807 > 0 };"
    )
    entities = CedarEntities([node_entity(Facts(reset_count=2)), entity("Scope", "a")])
    (answer,) = policies.answer(request("", ["a"], "x", KeyProtection.TPM), entities)
    assert not answer.allowed
    assert "`sum`" in answer.errors[0]
    entities = CedarEntities([node_entity(Facts()), entity("Scope", "a")])
    (answer,) = policies.answer(request("", ["a"], "x", KeyProtection.TPM), entities)
    assert (answer.allowed, answer.policies, answer.errors) == (True, ("policy 1",), ())


int8 = st.none() | st.integers(-128, 127)
words = st.lists(st.text(max_size=8), max_size=3, unique=True).map(tuple)
FACTS = st.builds(
    Facts,
    node=st.text(max_size=8),
    tier=st.sampled_from(Tier),
    vector=st.builds(
        TrustVector,
        *[int8] * 8,
    ),
    references=words,
    reference_digests=words,
    secure_boot=st.sampled_from(Tri),
    ima_appraised=st.booleans(),
    endorsed=st.booleans(),
    vendor=st.none() | st.text(max_size=8),
    model=st.none() | st.text(max_size=8),
    firmware=st.none() | st.text(max_size=8),
    labels=words,
    reset_count=st.integers(0, 2**32 - 1),
    restart_count=st.integers(0, 2**32 - 1),
    lineage_age=st.integers(0, 2**62),
)


@given(FACTS)
def test_facts_are_of_the_form_of_the_schema(facts: Facts) -> None:
    """Cedar validates policies by the schema; what they are asked about must be of it too."""
    CedarEntities([node_entity(facts), entity("Scope", "a:x", ["a:*"])]).demand_schema()


def test_entities_of_another_form_are_told() -> None:
    """The comparison that the test above rests on refuses."""
    wrong = node_entity(Facts())
    wrong["attrs"]["tier"] = "affirming"
    with pytest.raises(ValueError, match="deserialization"):
        CedarEntities([wrong]).demand_schema()


ALPHABET = ["permit", "forbid", *'(),;{}[]"/!=', "principal", "action", "resource", "when", "&&"]


@given(st.text(max_size=60) | st.lists(st.sampled_from(ALPHABET), max_size=24).map(" ".join))
def test_text_is_read_or_malformed(text: str) -> None:
    """Any text is read, or raises the one error."""
    try:
        read_cedar(text)
    except MalformedError:
        return
