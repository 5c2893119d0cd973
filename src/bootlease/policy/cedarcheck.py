"""Looking for Cedar policies that do nothing, or not what they seem to say.

Heads are compared (principal, action, resource) and conditions only where a single comparison shows
that it never holds. Not handled: conditions that contradict each other, labels and makes that no
node has, and names of scopes that no node asks for; ``bootlease policy simulate`` tries the policy
on nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from bootlease.errors import MalformedError
from bootlease.model import Effect, Finding, legible
from bootlease.policy.cedar import CedarRule
from bootlease.policy.values import Policy
from bootlease.token.scope import covers

_ANY: Final = ""
"""Stands for every scope where a head names none."""

_AUDIENCE: Final = ("context", "audience")
_REFERENCES: Final = ("principal", "references")
_IMA: Final = ("principal", "ima_appraised")


def check_authorization(policy: Policy) -> Iterator[Finding]:
    """Yield what is wrong with a policy's Cedar policies."""
    rules = policy.authorization.policies.rules
    permits = [rule for rule in rules if rule.permits]
    forbids = [rule for rule in rules if not rule.permits]
    try:
        policy.authorization.policies.demand_affordable()
    except MalformedError as exc:
        yield Finding("policy.check.cedar.costly", f"authorization.cedar: {exc}.")
    for rule in rules:
        yield from _alone(policy, rule)
    for rule in permits:
        by = next((each for each in forbids if _whole(each) and _covers(each, rule)), None)
        if by is not None:
            yield _dead(rule, "shadowed", f"{by.where} forbids all that it permits")
    for rule in forbids:
        if not any(_overlap(rule, each) for each in permits):
            yield _unused(rule, "forbids-nothing", "no policy permits what it forbids")


def _alone(policy: Policy, rule: CedarRule) -> Iterator[Finding]:
    head = rule.form["resource"]
    if head["op"] == "==" and head["entity"]["id"].endswith("*"):
        name = head["entity"]["id"]
        yield _dead(
            rule,
            "wildcard-equal",
            f'resource == Scope::"{name}" is about the name {name} as it is written, and not about'
            " what is under it; write in",
        )
    if _never(rule):
        yield _dead(rule, "never", "its condition is never true")
    for audience in sorted(_compared(rule, _AUDIENCE) - policy.lease.audiences):
        shown = legible(audience, at_most=128)
        yield _dead(rule, "audience-unknown", f"lease.audiences does not have {shown!r}")
    for name in sorted(_compared(rule, _REFERENCES) - set(policy.accept)):
        shown = legible(name, at_most=128)
        yield _dead(rule, "reference-unaccepted", f"references.accept does not have {shown!r}")
    if not policy.ima.required and any(_path(node) == _IMA for node in rule.nodes()):
        yield _dead(rule, "ima-unappraised", '[ima] appraise is "off", so ima_appraised is false')


def _unused(rule: CedarRule, what: str, why: str) -> Finding:
    return Finding(
        f"policy.check.cedar.{what}",
        f"authorization.cedar, {rule.where}: {why}.",
        effect=Effect.NOTES,
    )


def _dead(rule: CedarRule, what: str, why: str) -> Finding:
    """Return a finding about a policy that does nothing: a hole where it was to forbid."""
    effect = Effect.NOTES if rule.permits else Effect.REFUSES
    return Finding(
        f"policy.check.cedar.{what}", f"authorization.cedar, {rule.where}: {why}.", effect=effect
    )


def _scope(rule: CedarRule) -> str:
    head = rule.form["resource"]
    entity = head.get("entity") or head.get("in", {}).get("entity")
    name: str = _ANY if entity is None else entity["id"]
    return name


def _whole(rule: CedarRule) -> bool:
    """Tell whether a policy applies to every node, whatever the facts."""
    principal = rule.form["principal"]
    anybody = principal["op"] == "All" or (principal["op"] == "is" and "in" not in principal)
    return anybody and not rule.form["conditions"]


def _covers(forbid: CedarRule, permit: CedarRule) -> bool:
    by, what = _scope(forbid), _scope(permit)
    if forbid.form["resource"]["op"] == "==":
        return by == what and not what.endswith("*")
    return by == _ANY or (what != _ANY and covers(by, what))


def _overlap(one: CedarRule, other: CedarRule) -> bool:
    a, b = _scope(one), _scope(other)
    return _ANY in {a, b} or covers(a, b) or covers(b, a)


def _never(rule: CedarRule) -> bool:
    always = {"when": False, "unless": True}
    return any(
        condition["body"].get("Value") is always[condition["kind"]]
        for condition in rule.form["conditions"]
    )


def _path(node: dict[str, Any]) -> tuple[str, str] | None:
    """Return variable and attribute of ``context.audience`` and the like."""
    read = node.get(".")
    if not isinstance(read, dict) or set(read.get("left", ())) != {"Var"}:
        return None
    return read["left"]["Var"], read["attr"]


def _compared(rule: CedarRule, path: tuple[str, str]) -> set[str]:
    """Return the texts that an attribute is compared with, as the same or as a member."""
    found: set[str] = set()
    for node in rule.nodes():
        for word in ("==", "contains"):
            sides = node.get(word)
            if isinstance(sides, dict) and path in (_path(sides["left"]), _path(sides["right"])):
                found.update(_texts(sides["left"]), _texts(sides["right"]))
    return found


def _texts(node: dict[str, Any]) -> Iterator[str]:
    for each in (node, *node.get("Set", ())):
        value = each.get("Value")
        if isinstance(value, str):
            yield value
