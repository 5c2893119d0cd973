"""Every way in which a lease's end could fail to stop what runs, made to happen.

Each function brings one about and returns when the lease was over, when the break happened and
when the last process of the tree ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bootlease.testing.fences import Fence
from bootlease.testing.leashed import Felled, Leashed, lease_end
from bootlease.testing.treewatch import boottime
from tests.breaks.node_stage import NodeStage, shorten, wait_until
from tests.breaks.shifted_clock import ShiftedClock
from tests.breaks.stage import LIFE, PATIENCE

GONE: Final = 0.05
"""Longest from the end of a lease, or from what ends a tree at once, to the last process's end."""

STOPPED_TOO: Final = GONE + 0.02
"""The same where the guard cannot: the kernel's own timer is set 20 ms after the lease's end."""

NEXT_RENEWAL: Final = LIFE / 3 + 1.0
"""Longest until the verifier is asked again, and has refused."""

SHORT: Final = 1.0
"""Seconds that a scripted lease goes on after the break."""

MANY: Final = 64
"""Processes and threads that a fork bomb and its guard, which has three, are allowed here."""

HOUR: Final = 3600.0

LITTLE: Final = 192 << 20
"""Bytes of memory that a guard with its tree is allowed where it runs out."""

LAPSED: Final = 122
REFUSED: Final = 121
KILLED: Final = -signal.SIGKILL
BROKEN: Final = 125


