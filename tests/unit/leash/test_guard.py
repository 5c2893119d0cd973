"""The guard on clocks that the test moves, with an agent that is a list and a leash that sleeps."""

from __future__ import annotations

import functools
import os
import signal
import socket
from collections.abc import Iterator

import pytest

from bootlease.leash import guard as guard_module
from bootlease.leash import kernel, messages
from bootlease.leash.deadline import NS, Term
from bootlease.leash.ending import Ending, Reason
from bootlease.leash.feed import Away, Feed, Said
from bootlease.leash.guard import Guard
from bootlease.leash.killing import gone
from bootlease.leash.laying import LaidLeash
from bootlease.leash.messages import Message, Order, Report, Stage
from bootlease.leash.plan import Hold
from bootlease.leash.terminal import Terminal
from bootlease.leash.values import Terms
from bootlease.localapi import Alive, Denied, Ended, EndedReason, Granted
from bootlease.model import Finding
from bootlease.token import TokenFormat
from tests.unit.leash.test_deadline import SetClocks

FINDING = Finding("reference.pcr.mismatch", "PCR 4 is not what the reference says.")


class Notes:
    """A log."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.messages: list[str] = []

    def note(self, event: str, message: str, **facts: int) -> None:
        """Keep it."""
        del facts
        self.events.append(event)
        self.messages.append(message)


class Scene:
    """A guard whose parts are the test's; nothing in it waits.

    Attributes:
        clocks: Moved by the test.
        leash_end: The leash's end of the sockets.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, terms: Terms | None = None) -> None:
        self.clocks = SetClocks()
        self.notes = Notes()
        self.sleeper = os.fork()
        if self.sleeper == 0:
            # A test that fails does not come to close it.
            kernel.die_with_parent(signal.SIGKILL)
            signal.pause()
            os._exit(0)
        ours, self.leash_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, self.leash_end):
            end.settimeout(0)
        pidfd = os.pidfd_open(self.sleeper)
        leash = LaidLeash(Hold.NAMESPACE, self.sleeper, pidfd, ours.detach(), None, ())
        self.killed: list[LaidLeash] = []
        monkeypatch.setattr(guard_module, "kill_all", self._kill)
        monkeypatch.setattr(guard_module, "_let_go", lambda: None)
        self.said: list[Said] = []
        feed = Feed(lambda: pytest.fail("nobody asks"))
        monkeypatch.setattr(feed, "take", self._take)
        monkeypatch.setattr(guard_module, "Alarms", NoAlarms)
        self.guard = Guard(
            leash,
            feed,
            Terminal(),
            terms=terms or Terms(),
            log=self.notes,
            clocks=self.clocks,
        )

    def _kill(self, leash: LaidLeash) -> bool:
        self.killed.append(leash)
        return True

    def _take(self) -> list[Said]:
        said, self.said = self.said, []
        return said

    def grant(self, left: float = 60.0, *, life: float | None = None) -> Ending | None:
        """Have the agent grant a lease of which ``left`` seconds are left, by default all."""
        return self.say(
            Granted(
                handle="h",
                lease_id="0" * 32,
                token="t",
                encoding=TokenFormat.CWT,
                sequence=0,
                scope=("a",),
                audience="b",
                expires_at=int(self.clocks.wall_s + left),
                deadline=self.clocks.boot_s + left,
                life=left if life is None else life,
            )
        )

    def say(self, *said: Said) -> Ending | None:
        """Have the agent say something, and the guard heed it."""
        self.said += said
        return self.look()

    def look(self) -> Ending | None:
        """Have the guard look at everything once."""
        for step in (
            self.guard._look_at_clock,
            self.guard._hear_leash,
            self.guard._hear_agent,
        ):
            ending = step()
            if ending is not None:
                return ending
        return None

    def report(self, kind: Report, first: int = 0, second: int = 0) -> Ending | None:
        """Have the leash report something."""
        messages.send(self.leash_end.fileno(), kind, first, second)
        return self.look()

    def told(self) -> list[Message]:
        """Return what the leash was told."""
        told = []
        try:
            while (message := messages.receive(self.leash_end.fileno())) is not None:
                told.append(message)
        except BlockingIOError:
            pass
        return told

    def close(self) -> None:
        """End the sleeper."""
        os.kill(self.sleeper, signal.SIGKILL)
        os.waitpid(self.sleeper, 0)
        self.leash_end.close()


