"""A lease lapses: the whole tree is gone, whatever it did to stay."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from bootlease.errors import TransportError
from bootlease.testing.fences import Fence
from tests.integration.leash.conftest import PYTHON, Start, Watched, as_nobody

SLACK: Final = 0.25
"""What a loaded test machine may add; bench/leash.py measures the real figure."""
ROUNDING: Final = 0.002
"""Deadlines are whole milliseconds on the wire, rounded down."""

TREES: Final = {
    "one process": (2, "import time; time.sleep(60)"),
    "forked twice": (
        3,
        (
            "import os, time\nif os.fork() == 0:\n os.fork() or time.sleep(60)\n os._exit(0)\n"
            "time.sleep(60)"
        ),
    ),
    "a session of its own": (
        3,
        "import os, time\nif os.fork() == 0: os.setsid()\ntime.sleep(60)",
    ),
    "stopped": (
        3,
        "import os, time\nif os.fork() == 0: os.kill(os.getpid(), 19)\ntime.sleep(60)",
    ),
    "stopped as a whole": (2, "import os\nos.kill(os.getpid(), 19)"),
    "deaf to signals": (
        3,
        (
            "import os, signal, time\nfor n in range(1, 32):\n"
            " if n not in (9, 19): signal.signal(n, 1)\nos.fork()\ntime.sleep(60)"
        ),
    ),
    "without descriptors": (
        3,
        "import os, time\nos.fork()\nos.closerange(0, 4096)\ntime.sleep(60)",
    ),
    "executing again and again": (
        2,
        (
            "import os, sys, time\nos.execv(sys.executable, [sys.executable, '-I', '-S', '-c',"
            " 'import time; time.sleep(60)'])"
        ),
    ),
    "a hundred busy processes": (
        60,
        "import os\nfor _ in range(100):\n if os.fork() == 0: break\nwhile True: pass",
    ),
    "threads": (
        2,
        (
            "import _thread, time\n"
            "for _ in range(20): _thread.start_new_thread(time.sleep, (60,))\ntime.sleep(60)"
        ),
    ),
}


def gone_in_time(tree: Watched, end: float) -> None:
    """Check that a tree was there until ``end``, and not after."""
    tree.wait()
    assert tree.first >= end - ROUNDING
    assert tree.last <= end + SLACK


@pytest.mark.parametrize("level", ["0", "1", "2"])
@pytest.mark.parametrize("name", TREES)
def test_tree_ends_with_its_lease(name: str, level: str, start: Start) -> None:
    """At every level everything that a workload made is gone when its lease lapses, not before."""
    least, program = TREES[name]
    leashed = start(*PYTHON, program, options=["--level", level])
    tree = leashed.tree(least, settled=True)
    gone_in_time(tree, leashed.deadline)
    ending = leashed.end()
    assert (ending["reason"], ending["returncode"]) == ("lapsed", 122)


@pytest.mark.parametrize("name", ["forked twice", "stopped", "a hundred busy processes"])
def test_tree_of_an_ordinary_user_ends(name: str, start: Start) -> None:
    """Unprivileged, in a user namespace, it is the same."""
    least, program = TREES[name]
    leashed = start(*PYTHON, program, prefix=as_nobody(), options=["--level", "1"])
    assert leashed.logged("laid")["level"] == 1
    tree = leashed.tree(least, settled=True)
    gone_in_time(tree, leashed.deadline)
    assert leashed.end()["returncode"] == 122


def test_fork_bomb_ends(start: Start) -> None:
    """A tree that forks all the time, each process living briefly, is gone as well."""
    program = (
        "import os, time\nfor _ in range(8):\n if os.fork() == 0: break\n"
        "while True:\n"
        " if os.fork() == 0:\n  time.sleep(0.01)\n  os._exit(0)\n"
        " time.sleep(0.002)\n"
        " try:\n  os.waitpid(-1, os.WNOHANG)\n except ChildProcessError: pass"
    )
    leashed = start(*PYTHON, program)
    tree = leashed.tree(10)
    ending = leashed.end()
    tree.wait()
    assert ending["reason"] == "lapsed"
    assert ending["gone_after_ms"] <= SLACK * 1000


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("level", ["1", "2"])
def test_child_of_another_user_ends(level: str, start: Start) -> None:
    """A child that took another user id is gone with the rest."""
    program = (
        "import os, time\nif os.fork() == 0: os.setresuid(12345, 12345, 12345)\ntime.sleep(60)"
    )
    leashed = start(*PYTHON, program, options=["--level", level])
    tree = leashed.tree(3)
    gone_in_time(tree, leashed.deadline)


@contextmanager
def frozen(pid: int, kind: str) -> Iterator[None]:
    """Have a service of the host freeze one process."""
    try:
        group = Fence.make("freezer", unified=kind == "v2")
    except TransportError as exc:
        pytest.skip(f"no cgroup {kind} freezer to write here: {exc}")
    with group:
        group.take(pid)
        group.freeze()
        yield


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("kind", ["v1", "v2"])
@pytest.mark.parametrize("whom", ["workload", "leash"])
@pytest.mark.parametrize("level", ["1", "2"])
def test_frozen_process_ends(level: str, whom: str, kind: str, start: Start) -> None:
    """A process that somebody froze, by cgroup v1 or v2, dies with the others."""
    leashed = start("sleep", "60", options=["--level", level])
    tree = leashed.tree(2)
    pid = leashed.leash if whom == "leash" else tree.youngest
    with frozen(pid, kind):
        gone_in_time(tree, leashed.deadline)
    assert leashed.end()["returncode"] == 122


def test_renewed_lease_kills_nobody(start: Start) -> None:
    """A workload whose lease is renewed lives on, far beyond its first deadline."""
    leashed = start("sleep", "60")
    tree = leashed.tree(2)
    for _ in range(20):
        time.sleep(0.2)
        leashed.agent.grant(0.8)
    end = leashed.deadline
    gone_in_time(tree, end)


def test_late_renewal_counts(start: Start) -> None:
    """A renewal that comes just before the deadline is in time."""
    leashed = start("sleep", "60")
    tree = leashed.tree(2)
    first = leashed.deadline
    while first - time.clock_gettime(time.CLOCK_BOOTTIME) > 0.06:
        time.sleep(0.005)
    leashed.agent.grant(1.0)
    assert leashed.deadline > first
    gone_in_time(tree, leashed.deadline)


def test_stopped_by_its_guard_it_ends_too(start: Start) -> None:
    """The deadline holds for a workload that a signal stopped through its guard, too."""
    leashed = start("sleep", "60")
    tree = leashed.tree(2)
    leashed.process.send_signal(signal.SIGTSTP)
    gone_in_time(tree, leashed.deadline)
