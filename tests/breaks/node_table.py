"""The rows of the node, run and written down."""

from __future__ import annotations

import inspect
import os
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from bench.breaks_page import measured_on, missed
from bootlease.testing.fences import has_freezer_v1
from tests.breaks.node_rows import LAST, REAL, REAL_CLOCK, SHAPES, NodeOutcome, NodeRow
from tests.breaks.node_stage import NodeStage, node_stage
from tests.breaks.stage import LIFE

BESIDE: Final = 4
TITLE: Final = "On the node"

_HEAD: Final = """\
A workload runs under `bootlease run`: guard, leash, and a tree of processes. Its lease comes from
a real agent on a software TPM and a real verifier (the first rows and the last; leases live for
{life} s), or from an agent that a test scripts, where the break is at guard, leash or tree. A
watcher outside reads `/proc` 400 times a second and holds a pidfd of every process of the tree.
Measured is, by CLOCK_BOOTTIME, the time from the end of the lease that the guard was told last to
the end of the tree's last process, and from the break to it. Where guard or leash are killed, where
the verifier refuses, or where a clock says that the lease is over, nothing waits for its end; in
all other rows no process may end before the lease does. Medians stand before the worst. Clocks
are moved under guard and leash alone, by a library that is preloaded.

| what breaks | what ends the tree | within | after the end | worst | after the break | worst |
|---|---|---|---|---|---|---|
"""


def rows() -> tuple[NodeRow, ...]:
    """Return the rows that this host can bring about: not each has a v1 freezer."""
    shapes = tuple(row for row in SHAPES if "v1" not in row.name or has_freezer_v1())
    return (*REAL, *shapes, *LAST)


class NodeTable:
    """What was measured so far.

    Args:
        real_clock: Whether the machine's own clock is moved, too.

    Attributes:
        wrong: What did not hold.
    """

    def __init__(self, *, real_clock: bool = False) -> None:
        self.wrong: list[str] = []
        mine = [row for row in rows() if os.geteuid() == 0 or not row.for_root]
        self._rows = (*mine, *(REAL_CLOCK if real_clock else ()))
        self._measured: dict[str, list[NodeOutcome]] = {row.name: [] for row in self._rows}
        self._missed: Counter[str] = Counter()
        self._runs = 0

    def run(self) -> None:
        """Bring every row about once."""
        with tempfile.TemporaryDirectory(prefix="blb-") as folder:
            Path(folder).chmod(0o755)
            with node_stage(Path(folder)) as stage:
                self._run(stage)
        self._runs += 1

    def _run(self, stage: NodeStage) -> None:
        apart = [row for row in self._rows if row in REAL or not (row.alone or row in LAST)]
        with ThreadPoolExecutor(BESIDE) as pool:
            for row, outcome in pool.map(lambda row: (row, _outcome(row, stage)), apart):
                self._note(row, outcome)
        for row in self._rows:
            if row not in apart:
                self._note(row, _outcome(row, stage))

    def _note(self, row: NodeRow, outcome: NodeOutcome | str) -> None:
        if isinstance(outcome, NodeOutcome):
            self._measured[row.name].append(outcome)
            if row.held(outcome):
                return
        self._missed[row.name] += 1
        self.wrong.append(f"{row.name}: {outcome}")
        sys.stderr.write(f"{self.wrong[-1]}\n")

    def text(self) -> str:
        """Return the section."""
        lines = [_line(row, self._measured[row.name]) for row in self._rows]
        measured = measured_on(f"{self._runs} runs", "`make breaks`")
        return (
            f"{_HEAD.format(life=LIFE)}{''.join(lines)}\n{missed(self._missed, self._runs)}\n\n"
            f"{measured}\nIn CI every row runs once.\n"
        )


def _outcome(row: NodeRow, stage: NodeStage) -> NodeOutcome | str:
    # One row that cannot be brought about must not lose what the others have measured.
    try:
        return row.run(stage)
    except (AssertionError, TimeoutError, OSError) as exc:
        return f"did not come about: {exc}"


def _line(row: NodeRow, outcomes: Sequence[NodeOutcome]) -> str:
    what = (inspect.getdoc(row.run) or "").rstrip(".")
    what = what[0].lower() + what[1:]
    unit = f"{row.within:.1f} s" if row.within > 1 else f"{row.within * 1000:.0f} ms"
    within = f"{unit} of the break" if row.at_once else f"{unit} of the lease's end"
    after_end = " | " if row.at_once else _figures([each.outlived for each in outcomes])
    after_break = _figures([each.took for each in outcomes])
    return f"| **{row.name}**: {what} | {row.by} | {within} | {after_end} | {after_break} |\n"


def _figures(seconds: Sequence[float]) -> str:
    if not seconds:
        return "not measured | not measured"
    return " | ".join(_time(each) for each in (statistics.median(seconds), max(seconds)))


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 0.2 else f"{seconds:.2f} s"