class NoAlarms:
    """No timers: the test says when to look."""

    wakers = ()

    def set(self, term: object, clocks: object) -> None:
        """Do nothing."""

    def told(self, term: object) -> None:
        """Do nothing."""

    def clear(self) -> bool:
        """Say that nobody set the clock."""
        return False

    def allow_looking(self, clocks: object) -> None:
        """Do nothing."""


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A guard with a lease of 60 s, its workload started."""
    made = Scene(monkeypatch)
    made.grant()
    yield made
    made.close()


def test_deadline_goes_before_the_start(scene: Scene) -> None:
    """The leash knows its deadline before it is told to start."""
    first, second = scene.told()
    assert (first.kind, second.kind) == (Order.DEADLINE, Order.START)
    assert first.first == int((scene.clocks.boot_s + 60) * 1e9)


@pytest.mark.parametrize("asleep", [60.0, 8 * 3600.0])
def test_machine_that_slept(asleep: float, scene: Scene) -> None:
    """After a sleep beyond the deadline the first look kills."""
    scene.clocks.pass_time(asleep)
    ending = scene.look()
    assert ending is not None
    assert (ending.reason, ending.code) == (Reason.LAPSED, 122)
    assert scene.killed


def test_wall_clock_set_back_prolongs_nothing(scene: Scene) -> None:
    """The boot clock's deadline stands."""
    scene.clocks.wall_s -= 1_000_000
    scene.clocks.pass_time(59.9)
    assert scene.look() is None
    scene.clocks.pass_time(0.1)
    assert scene.look() is not None


def test_wall_clock_set_forward_ends_it(scene: Scene) -> None:
    """`exp` counts."""
    scene.clocks.wall_s += 61
    ending = scene.look()
    assert ending is not None
    assert ending.reason is Reason.LAPSED


def test_renewal_is_passed_on(scene: Scene) -> None:
    """A renewal gives the leash its new deadline and starts nothing again."""
    scene.told()
    scene.clocks.pass_time(20)
    scene.grant()
    (only,) = scene.told()
    assert (only.kind, only.first) == (Order.DEADLINE, int((scene.clocks.boot_s + 60) * 1e9))
    scene.clocks.pass_time(59)
    assert scene.look() is None


def test_grant_that_is_over_changes_nothing(scene: Scene) -> None:
    """A grant whose end has passed is none."""
    scene.told()
    scene.grant(-1)
    assert scene.told() == []
    assert scene.look() is None


def test_agent_that_goes_changes_nothing_before_the_deadline(scene: Scene) -> None:
    """An agent that is away is logged once."""
    assert scene.say(Away("gone"), Away("gone"), Alive()) is None
    assert scene.notes.events.count("away") == 1


def test_lease_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long it is waited for is told at first, and at the end, with what kept it away."""
    scene = Scene(monkeypatch, Terms(wait=0))
    monkeypatch.setattr(scene.guard._feed, "start", lambda: None)
    monkeypatch.setattr(scene.guard, "_listen", lambda: None)
    monkeypatch.setattr("bootlease.leash.priority.prefer", lambda *, inherited: inherited)
    ending = scene.guard._hold()
    assert (ending.reason, ending.code) == (Reason.UNREACHED, 123)
    assert ending.message == ("nothing was started within 0 s: the agent has not answered yet")
    scene.say(Away("gone"))
    assert scene.notes.messages[-1] == "gone; trying for up to 0 s"
    assert scene.guard._hold().message == "nothing was started within 0 s: gone"
    scene.close()


@pytest.mark.parametrize(
    "said", [Denied((FINDING,)), Ended(EndedReason.REFUSED, (FINDING,))], ids=["denied", "ended"]
)
def test_refusal_kills_at_once(said: Said, scene: Scene) -> None:
    """A refusal does not wait, and its findings are told."""
    ending = scene.say(said)
    assert ending is not None
    assert (ending.reason, ending.code, ending.findings) == (Reason.REFUSED, 121, (FINDING,))
    assert scene.killed


@pytest.mark.parametrize("reason", [EndedReason.LAPSED, EndedReason.REBOOTED, EndedReason.STOPPED])
def test_ended_lease_kills_at_once(reason: EndedReason, scene: Scene) -> None:
    """A lease that the agent calls over is over."""
    ending = scene.say(Ended(reason))
    assert ending is not None
    assert (ending.reason, ending.code) == (Reason.LAPSED, 122)


def test_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """In its grace the workload is told once, and a renewal gives it a new one."""
    scene = Scene(monkeypatch, Terms(grace=10))
    scene.grant()
    scene.told()
    scene.clocks.pass_time(51)
    assert scene.look() is None
    assert scene.look() is None
    assert [m.first for m in scene.told()] == [signal.SIGTERM, signal.SIGCONT]
    scene.grant()
    scene.told()
    scene.clocks.pass_time(51)
    scene.look()
    assert [m.first for m in scene.told()] == [signal.SIGTERM, signal.SIGCONT]
    ending = scene.report(Report.EXITED, 0)
    assert ending is not None
    assert ending.reason is Reason.LAPSED
    scene.close()


def test_grace_as_long_as_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that is all grace starts nothing, and the two lengths are told."""
    scene = Scene(monkeypatch, Terms(grace=60))
    ending = scene.grant(60)
    assert ending is not None
    assert (ending.reason, ending.code) == (Reason.UNREACHED, 123)
    assert ending.message == ("nothing was started: a lease of 60 s is not longer than --grace 60")
    assert scene.told() == []
    scene.close()


