"""Cedar's engine, behind one door: reading policies, and answering requests by them.

Specification: Cedar 4, by cedarpy. Its policies terminate, read no clock and draw no lots, so a
decision can be made again. What is asked for here and what its words mean is ``authorization``'s.

Refused, though Cedar takes it: templates, which grant nothing until somebody links them; a name of
a scope or node that none can have, and two policies of one ``@id``. A rule that can never match,
because it is misspelt, must not go unseen where it forbids.
"""

from __future__ import annotations

import functools
import json
import operator
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cedarpy

from bootlease.errors import MalformedError
from bootlease.model import legible
from bootlease.policy.cedarschema import CEDAR_SCHEMA
from bootlease.policy.cedartext import Statement, permitting, split_policies
from bootlease.token.scope import is_scope_name

MAX_SCOPES: Final = 1024
"""Scope names that one text may hold: a requested wildcard is tried at each that lies under it."""

MAX_LOOKING: Final = 16_384
"""Policies whose conditions look at the scope, times scope names, in a policy that is activated:
each such policy is tried at each name under a requested wildcard, at some 2 us."""

REQUEST_TRIALS: Final = 32
"""As many trials as a request to Cedar costs that tries nothing."""

_TRIED_AT_ONCE: Final = 2048
"""Trials of one call of Cedar's, some 5 ms: while it runs, no other thread does."""

MAX_ID: Final = 64
_MAX_TOLD: Final = 8
_MAX_REASON: Final = 300
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/@-]{0,63}", re.ASCII)
_GIVEN: Final = re.compile(r"policy(\d+)")
_NODE: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SCHEMA: Final = cedarpy.Schema.from_str(CEDAR_SCHEMA)
_PARTS: Final = ("principal", "action", "resource", "conditions")
_HEADS: Final = ("==", "in")
_LOOK: Final = {"Var": "resource"}
_LITERAL: Final = frozenset({"type", "id"})


