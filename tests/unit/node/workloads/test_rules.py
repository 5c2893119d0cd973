"""Rules: whom they speak of, what they permit, and how they are written."""

from __future__ import annotations

import dataclasses
import os
import pwd
from typing import Any

import pytest

from bootlease.errors import MalformedError
from bootlease.evidence.request import MAX_LEASES
from bootlease.localapi import ConfirmationChoice
from bootlease.node.tables import parse_tables
from bootlease.node.workloads.peers import Credentials, Peer, overflow_uid
from bootlease.node.workloads.rules import Rule, Rules, parse_rules
from bootlease.node.workloads.statx import FileIdentity
from bootlease.token import TokenFormat

PROGRAM = FileIdentity((8, 1), 77)
OTHER = FileIdentity((8, 1), 78)
PEER = Peer(
    Credentials(10, 1000, 1000), frozenset({1000, 27}), PROGRAM, ("/system.slice/app.service/x",)
)


def rule(**whom: Any) -> Rule:
    """Return a rule about ``whom``."""
    return Rule("r", ("tool:*",), ("https://a",), **whom)


def files(path: str) -> FileIdentity | None:
    """Tell which file is at a path."""
    return {"/usr/bin/app": PROGRAM, "/usr/bin/other": OTHER}.get(path)


@pytest.mark.parametrize(
    "whom",
    [
        {"uids": frozenset({1000, 5})},
        {"gids": frozenset({1000})},
        {"gids": frozenset({27, 5})},
        {"exe": ("/usr/bin/other", "/usr/bin/app")},
        {"cgroups": ("/system.slice/app.service",)},
        {"cgroups": ("/system.slice/app.service/x",)},
        {"cgroups": ("/",)},
        {"uids": frozenset({1000}), "exe": ("/usr/bin/app",), "cgroups": ("/system.slice",)},
    ],
)
def test_a_rule_speaks_of_who_meets_all_its_parts(whom: dict[str, Any]) -> None:
    """One of each list, and every list."""
    assert rule(**whom).speaks_of(PEER, files)


@pytest.mark.parametrize(
    "whom",
    [
        {"uids": frozenset({1001})},
        {"gids": frozenset({28})},
        {"exe": ("/usr/bin/other",)},
        {"exe": ("/usr/bin/absent",)},
        {"cgroups": ("/system.slice/app",)},
        {"cgroups": ("/system.slice/app.service/x/y",)},
        {"cgroups": ("/app.service",)},
        {"uids": frozenset({1000}), "exe": ("/usr/bin/other",)},
        {"uids": frozenset({1001}), "exe": ("/usr/bin/app",)},
    ],
)
def test_a_rule_does_not_speak_of_others(whom: dict[str, Any]) -> None:
    """A cgroup's path is compared by whole components, a program by its file."""
    assert not rule(**whom).speaks_of(PEER, files)


@pytest.mark.parametrize(
    "whom",
    [{"gids": frozenset({27})}, {"exe": ("/usr/bin/app",)}, {"cgroups": ("/system.slice",)}],
)
def test_a_rule_without_a_user_does_not_speak_of_who_has_no_number_here(
    whom: dict[str, Any],
) -> None:
    """One number stands for everybody of the user namespaces that the agent cannot see into."""
    unmapped = dataclasses.replace(PEER, credentials=Credentials(10, overflow_uid(), 1000))
    assert rule(**whom).speaks_of(PEER, files)
    assert not rule(**whom).speaks_of(unmapped, files)


def test_a_program_that_may_not_be_seen_is_none() -> None:
    """A path that is not there is not the same as a program that is not known."""
    unseen = Peer(PEER.credentials, PEER.groups, None, ())
    assert not rule(exe=("/usr/bin/absent",)).speaks_of(unseen, files)
    assert not rule(cgroups=("/",)).speaks_of(unseen, files)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "whom it speaks of"),
        ({"uids": frozenset()}, "nobody"),
        ({"uids": frozenset({65534})}, "has no id here"),
        ({"gids": frozenset({65534})}, "has no id here"),
        ({"exe": ("app",)}, "absolute path"),
        ({"exe": ("/usr/../app",)}, "absolute path"),
        ({"exe": ("//app",)}, "absolute path"),
        ({"exe": ("/app\0",)}, "absolute path"),
        ({"cgroups": ("/a/",)}, "absolute path"),
        ({"cgroups": ("/a", "b")}, "absolute path"),
        ({"uids": frozenset({1}), "level": 4}, "level"),
        ({"uids": frozenset({1}), "leases": 0}, "one lease"),
    ],
)
def test_a_rule_that_is_none_is_refused(changes: dict[str, Any], why: str) -> None:
    """A rule about everybody, or about nobody, is a mistake."""
    with pytest.raises(ValueError, match=why):
        rule(**changes)


