"""Pushing events: in order, again where it failed, and never anywhere else."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import ssl
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from bootlease.ports import EventStream, StoredPolicy, StoreUnavailableError
from bootlease.store import SQLStore
from bootlease.testing.keys import event_signer
from bootlease.testing.set_clock import SetClock
from bootlease.testing.store_scene import AUTHOR, NOW, PREFIX, FaultySealer
from bootlease.token.caep import TokenClaimsChange, Verification
from bootlease.token.secevent import SecurityEvent, parse_set
from bootlease.verifier.securityevents import pushing
from bootlease.verifier.securityevents.pushing import Pusher, Pushing
from bootlease.verifier.securityevents.streams import Streams, Wanted

URL = "https://rp.example/events"
Answer = Callable[[], httpx2.Response]


def answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    """Answer so."""
    return lambda: httpx2.Response(status, stream=httpx2.ByteStream(body), headers=headers)


def unreachable() -> httpx2.Response:
    """Answer nothing."""
    raise httpx2.ConnectError("nobody listens")


TAKEN = answer(202)


class Receiver(httpx2.AsyncBaseTransport):
    """A receiver, and the network before it."""

    def __init__(self) -> None:
        self.answers: deque[Answer] = deque()
        self.requests: list[httpx2.Request] = []
        self.bodies: list[bytes] = []
        self.asked = asyncio.Event()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer the next answer, and that it was taken when there is none left."""
        self.requests.append(request)
        self.bodies.append(await request.aread())
        self.asked.set()
        return (self.answers.popleft() if self.answers else TAKEN)()

    @property
    def events(self) -> list[SecurityEvent]:
        """What was pushed."""
        return [parse_set(body.decode()) for body in self.bodies]


