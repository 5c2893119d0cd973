"""The client of the Workload API."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bootlease.errors import MalformedError
from bootlease.localapi import (
    HANDLE_BYTES,
    ConfirmationChoice,
    Granted,
    LeaseAsk,
    ProofAsk,
    parse_event,
    wire,
)
from bootlease.localapi.info import AgentInfo, parse_info
from bootlease.localapi.proofs import parse_proof
from bootlease.token import base64url
from bootlease.token.kinds import TokenFormat
from bootlease.workload.connection import DEFAULT_TIMEOUT, Connection
from bootlease.workload.stream import LeaseStream

if TYPE_CHECKING:
    from bootlease.token import PublicKey


def new_handle() -> str:
    """Return a new handle: who knows it may use the lease, so it is a secret."""
    return base64url.encode(secrets.token_bytes(HANDLE_BYTES))


class WorkloadClient:
    """Speaks to the agent of this node.

    Args:
        socket: The agent's socket; by default what ``BOOTLEASE_WORKLOAD_SOCKET`` says, else
            ``/run/bootlease/workload.sock``.
        timeout: Seconds that an answer may take.
    """

    def __init__(
        self, socket: str | os.PathLike[str] | None = None, *, timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        self.socket = Path(socket or os.environ.get(wire.SOCKET_VARIABLE) or wire.SOCKET)
        self._timeout = timeout

    def lease(
        self,
        scope: Sequence[str],
        audience: str,
        *,
        encoding: TokenFormat | str = TokenFormat.CWT,
        confirmation: ConfirmationChoice | str = ConfirmationChoice.PROCESS,
        key: PublicKey | None = None,
        level: int | None = None,
        handle: str | None = None,
    ) -> LeaseStream:
        """Ask for a lease, and hold it for as long as the stream that is returned is open.

        The stream has no event yet: ``Granted`` comes when the verifier has granted it.

        Args:
            scope: Scope names.
            audience: The relying party.
            encoding: Form of the token.
            confirmation: Where the confirmation key is to live; left alone with ``key``.
            key: The workload's own confirmation key (P-256).
            level: Level 0 to 3 at which the caller will enforce the end of the lease.
            handle: The name of a lease to go on with; by default a new one.

        Raises:
            AgentGoneError: The agent cannot be reached or is busy.
            VerificationError: It permits this process no such lease; the findings say why.
            MalformedError: It cannot read the request, or its answer cannot be read.
            ValueError: An argument has not its form.
        """
        ask = LeaseAsk(
            scope=tuple(scope),
            audience=audience,
            handle=new_handle() if handle is None else handle,
            encoding=TokenFormat(encoding),
            confirmation=ConfirmationChoice.OWN
            if key is not None
            else ConfirmationChoice(confirmation),
            key=key,
            level=level,
        )
        return self._stream("POST", wire.LEASES, ask.handle, ask.encode())

    def events(self, handle: str) -> LeaseStream:
        """Watch a lease that somebody else holds, such as the guard of this process.

        Raises:
            AgentGoneError: The agent cannot be reached or is busy.
            VerificationError: No such lease is open to this process.
            MalformedError: The answer cannot be read.
        """
        return self._stream("GET", wire.EVENTS, handle, None)

    def current(self, handle: str) -> Granted:
        """Return the lease as it stands.

        Raises:
            AgentGoneError: The agent cannot be reached or is busy.
            VerificationError: No such lease is open to this process, or it does not stand.
            MalformedError: The answer cannot be read.
        """
        event = parse_event(self._call("GET", wire.CURRENT, handle))
        if not isinstance(event, Granted):
            raise MalformedError("the agent's answer is no lease")
        return event

    def proof(
        self, handle: str, method: str, url: str, *, nonce: str | None = None
    ) -> dict[str, str]:
        """Return the HTTP headers that present a lease's token in one request.

        Raises:
            AgentGoneError: The agent cannot be reached or is busy.
            VerificationError: No such lease is open to this process, it does not stand, or its
                key is the workload's own.
            MalformedError: The answer cannot be read.
            ValueError: An argument has not its form.
        """
        ask = ProofAsk(method, url, nonce)
        return parse_proof(self._call("POST", wire.PROOFS, handle, ask.encode()))

    def info(self) -> AgentInfo:
        """Return what the agent says of itself.

        Raises:
            AgentGoneError: The agent cannot be reached or is busy.
            VerificationError: It serves no process like this one.
            MalformedError: The answer cannot be read.
        """
        return parse_info(self._call("GET", wire.INFO, None))

    def _call(self, method: str, path: str, handle: str | None, body: bytes | None = None) -> bytes:
        with contextlib.closing(Connection(self.socket, self._timeout)) as connection:
            connection.send(method, path, handle=handle, body=body)
            return connection.answer()

    def _stream(self, method: str, path: str, handle: str, body: bytes | None) -> LeaseStream:
        with contextlib.ExitStack() as stack:
            connection = Connection(self.socket, self._timeout)
            stack.callback(connection.close)
            connection.send(method, path, handle=handle, body=body)
            connection.head()
            stack.pop_all()
        return LeaseStream(connection, handle)
