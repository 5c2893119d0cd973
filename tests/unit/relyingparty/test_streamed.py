"""Listening for continuity, one step at a time: what is taken, and what ends a stream."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from bootlease.errors import BootleaseError, TransportError, VerificationError
from bootlease.relyingparty import StaticKeys, StreamedContinuity
from bootlease.relyingparty.fetching import TIMEOUT
from bootlease.testing.tokens import ISSUER, NOW, FakeIssuer
from bootlease.token.continuity import CONTINUITY_EVENT, MAX_STATEMENT

ISSUED = FakeIssuer()
URL = f"{ISSUER}/v1/continuity"
LIFE = 30


def event(text: str, kind: str = CONTINUITY_EVENT) -> bytes:
    """Return one event of a stream."""
    return f"event: {kind}\ndata: {text}\n\n".encode()


class World:
    """A verifier that streams, and the clocks of a relying party."""

    def __init__(self) -> None:
        self.wall = float(NOW)
        self.steady = 100.0
        self.sequence = 0
        self.events: list[bytes | Callable[[], bytes]] = []
        self.status = 200
        self.asked: list[httpx2.Request] = []
        self.polled: Callable[[], httpx2.Response] = lambda: httpx2.Response(
            200, text=self.statement()
        )
        self.extensions: dict[str, Any] = {}
        self.client = httpx2.Client(transport=httpx2.MockTransport(self.handle))

    def statement(self, **changes: Any) -> str:
        """Return a new statement."""
        self.sequence += 1
        now = int(self.wall)
        said = {"issued_at": now, "expires_at": now + LIFE, "sequence": self.sequence, **changes}
        return ISSUED.statement(**said)

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a poll, or a stream."""
        self.asked.append(request)
        if str(request.url) == URL:
            return self.polled()
        assert str(request.url) == f"{URL}/stream"
        return httpx2.Response(
            self.status,
            headers={"content-type": "text/event-stream"},
            content=self.stream(),
            extensions=self.extensions,
        )

    def stream(self) -> Iterator[bytes]:
        """Give the events."""
        for each in self.events:
            yield each() if callable(each) else each

    def source(self, **options: Any) -> StreamedContinuity:
        """Return a source that listens to this verifier."""
        given = {"client": self.client, **options}
        return StreamedContinuity(
            URL,
            StaticKeys(ISSUED.keys),
            issuer=ISSUER,
            clock=lambda: self.wall,
            monotonic=lambda: self.steady,
            **given,
        )


class Scripted(threading.Event):
    """Says when it is waited for, and is set after so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.waits: list[float] = []
        self.left = times

    def wait(self, timeout: float | None = None) -> bool:
        """Note how long."""
        assert timeout is not None
        self.waits.append(timeout)
        self.left -= 1
        if self.left == 0:
            self.set()
        return self.is_set()


@pytest.fixture
def world() -> World:
    """A verifier."""
    return World()


def quiet(source: StreamedContinuity, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no thread begin."""
    monkeypatch.setattr(source, "_begin", lambda: None)


