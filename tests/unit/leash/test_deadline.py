"""When a lease ends, on clocks that the test moves."""

from __future__ import annotations

import os
import select
import signal
import time
from dataclasses import dataclass

import pytest

from bootlease.leash import deadline
from bootlease.leash.deadline import (
    NS,
    Alarms,
    Due,
    SystemClocks,
    Term,
    TimeNamespaceError,
    refuse_time_namespace,
)


@dataclass
class SetClocks:
    """Both clocks, in seconds, moved by hand."""

    boot_s: float = 1000.0
    wall_s: float = 1_800_000_000.0

    def boot(self) -> int:
        """Return CLOCK_BOOTTIME."""
        return int(self.boot_s * NS)

    def wall(self) -> int:
        """Return CLOCK_REALTIME."""
        return int(self.wall_s * NS)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, asleep or awake."""
        self.boot_s += seconds
        self.wall_s += seconds


def granted(clocks: SetClocks, life: float = 60.0, grace: float = 0.0) -> Term:
    """Return the term of a lease granted now."""
    return Term.of_grant(clocks.boot_s + life, int(clocks.wall_s + life), life, clocks, grace=grace)


def test_lease_stands_until_its_deadline() -> None:
    """Nothing is due a millisecond before the end, and all is at it."""
    clocks = SetClocks()
    term = granted(clocks)
    clocks.pass_time(59.999)
    assert term.due(clocks) is Due.NOTHING
    clocks.pass_time(0.001)
    assert term.due(clocks) is Due.OVER


def test_suspended_machine() -> None:
    """A machine that slept beyond the deadline finds its lease over when it wakes."""
    clocks = SetClocks()
    term = granted(clocks)
    clocks.pass_time(8 * 3600)
    assert term.due(clocks) is Due.OVER
    assert term.past(clocks) == (8 * 3600 - 60) * NS


def test_wall_clock_set_back() -> None:
    """Setting the wall clock back prolongs nothing."""
    clocks = SetClocks()
    term = granted(clocks)
    clocks.wall_s -= 86_400
    clocks.pass_time(60)
    assert term.due(clocks) is Due.OVER


def test_wall_clock_set_forward() -> None:
    """A wall clock beyond `exp` ends the lease: relying parties see it so."""
    clocks = SetClocks()
    term = granted(clocks)
    clocks.wall_s += 3600
    assert term.due(clocks) is Due.OVER


@pytest.mark.parametrize("moved", [-30.0, 30.0])
def test_wall_clock_set_a_little(moved: float) -> None:
    """A wall clock set within the lease's life leaves the earlier of both ends."""
    clocks = SetClocks()
    term = granted(clocks)
    clocks.wall_s += moved
    clocks.pass_time(29)
    assert term.due(clocks) is Due.NOTHING
    clocks.pass_time(1 if moved > 0 else 31)
    assert term.due(clocks) is Due.OVER


def test_no_longer_than_granted() -> None:
    """A deadline read from another clock than this one counts for no more than the lease's life."""
    clocks = SetClocks()
    term = Term.of_grant(clocks.boot_s + 9_999, int(clocks.wall_s + 9_999), 60, clocks)
    clocks.pass_time(60)
    assert term.due(clocks) is Due.OVER


def test_an_earlier_exp_counts_on_the_boot_clock() -> None:
    """A wall clock that is set back after the grant does not bring back what ``exp`` takes."""
    clocks = SetClocks()
    term = Term.of_grant(clocks.boot_s + 60, int(clocks.wall_s + 30), 60, clocks)
    assert term.boot == clocks.boot() + 30 * NS
    clocks.wall_s -= 3600
    clocks.pass_time(30)
    assert term.due(clocks) is Due.OVER


def test_grace_is_inside_the_lease() -> None:
    """The workload is told its grace before the end, by the clock that ends first."""
    clocks = SetClocks()
    term = granted(clocks, grace=5)
    clocks.pass_time(54)
    assert term.due(clocks) is Due.NOTHING
    clocks.pass_time(1)
    assert term.due(clocks) is Due.GRACE
    clocks.wall_s += 5
    assert term.due(clocks) is Due.OVER


@pytest.mark.parametrize(
    "offsets",
    ["monotonic 0 0\nboottime 3600 0\n", "boottime -1 0", "boottime 0 500000000", "7 5 0"],
    ids=["ahead", "behind", "a part of a second", "by number"],
)
def test_shifted_boot_clock_is_refused(offsets: str) -> None:
    """Where a time namespace shifts CLOCK_BOOTTIME no deadline means anything."""
    with pytest.raises(TimeNamespaceError):
        refuse_time_namespace(offsets)


@pytest.mark.parametrize(
    "offsets",
    ["", "monotonic           0         0\nboottime            0         0\n", "monotonic 5 0\n"],
    ids=["no such file", "unshifted", "only the other clock"],
)
def test_unshifted_boot_clock_is_accepted(offsets: str) -> None:
    """An unshifted one is accepted, also on a kernel without time namespaces."""
    refuse_time_namespace(offsets)


@pytest.mark.parametrize("clock", ["boot", "wall"])
def test_alarms_wake_at_the_end(clock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A waker's descriptor becomes readable at the end of the term, not before."""
    # The kernel's kill is put off: on a busy machine this may be looked at late.
    monkeypatch.setattr(deadline, "BACKSTOP_NS", 60 * NS)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if _woken_in_time(clock) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _woken_in_time(clock: str) -> bool:
    clocks, alarms = SystemClocks(), Alarms()
    waker = alarms.wakers[0 if clock == "boot" else 1]
    soon, far = 50_000_000, 60 * NS
    boot, wall = (soon, far) if clock == "boot" else (far, soon)
    term = Term(clocks.boot() + boot, clocks.wall() + wall)
    alarms.set(term, clocks)
    poll = select.poll()
    poll.register(waker.fileno(), select.POLLIN)
    return bool(poll.poll(5000)) and term.due(clocks) is Due.OVER


@pytest.mark.parametrize("clock", ["boot", "wall"])
@pytest.mark.parametrize("stopped", [False, True])
def test_kernel_kills_a_guard_that_does_not_act(clock: str, *, stopped: bool) -> None:
    """Who does nothing at the end is killed by the kernel, stopped or not, by either clock."""
    pid = os.fork()
    if pid == 0:
        clocks, alarms = SystemClocks(), Alarms()
        soon, far = 300_000_000, 60 * NS
        boot, wall = (soon, far) if clock == "boot" else (far, soon)
        alarms.set(Term(clocks.boot() + boot, clocks.wall() + wall), clocks)
        if stopped:
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(30)
        os._exit(0)
    begun = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("clock", ["boot", "wall"])
def test_kernel_lets_a_stopped_guard_go_on(clock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stopped a guard, it goes on at the end, by either clock, to end what it holds."""
    monkeypatch.setattr(deadline, "BACKSTOP_NS", 60 * NS)
    pid = os.fork()
    if pid == 0:
        clocks, alarms = SystemClocks(), Alarms()
        soon, far = 100_000_000, 60 * NS
        boot, wall = (soon, far) if clock == "boot" else (far, soon)
        term = Term(clocks.boot() + boot, clocks.wall() + wall)
        alarms.set(term, clocks)
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0 if term.due(clocks) is Due.OVER else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
