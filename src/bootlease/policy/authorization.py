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

How many there are must not matter much: a node chooses the wildcard. Whether a policy holds depends
on the scope by its head, nearly always by nothing else (``resource == …``, ``resource in …``). So
Cedar is asked once which policies hold, their heads apart, and heads are compared here. A policy
that looks at the scope in its conditions is tried at every name, and of such an operator may
activate few (``cedar.MAX_LOOKING``).

Default deny; what forbids wins; what cannot be evaluated denies. A wildcard that is granted thus
covers nothing that would be denied, so a part of a grant is granted too.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bootlease.errors import MalformedError
from bootlease.policy.cedar import (
    NONE_HOLD,
    REQUEST_TRIALS,
    CedarEntities,
    CedarPolicies,
    Holding,
    read_cedar,
)
from bootlease.policy.facts import NO_FACTS, NODE, Facts, entity, node_entity, request
from bootlease.token import KeyProtection
from bootlease.token.scope import covers

_WILDCARDS: Final = (":*", "/*")
_OTHER: Final = " "
"""In a wildcard's place: some name in it that is written nowhere, for no scope name has a blank."""
_A_KIND: Final = 250
_A_NAME: Final = 10
"""Microseconds of one question to Cedar, and of one name; trials take about one each."""

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
    _heads: _Heads = field(init=False, repr=False, compare=False)

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
        object.__setattr__(self, "_heads", _Heads(policies, mentioned))

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
        holding = _anywhere(self, known, audience, protection)
        return tuple([self._decide(holding, known, name, audience, protection) for name in names])

    def _decide(
        self, holding: Holding, known: Known, name: str, audience: str, protection: KeyProtection
    ) -> ScopeVerdict:
        points = list(_points(name, self.policies.scopes))
        looked: Iterator[Holding] = itertools.repeat(NONE_HOLD)
        if self.policies.looking:
            looked = iter(self._looked(known, points, audience, protection))
        heads, permits = self._heads, 0
        for point, other in zip(points, looked, strict=False):
            said = heads.at(point)
            here = holding.rules & said | other.rules
            failed = holding.failed & said | other.failed
            forbids = here & heads.forbids
            if forbids or failed or not here:
                at = f"{point[:-1]}…" if point.endswith(_OTHER) else point
                # Cedar passes over a policy that fails, and one that forbids must not be.
                errors = (*holding.errors_of(failed), *other.errors_of(failed))
                names = self._names_of(forbids or here)
                return ScopeVerdict(name, False, at, names, errors)  # noqa: FBT003 - granted
            permits |= here
        return ScopeVerdict(name, True, name, self._names_of(permits))  # noqa: FBT003 - granted

    def _names_of(self, rules: int) -> tuple[str, ...]:
        named = self.policies.rules
        return tuple(sorted(rule.name for at, rule in enumerate(named) if rules >> at & 1))

    def _looked(
        self, known: Known, points: Sequence[str], audience: str, protection: KeyProtection
    ) -> tuple[Holding, ...]:
        node = self._node(known)
        new = [
            entity("Scope", each, _covering(each, self._mentioned))
            for each in points
            if each not in self._mentioned
        ]
        asked = request(node["uid"]["id"], points, audience, protection)
        return self.policies.holding_at(asked, self._entities.with_added([node, *new]))

    def effort(self, kinds: int, names: Iterable[str], *, at_most: int) -> int:
        """Estimate how long it takes to decide what was not decided before, in microseconds.

        Args:
            kinds: For how many relying parties and protections of keys.
            names: Scope names, those of all leases.
            at_most: Above this it does not matter how long: no more names are looked at.
        """
        # Every policy once, to say whether it holds whatever the scope.
        told = kinds * (_A_KIND + 2 * len(self.policies.rules))
        for name in names:
            if told > at_most:
                break
            told += _effort(self, name)
        return told

    def holding(self, known: Known, audience: str, protection: KeyProtection) -> Holding:
        """Say which policies hold whatever the scope, what their heads say of it apart."""
        node = self._node(known)
        (asked,) = request(node["uid"]["id"], [_OTHER], audience, protection)
        return self.policies.holding_anywhere(asked, self._entities.with_added([node]))

    def _node(self, known: Known) -> dict[str, Any]:
        return node_entity(NO_FACTS._replace(**dict(zip(self.uses, known, strict=True))))


@functools.lru_cache(maxsize=1024)
def _anywhere(
    rules: Authorization, known: Known, audience: str, protection: KeyProtection
) -> Holding:
    # What a node asks for in one evidence, and at the next, differs by scope alone.
    return rules.holding(known, audience, protection)


@functools.lru_cache(maxsize=16_384)
def _effort(rules: Authorization, name: str) -> int:
    policies, points = rules.policies, 1
    if _is_wildcard(name):
        first, last = _span(name, policies.scopes)
        points += 2 * (last - first)
    told = _A_NAME + len(policies.rules) // 8 + points
    if not policies.looking:
        return told
    # Cedar is asked, with the entities of all names and one more.
    return told + _A_KIND + len(policies.scopes) + points * (REQUEST_TRIALS + policies.looking)


class _Heads:
    """What the heads of policies say of scope names, as bits of their places in the text.

    Args:
        policies: The policies.
        mentioned: The names in them, and one more in each wildcard of theirs.

    Attributes:
        forbids: The policies that forbid.
    """

    __slots__ = ("_equal", "_known", "_scopes", "_under", "_whole", "forbids")

    def __init__(self, policies: CedarPolicies, mentioned: Iterable[str]) -> None:
        self._scopes = frozenset(policies.scopes)
        self._equal: dict[str, int] = {}
        self._under: dict[str, int] = {}
        self._whole = self.forbids = 0
        for place, rule in enumerate(policies.rules):
            self.forbids |= 0 if rule.permits else 1 << place
            if rule.looks_at_scope:
                continue
            if rule.head is None:
                self._whole |= 1 << place
                continue
            how, name = rule.head
            table = self._equal if how == "==" else self._under
            table[name] = table.get(name, 0) | 1 << place
        self._known: dict[str, int] = {}
        self._known = {name: self.at(name) for name in mentioned}

    def at(self, name: str) -> int:
        """Return the policies whose heads are about a name; those that look further left out."""
        known = self._known.get(name)
        if known is not None:
            return known
        said = self._whole | self._equal.get(name, 0) | self._under.get(name, 0)
        for above in _covering(name, self._scopes):
            said |= self._under.get(above, 0)
        return said


def _is_wildcard(name: str) -> bool:
    return name.endswith(_WILDCARDS)


def _other(wildcard: str) -> str:
    return wildcard[:-1] + _OTHER


def _points(name: str, mentioned: Sequence[str]) -> Iterator[str]:
    """Yield one name of each sort that the policies tell apart among those a name stands for."""
    if not _is_wildcard(name):
        yield name
        return
    first, last = _span(name, mentioned)
    under = [each for each in mentioned[first:last] if covers(name, each)]
    # What somebody wrote down is the better reason than a name that nobody thought of.
    yield from under
    yield from {_other(each): None for each in (name, *filter(_is_wildcard, under))}


def _span(wildcard: str, mentioned: Sequence[str]) -> tuple[int, int]:
    """Return between which places of a sorted list the names under a wildcard stand."""
    # What goes on where the star is stands together, ahead of the next letter.
    stem = wildcard[:-1]
    after = stem[:-1] + chr(ord(stem[-1]) + 1)
    return bisect.bisect_left(mentioned, stem), bisect.bisect_left(mentioned, after)


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
