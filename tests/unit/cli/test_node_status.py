"""``bootlease node status``: whose lease is whose."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import pytest

from bootlease.cli import run
from bootlease.node.state import StateDirectory
from bootlease.node.status import LeaseState, LeaseStatus, Status
from bootlease.node.wishbook import Holder
from bootlease.testing.tokens import ISSUER

if TYPE_CHECKING:
    from pathlib import Path

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state folder of an agent that keeps one lease by itself, and two for workloads."""
    ends = int(time.time()) + 60
    leases = (
        LeaseStatus("00", ("tool:keep",), "https://a", ends),
        LeaseStatus(
            *("01", ("tool:a", "tool:b"), "https://a", ends),
            level=2,
            workload=Holder("search", 4242, 1000, "/usr/bin/search"),
        ),
        LeaseStatus("02", ("x",), "https://b", ends, workload=Holder("other", 7, 1001)),
    )
    with StateDirectory(tmp_path / "state") as directory:
        directory.report(
            Status(
                *(LeaseState.HELD, ISSUER, ends - 60, 1),
                sequence=3,
                expires_at=ends,
                leases=leases,
            )
        )
    return tmp_path / "state"


def test_each_lease_is_shown_with_its_workload(state: Path, capfd: Capture) -> None:
    """A row each: rule, user, process, program, level, seconds left, scope and audience."""
    assert run(["node", "status", "--state", str(state)]) == 0
    head, titles, kept, search, other, *_ = capfd.readouterr().out.splitlines()
    assert re.fullmatch(r"3 leases held, number 3, as of [0-9]{1,2} s ago", head)
    assert titles.split() == [
        *("RULE", "UID", "PROCESS", "PROGRAM"),
        *("LEVEL", "LEFT", "SCOPE", "AUDIENCE"),
    ]
    assert kept.split()[:5] == ["-"] * 5
    assert search.split()[:5] == ["search", "1000", "4242", "/usr/bin/search", "2"]
    assert 0 < int(search.split()[5]) <= 60
    assert search.split()[7:] == ["tool:a", "tool:b", "https://a"]
    assert "  not seen  " in other


def test_one_lease_is_one(state: Path, capfd: Capture) -> None:
    """One is not several."""
    file = state / "status.json"
    members = json.loads(file.read_bytes())
    members["leases"] = members["leases"][1:2]
    file.write_text(json.dumps(members))
    assert run(["node", "status", "--state", str(state)]) == 0
    assert capfd.readouterr().out.startswith("1 lease held, number 3, as of ")


def test_an_agent_that_nobody_has_asked(state: Path, capfd: Capture) -> None:
    """It holds nothing, and that is no failure of it."""
    file = state / "status.json"
    members = json.loads(file.read_bytes())
    file.write_text(json.dumps({**members, "state": "none", "leases": []}))
    assert run(["node", "status", "--state", str(state)]) == 3
    shown = capfd.readouterr().out
    assert shown.startswith("no lease: nobody has asked for one, or none has come yet\n")


def test_the_same_as_json(state: Path, capfd: Capture) -> None:
    """With the names that status.json has, and the seconds that are left."""
    assert run(["node", "status", "--state", str(state), "--json"]) == 0
    kept, search, other = json.loads(capfd.readouterr().out)["leases"]
    assert search["workload"] == {
        "rule": "search",
        "pid": 4242,
        "uid": 1000,
        "exe": "/usr/bin/search",
    }
    assert search["level"] == 2
    assert 0 < search["left"] <= 60
    assert "workload" not in kept
    assert "level" not in kept
    assert other["workload"] == {"rule": "other", "pid": 7, "uid": 1001}


def test_what_an_earlier_agent_wrote_is_shown(state: Path, capfd: Capture) -> None:
    """Its leases have no end of their own, nor anybody that they are of."""
    file = state / "status.json"
    members = json.loads(file.read_bytes())
    members["leases"] = [{"id": "00", "scope": ["a"], "audience": "https://a"}]
    file.write_text(json.dumps(members))
    assert run(["node", "status", "--state", str(state)]) == 0
    assert "lease 3 held: a for https://a" in capfd.readouterr().out