def test_lease_that_comes_in_its_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of a lease has to be more than the grace; the next one may be."""
    scene = Scene(monkeypatch, Terms(grace=10))
    assert scene.grant(9, life=60) is None
    assert scene.told() == []
    assert scene.grant(60) is None
    assert [message.kind for message in scene.told()] == [Order.DEADLINE, Order.START]
    scene.close()


def test_going_on_at_the_end_is_not_forwarded(scene: Scene) -> None:
    """The SIGCONT with which the kernel lets a guard go on at the end wakes no workload."""
    os.write(scene.guard._wake, bytes([signal.SIGCONT]))
    scene.told()
    scene.clocks.pass_time(60)
    ending = scene.guard._pass_on()
    assert ending is not None
    assert ending.reason is Reason.LAPSED
    assert scene.told() == []


def test_job_that_goes_on_at_the_end(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that was stopped until its lease was over is ended, and not continued before."""
    monkeypatch.setattr(scene.guard._terminal, "fd", 0)
    monkeypatch.setattr(scene.guard._terminal, "stop_job", lambda: scene.clocks.pass_time(60))
    scene.told()
    ending = scene.report(Report.STOPPED, signal.SIGTSTP)
    assert ending is not None
    assert ending.reason is Reason.LAPSED
    assert scene.told() == []


def test_job_that_is_frozen_as_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that was stopped until its lease was over is frozen as it is: stopped."""
    scene = Scene(monkeypatch, Terms(freeze=5))
    monkeypatch.setattr(scene.guard, "_freeze", functools.partial(_frozen, scene))
    monkeypatch.setattr(scene.guard._terminal, "fd", 0)
    monkeypatch.setattr(scene.guard._terminal, "stop_job", lambda: scene.clocks.pass_time(60))
    scene.grant(60)
    scene.told()
    assert scene.report(Report.STOPPED, signal.SIGTSTP) is None
    assert scene.told() == []
    scene.close()


def _frozen(scene: Scene) -> bool:
    scene.guard._frozen_until = Term(scene.clocks.boot() + 5 * NS, scene.clocks.wall() + 5 * NS)
    return True


@pytest.mark.parametrize(
    ("report", "reason", "code"),
    [
        ((Report.EXITED, 3 << 8), Reason.EXITED, 3),
        ((Report.EXITED, 9), Reason.KILLED, 137),
        ((Report.FAILED, 2, Stage.EXECUTE), Reason.NOT_FOUND, 127),
        ((Report.FAILED, 13, Stage.EXECUTE), Reason.NOT_EXECUTABLE, 126),
        ((Report.FAILED, 11, Stage.LEASH), Reason.LEASH, 125),
    ],
    ids=["exited", "killed", "not found", "not executable", "no leash"],
)
def test_report_that_ends_it(
    report: tuple[Report, int], reason: Reason, code: int, scene: Scene
) -> None:
    """What the leash reports last becomes the exit code."""
    ending = scene.report(*report)
    assert ending is not None
    assert (ending.reason, ending.code) == (reason, code)
    assert scene.killed


def test_leash_that_is_gone(scene: Scene) -> None:
    """Its end of file ends the run: it was killed, or its own timer came first."""
    scene.leash_end.close()
    ending = scene.look()
    assert ending is not None
    assert (ending.reason, ending.code) == (Reason.LEASH, 125)


def test_leash_whose_timer_came_first(scene: Scene) -> None:
    """A leash that ended at the deadline did what it is for."""
    scene.clocks.pass_time(59.9)
    scene.leash_end.close()
    scene.clocks.pass_time(0.1)
    ending = scene.guard._hear_leash()
    assert ending is not None
    assert ending.reason is Reason.LAPSED


def test_all_are_killed_before_the_guard_gets_time_to_look(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who stops a guard that looks whether all are gone keeps nobody alive for as long."""
    killed: list[bool] = []
    pidfd = os.pidfd_open(scene.sleeper)
    monkeypatch.setattr(NoAlarms, "allow_looking", lambda *_: killed.append(gone(pidfd, 5)))
    scene.clocks.pass_time(60)
    scene.look()
    os.close(pidfd)
    assert killed == [True]


def test_slowness_is_told(scene: Scene) -> None:
    """How late the last process went is measured from the end of the lease."""
    scene.clocks.pass_time(60.25)
    ending = scene.look()
    assert ending is not None
    assert ending.gone_after == pytest.approx(0.25)
