"""What one run measured, exactly: every latency is kept, none is averaged away.

Percentiles are those of renewals. An enrolment is four requests and stands apart.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, log10

QUANTILES = (0.5, 0.9, 0.99, 0.999)
_BUCKETS_PER_DECADE = 20
_SHORTEST = 1e-4


@dataclass(slots=True)
class Figures:
    """One open-loop run.

    Attributes:
        rate: Arrivals a second that were offered, as planned.
        duration: Seconds in which they arrived, as planned.
        offsets: When each renewal that succeeded was due, seconds from the start.
        latencies: From then to its answer, seconds.
        services: From its first byte sent to its answer, seconds.
        others: Latencies of what was no renewal, by kind.
        lateness: How late the generator itself looked at each arrival, seconds.
        errors: Operations that failed, by kind.
        failed_at: When each failed operation was due.
        elapsed: Seconds from the start to the last answer.
        own_cpu: CPU seconds of this process.
        verifier_cpu: CPU seconds of the verifier, where it runs on this machine.
    """

    rate: float
    duration: float
    offsets: array[float] = field(default_factory=lambda: array("d"))
    latencies: array[float] = field(default_factory=lambda: array("d"))
    services: array[float] = field(default_factory=lambda: array("d"))
    others: dict[str, array[float]] = field(default_factory=dict)
    lateness: array[float] = field(default_factory=lambda: array("d"))
    errors: Counter[str] = field(default_factory=Counter)
    failed_at: array[float] = field(default_factory=lambda: array("d"))
    elapsed: float = 0.0
    own_cpu: float = 0.0
    verifier_cpu: float | None = None

    def renewed(self, due: float, latency: float, service: float) -> None:
        """Count a renewal that was answered with a lease."""
        self.offsets.append(due)
        self.latencies.append(latency)
        self.services.append(service)

    def succeeded(self, kind: str, latency: float) -> None:
        """Count another operation that came to its lease, after several requests."""
        self.others.setdefault(kind, array("d")).append(latency)

    def failed(self, kind: str, due: float) -> None:
        """Count an operation that was not."""
        self.errors[kind] += 1
        self.failed_at.append(due)

    def meets(self, limit: float) -> bool:
        """Tell whether nothing failed and 99 % of the renewals took at most ``limit`` seconds."""
        return not self.errors and quantile(sorted(self.latencies), 0.99) <= limit

    def summary(self) -> dict[str, object]:
        """Return the figures of the whole run, times in milliseconds."""
        ordered, service = sorted(self.latencies), sorted(self.services)
        count = len(ordered) + sum(map(len, self.others.values()))
        seconds = max(self.elapsed, self.duration)
        members: dict[str, object] = {
            "offered_per_second": round(self.rate, 1),
            "answered_per_second": round(count / seconds, 1),
            "seconds": self.duration,
            "renewals": len(ordered),
            "errors": dict(self.errors),
        }
        for share in QUANTILES:
            # Of too few renewals a high quantile is only the maximum by another name.
            known = len(ordered) * (1 - share) >= 1
            members[f"p{share * 100:g}_ms"] = _ms(quantile(ordered, share)) if known else None
        members |= {
            "max_ms": _ms(ordered[-1] if ordered else 0.0),
            "p50_from_sending_ms": _ms(quantile(service, 0.5)),
            "p99_from_sending_ms": _ms(quantile(service, 0.99)),
            "generator_late_p99_ms": _ms(quantile(sorted(self.lateness), 0.99)),
            "generator_cpu_share": round(self.own_cpu / seconds, 3),
            "others": {
                kind: {
                    "count": len(latencies),
                    "p50_ms": _ms(quantile(sorted(latencies), 0.5)),
                    "p99_ms": _ms(quantile(sorted(latencies), 0.99)),
                }
                for kind, latencies in self.others.items()
            },
        }
        if self.verifier_cpu is not None and count:
            members["verifier_cpu_ms_per_operation"] = _ms(self.verifier_cpu / count)
        return members

    def intervals(self, width: float = 1.0) -> list[dict[str, float]]:
        """Return one row for each ``width`` seconds in which renewals were due."""
        rows = max(1, ceil(self.duration / width))
        latencies: list[list[float]] = [[] for _ in range(rows)]
        failed = [0] * rows
        for due, latency in zip(self.offsets, self.latencies, strict=True):
            latencies[min(int(due / width), rows - 1)].append(latency)
        for due in self.failed_at:
            failed[min(int(due / width), rows - 1)] += 1
        return [
            {
                "second": round(number * width, 3),
                "renewed": len(each),
                "failed": failed[number],
                "p50_ms": _ms(quantile(sorted(each), 0.5)),
                "p99_ms": _ms(quantile(sorted(each), 0.99)),
                "max_ms": _ms(max(each, default=0.0)),
            }
            for number, each in enumerate(latencies)
        ]

    def histogram(self) -> list[tuple[float, int]]:
        """Return (upper bound in ms, count) of buckets that grow by a twentieth of a decade."""
        counts = Counter(map(_bucket, self.latencies))
        if not counts:
            return []
        return [
            (round(_upper(number) * 1000, 4), counts[number])
            for number in range(min(counts), max(counts) + 1)
        ]


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the nearest-rank quantile of sorted values: one of them, never between two."""
    if not ordered:
        return 0.0
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def _bucket(latency: float) -> int:
    return max(0, ceil(log10(max(latency, _SHORTEST) / _SHORTEST) * _BUCKETS_PER_DECADE - 1e-9))


def _upper(number: int) -> float:
    return float(_SHORTEST * 10 ** (number / _BUCKETS_PER_DECADE))


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
