"""How many connections there may be, and which of them make room."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from uvicorn.server import ServerState

from bootlease.verifier.bodies import Body, tiers_of_strangers
from bootlease.verifier.http_protocol import DeadlineH11Protocol, protocol_within
from bootlease.verifier.limits import DEFAULT_LIMITS, Limits
from bootlease.verifier.problems import ProblemError
from bootlease.verifier.routes.contract import EVIDENCE
from bootlease.verifier.usual_cycle import UsualCycle

FEW = replace(DEFAULT_LIMITS, connections=4, connections_per_client=3)
PATH = f"/v1/nodes/{'ab' * 32}/leases"


def evidence(length: int) -> bytes:
    """The head of a request as nodes send it."""
    return (
        f"POST {PATH} HTTP/1.1\r\nhost: v\r\ncontent-type: {EVIDENCE}\r\n"
        f"content-length: {length}\r\n\r\n"
    ).encode()


REQUEST = b"GET / HTTP/1.1\r\nhost: v\r\n\r\n"
USUAL = evidence(5) + b"12345"
either = pytest.mark.parametrize(
    ("whole", "endless"),
    [
        (REQUEST, b"POST / HTTP/1.1\r\nhost: v\r\ncontent-length: 9\r\n\r\n"),
        (USUAL, evidence(9)),
    ],
    ids=["general", "usual"],
)
"""A request that is complete and one that waits for its body, in each of the two ways."""
either_whole = pytest.mark.parametrize("whole", [REQUEST, USUAL], ids=["general", "usual"])
App = Callable[[Any, Any, Any], Awaitable[None]]


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


async def send_ok(send: Any, *headers: tuple[bytes, bytes]) -> None:
    """Answer."""
    length = (b"content-length", b"2")
    await send({"type": "http.response.start", "status": 200, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": b"ok"})


async def patient(_: Any, receive: Any, send: Any) -> None:
    """Answer when the whole body is there."""
    while (await receive()).get("more_body"):
        pass
    await send_ok(send)


def served(limits: Limits, story: Callable[[Server], Awaitable[None]], app: App = patient) -> None:
    """Run a story against a server."""

    async def whole() -> None:
        config = uvicorn.Config(app, log_config=None, lifespan="off")
        config.load()
        state = ServerState()
        state.default_headers = [(b"date", b"now")]
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
        assert not state.tasks

    asyncio.run(whole())


@either
def test_a_client_replaces_its_own_oldest_idle_connection(whole: bytes, endless: bytes) -> None:
    """Others keep theirs, and a request in progress is not ended."""

    async def story(server: Server) -> None:
        other, _ = await server.open("127.0.0.2")
        busy, _ = await server.open("127.0.0.3", endless)
        idle, _ = await server.open("127.0.0.3")
        await server.open("127.0.0.3", endless)
        last, _ = await server.open("127.0.0.3", whole)
        assert (await last.readline()).startswith(b"HTTP/1.1 200")
        assert idle.at_eof() or await idle.read(1) == b""
        assert not other.at_eof()
        assert not busy.at_eof()

    served(FEW, story)


@either
def test_a_client_whose_requests_are_all_in_progress_is_told_to_come_back(
    whole: bytes, endless: bytes
) -> None:
    """503 as a problem document, and the others are served."""

    async def story(server: Server) -> None:
        for _ in range(3):
            await server.open("127.0.0.3", endless)
        refused, _ = await server.open("127.0.0.3")
        answer = await refused.read()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"application/problem+json" in answer
        assert b"retry-after: 2" in answer
        good, _ = await server.open("127.0.0.2", whole)
        assert (await good.readline()).startswith(b"HTTP/1.1 200")

    served(FEW, story)


@either_whole
def test_a_newcomer_gets_the_place_of_an_idle_connection(whole: bytes) -> None:
    """However many clients hold the places, silence holds none."""

    async def story(server: Server) -> None:
        for number in range(4):
            await server.open(f"127.0.0.{10 + number}")
        newcomer, _ = await server.open("127.0.0.3", whole)
        assert (await newcomer.readline()).startswith(b"HTTP/1.1 200")
        assert len(server.state.connections) == 4

    served(FEW, story)


@either
def test_a_server_full_of_requests_says_so(whole: bytes, endless: bytes) -> None:
    """Nothing in progress is ended for a newcomer."""

    async def story(server: Server) -> None:
        for number in range(4):
            await server.open(f"127.0.0.{10 + number}", endless)
        refused, _ = await server.open("127.0.0.3", whole)
        assert (await refused.read()).startswith(b"HTTP/1.1 503 ")
        assert len(server.state.connections) == 4

    served(FEW, story)


@either_whole
def test_idle_connections_are_kept_less_long_where_there_are_many(whole: bytes) -> None:
    """Half of the places taken is many."""

    async def story(server: Server) -> None:
        await server.open("127.0.0.2", whole)
        (first,) = server.state.connections
        assert isinstance(first, DeadlineH11Protocol)
        assert first.timeout_keep_alive == FEW.keep_alive
        await server.open("127.0.0.3")
        _, writer = await server.open("127.0.0.4", whole)
        assert writer is not None
        kept = {
            each.timeout_keep_alive
            for each in server.state.connections
            if isinstance(each, DeadlineH11Protocol) and each.cycle is not None
        }
        assert kept == {FEW.keep_alive, FEW.keep_alive_crowded}

    served(FEW, story)


async def answer_on(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """One answer: its head and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head, await reader.readexactly(length)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with what came."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    assert scope["method"] == "POST" or not body
    assert scope["scheme"] == "http"
    content = f"{scope['path']} {len(scope['headers'])} ".encode() + body
    headers = [(b"content-length", b"%d" % len(content)), (b"x", b"y")]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": content[:3], "more_body": True})
    await send({"type": "http.response.body", "body": content[3:]})


