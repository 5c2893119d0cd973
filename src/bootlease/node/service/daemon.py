"""The service's life, from its start over every reload to its stop.

It puts together the agent, the Workload API, standing wishes, metrics and the service manager. The
watching thread does what cannot hang; the agent's worker, the API and the metrics have a thread
each. A service manager's watchdog is fed only while all of them turn: a step of the worker that
lasts longer than ``STUCK`` (a TPM or a network call that hangs) or an API that does not answer
starves it, and the agent is started anew. Its lineage goes on from the state directory.
"""

from __future__ import annotations

import dataclasses
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from bootlease import __version__
from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.model import Finding
from bootlease.node.bundle import JoinBundle
from bootlease.node.calls import Verifier
from bootlease.node.ima import IMASource
from bootlease.node.lease import EndReason, HeldLease, LeaseKeeper
from bootlease.node.logline import Event, Level, Log
from bootlease.node.logs import EventLogSource
from bootlease.node.observing import Observer, Observers, Outcome
from bootlease.node.outputs import Outputs
from bootlease.node.renewal.agent import NodeAgent
from bootlease.node.renewal.settings import Settings
from bootlease.node.reporter import Reporter
from bootlease.node.run import Duties, Stopped, Worker, run_until_stopped
from bootlease.node.schedule import Schedule
from bootlease.node.service.config import AgentConfig, LoopbackAddress, takes_restart
from bootlease.node.service.keeping import Keeping
from bootlease.node.service.metrics import AgentMetrics
from bootlease.node.service.metricserver import MetricsServer
from bootlease.node.service.notify import ServiceManager
from bootlease.node.state import StateDirectory
from bootlease.node.wakeup import Wakeup
from bootlease.node.wishbook import Wishes
from bootlease.node.workloads.rules import Rules
from bootlease.ports import Clock, TPMDevice

STUCK: Final = 120.0
"""Seconds after which a step counts as hung: its calls over the network have bounds of their own,
which together stay below, but for a verifier that lets each of them run out."""
_FEEDS: Final = 4
"""How often a watchdog is fed within its period."""


class WorkloadAPI(Protocol):
    """The Workload API, as the agent uses it; an output for leases and an observer too."""

    def granted(self, lease: HeldLease) -> None:
        """See ``LeaseOutput``."""

    def ended(self, reason: EndReason, findings: tuple[Finding, ...]) -> None:
        """See ``LeaseOutput``."""

    def stepped(self, outcome: Outcome, node: bytes | None) -> None:
        """See ``Observer``."""

    def start(self) -> None:
        """Listen; return when workloads are served."""

    def stop(self) -> None:
        """Close every connection and stop."""

    def reload(self, rules: Rules) -> None:
        """Serve by other rules."""

    def alive(self) -> bool:
        """Tell whether it turns."""

    @property
    def connections(self) -> int:
        """How many connections it serves."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a service works with.

    Attributes:
        bundle: Its verifier.
        device: The node's TPM.
        log: Its event log.
        ima: Its IMA list, where its kernel keeps one.
        verifier: The calls to the verifier.
        directory: Where it remembers and reports.
        clock: Wall clock and CLOCK_BOOTTIME.
        say: Its log.
        manager: Whoever started it.
        read_config: Reads the configuration again.
        make_api: Makes the Workload API, where there is one.
    """

    bundle: JoinBundle
    device: TPMDevice
    log: EventLogSource
    ima: IMASource | None
    verifier: Verifier
    directory: StateDirectory
    clock: Clock
    say: Log
    manager: ServiceManager
    read_config: Callable[[], AgentConfig]
    make_api: Callable[[Wishes], WorkloadAPI] | None = None


@dataclass(slots=True)
class _StatusLine:
    """Keeps the service manager's line about the agent true; an ``Observer``."""

    manager: ServiceManager
    wishes: Wishes

    def stepped(self, outcome: Outcome, node: bytes | None) -> None:
        """Tell what a step brought."""
        del node
        if outcome.granted is not None:
            held, wished = len(outcome.granted.holdings), len(self.wishes)
            self.manager.status(
                f"{held} of {wished} leases held, number {outcome.granted.sequence}"
            )
        elif isinstance(outcome.error, VerificationError):
            self.manager.status(f"refused: {outcome.error}")
        elif outcome.error is not None:
            self.manager.status(f"no renewal: {outcome.error}")
        elif outcome.idle:
            self.manager.status("nothing is wished for")

    def ended(self, reason: EndReason, lease: HeldLease) -> None:
        """Tell that a lease ended."""
        self.manager.status(f"no lease: {reason.value}, number {lease.sequence}")


