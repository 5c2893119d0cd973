"""The guard: holds the lease, and ends the workload with it.

Three ends are laid before the workload starts, and none needs another:

1. the guard kills at the deadline, by pidfd and, at level 2, by cgroup;
2. the leash ends at its own deadline, or when its guard is gone, and the kernel ends its namespace;
3. the kernel lets a guard that was stopped go on at the deadline, and kills it, stopped or not, 20
   ms after, by timers of its own; the leash follows by its parent-death signal, stopped or not, and
   the namespace with it.

A renewal sets all three anew; a step that fails before the start means no start.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import time
from dataclasses import replace
from typing import Final

from bootlease.leash import priority
from bootlease.leash.deadline import NS, Alarms, Clocks, Due, SystemClocks, Term
from bootlease.leash.ending import Ending, Reason, RunExit, of_status
from bootlease.leash.feed import Away, Feed, Said
from bootlease.leash.killing import kill_all, strays, strike
from bootlease.leash.laying import LaidLeash
from bootlease.leash.messages import Message, Order, Report, Stage
from bootlease.leash.plan import FORWARDED, Hold
from bootlease.leash.terminal import Terminal
from bootlease.leash.values import Log, Terms
from bootlease.localapi import Alive, Denied, Ended, EndedReason, Granted, Unreached

_FREEZE_WITHIN: Final = 0.015
_LEASH_LATER_NS: Final = 30_000_000
"""How long after the end a leash lets its guard freeze the workload, or say why it ended."""
_JOB_CONTROL: Final = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
_GO_ON: Final = bytes([signal.SIGCONT])


class Guard:
    """Guards one workload.

    Args:
        leash: The leash that stands.
        feed: The lease; not asked for yet.
        terminal: The caller's.
        terms: How to go about it.
        log: Where to say what happens.
        clocks: The machine's.
    """

    def __init__(
        self,
        leash: LaidLeash,
        feed: Feed,
        terminal: Terminal,
        *,
        terms: Terms,
        log: Log,
        clocks: Clocks | None = None,
    ) -> None:
        self._leash = leash
        self._feed = feed
        self._terminal = terminal
        self._terms = terms
        self._log = log
        self._clocks: Clocks = clocks or SystemClocks()
        self._alarms = Alarms()
        self._term: Term | None = None
        self._frozen_until: Term | None = None
        self._running = False
        self._told = False
        self._away = False
        self._last_error = "the agent has not answered yet"
        self._signals, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wake = wake
        self._heard = b""

    def run(self) -> Ending:
        """Hold the lease and the workload until one of them ends; nothing of it is left then."""
        try:
            return self._hold()
        finally:
            self._terminal.take_back()

    def _hold(self) -> Ending:
        priority.prefer(inherited=True)
        self._listen()
        self._feed.start()
        poll = select.poll()
        for fd in (
            *(self._leash.socket, self._feed.fileno(), self._signals),
            *(waker.fileno() for waker in self._alarms.wakers),
        ):
            poll.register(fd, select.POLLIN)
        give_up = time.monotonic() + self._terms.wait
        while True:
            left = max(0.0, give_up - time.monotonic()) * 1000
            poll.poll(None if self._running else left)
            for step in (self._look_at_clock, self._hear_leash, self._hear_agent, self._pass_on):
                ending = step()
                if ending is not None:
                    return ending
            if not self._running and self._term is None and time.monotonic() >= give_up:
                return self._never_began(f" within {self._terms.wait:g} s: {self._last_error}")

    # What the time demands

    def _look_at_clock(self) -> Ending | None:
        if self._alarms.clear() and self._running:
            self._log.note(
                "clock", "somebody set the wall clock; the deadline on the boot clock stands"
            )
        term = self._frozen_until or self._term
        if term is None:
            return None
        due = term.due(self._clocks)
        if due is Due.OVER:
            return self._lapse(term)
        if due is Due.GRACE and not self._told and self._frozen_until is None:
            self._told = True
            self._alarms.told(term)
            left = -term.past(self._clocks) / NS
            self._log.note("grace", f"the lease ends in {left:.1f} s: SIGTERM")
            self._leash.tell(Order.SIGNAL, signal.SIGTERM)
            self._leash.tell(Order.SIGNAL, signal.SIGCONT)
        return None

    def _lapse(self, term: Term) -> Ending | None:
        if self._frozen_until is None and self._terms.freeze and self._freeze():
            return None
        words = "the lease lapsed: no renewal came"
        if self._frozen_until is not None:
            words = f"the lease lapsed, and no fresh one came in {self._terms.freeze:g} s"
        return self._finish(Ending(Reason.LAPSED, RunExit.LAPSED, words), term)

    def _freeze(self) -> bool:
        group = self._leash.group
        if group is None or not group.freeze(_FREEZE_WITHIN) or strays(self._leash):
            return False
        ns = int(self._terms.freeze * NS)
        self._frozen_until = Term(self._clocks.boot() + ns, self._clocks.wall() + ns)
        self._alarms.set(self._frozen_until, self._clocks)
        # The kernel's SIGCONT of the lapse: whom somebody stopped is to be so when it is thawed.
        self._hear_signals()
        self._heard = self._heard.replace(_GO_ON, b"")
        self._log.note("frozen", f"the lease lapsed: frozen for up to {self._terms.freeze:g} s")
        return True

    # What the agent says

    def _hear_agent(self) -> Ending | None:
        for said in self._feed.take():
            ending = self._heed(said)
            if ending is not None:
                return ending
        return None

    def _heed(self, said: Said) -> Ending | None:
        match said:
            case Granted():
                return self._renew(said)
            case Denied():
                words = "nothing was started: the lease is refused"
                if self._running:
                    words = "the lease was taken back"
                return self._finish(Ending(Reason.REFUSED, RunExit.REFUSED, words, said.findings))
            case Ended():
                return self._end(said)
            case Unreached():
                if not self._running and said.error != self._last_error:
                    self._log.note("waiting", f"no lease yet: {said.error}")
                self._last_error = said.error
            case Away():
                self._last_error = said.error
                if not self._away:
                    until = "" if self._running else f"; trying for up to {self._terms.wait:g} s"
                    self._log.note("away", f"{said.error}{until}")
                self._away = True
            case Alive():
                pass
        return None

    def _renew(self, granted: Granted) -> Ending | None:
        term = Term.of_grant(
            granted.deadline, granted.expires_at, granted.life, self._clocks, self._terms.grace
        )
        self._away = False
        due = term.due(self._clocks)
        if due is Due.OVER:
            return None
        if due is Due.GRACE and not self._running:
            # To start it would be to tell it at once that it ends.
            self._last_error = "the lease came when no more than its --grace was left of it"
            if granted.life > self._terms.grace:
                return None
            return self._never_began(
                f": a lease of {granted.life:g} s is not longer than --grace {self._terms.grace:g}"
            )
        self._term = term
        self._told = False
        self._alarms.set(term, self._clocks)
        later = _LEASH_LATER_NS if self._leash_waits else 0
        self._leash.tell(Order.DEADLINE, term.boot + later)
        if not self._running:
            self._running = True
            self._leash.tell(Order.START)
        elif self._frozen_until is not None and self._leash.group is not None:
            self._frozen_until = None
            self._leash.group.thaw()
            self._log.note("thawed", "a fresh lease came")
        return None

    @property
    def _leash_waits(self) -> bool:
        return self._leash.hold is Hold.CONTAINER or self._terms.freeze > 0

    def _end(self, ended: Ended) -> Ending | None:
        if not self._running and ended.reason is EndedReason.REFUSED:
            words = "nothing was started: the verifier refuses this node"
            return self._finish(Ending(Reason.REFUSED, RunExit.REFUSED, words, ended.findings))
        if not self._running:
            self._last_error = f"the lease ended before the start: {ended.reason.value}"
            return None
        if ended.reason is EndedReason.REFUSED:
            words = "the verifier refused to renew the lease"
            return self._finish(Ending(Reason.REFUSED, RunExit.REFUSED, words, ended.findings))
        if self._frozen_until is not None:
            return None
        now = Term(self._clocks.boot(), self._clocks.wall())
        return self._lapse(now)

    def _never_began(self, why: str) -> Ending:
        words = f"nothing was started{why}"
        return self._finish(Ending(Reason.UNREACHED, RunExit.UNREACHED, words))

    # What the leash says

    def _hear_leash(self) -> Ending | None:
        for message in self._leash.reports():
            ending = self._leash_gone() if message is None else self._note_report(message)
            if ending is not None:
                return ending
        return None

    def _leash_gone(self) -> Ending:
        # Its end of file comes before the kernel has ended the others: the guard helps.
        if self._term is not None and self._term.due(self._clocks) is Due.OVER:
            words = "the lease lapsed: no renewal came"
            return self._finish(Ending(Reason.LAPSED, RunExit.LAPSED, words), self._term)
        return self._finish(Ending(Reason.LEASH, RunExit.LEASH, "the leash was killed"))

    def _note_report(self, message: Message) -> Ending | None:
        if message.kind == Report.EXITED:
            ending = of_status(os.waitstatus_to_exitcode(message.first))
            if self._told:
                words = f"the lease was about to lapse: {ending.message}"
                ending = Ending(Reason.LAPSED, RunExit.LAPSED, words)
            return self._finish(ending)
        if message.kind == Report.FAILED:
            return self._failed(message)
        if message.kind == Report.STOPPED and message.first in _JOB_CONTROL:
            return self._stopped(signal.Signals(message.first))
        if message.kind == Report.STARTED:
            _let_go()
            self._log.note("started", "the workload runs under a lease")
        return None

    def _failed(self, message: Message) -> Ending:
        words = os.strerror(message.first) if message.first else "it broke"
        if message.second != Stage.EXECUTE:
            return self._finish(Ending(Reason.LEASH, RunExit.LEASH, f"{message.text}: {words}"))
        words = f"the command cannot be executed: {words}"
        if message.first == errno.ENOENT:
            return self._finish(Ending(Reason.NOT_FOUND, RunExit.NOT_FOUND, words))
        return self._finish(Ending(Reason.NOT_EXECUTABLE, RunExit.NOT_EXECUTABLE, words))

    def _stopped(self, by: signal.Signals) -> Ending | None:
        if self._terminal.fd < 0:
            return None
        if by is not signal.SIGTSTP and self._terminal.give_if_ours():
            self._leash.tell(Order.FOREGROUND)
            return None
        ours = self._terminal.stop_job()
        # It may be the kernel that let the guard go on, for the lease is over.
        ending = self._look_at_clock()
        if ending is not None:
            return ending
        if ours:
            self._leash.tell(Order.FOREGROUND)
        elif self._frozen_until is None:
            self._leash.tell(Order.SIGNAL, signal.SIGCONT)
        return None

    # What whoever started the guard says

    def _listen(self) -> None:
        for number in (*FORWARDED, signal.SIGTSTP):
            # What the caller has ignored, as nohup does, stays ignored, for the workload too.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _noticed)
        # A terminal may stop who writes from the background (stty tostop): a guard that is stopped
        # renews nothing.
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)

    def _pass_on(self) -> Ending | None:
        self._hear_signals()
        # At the end the kernel sends SIGCONT, which is meant for the guard alone.
        ending = self._look_at_clock()
        if ending is not None:
            return ending
        numbers, self._heard = self._heard, b""
        for number in numbers:
            if self._running:
                # In a session without a terminal SIGTSTP stops nobody (POSIX, orphaned groups).
                lone = number == signal.SIGTSTP and self._terminal.fd < 0
                self._leash.tell(Order.SIGNAL, signal.SIGSTOP if lone else number)
            elif number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
                words = f"{signal.Signals(number).name} came before the start"
                return self._finish(Ending(Reason.INTERRUPTED, 128 + number, words))
        return None

    def _hear_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._heard += os.read(self._signals, 4096)

    def _finish(self, ending: Ending, over: Term | None = None) -> Ending:
        # Before the kernel's timers are put off: who stops the guard in between stops only a look.
        strike(self._leash)
        self._alarms.allow_looking(self._clocks)
        if not kill_all(self._leash):
            self._log.note("left", "processes of the workload could not be killed")
        if over is None:
            return ending
        return replace(ending, gone_after=over.past(self._clocks) / NS)


def _noticed(number: int, frame: object) -> None:
    del number, frame


def _let_go() -> None:
    # A reader of the workload's output waits until nobody holds it, the guard neither.
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in range(2):
        os.dup2(nowhere, fd)
    os.close(nowhere)
