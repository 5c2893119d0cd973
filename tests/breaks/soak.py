"""Break everything many times, and write down how long it went on (``make breaks``).

Run as ``python -m tests.breaks.soak --runs 20 [--out docs/breaks.md]``. Exits with 1 where a row
took longer than it may, or was refused for another reason than it must.
"""

from __future__ import annotations

import argparse
import datetime as dt
import inspect
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.breaks.rows import APART, AT_ONCE, TOGETHER, Outcome, Row
from tests.breaks.stage import CONTINUITY, LEEWAY, LIFE, PATIENCE, Stage, stage

BESIDE: Final = 8
ROWS: Final = (*APART, *TOGETHER)

_HEAD: Final = """\
# How authorization breaks, and how soon requests are refused

Every way that is known in which authorization breaks on the side of verifier and relying party,
brought about for real: a verifier process, agents on software TPMs, relying parties, HTTP between
them ([`tests/breaks`](../tests/breaks)). A workload calls every 0.1 s with the newest token that
its agent holds or, where the agent takes it away, with the last one, as a thief would. Measured is
the time from the break to the last call that was answered with success, to 0.1 s.

Here leases live for {life} s, clocks may differ by {leeway} s, and a continuity statement counts
for {continuity} s. A lease that nobody renews is over after its life and the leeway; a relying
party that has no word from its verifier goes on for the statement's time and the leeway; what is
revoked is pushed, within 2 s. What waits for the next renewal is found after a third of a life.

| what breaks | refused by | for | within | median | worst |
|---|---|---|---|---|---|
"""


def main() -> int:
    """Run, print and write the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.breaks.soak", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--out", type=Path, help="page to write")
    options = parser.parse_args()
    measured: dict[str, list[float]] = {row.name: [] for row in ROWS}
    wrong: list[str] = []
    for run in range(options.runs):
        for row, outcome in _run():
            measured[row.name].append(outcome.seconds)
            if not row.held(outcome):
                wrong.append(f"{row.name}: {outcome.seconds:.1f} s, {outcome.said}")
                sys.stderr.write(f"{wrong[-1]}\n")
        sys.stderr.write(f"run {run + 1} of {options.runs}\n")
        # After each, so that what was measured stays where somebody has no time for the rest.
        if options.out is not None:
            options.out.write_text(_page(measured, run + 1))
    if options.out is None:
        sys.stdout.write(_page(measured, options.runs))
    return 1 if wrong else 0


def _run() -> list[tuple[Row, Outcome]]:
    with (
        tempfile.TemporaryDirectory(prefix="bootlease-breaks-") as folder,
        stage(Path(folder)) as shared,
    ):
        with ThreadPoolExecutor(BESIDE) as pool:
            apart = list(pool.map(lambda row: _outcome(row, shared), APART))
        together = [_outcome(row, shared) for row in TOGETHER]
        return list(zip(ROWS, [*apart, *together], strict=True))


def _outcome(row: Row, shared: Stage) -> Outcome:
    # One row that cannot be brought about must not lose what the others have measured.
    try:
        return row.run(shared)
    except AssertionError as exc:
        return Outcome(PATIENCE, f"did not come about: {exc}")


def _page(measured: dict[str, Sequence[float]] | dict[str, list[float]], runs: int) -> str:
    lines = [_line(row, measured[row.name]) for row in ROWS]
    today = dt.datetime.now(dt.UTC).date()
    return (
        _HEAD.format(life=LIFE, leeway=LEEWAY, continuity=CONTINUITY)
        + "".join(lines)
        + f"\nMeasured on {today} in {runs} runs, {os.cpu_count()} cores, Python"
        f" {platform.python_version()}, swtpm; `make breaks` measures again. In CI every row runs"
        " once.\n\nA node that is broken into and stays as it booted, a relying party that does not"
        " check, and what a\nTPM cannot show stand in the [attack list](attacks.md)."
        " What ends a process on the node comes with the leash.\n"
    )


def _line(row: Row, seconds: Sequence[float]) -> str:
    what = (inspect.getdoc(row.run) or "").rstrip(".")
    findings = " or ".join(f"`{finding}`" for finding in row.findings)
    within = "at once" if row.within == AT_ONCE else f"{row.within:.1f} s"
    what = what if what[1].isupper() else what[0].lower() + what[1:]
    median, worst = statistics.median(seconds), max(seconds)
    return (
        f"| **{row.name}**: {what} | {row.by} | {findings} | {within} |"
        f" {median:.1f} s | {worst:.1f} s |\n"
    )


if __name__ == "__main__":
    sys.exit(main())