@pytest.mark.parametrize(
    "cuts", [(), (10,), (len(USUAL) - 5,), (len(USUAL) - 3, len(USUAL) - 1), (1, 300)]
)
def test_a_usual_request_may_arrive_in_pieces(cuts: tuple[int, ...]) -> None:
    """Wherever it is cut, the application sees the same, and the answer is the same."""

    async def story(server: Server) -> None:
        reader, writer = await server.open("127.0.0.2")
        for start, end in zip((0, *cuts), (*cuts, len(USUAL)), strict=True):
            writer.write(USUAL[start:end])
            await asyncio.sleep(0.02)
        head, body = await answer_on(reader)
        assert head.startswith(b"HTTP/1.1 201 Created\r\n")
        assert b"\r\nx: y\r\n" in head
        assert head.count(b"content-length:") == 1
        assert b"\r\ndate: now\r\n" in head
        assert body == PATH.encode() + b" 3 12345"

    served(FEW, story, echo)


def test_usual_and_other_requests_share_a_connection() -> None:
    """In any order: neither way leaves anything behind that the other would trip over."""

    async def story(server: Server) -> None:
        reader, writer = await server.open("127.0.0.2")
        for request in (USUAL, USUAL, REQUEST, USUAL, REQUEST, REQUEST, USUAL):
            writer.write(request)
            _, body = await answer_on(reader)
            expected = PATH.encode() + b" 3 12345" if request is USUAL else b"/ 1 "
            assert body == expected
        (connection,) = server.state.connections
        assert isinstance(connection, DeadlineH11Protocol)
        assert isinstance(connection.cycle, UsualCycle)

    served(FEW, story, echo)


@pytest.mark.parametrize("behind", [USUAL, REQUEST, b"x", b"x" * 100_000])
def test_what_comes_behind_a_usual_request_is_dropped(behind: bytes) -> None:
    """One answer, and the end of the connection: a second request never hides in a first."""

    async def story(server: Server) -> None:
        reader, _ = await server.open("127.0.0.2", USUAL + behind)
        head, body = await answer_on(reader)
        assert head.startswith(b"HTTP/1.1 201 ")
        assert head.count(b"\r\nconnection: close\r\n") == 1
        assert body == PATH.encode() + b" 3 12345"
        with contextlib.suppress(ConnectionResetError):  # what was dropped may be on its way still
            assert await reader.read() == b""

    served(FEW, story, echo)


def test_a_usual_request_behind_half_a_head_is_part_of_that_head() -> None:
    """What the general parser has begun to read, it alone goes on with."""

    async def story(server: Server) -> None:
        reader, writer = await server.open("127.0.0.2", b"POST / HTTP/1.1\r\nx-half: ")
        writer.write(USUAL)
        _, body = await answer_on(reader)
        assert body == b"/ 4 12345"

    served(FEW, story, echo)


