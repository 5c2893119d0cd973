"""A monitor that a log slows down."""

from __future__ import annotations

import httpx2
import pytest

from bootlease.errors import TransportError
from bootlease.monitor import LogSource


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the monitor slept."""
    slept: list[float] = []
    monkeypatch.setattr("bootlease.monitor.source.time.sleep", slept.append)
    return slept


def slowing(times: int, retry_after: str) -> LogSource:
    """A log that asks to wait so many times before it answers."""
    left = [times]

    def answer(_: httpx2.Request) -> httpx2.Response:
        if left[0]:
            left[0] -= 1
            return httpx2.Response(429, headers={"retry-after": retry_after})
        return httpx2.Response(200, stream=httpx2.ByteStream(b"note"))

    return LogSource("https://verifier.example", transport=httpx2.MockTransport(answer))


def test_it_waits_as_it_is_told(waits: list[float]) -> None:
    """Whoever catches up with a large log gets to its end."""
    assert slowing(2, "2").checkpoint("2026-11") == b"note"
    assert waits == [2, 2]


@pytest.mark.parametrize("retry_after", ["86400", "9" * 5000])
def test_it_never_waits_for_long(waits: list[float], retry_after: str) -> None:
    """What says so is not signed."""
    assert slowing(1, retry_after).checkpoint("2026-11") == b"note"
    assert waits == [5]


def test_it_gives_up_in_the_end(waits: list[float]) -> None:
    """A round that cannot be made is said to be none."""
    with pytest.raises(TransportError, match="too often"):
        slowing(9, "1").checkpoint("2026-11")
    assert len(waits) == 4


@pytest.mark.parametrize("retry_after", ["", "-1", "soon", "0"])
def test_it_asks_again_only_where_that_helps(waits: list[float], retry_after: str) -> None:
    """Else the answer is an error like any other."""
    with pytest.raises(TransportError, match="429"):
        slowing(1, retry_after).checkpoint("2026-11")
    assert not waits
