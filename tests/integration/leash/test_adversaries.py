"""What others can do to a tree on a leash, and what it can do itself: the cells of docs/leash.md.

Attackers have the guard's user id and no capabilities, unless they are said to be root.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from bootlease.testing.branches import command
from bootlease.testing.fences import Fence
from bootlease.testing.leashed import Felled, Leashed, lease_end
from bootlease.testing.scripted_agent import ScriptedAgent
from bootlease.testing.treewatch import MARK, TreeWatch, boottime

pytestmark = pytest.mark.root

POWERLESS: Final = ("setpriv", "--bounding-set=-all,+setfcap", "--inh-caps=-all", "--")
"""Becomes a process of the same user without its capabilities."""

SOON: Final = 0.3
"""Seconds within which a tree is gone; exact times are measured by ``make breaks``."""

SHORT: Final = 0.8
REFUSED: Final = 1
LAPSED, KILLED, BROKEN = 122, -signal.SIGKILL, 125


@dataclass
class Arena:
    """Where trees grow.

    Attributes:
        folder: Private.
        watch: Sees them.
    """

    folder: Path
    watch: TreeWatch

    @contextlib.contextmanager
    def tree(
        self, *kinds: str, options: Sequence[str] = (), unprivileged: bool = False
    ) -> Iterator[tuple[Leashed, ScriptedAgent]]:
        """Grow a tree under a lease that lasts; the guard without capabilities, where wanted."""
        with ScriptedAgent(self.folder / "api", life=600) as agent:
            grown = Leashed.grow(
                self.watch,
                self.folder / "tree",
                agent.path,
                kinds or ("plain",),
                options=options,
                entering=(lambda guard: [*POWERLESS, *guard]) if unprivileged else list,
            )
            with grown:
                yield grown, agent

    @contextlib.contextmanager
    def workload(
        self, program: str, *arguments: str, options: Sequence[str] = ()
    ) -> Iterator[tuple[Leashed, ScriptedAgent]]:
        """Run a program on a leash; it says ``ready`` once it has done what it wants."""
        with ScriptedAgent(self.folder / "api", life=600) as agent:
            tree = Leashed.start(
                self.watch,
                self.folder / "tree",
                agent.path,
                [sys.executable, "-I", "-S", "-c", program, *arguments],
                options=options,
            )
            with tree:
                tree.wait_until_grown()
                yield tree, agent


@pytest.fixture
def arena() -> Iterator[Arena]:
    """A folder with a short name, for there are sockets in it."""
    with (
        tempfile.TemporaryDirectory(prefix="bla-") as folder,
        TreeWatch(f"adversaries-{secrets.token_hex(4)}-") as watch,
    ):
        Path(folder).chmod(0o755)
        yield Arena(Path(folder), watch)


def powerless(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program as a process of the same user without capabilities."""
    return subprocess.run(
        [*POWERLESS, sys.executable, "-I", "-S", "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


def signal_by(number: int, *pids: int) -> None:
    """Let a powerless process of the same user send a signal."""
    program = "import os, sys; [os.kill(int(p), int(sys.argv[1])) for p in sys.argv[2:]]"
    done = powerless(program, int(number), *pids)
    assert done.returncode == 0, done.stderr


def lapse(tree: Leashed, agent: ScriptedAgent) -> Felled:
    """Let the lease lapse, and wait for the tree's end."""
    agent.grant(SHORT)
    (granted,) = agent.standing.values()
    return tree.fell(lease_end(granted))


# -- a process of the same user, outside


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("victim", ["guard", "leash"])
def test_whoever_kills_guard_or_leash_kills_the_tree(arena: Arena, level: int, victim: str) -> None:
    """Killing what holds the tree ends it; that frees nobody."""
    with arena.tree("daemon", "stopped", options=("--level", str(level))) as (tree, _):
        at = boottime()
        signal_by(signal.SIGKILL, tree.guard.pid if victim == "guard" else tree.leash)
        felled = tree.fell(at)
        assert felled.outlived < SOON
        assert felled.code == (KILLED if victim == "guard" else BROKEN)


@pytest.mark.parametrize("level", [1, 2])
def test_whoever_kills_both_at_once_kills_the_tree(arena: Arena, level: int) -> None:
    """Killing guard and leash in one moment ends the tree."""
    with arena.tree("daemon", "stopped", options=("--level", str(level))) as (tree, _):
        at = boottime()
        signal_by(signal.SIGKILL, tree.guard.pid, tree.leash)
        assert tree.fell(at).outlived < SOON


@pytest.mark.parametrize("level", [0, 1, 2])
def test_stopping_all_three_gains_nothing(arena: Arena, level: int) -> None:
    """With guard, leash and workload stopped, the kernel lets the guard go on, which ends them."""
    with arena.tree("plain", "daemon", options=("--level", str(level))) as (tree, agent):
        agent.grant(SHORT)
        (granted,) = agent.standing.values()
        time.sleep(SHORT / 4)
        signal_by(signal.SIGSTOP, tree.guard.pid, tree.leash, tree.workload)
        felled = tree.fell(lease_end(granted))
        assert felled.outlived < SOON
        assert felled.early == ()
        assert felled.code == LAPSED


def test_stopping_and_continuing_gains_nothing(arena: Arena) -> None:
    """A guard and a leash that are stopped and continued all the time end in time."""
    with arena.tree("plain", "daemon") as (tree, agent):
        agent.grant(SHORT)
        (granted,) = agent.standing.values()
        ended = threading.Event()

        def tease() -> None:
            while not ended.wait(0.005):
                for number in (signal.SIGSTOP, signal.SIGCONT):
                    for pid in (tree.guard.pid, leash):
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, number)
                    time.sleep(0.005)

        leash = tree.leash
        teaser = threading.Thread(target=tease)
        teaser.start()
        try:
            felled = tree.fell(lease_end(granted))
        finally:
            ended.set()
            teaser.join()
        assert felled.outlived < SOON
        assert felled.early == ()


def test_a_stopped_tree_that_is_continued_in_time_lives_on(arena: Arena) -> None:
    """Nothing is ended by having been stopped, while the lease lives."""
    with arena.tree("plain") as (tree, agent):
        signal_by(signal.SIGSTOP, tree.guard.pid, tree.leash)
        time.sleep(0.2)
        signal_by(signal.SIGCONT, tree.guard.pid, tree.leash)
        time.sleep(0.2)
        assert tree.guard.poll() is None
        assert lapse(tree, agent).early == ()


EVERYTHING: Final = ["ptrace", "memory", "descriptor"]

_TRACE: Final = """
import ctypes, os, sys
pid, libc = int(sys.argv[1]), ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
done = []
for name, call in {
    "ptrace": lambda: libc.ptrace(0x4206, pid, None, None) == 0,
    "memory": lambda: bool(open(f"/proc/{pid}/mem", "rb")),
    "descriptor": lambda: libc.syscall(438, os.pidfd_open(pid), 0, 0) >= 0,
}.items():
    try:
        if call():
            done.append(name)
    except OSError:
        pass
print(*done)
"""


def reached(pid: int) -> list[str]:
    """Return what of a process a powerless one of the same user gets hold of."""
    done = powerless(_TRACE, pid)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_guard_cannot_be_traced(arena: Arena) -> None:
    """Same user, same capabilities: nobody gets into a guard, as into its workload."""
    with arena.tree("plain", unprivileged=True) as (tree, _):
        assert reached(tree.guard.pid) == []
        assert reached(tree.workload) == EVERYTHING


def test_a_leash_of_root_cannot_be_traced(arena: Arena) -> None:
    """Without root's capabilities nobody gets into a leash that root has laid."""
    with arena.tree("plain") as (tree, _):
        assert reached(tree.guard.pid) == []
        assert reached(tree.leash) == []


def test_a_leash_without_privileges_is_its_users(arena: Arena) -> None:
    """A leash in a user namespace is open to whoever made that: its own user, from outside."""
    with arena.tree("plain", unprivileged=True) as (tree, _):
        assert reached(tree.leash) == EVERYTHING


def test_slowing_the_guard_down_gains_nothing(arena: Arena) -> None:
    """A guard that runs only where nobody else wants to ends its tree in time all the same."""
    with arena.tree("plain", "busy", unprivileged=True) as (tree, agent):
        program = (
            "import os, sys\n"
            "pid = int(sys.argv[1])\n"
            "os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))\n"
            "os.setpriority(os.PRIO_PROCESS, pid, 19)\n"
        )
        done = powerless(program, tree.guard.pid)
        assert done.returncode == 0, done.stderr
        felled = lapse(tree, agent)
        assert felled.outlived < 2 * SOON
        assert felled.early == ()


def test_leaving_the_cgroup_gains_nothing(arena: Arena) -> None:
    """Whoever moves the tree out of its cgroup takes it from cgroup.kill, not from its leash."""
    with (
        Fence.make("freezer", unified=True) as elsewhere,
        arena.tree("plain", "daemon", options=("--require-level", "2")) as (tree, agent),
    ):
        for process in tree.grown.alive():
            if process.pid != tree.guard.pid:
                elsewhere.take(process.pid)
        felled = lapse(tree, agent)
        assert felled.outlived < SOON
        assert felled.early == ()


def test_whoever_enters_the_namespace_shares_its_end(arena: Arena) -> None:
    """A process that root puts into the tree's pid namespace ends with it."""
    with arena.tree("plain") as (tree, agent):
        entered = subprocess.Popen(
            ["nsenter", "--target", str(tree.leash), "--pid", "sleep", "60"],
            env={**os.environ, MARK: tree.name},
        )
        tree.watch.wait_for(tree.name, 5, 10)
        felled = lapse(tree, agent)
        assert entered.wait(10) != 0
        assert felled.outlived < SOON


# -- the workload itself

_ESCAPE: Final = """
import ctypes, json, os, pathlib, signal, subprocess, sys, time

def tried(what):
    try:
        return what()
    except (OSError, subprocess.SubprocessError) as exc:
        return type(exc).__name__

def run(*command):
    return subprocess.run(command, capture_output=True, timeout=10).returncode

def cgroups():
    left = []
    for line in open("/proc/self/mounts"):
        point, kind = line.split()[1:3]
        if kind.startswith("cgroup"):
            try:
                pathlib.Path(point, "cgroup.procs").write_text(str(os.getpid()))
                left.append(point)
            except OSError:
                pass
    return left

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
os.kill(1, signal.SIGKILL)
os.kill(1, signal.SIGSTOP)
os.kill(1, signal.SIGTERM)
said = {
    "processes": sorted(int(each) for each in os.listdir("/proc") if each.isdigit()),
    "parent": os.getppid(),
    "outside": tried(lambda: os.kill(int(sys.argv[1]), 0)),
    "traced": libc.ptrace(0x4206, 1, None, None),
    "namespaces": tried(lambda: run("nsenter", "--target", "1", "--pid", "--mount", "true")),
    "cgroups": cgroups(),
    "mounted": run("mount", "-t", "proc", "proc", "/proc"),
    "remounted": run("mount", "-o", "remount,rw", "/sys/fs/cgroup"),
}
pathlib.Path(sys.argv[2]).write_text(json.dumps(said))
if os.fork() == 0:
    os.setsid()
    os.fork()
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("level", [1, 2])
def test_a_workload_finds_no_way_out(arena: Arena, level: int) -> None:
    """It sees no process outside, cannot end or stop its leash, and leaves no cgroup."""
    found = arena.folder / "found"
    outside = subprocess.Popen(["sleep", "600"])
    try:
        arguments = (str(outside.pid), str(found))
        with arena.workload(_ESCAPE, *arguments, options=("--level", str(level))) as (tree, agent):
            felled = lapse(tree, agent)
    finally:
        outside.kill()
        outside.wait()
    said: dict[str, Any] = json.loads(found.read_text())
    assert said["parent"] == 1
    assert said["processes"][0] == 1
    assert len(said["processes"]) <= 3
    assert said["outside"] == "ProcessLookupError"
    assert said["traced"] == -1
    assert said["namespaces"] != 0
    assert said["cgroups"] == []
    assert said["mounted"] != 0
    assert said["remounted"] != 0
    assert felled.outlived < SOON
    assert felled.early == ()


# -- what a leash does not hold

_ASK: Final = """
import socket, sys, time
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect(sys.argv[1])
    asked.sendall(b"run")
    asked.recv(1)
print("ready", flush=True)
time.sleep(600)
"""


def test_what_a_service_outside_starts_outlives_the_lease(arena: Arena) -> None:
    """A service that was there before runs what it is asked to, as cron or Docker would."""
    path, started = arena.folder / "service", threading.Event()
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(3)
                outside = subprocess.Popen(["sleep", "600"])
                stack.callback(outside.wait)
                stack.callback(outside.kill)
                running.append(outside)
                started.set()
                connection.sendall(b"y")

        running: list[subprocess.Popen[bytes]] = []
        service = threading.Thread(target=serve)
        service.start()
        with arena.workload(_ASK, str(path)) as (tree, agent):
            assert started.wait(10)
            felled = lapse(tree, agent)
        service.join()
        assert felled.outlived < SOON
        time.sleep(0.1)
        assert running[0].poll() is None


_KILL_BOTH: Final = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    print("ready", flush=True)
    time.sleep(0.5)
    def parent(pid):
        return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
    leash = parent(os.getppid())
    for pid in (parent(leash), leash):
        os.kill(pid, signal.SIGKILL)
    time.sleep(600)
time.sleep(600)
"""


def test_level_0_does_not_hold_a_workload_that_kills_both(arena: Arena) -> None:
    """Where nothing but parentage holds it, a workload can end guard and leash, and live on."""
    with arena.workload(_KILL_BOTH, options=("--level", "0")) as (tree, _):
        assert tree.guard.wait(10) == KILLED
        time.sleep(SOON)
        assert tree.watch.tree(tree.name).alive() != []


@pytest.mark.parametrize(
    "kinds", [("daemon", "double-fork"), ("stopped", "deaf", "traced"), ("setuid", "nested")]
)
def test_level_0_sweeps_what_it_can(arena: Arena, kinds: tuple[str, ...]) -> None:
    """Without a namespace, what descends from the workload still ends with the lease."""
    with arena.tree(*kinds, options=("--level", "0")) as (tree, agent):
        felled = lapse(tree, agent)
        assert felled.outlived < SOON
        assert felled.early == ()
        assert felled.code == LAPSED


def test_a_level_that_cannot_be_had_starts_nothing(arena: Arena) -> None:
    """Who demands a level that needs a key of the TPM, without one, gets nothing started."""
    with ScriptedAgent(arena.folder / "api", life=600) as agent:
        tree = Leashed.start(
            arena.watch,
            arena.folder / "tree",
            agent.path,
            command("plain"),
            options=("--require-level", "3"),
        )
        with tree:
            assert tree.guard.wait(20) == 124
            assert agent.asks == []
