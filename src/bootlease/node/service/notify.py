"""What the agent tells the service manager that started it, and what it gets from it.

Specification: systemd's sd_notify(3) (NOTIFY_SOCKET; READY, STATUS, RELOADING with MONOTONIC_USEC,
STOPPING, WATCHDOG), sd_watchdog_enabled(3) (WATCHDOG_USEC, WATCHDOG_PID), sd_listen_fds(3)
(LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES).

Not handled on purpose: file descriptor stores, barriers, VSOCK addresses.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import time
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Final

from bootlease.errors import TransportError

_FIRST_DESCRIPTOR: Final = 3
_MAX_DESCRIPTORS: Final = 16
_MICROSECONDS: Final = 1_000_000
_MAX_STATUS: Final = 400


@dataclass(slots=True)
class ServiceManager:
    """Whoever started the agent and wants to know how it is.

    Attributes:
        address: Where to send; None for nobody.
        watchdog: Seconds after which it takes an agent for hung that says nothing; None for never.
    """

    address: str | None = None
    watchdog: float | None = None
    _told: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> ServiceManager:
        """Take what a service manager put into the environment, and remove it there."""
        address = environ.pop("NOTIFY_SOCKET", None)
        period, process = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", None)
        meant = process is None or process == str(os.getpid())
        watches = period.isascii() and period.isdigit() and int(period) > 0 and meant
        return cls(address or None, int(period) / _MICROSECONDS if watches else None)

    def ready(self) -> None:
        """Tell that the agent serves, at first or after a reload."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Tell in one line how the agent is; the same line is told once."""
        line = " ".join(text.split())[:_MAX_STATUS]
        if line != self._told:
            self._told = line
            self._send(f"STATUS={line}")

    def reloading(self) -> None:
        """Tell that the configuration is being read again; ``ready`` tells the end."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Tell that the agent ends."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Tell that the agent is not hung."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if self.address is None:
            return
        # "@" stands for the NUL byte that abstract addresses begin with.
        name = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        # A service manager that does not listen must not stop the agent, nor keep it waiting.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as sender:
            sender.sendto(message.encode(), name)


def passed_sockets(environ: MutableMapping[str, str]) -> dict[str, socket.socket]:
    """Return the listening sockets that a service manager handed over, by name.

    Args:
        environ: The environment, from which what speaks of them is removed.

    Raises:
        TransportError: A descriptor is no Unix stream socket, or two have one name.
    """
    process = environ.pop("LISTEN_PID", "")
    count, names = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_FDNAMES", "")
    if process != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return {}
    found: dict[str, socket.socket] = {}
    wanted = names.split(":") if names else []
    for place in range(min(int(count), _MAX_DESCRIPTORS)):
        name = wanted[place] if place < len(wanted) else "unknown"
        taken = _taken(_FIRST_DESCRIPTOR + place, name)
        if name in found:
            raise TransportError(f"the service manager handed over two sockets named {name}")
        found[name] = taken
    return found


def _taken(descriptor: int, name: str) -> socket.socket:
    try:
        is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
        made = socket.socket(fileno=descriptor) if is_socket else None
        if made is not None:
            made.set_inheritable(False)
    except OSError as exc:
        raise TransportError(f"the socket {name} that was handed over cannot be used") from exc
    if made is not None:
        if made.family is socket.AF_UNIX and made.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        ):
            return made
        made.close()
    raise TransportError(f"the descriptor {name} that was handed over is no listening socket")
