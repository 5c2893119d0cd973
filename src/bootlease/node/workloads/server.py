"""The Workload API's server: a thread with an event loop of its own, beside the agent's.

The agent's worker tells it what was granted (``LeaseOutput``) and what its attempts brought
(``stepped``); both only leave word for the loop. The loop never waits for TPM, network, disk, nor
for any workload.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bootlease import __version__
from bootlease.errors import TransportError, VerificationError
from bootlease.localapi import wire
from bootlease.localapi.info import AgentInfo
from bootlease.model import Finding
from bootlease.node.lease import EndReason, HeldLease
from bootlease.node.observing import Outcome
from bootlease.node.wishbook import Wishes
from bootlease.node.workloads import binding
from bootlease.node.workloads.admission import Admission
from bootlease.node.workloads.http import HTTPConnection, Request
from bootlease.node.workloads.journal import Journal
from bootlease.node.workloads.leases import Leases
from bootlease.node.workloads.limits import DEFAULT_LIMITS, Limits
from bootlease.node.workloads.peers import (
    Credentials,
    Lifeline,
    Peer,
    PeerGoneError,
    read_credentials,
    read_peer,
)
from bootlease.node.workloads.problems import peer_gone
from bootlease.node.workloads.proofs import Proofs
from bootlease.node.workloads.ratelimit import RateLimiter
from bootlease.node.workloads.routes import Routes
from bootlease.node.workloads.rules import Rules
from bootlease.ports import Clock

_BEAT: Final = 1.0
_DEAD_AFTER: Final = 5.0
_START: Final = 10.0
_GOODBYE: Final = 3.0


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where an agent listens, and what it says of itself.

    Attributes:
        issuer: Its verifier.
        path: The socket.
        mode: Who may connect.
        gid: The socket's group; None for the agent's.
        sockets: Sockets that listen already, instead of one at ``path``.
        limits: Bounds.
    """

    issuer: str
    path: Path = Path(wire.SOCKET)
    mode: int = 0o666
    gid: int | None = None
    sockets: Sequence[socket.socket] = ()
    limits: Limits = field(default=DEFAULT_LIMITS)