@dataclass(frozen=True, slots=True)
class CedarRule:
    """One policy of a text.

    Attributes:
        name: Its ``@id``, or its place in the text.
        line: The line on which it begins.
        permits: It permits; otherwise it forbids.
        form: Its tree, in Cedar's JSON form of policies.
    """

    name: str
    line: int
    permits: bool
    form: dict[str, Any]

    @property
    def where(self) -> str:
        """Return how messages name it."""
        return f"line {self.line} ({self.name})"

    def nodes(self) -> Iterator[dict[str, Any]]:
        """Yield every object of the tree, without annotations."""
        pending: list[Any] = [self.form[part] for part in _PARTS if part in self.form]
        while pending:
            value = pending.pop()
            if type(value) is dict:
                yield value
                pending.extend(value.values())
            elif type(value) is list:
                pending.extend(value)

    def literals(self, kind: str) -> set[str]:
        """Return the names of a kind of entity that it holds, wherever they stand in it."""
        # In an expression as in the head; a record of Cedar's has objects as its members.
        return {
            node["id"]
            for node in self.nodes()
            if node.keys() == _LITERAL and node["type"] == kind and type(node["id"]) is str
        }

    @property
    def looks_at_scope(self) -> bool:
        """Whether it asks for the scope elsewhere than in a head of the usual forms."""
        usual = self.form["resource"]["op"] in {"All", *_HEADS}
        return not usual or any(node == _LOOK for node in self.nodes())

    @property
    def head(self) -> tuple[str, str] | None:
        """How its head compares the scope, ``==`` or ``in``, with what; None where it does not."""
        resource = self.form["resource"]
        return (resource["op"], resource["entity"]["id"]) if resource["op"] in _HEADS else None

    def attributes(self) -> set[str]:
        """Return the names of all attributes that it reads or asks for, of whatever."""
        found = (node.get("attr") for node in self.nodes())
        return {name for name in found if type(name) is str}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the policies say to one request.

    Attributes:
        allowed: Some permit and none forbids.
        policies: Names of those that decided: that forbid if one does, else that permit.
        errors: What could not be evaluated: such an answer grants nothing.
    """

    allowed: bool
    policies: tuple[str, ...]
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Holding:
    """Which policies hold in some case, each as the bit of its place in the text.

    Attributes:
        rules: Those that hold.
        failed: Those that could not be evaluated.
        errors: What each of these says.
    """

    rules: int
    failed: int
    errors: tuple[tuple[int, str], ...]

    def errors_of(self, rules: int) -> tuple[str, ...]:
        """Return what those among ``rules`` say that could not be evaluated."""
        return tuple(error for place, error in self.errors if rules >> place & 1)


NONE_HOLD: Final = Holding(0, 0, ())


class CedarPolicies:
    """Policies that were read and are valid by the schema.

    Attributes:
        rules: The policies, in their order.
        scopes: Scope names in them, sorted.
        nodes: Node ids in them.
        looking: How many look at the scope in another way than by their heads.
    """

    __slots__ = ("_handle", "_looking", "_names", "_others", "looking", "nodes", "rules", "scopes")

    def __init__(
        self,
        statements: Sequence[Statement],
        rules: tuple[CedarRule, ...],
        handle: cedarpy.PolicySet,
    ) -> None:
        self.rules = rules
        self.scopes = tuple(sorted(set[str]().union(*(each.literals("Scope") for each in rules))))
        self.nodes = frozenset[str]().union(*(each.literals("Node") for each in rules))
        self._handle = handle
        self._names = {f"policy{number}": rule.name for number, rule in enumerate(rules)}
        self.looking = sum(rule.looks_at_scope for rule in rules)
        self._looking = _Sort(statements, rules, looking=True)
        self._others = _Sort(statements, rules, looking=False)

    def demand_affordable(self) -> None:
        """Demand that a node that asks for a wildcard cannot keep a verifier busy.

        Raises:
            MalformedError: Too many policies would be tried at too many names.
        """
        if self.looking * len(self.scopes) > MAX_LOOKING:
            raise MalformedError(
                f"{self.looking} policies look at resource in their conditions, and there are"
                f" {len(self.scopes)} scope names: more than {MAX_LOOKING} trials for one wildcard;"
                " write the scope in the head, resource in …"
            )

    def holding_anywhere(self, request: dict[str, Any], entities: CedarEntities) -> Holding:
        """Say which policies that look at no scope but by their heads hold, their heads apart.

        Args:
            request: For any scope.
            entities: All that it is about.
        """
        return self._others.holding([request], entities)[0]

    def holding_at(
        self, requests: Sequence[dict[str, Any]], entities: CedarEntities
    ) -> tuple[Holding, ...]:
        """Say for each request which of the other policies hold, each as a whole."""
        return self._looking.holding(requests, entities)

    def answer(
        self, requests: Sequence[dict[str, Any]], entities: CedarEntities
    ) -> tuple[Answer, ...]:
        """Answer requests.

        Args:
            requests: In Cedar's JSON.
            entities: All that they are about.
        """
        results = cedarpy.is_authorized_batch(list(requests), self._handle, entities.handle)
        return tuple(map(self._answer, results))

    def _answer(self, result: cedarpy.AuthzResult) -> Answer:
        said = result.diagnostics
        names = tuple(sorted(self._names.get(each, each) for each in said.reasons))
        errors = tuple(legible(self._named(each), at_most=_MAX_REASON) for each in said.errors)
        # Cedar passes over a policy that fails, and one that forbids must not be passed over.
        return Answer(result.allowed and not errors, names, errors)

    def _named(self, error: str) -> str:
        return re.sub(r"policy\d+", lambda found: self._names.get(found[0], found[0]), error)


class _Sort:
    """Some of the policies of a text, made to say of each by itself whether it holds.

    All of them permit, for Cedar names only those that decide, and none of those that permit where
    one forbids. Those that look at the scope by their heads alone are without what they say there.

    Args:
        statements: All policies, as text.
        rules: The same, as read.
        looking: Which of them: those that look at the scope in another way, or the others.

    Raises:
        MalformedError: One cannot be taken apart.
    """

    __slots__ = ("_handle", "_names", "_places")

    def __init__(
        self, statements: Sequence[Statement], rules: Sequence[CedarRule], *, looking: bool
    ) -> None:
        self._places = [at for at, rule in enumerate(rules) if rule.looks_at_scope is looking]
        self._names = [rules[at].name for at in self._places]
        texts = [permitting(statements[at], any_scope=not looking) for at in self._places]
        text = "\n".join(texts)
        self._handle = cedarpy.PolicySet.from_str(text)
        forms = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"]
        # The text is cut by what it looks like; relied on is what Cedar's parser makes of it.
        for number, at in enumerate(self._places):
            form = {part: rules[at].form[part] for part in _PARTS} | {"effect": "permit"}
            if not looking:
                form["resource"] = {"op": "All"}
            if forms[f"policy{number}"] != form:
                raise MalformedError(f"{rules[at].where}: cannot be told from its head")

    def holding(
        self, requests: Sequence[dict[str, Any]], entities: CedarEntities
    ) -> tuple[Holding, ...]:
        """Say for each request which of them hold."""
        step = max(1, _TRIED_AT_ONCE // (len(self._places) + REQUEST_TRIALS))
        results: list[cedarpy.AuthzResult] = []
        for at in range(0, len(requests), step):
            asked = list(requests[at : at + step])
            results += cedarpy.is_authorized_batch(asked, self._handle, entities.handle)
        # A name without an answer would be one that nothing forbids.
        answered = zip(requests, results, strict=True)
        return tuple([self._held(result.diagnostics) for _, result in answered])

    def _held(self, said: cedarpy.Diagnostics) -> Holding:
        errors = sorted((self._place(each), self._named(each)) for each in said.errors)
        return Holding(
            _bits(map(self._place, said.reasons)), _bits(at for at, _ in errors), tuple(errors)
        )

    def _place(self, text: str) -> int:
        # The ids that Cedar gives: reasons are such, and an error begins with one in quotes.
        found = _GIVEN.search(text)
        if found is None:
            raise RuntimeError(f"Cedar speaks of a policy without its id: {text!r:.200}")
        return self._places[int(found[1])]

    def _named(self, error: str) -> str:
        named = _GIVEN.sub(lambda found: self._names[int(found[1])], error, count=1)
        return legible(named, at_most=_MAX_REASON)


def _bits(places: Iterable[int]) -> int:
    return functools.reduce(operator.or_, (1 << place for place in places), 0)


class CedarEntities:
    """Entities that requests are about, parsed.

    Args:
        entities: In Cedar's JSON.
    """

    __slots__ = ("handle",)

    def __init__(self, entities: Sequence[dict[str, Any]]) -> None:
        self.handle = cedarpy.Entities.from_json_str(json.dumps(entities))

    def with_added(self, entities: Sequence[dict[str, Any]]) -> CedarEntities:
        """Return these and others."""
        added = CedarEntities.__new__(CedarEntities)
        added.handle = self.handle.with_added_json_str(json.dumps(entities))
        return added

    def demand_schema(self) -> None:
        """Compare them with the schema.

        Raises:
            ValueError: They are not of its form.
        """
        cedarpy.Entities.from_json_str(str(self.handle), _SCHEMA)


def read_cedar(text: str) -> CedarPolicies:
    """Read policies, and validate them by the schema.

    Raises:
        MalformedError: They are not valid; the message names line and policy.
    """
    statements = split_policies(text)
    try:
        handle = cedarpy.PolicySet.from_str(text)
        form = json.loads(cedarpy.policies_to_json_str(text))
    except ValueError as exc:
        raise MalformedError(_unparsed(statements, exc)) from exc
    # Of another depth than the limits foresee: nothing that a person wrote.
    except RecursionError as exc:
        raise MalformedError("a policy is nested too deep") from exc
    if form["templates"]:
        raise MalformedError("a template (?principal, ?resource) grants nothing; write a policy")
    rules = tuple(_rules(statements, form["staticPolicies"]))
    _demand_valid(text, rules)
    policies = CedarPolicies(statements, rules, handle)
    if not any(rule.permits for rule in rules):
        raise MalformedError("no policy permits anything")
    if len(policies.scopes) > MAX_SCOPES:
        raise MalformedError(f"more than {MAX_SCOPES} scope names")
    return policies


def _unparsed(statements: Sequence[Statement], whole: ValueError) -> str:
    # The parser names no place.
    for statement in statements:
        try:
            cedarpy.PolicySet.from_str(statement.text)
        except ValueError as exc:
            return f"line {statement.line}: {legible(str(exc), at_most=_MAX_REASON)}"
    return legible(str(whole), at_most=_MAX_REASON)


def _rules(statements: Sequence[Statement], forms: dict[str, Any]) -> Iterator[CedarRule]:
    if len(statements) != len(forms):
        raise MalformedError("a policy does not end with ;")
    seen: dict[str, int] = {}
    for number, statement in enumerate(statements):
        form = forms[f"policy{number}"]
        given = form.get("annotations", {}).get("id")
        name = f"policy {number + 1}" if given is None else given
        if type(name) is not str or not _ID.fullmatch(name):
            raise MalformedError(
                f'line {statement.line}: @id has 1 to {MAX_ID} letters, digits, blanks and "._:/@-"'
            )
        if name in seen:
            raise MalformedError(
                f"line {statement.line}: the policy in line {seen[name]} is {name!r} too"
            )
        seen[name] = statement.line
        rule = CedarRule(name, statement.line, form["effect"] == "permit", form)
        _demand_names(rule)
        yield rule


def _demand_names(rule: CedarRule) -> None:
    for name in sorted(rule.literals("Scope")):
        if not is_scope_name(name):
            raise MalformedError(f"{rule.where}: {legible(name, at_most=128)!r} is no scope name")
    for node in sorted(rule.literals("Node")):
        if not _NODE.fullmatch(node):
            raise MalformedError(
                f"{rule.where}: {legible(node, at_most=128)!r} is no node id of 64 lower-case hex"
                " digits"
            )


def _demand_valid(text: str, rules: Sequence[CedarRule]) -> None:
    result = cedarpy.validate_policies(text, _SCHEMA)
    if result.validation_passed:
        return
    where = {f"policy{number}": rule.where for number, rule in enumerate(rules)}
    told = []
    for error in result.errors:
        place = where.get(error.policy_id)
        reason = error.error.removeprefix(f"for policy `{error.policy_id}`")
        reason = legible(reason.lstrip(",: "), at_most=_MAX_REASON)
        told.append(reason if place is None else f"{place}: {reason}")
    if len(told) > _MAX_TOLD:
        told[_MAX_TOLD:] = [f"and {len(told) - _MAX_TOLD} more"]
    raise MalformedError("; ".join(told) or "not valid by the schema")
