"""Guard, leash or agent are killed or stopped, singly or together: the workload ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

import pytest

from bootlease.localapi import EndedReason
from bootlease.model import Finding
from tests.integration.leash.conftest import PATIENCE, PYTHON, Start, as_nobody, boottime
from tests.integration.leash.test_lapse import ROUNDING, SLACK

DAEMON: Final = "import os, time\nif os.fork() == 0: os.setsid()\ntime.sleep(60)"
BACKSTOP: Final = 0.02

KILLED: Final = {
    "guard": [("guard", signal.SIGKILL)],
    "leash": [("leash", signal.SIGKILL)],
    "guard and leash": [("guard", signal.SIGKILL), ("leash", signal.SIGKILL)],
    "guard, leash being stopped": [("leash", signal.SIGSTOP), ("guard", signal.SIGKILL)],
    "leash, guard being stopped": [("guard", signal.SIGSTOP), ("leash", signal.SIGKILL)],
}
STOPPED: Final = {
    "guard": ["guard"],
    "leash": ["leash"],
    "guard and leash": ["guard", "leash"],
}


@pytest.mark.parametrize("user", ["caller", "nobody"])
@pytest.mark.parametrize("name", KILLED)
def test_killed(name: str, user: str, start: Start) -> None:
    """Who kills the guard or the leash ends the workload with it, at once."""
    prefix = as_nobody() if user == "nobody" else []
    leashed = start(*PYTHON, DAEMON, prefix=prefix)
    tree = leashed.tree(3)
    deadline = leashed.deadline
    pids = {"guard": leashed.process.pid, "leash": leashed.leash}
    for whom, number in KILLED[name]:
        os.kill(pids[whom], number)
    at = boottime()
    tree.wait()
    assert tree.last <= at + SLACK
    assert tree.last < deadline


@pytest.mark.parametrize("user", ["caller", "nobody"])
@pytest.mark.parametrize("name", STOPPED)
def test_stopped(name: str, user: str, start: Start) -> None:
    """Who stops the guard, the leash or both prolongs nothing: all ends with the lease."""
    prefix = as_nobody() if user == "nobody" else []
    leashed = start(*PYTHON, DAEMON, prefix=prefix)
    tree = leashed.tree(3)
    pids = {"guard": leashed.process.pid, "leash": leashed.leash}
    for whom in STOPPED[name]:
        os.kill(pids[whom], signal.SIGSTOP)
    deadline = leashed.deadline
    if name == "leash":
        # A guard that runs goes on renewing.
        leashed.agent.grant(2)
        deadline = leashed.deadline
    tree.wait()
    assert tree.first >= deadline - ROUNDING
    assert tree.last <= deadline + BACKSTOP + SLACK


@pytest.mark.parametrize("name", ["guard", "guard and leash"])
def test_stopped_guard_says_why_it_ended(name: str, start: Start) -> None:
    """A guard that somebody stopped goes on at the end: it ends the workload, and tells so."""
    leashed = start("sleep", "60")
    pids = {"guard": leashed.process.pid, "leash": leashed.leash}
    for whom in STOPPED[name]:
        os.kill(pids[whom], signal.SIGSTOP)
    ending = leashed.end()
    assert (ending["reason"], ending["returncode"]) == ("lapsed", 122)


def stop_until(done: threading.Event, *pids: int) -> None:
    """Stop processes whenever they go on."""
    pidfds = [os.pidfd_open(pid) for pid in pids]
    while not done.is_set():
        for pidfd in pidfds:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
    for pidfd in pidfds:
        os.close(pidfd)


def test_guard_that_is_stopped_again_and_again(start: Start) -> None:
    """Who keeps guard and leash from going on has the kernel end them, and the workload so."""
    leashed = start(*PYTHON, DAEMON)
    tree = leashed.tree(3)
    deadline = leashed.deadline
    done = threading.Event()
    stopper = threading.Thread(
        target=stop_until, args=(done, leashed.process.pid, leashed.leash), daemon=True
    )
    stopper.start()
    tree.wait()
    done.set()
    stopper.join()
    assert deadline - ROUNDING <= tree.first
    assert tree.last <= deadline + BACKSTOP + SLACK


def test_killed_at_the_lowest_level(start: Start) -> None:
    """Without a namespace the end of the guard, or of the leash, still ends all descendants."""
    for whom in ("guard", "leash"):
        leashed = start(*PYTHON, DAEMON, options=["--level", "0"])
        tree = leashed.tree(3)
        os.kill(leashed.process.pid if whom == "guard" else leashed.leash, signal.SIGKILL)
        at = boottime()
        tree.wait()
        assert tree.last <= at + SLACK
        leashed.process.wait(PATIENCE)


def test_leash_killed_is_told(start: Start) -> None:
    """The guard says that its leash was killed, and exits with 125."""
    leashed = start("sleep", "60")
    os.kill(leashed.leash, signal.SIGKILL)
    ending = leashed.end()
    assert (ending["reason"], ending["returncode"]) == ("leash", 125)


@pytest.mark.parametrize("how", ["die", "hang"])
def test_agent_gone_or_deaf(how: str, start: Start) -> None:
    """An agent that dies, or accepts and hangs, ends the workload at the deadline, not before."""
    leashed = start(*PYTHON, DAEMON)
    tree = leashed.tree(3)
    deadline = leashed.deadline
    getattr(leashed.agent, how)()
    tree.wait()
    assert deadline - ROUNDING <= tree.first
    assert tree.last <= deadline + SLACK
    assert leashed.end()["returncode"] == 122


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_agent_process_killed_or_stopped_with_the_guard_stopped(
    number: signal.Signals, start: Start, folder: Path
) -> None:
    """Agent and guard, both stopped or killed at once, do not keep a workload alive."""
    socket = folder / "other"
    agent = subprocess.Popen(
        [sys.executable, "-m", "bootlease.testing.scripted_agent", str(socket), "--life", "2"],
        stdout=subprocess.PIPE,
    )
    try:
        assert agent.stdout is not None
        assert agent.stdout.readline() == b"ready\n"
        leashed = start(*PYTHON, DAEMON, options=["--socket", str(socket)])
        begun = boottime()
        tree = leashed.tree(3)
        agent.send_signal(number)
        leashed.process.send_signal(signal.SIGSTOP)
        tree.wait()
        assert tree.last <= begun + 2 + BACKSTOP + SLACK
    finally:
        agent.kill()
        agent.wait(PATIENCE)
        if agent.stdout is not None:
            agent.stdout.close()


def test_upgraded_agent_is_found_again(start: Start) -> None:
    """An agent that hangs up and comes back finds the same handle again; nobody is killed."""
    leashed = start("sleep", "60")
    tree = leashed.tree(2)
    first = leashed.deadline
    for _ in range(3):
        time.sleep(0.5)
        leashed.agent.hang_up()
        leashed.agent.wait_for_streams(1)
    assert len({ask.handle for ask in leashed.agent.asks}) == 1
    end = leashed.deadline
    assert end > first
    tree.wait()
    assert tree.first >= end - ROUNDING


@pytest.mark.parametrize("how", ["ended", "denied"])
def test_refused_lease_ends_at_once(how: str, start: Start) -> None:
    """A refusal does not wait for the deadline; its findings are in the guard's last words."""
    leashed = start(*PYTHON, DAEMON, options=["--grace", "1"])
    tree = leashed.tree(3)
    deadline = leashed.deadline
    finding = Finding("reference.pcr.mismatch", "PCR 4 is not what the reference says.", pcr=4)
    at = boottime()
    if how == "ended":
        leashed.agent.end(EndedReason.REFUSED, finding)
    else:
        leashed.agent.deny(finding)
    tree.wait()
    assert tree.last <= at + SLACK < deadline
    ending = leashed.end()
    assert (ending["reason"], ending["returncode"]) == ("refused", 121)
    assert [found["id"] for found in ending["findings"]] == ["reference.pcr.mismatch"]


ALONE: Final = """
import os, select, sys, time
from bootlease.leash.laying import Wanted, lay
from bootlease.leash.messages import Order
command = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"]
leash = lay(Wanted(command, os.environ, -1, False, 1, False), lambda: None)
end = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 500_000_000
leash.tell(Order.DEADLINE, end)
leash.tell(Order.START)
gone = select.poll()
gone.register(leash.pidfd, select.POLLIN)
print(bool(gone.poll(5000)), time.clock_gettime_ns(time.CLOCK_BOOTTIME) - end)
"""


@pytest.mark.usefixtures("as_root")
def test_a_leash_ends_by_its_own_timer() -> None:
    """Where its guard neither kills nor dies, a leash ends at the deadline that it was told."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", ALONE],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    gone, late = done.stdout.split()
    assert gone == "True"
    assert 0 <= int(late) <= SLACK * 1e9
