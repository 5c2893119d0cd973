"""The garbage collector of a verifier: never in the way of an answer, never forgotten."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from bootlease.verifier.collector import GROWTH, Collector, resident


class _Cycle:
    """An object that only the collector can free."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_old_objects_are_not_walked_while_the_process_does_not_grow() -> None:
    """No walk of everything is begun by the interpreter, nor by a look at a process of one size."""
    collector = Collector(lambda: 1000)
    walks = gc.get_stats()[2]["collections"]
    kept = [[each] for each in range(200_000)]
    assert not collector.look()
    assert gc.get_stats()[2]["collections"] == walks
    assert kept


def test_growth_frees_cycles_that_had_become_old() -> None:
    """A cycle that was frozen with the rest is freed once the process has grown."""
    size = [1000]
    cycle = _Cycle()
    freed = weakref.ref(cycle)
    collector = Collector(lambda: size[0])
    del cycle
    gc.collect()
    assert freed() is not None
    size[0] += 1000 // 4 + GROWTH + 1
    assert collector.look()
    assert freed() is None
    assert not collector.look()


def test_resident_memory_is_counted_in_bytes() -> None:
    """What a process takes shows in its resident memory."""
    before = resident()
    block = bytearray(b"x" * (64 * 1024 * 1024))
    assert resident() - before > len(block) // 2
