"""The reader of HTTP answers: every framing, in any pieces; what is ambiguous is refused."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError
from bootlease.localapi import ResponseReader
from bootlease.localapi.wire import MAX_ANSWER, MAX_HEAD

LENGTH = b"HTTP/1.1 403 No\r\nContent-Type: a/b\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nA: b\r\n\r\n"
)


def read(data: bytes, *, closed: bool = False) -> tuple[ResponseReader, bytes]:
    """Feed a whole answer."""
    reader = ResponseReader()
    body = reader.feed(data)
    if closed:
        reader.closed()
    return reader, body


def test_a_body_of_stated_length_is_read() -> None:
    """Status, headers and body; what comes behind is no part of it."""
    reader, body = read(LENGTH + b"more")
    assert (reader.status, body, reader.done) == (403, b"hello", True)
    assert reader.headers == {"content-type": "a/b", "content-length": "5"}


def test_a_chunked_body_is_read() -> None:
    """Trailers are read and dropped."""
    reader, body = read(CHUNKED)
    assert (reader.status, body, reader.done) == (200, b"hello", True)


def test_a_body_until_the_end_is_read() -> None:
    """Without a length, the end of the connection ends it."""
    reader, body = read(b"HTTP/1.1 200 OK\r\n\r\nhello")
    assert (body, reader.done) == (b"hello", False)
    reader.closed()
    assert reader.done


def test_an_empty_body_is_read() -> None:
    """By length, and by status."""
    assert read(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")[0].done
    assert read(b"HTTP/1.1 204 No\r\n\r\n")[0].done


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED])
@given(data=st.data())
def test_answers_come_in_any_pieces(answer: bytes, data: st.DataObject) -> None:
    """Where the bytes were cut on their way changes nothing."""
    reader, body, at = ResponseReader(), b"", 0
    while at < len(answer):
        size = data.draw(st.integers(1, 40))
        body += reader.feed(answer[at : at + size])
        at += size
    assert (body, reader.done) == (b"hello", True)


@pytest.mark.parametrize("cut", [10, len(LENGTH) - 1])
def test_a_cut_answer_is_noticed(cut: int) -> None:
    """Half an answer is none."""
    with pytest.raises(MalformedError, match="cut"):
        read(LENGTH[:cut], closed=True)


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 100 Go\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        HEAD + b"Content-Length: +5\r\n\r\n",
        HEAD + b"Content-Length: 05\r\n\r\n",
        HEAD + b"Content-Length: 5, 5\r\n\r\n",
        HEAD + b"Content-Length: %d\r\n\r\n" % (MAX_ANSWER + 1),
        HEAD + b"A: b\r\n c\r\n\r\n",
        HEAD + b"A : b\r\n\r\n",
        HEAD + b"A: b\nC: d\r\n\r\n",
        HEAD + b": b\r\n\r\n",
        HEAD + b"A: " + b"b" * MAX_HEAD,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 20,
    ],
)
def test_what_two_readers_could_read_in_two_ways_is_refused(answer: bytes) -> None:
    """Another reader's leniency is how one message hides in another."""
    with pytest.raises(MalformedError):
        read(answer)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer_or_malformed(data: bytes) -> None:
    """Never any other error."""
    for head in (b"", HEAD, HEAD + b"Transfer-Encoding: chunked\r\n\r\n"):
        try:
            read(head + data, closed=True)
        except MalformedError:
            continue


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), st.booleans())
def test_what_another_library_writes_is_read(pieces: list[bytes], chunked: bool) -> None:  # noqa: FBT001
    """h11, which the agent answers with, is understood."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    server.next_event()
    server.next_event()
    length = sum(map(len, pieces))
    headers = [] if chunked else [("Content-Length", str(length))]
    written = server.send(h11.Response(status_code=200, headers=headers)) or b""
    for piece in pieces:
        written += server.send(h11.Data(data=piece)) or b""
    written += server.send(h11.EndOfMessage()) or b""
    reader, body = read(written)
    assert (body, reader.done) == (b"".join(pieces), True)
