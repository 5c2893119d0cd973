"""The rows of verifier and relying party, run and written down."""

from __future__ import annotations

import inspect
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from bench.breaks_page import measured_on, missed
from tests.breaks.rows import APART, AT_ONCE, TOGETHER, Outcome, Row
from tests.breaks.stage import CONTINUITY, LEEWAY, LIFE, PATIENCE, Stage, stage

BESIDE: Final = 8
ROWS: Final = (*APART, *TOGETHER)
TITLE: Final = "At verifier and relying party"

_HEAD: Final = """\
A verifier process, agents on software TPMs, relying parties, HTTP between
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

_FOOT: Final = """
In CI every row runs once. A node that is broken into and stays as it booted, a relying party that
does not check, and what a TPM cannot show stand in the [attack list](attacks.md).
"""


class VerifierTable:
    """What was measured so far.

    Attributes:
        wrong: What did not hold.
    """

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self._measured: dict[str, list[float]] = {row.name: [] for row in ROWS}
        self._missed: Counter[str] = Counter()
        self._runs = 0

    def run(self) -> None:
        """Bring every row about once."""
        for row, outcome in _run():
            self._measured[row.name].append(outcome.seconds)
            if not row.held(outcome):
                self._missed[row.name] += 1
                self.wrong.append(f"{row.name}: {outcome.seconds:.1f} s, {outcome.said}")
                sys.stderr.write(f"{self.wrong[-1]}\n")
        self._runs += 1

    def text(self) -> str:
        """Return the section."""
        lines = [_line(row, self._measured[row.name]) for row in ROWS]
        return (
            _HEAD.format(life=LIFE, leeway=LEEWAY, continuity=CONTINUITY)
            + "".join(lines)
            + f"\n{missed(self._missed, self._runs)}\n"
            + f"\n{measured_on(f'{self._runs} runs, swtpm', '`make breaks`')}\n{_FOOT}"
        )


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
