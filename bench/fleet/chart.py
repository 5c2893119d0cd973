"""Line charts as SVG, written by hand: no library, nothing hidden.

Both charts have logarithmic latency, with every decade and the limit marked, because a linear
axis hides either the usual case or the worst one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log10
from xml.sax.saxutils import escape

from bench.fleet.figures import Figures, quantile

_WIDTH, _HEIGHT = 860, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 190, 60, 60
_INNER_WIDTH, _INNER_HEIGHT = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000")
_SHORTEST_MS = 0.1
_SHARES = (0.0, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999)


@dataclass(frozen=True, slots=True)
class Line:
    """One curve.

    Attributes:
        label: Its name.
        points: (x from 0 to 1, latency in ms).
    """

    label: str
    points: Sequence[tuple[float, float]]


def by_percentile(runs: Sequence[tuple[str, Figures]], caption: str, limit_ms: float) -> str:
    """Draw latency over percentile, one curve a run; nines are evenly spaced."""
    nines = -log10(1 - _SHARES[-1])

    def x(share: float) -> float:
        return -log10(1 - share) / nines

    lines = []
    for label, figures in runs:
        ordered = sorted(figures.latencies)
        # A percentile that a run has too few operations for would only repeat its maximum.
        known = [share for share in _SHARES if len(ordered) * (1 - share) >= 1]
        lines.append(Line(label, [(x(share), quantile(ordered, share) * 1000) for share in known]))
    ticks = [(x(share), f"{share * 100:g}") for share in (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)]
    return _chart(
        "Latency by percentile", caption, lines, _Axis("percentile", ticks), limit_ms=limit_ms
    )


def over_time(runs: Sequence[tuple[str, Figures]], caption: str, limit_ms: float) -> str:
    """Draw the 99th percentile of each second of each run."""
    seconds = max(figures.duration for _, figures in runs)
    lines = [
        Line(
            label,
            [
                ((row["second"] + 0.5) / seconds, row["p99_ms"])
                for row in figures.intervals()
                if row["renewed"]
            ],
        )
        for label, figures in runs
    ]
    ticks = [(part / 5, f"{seconds * part / 5:g}") for part in range(6)]
    axis = _Axis("seconds from the start of a run", ticks)
    return _chart("99th percentile of each second", caption, lines, axis, limit_ms=limit_ms)


@dataclass(frozen=True, slots=True)
class _Axis:
    name: str
    ticks: Sequence[tuple[float, str]]


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where values stand on the page; ``top`` is the latency at its upper edge."""

    top: float

    def across(self, x: float) -> float:
        return round(_LEFT + x * _INNER_WIDTH, 1)

    def down(self, value: float) -> float:
        decades = log10(max(value, _SHORTEST_MS) / _SHORTEST_MS) / log10(self.top / _SHORTEST_MS)
        return round(_TOP + (1 - decades) * _INNER_HEIGHT, 1)

    def axes(self, axis: _Axis) -> list[str]:
        right, bottom = _LEFT + _INNER_WIDTH, _TOP + _INNER_HEIGHT
        parts = []
        for decade in range(round(log10(self.top / _SHORTEST_MS)) + 1):
            mark = _SHORTEST_MS * 10**decade
            y = self.down(mark)
            parts.append(_rule((_LEFT, y), (right, y), "#ddd"))
            parts.append(_text(_LEFT - 8, y + 4, f"{mark:g} ms", anchor="end"))
        for x, name in axis.ticks:
            at = self.across(x)
            parts.append(_rule((at, _TOP), (at, bottom), "#eee"))
            parts.append(_text(at, bottom + 18, name, anchor="middle"))
        middle = _LEFT + _INNER_WIDTH / 2
        return [*parts, _text(middle, _HEIGHT - 18, axis.name, anchor="middle")]

    def limit(self, limit_ms: float) -> list[str]:
        right, y = _LEFT + _INNER_WIDTH, self.down(limit_ms)
        label = _text(right + 8, y + 4, f"limit {limit_ms:g} ms")
        return [_rule((_LEFT, y), (right, y), "#b00", dashed=True), label]

    def curves(self, lines: Sequence[Line]) -> list[str]:
        parts: list[str] = []
        key = _LEFT + _INNER_WIDTH + 8
        for number, line in enumerate(lines):
            colour = _COLOURS[number % len(_COLOURS)]
            points = " ".join(f"{self.across(x)},{self.down(value)}" for x, value in line.points)
            row = _TOP + _INNER_HEIGHT - 18 * (len(lines) - number)
            parts += (
                f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>',
                _rule((key, row - 4), (key + 20, row - 4), colour),
                _text(key + 26, row, line.label),
            )
        return parts


def _chart(title: str, caption: str, lines: Sequence[Line], axis: _Axis, *, limit_ms: float) -> str:
    highest = max((value for line in lines for _, value in line.points), default=1.0)
    frame = _Frame(10.0 ** max(1, ceil(log10(max(highest, limit_ms)))))
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}">',
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
            _text(_LEFT, 24, title, size=16),
            _text(_LEFT, 42, caption),
            *frame.axes(axis),
            *frame.limit(limit_ms),
            *frame.curves(lines),
            "</svg>\n",
        )
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"'
        f' font-family="sans-serif" font-size="{size}">{escape(text)}</text>'
    )


def _rule(
    start: tuple[float, float], end: tuple[float, float], colour: str, *, dashed: bool = False
) -> str:
    dash = ' stroke-dasharray="6 4"' if dashed else ""
    (x1, y1), (x2, y2) = start, end
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{colour}"{dash}/>'
