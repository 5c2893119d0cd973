"""What guard and leash tell each other."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from bootlease.leash import messages
from bootlease.leash.messages import Order, Report


@pytest.fixture
def pair() -> Iterator[tuple[int, int]]:
    """Both ends."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        yield one.fileno(), other.fileno()


def test_message_arrives_as_it_was_sent(pair: tuple[int, int]) -> None:
    """Kind, numbers and text come through, each message by itself."""
    messages.send(pair[0], Order.DEADLINE, 1 << 60)
    messages.send(pair[0], Report.FAILED, -2, 1, "mount: déjà vu")
    first, second = messages.receive(pair[1]), messages.receive(pair[1])
    assert first is not None
    assert second is not None
    assert (first.kind, first.first) == (Order.DEADLINE, 1 << 60)
    assert (second.kind, second.first, second.second) == (Report.FAILED, -2, 1)
    assert second.text == "mount: déjà vu"


def test_long_text_is_cut(pair: tuple[int, int]) -> None:
    """A text of any length makes one message."""
    messages.send(pair[0], Report.READY, text="x" * 100_000)
    message = messages.receive(pair[1])
    assert message is not None
    assert 1000 < len(message.text) < 5000


def test_end_of_file(pair: tuple[int, int]) -> None:
    """The other end's going is told, once what it said has been heard."""
    messages.send(pair[0], Order.START)
    os.dup2(os.open(os.devnull, os.O_RDONLY), pair[0])
    assert messages.receive(pair[1]) is not None
    assert messages.receive(pair[1]) is None


def test_what_is_no_message_counts_as_gone(pair: tuple[int, int]) -> None:
    """Bytes that are no message end the conversation."""
    os.write(pair[0], b"?")
    assert messages.receive(pair[1]) is None