@dataclass(frozen=True, slots=True)
class NodeOutcome:
    """What came of a break.

    Attributes:
        felled: How the tree ended.
        broken_at: When it was brought about (CLOCK_BOOTTIME).
    """

    felled: Felled
    broken_at: float

    @property
    def took(self) -> float:
        """Seconds from the break to the end of the last process."""
        return self.felled.last_gone - self.broken_at

    @property
    def outlived(self) -> float:
        """Seconds from the end of the lease to that of the last process."""
        return self.felled.outlived


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A break on the node.

    Attributes:
        name: A short name; what happens is said by ``run``.
        by: What ends the tree.
        within: Seconds that the tree may outlive its lease by; with ``at_once``, the break.
        run: Brings it about.
        codes: How the guard may end.
        at_once: The tree must not wait for the end of the lease.
        for_root: Only root can bring it about.
        alone: It would spoil what is measured beside it.
    """

    name: str
    by: str
    within: float
    run: Callable[[NodeStage], NodeOutcome]
    codes: tuple[int, ...] = (LAPSED,)
    at_once: bool = False
    for_root: bool = False
    alone: bool = False

    def held(self, outcome: NodeOutcome, *, slack: float = 0.0) -> bool:
        """Tell whether the tree ended in time, not before its lease, and for the right reason."""
        late = outcome.took if self.at_once else outcome.outlived
        early = not self.at_once and bool(outcome.felled.early)
        return late <= self.within + slack and not early and outcome.felled.code in self.codes


# -- with a real agent


def agent_killed(stage: NodeStage) -> NodeOutcome:
    """The agent is killed."""
    with stage.node("k") as node, stage.tree(node, "agent-killed", "plain") as (tree, lookout):
        at = boottime()
        node.signal(signal.SIGKILL)
        return NodeOutcome(tree.fell(lookout.end()), at)


def agent_stopped(stage: NodeStage) -> NodeOutcome:
    """The agent is stopped (SIGSTOP)."""
    with stage.node("s") as node, stage.tree(node, "agent-stopped", "plain") as (tree, lookout):
        at = boottime()
        node.signal(signal.SIGSTOP)
        return NodeOutcome(tree.fell(lookout.end()), at)


def network_cut(stage: NodeStage) -> NodeOutcome:
    """The node does not reach its verifier any more."""
    with stage.node("c") as node, stage.tree(node, "network-cut", "plain") as (tree, lookout):
        at = boottime()
        stage.real.network.cut.add(node.id)
        tree.watch.wait_for_end(tree.name, PATIENCE)
        return NodeOutcome(tree.fell(lookout.end()), at)


def node_revoked(stage: NodeStage) -> NodeOutcome:
    """The operator revokes the node; its next renewal is refused."""
    with stage.node("r") as node, stage.tree(node, "node-revoked", "plain") as (tree, _):
        at = boottime()
        wish = {"kind": "node", "subject": node.id, "reason": "a test"}
        stage.real.ask("revocations", json.dumps(wish).encode())
        return NodeOutcome(tree.fell(at), at)


def guard_killed(stage: NodeStage) -> NodeOutcome:
    """The guard is killed."""
    with stage.tree(stage.shared(), "guard-killed", "plain", "daemon") as (tree, _):
        at = boottime()
        tree.guard.kill()
        return NodeOutcome(tree.fell(at), at)


def guard_stopped(stage: NodeStage) -> NodeOutcome:
    """The guard is stopped (SIGSTOP), while the agent goes on renewing."""
    with stage.tree(stage.shared(), "guard-stopped", "plain", "daemon") as (tree, lookout):
        # Between two renewals, so that it is certain what the guard was told last.
        heard = len(lookout.heard)
        wait_until(lambda: len(lookout.heard) > heard, "a renewal")
        time.sleep(LIFE / 12)
        at = boottime()
        tree.guard.send_signal(signal.SIGSTOP)
        end = lease_end(lookout.last(at))
        return NodeOutcome(tree.fell(end), at)


def leash_killed(stage: NodeStage) -> NodeOutcome:
    """The leash is killed."""
    with stage.tree(stage.shared(), "leash-killed", "plain", "daemon") as (tree, _):
        at = boottime()
        os.kill(tree.leash, signal.SIGKILL)
        return NodeOutcome(tree.fell(at), at)


def verifier_down(stage: NodeStage) -> NodeOutcome:
    """The verifier is gone (SIGKILL)."""
    with stage.tree(stage.shared(), "verifier-down", "plain", "daemon") as (tree, lookout):
        at = boottime()
        stage.real.verifier.kill()
        tree.watch.wait_for_end(tree.name, PATIENCE)
        return NodeOutcome(tree.fell(lookout.end()), at)


# -- what concerns the leash alone: a scripted agent


def _lapse(stage: NodeStage, name: str, *kinds: str) -> NodeOutcome:
    with stage.scripted(name, *kinds) as (tree, agent):
        at = boottime()
        return NodeOutcome(tree.fell(shorten(agent, SHORT)), at)


def _stop(stage: NodeStage, name: str, whom: Callable[[Leashed], tuple[int, ...]]) -> NodeOutcome:
    with stage.scripted(name, "plain", "daemon") as (tree, agent):
        end = shorten(agent, SHORT)
        # They know of that lease when they are stopped.
        time.sleep(SHORT / 4)
        at = boottime()
        for pid in whom(tree):
            os.kill(pid, signal.SIGSTOP)
        return NodeOutcome(tree.fell(end), at)


def leash_stopped(stage: NodeStage) -> NodeOutcome:
    """The leash is stopped (SIGSTOP), and the agent dies."""
    return _stop(stage, "leash-stopped", lambda tree: (tree.leash,))


def both_stopped(stage: NodeStage) -> NodeOutcome:
    """Guard and leash are stopped (SIGSTOP), and the agent dies."""
    return _stop(stage, "both-stopped", lambda tree: (tree.guard.pid, tree.leash))


def fork_bomb(stage: NodeStage) -> NodeOutcome:
    """A fork bomb runs, in a cgroup that lets it have 64 processes."""
    with (
        Fence.make("pids", MANY) as fence,
        stage.scripted("fork-bomb", "fork-bomb", entering=fence.entering) as (tree, agent),
    ):
        wait_until(lambda: len(fence.members()) >= MANY - 4, "the bomb")
        tree.grown = tree.watch.wait_for(tree.name, MANY - 4, 10)
        at = boottime()
        return NodeOutcome(tree.fell(shorten(agent, SHORT)), at)


def daemon(stage: NodeStage) -> NodeOutcome:
    """A daemon has left session and terminal (setsid)."""
    return _lapse(stage, "daemon", "daemon*3")


def double_fork(stage: NodeStage) -> NodeOutcome:
    """Daemons have lost their parents (double fork)."""
    return _lapse(stage, "double-fork", "double-fork*3")


def stopped_children(stage: NodeStage) -> NodeOutcome:
    """Children are stopped, one of them by a debugger; others ignore every signal."""
    return _lapse(stage, "stopped", "stopped*2", "traced", "deaf")


def _frozen(stage: NodeStage, name: str, *, unified: bool) -> NodeOutcome:
    with (
        Fence.make("freezer", unified=unified) as fence,
        stage.scripted(name, "plain*2") as (tree, agent),
    ):
        for process in tree.grown.alive():
            if process.pid not in {tree.guard.pid, tree.leash}:
                fence.take(process.pid)
        fence.freeze()
        at = boottime()
        return NodeOutcome(tree.fell(shorten(agent, SHORT)), at)


def frozen_children(stage: NodeStage) -> NodeOutcome:
    """All of the tree is moved to another cgroup (v2) and frozen."""
    return _frozen(stage, "frozen", unified=True)


def frozen_children_v1(stage: NodeStage) -> NodeOutcome:
    """All of the tree is moved to a cgroup of the v1 freezer and frozen."""
    return _frozen(stage, "frozen-v1", unified=False)


def setuid_child(stage: NodeStage) -> NodeOutcome:
    """Children change their user id, and execute a set-user-ID file."""
    return _lapse(stage, "setuid", "setuid", "setuid-file")


def static_binary(stage: NodeStage) -> NodeOutcome:
    """A child executes a statically linked file, without an environment."""
    return _lapse(stage, "static", "static*2")


def closed_descriptors(stage: NodeStage) -> NodeOutcome:
    """Children close every file descriptor that they have."""
    return _lapse(stage, "closed", "closed*2")


def nested_namespace(stage: NodeStage) -> NodeOutcome:
    """A child makes user and pid namespaces of its own."""
    return _lapse(stage, "nested", "nested*2")


def out_of_memory(stage: NodeStage) -> NodeOutcome:
    """A child takes all memory there is, again and again, in a cgroup of 192 MiB with its guard."""
    with (
        Fence.make("memory", LITTLE) as fence,
        stage.scripted("memory", "memory", entering=fence.entering) as (tree, agent),
    ):
        wait_until(lambda: fence.kills() > 1, "the end of the memory")
        # Whom the kernel takes is its own choice, among the others.
        first = {tree.leash, tree.workload}
        tree.grown.processes[:] = [each for each in tree.grown.processes if each.pid in first]
        at = boottime()
        return NodeOutcome(tree.fell(shorten(agent, SHORT)), at)


# -- clocks, moved under guard and leash alone


def _clock(
    stage: NodeStage, name: str, change: Callable[[ShiftedClock], None], *, lapse: bool
) -> NodeOutcome:
    with contextlib.ExitStack() as stack:
        clock = ShiftedClock.build(stage.folder_of(name))
        tree, agent = stack.enter_context(
            stage.scripted(name, "plain", "daemon", environment=clock.environment, life=LIFE)
        )
        end = shorten(agent, SHORT) if lapse else 0.0
        at = boottime()
        change(clock)
        return NodeOutcome(tree.fell(end or at), at)


def clock_forward(stage: NodeStage) -> NodeOutcome:
    """The wall clock is set an hour forward while the lease lives."""
    return _clock(stage, "clock-forward", lambda clock: clock.shift(wall=HOUR), lapse=False)


def clock_back(stage: NodeStage) -> NodeOutcome:
    """The wall clock is set an hour back, and the agent dies."""
    return _clock(stage, "clock-back", lambda clock: clock.shift(wall=-HOUR), lapse=True)


def suspended(stage: NodeStage) -> NodeOutcome:
    """The machine sleeps for an hour; measured from its waking."""
    return _clock(stage, "suspended", lambda clock: clock.sleep(HOUR), lapse=False)


def real_clock_forward(stage: NodeStage) -> NodeOutcome:
    """The machine's own wall clock is set 10 s forward, and back once the tree is gone."""
    return _real_clock(stage, "real-forward", 10.0, lapse=False)


