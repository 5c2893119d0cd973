"""Running an agent until it is told to stop.

Two threads. The worker attests, and may hang in the network or in the TPM. The main thread does
nothing that can hang: it watches the clocks, ends the lease at its deadline and waits for signals,
which it takes with ``sigtimedwait`` so that no handler runs in the middle of a write.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.node.lease import HeldLease, LeaseKeeper
from bootlease.node.observing import Observer, Outcome
from bootlease.node.renewal.agent import NodeAgent
from bootlease.node.reporter import Reporter
from bootlease.node.schedule import Schedule
from bootlease.node.wakeup import Wakeup

STOP_SIGNALS: Final = frozenset({signal.SIGINT, signal.SIGTERM})
_TICK: Final = 0.25
"""Seconds between two looks at the clocks: CLOCK_MONOTONIC, by which threads wait, stands still
while the machine sleeps, so a wait cannot simply last until the deadline."""
_SHORTEST_TICK: Final = 0.005
_GOODBYE: Final = 3.0


@dataclass(frozen=True, slots=True)
class Stopped:
    """How an agent ended.

    Attributes:
        signal: What told it to stop.
        clean: Its worker has ended too; otherwise it hangs in the TPM or the network, and whoever
            exits now must not wait for it nor close what it uses.
    """

    signal: signal.Signals
    clean: bool


class Worker(threading.Thread):
    """Attests, again and again.

    Args:
        agent: To be stepped.
        observer: Told what each step brings.
        schedule: Waits between two steps.
    """

    def __init__(self, agent: NodeAgent, observer: Observer, schedule: Schedule) -> None:
        super().__init__(name="attest", daemon=True)
        self._agent = agent
        self._observer = observer
        self._schedule = schedule
        self._stopped = threading.Event()
        self._busy_since: float | None = None

    def run(self) -> None:
        """Step until stopped."""
        while not self._stopped.is_set():
            self._busy_since = time.monotonic()
            outcome = self._agent.step()
            if self._stopped.is_set():
                break
            self._observer.stepped(outcome, self._agent.node)
            self._busy_since = None
            self._schedule.wait(outcome)

    def stop(self) -> None:
        """Make no further step; whoever waits must be woken."""
        self._stopped.set()

    def busy_for(self) -> float:
        """Return for how many seconds the step that is being made has lasted; 0 between two."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since


def _nothing(worker: Worker) -> None:
    del worker


def _nothing_at_all() -> None:
    return


@dataclass(frozen=True, slots=True)
class Duties:
    """What the watching thread does besides; nothing of it may hang.

    Attributes:
        ready: When the worker runs.
        look: At each look at the clocks.
        reload: At each SIGHUP; None to leave that signal alone.
        stopping: When the end begins.
    """

    ready: Callable[[Worker], None] = _nothing
    look: Callable[[Worker], None] = _nothing
    reload: Callable[[], None] | None = None
    stopping: Callable[[], None] = _nothing_at_all

    @property
    def signals(self) -> frozenset[signal.Signals]:
        """What is waited for."""
        return STOP_SIGNALS if self.reload is None else STOP_SIGNALS | {signal.SIGHUP}


NO_DUTIES: Final = Duties()


def run_until_stopped(
    worker: Worker, keeper: LeaseKeeper, wakeup: Wakeup, duties: Duties = NO_DUTIES
) -> Stopped:
    """Run an agent until SIGINT or SIGTERM; take back its tokens then.

    Args:
        worker: Not started yet.
        keeper: Its keeper; the deadline is enforced here.
        wakeup: Ends the worker's waiting.
        duties: What else is done meanwhile.

    Raises:
        RuntimeError: The worker ended by itself, which it never should.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, duties.signals)
    try:
        worker.start()
        duties.ready(worker)
        caught = _watch(worker, keeper, duties)
    finally:
        duties.stopping()
        worker.stop()
        wakeup.hurry()
        _quietly(keeper.close)
        if worker.ident is not None:
            worker.join(_GOODBYE)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return Stopped(caught, clean=not worker.is_alive())


def run_once(agent: NodeAgent, reporter: Reporter) -> HeldLease:
    """Make one attempt, and leave what it granted where it was handed out.

    Raises:
        VerificationError: The verifier refuses this node.
        TransportError: Verifier or TPM gave no usable answer.
        MalformedError: The verifier cannot read the request.
    """
    try:
        lease = agent.renew()
    except (VerificationError, TransportError, MalformedError) as exc:
        reporter.attempted(Outcome(0.0, error=exc), agent.node)
        raise
    reporter.attempted(Outcome(0.0, granted=lease), agent.node)
    return lease


def _watch(worker: Worker, keeper: LeaseKeeper, duties: Duties) -> signal.Signals:
    while worker.is_alive():
        caught = signal.sigtimedwait(duties.signals, keeper.next_look(_SHORTEST_TICK, _TICK))
        if caught is not None and caught.si_signo in STOP_SIGNALS:
            return signal.Signals(caught.si_signo)
        _quietly(keeper.enforce)
        if caught is not None and duties.reload is not None:
            duties.reload()
        duties.look(worker)
    raise RuntimeError("the agent's worker ended by itself")


def _quietly(action: Callable[[], None]) -> None:
    try:
        action()
    except TransportError:
        # Tokens that cannot be taken back: the keeper tries again at every look, and the reporter
        # has told. Nothing here may stop the watch.
        return
