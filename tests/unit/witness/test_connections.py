"""Who keeps a connection to the witness, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from bootlease.witness import connections
from bootlease.witness.connections import BoundedProtocol

REQUEST = b"GET /logs HTTP/1.1\r\nhost: w\r\n\r\n"
ENDLESS = b"POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ncontent-length: 9\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[..., Awaitable[Streams]]


async def app(_: Any, receive: Any, send: Any) -> None:
    """Answer when the whole body is there."""
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS", 4)
    monkeypatch.setattr(connections, "PER_CLIENT", 3)


def served(story: Callable[[Connect], Awaitable[None]]) -> None:
    """Run a story against a server."""

    async def whole() -> None:
        config = uvicorn.Config(app, log_config=None, lifespan="off")
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: BoundedProtocol(config, state, {}), "127.0.0.1", 0
        )
        port = server.sockets[0].getsockname()[1]
        writers = []

        async def connect(source: str, data: bytes = b"") -> Streams:
            opened = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
            writers.append(opened[1])
            opened[1].write(data)
            await asyncio.sleep(0.05)
            return opened

        async with server:
            try:
                await story(connect)
            finally:
                for writer in writers:
                    writer.transport.abort()
                await asyncio.sleep(0.05)

    asyncio.run(whole())


async def answer_on(streams: Streams) -> bytes:
    """The first line of an answer."""
    return await asyncio.wait_for(streams[0].readline(), 2)


async def ended(streams: Streams) -> bool:
    """Whether the server ends a connection within a second."""
    try:
        return await asyncio.wait_for(streams[0].read(), 1) == b""
    except TimeoutError:
        return False


def test_silence_holds_no_place() -> None:
    """However many connections are open and silent, a log is heard."""

    async def story(connect: Connect) -> None:
        for number in range(4):
            await connect(f"127.0.0.{10 + number}")
        assert (await answer_on(await connect("127.0.0.3", REQUEST))).startswith(b"HTTP/1.1 200")

    served(story)


def test_a_client_replaces_its_own_idle_connections() -> None:
    """Never another's, nor one on which a request is under way."""

    async def story(connect: Connect) -> None:
        other = await connect("127.0.0.2")
        busy = await connect("127.0.0.3", ENDLESS)
        idle = await connect("127.0.0.3")
        await connect("127.0.0.3", ENDLESS)
        assert (await answer_on(await connect("127.0.0.3", REQUEST))).startswith(b"HTTP/1.1 200")
        assert await ended(idle)
        assert not other[0].at_eof()
        busy[1].write(b"123456789")
        assert (await answer_on(busy)).startswith(b"HTTP/1.1 200")

    served(story)


def test_a_client_with_requests_on_all_its_connections_gets_no_more() -> None:
    """Others do."""

    async def story(connect: Connect) -> None:
        for _ in range(3):
            await connect("127.0.0.3", ENDLESS)
        assert await ended(await connect("127.0.0.3"))
        assert (await answer_on(await connect("127.0.0.2", REQUEST))).startswith(b"HTTP/1.1 200")

    served(story)


def test_a_server_full_of_requests_takes_no_more() -> None:
    """Nothing under way is ended for a newcomer."""

    async def story(connect: Connect) -> None:
        busy = [await connect(f"127.0.0.{10 + number}", ENDLESS) for number in range(4)]
        assert await ended(await connect("127.0.0.3"))
        busy[0][1].write(b"123456789")
        assert (await answer_on(busy[0])).startswith(b"HTTP/1.1 200")

    served(story)


@pytest.mark.parametrize("data", [b"", REQUEST[:-2]])
@pytest.mark.parametrize("before", [0, 1])
def test_a_head_has_to_arrive_in_time(
    data: bytes, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one and every other; between requests a connection may rest."""
    monkeypatch.setattr(connections, "HEAD_TIME", 0.2)

    async def story(connect: Connect) -> None:
        streams = await connect("127.0.0.3", REQUEST * before)
        if before:
            await streams[0].readuntil(b"ok")
            await asyncio.sleep(0.3)
        streams[1].write(data)
        assert await ended(streams) is not (before and not data)

    served(story)


def test_a_body_may_take_longer_than_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a deadline of its own."""
    monkeypatch.setattr(connections, "HEAD_TIME", 0.2)

    async def story(connect: Connect) -> None:
        streams = await connect("127.0.0.3", ENDLESS)
        await asyncio.sleep(0.3)
        streams[1].write(b"123456789")
        assert (await answer_on(streams)).startswith(b"HTTP/1.1 200")

    served(story)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_a_client_is_an_address_or_a_customers_network(one: str, other: str, *, same: bool) -> None:
    """Nobody becomes many by numbering an IPv6 network through."""
    assert (connections._client((one, 1)) == connections._client((other, 1))) is same


class Ending(BoundedProtocol):
    """An idle connection, which may be about to end."""

    def __init__(self, *, closing: bool) -> None:
        self.cycle = None  # type: ignore[assignment]  # as uvicorn has it before the first request
        self.closed: list[bool] = []
        self.transport = cast(
            "asyncio.Transport",
            SimpleNamespace(is_closing=lambda: closing, close=lambda: self.closed.append(True)),
        )


def test_what_is_about_to_end_makes_no_room_twice() -> None:
    """A client that does not read its last answer may keep that connection for a while."""
    newcomer, ending, idle = Ending(closing=False), Ending(closing=True), Ending(closing=False)
    assert not connections._end_one([newcomer, ending], newcomer)
    assert connections._end_one([newcomer, ending, idle], newcomer)
    assert (newcomer.closed, ending.closed, idle.closed) == ([], [], [True])
