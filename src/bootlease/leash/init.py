"""The leash: a small process beside the workload, whose end ends everything.

Started by the guard as the first process of a pid namespace: when it ends, for whatever reason,
the kernel ends every process in there. It ends at its deadline by a timer of its own, when the
guard is gone (end of file), and when the workload's first process has ended; it kills the others
itself before, so that they die ahead of whatever else wants the processor. It reaps zombies.

Its end does not depend on what the workload does: signals from inside the namespace are ignored by
the kernel where the first process has no handler (pid_namespaces(7)), and it has one only for
SIGCHLD, which merely wakes it. It cannot be traced (PR_SET_DUMPABLE).

Run in an interpreter of its own: ``python -I -S``; see ``laying``.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

from bootlease.leash import kernel, messages, mounts, priority, sweep
from bootlease.leash.messages import Order, Report, Stage
from bootlease.leash.namespace import Namespace
from bootlease.leash.plan import FORWARDED, Hold, Plan, occupy_standard_descriptors
from bootlease.leash.start import StartError, start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final, NoReturn

LAPSED: Final = 122
BROKEN: Final = 125
_LAST_WORDS: Final = 0.02
_PAUSE: Final = 0.001
_AT_ONCE: Final = 64
"""Zombies reaped before the deadline is looked at again: a workload may make them without end."""


def main(arguments: Sequence[str]) -> NoReturn:
    """Be the leash, until everything ends."""
    plan = Plan.read(arguments)
    occupy_standard_descriptors()
    code = BROKEN
    leash = Leash(plan)
    try:
        code = leash.run()
    finally:
        # Whatever went wrong: without a leash nothing runs on.
        try:
            leash.end()
        finally:
            os._exit(code)


class Leash:
    """Holds one workload.

    Args:
        plan: What the guard wants.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._workload = 0
        self._deadline_ns = 0
        self._namespace: Namespace | None = None
        self._timer = kernel.TimerFD(kernel.CLOCK_BOOTTIME)
        self._wake, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def run(self) -> int:
        """Hold the workload until it ends or must; return the exit code that says why."""
        try:
            lacking = self._stand()
        except OSError as exc:
            words = f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc)
            self._report(Report.FAILED, exc.errno or 0, Stage.LEASH, words)
            return BROKEN
        self._report(Report.READY, text=lacking)
        poll = select.poll()
        for fd in (self._plan.socket, self._timer.fileno(), self._wake):
            poll.register(fd, select.POLLIN)
        while True:
            poll.poll()
            for step in (self._obey, self._look, self._reap):
                code = step()
                if code is not None:
                    return code

    def end(self) -> None:
        """End what is held, so far as this process's own end does not."""
        if self._plan.hold is Hold.SWEEP:
            sweep.sweep()
        elif self._namespace is not None:
            self._namespace.end()

    def _stand(self) -> str:
        os.set_blocking(self._plan.socket, False)
        kernel.forbid_tracing()
        if self._plan.hold is Hold.NAMESPACE:
            # Without a namespace its end would end nobody: it sweeps when its guard is gone.
            kernel.die_with_parent(signal.SIGKILL)
        if self._plan.hold is not Hold.CONTAINER:
            self._stand_apart()
        signal.signal(signal.SIGCHLD, _noticed)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        # Giving the terminal away from the background would stop a leash that nothing shields.
        signal.pthread_sigmask(signal.SIG_SETMASK, (signal.SIGTTOU,))
        lacking = ""
        if self._plan.hold is Hold.NAMESPACE:
            lacking = mounts.shut(root=self._plan.host_root)
            self._namespace = Namespace(shown=not lacking)
        elif self._plan.hold is Hold.SWEEP:
            kernel.adopt_orphans()
        else:
            for number in (*FORWARDED, signal.SIGTSTP):
                signal.signal(number, self._pass_to_guard)
        priority.prefer(inherited=False)
        return lacking

    def _stand_apart(self) -> None:
        if self._plan.start.keeps_session:
            os.setpgid(0, 0)
        else:
            # As the workload does (``start``): nothing in its caller's session delays its end.
            os.setsid()

    def _pass_to_guard(self, number: int, frame: object) -> None:
        del frame
        os.kill(self._plan.guard, number)

    def _obey(self) -> int | None:
        while True:
            try:
                message = messages.receive(self._plan.socket)
            except BlockingIOError:
                return None
            if message is None:
                return self._guard_gone()
            if message.kind == Order.DEADLINE:
                self._deadline_ns = message.first
                self._timer.set(message.first)
            elif message.kind == Order.START:
                if not self._start():
                    return BROKEN
            elif message.kind == Order.SIGNAL:
                self._signal(message.first)
            elif message.kind == Order.FOREGROUND:
                self._give_terminal()

    def _guard_gone(self) -> int:
        # In a container somebody sees the leash's exit code: it is what the guard's was.
        until = time.monotonic() + _LAST_WORDS
        while self._plan.guard and time.monotonic() < until:
            pid, status = os.waitpid(self._plan.guard, os.WNOHANG)
            if pid:
                return _shell_code(status)
            time.sleep(_PAUSE)
        return BROKEN

    def _look(self) -> int | None:
        self._timer.clear()
        if self._deadline_ns and time.clock_gettime_ns(time.CLOCK_BOOTTIME) >= self._deadline_ns:
            return LAPSED
        return None

    def _start(self) -> bool:
        if not self._deadline_ns or self._workload:
            return False
        try:
            self._workload = start(self._plan.start)
        except StartError as exc:
            stage = Stage.EXECUTE if exc.executing else Stage.LEASH
            self._report(Report.FAILED, exc.number, stage, "start")
            return False
        except OSError as exc:
            self._report(Report.FAILED, exc.errno or 0, Stage.LEASH, "fork")
            return False
        _let_go(self._plan.terminal)
        self._report(Report.STARTED, self._workload)
        return True

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._workload, number)
        except (ProcessLookupError, PermissionError):
            # Its group is empty, though a daemon of it may live; or it changed its user.
            return

    def _give_terminal(self) -> None:
        try:
            os.tcsetpgrp(self._plan.terminal, os.getpgid(self._workload))
        except OSError:
            # The terminal was hung up, or the workload left its session.
            return
        finally:
            self._signal(signal.SIGCONT)

    def _reap(self) -> int | None:
        _drain(self._wake)
        for _ in range(_AT_ONCE):
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return None
            if pid == 0:
                return None
            if os.WIFSTOPPED(status):
                if pid == self._workload:
                    self._report(Report.STOPPED, os.WSTOPSIG(status))
            elif pid == self._workload:
                self._report(Report.EXITED, status)
                if self._plan.hold is not Hold.CONTAINER:
                    return 0
            elif pid == self._plan.guard:
                # In a container the guard says how it ends, and the leash repeats it.
                return _shell_code(status)
        # There may be more: come back after a look at the clock.
        signal.raise_signal(signal.SIGCHLD)
        return None

    def _report(self, kind: Report, first: int = 0, second: int = 0, text: str = "") -> None:
        try:
            messages.send(self._plan.socket, kind, first, second, text)
        except OSError:
            # The guard is gone or asleep; the next look at the socket, or the timer, ends all.
            return


def _noticed(number: int, frame: object) -> None:
    del number, frame


def _shell_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else BROKEN


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        return


def _let_go(terminal: int) -> None:
    # A reader of the workload's output waits until nobody holds it, the leash neither.
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in range(3):
        if fd != terminal:
            os.dup2(nowhere, fd)
    os.close(nowhere)


if __name__ == "__main__":
    main(sys.argv[1:])