def test_scope_and_audience_of_a_rule_are_checked() -> None:
    """Both say something."""
    with pytest.raises(ValueError, match="scope"):
        Rule("r", (), ("a",), uids=frozenset({1}))
    with pytest.raises(ValueError, match="scope name"):
        Rule("r", ("a*",), ("a",), uids=frozenset({1}))
    with pytest.raises(ValueError, match="audience"):
        Rule("r", ("a",), (), uids=frozenset({1}))


def test_two_rules_have_two_names() -> None:
    """Handles are told apart by their rule's name."""
    one = rule(uids=frozenset({1}))
    with pytest.raises(ValueError, match="one name"):
        Rules((one, one))


FULL = """
[[workload]]
name = "search"
user = ["root"]
uid = [1000]
group = ["root"]
gid = [1001]
exe = ["/usr/bin/app"]
cgroup = ["/system.slice/app.service"]
scope = ["tool:*"]
audience = ["https://a"]
confirmation = ["tpm", "own"]
encoding = ["cwt"]
level = 2
leases = 4

[[workload]]
name = "least"
uid = [1000]
scope = ["tool:a"]
audience = ["https://a"]
"""


def parsed(text: str) -> Rules:
    """Parse the rules of a configuration."""
    return parse_rules(parse_tables(text.encode()).tables("workload"))


def test_rules_are_read() -> None:
    """Users and groups by name and number; what is left out has the narrow default."""
    full, least = parsed(FULL).rules
    assert full == Rule(
        "search",
        ("tool:*",),
        ("https://a",),
        uids=frozenset({0, 1000}),
        gids=frozenset({0, 1001}),
        exe=("/usr/bin/app",),
        cgroups=("/system.slice/app.service",),
        confirmation=frozenset({ConfirmationChoice.TPM, ConfirmationChoice.OWN}),
        encoding=frozenset({TokenFormat.CWT}),
        level=2,
        leases=4,
    )
    assert least.confirmation == {ConfirmationChoice.PROCESS, ConfirmationChoice.OWN}
    assert least.encoding == {TokenFormat.CWT, TokenFormat.JWT}
    assert (least.level, least.leases) == (0, 16)
    assert least.gids is None
    assert pwd.getpwuid(os.geteuid())
    assert parsed("") == Rules(())


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ('"search"', '"least"', r"workload\[2\].name: another rule"),
        ('user = ["root"]', 'user = ["no-such-user"]', "line 4.*no user 'no-such-user'"),
        ('group = ["root"]', 'group = ["no-such"]', "no group 'no-such'"),
        ("uid = [1000]\ngroup", "uid = [true]\ngroup", "uid"),
        ("uid = [1000]\ngroup", 'uid = ["1"]\ngroup', "uid"),
        ("uid = [1000]\ngroup", "uid = []\ngroup", "uid"),
        ('"/usr/bin/app"', '"app"', "absolute path"),
        ('confirmation = ["tpm"', 'confirmation = ["paper"', "another word"),
        ('encoding = ["cwt"]', 'encoding = ["xml"]', "another word"),
        ("level = 2", "level = 4", "level"),
        ("leases = 4", "leases = 0", "leases"),
        ("leases = 4", "lease = 4", "unknown key.*leases"),
        ('audience = ["https://a"]\nconfirmation', "confirmation", "audience: is missing"),
        ('name = "search"\n', "", "name: is missing"),
        ("leases = 4", f"leases = {MAX_LEASES}", "lower leases"),
    ],
)
def test_a_rule_written_wrongly_is_named(before: str, after: str, why: str) -> None:
    """With table, key and line."""
    assert before in FULL
    with pytest.raises(MalformedError, match=why):
        parsed(FULL.replace(before, after, 1))


def test_rules_leave_room_for_each_other() -> None:
    """Together they permit no more than the agent can hold."""
    tables = parse_tables(FULL.encode()).tables("workload")
    assert len(parse_rules(tables, room=20).rules) == 2
    with pytest.raises(MalformedError, match=r"20 leases together.*room for 19"):
        parse_rules(parse_tables(FULL.encode()).tables("workload"), room=19)
