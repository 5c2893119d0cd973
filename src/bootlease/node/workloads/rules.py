"""Which process may have which lease: the ``[[workload]]`` tables of the agent's configuration.

Nobody may have anything that no rule permits. A rule has a part that says whom it speaks of (at
least one of uid, user, gid, group, exe, cgroup; a process must meet all that are given), and a part
that says what those may have. The first rule counts that speaks of a process and permits what it
asks for.
"""

from __future__ import annotations

import enum
import grp
import posixpath
import pwd
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from bootlease.errors import MalformedError
from bootlease.evidence.request import MAX_LEASES
from bootlease.localapi import ConfirmationChoice, LeaseAsk
from bootlease.model import Finding, legible
from bootlease.node.room import Share
from bootlease.node.tables import Table
from bootlease.node.workloads.peers import Peer, overflow_uid
from bootlease.node.workloads.problems import ProblemError, ProblemKind
from bootlease.node.workloads.statx import FileIdentity, identify
from bootlease.token import TokenFormat
from bootlease.token import scope as scopes
from bootlease.token.kinds import MAX_LEVEL

DEFAULT_CONFIRMATION: Final = frozenset({ConfirmationChoice.PROCESS, ConfirmationChoice.OWN})
DEFAULT_ENCODING: Final = frozenset({TokenFormat.CWT, TokenFormat.JWT})
DEFAULT_LEASES: Final = 16
_OVERFLOW_GID: Final = 65534
"""What the kernel says for a group that has no number in this user namespace."""
_SHOWN: Final = 64
_MAX_NAME: Final = 64
_MAX_ITEMS: Final = 256

_Choice = TypeVar("_Choice", bound=enum.Enum)


@dataclass(frozen=True, slots=True)
class Rule:
    """What some processes may have.

    Attributes:
        name: Its name, in logs and findings.
        scope: Scope names, and patterns that end in ``:*`` or ``/*``.
        audience: Relying parties.
        uids: Users; None for any.
        gids: Groups, of which a process has one at least; None for any.
        exe: Paths of programs, absolute; None for any.
        cgroups: Paths of cgroups, a process of which is in one or below it; None for any.
        confirmation: Where confirmation keys may live.
        encoding: Forms of tokens.
        level: Up to which level the word of a process is believed.
        leases: How many of its leases may be open at once.

    Raises:
        ValueError: It speaks of nobody in particular, or has a part that is none.
    """

    name: str
    scope: tuple[str, ...]
    audience: tuple[str, ...]
    uids: frozenset[int] | None = None
    gids: frozenset[int] | None = None
    exe: tuple[str, ...] | None = None
    cgroups: tuple[str, ...] | None = None
    confirmation: frozenset[ConfirmationChoice] = DEFAULT_CONFIRMATION
    encoding: frozenset[TokenFormat] = DEFAULT_ENCODING
    level: int = 0
    leases: int = DEFAULT_LEASES

    def __post_init__(self) -> None:
        whom = (self.uids, self.gids, self.exe, self.cgroups)
        if all(part is None for part in whom):
            raise ValueError("a rule says whom it speaks of: uid, user, gid, group, exe or cgroup")
        if any(part is not None and not part for part in whom):
            raise ValueError("an empty list speaks of nobody")
        for ids, overflow in ((self.uids, overflow_uid()), (self.gids, _OVERFLOW_GID)):
            if overflow in (ids or ()):
                raise ValueError(f"{overflow} stands for everybody who has no id here")
        for path in (*(self.exe or ()), *(self.cgroups or ())):
            shortest = path.startswith("/") and posixpath.normpath(path) == path
            if not shortest or path.startswith("//") or not path.isprintable():
                raise ValueError(f"{path[:_SHOWN]!a} is no absolute path in its shortest form")
        scopes.check(self.scope)
        if not self.audience:
            raise ValueError("a rule names an audience")
        if not 0 <= self.level <= MAX_LEVEL:
            raise ValueError(f"a level is 0 to {MAX_LEVEL}")
        if self.leases < 1:
            raise ValueError("a rule permits one lease at least")

    def speaks_of(
        self, peer: Peer, identify: Callable[[str], FileIdentity | None] = identify
    ) -> bool:
        """Tell whether the rule is about ``peer``."""
        # Of a user namespace that this one knows nothing of: one number stands for all of them,
        # and a rule that names no user would speak of them by accident.
        if not peer.credentials.mapped:
            return False
        if self.uids is not None and peer.credentials.uid not in self.uids:
            return False
        if self.gids is not None and self.gids.isdisjoint(peer.groups):
            return False
        if self.cgroups is not None and not any(
            _within(place, path) for place in peer.cgroups for path in self.cgroups
        ):
            return False
        # By the file, not by its path: in a mount namespace of its own, which anybody may have, a
        # process can put any program at any path.
        return self.exe is None or (
            peer.program is not None and any(identify(path) == peer.program for path in self.exe)
        )

    def lacks(self, ask: LeaseAsk) -> tuple[Finding, ...]:
        """Return what of ``ask`` the rule does not permit."""
        found = [
            Finding(
                "workload.scope.not-permitted",
                f"Rule {self.name} does not permit the scope name {name}.",
                seen=name,
            )
            for name in scopes.uncovered(self.scope, ask.scope)
        ]
        if ask.audience not in self.audience:
            found.append(
                Finding(
                    "workload.audience.not-permitted",
                    f"Rule {self.name} does not permit this audience.",
                    seen=legible(ask.audience, at_most=_SHOWN),
                )
            )
        if ask.confirmation not in self.confirmation:
            found.append(
                Finding(
                    "workload.confirmation.not-permitted",
                    f"Rule {self.name} does not permit this kind of confirmation key.",
                    seen=ask.confirmation.value,
                )
            )
        if ask.encoding not in self.encoding:
            found.append(
                Finding(
                    "workload.encoding.not-permitted",
                    f"Rule {self.name} does not permit this form of token.",
                    seen=ask.encoding.value,
                )
            )
        return tuple(found)

    def believed(self, level: int | None) -> int | None:
        """Return the level that may be passed on where a process states ``level``."""
        return None if level is None else min(level, self.level)