def real_clock_back(stage: NodeStage) -> NodeOutcome:
    """The machine's own wall clock is set 10 s back until the tree is gone; the agent dies."""
    return _real_clock(stage, "real-back", -10.0, lapse=True)


def _real_clock(stage: NodeStage, name: str, seconds: float, *, lapse: bool) -> NodeOutcome:
    with stage.scripted(name, "plain", "daemon", life=LIFE) as (tree, agent):
        end = shorten(agent, SHORT) if lapse else 0.0
        at = boottime()
        try:
            time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)
            tree.watch.wait_for_end(tree.name, 2 * LIFE)
        finally:
            time.clock_settime(time.CLOCK_REALTIME, time.time() - seconds)
        return NodeOutcome(tree.fell(end or at), at)


_GUARD: Final = "the guard"
_BOTH: Final = "the guard and, by itself, the leash"
_CONTINUED: Final = "the guard, which the kernel lets go on, and, by itself, the leash"
_AWAKE: Final = "the guard or the kernel's timer on it, whichever is first"
_ALONE: Final = "the guard, which the kernel lets go on"
_ORPHANS: Final = "the kernel: the leash dies with the guard, its namespace with it"

REAL: Final = (
    NodeRow("agent killed", _BOTH, GONE, agent_killed),
    NodeRow("agent stopped", _BOTH, GONE, agent_stopped),
    NodeRow("network cut", _BOTH, GONE, network_cut),
    NodeRow("node revoked", _GUARD, NEXT_RENEWAL, node_revoked, (REFUSED,), at_once=True),
    NodeRow("guard killed", _ORPHANS, GONE, guard_killed, (KILLED,), at_once=True),
    NodeRow("guard stopped", _CONTINUED, STOPPED_TOO, guard_stopped),
    NodeRow("leash killed", "the kernel", GONE, leash_killed, (BROKEN,), at_once=True),
)
"""Breaks of real agents, beside each other."""