class WorkloadServer:
    """Serves the workloads of this node; a ``LeaseOutput`` of the agent's keeper.

    Args:
        settings: Where.
        rules: Who may have what.
        wishes: The agent's book.
        clock: Both clocks that a lease ends by.
        say: Takes what happens, for the log.
    """

    def __init__(
        self,
        settings: ServerSettings,
        rules: Rules,
        wishes: Wishes,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._node: bytes | None = None
        opening: RateLimiter[str] = RateLimiter(
            settings.limits.lease_rate, settings.limits.lease_burst
        )
        self._journal = Journal(say)
        self._leases = Leases(rules, wishes, clock, self._journal.changed, opening)
        self._proofs = Proofs(clock.now)
        self._routes = Routes(self._leases, self._proofs, self._journal, self._info)
        self._admission = Admission(settings.limits)
        self._visits: dict[HTTPConnection, _Visit] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._listeners: list[binding.Listener] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._beat_at = 0.0

    # -- what the service calls, in its own thread

    def start(self) -> None:
        """Listen; returns when workloads can connect.

        Raises:
            TransportError: It cannot.
        """
        settings = self._settings
        self._listeners = [binding.adopt(given) for given in settings.sockets] or [
            binding.listen(settings.path, mode=settings.mode, gid=settings.gid)
        ]
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._failed)
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._loop, started), name="workload-api", daemon=True
        )
        self._thread.start()
        if not started.wait(_START):
            raise TransportError("the Workload API does not start")

    def stop(self) -> None:
        """Close every connection, without saying that a lease has ended: none has."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        self._post(self._shut_down)
        thread.join(_GOODBYE)

    def reload(self, rules: Rules) -> None:
        """Put other rules in force."""
        self._post(self._leases.reload, rules)

    def alive(self) -> bool:
        """Tell whether the loop has turned lately."""
        return time.monotonic() - self._beat_at < _DEAD_AFTER

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._admission)

    @property
    def leases(self) -> int:
        """How many leases are open."""
        return len(self._leases)

    # -- what the agent calls, in its worker's thread

    def granted(self, lease: HeldLease) -> None:
        """Hand out; see ``LeaseOutput``."""
        self._post(self._leases.granted, lease)

    def ended(self, reason: EndReason, findings: tuple[Finding, ...]) -> None:
        """Take back; see ``LeaseOutput``."""
        self._post(self._leases.ended, reason, findings)

    def stepped(self, outcome: Outcome, node: bytes | None) -> None:
        """Pass on what an attempt brought besides a lease."""
        self._post(self._stepped, outcome, node)

    def _post(self, callback: Callable[..., object], *arguments: object) -> None:
        loop = self._loop
        if loop is not None:
            # An agent that stops tells of it when nobody is left to be told.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(callback, *arguments)

    # -- the loop's thread

    def _run(self, loop: asyncio.AbstractEventLoop, started: threading.Event) -> None:
        asyncio.set_event_loop(loop)
        for listener in self._listeners:
            loop.add_reader(listener.socket, self._accept, listener.socket)
        loop.call_soon(started.set)
        self._beat(time.monotonic())
        try:
            loop.run_forever()
        finally:
            self._proofs.stop()
            loop.close()

    def _beat(self, alive_at: float) -> None:
        now = self._beat_at = time.monotonic()
        if now - alive_at >= wire.ALIVE_EVERY:
            alive_at = now
            self._leases.alive()
        self._journal.beat()
        if self._loop is not None:
            self._loop.call_later(_BEAT, self._beat, alive_at)

    def _shut_down(self) -> None:
        loop = self._loop
        if loop is None:
            return
        for listener in self._listeners:
            loop.remove_reader(listener.socket)
            listener.close()
        for connection in list(self._visits):
            connection.finish()
        # What was written is with the kernel after the next turns; who does not read is left.
        loop.call_later(0.05, loop.stop)

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        del loop
        self._journal.failed(context.get("exception"))

    def _stepped(self, outcome: Outcome, node: bytes | None) -> None:
        self._node = node
        self._leases.denied(outcome.denied)
        error = outcome.error
        if isinstance(error, VerificationError):
            self._leases.node_refused(error.findings)
        elif error is not None:
            self._leases.unreached(str(error), outcome.wait)

    # -- connections

    def _accept(self, listener: socket.socket) -> None:
        refused = 0
        for _ in range(self._settings.limits.accepts):
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                break
            except OSError:
                # Out of descriptors, or a client that is gone again.
                refused += 1
                break
            refused += not self._take(connection)
        if refused:
            self._journal.turned_away(refused)
            self._pause(listener)

    def _pause(self, listener: socket.socket) -> None:
        # Others wait in the kernel's queue, in their order, while one floods it.
        loop = self._loop
        if loop is not None:
            loop.remove_reader(listener)
            loop.call_later(self._settings.limits.pause, self._go_on, listener)

    def _go_on(self, listener: socket.socket) -> None:
        if self._loop is not None and listener.fileno() >= 0:
            self._loop.add_reader(listener, self._accept, listener)

    def _take(self, connection: socket.socket) -> bool:
        credentials = read_credentials(connection)
        if not self._admission.admits(credentials.uid):
            connection.close()
            return False
        visit = _Visit(credentials)
        try:
            visit.peer, visit.lifeline = read_peer(connection, credentials)
        except PeerGoneError:
            visit.stranger = True
        else:
            visit.stranger = not self._leases.rules_about(visit.peer)
        if visit.stranger and not self._admission.admits_stranger(credentials.uid):
            visit.close()
            self._admission.left(credentials.uid, stranger=False)
            connection.close()
            return False
        self._begin(connection, visit)
        return True

    def _begin(self, connection: socket.socket, visit: _Visit) -> None:
        loop = asyncio.get_running_loop()
        http = HTTPConnection(self._serve, self._settings.limits, self._gone)
        self._visits[http] = visit
        connection.setblocking(False)  # noqa: FBT003 - the standard library's way
        task = loop.create_task(loop.connect_accepted_socket(lambda: http, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _gone(self, http: HTTPConnection) -> None:
        self._leases.closed(http)
        visit = self._visits.pop(http, None)
        if visit is not None:
            self._admission.left(visit.credentials.uid, stranger=visit.stranger)
            if self._loop is not None and visit.watched and visit.lifeline is not None:
                self._loop.remove_reader(visit.lifeline.fd)
            visit.close()

    # -- requests

    async def _serve(self, http: HTTPConnection, request: Request) -> None:
        visit = self._visits[http]
        peer, lifeline = visit.peer, visit.lifeline
        if peer is None or lifeline is None or lifeline.ended:
            raise peer_gone()
        if await self._routes.serve(http, peer, request):
            self._follow(http, visit)

    def _follow(self, http: HTTPConnection, visit: _Visit) -> None:
        # A socket outlives its process where another has inherited it: the lease does not.
        if self._loop is not None and visit.lifeline is not None:
            visit.watched = True
            self._loop.add_reader(visit.lifeline.fd, http.abort)

    def _info(self) -> AgentInfo:
        node = None if self._node is None else self._node.hex()
        return AgentInfo(__version__, self._settings.issuer, node)


@dataclass(slots=True)
class _Visit:
    """A connection's process."""

    credentials: Credentials
    peer: Peer | None = None
    lifeline: Lifeline | None = None
    stranger: bool = False
    watched: bool = False

    def close(self) -> None:
        if self.lifeline is not None:
            self.lifeline.close()
