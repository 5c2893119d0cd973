"""What guard and leash tell each other, one datagram each, over a pair of sockets.

The guard orders, the leash reports. Either end's EOF says that the other is gone. A datagram is a
kind, two integers, and text for people.

Carried by the leash: nothing is imported that it would not need (see ``kernel``).
"""

from __future__ import annotations

import enum
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_HEAD: Final = struct.Struct("<Bqq")
_LARGEST: Final = 4096


class Order(enum.IntEnum):
    """What the guard orders."""

    DEADLINE = 1
    """first: CLOCK_BOOTTIME in ns at which the leash ends by itself."""
    START = 2
    """Start the workload."""
    SIGNAL = 3
    """first: signal for the workload's process group."""
    FOREGROUND = 4
    """Give the workload the terminal, and let it go on."""


class Report(enum.IntEnum):
    """What the leash reports."""

    READY = 17
    """Everything stands, but for the workload; text: what could not be done and is not needed."""
    STARTED = 18
    """The workload runs; first: its pid as the leash sees it."""
    FAILED = 19
    """No start; first: errno, second: a ``Stage``, text: what was tried."""
    STOPPED = 20
    """The workload's first process was stopped; first: by which signal."""
    EXITED = 21
    """It has ended; first: its wait status. The leash ends now, and everything with it."""


class Stage(enum.IntEnum):
    """How far a leash came."""

    LEASH = 0
    """It could not be laid."""
    EXECUTE = 1
    """The command could not be executed."""


class Message:
    """One datagram, taken apart.

    Attributes:
        kind: An ``Order`` or a ``Report``.
        first: Its first number.
        second: Its second number.
        text: Words for people.
    """

    __slots__ = ("first", "kind", "second", "text")

    def __init__(self, kind: int, first: int = 0, second: int = 0, text: str = "") -> None:
        self.kind = kind
        self.first = first
        self.second = second
        self.text = text


def send(fd: int, kind: int, first: int = 0, second: int = 0, text: str = "") -> None:
    """Send one message.

    Raises:
        OSError: The other end is gone.
    """
    room = _LARGEST - _HEAD.size
    os.write(fd, _HEAD.pack(kind, first, second) + text.encode(errors="replace")[:room])


def receive(fd: int) -> Message | None:
    """Return the next message, None where the other end is gone.

    Raises:
        BlockingIOError: None has come, and the descriptor does not block.
    """
    try:
        data = os.read(fd, _LARGEST)
    except ConnectionResetError:
        return None
    if len(data) < _HEAD.size:
        return None
    kind, first, second = _HEAD.unpack_from(data)
    return Message(kind, first, second, data[_HEAD.size :].decode(errors="replace"))
