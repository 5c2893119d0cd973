"""``bootlease token get``: what it prints and how it exits, with an agent that does as told."""

from __future__ import annotations

import json
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from bootlease.cli import run
from bootlease.localapi import EndedReason, wire
from bootlease.model import Finding
from bootlease.testing.scripted_agent import ScriptedAgent
from bootlease.workload import WorkloadClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ASK = ["--scope", "tool:search", "--audience", "https://tools.example"]
NO = Finding("policy.scope.not-granted", "The scope is not granted.")


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedAgent]:
    """An agent that grants two seconds, found by the environment."""
    monkeypatch.delenv(wire.LEASE_VARIABLE, raising=False)
    monkeypatch.setenv(wire.SOCKET_VARIABLE, str(tmp_path / "socket"))
    with ScriptedAgent(tmp_path / "socket", life=2.0) as agent:
        yield agent


@pytest.fixture
def get(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command; return exit code and what it printed."""

    def get(*arguments: str) -> tuple[int, str, str]:
        code = run(["token", "get", *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return get


def test_a_token_is_printed(agent: ScriptedAgent, get: Callable[..., tuple[int, str, str]]) -> None:
    """And the lease is given up."""
    assert get(*ASK) == (0, "c2NyaXB0ZWQ\n", "")
    agent.wait_for_streams(0)
    assert agent.asks[0].scope == ("tool:search",)


def test_headers_are_printed(
    agent: ScriptedAgent, get: Callable[..., tuple[int, str, str]]
) -> None:
    """Those of one request, as curl reads them, or as JSON beside the token."""
    agent.proofs = lambda granted, method, url: {
        "Authorization": f"DPoP {granted.token}",
        "DPoP": f"{method}.{len(url)}.x",
    }
    request = ["--method", "GET", "--url", "https://tools.example/a"]
    code, printed, _ = get(*ASK, *request)
    assert (code, printed) == (0, "Authorization: DPoP c2NyaXB0ZWQ\nDPoP: GET.23.x\n")
    code, printed, _ = get(*ASK, *request, "--json", "--encoding", "jwt")
    members = json.loads(printed)
    assert (code, members["encoding"]) == (0, "jwt")
    assert members["headers"]["DPoP"] == "GET.23.x"
    assert members["token"] == "c2NyaXB0ZWQ.c2NyaXB0ZWQ.c2NyaXB0ZWQ"


def test_the_lease_of_a_guard_is_used(
    agent: ScriptedAgent,
    get: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a scope: the one in the environment, which is not asked for anew."""
    with WorkloadClient(agent.path).lease(["tool:a"], "https://tools.example") as stream:
        stream.granted(2)
        monkeypatch.setenv(wire.LEASE_VARIABLE, stream.handle)
        code, printed, _ = get("--json")
        assert (code, json.loads(printed)["scope"]) == (0, ["tool:a"])
        code, printed, _ = get("--method", "GET", "--url", "https://tools.example/a")
        assert (code, printed.splitlines()[0]) == (0, "Authorization: DPoP c2NyaXB0ZWQ")
        assert len(agent.asks) == 1


def test_an_agent_that_hangs_is_not_waited_for_longer(
    tmp_path: Path, get: Callable[..., tuple[int, str, str]]
) -> None:
    """--timeout holds for an agent that says nothing at all, too."""
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "mute"))
        mute.listen()
        code, _, said = get(*ASK, "--socket", str(tmp_path / "mute"), "--timeout", "0.1")
    assert code == 3
    assert said.endswith("gave no answer for 0.1 s\n")


def test_a_refusal_exits_with_1(
    agent: ScriptedAgent, get: Callable[..., tuple[int, str, str]]
) -> None:
    """By a rule of the agent, or by the verifier."""
    agent.refuse(Finding("workload.peer.not-permitted", "No rule."))
    code, printed, said = get(*ASK)
    assert (code, printed) == (1, "")
    assert "workload.peer.not-permitted" in said
    agent.refuse()
    agent.life = None
    for word in (lambda: agent.deny(NO), lambda: agent.end(EndedReason.REFUSED, NO)):
        _when_asked(agent, word)
        code, printed, said = get(*ASK)
        assert (code, printed) == (1, "")
        assert NO.id in said


def _when_asked(agent: ScriptedAgent, word: Callable[[], object]) -> None:
    def wait() -> None:
        agent.wait_for_streams(1)
        word()

    agent.wait_for_streams(0)
    threading.Thread(target=wait, daemon=True).start()


def test_no_lease_in_time_exits_with_3(
    agent: ScriptedAgent, get: Callable[..., tuple[int, str, str]]
) -> None:
    """What keeps it waiting is said."""
    agent.life = None
    _when_asked(agent, lambda: agent.unreached("no route to the verifier", 4.0))
    code, printed, said = get(*ASK, "--timeout", "0.5")
    assert (code, printed) == (3, "")
    assert "no route to the verifier; the agent tries again in 4 s" in said
    assert "no lease within 0.5 s: no route to the verifier" in said


def test_no_agent_exits_with_3(tmp_path: Path, get: Callable[..., tuple[int, str, str]]) -> None:
    """The error names the socket."""
    code, _, said = get(*ASK, "--socket", str(tmp_path / "nowhere"))
    assert code == 3
    assert str(tmp_path / "nowhere") in said


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--scope", "tool:search"],
        ["--audience", "https://tools.example"],
        [*ASK, "--method", "GET"],
        [*ASK, "--url", "https://x/"],
        [*ASK, "--scope", "a b"],
        [*ASK, "--method", "get", "--url", "https://x/"],
        [*ASK, "--timeout", "0"],
    ],
)
@pytest.mark.usefixtures("agent")
def test_wrong_usage_exits_with_2(
    arguments: list[str], get: Callable[..., tuple[int, str, str]]
) -> None:
    """What goes together is given together."""
    code, printed, _ = get(*arguments)
    assert (code, printed) == (2, "")
