"""The agent as a service: what it tells its manager, what a reload changes, when it is stuck."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from bootlease.errors import MalformedError
from bootlease.node.lease import EndReason
from bootlease.node.logline import Log, LogFormat
from bootlease.node.observing import Outcome
from bootlease.node.service import daemon as services
from bootlease.node.service.config import AgentConfig, parse_config
from bootlease.node.service.daemon import AgentService, Surroundings
from bootlease.node.service.notify import ServiceManager
from bootlease.node.state import StateDirectory
from bootlease.node.wish import LeaseWish
from tests.unit.node.conftest import NodeLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bootlease.model import Finding
    from bootlease.node.lease import HeldLease
    from bootlease.node.run import Stopped
    from bootlease.node.wishbook import Wishes
    from bootlease.node.workloads.rules import Rules
    from tests.unit.node.conftest import Rig

PATIENCE = 20.0
CONFIG = """schema = 1
[verifier]
bundle = "/join.json"
[api]
[log]
format = "json"
[[keep]]
scope = ["tool:search"]
audience = "https://tools.example"
"""
KEEP_MORE = """[[keep]]
scope = ["tool:more"]
audience = "https://tools.example"
"""


@dataclass
class API:
    """A Workload API that serves nobody."""

    wishes: Wishes
    turns: bool = True
    connections: int = 2
    told: list[Any] = field(default_factory=list)

    def granted(self, lease: HeldLease) -> None:
        """Take note."""
        self.told.append(lease)

    def ended(self, reason: EndReason, findings: tuple[Finding, ...]) -> None:
        """Take note."""
        self.told.append((reason, findings))

    def stepped(self, outcome: Outcome, node: bytes | None) -> None:
        """Take note."""
        del node
        self.told.append(outcome)

    def start(self) -> None:
        """Take note."""
        self.told.append("start")

    def stop(self) -> None:
        """Take note."""
        self.told.append("stop")

    def reload(self, rules: Rules) -> None:
        """Take note."""
        self.told.append(rules)

    def alive(self) -> bool:
        """Tell what the test wants."""
        return self.turns


class Running:
    """A service in the main thread, with a script in another."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        """Put it together."""
        self.stream = io.StringIO()
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(folder / "notify"))
        self.manager.settimeout(PATIENCE)
        self.directory = StateDirectory(folder / "state")
        self.config = CONFIG
        self.apis: list[API] = []
        self.read: Callable[[], AgentConfig] = lambda: parse_config(self.config.encode())
        self.heard: list[str] = []
        self.service = AgentService(
            self.read(),
            Surroundings(
                bundle=rig.verifier.bundle,
                device=rig.node,
                log=NodeLog(rig.node),
                ima=None,
                verifier=rig.verifier,
                directory=self.directory,
                clock=rig.clock,
                say=Log(self.stream, LogFormat.JSON),
                manager=ServiceManager(str(folder / "notify"), watchdog=0.4),
                read_config=self.read,
                make_api=self._make_api,
            ),
        )

    def _make_api(self, wishes: Wishes) -> API:
        self.apis.append(API(wishes))
        return self.apis[-1]

    @property
    def api(self) -> API:
        """The API."""
        return self.apis[0]

    def events(self) -> list[dict[str, Any]]:
        """Return what was said."""
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def hear(self, beginning: str) -> str:
        """Wait for a message to the service manager."""
        while True:
            self.heard.append(self.manager.recv(4096).decode())
            if self.heard[-1].startswith(beginning):
                return self.heard[-1]

    def run(self, script: Callable[[], None]) -> Stopped:
        """Run the service until the script is over."""
        main, failed = threading.get_ident(), []

        def play() -> None:
            try:
                script()
            except BaseException as exc:  # noqa: BLE001 - handed to the test
                failed.append(exc)
            signal.pthread_kill(main, signal.SIGTERM)

        player = threading.Thread(target=play)
        player.start()
        stopped = self.service.run()
        player.join()
        if failed:
            raise failed[0]
        return stopped

    def hang_up(self) -> None:
        """Send SIGHUP."""
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGHUP)


@pytest.fixture
def running(rig: Rig, tmp_path: Path) -> Iterator[Running]:
    """A service that is not running yet."""
    made = Running(rig, tmp_path)
    yield made
    made.manager.close()
    made.directory.close()


def test_from_start_to_end(running: Running) -> None:
    """Ready once the API listens, status with the first lease, stopping before the end."""

    def script() -> None:
        running.hear("READY=1")
        assert running.api.told[0] == "start"
        running.hear("STATUS=1 of 1 leases held, number 0")
        running.hear("WATCHDOG=1")

    stopped = running.run(script)
    assert stopped.clean
    running.hear("STOPPING=1")
    events = [event["event"] for event in running.events()]
    assert events[:2] == ["agent.started", "agent.ready"]
    assert events[-1] == "agent.stopped"
    assert running.api.told[-2:] == [(EndReason.STOPPED, ()), "stop"]
    status = json.loads((running.directory.path / "status.json").read_bytes())
    assert status["state"] == "stopped"


def test_a_good_reload(running: Running) -> None:
    """A file that is taken over changes wishes, rules and log; what it cannot change is named."""

    def script() -> None:
        running.hear("READY=1")
        text = CONFIG.replace("tool:search", "tool:other").replace("/join.json", "/other.json")
        text = text.replace('"json"', '"text"')
        running.config = text + '[node]\ntcti = "device:/dev/tpm1"\n'
        running.hang_up()
        running.hear("RELOADING=1\nMONOTONIC_USEC=")
        running.hear("READY=1")
        end = time.monotonic() + PATIENCE
        while running.api.wishes.snapshot()[0].wish.scope != ("tool:other",):
            assert time.monotonic() < end

    running.run(script)
    said = running.stream.getvalue()
    assert "only a restart changes verifier.bundle, node.tcti" in said
    assert "Z stopped\n" in said
    assert len(running.api.wishes) == 1


def test_a_standing_wish_waits_for_room(running: Running) -> None:
    """Where workloads hold all leases, one that is to be kept is asked for once one has gone."""

    def script() -> None:
        running.hear("READY=1")
        wishes = running.api.wishes
        guests = [
            wishes.add(LeaseWish((f"guest:{number}",), "a"))
            for number in range(running.read().node.max_leases - 1)
        ]
        running.config = CONFIG.replace("json", "text") + KEEP_MORE
        running.hang_up()
        running.hear("RELOADING=1")
        running.hear("READY=1")
        wishes.remove(guests[0])
        end = time.monotonic() + PATIENCE
        while ("tool:more",) not in [each.wish.scope for each in wishes.snapshot()]:
            assert time.monotonic() < end
            time.sleep(0.05)

    running.run(script)


def test_a_wrong_reload(running: Running) -> None:
    """A file that is wrong changes nothing, and the manager is told that the agent serves on."""

    def script() -> None:
        running.hear("READY=1")
        running.config = CONFIG + "nonsense = 1\n"
        running.hang_up()
        running.hear("RELOADING=1")
        running.hear("READY=1")

    running.run(script)
    (refused,) = [each for each in running.events() if each["event"] == "config.refused"]
    assert "line 10: keep[1].nonsense: unknown key" in refused["error"]
    assert running.api.wishes.snapshot()[0].wish.scope == ("tool:search",)


def test_no_other_reload_after_a_restart_was_asked_for(running: Running) -> None:
    """What takes a restart is named again at each reload, until there is one."""

    def script() -> None:
        running.hear("READY=1")
        running.config = CONFIG.replace("/join.json", "/other.json")
        for _ in range(2):
            running.hang_up()
            running.hear("RELOADING=1")
            running.hear("READY=1")

    running.run(script)
    reloads = [each for each in running.events() if each["event"] == "config.reloaded"]
    assert [each["takes_restart"] for each in reloads] == [["verifier.bundle"]] * 2


def test_an_api_that_hangs_starves_the_watchdog(running: Running) -> None:
    """The watchdog is fed only while the API turns; what hangs is said once."""

    def script() -> None:
        running.hear("WATCHDOG=1")
        running.api.turns = False
        time.sleep(0.6)
        running.manager.settimeout(0.6)
        with contextlib.suppress(TimeoutError):
            running.hear("nothing that is ever said")
        quiet_since = len(running.heard)
        with pytest.raises(TimeoutError):
            running.hear("WATCHDOG=1")
        assert len(running.heard) == quiet_since
        running.manager.settimeout(PATIENCE)
        running.api.turns = True
        running.hear("WATCHDOG=1")

    running.run(script)
    stuck = [each for each in running.events() if each["event"] == "agent.stuck"]
    assert [each["message"] for each in stuck] == [
        "the Workload API does not turn; the watchdog is not fed until that ends"
    ]


def test_a_step_that_hangs_starves_the_watchdog(
    running: Running, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call to TPM or verifier that does not come back is not petted for ever."""
    monkeypatch.setattr(services, "STUCK", 0.2)
    free = threading.Event()

    def hang(_: str) -> None:
        free.wait(PATIENCE)

    rig.verifier.before = hang

    def script() -> None:
        end = time.monotonic() + PATIENCE
        while "agent.stuck" not in running.stream.getvalue():
            assert time.monotonic() < end
            time.sleep(0.01)
        free.set()
        running.hear("STATUS=1 of 1")
        running.hear("WATCHDOG=1")

    running.run(script)


def test_outcomes_reach_everybody(running: Running, rig: Rig) -> None:
    """The API learns of each step, and the manager's line says how it stands."""
    running.service._observers.stepped(Outcome(3600.0), None)
    running.hear("STATUS=nothing is wished for")
    lease = rig.start().renew()
    running.service.ended(EndReason.LAPSED, lease)
    running.hear("STATUS=no lease: lapsed, number 0")
    running.service.stepped(Outcome(1.0, error=MalformedError("odd")), None)
    running.hear("STATUS=no renewal: odd")
    assert running.api.told[-1].error is not None
