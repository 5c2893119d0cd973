"""Does anything outlive its lease, or end before it, on a machine that is loaded?

    python -m bench.trees [--runs 1000] [--beside 4] [--seed 1] [--quiet] [--out docs/breaks.md]

Starts trees of every shape under `bootlease run`, with leases of random short life from an agent
that is scripted, while all processors and much memory are wanted by others. A watcher outside tells
when each process ends. Exit code 1 where one outlived its lease by more than 100 ms, or ended while
it lived.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.breaks_page import measured_on, write_section
from bench.trees.load import load
from bench.trees.plan import LONGEST, SHORTEST, End
from bench.trees.runs import OUTLIVES, Verdict, figures, run_all

TITLE: Final = "Under load"

_SECTION: Final = """\
{runs:,} trees of random shape, {processes:,} processes, {beside} trees at a time, under
`bootlease run` with leases of {shortest} to {longest} s, up to three times renewed, from a scripted
agent. Beside them: {load}.
From the end of the lease to the end of the tree's last process:

{table}

Trees that outlived their lease by more than 100 ms: {late}. Processes that ended while it lived:
{early}. {stalls}

{measured}
"""


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.trees",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=1000, help="(%(default)s)")
    parser.add_argument("--beside", type=int, default=4, help="at once (%(default)s)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="of chance")
    parser.add_argument("--quiet", action="store_true", help="without load")
    parser.add_argument("--out", type=Path, help="page to write")
    options = parser.parse_args()
    print(f"leash: seed {options.seed}", file=sys.stderr)

    def progress(done: int) -> None:
        if done % 50 == 0 or done == options.runs:
            print(f"leash: {done} of {options.runs} runs", file=sys.stderr, flush=True)

    with (
        tempfile.TemporaryDirectory(prefix="bll-") as folder,
        contextlib.nullcontext("nothing") if options.quiet else load() as what,
    ):
        Path(folder).chmod(0o755)
        verdict = run_all(
            Path(folder),
            options.runs,
            seed=options.seed,
            beside=options.beside,
            progress=progress,
        )
        verdict.load = what
    for name, count in verdict.counts().items():
        print(f"{count:>8} {name}")
    print(_table(verdict))
    print(verdict.stalls.text())
    for complaint in verdict.complaints[:100]:
        print(f"WRONG: {complaint}")
    for run in verdict.runs:
        if run.complaint and run.felled is not None:
            stalled = verdict.stalls.between(run.felled.lease_end, run.felled.last_gone)
            print(
                f"run {run.plan.number}: a processor stood still for {stalled * 1000:.0f} ms then"
            )
    if options.out is not None:
        write_section(options.out, TITLE, section(verdict, options.beside))
    return 1 if verdict.complaints else 0


def _table(verdict: Verdict) -> str:
    lines = [
        "| how the lease ended | runs | median | 99 of 100 within | worst |",
        "|---|---|---|---|---|",
    ]
    for end in (*End, None):
        seconds = verdict.outlived(end)
        if seconds:
            median, most, worst = (f"{each * 1000:.1f} ms" for each in figures(seconds))
            name = "all" if end is None else end.value
            lines.append(f"| {name} | {len(seconds)} | {median} | {most} | {worst} |")
    return "\n".join(lines)


def section(verdict: Verdict, beside: int) -> str:
    """Return the page's section."""
    counts = verdict.counts()
    late = sum(each > OUTLIVES for each in verdict.outlived())
    return _SECTION.format(
        runs=counts["runs"],
        processes=counts["processes"],
        beside=beside,
        shortest=SHORTEST,
        longest=LONGEST,
        load=verdict.load,
        table=_table(verdict),
        late=late,
        early=counts["ended before their lease"],
        stalls=verdict.stalls.text(),
        measured=measured_on(f"in {verdict.seconds / 60:.0f} min", "`make trees`"),
    )


if __name__ == "__main__":
    raise SystemExit(main())
