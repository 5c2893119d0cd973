"""What passes by the general parser, and that nothing else does."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bootlease.errors import TransportError
from bootlease.node.bundle import JoinBundle
from bootlease.node.client import VerifierClient
from bootlease.verifier.routes.contract import EVIDENCE
from bootlease.verifier.usual import usual_request

NODE = "ab" * 32
AT_MOST = 16 * 1024
LINE = f"POST /v1/nodes/{NODE}/leases HTTP/1.1"
HEADERS = ["Host: v:8443", "accept: */*", f"content-type: {EVIDENCE}", "Content-Length: 5"]


def head(*headers: str, line: str = LINE) -> bytes:
    """A request's head."""
    return "\r\n".join([line, *headers, "", ""]).encode("latin-1")


USUAL = head(*HEADERS)
CHALLENGE = head("host: v", "content-length: 0", line=LINE.replace("leases", "challenges"))


def test_a_usual_request_is_cut_apart() -> None:
    """Path, headers in lower case and in order, and where the body begins and ends."""
    request = usual_request(USUAL + b"12345", AT_MOST)
    assert request is not None
    assert request.path == f"/v1/nodes/{NODE}/leases"
    assert request.headers == [
        (b"host", b"v:8443"),
        (b"accept", b"*/*"),
        (b"content-type", EVIDENCE.encode()),
        (b"content-length", b"5"),
    ]
    assert (request.head, request.length) == (len(USUAL), 5)


@pytest.mark.parametrize("without", ["", "content-length: 0"])
def test_asking_for_a_challenge_is_usual(without: str) -> None:
    """With a length of nothing, and without a length."""
    data = CHALLENGE.replace(f"{without}\r\n".encode(), b"") if without else CHALLENGE
    request = usual_request(data, AT_MOST)
    assert request is not None
    assert request.length == 0


@pytest.mark.parametrize(
    "data",
    [
        head(*HEADERS, "transfer-encoding: chunked"),
        head(*HEADERS, "Transfer-Encoding: identity"),
        head(*HEADERS, "expect: 100-continue"),
        head(*HEADERS, "upgrade: websocket"),
        head(*HEADERS, "connection: upgrade"),
        head(*HEADERS, "connection: close"),
        head(*HEADERS, "content-encoding: gzip"),
        head(*HEADERS, "content-length: 5"),
        head(*HEADERS, "content-length: 6"),
        head(*HEADERS, "host: w"),
        head(*HEADERS, "x-forwarded-for: 127.0.0.1"),
        head(*HEADERS[1:]),
        head(*HEADERS, "accept : x"),
        head(*HEADERS, "user-agent:x"),
        head(*HEADERS, "user-agent:  x"),
        head(*HEADERS, "user-agent: x "),
        head(*HEADERS, "user-agent: x\ty"),
        head(*HEADERS, "user-agent: \x80"),
        head(*HEADERS, "user-agent: x\0y"),
        head(*HEADERS, "user-agent: x", " folded"),
        head(*HEADERS, "user-agent: x\ncontent-length: 7"),
        head(*HEADERS, "user-agent: x\rcontent-length: 7"),
        head(*HEADERS, "user-agent: "),
        head(*HEADERS, f"user-agent: {'x' * 300}"),
        head(*HEADERS[:3], "content-length: +5"),
        head(*HEADERS[:3], "content-length: 5, 5"),
        head(*HEADERS[:3], "content-length: 0x5"),
        head(*HEADERS[:3], "content-length: -5"),
        head(*HEADERS[:3], "content-length: 16385"),
        head(*HEADERS[:3], f"content-length: {'0' * 300}5"),
        head(*HEADERS[:2], "content-type: application/cbor", "content-length: 5"),
        head(*HEADERS[:2], "content-length: 5"),
        head("host: v", "content-length: 1", line=LINE.replace("leases", "challenges")),
        head(*HEADERS, line=LINE.replace("1.1", "1.0")),
        head(*HEADERS, line=LINE.replace("1.1", "1.1 ")),
        head(*HEADERS, line=LINE.replace("POST", "GET")),
        head(*HEADERS, line=LINE.replace("POST", "post")),
        head(*HEADERS, line=LINE.replace(" /v1", "  /v1")),
        head(*HEADERS, line=LINE.replace("/v1", "http://v/v1")),
        head(*HEADERS, line=LINE.replace("leases", "leases?x")),
        head(*HEADERS, line=LINE.replace("leases", "lease%73")),
        head(*HEADERS, line=LINE.replace("leases", "leases/")),
        head(*HEADERS, line=LINE.replace("ab" * 32, "AB" * 32)),
        head(*HEADERS, line=LINE.replace("ab" * 32, "ab" * 31)),
        USUAL.replace(b"\r\n", b"\n"),
        USUAL[:-2],
        USUAL[:-1] + b"x",
        b"\r\n" + USUAL,
        b"",
    ],
)
def test_everything_else_is_left_to_the_general_parser(data: bytes) -> None:
    """One thing that is not usual is enough, whether it would be accepted or refused there."""
    assert usual_request(data, AT_MOST) is None


