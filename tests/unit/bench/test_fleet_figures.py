"""Percentiles, charts and the search: arithmetic that a measurement rests on."""

from __future__ import annotations

import asyncio
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench.fleet.chart import by_percentile, over_time
from bench.fleet.figures import Figures, quantile
from bench.fleet.report import Setting, table, write_all
from bench.fleet.search import RESOLUTION, highest_rate

SETTING = Setting(
    nodes=10,
    connections=4,
    enrol_share=0.0,
    seed=1,
    durability="full",
    ledger="full",
    limit_ms=100,
    generator={"ceiling_per_second": 5000},
)


def figures_of(latencies: list[float], duration: float = 2.0) -> Figures:
    """A run with these latencies, evenly due."""
    figures = Figures(rate=len(latencies) / duration, duration=duration, elapsed=duration)
    for number, latency in enumerate(latencies):
        figures.renewed(number * duration / len(latencies), latency, latency / 2)
    return figures


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 50), (0.9, 90), (0.99, 99), (0.999, 100), (1.0, 100)]
)
def test_a_quantile_is_one_of_the_values(share: float, expected: int) -> None:
    """Nearest rank: as many values as the share says are no larger."""
    assert quantile([float(value) for value in range(1, 101)], share) == expected
    assert quantile([], share) == 0.0


def test_a_run_meets_its_limit_only_without_a_failure() -> None:
    """One failure, or one in fifty too late, is too many; one in a hundred is not."""
    assert figures_of([0.01] * 99 + [5.0]).meets(0.1)
    assert not figures_of([0.01] * 98 + [5.0] * 2).meets(0.1)
    failed = figures_of([0.01] * 100)
    failed.failed("timeout", 1.0)
    assert not failed.meets(0.1)


def test_a_quantile_of_too_few_is_not_told() -> None:
    """A hundred renewals know no 99.9th percentile."""
    summary = figures_of([0.01] * 100).summary()
    assert summary["p99_ms"] == 10.0
    assert summary["p99.9_ms"] is None
    assert figures_of([0.01] * 1000).summary()["p99.9_ms"] == 10.0


def test_nothing_is_lost_in_intervals_and_histogram() -> None:
    """Every renewal and every failure stands in one row of each."""
    figures = figures_of([0.001 * (1 + number) for number in range(500)], duration=3.0)
    figures.failed("busy", 2.9)
    rows = figures.intervals()
    assert [row["second"] for row in rows] == [0.0, 1.0, 2.0]
    assert sum(row["renewed"] for row in rows) == 500
    assert [row["failed"] for row in rows] == [0, 0, 1]
    buckets = figures.histogram()
    assert sum(count for _, count in buckets) == 500
    bounds = [bound for bound, _ in buckets]
    assert bounds == sorted(bounds)
    below = sum(count for bound, count in buckets if bound <= 100)
    assert below == pytest.approx(100, abs=10)
    assert figures_of([]).histogram() == []


def test_other_operations_stand_apart() -> None:
    """A slow enrolment is no slow renewal."""
    figures = figures_of([0.01] * 10)
    figures.succeeded("enrolment", 2.0)
    summary = figures.summary()
    assert summary["max_ms"] == 10.0
    assert summary["others"] == {"enrolment": {"count": 1, "p50_ms": 2000.0, "p99_ms": 2000.0}}


@pytest.mark.parametrize("limit", [3.0, 90.0, 100.0, 101.0, 1234.0])
def test_the_search_finds_the_highest_rate(limit: float) -> None:
    """From below and from above, within its resolution."""
    tried = []

    async def sustains(rate: float) -> bool:
        tried.append(rate)
        return rate <= limit

    found = asyncio.run(highest_rate(sustains, 100.0))
    assert limit / RESOLUTION <= found <= limit
    assert len(tried) < 40


def test_the_search_forgives_one_disturbance() -> None:
    """A rate that fails once and then passes is sustained."""
    failed: set[float] = set()

    async def sustains(rate: float) -> bool:
        if rate <= 500 and rate not in failed:
            failed.add(rate)
            return False
        return rate <= 500

    assert asyncio.run(highest_rate(sustains, 100.0)) >= 500 / RESOLUTION


def test_the_search_ends_where_nothing_is_sustained() -> None:
    """A verifier that answers nothing has the rate 0."""

    async def never(_rate: float) -> bool:
        return False

    assert asyncio.run(highest_rate(never, 100.0)) == 0.0


@pytest.mark.parametrize("draw", [by_percentile, over_time])
def test_charts_are_drawn_inside_their_frame(draw: object) -> None:
    """Well-formed, one curve a run, no point outside the page, labels escaped."""
    assert callable(draw)
    runs = [
        ("a<b", figures_of([0.0005 * (1 + number) for number in range(3000)])),
        ("slow", figures_of([20.0] * 30)),
    ]
    text = draw(runs, "10 nodes & more", 100.0)
    root = ET.fromstring(text)  # noqa: S314 - made here
    space = "{http://www.w3.org/2000/svg}"
    curves = root.findall(f"{space}polyline")
    assert len(curves) == 2
    for curve in curves:
        for point in curve.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 70 <= x <= 670
            assert 60 <= y <= 400
    labels = {each.text for each in root.findall(f"{space}text")}
    assert {"a<b", "slow", "10 nodes & more", "limit 100 ms"} <= labels


def test_a_report_is_whole(tmp_path: Path) -> None:
    """Every file is written, and the table names what failed."""
    good, bad = figures_of([0.01] * 200), figures_of([0.02] * 200)
    bad.failed("busy", 0.5)
    write_all(tmp_path / "out", SETTING, [("25%", good), ("90%", bad)])
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        *("runs.csv", "intervals.csv", "histogram.csv", "report.json"),
        *("percentiles.svg", "timeline.svg"),
    }
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [run["errors"] for run in report["runs"]] == [{}, {"busy": 1}]
    assert report["setting"]["nodes"] == 10
    text = table(SETTING, [("25%", good), ("90%", bad)])
    assert "busy 1" in text
    assert "none" in text