SHAPES: Final = (
    NodeRow("leash stopped", _GUARD, GONE, leash_stopped),
    NodeRow("guard and leash stopped", _ALONE, STOPPED_TOO, both_stopped),
    NodeRow("fork bomb", _BOTH, GONE, fork_bomb, for_root=True, alone=True),
    NodeRow("setsid daemon", _BOTH, GONE, daemon),
    NodeRow("double fork", _BOTH, GONE, double_fork),
    NodeRow("stopped children", _BOTH, GONE, stopped_children),
    NodeRow("frozen children, cgroup v2", _BOTH, GONE, frozen_children, for_root=True),
    NodeRow(
        *("frozen children, cgroup v1", "the guard, which thaws them", GONE, frozen_children_v1),
        for_root=True,
    ),
    NodeRow("setuid child", _BOTH, GONE, setuid_child, for_root=True),
    NodeRow("static binary", _BOTH, GONE, static_binary),
    NodeRow("closed descriptors", _BOTH, GONE, closed_descriptors),
    NodeRow("nested namespaces", _BOTH, GONE, nested_namespace),
    NodeRow("out of memory", _BOTH, GONE, out_of_memory, for_root=True, alone=True),
    NodeRow("clock forward", _AWAKE, GONE, clock_forward, (LAPSED, KILLED), at_once=True),
    NodeRow("clock back", _BOTH, GONE, clock_back),
    NodeRow("suspend", _AWAKE, GONE, suspended, (LAPSED, KILLED), at_once=True),
)
"""What concerns guard, leash and tree alone."""

LAST: Final = (NodeRow("verifier down", _BOTH, GONE, verifier_down),)
"""What concerns everybody."""

REAL_CLOCK: Final = (
    NodeRow(
        *("clock forward, the machine's own", _AWAKE, GONE, real_clock_forward, (LAPSED, KILLED)),
        at_once=True,
        alone=True,
    ),
    NodeRow("clock back, the machine's own", _BOTH, GONE, real_clock_back, alone=True),
)
"""Only where nothing else runs that looks at the clock."""