def general(data: bytes) -> tuple[list[Any], bytes]:
    """What h11 makes of ``data``: events of one request, and what is left behind it."""
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(data)
    events: list[Any] = []
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA or event is h11.PAUSED:
            return events, parser.trailing_data[0]
        events.append(event)


PIECES = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b": ",
        b"\0",
        b"\xff",
        b"0",
        b"7",
        b"Host: w\r\n",
        b"Content-Length: 5\r\n",
        b"content-length: 7\r\n",
        b"transfer-encoding: chunked\r\n",
        b"accept: a, b\r\n",
        b"Connection: keep-alive\r\n",
        b"connection: close\r\n",
        b"expect: 100-continue\r\n",
        b"user-agent: x y/1.0 (z)\r\n",
    ]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A usual request after some cuts and insertions, with a body of any kind behind it."""
    data = draw(st.sampled_from([USUAL, CHALLENGE]))
    for _ in range(draw(st.integers(0, 3))):
        breaks = [at + 2 for at in range(len(data)) if data[at : at + 2] == b"\r\n"]
        at = draw(st.one_of(st.integers(0, len(data)), st.sampled_from(breaks or [0])))
        cut = draw(st.integers(0, 2))
        data = data[:at] + draw(st.one_of(PIECES, st.binary(max_size=3))) + data[at + cut :]
    return data + draw(st.binary(max_size=12))


LENGTHS = st.one_of(
    st.integers(0, 14).map(str),
    st.sampled_from(["00", "007", "16384", "16385", "1e1", "5 ", "\u0665", "5,5"]),
)
OTHERS = st.sampled_from(
    [
        "accept: a, b",
        "Accept:c",
        "accept-encoding: identity",
        "user-agent: ~ !",
        "User-Agent: x\ty",
        "connection: keep-alive",
        "Connection: Keep-Alive",
        "connection: keep-alive, close",
        "content-type: text/plain",
        "host: w",
        "te: trailers",
        "transfer-encoding: gzip, chunked",
    ]
)


@st.composite
def composed(draw: st.DrawFn) -> bytes:
    """Lines that are usual each, or nearly, put together in any order, with a body behind them."""
    lines = draw(st.lists(OTHERS, max_size=3))
    lines += [f"content-length: {draw(LENGTHS)}"] * draw(st.sampled_from([1, 1, 1, 0, 2]))
    lines += draw(st.sampled_from([HEADERS[:1], HEADERS[:1], []]))
    lines += draw(st.sampled_from([HEADERS[2:3], HEADERS[2:3], []]))
    line = draw(st.sampled_from([LINE, LINE.replace("leases", "challenges")]))
    data = "\r\n".join([line, *draw(st.permutations(lines)), "", ""]).encode()
    return data + draw(st.binary(max_size=16))


@given(st.one_of(damaged(), composed()))
@example(USUAL + b"12345")
@example(USUAL + b"123")
@example(CHALLENGE)
@example(CHALLENGE + USUAL)
def test_what_is_cut_apart_is_what_the_general_parser_reads(data: bytes) -> None:
    """The two never disagree on a request that is taken here: nothing can hide between them."""
    request = usual_request(data, AT_MOST)
    if request is None:
        return
    events, rest = general(data)
    first = events[0]
    assert isinstance(first, h11.Request)
    assert (first.method, first.http_version) == (b"POST", b"1.1")
    assert first.target == request.path.encode()
    assert list(first.headers) == request.headers
    body = b"".join(bytes(event.data) for event in events if isinstance(event, h11.Data))
    assert body == data[request.head : request.head + request.length]
    ended = any(isinstance(event, h11.EndOfMessage) for event in events)
    assert ended == (len(data) >= request.head + request.length)
    assert not ended or rest == data[request.head + request.length :]


@dataclass(frozen=True)
class Bundle:
    """What the agent's client looks at of a join bundle."""

    issuer: str
    tls_root: None = None


def recorded(call: Callable[[VerifierClient], object], length: int) -> bytes:
    """The bytes of one request of the agent's, whose body is so long."""
    data = b""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def listen() -> None:
            nonlocal data
            connection, _ = listening.accept()
            with connection:
                while b"\r\n\r\n" not in data or not data.endswith(b"x" * length):
                    part = connection.recv(65536)
                    assert part
                    data += part

        thread = threading.Thread(target=listen)
        thread.start()
        bundle = Bundle(f"http://127.0.0.1:{listening.getsockname()[1]}")
        client = VerifierClient(cast("JoinBundle", bundle), timeout=5)
        with contextlib.suppress(TransportError):
            call(client)
        client.close()
        thread.join()
    return data


def test_what_the_agent_sends_is_usual() -> None:
    """Else every renewal takes the long way, and nobody notices but the bill."""
    node = bytes.fromhex(NODE)
    evidence = usual_request(recorded(lambda client: client.lease(node, b"x" * 9), 9), AT_MOST)
    assert evidence is not None
    assert evidence.length == 9
    asked = usual_request(recorded(lambda client: client.challenge(node), 0), AT_MOST)
    assert asked is not None
    assert asked.length == 0
