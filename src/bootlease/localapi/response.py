"""HTTP/1.1 answers of the agent, read as their bytes come.

Specification: RFC 9112 §4 (status line), §5 (fields), §6.3 (length of a body), §7.1 (chunked).
Bodies by Content-Length, chunked, or until the connection closes. Strict where a lenient reader
could be led to see another message: one spelling of a length, no folded lines, no bare line feeds,
no other transfer coding. Not handled: 1xx answers, trailers (read and dropped up to the bound).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Final

from bootlease.errors import MalformedError
from bootlease.localapi.wire import MAX_ANSWER, MAX_HEAD

_STATUS: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9]{2})(?: [\x20-\x7e]*)?")
_FIELD: Final = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?)?[ \t]*"
)
_LENGTH: Final = re.compile("0|[1-9][0-9]{0,8}", re.ASCII)
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,7})")
_MAX_CHUNK_LINE: Final = 16


class _Body(enum.Enum):
    HEAD = enum.auto()
    LENGTH = enum.auto()
    UNTIL_CLOSED = enum.auto()
    CHUNK_SIZE = enum.auto()
    CHUNK = enum.auto()
    CHUNK_END = enum.auto()
    TRAILERS = enum.auto()
    DONE = enum.auto()


class ResponseReader:
    """Reads one answer.

    Attributes:
        status: The HTTP status; 0 until the head is complete.
        headers: Its header fields by lower-case name.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self._state = _Body.HEAD
        self._rest = bytearray()
        self._left = 0

    @property
    def has_head(self) -> bool:
        """The head is complete."""
        return self._state is not _Body.HEAD

    @property
    def done(self) -> bool:
        """The answer is complete; what comes after it is ignored."""
        return self._state is _Body.DONE

    def feed(self, data: bytes) -> bytes:
        """Take bytes in, and return what of the body has come with them.

        Raises:
            MalformedError: This is no answer.
        """
        self._rest += data
        body = bytearray()
        while self._step(body):
            pass
        return bytes(body)

    def closed(self) -> None:
        """Take note that no more bytes come.

        Raises:
            MalformedError: The answer is cut.
        """
        if self._state is _Body.UNTIL_CLOSED:
            self._state = _Body.DONE
        if self._state is not _Body.DONE:
            raise MalformedError("the agent's answer is cut")

    def _step(self, body: bytearray) -> bool:
        match self._state:
            case _Body.HEAD:
                return self._head()
            case _Body.LENGTH | _Body.CHUNK:
                return self._some(body)
            case _Body.UNTIL_CLOSED:
                body += self._rest
                self._rest.clear()
                return False
            case _Body.CHUNK_SIZE:
                return self._chunk_size()
            case _Body.CHUNK_END:
                return self._chunk_end()
            case _Body.TRAILERS:
                return self._trailers()
            case _Body.DONE:
                self._rest.clear()
                return False

    def _head(self) -> bool:
        end = self._rest.find(b"\r\n\r\n", 0, MAX_HEAD)
        if end < 0:
            if len(self._rest) >= MAX_HEAD:
                raise MalformedError(f"the agent's answer has a head of more than {MAX_HEAD} bytes")
            return False
        first, *lines = bytes(self._rest[:end]).split(b"\r\n")
        del self._rest[: end + 4]
        status = _STATUS.fullmatch(first)
        if status is None:
            raise MalformedError("the agent does not answer with HTTP/1.1")
        self.headers = _fields(lines)
        self._state, self._left = _framing(int(status[1]), self.headers)
        self.status = int(status[1])
        return True

    def _some(self, body: bytearray) -> bool:
        taken = self._rest[: self._left]
        body += taken
        del self._rest[: len(taken)]
        self._left -= len(taken)
        if self._left:
            return False
        self._state = _Body.DONE if self._state is _Body.LENGTH else _Body.CHUNK_END
        return True

    def _line(self, at_most: int) -> bytes | None:
        end = self._rest.find(b"\r\n", 0, at_most)
        if end < 0:
            if len(self._rest) >= at_most:
                raise MalformedError("the agent's answer has a chunk without a size")
            return None
        line = bytes(self._rest[:end])
        del self._rest[: end + 2]
        return line

    def _chunk_size(self) -> bool:
        line = self._line(_MAX_CHUNK_LINE)
        if line is None:
            return False
        size = _CHUNK.fullmatch(line)
        if size is None:
            raise MalformedError("the agent's answer has a chunk without a size")
        self._left = int(size[1], 16)
        if self._left > MAX_ANSWER:
            raise MalformedError(f"a chunk has at most {MAX_ANSWER} bytes")
        self._state = _Body.CHUNK if self._left else _Body.TRAILERS
        return True

    def _chunk_end(self) -> bool:
        if len(self._rest) < 2:  # noqa: PLR2004 - the end of a line
            return False
        if self._rest[:2] != b"\r\n":
            raise MalformedError("a chunk does not end where it says")
        del self._rest[:2]
        self._state = _Body.CHUNK_SIZE
        return True

    def _trailers(self) -> bool:
        line = self._line(MAX_HEAD)
        if line is None:
            return False
        if not line:
            self._state = _Body.DONE
        return True


def _fields(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise MalformedError("the agent's answer has a header that is none")
        name = field[1].decode("ascii").lower()
        if name in headers:
            raise MalformedError(f"the agent's answer repeats {name[:32]}")
        headers[name] = (field[2] or b"").decode("ascii")
    return headers


def _framing(status: int, headers: Mapping[str, str]) -> tuple[_Body, int]:
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if coding is not None:
        if coding.lower() != "chunked" or length is not None:
            raise MalformedError("the agent's answer has a length that cannot be read")
        return _Body.CHUNK_SIZE, 0
    if status in {204, 304}:
        return _Body.DONE, 0
    if length is None:
        return _Body.UNTIL_CLOSED, 0
    if _LENGTH.fullmatch(length) is None or int(length) > MAX_ANSWER:
        raise MalformedError(f"the agent's answer has more than {MAX_ANSWER} bytes")
    return (_Body.LENGTH, int(length)) if int(length) else (_Body.DONE, 0)
