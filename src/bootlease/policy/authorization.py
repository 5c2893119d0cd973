"""Authorization: which scope a node with these facts may have, decided by Cedar policies.

A lease is asked for by names. A name without wildcard is one request to the policies. One that
ends in ``:*`` or ``/*`` stands for every name under it, and is granted only if each would be. This
is decided exactly, without trying them all. Policies can compare a scope with the names written in
them, as the same or as in it, and with nothing else: scopes have no attributes, and text is not
theirs to read. So names under a wildcard that the policies do not tell apart are decided alike,
and one of each sort is enough:

- each scope name written in the policies that lies under the wildcard;
- for each of these that is a wildcard itself, and for the requested one: some other name in it.
  None such is in a smaller wildcard of the policies, whose own lies under the requested one too.

Default deny; what forbids wins; what cannot be evaluated denies. A wildcard that is granted thus
covers nothing that would be denied, so a part of a grant is granted too.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bootlease.errors import MalformedError
from bootlease.policy.cedar import Answer, CedarEntities, CedarPolicies, read_cedar
from bootlease.policy.facts import NO_FACTS, NODE, Facts, entity, node_entity, request
from bootlease.token import KeyProtection
from bootlease.token.scope import covers

_WILDCARDS: Final = (":*", "/*")
_OTHER: Final = " "
"""In a wildcard's place: some name in it that is written nowhere, for no scope name has a blank."""

Known = tuple[Any, ...]
"""Those facts that the policies ask for."""


@dataclass(frozen=True, slots=True)
class ScopeVerdict:
    """What became of one name that was asked for.

    Attributes:
        name: The name.
        granted: It, and all that it stands for, is permitted and not forbidden.
        at: What decided: the name itself, or one that it stands for; with ``…`` at its end, some
            name that begins so and that no policy mentions.
        policies: Names of the policies that forbid it there; if granted, of all that permit.
        errors: What could not be evaluated there.
    """

    name: str
    granted: bool
    at: str
    policies: tuple[str, ...]
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Authorization:
    """The policies on scopes.

    Attributes:
        cedar: Their text.
        policies: What it says.
        uses: Facts that it asks for: nothing else bears on a decision.
    """

    cedar: str
    policies: CedarPolicies = field(init=False, repr=False, compare=False)
    uses: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _pick: Callable[[Facts], Known] = field(init=False, repr=False, compare=False)
    _entities: CedarEntities = field(init=False, repr=False, compare=False)
    _mentioned: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            policies = read_cedar(self.cedar)
        except MalformedError as exc:
            raise ValueError(f"authorization.cedar: {exc}") from exc
        uses = _uses(policies)
        object.__setattr__(self, "policies", policies)
        object.__setattr__(self, "uses", uses)
        object.__setattr__(self, "_pick", _picking(uses))
        mentioned = {each["uid"]["id"]: each for each in _mentioned(policies.scopes)}
        object.__setattr__(self, "_mentioned", frozenset(mentioned))
        object.__setattr__(self, "_entities", CedarEntities(list(mentioned.values())))

    def __hash__(self) -> int:
        # Text keeps its hash.
        return hash(self.cedar)

    def known(self, facts: Facts) -> Known:
        """Return the facts that bear on a decision: nodes alike in them are decided alike."""
        return self._pick(facts)

    def decide(
        self, known: Known, names: Sequence[str], audience: str, protection: KeyProtection
    ) -> tuple[ScopeVerdict, ...]:
        """Decide about each name of a scope.

        Args:
            known: What ``known`` returned for the node's facts.
            names: Scope names.
            audience: The relying party that the lease is for.
            protection: Where the lease's key lives.
        """
        facts = NO_FACTS._replace(**dict(zip(self.uses, known, strict=True)))
        node = node_entity(facts)
        return tuple(
            [self._decide(node, name, audience, protection) for name in names],
        )

    def _decide(
        self, node: dict[str, Any], name: str, audience: str, protection: KeyProtection
    ) -> ScopeVerdict:
        points = list(_points(name, self.policies.scopes))
        new = [
            entity("Scope", each, _covering(each, self._mentioned))
            for each in points
            if each not in self._mentioned
        ]
        entities = self._entities.with_added([node, *new])
        asked = request(node["uid"]["id"], points, audience, protection)
        answers = self.policies.answer(asked, entities)
        return _verdict(name, points, answers)


def _verdict(name: str, points: Sequence[str], answers: Sequence[Answer]) -> ScopeVerdict:
    permitting: set[str] = set()
    for point, answer in zip(points, answers, strict=True):
        if not answer.allowed:
            at = f"{point[:-1]}…" if point.endswith(_OTHER) else point
            return ScopeVerdict(name, False, at, answer.policies, answer.errors)  # noqa: FBT003 - granted
        permitting.update(answer.policies)
    return ScopeVerdict(name, True, name, tuple(sorted(permitting)))  # noqa: FBT003 - granted


def _is_wildcard(name: str) -> bool:
    return name.endswith(_WILDCARDS)


def _other(wildcard: str) -> str:
    return wildcard[:-1] + _OTHER


def _points(name: str, mentioned: Sequence[str]) -> Iterator[str]:
    """Yield one name of each sort that the policies tell apart among those a name stands for."""
    if not _is_wildcard(name):
        yield name
        return
    under = [each for each in mentioned if covers(name, each)]
    # What somebody wrote down is the better reason than a name that nobody thought of.
    yield from under
    yield from {_other(each): None for each in (name, *filter(_is_wildcard, under))}


def _mentioned(scopes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the names in policies, and one more in each wildcard of theirs, with their parents."""
    names = frozenset(scopes)
    for name in (*scopes, *map(_other, filter(_is_wildcard, scopes))):
        yield entity("Scope", name, _covering(name, names))


def _covering(name: str, mentioned: frozenset[str]) -> list[str]:
    """Return the wildcards of the policies that a name is in, itself not among them."""
    branches = (name[: at + 1] + "*" for at, letter in enumerate(name) if letter in ":/")
    return [
        branch
        for branch in branches
        if branch in mentioned and branch != name and covers(branch, name)
    ]


def _uses(policies: CedarPolicies) -> tuple[str, ...]:
    attributes = set[str]().union(*(rule.attributes() for rule in policies.rules))
    # Without a node's name in the policies, all names are alike.
    asked = attributes | ({NODE} if policies.nodes else set())
    return tuple(name for name in Facts._fields if name in asked)


def _picking(uses: tuple[str, ...]) -> Callable[[Facts], Known]:
    if not uses:
        return lambda _facts: ()
    if len(uses) == 1:
        (name,) = uses
        return lambda facts: (getattr(facts, name),)
    return operator.attrgetter(*uses)
