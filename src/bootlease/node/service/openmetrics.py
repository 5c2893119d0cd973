"""Metrics in the OpenMetrics text format.

Specification: OpenMetrics 1.0 ("MetricPoint types" counter, gauge, histogram, info; "Text format").
Names and labels are constants of this program; the number of series is fixed when they are made,
whatever workloads do. Not handled: exemplars, timestamps, summaries, state sets.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

CONTENT_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Family(Protocol):
    """A metric family."""

    def lines(self) -> Iterator[str]:
        """Return its part of the exposition."""


class Gauge:
    """A value that goes up and down, read when it is asked for.

    Args:
        name: With its unit at the end, where it has one.
        words: What it is.
        read: Returns the value; must not wait.
        unit: Its unit.
    """

    def __init__(
        self, name: str, words: str, read: Callable[[], float], *, unit: str | None = None
    ) -> None:
        self._head = tuple(_head(name, "gauge", words, unit))
        self._name = name
        self._read = read

    def lines(self) -> Iterator[str]:
        """See ``Family``."""
        yield from self._head
        yield f"{self._name} {_number(self._read())}"


class Total:
    """What somebody else counts, read when it is asked for.

    Args:
        name: Without ``_total``, with its unit at the end.
        words: What it is.
        read: Returns the count; must not wait.
        unit: Its unit.
    """

    def __init__(self, name: str, words: str, read: Callable[[], float], *, unit: str) -> None:
        self._head = tuple(_head(name, "counter", words, unit))
        self._name = name
        self._read = read

    def lines(self) -> Iterator[str]:
        """See ``Family``."""
        yield from self._head
        yield f"{self._name}_total {_number(self._read())}"


class Counter:
    """Counts what happens, by the value of one label.

    Args:
        name: Without ``_total``.
        words: What is counted.
        label: The label's name; empty for none.
        values: Every value it may have.
    """

    def __init__(
        self, name: str, words: str, label: str = "", values: Sequence[str] = ("",)
    ) -> None:
        self._head = tuple(_head(name, "counter", words, None))
        self._name = name
        self._label = label
        self._counts = dict.fromkeys(values, 0.0)
        self._lock = threading.Lock()

    def add(self, value: str = "", amount: float = 1.0) -> None:
        """Count."""
        with self._lock:
            self._counts[value] += amount

    def lines(self) -> Iterator[str]:
        """See ``Family``."""
        yield from self._head
        with self._lock:
            counts = dict(self._counts)
        for value, count in counts.items():
            labels = f'{{{self._label}="{value}"}}' if self._label else ""
            yield f"{self._name}_total{labels} {_number(count)}"


class Histogram:
    """How values are spread.

    Args:
        name: With its unit at the end.
        words: What is observed.
        bounds: Upper bounds of the buckets, ascending.
        unit: Its unit.
    """

    def __init__(self, name: str, words: str, bounds: Sequence[float], *, unit: str) -> None:
        self._head = tuple(_head(name, "histogram", words, unit))
        self._name = name
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        """Take a value into account."""
        place = next((at for at, bound in enumerate(self._bounds) if value <= bound), -1)
        with self._lock:
            self._counts[place] += 1
            self._sum += value

    def lines(self) -> Iterator[str]:
        """See ``Family``."""
        yield from self._head
        with self._lock:
            counts, total = list(self._counts), self._sum
        seen = 0
        for bound, count in zip((*self._bounds, None), counts, strict=True):
            seen += count
            edge = "+Inf" if bound is None else repr(float(bound))
            yield f'{self._name}_bucket{{le="{edge}"}} {seen}'
        yield f"{self._name}_count {seen}"
        yield f"{self._name}_sum {_number(total)}"


class Info:
    """What does not change while the process runs.

    Args:
        name: Without ``_info``.
        words: What it is.
        labels: Names and values; the values need no escapes.
    """

    def __init__(self, name: str, words: str, **labels: str) -> None:
        self._head = tuple(_head(name, "info", words, None))
        if any(set(value) & set('"\\\n') for value in labels.values()):
            raise ValueError("an info's values need escapes")
        told = ",".join(f'{key}="{value}"' for key, value in labels.items())
        self._line = f"{name}_info{{{told}}} 1"

    def lines(self) -> Iterator[str]:
        """See ``Family``."""
        yield from self._head
        yield self._line


def exposition(families: Sequence[Family]) -> bytes:
    """Return every family in the text format."""
    lines = [line for family in families for line in family.lines()]
    return "\n".join((*lines, "# EOF", "")).encode()


def _head(name: str, kind: str, words: str, unit: str | None) -> Iterator[str]:
    yield f"# TYPE {name} {kind}"
    if unit is not None:
        if not name.endswith(f"_{unit}"):
            raise ValueError(f"{name} does not end in its unit {unit}")
        yield f"# UNIT {name} {unit}"
    yield f"# HELP {name} {words}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1 << 53 else repr(value)
