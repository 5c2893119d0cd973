"""Trees on leashes, many of them, under load: what outlives its lease, and what ends before it."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import secrets
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.trees.plan import End, Plan
from bench.trees.stalls import Stalls, noted_stalls
from bootlease.localapi import EndedReason
from bootlease.testing.fences import Fence
from bootlease.testing.leashed import Felled, Leashed, lease_end
from bootlease.testing.scripted_agent import ScriptedAgent
from bootlease.testing.treewatch import TreeWatch, boottime

OUTLIVES: Final = 0.1
"""Seconds by which no process may outlive its lease."""

_GROWING: Final = 600.0
"""Life of a lease while its tree grows: how long that takes under load is not measured."""

_RENEWED_AT: Final = 0.5
_LATEST: Final = 0.15
"""A renewal that would come so shortly before the end is not sent: it may be read too late."""

_BOMB: Final = 48
_PREFERRED: Final = -15
_STOPS: Final = {End.GUARD_STOPPED, End.LEASH_STOPPED, End.BOTH_STOPPED}


@dataclass(frozen=True, slots=True)
class Run:
    """One run, done.

    Attributes:
        plan: What was to be.
        felled: How the tree ended; None where it never stood.
        processes: How many it had.
        complaint: What was wrong, or an empty string.
    """

    plan: Plan
    felled: Felled | None
    processes: int
    complaint: str


@dataclass
class Verdict:
    """All runs.

    Attributes:
        runs: Each.
        load: What loaded the machine, in words.
        seconds: How long it took.
        stalls: When the machine itself stood still.
    """

    runs: list[Run] = field(default_factory=list)
    load: str = ""
    seconds: float = 0.0
    stalls: Stalls = field(default_factory=Stalls)

    @property
    def complaints(self) -> list[str]:
        """What was wrong."""
        return [f"run {run.plan.number}: {run.complaint}" for run in self.runs if run.complaint]

    def outlived(self, end: End | None = None) -> list[float]:
        """Return by how much trees outlived their leases, sorted, in seconds."""
        return sorted(
            run.felled.outlived
            for run in self.runs
            if run.felled is not None and end in {None, run.plan.end}
        )

    def counts(self) -> dict[str, int]:
        """Return how often what was."""
        counted = Counter(run.plan.end.value for run in self.runs)
        return {
            "runs": len(self.runs),
            "processes": sum(run.processes for run in self.runs),
            "ended before their lease": sum(
                len(run.felled.early) for run in self.runs if run.felled is not None
            ),
            f"trees that outlived their lease by more than {OUTLIVES * 1000:.0f} ms": sum(
                each > OUTLIVES for each in self.outlived()
            ),
            **{f"leases that ended so: {what}": count for what, count in counted.most_common()},
        }


def figures(seconds: list[float]) -> tuple[float, float, float]:
    """Return median, 99th of a hundred and worst."""
    return statistics.median(seconds), seconds[int(len(seconds) * 0.99)], seconds[-1]


def run_all(
    folder: Path,
    count: int,
    *,
    seed: int,
    beside: int,
    told_longer_by: float = 0.0,
    progress: Callable[[int], None] = lambda _: None,
) -> Verdict:
    """Run them.

    Args:
        folder: Private, with a short name: there are sockets in it.
        count: How many.
        seed: Of chance.
        beside: How many at once.
        told_longer_by: Seconds by which guards are told of longer leases than are measured by:
            for the test of the test.
        progress: Told after each how many are done.
    """
    with contextlib.suppress(OSError):
        # The agent here is not what is measured, and must not be late.
        os.setpriority(os.PRIO_PROCESS, 0, _PREFERRED)
    chance = random.Random(seed)  # noqa: S311 - to be drawn again
    plans = [Plan.draw(number, chance) for number in range(count)]
    verdict, done = Verdict(), itertools.count(1)
    began = time.monotonic()
    with (
        noted_stalls() as verdict.stalls,
        TreeWatch(f"leash-{secrets.token_hex(4)}-") as watch,
        ThreadPoolExecutor(beside) as pool,
    ):

        def one(plan: Plan) -> Run:
            made = _run(folder, watch, plan, told_longer_by)
            progress(next(done))
            return made

        verdict.runs = list(pool.map(one, plans))
    verdict.seconds = time.monotonic() - began
    return verdict


def _run(folder: Path, watch: TreeWatch, plan: Plan, told_longer_by: float) -> Run:
    with contextlib.ExitStack() as stack:
        kinds, entering = plan.kinds, list
        if plan.bomb:
            fence = stack.enter_context(Fence.make("pids", _BOMB))
            kinds, entering = (*kinds, "fork-bomb"), fence.entering  # type: ignore[assignment]
        agent = stack.enter_context(ScriptedAgent(folder / f"{plan.number}.api", life=_GROWING))
        try:
            tree = stack.enter_context(
                Leashed.grow(watch, folder / str(plan.number), agent.path, kinds, entering=entering)
            )
            felled = tree.fell(_live(plan, agent, tree) - told_longer_by)
        except (AssertionError, TimeoutError) as exc:
            return Run(plan, None, 0, str(exc))
        processes = len(watch.tree(tree.name).processes)
    return Run(plan, felled, processes, _complaint(plan, felled))


def _live(plan: Plan, agent: ScriptedAgent, tree: Leashed) -> float:
    """Grant and renew as planned, end the lease, and return its end."""
    end = 0.0
    for life in plan.lives:
        if end and boottime() > end - _LATEST:
            return end
        agent.grant(life)
        (granted,) = agent.standing.values()
        end = lease_end(granted)
        time.sleep(life * _RENEWED_AT)
    if boottime() > end - _LATEST:
        return end
    if plan.end is End.DEATH:
        agent.die()
    elif plan.end is End.REFUSAL:
        end = boottime()
        agent.end(EndedReason.REFUSED)
    elif plan.end in _STOPS:
        if plan.end is not End.GUARD_STOPPED:
            os.kill(tree.leash, signal.SIGSTOP)
        if plan.end is not End.LEASH_STOPPED:
            os.kill(tree.guard.pid, signal.SIGSTOP)
    return end


def _complaint(plan: Plan, felled: Felled) -> str:
    if felled.outlived > OUTLIVES:
        return f"{felled.outlived * 1000:.1f} ms after the lease ({plan}): {felled.said}"
    if felled.early:
        return f"ended {felled.lease_end - felled.last_gone:.3f} s early ({plan}): {felled.said}"
    return ""
