"""One connection to the agent: one request, one answer.

Every wait has an end: connecting, sending and each wait for bytes take at most ``timeout``
seconds, and an answer that is no stream as a whole as well.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from pathlib import Path
from typing import Final

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.localapi import ResponseReader, parse_problem, wire

DEFAULT_TIMEOUT: Final = 5.0
_PIECE: Final = 64 * 1024
_QUEUED: Final = 0.01
_OK: Final = 200
_MALFORMED: Final = frozenset({400, 405, 411, 413, 415, 431})
_LATER: Final = frozenset({408, 429})
_SERVER: Final = 500


def _why(exc: OSError) -> str:
    words = exc.strerror or str(exc)
    if isinstance(exc, FileNotFoundError | ConnectionRefusedError):
        return (
            f"{words}; start it (bootlease node run --config), or name the socket that it serves"
            f" ({wire.SOCKET_VARIABLE})"
        )
    if isinstance(exc, PermissionError):
        return f"{words}; mode and group under [api] of its configuration say who may connect"
    return words


class AgentGoneError(TransportError):
    """The agent cannot be reached, does not answer, or has closed the connection.

    Attributes:
        retry_after: Seconds to wait before another attempt, where the agent asks for it.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Connection:
    """A connection that carries one request.

    Args:
        path: The agent's socket.
        timeout: Seconds that any wait may take.

    Raises:
        AgentGoneError: Nobody listens there.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._reader = ResponseReader()
        self._body = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(timeout)
        try:
            self._connect(time.monotonic() + timeout)
        except OSError as exc:
            self._socket.close()
            raise AgentGoneError(f"no agent answers at {path}: {_why(exc)}") from exc

    def _connect(self, until: float) -> None:
        while True:
            try:
                self._socket.connect(str(self._path))
            except BlockingIOError:
                # A Unix socket whose queue is full says so at once (unix(7)); it empties soon.
                if time.monotonic() >= until:
                    raise
                time.sleep(_QUEUED)
            else:
                return

    def fileno(self) -> int:
        """Return the file descriptor, for poll; -1 once closed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection; closing again is harmless."""
        self._socket.close()

    def send(
        self, method: str, path: str, *, handle: str | None = None, body: bytes | None = None
    ) -> None:
        """Send the request.

        Raises:
            AgentGoneError: It cannot be sent.
        """
        headers = {"Host": "bootlease", wire.GUARD_HEADER: "true", "Connection": "close"}
        if handle is not None:
            headers[wire.LEASE_HEADER] = handle
        if body is not None:
            headers |= {"Content-Type": wire.JSON, "Content-Length": str(len(body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        message = f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("ascii") + (body or b"")
        # An agent that refuses before it has read all answers all the same: look for its answer.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            try:
                self._socket.sendall(message)
            except TimeoutError as exc:
                raise self._silent() from exc
        # From here on every wait is a poll of its own.
        self._socket.settimeout(0)

    def head(self) -> None:
        """Wait for the head of an answer that is a stream.

        Raises:
            AgentGoneError: None came, or the agent is busy.
            MalformedError: The answer is none, or the agent cannot read the request.
            VerificationError: The agent refuses; its findings say why.
        """
        until = time.monotonic() + self._timeout
        while not self._reader.has_head:
            self._more(until)
        if self._reader.status != _OK:
            self._rest(until)
            raise self._refusal()

    def answer(self) -> bytes:
        """Wait for a whole answer, and return its body.

        Raises:
            AgentGoneError: None came, or the agent is busy.
            MalformedError: The answer is none, or the agent cannot read the request.
            VerificationError: The agent refuses; its findings say why.
        """
        until = time.monotonic() + self._timeout
        self._rest(until)
        if self._reader.status != _OK:
            raise self._refusal()
        return bytes(self._body)

    def received(self) -> tuple[bytes, bool]:
        """Return what of a stream has come, without waiting, and whether the agent has closed it.

        Raises:
            MalformedError: What came is no HTTP.
        """
        ended = False
        while not ended:
            try:
                data = self._socket.recv(_PIECE)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            ended = not data
            self._body += self._reader.feed(data)
            if len(self._body) > wire.MAX_ANSWER:
                break
        piece = bytes(self._body)
        self._body.clear()
        return piece, ended or self._reader.done

    def wait(self, seconds: float) -> bool:
        """Wait until something has come; False where the time went by."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(max(0.0, seconds) * 1000))

    def _rest(self, until: float) -> None:
        while not self._reader.done:
            self._more(until)

    def _more(self, until: float) -> None:
        left = until - time.monotonic()
        if left <= 0 or not self.wait(left):
            raise self._silent()
        try:
            data = self._socket.recv(_PIECE)
        except OSError as exc:
            raise AgentGoneError(f"the agent at {self._path} hung up: {exc.strerror}") from exc
        if not data:
            if not self._reader.has_head:
                raise AgentGoneError(f"the agent at {self._path} hung up")
            self._reader.closed()
        self._body += self._reader.feed(data)
        if len(self._body) > wire.MAX_ANSWER:
            raise MalformedError(f"an answer has at most {wire.MAX_ANSWER} bytes")

    def _silent(self) -> AgentGoneError:
        return AgentGoneError(f"the agent at {self._path} gave no answer for {self._timeout:g} s")

    def _refusal(self) -> Exception:
        status = self._reader.status
        problem = parse_problem(bytes(self._body))
        if status >= _SERVER or status in _LATER:
            retry = self._reader.headers.get("retry-after", "")
            wait = float(retry) if retry.isascii() and retry.isdigit() else None
            return AgentGoneError(problem.text, retry_after=wait)
        if status in _MALFORMED or not problem.findings:
            return MalformedError(f"the agent answered {status}: {problem.text}")
        return VerificationError(*problem.findings)
