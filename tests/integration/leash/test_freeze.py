"""With --freeze a lapse freezes; only a fresh lease, in time, thaws."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

import pytest

from bootlease.leash.sweep import descendants
from bootlease.localapi import EndedReason
from bootlease.testing.fences import Fence
from tests.integration.leash.conftest import Leashed, Start, boottime
from tests.integration.leash.test_lapse import ROUNDING, SLACK

pytestmark = pytest.mark.usefixtures("as_root")

COUNTER: Final = "while true; do echo >> count; sleep 0.02; done"


@pytest.fixture
def counting(start: Start, folder: Path) -> Leashed:
    """A workload that counts, to be frozen for up to 1.5 s."""
    return start("sh", "-c", COUNTER, options=["--freeze", "1.5"], cwd=folder)


def count(leashed: Leashed) -> int:
    """Return how far it has counted."""
    return (leashed.folder / "count").stat().st_size


def test_frozen_then_killed(counting: Leashed) -> None:
    """Frozen at the lapse it does nothing more, and is killed after the limit."""
    tree = counting.tree(2)
    deadline = counting.deadline
    counting.logged("frozen")
    assert boottime() >= deadline - ROUNDING
    time.sleep(0.1)
    before = count(counting)
    time.sleep(0.5)
    assert count(counting) == before
    tree.wait()
    assert deadline + 1.5 - ROUNDING <= tree.last <= deadline + 1.5 + 2 * SLACK
    assert counting.end()["returncode"] == 122


def test_thawed_by_a_fresh_lease(counting: Leashed) -> None:
    """A lease that comes within the limit lets it go on where it stood."""
    counting.logged("frozen")
    time.sleep(0.1)
    before = count(counting)
    counting.agent.grant(1.5)
    counting.logged("thawed")
    time.sleep(0.5)
    assert count(counting) > before
    tree = counting.tree(2)
    end = counting.deadline
    time.sleep(0.1)
    assert counting.process.poll() is None
    tree.wait()
    assert tree.last >= end


def test_stopped_workload_is_thawed_stopped(start: Start, folder: Path) -> None:
    """What somebody stopped does not go on by the SIGCONT with which the kernel wakes its guard."""
    command = ("sh", "-c", "kill -STOP $$; echo > went; sleep 60")
    leashed = start(*command, options=["--freeze", "3"], cwd=folder)
    leashed.logged("frozen")
    leashed.agent.grant(1.5)
    leashed.logged("thawed")
    time.sleep(0.5)
    assert not (folder / "went").exists()


def test_ended_lease_freezes(counting: Leashed) -> None:
    """An agent that says that the lease has lapsed freezes it too, before the deadline."""
    counting.tree(2)
    deadline = counting.deadline
    counting.agent.end(EndedReason.LAPSED)
    counting.logged("frozen")
    assert boottime() < deadline


def test_refusal_does_not_freeze(counting: Leashed) -> None:
    """A refusal kills at once, frozen or not."""
    tree = counting.tree(2)
    counting.logged("frozen")
    at = boottime()
    counting.agent.end(EndedReason.REFUSED)
    tree.wait()
    assert tree.last <= at + SLACK
    assert counting.end()["returncode"] == 121


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_guard_killed_or_stopped_while_frozen(number: signal.Signals, counting: Leashed) -> None:
    """A frozen tree ends with its guard, and with its limit if the guard is stopped."""
    tree = counting.tree(2)
    deadline = counting.deadline
    counting.logged("frozen")
    counting.process.send_signal(number)
    tree.wait()
    assert tree.last <= deadline + 1.5 + 0.02 + SLACK


def test_guard_stopped_before_the_lapse(counting: Leashed) -> None:
    """A guard that somebody stopped goes on at the lapse, and freezes."""
    tree = counting.tree(2)
    deadline = counting.deadline
    os.kill(counting.process.pid, signal.SIGSTOP)
    counting.logged("frozen")
    assert deadline - ROUNDING <= boottime() <= deadline + SLACK
    tree.wait()
    assert deadline + 1.5 - ROUNDING <= tree.last <= deadline + 1.5 + 2 * SLACK


def test_freezing_needs_a_group(start: Start) -> None:
    """Where nothing can be frozen nothing is started."""
    ending = start("true", options=["--freeze", "1", "--level", "1"], wait=False).end()
    assert (ending["reason"], ending["returncode"]) == ("level", 124)


def test_who_was_moved_out_of_the_group_is_killed(counting: Leashed) -> None:
    """What the group does not freeze, since somebody moved it, does not run on: all is killed."""
    tree = counting.tree(2)
    with Fence.make("freezer", unified=True) as elsewhere:
        for pid in descendants(counting.leash):
            # The counter makes a process now and then, which may have ended.
            with contextlib.suppress(ProcessLookupError):
                elsewhere.take(pid)
        deadline = counting.deadline
        tree.wait()
    assert deadline - ROUNDING <= tree.last <= deadline + SLACK
    assert counting.end()["returncode"] == 122