class AgentService:
    """Runs until it is told to stop.

    Args:
        config: What to do.
        around: What to work with.
    """

    def __init__(self, config: AgentConfig, around: Surroundings) -> None:
        self._config = config
        self._around = around
        self._wakeup = Wakeup()
        self._wishes = Wishes(
            at_most=config.node.max_leases,
            on_new=self._wakeup.notify,
            expiring=around.bundle.leash_key is not None,
        )
        self._api = None if around.make_api is None else around.make_api(self._wishes)
        outputs = Outputs([] if self._api is None else [self._api], around.say)
        self._keeper = LeaseKeeper(around.clock, outputs, self._ended)
        self._reporter = Reporter(around.bundle.issuer, around.directory, around.clock, around.say)
        self._metrics = AgentMetrics(
            self._keeper,
            self._wishes,
            around.clock,
            lambda: 0 if self._api is None else self._api.connections,
        )
        told: list[Observer] = [self._reporter, self._metrics]
        told.append(_StatusLine(around.manager, self._wishes))
        self._observers = Observers(told)
        self._keeping = Keeping(self._wishes, outputs, around.directory, around.say)
        self._watchdog = _Watchdog(around.manager, around.say, self._api)

    def run(self) -> Stopped:
        """Serve until SIGINT or SIGTERM.

        Raises:
            TransportError: Something cannot be listened on, or used.
            MalformedError: A file of the configuration is somebody else's.
        """
        say = self._around.say
        say(Event("agent.started", f"bootlease {__version__} starts", version=__version__))
        duties = Duties(self._ready, self._look, self._reload, self._stopping)
        # Before the first thread is made, which inherits it: the watching thread alone takes these
        # signals, and none that comes early is lost or kills.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, duties.signals)
        try:
            stopped = self._serve(duties)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        say(Event("agent.stopped", "stopped", signal=stopped.signal.name, clean=stopped.clean))
        return stopped

    def _serve(self, duties: Duties) -> Stopped:
        around, metrics = self._around, self._metrics_server()
        worker = Worker(self._agent(), self, Schedule(self._wishes, self._wakeup, around.clock))
        self._keeping.apply(self._config.keep)
        self._reporter.started()
        try:
            if self._api is not None:
                self._api.start()
            if metrics is not None:
                metrics.start()
            return run_until_stopped(worker, self._keeper, self._wakeup, duties)
        finally:
            if self._api is not None:
                self._api.stop()
            if metrics is not None:
                metrics.stop()
            self._reporter.stopped()

    # -- an observer that tells all others

    def stepped(self, outcome: Outcome, node: bytes | None) -> None:
        """Tell everybody what a step brought."""
        self._observers.stepped(outcome, node)
        if self._api is not None:
            self._api.stepped(outcome, node)

    def ended(self, reason: EndReason, lease: HeldLease) -> None:
        """Tell everybody but the API, which has learned it as an output, that a lease ended."""
        self._observers.ended(reason, lease)

    # -- inside

    def _agent(self) -> NodeAgent:
        around = self._around
        return NodeAgent(
            Settings(around.bundle),
            device=around.device,
            log=around.log,
            verifier=around.verifier,
            keeper=self._keeper,
            store=around.directory,
            clock=around.clock,
            jitter=random.random,
            say=around.say,
            ima=around.ima,
            wishes=self._wishes,
        )

    def _metrics_server(self) -> MetricsServer | None:
        where = self._config.metrics
        if where is None:
            return None
        address = (where.host, where.port) if isinstance(where, LoopbackAddress) else where.path
        return MetricsServer(address, self._metrics.exposition)

    def _ended(self, reason: EndReason, lease: HeldLease) -> None:
        self.ended(reason, lease)
        # Between two attempts far apart: a lease that has just lapsed is worth one at once.
        if reason is EndReason.LAPSED:
            self._wakeup.hurry()

    def _ready(self, worker: Worker) -> None:
        del worker
        self._around.manager.ready()
        self._around.say(Event("agent.ready", "ready"))

    def _look(self, worker: Worker) -> None:
        self._keeping.again()
        self._watchdog.look(worker)

    def _stopping(self) -> None:
        self._around.manager.stopping()
        self._around.say(Event("agent.stopping", "stopping"))

    def _reload(self) -> None:
        manager = self._around.manager
        manager.reloading()
        try:
            self._take_over(self._around.read_config())
        except (MalformedError, TransportError) as exc:
            said = f"the configuration is not taken over, the one before goes on: {exc}"
            self._around.say(Event("config.refused", said, level=Level.ERROR, error=str(exc)))
            self._metrics.reloaded(accepted=False)
        else:
            self._metrics.reloaded(accepted=True)
        manager.ready()

    def _take_over(self, new: AgentConfig) -> None:
        old, say = self._config, self._around.say
        self._keeping.apply(new.keep)
        if self._api is not None:
            self._api.reload(new.rules)
        if new.log_format is not old.log_format:
            say.format = new.log_format
        restart = list(takes_restart(old, new))
        self._config = dataclasses.replace(
            old, keep=new.keep, rules=new.rules, log_format=new.log_format
        )
        text = "the configuration is taken over"
        if restart:
            text += f"; only a restart changes {', '.join(restart)}"
        level = Level.WARNING if restart else Level.INFO
        say(Event("config.reloaded", text, level=level, takes_restart=restart or None))


@dataclass(slots=True)
class _Watchdog:
    """Feeds the service manager's watchdog while everything turns."""

    manager: ServiceManager
    say: Callable[[str], None]
    api: WorkloadAPI | None
    stuck: str | None = None
    fed_at: float = field(default_factory=time.monotonic)

    def look(self, worker: Worker) -> None:
        """Look whether everything turns."""
        stuck = self._stuck(worker)
        if stuck is not None and stuck != self.stuck:
            said = f"{stuck}; the watchdog is not fed until that ends"
            self.say(Event("agent.stuck", said, level=Level.ERROR))
        self.stuck = stuck
        now, period = time.monotonic(), self.manager.watchdog
        if stuck is None and period is not None and now - self.fed_at >= period / _FEEDS:
            self.fed_at = now
            self.manager.alive()

    def _stuck(self, worker: Worker) -> str | None:
        if worker.busy_for() > STUCK:
            return f"the TPM or the verifier has not come back for more than {STUCK:.0f} s"
        if self.api is not None and not self.api.alive():
            return "the Workload API does not turn"
        return None
