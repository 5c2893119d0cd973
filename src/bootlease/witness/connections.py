"""uvicorn's HTTP/1.1 connection with a deadline for the head of a request, and room for everybody.

Without them, whoever opens as many connections as the witness takes and sends nothing, or a head
byte by byte, keeps every log from being cosigned. Bodies have a deadline of their own, in ``app``.

A client is an IPv4 address, or an IPv6 /64, which is what one customer gets.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS: Final = 256
PER_CLIENT: Final = 16
HEAD_TIME: Final = 10.0
"""Seconds from a connection's or request's first moment to the end of its head."""
_IPV6_BITS: Final = 64


class BoundedProtocol(H11Protocol):
    """Ends connections whose heads do not arrive in time, and idle ones where they are many."""

    peer = ""
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Start the clock, where there is room or an idle connection makes some."""
        super().connection_made(transport)
        self.peer = _client(self.client)
        if self._has_room():
            self._await_head()
        else:
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Start the clock with a request's first byte; stop it with the end of its head."""
        if self.idle:
            self._await_head()
        super().data_received(data)
        if not self.idle:
            self._forget_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._forget_deadline()
        super().connection_lost(exc)

    @property
    def idle(self) -> bool:
        """No request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _has_room(self) -> bool:
        siblings = [each for each in self.connections if _peer_of(each) == self.peer]
        if len(siblings) > PER_CLIENT:
            return _end_one(siblings, self)
        return len(self.connections) <= CONNECTIONS or _end_one(self.connections, self)

    def _await_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_TIME, self.transport.close)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _end_one(connections: Iterable[object], but: BoundedProtocol) -> bool:
    for each in connections:
        if isinstance(each, BoundedProtocol) and each is not but and each.idle:
            if each.transport.is_closing():
                continue
            each.transport.close()
            return True
    return False


def _peer_of(connection: object) -> str:
    return connection.peer if isinstance(connection, BoundedProtocol) else ""


def _client(peer: tuple[str, int] | None) -> str:
    if peer is None:
        return ""
    address = ipaddress.ip_address(peer[0].partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.IPv6Network((address, _IPV6_BITS), strict=False))
    return str(address)