def test_what_is_streamed_is_held(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest statement, and nothing is polled for it."""
    source = world.source()
    quiet(source, monkeypatch)
    world.events = [event(world.statement()), event(world.statement(min_epoch=7))]
    source._listen()
    assert source.current().min_epoch == 7
    assert [request.method for request in world.asked] == ["GET"]
    assert world.asked[0].headers["accept"] == "text/event-stream"


def test_other_events_say_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment or an event of another kind is passed over."""
    source = world.source()
    quiet(source, monkeypatch)
    other = world.statement(min_epoch=9)
    world.events = [b": hello\n\n", event(world.statement()), event(other, "weather")]
    source._listen()
    assert source.current().min_epoch == 0


def test_an_answer_that_is_no_stream_is_an_error(world: World) -> None:
    """Whatever its body says."""
    source = world.source()
    world.status = 404
    world.events = [event(world.statement())]
    with pytest.raises(TransportError, match="404"):
        source._listen()
    with pytest.raises(VerificationError):
        source._held.current()


def test_a_statement_that_does_not_count_ends_the_stream(world: World) -> None:
    """What follows it is asked for anew."""
    source = world.source()
    world.events = [
        event(world.statement()),
        event(FakeIssuer(99).statement(issued_at=NOW, expires_at=NOW + 9, sequence=50)),
        event(world.statement(min_epoch=7)),
    ]
    with pytest.raises(VerificationError):
        source._listen()
    assert source._held.current().min_epoch == 0


def test_an_event_is_bounded(world: World) -> None:
    """One that is longer than any statement is not waited for, nor kept."""
    source = world.source()
    given = 0

    def endless() -> bytes:
        nonlocal given
        given += 8192
        return b"data: " + b"a" * 8000 if given == 8192 else b"a" * 8192

    world.events = [endless] * 1000
    with pytest.raises((BootleaseError, httpx2.HTTPError, httpx2.StreamError)):
        source._listen()
    assert given <= 2 * MAX_STATEMENT + 65536
    world.events = [event("a" * MAX_STATEMENT)]
    with pytest.raises(BootleaseError):
        source._listen()


def test_nothing_is_taken_after_the_end(world: World) -> None:
    """A source that was closed while an event was under way forgets it."""
    source = world.source()

    def closed() -> bytes:
        source._stopped.set()
        return event(world.statement(min_epoch=7))

    world.events = [event(world.statement()), closed]
    source._listen()
    assert source._held.current().min_epoch == 0


def test_a_statement_counts_from_when_it_came(world: World) -> None:
    """By the clock that nobody sets."""
    source = world.source()

    def later() -> bytes:
        world.steady += 50
        return event(world.statement())

    world.events = [later]
    source._listen()
    assert source._held.age() == 0
    world.steady += LIFE / 2
    assert source._held.age() == pytest.approx(0.5)


def test_a_silent_stream_is_left(world: World) -> None:
    """After the time of a statement, or after a while where none has come yet."""
    source = world.source()
    world.events = [event(world.statement())]
    source._listen()
    source._listen()
    first, second = (request.extensions["timeout"] for request in world.asked)
    assert (first["read"], second["read"]) == (30.0, float(LIFE))
    world.wall += 1
    world.events = [event(world.statement(expires_at=int(world.wall) + 12))]
    source._listen()
    source._listen()
    assert world.asked[-1].extensions["timeout"]["read"] == 12
    assert all(request.extensions["timeout"]["connect"] == TIMEOUT for request in world.asked)


def test_behind_a_silent_stream_it_is_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two heartbeats late, whatever the connection looks like."""
    source = world.source()
    quiet(source, monkeypatch)
    source.current()
    asked = len(world.asked)
    world.wall += LIFE * 0.69
    world.steady += LIFE * 0.69
    source.current()
    assert len(world.asked) == asked
    world.wall += LIFE * 0.02
    world.steady += LIFE * 0.02
    source.current()
    assert len(world.asked) == asked + 1


def test_it_asks_at_once_where_something_is_said_to_have_ended(world: World) -> None:
    """Beside listening."""
    source = world.source()
    source.refresh()
    source.refresh()
    assert [str(request.url) for request in world.asked] == [URL, URL]


def test_the_leeway_asked_for_is_that_of_statements(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One from further ahead does not count."""
    for leeway, counts in ((0, False), (20, True)):
        source = world.source(leeway=leeway)
        quiet(source, monkeypatch)
        ahead = world.statement(issued_at=NOW + 15, expires_at=NOW + 45)
        world.polled = lambda text=ahead: httpx2.Response(200, text=text)  # type: ignore[misc]
        if counts:
            assert source.current().issued_at == NOW + 15
        else:
            with pytest.raises(VerificationError):
                source.current()


def test_pauses_grow_and_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """And begin anew when a statement has come; each differs a little from its neighbours'."""
    parts: list[tuple[float, float]] = []

    def jitter(low: float, high: float) -> float:
        parts.append((low, high))
        return high

    monkeypatch.setattr(random, "uniform", jitter)
    source = world.source()
    script = Scripted(9)
    source._stopped = script
    world.status = 503
    source._run()
    assert script.waits == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]
    assert set(parts) == {(0.5, 1)}
    source._stopped = script = Scripted(1)
    world.status, world.events = 200, [event(world.statement())]
    source._run()
    assert script.waits == [0.1]


@pytest.mark.parametrize(
    "error",
    [httpx2.ConnectError("gone"), httpx2.StreamError("odd"), OSError("gone")],
    ids=lambda error: type(error).__name__,
)
def test_a_stream_that_breaks_is_opened_again(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever it was that broke."""
    source = world.source()
    source._stopped = script = Scripted(2)
    listened: list[int] = []
    left = socket.socket()

    def listen() -> None:
        listened.append(1)
        source._socket = left
        raise error

    monkeypatch.setattr(source, "_listen", listen)
    with left:
        source._run()
    assert len(listened) == len(script.waits) == 2
    assert source._socket is None


def test_one_thread_listens(world: World) -> None:
    """It begins when it is first asked, again where it is gone, and never after the end."""
    source = world.source()
    hold, ran = threading.Event(), []

    def run() -> None:
        ran.append(threading.current_thread())
        hold.wait(10)

    source._run = run  # type: ignore[method-assign]  # what it does is tested elsewhere
    source.current()
    source.current()
    assert len(ran) == 1
    assert (ran[0].name, ran[0].daemon) == ("bootlease-continuity", True)
    hold.set()
    ran[0].join(10)
    source.current()
    assert len(ran) == 2
    source.close()
    source.current()
    assert len(ran) == 2


def test_it_begins_though_nothing_counts_yet(world: World) -> None:
    """A stream may bring what a poll did not."""
    source = world.source()
    began: list[int] = []
    source._begin = lambda: began.append(1)  # type: ignore[method-assign]  # no thread here
    world.polled = lambda: httpx2.Response(500)
    with pytest.raises(VerificationError):
        source.current()
    assert began == [1]


def test_the_end_wakes_who_listens(world: World) -> None:
    """The connection is ended under it; it does not wait for a silent verifier."""
    near, far = socket.socketpair()

    class Network:
        def get_extra_info(self, name: str) -> object:
            return near if name == "socket" else None

    waiting = threading.Event()

    def silence() -> bytes:
        waiting.set()
        near.settimeout(20)
        assert near.recv(1) == b""
        raise httpx2.ReadError("ended")

    world.extensions = {"network_stream": Network()}
    world.events = [silence]
    with near, far, world.source() as source:
        source.current()
        assert waiting.wait(10)
        began = time.monotonic()
        source.close()
        assert source._thread is not None
        assert not source._thread.is_alive()
        assert time.monotonic() - began < 5
    assert not world.client.is_closed


def test_a_client_of_its_own_is_closed() -> None:
    """Whoever lent one closes it."""
    source = StreamedContinuity(URL, StaticKeys(ISSUED.keys), issuer=ISSUER)
    with source as same:
        assert same is source
    assert source._client.is_closed


def test_a_stream_is_not_opened_in_the_clear() -> None:
    """Whoever sits between could withhold a revocation."""
    with pytest.raises(ValueError, match="https"):
        StreamedContinuity("http://verifier.example/c", StaticKeys(ISSUED.keys), issuer=ISSUER)
