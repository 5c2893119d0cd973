"""An agent that grants, renews, ends, hangs and dies as a test tells it.

Speaks the Workload API on a real Unix socket, with no TPM and no verifier behind it; what it calls
a token is none. In the test's own process as ``ScriptedAgent``, or as a process of its own, which a
test may stop and kill:

    python -m bootlease.testing.scripted_agent SOCKET --life 2 --renew-every 0.5
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bootlease import __version__
from bootlease.errors import MalformedError
from bootlease.localapi import (
    Alive,
    Denied,
    Ended,
    EndedReason,
    Event,
    Granted,
    LeaseAsk,
    Unreached,
    encode_event,
    parse_lease_ask,
    parse_proof_ask,
    wire,
)
from bootlease.localapi.info import AgentInfo
from bootlease.localapi.proofs import AUTHORIZATION, DPOP, encode_proof
from bootlease.model import Finding
from bootlease.token import TokenFormat, strictjson

_TOKENS: Final = {
    TokenFormat.CWT: "c2NyaXB0ZWQ",
    TokenFormat.JWT: "c2NyaXB0ZWQ.c2NyaXB0ZWQ.c2NyaXB0ZWQ",
    TokenFormat.UNSAFE_BEARER: "c2NyaXB0ZWQ.c2NyaXB0ZWQ.c2NyaXB0ZWQ",
}
_POLL: Final = 0.02


@dataclass(slots=True)
class OpenStream:
    """A stream that is open.

    Attributes:
        ask: What opened its lease.
        holds: It is the stream that the lease is held by; others watch.
    """

    ask: LeaseAsk
    holds: bool
    _send: Callable[[bytes], None]
    _close: Callable[[], None]
    closed: threading.Event = field(default_factory=threading.Event)

    def send(self, data: bytes) -> None:
        """Send bytes, whatever they are."""
        try:
            self._send(data)
        except OSError:
            self.closed.set()

    def close(self) -> None:
        """Hang up."""
        self.closed.set()
        with contextlib.suppress(OSError):
            self._close()


class ScriptedAgent:
    """An agent on a socket.

    Args:
        path: Where it listens.
        life: Seconds of the lease that a new stream is granted at once; None for none.
        alive_every: Seconds between two signs of life.

    Attributes:
        asks: Every request for a lease that came in, in order.
        streams: Those that are open.
        standing: What was granted last, by handle, where it has not ended.
        refusal: Status and findings that requests for a lease are answered with.
        proofs: Makes the headers of a proof.
    """

    def __init__(
        self, path: Path, *, life: float | None = None, alive_every: float = wire.ALIVE_EVERY
    ) -> None:
        self.path = path
        self.life = life
        self.asks: list[LeaseAsk] = []
        self.streams: list[OpenStream] = []
        self.proofs: Callable[[Granted, str, str], dict[str, str]] = _no_proof
        self._alive_every = alive_every
        self._sequence = 0
        self.standing: dict[str, Granted] = {}
        self.refusal: tuple[int, tuple[Finding, ...]] | None = None
        self._changed = threading.Condition(threading.RLock())
        self._hangs = False
        self._server: _Server | None = None

    # -- its life

    def start(self) -> Self:
        """Listen."""
        self.path.unlink(missing_ok=True)
        self._server = _Server(str(self.path), self)
        for target in (self._server.serve, self._keep_alive):
            threading.Thread(target=target, args=(self._server,), daemon=True).start()
        return self

    def die(self) -> None:
        """Close the socket and every stream, without a word."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
            self.path.unlink(missing_ok=True)
        self.hang_up()

    def hang(self) -> None:
        """Say nothing more, not even that it lives; connections stay open, requests wait."""
        self._hangs = True

    def hang_up(self) -> None:
        """Close every stream, and go on listening: an agent that is being upgraded."""
        with self._changed:
            streams, self.streams = self.streams, []
            self.standing.clear()
            self._changed.notify_all()
        for stream in streams:
            stream.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.die()

    # -- what a test has it say

    def grant(
        self,
        seconds: float,
        *,
        expires_at: int | None = None,
        deadline: float | None = None,
        sequence: int | None = None,
    ) -> None:
        """Grant or renew every open lease for ``seconds`` by both clocks, unless told otherwise."""
        with self._changed:
            self._sequence = self._sequence + 1 if sequence is None else sequence
            for stream in list(self.streams):
                self._grant(stream, seconds, expires_at, deadline)

    def unreached(self, error: str = "no answer", retry_in: float = 1.0) -> None:
        """Tell that the verifier gives no answer."""
        self.say(Unreached(error, retry_in))

    def deny(self, *findings: Finding) -> None:
        """Deny every open lease, and close its streams."""
        self.say(Denied(findings))
        self.hang_up()

    def end(self, reason: EndedReason = EndedReason.REFUSED, *findings: Finding) -> None:
        """End every lease; the streams stay."""
        with self._changed:
            self.standing.clear()
        self.say(Ended(reason, findings))

    def refuse(self, *findings: Finding, status: int = 403) -> None:
        """Answer every request for a lease with a problem; without findings, end doing so."""
        self.refusal = (status, findings) if findings else None

    def say(self, event: Event) -> None:
        """Send an event on every stream."""
        self.say_raw(encode_event(event))

    def say_raw(self, data: bytes) -> None:
        """Send bytes on every stream."""
        with self._changed:
            for stream in list(self.streams):
                stream.send(data)

    def wait_for_streams(self, count: int, timeout: float = 5.0) -> None:
        """Wait until ``count`` streams are open.

        Raises:
            TimeoutError: They are not.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.streams) == count, timeout):
                raise TimeoutError(f"{len(self.streams)} streams are open, not {count}")

    # -- inside

    def _grant(
        self,
        stream: OpenStream,
        seconds: float,
        expires_at: int | None = None,
        deadline: float | None = None,
    ) -> None:
        ask = stream.ask
        granted = Granted(
            handle=ask.handle,
            lease_id=f"{self._sequence:032x}",
            token=_TOKENS[ask.encoding],
            encoding=ask.encoding,
            sequence=self._sequence,
            scope=ask.scope,
            audience=ask.audience,
            expires_at=math.ceil(time.time() + seconds) if expires_at is None else expires_at,
            deadline=time.clock_gettime(time.CLOCK_BOOTTIME) + seconds
            if deadline is None
            else deadline,
            life=seconds,
            level=ask.level,
        )
        self.standing[ask.handle] = granted
        stream.send(encode_event(granted))

    def _keep_alive(self, server: _Server) -> None:
        while not server.ended.wait(self._alive_every):
            if not self._hangs:
                self.say(Alive())

    def wait_while_hanging(self) -> None:
        """Keep a request waiting, for its handler."""
        while self._hangs and self._server is not None:
            time.sleep(_POLL)

    def opened(self, stream: OpenStream, begin: Callable[[], None]) -> None:
        """Take a new stream up, for its handler.

        Whoever sees the beginning of its answer hears whatever is said from then on.
        """
        with self._changed:
            begin()
            self.streams.append(stream)
            last = self.standing.get(stream.ask.handle)
            if stream.holds and self.life is not None:
                self._grant(stream, self.life)
            elif last is not None:
                stream.send(encode_event(last))
            self._changed.notify_all()

    def gone(self, stream: OpenStream) -> None:
        """Forget a stream that has ended, for its handler."""
        with self._changed:
            if stream in self.streams:
                self.streams.remove(stream)
            if stream.holds:
                self.standing.pop(stream.ask.handle, None)
            self._changed.notify_all()


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, path: str, agent: ScriptedAgent) -> None:
        super().__init__(path, _Handler)
        self.agent = agent
        self.ended = threading.Event()

    def serve(self, _: object) -> None:
        self.serve_forever(poll_interval=_POLL)

    def stop(self) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        # Clients that die are what the tests are about.
        del request, client_address
        if not isinstance(sys.exception(), OSError):
            super().handle_error(None, None)  # type: ignore[arg-type]  # only printed


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class
        del format, args

    def do_POST(self) -> None:
        agent = self.server.agent
        agent.wait_while_hanging()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            if self.path == wire.LEASES:
                ask = parse_lease_ask(body)
                agent.asks.append(ask)
                self._stream(ask, holds=True)
            else:
                self._prove(body)
        except MalformedError as exc:
            self._problem(400, Finding("workload.request.malformed", str(exc)))

    def do_GET(self) -> None:
        agent = self.server.agent
        agent.wait_while_hanging()
        handle = self.headers.get(wire.LEASE_HEADER, "")
        known = next((s.ask for s in agent.streams if s.holds and s.ask.handle == handle), None)
        if self.path == wire.INFO:
            self._answer(200, AgentInfo(__version__, "https://verifier.example").encode())
        elif known is None:
            self._problem(404, Finding("workload.lease.unknown", "There is no such lease."))
        elif self.path == wire.EVENTS:
            self._stream(known, holds=False)
        elif handle in agent.standing:
            self._answer(200, encode_event(agent.standing[handle]))
        else:
            self._problem(409, Finding("workload.lease.none", "The lease does not stand now."))

    def _prove(self, body: bytes) -> None:
        agent = self.server.agent
        granted = agent.standing.get(self.headers.get(wire.LEASE_HEADER, ""))
        if granted is None:
            self._problem(404, Finding("workload.lease.unknown", "There is no such lease."))
            return
        ask = parse_proof_ask(body)
        self._answer(200, encode_proof(agent.proofs(granted, ask.method, ask.url)))

    def _stream(self, ask: LeaseAsk, *, holds: bool) -> None:
        agent = self.server.agent
        if holds and agent.refusal is not None:
            status, findings = agent.refusal
            self._problem(status, *findings)
            return
        self.close_connection = True
        lock = threading.Lock()

        def send(data: bytes) -> None:
            with lock:
                self.connection.sendall(b"%x\r\n%s\r\n" % (len(data), data))

        stream = OpenStream(ask, holds, send, lambda: self.connection.shutdown(socket.SHUT_RDWR))
        agent.opened(stream, self._begin_stream)
        try:
            # A client says nothing more; its end of file is what this waits for.
            while not stream.closed.is_set() and self.connection.recv(1):
                pass
        finally:
            agent.gone(stream)

    def _begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", wire.NDJSON)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _problem(self, status: int, *findings: Finding) -> None:
        members = {"title": "Scripted", "findings": [finding.as_dict() for finding in findings]}
        self._answer(status, strictjson.serialise(members), wire.PROBLEM)

    def _answer(self, status: int, body: bytes, media: str = wire.JSON) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _no_proof(granted: Granted, method: str, url: str) -> dict[str, str]:
    del method, url
    return {AUTHORIZATION: f"DPoP {granted.token}", DPOP: "c2NyaXB0ZWQ.c2NyaXB0ZWQ.c2NyaXB0ZWQ"}


def main(arguments: list[str] | None = None) -> None:
    """Be an agent until killed; says ``ready`` on standard output."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("socket", type=Path)
    parser.add_argument("--life", type=float, default=2.0, help="seconds of each lease")
    parser.add_argument("--renew-every", type=float, help="seconds between renewals")
    parser.add_argument("--renewals", type=int, default=-1, help="how many, then none")
    options = parser.parse_args(arguments)
    with ScriptedAgent(options.socket, life=options.life) as agent:
        os.write(1, b"ready\n")
        left = options.renewals
        while options.renew_every is not None and left:
            time.sleep(options.renew_every)
            agent.grant(options.life)
            left -= 1
        threading.Event().wait()


if __name__ == "__main__":
    main()
