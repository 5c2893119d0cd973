"""What is written of a measurement: CSV, JSON, charts, and a table to read."""

from __future__ import annotations

import csv
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.fleet.chart import by_percentile, over_time
from bench.fleet.figures import Figures
from bench.machine import cpu_model

Run = tuple[str, Figures]


@dataclass(frozen=True, slots=True)
class Setting:
    """What the figures were measured in.

    Attributes:
        nodes: Enrolled nodes when the runs began.
        connections: Connections of the generator.
        enrol_share: Share of arrivals that are enrolments.
        seed: Of the arrivals.
        durability: How the verifier's writes reach the disk.
        ledger: Whether answers are in the ledger.
        limit_ms: What the 99th percentile has to meet.
        generator: The generator's own ceiling.
    """

    nodes: int
    connections: int
    enrol_share: float
    seed: int
    durability: str
    ledger: str
    limit_ms: float
    generator: dict[str, float]

    def facts(self) -> dict[str, object]:
        """Return all of it, and the machine."""
        return {
            "machine": f"{cpu_model()}, {len(os.sched_getaffinity(0))} cores",
            "python": platform.python_version(),
            "load_average": round(os.getloadavg()[0], 2),
            "nodes": self.nodes,
            "connections": self.connections,
            "enrol_share": self.enrol_share,
            "seed": self.seed,
            "durability": self.durability,
            "ledger": self.ledger,
            "limit_ms": self.limit_ms,
            "generator": self.generator,
        }

    def caption(self) -> str:
        """Return it in a line."""
        return (
            f"{self.nodes} nodes, {self.connections} connections, open loop; {cpu_model()};"
            f" durability {self.durability}, ledger {self.ledger}"
        )


def write_all(folder: Path, setting: Setting, runs: Sequence[Run]) -> None:
    """Write every file of a report into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_runs(folder / "runs.csv", runs)
    with (folder / "intervals.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("run", *runs[0][1].intervals()[0]))
        for label, figures in runs:
            writer.writerows((label, *row.values()) for row in figures.intervals())
    with (folder / "histogram.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("run", "at_most_ms", "count"))
        for label, figures in runs:
            writer.writerows((label, *row) for row in figures.histogram())
    caption, limit = setting.caption(), setting.limit_ms
    (folder / "percentiles.svg").write_text(by_percentile(runs, caption, limit))
    (folder / "timeline.svg").write_text(over_time(runs, caption, limit))
    (folder / "report.json").write_text(json.dumps(document(setting, runs), indent=2) + "\n")


def _write_runs(path: Path, runs: Sequence[Run]) -> None:
    summaries = [{"run": label, **figures.summary()} for label, figures in runs]
    for summary in summaries:
        for name in ("others", "errors"):
            counts = summary[name]
            summary[name] = json.dumps(counts, sort_keys=True)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(summaries[0]))
        table.writeheader()
        table.writerows(summaries)


def document(setting: Setting, runs: Sequence[Run]) -> dict[str, object]:
    """Return the whole report as one JSON object."""
    return {
        "setting": setting.facts(),
        "runs": [{"run": label, **figures.summary()} for label, figures in runs],
    }


def table(setting: Setting, runs: Sequence[Run]) -> str:
    """Return the report as text."""
    lines = [f"# {name}: {value}" for name, value in setting.facts().items()]
    columns = (
        ("p50_ms", "p50"),
        ("p90_ms", "p90"),
        ("p99_ms", "p99"),
        ("p99.9_ms", "p99.9"),
        ("max_ms", "max"),
        ("verifier_cpu_ms_per_operation", "cpu/op"),
        ("generator_late_p99_ms", "gen late"),
        ("generator_cpu_share", "gen cpu"),
    )
    lines.append(
        f"{'run':>10} {'offered/s':>10} {'answered/s':>10}"
        + "".join(f"{title:>9}" for _, title in columns)
        + "  errors"
    )
    for label, figures in runs:
        summary = figures.summary()
        values = [summary.get(name) for name, _ in columns]
        cells = "".join(f"{'-' if value is None else value:>9}" for value in values)
        errors = ", ".join(f"{kind} {count}" for kind, count in figures.errors.items()) or "none"
        offered, answered = summary["offered_per_second"], summary["answered_per_second"]
        lines.append(f"{label:>10} {offered:>10} {answered:>10}{cells}  {errors}")
    for label, figures in runs:
        others = figures.summary()["others"]
        if others:
            lines.append(f"{label:>10} beside renewals: {json.dumps(others)}")
    lines.append("times in ms, from the moment a renewal was due; cpu/op is the verifier's")
    return "\n".join(lines)