def _within(place: str, path: str) -> bool:
    return place == path or place.startswith(f"{path.rstrip('/')}/")


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules in force, in their order.

    Raises:
        ValueError: Two have one name.
    """

    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        if len({rule.name for rule in self.rules}) != len(self.rules):
            raise ValueError("two rules have one name")

    def share(self, rule: Rule) -> Share:
        """Return the part of the evidence that the leases under ``rule`` may take together."""
        return Share(rule.leases, sum(each.leases for each in self.rules))

    def about(self, peer: Peer) -> tuple[Rule, ...]:
        """Return the rules that speak of ``peer``."""
        return tuple(rule for rule in self.rules if rule.speaks_of(peer))


def permitting(rules: Sequence[Rule], ask: LeaseAsk) -> Rule:
    """Return the first of ``rules``, which all speak of one process, that permits ``ask``.

    Args:
        rules: At least one.
        ask: What is asked for.

    Raises:
        ProblemError: None does.
    """
    found: list[Finding] = []
    for rule in rules:
        lacks = rule.lacks(ask)
        if not lacks:
            return rule
        found += lacks
    raise ProblemError(ProblemKind.NOT_PERMITTED, *found)


def parse_rules(tables: Iterable[Table], *, room: int = MAX_LEASES) -> Rules:
    """Read the ``[[workload]]`` tables; users and groups are looked up by name now.

    Args:
        tables: The tables.
        room: Leases that the agent can hold for workloads.

    Raises:
        MalformedError: One of them is none.
    """
    rules: list[Rule] = []
    for table in tables:
        rule = _parse_rule(table)
        if any(rule.name == other.name for other in rules):
            raise table.error("name", "another rule has this name")
        rules.append(rule)
    total = sum(rule.leases for rule in rules)
    if total > room:
        # Otherwise one rule's workloads could leave no room for another's.
        raise MalformedError(
            f"workload: the rules permit {total} leases together, and the agent has room for"
            f" {room} (max_leases, less one for each keep); lower leases"
        )
    return Rules(tuple(rules))


def _parse_rule(table: Table) -> Rule:
    try:
        rule = Rule(
            name=table.text("name", at_most=_MAX_NAME),
            scope=table.texts("scope", at_most=scopes.MAX_NAMES),
            audience=table.texts("audience", at_most=_MAX_ITEMS),
            uids=_ids(table, "uid", "user", lambda name: pwd.getpwnam(name).pw_uid),
            gids=_ids(table, "gid", "group", lambda name: grp.getgrnam(name).gr_gid),
            exe=_paths(table, "exe"),
            cgroups=_paths(table, "cgroup"),
            confirmation=_choices(table, "confirmation", ConfirmationChoice, DEFAULT_CONFIRMATION),
            encoding=_choices(table, "encoding", TokenFormat, DEFAULT_ENCODING),
            level=table.integer("level", 0, at_most=MAX_LEVEL),
            leases=table.integer("leases", DEFAULT_LEASES, at_least=1, at_most=MAX_LEASES),
        )
    except ValueError as exc:
        raise table.error("", str(exc)) from exc
    table.end()
    return rule


def _ids(
    table: Table, ids: str, names: str, look_up: Callable[[str], int]
) -> frozenset[int] | None:
    if not table.has(ids) and not table.has(names):
        return None
    found = set(table.integers(ids, (), at_most=_MAX_ITEMS))
    for name in table.texts(names, (), at_most=_MAX_ITEMS):
        try:
            found.add(look_up(name))
        except KeyError as exc:
            raise table.error(names, f"there is no {names} {name[:_SHOWN]!a}") from exc
    return frozenset(found)


def _paths(table: Table, key: str) -> tuple[str, ...] | None:
    return table.texts(key, at_most=_MAX_ITEMS) if table.has(key) else None


def _choices(
    table: Table, key: str, kind: type[_Choice], default: frozenset[_Choice]
) -> frozenset[_Choice]:
    if not table.has(key):
        return default
    try:
        return frozenset(kind(value) for value in table.texts(key, at_most=_MAX_ITEMS))
    except ValueError as exc:
        words = ", ".join(str(each.value) for each in kind)
        raise table.error(key, f"has another word than {words}") from exc
