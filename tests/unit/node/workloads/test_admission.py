"""Who gets in, and how often."""

from __future__ import annotations

import resource

import pytest

from bootlease.node.workloads.admission import Admission
from bootlease.node.workloads.limits import Limits
from bootlease.node.workloads.ratelimit import RateLimiter


class _Now:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def test_a_bucket_fills_with_time() -> None:
    """Each has its own."""
    now = _Now()
    limiter: RateLimiter[str] = RateLimiter(2.0, 3.0, now)
    assert [limiter.take("a") for _ in range(4)] == [True, True, True, False]
    assert limiter.take("b")
    now.at = 0.5
    assert [limiter.take("a") for _ in range(2)] == [True, False]
    now.at = 100
    assert [limiter.take("a") for _ in range(4)] == [True, True, True, False]


def test_those_who_were_away_longest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, and who comes again and again is not forgotten by it."""
    monkeypatch.setattr("bootlease.node.workloads.ratelimit._REMEMBERED", 3)
    limiter: RateLimiter[int] = RateLimiter(0.0, 1.0, _Now())
    assert limiter.take(0)
    for other in range(1, 20):
        limiter.take(other)
        assert not limiter.take(0)


def test_everybody_has_a_share() -> None:
    """One user's connections end at its share, all together at the room there is."""
    opened = Admission(Limits(connections=5, per_uid=3), _Now())
    assert [opened.admits(1) for _ in range(4)] == [True, True, True, False]
    assert [opened.admits(2) for _ in range(3)] == [True, True, False]
    opened.left(1, stranger=False)
    assert opened.admits(2)
    assert len(opened) == 5


def test_strangers_have_little() -> None:
    """Each user's, and all of them together."""
    opened = Admission(Limits(strangers=3, strangers_per_uid=2), _Now())
    assert [opened.admits_stranger(1) for _ in range(3)] == [True, True, False]
    assert [opened.admits_stranger(2) for _ in range(2)] == [True, False]
    assert opened.admits(1)
    opened.left(1, stranger=True)
    assert opened.admits_stranger(2)


def test_room_is_what_descriptors_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process may open few files, fewer connections are let in."""
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 300))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raised.append(limits))
    assert Admission(Limits()).room == (300 - 128) // 2
    assert raised == [(300, 300)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100_000, 100_000))
    assert Admission(Limits()).room == Limits().connections
    assert len(raised) == 1