class World:
    """A verifier with streams, and a receiver."""

    def __init__(self, store: SQLStore) -> None:
        self.store = store
        self.streams = Streams(store, event_signer(), "https://v.example", SetClock(NOW))
        self.receiver = Receiver()

    async def stream(self, url: str | None = URL, header: str | None = None) -> EventStream:
        """Make a stream."""
        made, _ = await self.streams.create(
            Wanted("https://rp.example", url, header), author=AUTHOR
        )
        return made

    @asynccontextmanager
    async def pushing(self) -> AsyncIterator[None]:
        """Push while this is open."""
        task = asyncio.create_task(Pushing(self.streams, transport=self.receiver).run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Wait for something."""
        async with asyncio.timeout(10):
            while not await holds():  # noqa: ASYNC110 - nothing tells when it does
                await asyncio.sleep(0.005)

    async def empty(self, stream: EventStream) -> None:
        """Wait until nothing waits in a stream."""

        async def holds() -> bool:
            return (await self.streams.backlog(stream)).queued == 0

        await self.until(holds)

    async def pushed(self, count: int) -> None:
        """Wait until there were so many requests."""

        async def holds() -> bool:
            return len(self.receiver.requests) >= count

        await self.until(holds)


Story = Callable[[World], Awaitable[None]]
Tell = Callable[[Story], None]


@pytest.fixture
def tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tell:
    """Runs a story in a world of its own, in which nobody waits long."""
    monkeypatch.setattr(pushing, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(pushing, "LOOK", 0.02)

    def run(story: Story) -> None:
        async def whole() -> None:
            store = SQLStore.open(tmp_path / "v.db", FaultySealer(), PREFIX)
            try:
                await story(World(store))
            finally:
                store.close()

        asyncio.run(whole())

    return run


def test_an_event_is_pushed_as_rfc_8935_has_it(tell: Tell) -> None:
    """One SET as the body of a POST, with what the receiver wants to see."""

    async def story(world: World) -> None:
        stream = await world.stream(header="Bearer of-the-receiver")
        async with world.pushing():
            jti = await world.streams.verify(stream, "x")
            await world.empty(stream)
        (request,) = world.receiver.requests
        assert (request.method, str(request.url)) == ("POST", URL)
        assert request.headers["content-type"] == "application/secevent+jwt"
        assert request.headers["accept"] == "application/json"
        assert request.headers["authorization"] == "Bearer of-the-receiver"
        (event,) = world.receiver.events
        assert (event.jti, event.event) == (jti, Verification("x"))

    tell(story)


def test_what_is_recorded_is_pushed_though_nobody_calls(tell: Tell) -> None:
    """The source looks at the ledger by itself, and at once when it is woken."""

    async def story(world: World) -> None:
        stream = await world.stream()
        async with world.pushing():
            policy = StoredPolicy(1, "p", b"d" * 32, b"text", NOW)
            await world.store.activate_policy(policy, author=AUTHOR)
            await world.pushed(1)
            await world.empty(stream)
        assert isinstance(world.receiver.events[0].event, TokenClaimsChange)

    tell(story)


@pytest.mark.parametrize(
    "trouble",
    [
        unreachable,
        answer(500),
        answer(503),
        answer(429),
        answer(401),
        answer(404),
        answer(302, location="https://elsewhere.example/"),
        answer(307, location="https://elsewhere.example/"),
        answer(400),
        answer(400, b"not json"),
        answer(400, json.dumps({"err": "authentication_failed"}).encode()),
        answer(400, json.dumps({"err": "access_denied"}).encode()),
        answer(400, json.dumps({"err": 7}).encode()),
        answer(202, b"x" * (pushing.MAX_ANSWER + 1)),
    ],
)
def test_what_was_not_taken_comes_again_in_order(tell: Tell, trouble: Answer) -> None:
    """Twice it fails; the next event waits; no redirect is followed."""

    async def story(world: World) -> None:
        stream = await world.stream()
        first = await world.streams.verify(stream, "1")
        second = await world.streams.verify(stream, "2")
        world.receiver.answers += [trouble, trouble]
        async with world.pushing():
            await world.pushed(2)
            await world.empty(stream)
        names = [event.jti for event in world.receiver.events]
        assert names == [first, first, first, second]
        assert {str(request.url) for request in world.receiver.requests} == {URL}
        assert world.streams.trouble == {}

    tell(story)


@pytest.mark.parametrize(
    "code", ["invalid_request", "invalid_key", "invalid_issuer", "invalid_audience"]
)
def test_an_event_that_will_never_be_taken_holds_up_no_other(tell: Tell, code: str) -> None:
    """It is logged, and an operator who looks sees it."""

    async def story(world: World) -> None:
        stream = await world.stream()
        jti = await world.streams.verify(stream, "1")
        body = json.dumps({"err": code, "description": "no"}).encode()
        world.receiver.answers.append(answer(400, body))
        async with world.pushing():
            await world.empty(stream)
            assert world.streams.trouble == {stream.id: f"an event was refused: {code}"}
            await world.streams.verify(stream, "2")
            await world.empty(stream)
        assert world.receiver.events[0].jti == jti
        assert len(world.receiver.requests) == 2
        assert world.streams.trouble == {}

    tell(story)


def test_a_receiver_that_is_down_is_told_to_the_operator(
    tell: Tell, caplog: pytest.LogCaptureFixture
) -> None:
    """Once in the log, however often it is tried, and once when it is there again."""
    caplog.set_level("INFO", logger="bootlease.verifier")

    async def story(world: World) -> None:
        stream = await world.stream()
        world.receiver.answers += [unreachable] * 3
        async with world.pushing():
            await world.streams.verify(stream, None)
            await world.pushed(2)
            assert "cannot reach https://rp.example/events" in world.streams.trouble[stream.id]
            await world.empty(stream)

    tell(story)
    told = [record.getMessage() for record in caplog.records]
    assert told.count("receiver-unreachable") == told.count("receiver-reached") == 1


def test_a_receiver_that_does_not_answer_is_given_up(
    tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then is no answer."""
    monkeypatch.setattr(pushing, "TIMEOUT", 0.05)

    class Slowly(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                await asyncio.sleep(0.01)
                yield b" "

    async def story(world: World) -> None:
        stream = await world.stream()
        world.receiver.answers.append(lambda: httpx2.Response(202, stream=Slowly()))
        async with world.pushing():
            await world.streams.verify(stream, None)
            await world.pushed(1)

            async def troubled() -> bool:
                return "did not answer within" in world.streams.trouble.get(stream.id, "")

            await world.until(troubled)
            await world.empty(stream)
        assert len(world.receiver.requests) == 2

    tell(story)


def test_the_pauses_grow_and_begin_anew(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to a bound: a receiver that comes back is not kept waiting for hours."""
    monkeypatch.setattr(pushing, "MAX_PAUSE", 0.04)
    monkeypatch.setattr(random, "uniform", lambda _low, _high: 1.0)
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        if seconds in {0.01, 0.02, 0.04, 0.08}:
            pauses.append(seconds)
        await sleep(seconds)

    async def story(world: World) -> None:
        stream = await world.stream()
        monkeypatch.setattr(asyncio, "sleep", noted)
        world.receiver.answers += [unreachable] * 4
        async with world.pushing():
            for _ in range(2):
                await world.streams.verify(stream, None)
                await world.empty(stream)
                world.receiver.answers.append(unreachable)

    tell(story)
    assert pauses == [0.01, 0.02, 0.04, 0.04, 0.01]


def test_events_are_settled_though_a_later_one_fails(tell: Tell) -> None:
    """What the receiver has is not sent again because the next was not taken."""

    async def story(world: World) -> None:
        stream = await world.stream()
        for _ in range(3):
            await world.streams.verify(stream, None)
        world.receiver.answers += [TAKEN, unreachable]
        async with world.pushing():
            await world.empty(stream)
        names = [event.jti for event in world.receiver.events]
        assert len(names) == 4
        assert names[1] == names[2]
        assert len(set(names)) == 3

    tell(story)


def test_a_store_that_is_in_trouble_is_asked_again(
    tell: Tell, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not the receiver's trouble."""
    caplog.set_level("INFO", logger="bootlease.verifier")

    async def story(world: World) -> None:
        stream = await world.stream()
        outgoing, step = world.streams.outgoing, world.streams.step
        failures = {"outgoing": 1, "step": 1}

        async def failing_outgoing(of: EventStream, *, at_most: int) -> object:
            if failures["outgoing"]:
                failures["outgoing"] -= 1
                raise StoreUnavailableError("disk full")
            return await outgoing(of, at_most=at_most)

        async def failing_step() -> bool:
            if failures["step"]:
                failures["step"] -= 1
                raise StoreUnavailableError("disk full")
            return await step()

        monkeypatch.setattr(world.streams, "outgoing", failing_outgoing)
        monkeypatch.setattr(world.streams, "step", failing_step)
        async with world.pushing():
            await world.streams.verify(stream, None)
            await world.empty(stream)
            assert stream.id not in world.streams.trouble

            async def looked_again() -> bool:
                return failures["step"] == 0

            await world.until(looked_again)

    tell(story)
    told = [record.getMessage() for record in caplog.records]
    assert told.count("events-delayed") == 2
    assert "receiver-unreachable" not in told


def test_streams_come_and_go_while_it_runs(tell: Tell) -> None:
    """A new one is pushed at once, a removed one no more; one that is polled is not pushed."""

    async def story(world: World) -> None:
        async with world.pushing():
            stream = await world.stream()
            polled = await world.stream(None)
            await world.streams.verify(polled, None)
            await world.streams.verify(stream, None)
            await world.empty(stream)
            await world.streams.remove(stream.id, author=AUTHOR)
            other = await world.stream("https://other.example/e")
            await world.streams.verify(other, None)
            await world.empty(other)
            assert (await world.streams.backlog(polled)).queued == 1
        hosts = [request.url.host for request in world.receiver.requests]
        assert hosts == ["rp.example", "other.example"]

    tell(story)


def test_a_defect_is_told_and_begins_anew(
    tell: Tell, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody expected stops one task, not all events for good."""
    caplog.set_level("INFO", logger="bootlease.verifier")
    monkeypatch.setattr(pushing, "IDLE", 0.02)

    async def story(world: World) -> None:
        stream = await world.stream()
        step, left = world.streams.step, [1]

        async def broken() -> bool:
            if left:
                left.pop()
                raise ZeroDivisionError("a defect")
            return await step()

        monkeypatch.setattr(world.streams, "step", broken)
        async with world.pushing():
            policy = StoredPolicy(1, "p", b"d" * 32, b"text", NOW)
            await world.store.activate_policy(policy, author=AUTHOR)
            await world.pushed(1)
            await world.empty(stream)

    tell(story)
    (told,) = [each for each in caplog.records if each.getMessage() == "events-failed"]
    assert "a defect" in str(vars(told)["members"])


def test_a_pusher_asks_for_tls_of_this_decade(tell: Tell) -> None:
    """And for the names in certificates."""
    context = pushing._tls_context()
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2

    async def story(world: World) -> None:
        stream = await world.stream()
        pusher = Pusher(world.streams, stream)
        assert not pusher._client.follow_redirects
        assert not pusher._client.trust_env
        await pusher._client.aclose()

    tell(story)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A receiver's certificate, which is its own root, and the key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "tls.pem", folder / "key.pem"
    command = [
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-keyout", str(key), "-out", str(certificate), "-days", "2"),
        *("-subj", "/CN=receiver", "-addext", "subjectAltName=IP:127.0.0.1"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


async def taking(scope: Any, receive: Any, send: Any) -> None:
    """Take every event."""
    assert scope["type"] == "http"
    await receive()
    await send({"type": "http.response.start", "status": 202, "headers": []})
    await send({"type": "http.response.body"})


def test_events_go_to_certificates_that_are_trusted_alone(
    tell: Tell, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stands in the way of the receiver gets none."""
    certificate, key = pair
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)

    async def story(world: World) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            config = uvicorn.Config(
                taking,
                lifespan="off",
                ws="none",
                log_config=None,
                ssl_certfile=certificate,
                ssl_keyfile=key,
            )
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            try:
                await exchange(world, f"https://127.0.0.1:{port}/events")
            finally:
                server.should_exit = True
                await serving

    async def exchange(world: World, url: str) -> None:
        stream = await world.stream(url)
        jti = await world.streams.verify(stream, None)

        async def push() -> None:
            pusher = asyncio.create_task(Pusher(world.streams, stream).run())
            try:

                async def settled() -> bool:
                    taken = not await world.streams.waits(stream, jti)
                    return taken or stream.id in world.streams.trouble

                await world.until(settled)
            finally:
                pusher.cancel()
                await asyncio.gather(pusher, return_exceptions=True)

        await push()
        assert "CERTIFICATE_VERIFY_FAILED" in world.streams.trouble.pop(stream.id)
        assert await world.streams.waits(stream, jti)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        await push()
        assert not await world.streams.waits(stream, jti)

    tell(story)
