"""The fleet's connections, against servers that behave badly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bootlease.errors import TransportError
from bootlease.testing.fleet import (
    ConnectionPool,
    ProblemAnswerError,
    Response,
    connections,
    request,
)
from bootlease.testing.fleet.steps import error_kind, problem_kind

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def run(
    answering: Answering,
    work: Callable[[ConnectionPool], Awaitable[None]],
    *,
    at_most: int = 4,
    timeout: float = 5.0,
) -> None:
    """Serve with ``answering`` and let ``work`` use a pool."""

    async def main() -> None:
        server = await asyncio.start_server(answering, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        pool = ConnectionPool("127.0.0.1", port, at_most=at_most, timeout=timeout)
        try:
            await work(pool)
        finally:
            await pool.close()
            server.close()
            await asyncio.sleep(0.01)

    asyncio.run(main())


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Read one request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


def replying(*pieces: bytes, pause: float = 0.0) -> Answering:
    """Answer every request with these pieces."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await read_request(reader)
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(pause)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    return answer


@pytest.mark.parametrize(
    "pieces",
    [(OK,), (OK[:10], OK[10:]), (OK[:40], OK[40:]), (OK[:-1], OK[-1:])],
    ids=["whole", "in the head", "between", "in the body"],
)
def test_answers_may_come_in_pieces(pieces: tuple[bytes, ...]) -> None:
    """However the network cuts an answer, it is one."""

    async def work(pool: ConnectionPool) -> None:
        for _ in range(3):
            assert await pool.send(request("/", "x", b"body")) == Response(200, b"hello")

    run(replying(*pieces, pause=0.005), work)


def test_connections_are_kept_and_bounded() -> None:
    """More requests than connections wait for one."""
    peers = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.add(writer.get_extra_info("peername"))
        await replying(OK, pause=0.002)(reader, writer)

    async def work(pool: ConnectionPool) -> None:
        answers = await asyncio.gather(*(pool.send(request("/", "", b"")) for _ in range(40)))
        assert {each.status for each in answers} == {200}

    run(answer, work, at_most=3)
    assert len(peers) == 3
    assert len({host for host, _ in peers}) == 3


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", "the answer has no Content-Length"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", "the answer has no Content-Length"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n", "the answer has no Content"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "the answer has no Content-Length"),
        (b"x" * 20_000, "the head of the answer does not end"),
        (OK + b"!", "more came than was asked for"),
        (b"", "timeout"),
    ],
)
def test_what_is_no_answer_is_a_transport_error(answer: bytes, kind: str) -> None:
    """Nothing is waited for in vain."""

    async def work(pool: ConnectionPool) -> None:
        with pytest.raises(TransportError, match=kind):
            await pool.send(request("/", "", b""))

    run(replying(answer), work, timeout=0.2)


def test_a_connection_that_says_close_is_replaced() -> None:
    """The answer counts; the next request goes elsewhere."""
    closing = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    async def work(pool: ConnectionPool) -> None:
        for _ in range(3):
            assert (await pool.send(request("/", "", b""))).body == b"hello"

    run(replying(closing), work, at_most=1)


def test_connections_that_the_server_ended_leave_their_room() -> None:
    """A server ends what is idle for long; as many requests find their way afterwards."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()

    async def work(pool: ConnectionPool) -> None:
        await pool.fill()
        for _ in range(2):
            assert pool.room == 3
            answers = [pool.send(request("/", "", b"")) for _ in range(3)]
            assert {each.status for each in await asyncio.gather(*answers)} == {200}
            await asyncio.sleep(0.2)

    run(answer, work, at_most=3)


def test_a_connection_that_was_idle_for_long_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may be about to end it; its room is another's."""
    monkeypatch.setattr(connections, "_KEPT", 0.05)
    peers = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.add(writer.get_extra_info("peername"))
        await replying(OK)(reader, writer)

    async def work(pool: ConnectionPool) -> None:
        for _ in range(3):
            assert (await pool.send(request("/", "", b""))).status == 200
            # The sweep comes later than that: the request itself has to see it.
            await asyncio.sleep(0.1)

    run(answer, work, at_most=1)
    assert len(peers) == 3


def test_a_server_that_is_gone_is_said_at_once() -> None:
    """A lost connection ends its request; a refused one too; nothing hangs."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.close()

    async def work(pool: ConnectionPool) -> None:
        with pytest.raises(TransportError, match="connection lost"):
            await pool.send(request("/", "", b""))

    run(answer, work)

    async def alone() -> None:
        pool = ConnectionPool("127.0.0.1", 1, at_most=2)
        with pytest.raises(TransportError, match="cannot connect"):
            await pool.send(request("/", "", b""))
        await pool.close()

    asyncio.run(alone())


def test_errors_have_short_names() -> None:
    """Counting them by kind needs no more."""
    problem = Response(503, b'{"type": "tag:bootlease.dev,2026:problem/busy"}')
    assert problem_kind(problem) == "busy"
    assert problem_kind(Response(502, b"<html>")) == "http-502"
    assert problem_kind(Response(500, b"[]")) == "http-500"
    assert error_kind(ProblemAnswerError(problem)) == "busy"
    assert error_kind(TransportError("timeout: no answer came in time")) == "timeout"
    assert error_kind(ValueError("x")) == "ValueError"