def test_a_usual_request_in_a_body_that_was_not_waited_for_is_no_request() -> None:
    """The answer came before the body; what the body says is asked by nobody."""
    paths = []

    async def hasty(scope: Any, _receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        await send_ok(send)

    async def story(server: Server) -> None:
        head = b"POST /first HTTP/1.1\r\nhost: v\r\ncontent-length: %d\r\n\r\n" % len(USUAL)
        reader, writer = await server.open("127.0.0.2", head)
        await answer_on(reader)
        writer.write(USUAL)
        await asyncio.sleep(0.05)
        writer.write(REQUEST)
        await answer_on(reader)
        assert paths == ["/first", "/"]

    served(FEW, story, hasty)


@pytest.mark.parametrize(
    ("sent", "answer"), [(USUAL, b"200"), (USUAL[:-1], b"408"), (USUAL[:-5], b"408")]
)
def test_the_body_of_a_usual_request_has_to_arrive_in_time(sent: bytes, answer: bytes) -> None:
    """It is waited for only so long, unless it came with its head."""
    quick = replace(FEW, body_time=0.2)
    state = SimpleNamespace(service=SimpleNamespace(limits=quick))

    async def reading(scope: Any, receive: Any, send: Any) -> None:
        request = Request({**scope, "app": SimpleNamespace(state=state)}, receive)
        status = 200
        try:
            await Body(tiers_of_strangers(quick), "c").read(request, EVIDENCE, at_most=100)
        except ProblemError as exc:
            status = exc.kind.status
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def story(server: Server) -> None:
        reader, _ = await server.open("127.0.0.2", sent)
        line = await asyncio.wait_for(reader.readline(), 2)
        assert line.startswith(b"HTTP/1.1 " + answer)

    served(quick, story, reading)


@pytest.mark.parametrize("headers", [(), ((b"connection", b"close"),)])
def test_an_answer_before_the_body_ends_the_connection(
    headers: tuple[tuple[bytes, bytes], ...],
) -> None:
    """The rest of the body cannot pass for the next request, and the client is told, once."""

    async def hasty(_scope: Any, _receive: Any, send: Any) -> None:
        await send_ok(send, *headers)

    async def story(server: Server) -> None:
        reader, _ = await server.open("127.0.0.2", evidence(500))
        head, body = await answer_on(reader)
        assert head.count(b"connection: close\r\n") == 1
        assert body == b"ok"
        assert await reader.read() == b""

    served(FEW, story, hasty)


def test_a_client_that_hangs_up_is_noticed_in_a_usual_request() -> None:
    """The application hears of it instead of waiting for a body that never comes."""
    heard = []

    async def listening(_scope: Any, receive: Any, _send: Any) -> None:
        while (message := await receive())["type"] == "http.request":
            pass
        heard.append(message["type"])

    async def story(server: Server) -> None:
        _, writer = await server.open("127.0.0.2", evidence(9) + b"123")
        writer.close()
        await asyncio.sleep(0.1)
        assert heard == ["http.disconnect"]

    served(FEW, story, listening)


def test_the_time_for_headers_is_over_when_they_are_there() -> None:
    """A usual request is not ended while its body is on the way; one without end of head is."""
    quick = replace(FEW, header_time=0.2)

    async def story(server: Server) -> None:
        reader, writer = await server.open("127.0.0.2", evidence(5))
        cut, _ = await server.open("127.0.0.2", evidence(5)[:-2])
        await asyncio.sleep(0.3)
        assert await cut.read() == b""
        writer.write(b"12345")
        _, body = await answer_on(reader)
        assert body == b"ok"
        writer.write(evidence(5)[:-2])
        assert await asyncio.wait_for(reader.read(), 1) == b""

    served(quick, story)


def test_a_connection_at_rest_after_a_usual_request_is_closed_in_time() -> None:
    """Keep-alive ends, as after every other request."""

    async def story(server: Server) -> None:
        reader, _ = await server.open("127.0.0.2", USUAL)
        await answer_on(reader)
        assert await asyncio.wait_for(reader.read(), 3) == b""

    served(replace(FEW, keep_alive=1, keep_alive_crowded=1), story)


@pytest.mark.parametrize("line_break", [b"\r\n", b"\n", b"\r"])
def test_an_answer_with_a_line_break_in_a_header_is_not_sent(line_break: bytes) -> None:
    """A defect that would let one answer pass for two ends as a defect."""

    async def broken(_scope: Any, _receive: Any, send: Any) -> None:
        await send_ok(send, (b"x", b"y" + line_break + b"set-cookie: z"))

    async def story(server: Server) -> None:
        reader, _ = await server.open("127.0.0.2", USUAL)
        assert b"set-cookie" not in await reader.read()

    served(FEW, story, broken)


def test_a_defect_in_a_usual_request_is_a_500() -> None:
    """The client is answered, and the connection is not used again."""

    async def broken(_scope: Any, _receive: Any, _send: Any) -> None:
        raise ZeroDivisionError

    async def story(server: Server) -> None:
        reader, _ = await server.open("127.0.0.2", USUAL)
        head, _ = await answer_on(reader)
        assert head.startswith(b"HTTP/1.1 500 ")
        assert await reader.read() == b""

    served(FEW, story, broken)
