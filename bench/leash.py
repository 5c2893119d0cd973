"""How soon after its lease the last process of a workload is gone; what a leash costs.

Run: ``python bench/leash.py [--runs N] [--load] [--json]``. Real processes, and an agent that
grants one lease and renews none. A row's times are from the lease's end to when each process of
the tree, the leash among them, was seen to have ended, through pidfds; no look at a clock of the
guard's is believed. As root, rows for an ordinary user are measured beside those for root.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bootlease.leash.sweep import descendants
from bootlease.testing.scripted_agent import ScriptedAgent

NOBODY: Final = 65534
PATIENCE: Final = 20.0
LIFE: Final = 2.5
PYTHON: Final = (sys.executable, "-I", "-S", "-c")
TREES: Final = {
    "one process": (2, "import time; time.sleep(60)"),
    "daemon": (3, "import os, time\nif os.fork() == 0: os.setsid()\ntime.sleep(60)"),
    "stopped": (3, "import os, time\nif os.fork() == 0: os.kill(os.getpid(), 19)\ntime.sleep(60)"),
    "100 busy": (90, "import os\nfor _ in range(100):\n if not os.fork(): break\nwhile True: pass"),
}


WATCH: Final = """
import os, select, sys, time
try: os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))
except PermissionError: pass
poll, ended = select.poll(), []
for fd in sys.argv[1:]: poll.register(int(fd), select.POLLIN)
while len(ended) < len(sys.argv) - 1:
    ready = poll.poll()
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    for fd, _ in ready:
        poll.unregister(fd)
        ended.append(now)
print(*ended)
"""


@dataclass(frozen=True)
class Row:
    """What was measured of one tree at one level.

    Attributes:
        tree: Which.
        level: At which.
        user: As whom.
        acted: Who was stopped before the end, if anybody.
        median_ms: From the end of the lease to the last process gone.
        worst_ms: The same, of the worst run.
        early_ms: How long before the end the first process of any run was gone; 0 for never.
    """

    tree: str
    level: int
    user: str
    acted: str
    median_ms: float
    worst_ms: float
    early_ms: float


def boottime() -> float:
    """Return seconds of CLOCK_BOOTTIME."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@contextlib.contextmanager
def leashed(
    command: Sequence[str], options: Sequence[str], *, nobody: bool, life: float = LIFE
) -> Iterator[tuple[ScriptedAgent, subprocess.Popen[bytes]]]:
    """Run a command on a leash, with an agent of its own."""
    folder = Path(tempfile.mkdtemp(prefix="bl-bench-"))
    folder.chmod(0o755)
    user = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    with ScriptedAgent(folder / "socket", life=life) as agent:
        agent.path.chmod(0o666)
        guard = subprocess.Popen(  # noqa: S603
            [
                *(user if nobody else []),
                *(sys.executable, "-m", "bootlease", "run", "--scope", "a", "--audience", "b"),
                *("--socket", str(agent.path), *options, "--", *command),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield agent, guard
        finally:
            guard.kill()
            guard.wait(PATIENCE)
            if guard.stdout is not None:
                guard.stdout.close()
            shutil.rmtree(folder)


def lapse(tree: str, level: int, stopped: str, *, nobody: bool) -> tuple[float, float]:
    """Let one lease lapse; return ms from its end to the first and the last process gone."""
    least, program = TREES[tree]
    with leashed([*PYTHON, program], ["--level", str(level)], nobody=nobody) as (agent, guard):
        agent.wait_for_streams(1, PATIENCE)
        end = next(iter(agent.standing.values())).deadline
        while len(pids := descendants(guard.pid)) < least and boottime() < end - 0.2:
            time.sleep(0.01)
        if stopped:
            os.kill(guard.pid, signal.SIGSTOP)
        if stopped == "both":
            os.kill(min(pids), signal.SIGSTOP)
        ended = _ends([os.pidfd_open(pid) for pid in pids])
    return (min(ended) - end) * 1000, (max(ended) - end) * 1000


def _ends(fds: list[int]) -> list[float]:
    # In a process of its own: the agent's threads here would hold up who measures.
    numbers = [str(fd) for fd in fds]
    try:
        watcher = subprocess.run(  # noqa: S603
            [*PYTHON, WATCH, *numbers],
            pass_fds=fds,
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        )
    finally:
        for fd in fds:
            os.close(fd)
    return [float(text) for text in watcher.stdout.split()]


def rows(runs: int) -> Iterator[Row]:
    """Measure every row ``runs`` times."""
    cases = [(tree, "") for tree in TREES] + [("daemon", "guard"), ("daemon", "both")]
    ways = [(1, True), (1, False), (2, False)] if os.geteuid() == 0 else [(1, False)]
    for tree, stopped in cases:
        for level, nobody in ways:
            times = [lapse(tree, level, stopped, nobody=nobody) for _ in range(runs)]
            last = [after for _, after in times]
            yield Row(
                tree,
                level,
                "nobody" if nobody else "root" if os.geteuid() == 0 else "user",
                stopped,
                round(statistics.median(last), 1),
                round(max(last), 1),
                round(max(0.0, -min(before for before, _ in times)), 1),
            )


def costs(runs: int) -> dict[str, float]:
    """Measure what a leash costs: ms until the workload runs, and memory beside it."""
    starts, bare = [], []
    memory: dict[str, int] = {}
    for _ in range(runs):
        begun = time.perf_counter()
        subprocess.run(["sh", "-c", "echo"], check=True, stdout=subprocess.DEVNULL)  # noqa: S607
        bare.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        with leashed(["sh", "-c", "echo; exec sleep 60"], [], nobody=False, life=60) as (_, guard):
            if guard.stdout is not None:
                guard.stdout.readline()
            starts.append(time.perf_counter() - begun)
            time.sleep(0.2)
            leash = min(descendants(guard.pid))
            memory = {"guard": proportional_kb(guard.pid), "leash": proportional_kb(leash)}
            guard.terminate()
            guard.wait(PATIENCE)
    return {
        "start_ms": round(statistics.median(starts) * 1000, 1),
        "bare_ms": round(statistics.median(bare) * 1000, 1),
        "guard_kb": memory["guard"],
        "leash_kb": memory["leash"],
    }


def proportional_kb(pid: int) -> int:
    """Return a process's proportional set size."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


@contextlib.contextmanager
def load(*, wanted: bool) -> Iterator[None]:
    """Keep every processor busy fourfold, if wanted."""
    count = 4 * (os.cpu_count() or 1) if wanted else 0
    busy = [subprocess.Popen([*PYTHON, "while True: pass"]) for _ in range(count)]  # noqa: S603
    try:
        yield
    finally:
        for process in busy:
            process.kill()
        for process in busy:
            process.wait()


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--load", action="store_true", help="under four busy processes a CPU")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with load(wanted=options.load):
        if not options.json:
            print(f"{'tree':12} level user   stopped  median ms   worst ms   early ms")
        table = []
        for row in rows(options.runs):
            table.append(asdict(row))
            if not options.json:
                print(
                    f"{row.tree:12} {row.level:5} {row.user:6} {row.acted or '-':7}"
                    f" {row.median_ms:10} {row.worst_ms:10} {row.early_ms:10}",
                    flush=True,
                )
    cost = costs(max(3, options.runs // 4))
    if options.json:
        print(json.dumps({"lapse": table, "cost": cost}))
    else:
        print(f"start {cost['start_ms']} ms (sh alone: {cost['bare_ms']} ms)")
        print(f"memory: guard {cost['guard_kb']} kB, leash {cost['leash_kb']} kB (PSS)")


if __name__ == "__main__":
    main()
