"""The client library, against an agent that does as it is told."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from bootlease.errors import MalformedError, VerificationError
from bootlease.localapi import (
    Alive,
    ConfirmationChoice,
    Denied,
    Ended,
    EndedReason,
    Granted,
    Unreached,
    wire,
)
from bootlease.model import Finding
from bootlease.testing.scripted_agent import ScriptedAgent
from bootlease.testing.tokens import HOLDER
from bootlease.workload import AgentGoneError, Workload, WorkloadClient, new_handle
from bootlease.workload import stream as stream_module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCOPE, AUDIENCE = ["tool:search"], "https://tools.example"
NO = Finding("policy.scope.not-granted", "No.")


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[ScriptedAgent]:
    """An agent that grants two seconds to everybody."""
    with ScriptedAgent(tmp_path / "socket", life=2.0) as agent:
        yield agent


@pytest.fixture
def client(agent: ScriptedAgent) -> WorkloadClient:
    """Its client."""
    return WorkloadClient(agent.path, timeout=2)


def test_a_lease_is_asked_for_as_told(agent: ScriptedAgent, client: WorkloadClient) -> None:
    """Every argument reaches the agent."""
    handle = new_handle()
    with client.lease(
        SCOPE, AUDIENCE, encoding="jwt", confirmation="tpm-expiring", level=2, handle=handle
    ):
        asked = agent.asks[0]
    assert (asked.scope, asked.audience, asked.handle) == (("tool:search",), AUDIENCE, handle)
    assert (asked.encoding.value, asked.level) == ("jwt", 2)
    assert asked.confirmation is ConfirmationChoice.TPM_EXPIRING
    with client.lease(SCOPE, AUDIENCE, key=HOLDER.public):
        assert agent.asks[1].key == HOLDER.public


def test_every_event_comes(agent: ScriptedAgent, client: WorkloadClient) -> None:
    """In order, as what they are."""
    with client.lease(SCOPE, AUDIENCE) as stream:
        first = stream.next_event(2)
        agent.grant(3)
        agent.unreached("no route", 1.5)
        agent.end(EndedReason.LAPSED)
        agent.say(Alive())
        agent.deny(NO)
        rest = [stream.next_event(2) for _ in range(5)]
        with pytest.raises(AgentGoneError, match="closed"):
            stream.next_event(2)
    assert isinstance(first, Granted)
    assert isinstance(rest[0], Granted)
    assert rest[0].sequence == first.sequence + 1
    assert rest[1:] == [
        Unreached("no route", 1.5),
        Ended(EndedReason.LAPSED),
        Alive(),
        Denied((NO,)),
    ]


def test_a_stream_is_iterated_without_its_signs_of_life(
    agent: ScriptedAgent, client: WorkloadClient
) -> None:
    """What is left is what a program acts upon."""
    with client.lease(SCOPE, AUDIENCE) as stream:
        agent.say(Alive())
        agent.end(EndedReason.LAPSED)
        events = iter(stream)
        assert isinstance(next(events), Granted)
        assert next(events) == Ended(EndedReason.LAPSED)


def test_closing_a_stream_gives_the_lease_up(agent: ScriptedAgent, client: WorkloadClient) -> None:
    """The agent sees it at once."""
    with client.lease(SCOPE, AUDIENCE):
        agent.wait_for_streams(1)
    agent.wait_for_streams(0)


def test_a_stream_can_be_polled(agent: ScriptedAgent, client: WorkloadClient) -> None:
    """A guard waits for it together with its timers."""
    with client.lease(SCOPE, AUDIENCE) as stream:
        assert isinstance(stream.next_event(2), Granted)
        assert stream.receive() == []
        assert not os.get_inheritable(stream.fileno())
        poll = select.poll()
        poll.register(stream, select.POLLIN)
        assert poll.poll(0) == []
        agent.grant(2)
        assert poll.poll(2000)
        assert [type(event) for event in stream.receive()] == [Granted]
        agent.hang_up()
        assert poll.poll(2000)
        with pytest.raises(AgentGoneError):
            stream.receive()
        assert stream.fileno() == -1


def test_what_came_before_the_end_is_not_lost(agent: ScriptedAgent, client: WorkloadClient) -> None:
    """A denial and the end of the stream arrive together."""
    with client.lease(SCOPE, AUDIENCE) as stream:
        stream.next_event(2)
        agent.deny(NO)
        time.sleep(0.1)
        assert stream.receive() == [Denied((NO,))]
        with pytest.raises(AgentGoneError):
            stream.receive()


def test_a_wait_ends(client: WorkloadClient) -> None:
    """Nothing comes, and nobody waits for ever."""
    with client.lease(SCOPE, AUDIENCE) as stream:
        stream.next_event(2)
        assert stream.next_event(0.05) is None


def test_an_agent_that_says_nothing_is_taken_for_dead(
    agent: ScriptedAgent, client: WorkloadClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says every five seconds that it lives."""
    monkeypatch.setattr(stream_module, "SILENT_AFTER", 0.2)
    with client.lease(SCOPE, AUDIENCE) as stream:
        stream.next_event(2)
        agent.hang()
        with pytest.raises(AgentGoneError, match="said nothing"):
            stream.next_event()


