"""How many connections there may be, and which of them make room."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from bootlease.verifier.http_protocol import DeadlineH11Protocol, protocol_within
from bootlease.verifier.limits import DEFAULT_LIMITS, Limits

FEW = replace(DEFAULT_LIMITS, connections=4, connections_per_client=3)
REQUEST = b"GET / HTTP/1.1\r\nhost: v\r\n\r\n"
ENDLESS = b"POST / HTTP/1.1\r\nhost: v\r\ncontent-length: 9\r\n\r\n"


class Server:
    """Connections of one server, opened from where a test says."""

    def __init__(self, port: int, state: ServerState) -> None:
        self.port = port
        self.state = state
        self.writers: list[asyncio.StreamWriter] = []

    async def open(
        self, source: str, data: bytes = b""
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect from a loopback address and send something."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, local_addr=(source, 0)
        )
        self.writers.append(writer)
        writer.write(data)
        await asyncio.sleep(0.05)
        return reader, writer


def served(limits: Limits, story: Callable[[Server], Awaitable[None]]) -> None:
    """Run a story against a server that answers when it has the whole body."""

    async def app(_: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    async def whole() -> None:
        config = uvicorn.Config(app, log_config=None, lifespan="off")
        config.load()
        state = ServerState()
        protocol = protocol_within(limits)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: protocol(config, state, {}), "127.0.0.1", 0)
        async with server:
            opened = Server(server.sockets[0].getsockname()[1], state)
            try:
                await story(opened)
            finally:
                for writer in opened.writers:
                    writer.transport.abort()
                await asyncio.sleep(0.05)
        assert not protocol.peers

    asyncio.run(whole())


def test_a_client_replaces_its_own_oldest_idle_connection() -> None:
    """Others keep theirs, and a request in progress is not ended."""

    async def story(server: Server) -> None:
        other, _ = await server.open("127.0.0.2")
        busy, _ = await server.open("127.0.0.3", ENDLESS)
        idle, _ = await server.open("127.0.0.3")
        await server.open("127.0.0.3", ENDLESS)
        last, _ = await server.open("127.0.0.3", REQUEST)
        assert (await last.readline()).startswith(b"HTTP/1.1 200")
        assert idle.at_eof() or await idle.read(1) == b""
        assert not other.at_eof()
        assert not busy.at_eof()

    served(FEW, story)


def test_a_client_whose_requests_are_all_in_progress_is_told_to_come_back() -> None:
    """503 as a problem document, and the others are served."""

    async def story(server: Server) -> None:
        for _ in range(3):
            await server.open("127.0.0.3", ENDLESS)
        refused, _ = await server.open("127.0.0.3")
        answer = await refused.read()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"application/problem+json" in answer
        assert b"retry-after: 2" in answer
        good, _ = await server.open("127.0.0.2", REQUEST)
        assert (await good.readline()).startswith(b"HTTP/1.1 200")

    served(FEW, story)


def test_a_newcomer_gets_the_place_of_an_idle_connection() -> None:
    """However many clients hold the places, silence holds none."""

    async def story(server: Server) -> None:
        for number in range(4):
            await server.open(f"127.0.0.{10 + number}")
        newcomer, _ = await server.open("127.0.0.3", REQUEST)
        assert (await newcomer.readline()).startswith(b"HTTP/1.1 200")
        assert len(server.state.connections) == 4

    served(FEW, story)


def test_a_server_full_of_requests_says_so() -> None:
    """Nothing in progress is ended for a newcomer."""

    async def story(server: Server) -> None:
        for number in range(4):
            await server.open(f"127.0.0.{10 + number}", ENDLESS)
        refused, _ = await server.open("127.0.0.3", REQUEST)
        assert (await refused.read()).startswith(b"HTTP/1.1 503 ")
        assert len(server.state.connections) == 4

    served(FEW, story)


def test_idle_connections_are_kept_less_long_where_there_are_many() -> None:
    """Half of the places taken is many."""

    async def story(server: Server) -> None:
        await server.open("127.0.0.2", REQUEST)
        (first,) = server.state.connections
        assert isinstance(first, DeadlineH11Protocol)
        assert first.timeout_keep_alive == FEW.keep_alive
        await server.open("127.0.0.3")
        _, writer = await server.open("127.0.0.4", REQUEST)
        assert writer is not None
        kept = {
            each.timeout_keep_alive
            for each in server.state.connections
            if isinstance(each, DeadlineH11Protocol) and each.cycle is not None
        }
        assert kept == {FEW.keep_alive, FEW.keep_alive_crowded}

    served(FEW, story)