def test_a_hanging_agent_is_not_waited_for(agent: ScriptedAgent) -> None:
    """Each call has an end."""
    agent.hang()
    with pytest.raises(AgentGoneError, match="no answer"):
        WorkloadClient(agent.path, timeout=0.1).lease(SCOPE, AUDIENCE)


def test_nobody_listens(tmp_path: Path) -> None:
    """The error names the socket, and what to do."""
    with pytest.raises(AgentGoneError, match=r"nowhere: .*bootlease node run --config"):
        WorkloadClient(tmp_path / "nowhere").info()


def test_a_queue_that_is_full_is_waited_for(tmp_path: Path) -> None:
    """An agent that many connect to at once is not gone; one that takes nobody up is."""
    path = tmp_path / "busy"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        with pytest.raises(AgentGoneError, match="no agent answers"):
            WorkloadClient(path, timeout=0.1).info()

        def take_up() -> None:
            time.sleep(0.1)
            for answer in (b"", b'{"version":"1","issuer":"https://v"}'):
                with listener.accept()[0] as taken:
                    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer)
                    taken.sendall(head + answer)
                    taken.recv(4096)

        first.send(b"x")
        thread = threading.Thread(target=take_up)
        thread.start()
        assert WorkloadClient(path, timeout=5).info().version == "1"
        thread.join()


def test_an_agent_that_hangs_up_is_no_agent(tmp_path: Path) -> None:
    """Neither without a word, nor in the middle of one."""
    for said, wanted in ((b"", AgentGoneError), (b"HTTP/1.1 200 OK\r\nContent-Le", AgentGoneError)):
        with pytest.raises(wanted, match="hung up"):
            _ask_once(tmp_path, said)
    for cut in (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", b"SSH-2.0\r\n\r\n"):
        with pytest.raises(MalformedError):
            _ask_once(tmp_path, cut)


def _ask_once(folder: Path, said: bytes) -> None:
    path = folder / "raw"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            WorkloadClient(path, timeout=2).info()
        finally:
            thread.join()


def test_a_stream_that_is_none_is_closed(agent: ScriptedAgent, client: WorkloadClient) -> None:
    """What cannot be read is not waited for a second time."""
    with client.lease(SCOPE, AUDIENCE) as stream:
        stream.next_event(2)
        agent.say_raw(b"{}\n")
        with pytest.raises(MalformedError):
            stream.next_event(2)
        assert stream.fileno() == -1


def test_a_refusal_carries_its_findings(agent: ScriptedAgent, client: WorkloadClient) -> None:
    """As errors that the command line knows."""
    refused = Finding("workload.peer.not-permitted", "No rule.")
    agent.refuse(refused)
    with pytest.raises(VerificationError) as caught:
        client.lease(SCOPE, AUDIENCE)
    assert caught.value.findings == (refused,)
    agent.refuse(refused, status=429)
    with pytest.raises(AgentGoneError):
        client.lease(SCOPE, AUDIENCE)
    agent.refuse(refused, status=400)
    with pytest.raises(MalformedError):
        client.lease(SCOPE, AUDIENCE)


def test_arguments_are_checked_before_anything_is_sent(
    agent: ScriptedAgent, client: WorkloadClient
) -> None:
    """Misuse is the caller's."""
    with pytest.raises(ValueError, match="scope"):
        client.lease([], AUDIENCE)
    with pytest.raises(ValueError, match="xml"):
        client.lease(SCOPE, AUDIENCE, encoding="xml")
    with pytest.raises(ValueError, match="method"):
        client.proof(new_handle(), "get", "https://x")
    assert agent.asks == []


def test_waiting_for_a_grant(agent: ScriptedAgent, client: WorkloadClient) -> None:
    """What comes before it is told; what rules it out is an error; a wait has an end."""
    agent.life = None
    told: list[Unreached] = []
    with client.lease(SCOPE, AUDIENCE) as stream:
        agent.wait_for_streams(1)
        with pytest.raises(AgentGoneError, match="within"):
            stream.granted(0.05)
        agent.end(EndedReason.LAPSED)
        agent.unreached()
        agent.grant(2)
        assert stream.granted(2, told.append).sequence == 1
        assert told == [Unreached("no answer", 1.0)]
        agent.end(EndedReason.REFUSED, NO)
        with pytest.raises(VerificationError, match="No"):
            stream.granted(2)
        agent.end(EndedReason.REFUSED)
        with pytest.raises(VerificationError) as caught:
            stream.granted(2)
        assert caught.value.findings[0].id == "workload.lease.refused"
        agent.deny(NO)
        with pytest.raises(VerificationError, match="No"):
            stream.granted(2)


def test_a_workload_finds_its_lease_in_its_environment(
    agent: ScriptedAgent, client: WorkloadClient
) -> None:
    """Socket and handle are all that it needs."""
    with client.lease(SCOPE, AUDIENCE) as stream:
        granted = stream.granted(2)
        environment = {
            wire.SOCKET_VARIABLE: str(agent.path),
            wire.LEASE_VARIABLE: stream.handle,
        }
        workload = Workload.from_environment(environment)
        assert workload.current() == granted
        assert workload.token() == granted.token
        assert workload.headers("GET", "https://x")["Authorization"] == f"DPoP {granted.token}"
        with workload.events() as events:
            assert events.granted(2) == granted
    agent.wait_for_streams(0)
    with pytest.raises(VerificationError):
        workload.token()


@pytest.mark.parametrize(
    ("handle", "why"), [(None, "is not set"), ("", "is not set"), ("A", "is no handle of a lease")]
)
def test_a_process_without_a_lease_says_so(
    handle: str | None, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not started by ``bootlease run``, or somebody changed what that had said."""
    monkeypatch.delenv(wire.LEASE_VARIABLE, raising=False)
    if handle is not None:
        monkeypatch.setenv(wire.LEASE_VARIABLE, handle)
    with pytest.raises(RuntimeError, match=f"BOOTLEASE_LEASE {why}: no lease was handed over"):
        Workload.from_environment()


def test_the_socket_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As told, by the environment, or where it always is."""
    monkeypatch.delenv(wire.SOCKET_VARIABLE, raising=False)
    assert str(WorkloadClient().socket) == wire.SOCKET
    monkeypatch.setenv(wire.SOCKET_VARIABLE, "/b")
    assert str(WorkloadClient().socket) == "/b"
    assert str(WorkloadClient("/a").socket) == "/a"


def test_an_agent_tells_of_itself(client: WorkloadClient) -> None:
    """Who its verifier is."""
    assert client.info().issuer == "https://verifier.example"


def test_an_agent_that_comes_back_is_gone_on_with(
    agent: ScriptedAgent, client: WorkloadClient
) -> None:
    """With the same handle, after its process was another."""
    with client.lease(SCOPE, AUDIENCE) as stream:
        stream.granted(2)
        agent.die()
        with pytest.raises(AgentGoneError):
            stream.next_event(2)
    agent.start()
    with client.lease(SCOPE, AUDIENCE, handle=stream.handle) as again:
        assert again.granted(2).handle == stream.handle
