"""The agent as a service: real processes, a software TPM, a verifier behind HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from bootlease.localapi import Denied, Granted
from bootlease.testing.examples import AUDIENCE, SCOPE
from bootlease.testing.verifier_process import run_cli
from bootlease.workload import AgentGoneError, WorkloadClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from bootlease.testing.node_on_swtpm import NodeOnSwtpm
    from bootlease.testing.verifier_process import VerifierProcess
    from bootlease.workload import LeaseStream

pytestmark = pytest.mark.swtpm

PATIENCE = 60.0
BOOTLEASE = (sys.executable, "-m", "bootlease")
KEEP = f"""
[[keep]]
scope = ["{SCOPE}"]
audience = "{AUDIENCE}"
encoding = "jwt"
"""
RULE = """
[[workload]]
name = "tests"
uid = [{uid}]
scope = ["{scope}"]
audience = ["{audience}", "https://elsewhere.example"]
"""


def wait_for(what: Callable[[], Any]) -> Any:
    """Return what is true in the end."""
    end = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)
    return found


@dataclass
class Service:
    """An agent that is started, killed and started again."""

    folder: Path
    node: NodeOnSwtpm
    verifier: VerifierProcess
    tail: str = ""
    process: subprocess.Popen[bytes] | None = None
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Prepare what the agent reads."""
        self.folder.mkdir(mode=0o700)
        (self.folder / "log").write_bytes(self.node.event_log)
        (self.folder / "join.json").write_bytes(
            run_cli("verifier", "bundle", "--data", str(self.verifier.folder), "-o", "-")
        )
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(self.folder / "notify"))
        self.manager.setblocking(False)  # noqa: FBT003 - the standard library's way

    def configure(self, tail: str) -> None:
        """Write the configuration."""
        (self.folder / "agent.toml").write_text(f"""
schema = 1
[verifier]
bundle = "{self.folder}/join.json"
[node]
tcti = "{self.node.tcti}"
state = "{self.folder}/state"
log = "{self.folder}/log"
ek_algorithm = "ecc-p256"
[api]
socket = "{self.folder}/api"
[metrics]
listen = "{self.folder}/metrics"
[log]
format = "json"
{tail}
""")

    def start(self, environment: Mapping[str, str] | None = None, **options: Any) -> None:
        """Start the agent."""
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*BOOTLEASE, "node", "run", "--config", f"{self.folder}/agent.toml"],
                stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": f"{self.folder}/notify", **(environment or {})},
                **options,
            )

    def end(self, number: signal.Signals) -> int:
        """End the agent."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def events(self, *names: str) -> list[dict[str, Any]]:
        """Return what the agent has logged under these names."""
        lines = (self.folder / "agent.log").read_text().splitlines()
        logged = [json.loads(line) for line in lines]
        return [event for event in logged if event["event"] in names]

    def wait_for_grants(self, count: int) -> list[dict[str, Any]]:
        """Wait until leases were granted so often; return all of the grants."""
        return wait_for(  # type: ignore[no-any-return]
            lambda: (found := self.events("lease.granted")) and len(found) >= count and found
        )

    def messages(self) -> list[str]:
        """Return what the service manager was told so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.told.append(self.manager.recv(4096).decode())
        return self.told

    def client(self) -> WorkloadClient:
        """Return a client of its Workload API, which listens."""
        client = WorkloadClient(self.folder / "api", timeout=PATIENCE)

        def serves() -> bool:
            try:
                return bool(client.info())
            except AgentGoneError:
                return False

        wait_for(serves)
        return client

    def metrics(self) -> str:
        """Scrape it."""
        with socket.socket(socket.AF_UNIX) as scraper:
            scraper.settimeout(PATIENCE)
            scraper.connect(str(self.folder / "metrics"))
            scraper.sendall(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")
            answer = b""
            while data := scraper.recv(65536):
                answer += data
        return answer.decode()


@pytest.fixture
def service(
    simulated_node: NodeOnSwtpm, verifier: VerifierProcess, tmp_path: Path
) -> Iterator[Service]:
    """A node whose agent is configured, and not started."""
    made = Service(tmp_path / "a", simulated_node, verifier)
    made.configure(KEEP + RULE.format(scope=SCOPE, uid=os.getuid(), audience=AUDIENCE))
    yield made
    made.manager.close()
    if made.process is not None:
        made.process.kill()
        made.process.wait()


def granted(stream: LeaseStream) -> Granted:
    """Return the next grant of a lease."""
    event = stream.next_event(PATIENCE)
    while not isinstance(event, Granted):
        assert event is not None, "no grant came"
        event = stream.next_event(PATIENCE)
    return event


def test_one_lineage_for_all(service: Service) -> None:
    """Standing wishes and workloads share renewals; a denied one disturbs nobody."""
    service.start()
    service.wait_for_grants(1)
    assert "READY=1" in service.messages()
    client = service.client()
    with client.lease([SCOPE], AUDIENCE) as one, client.lease([SCOPE], AUDIENCE) as two:
        first = granted(one)
        assert granted(two).lease_id != first.lease_id
        with client.lease([SCOPE], "https://elsewhere.example") as three:
            event = three.next_event(PATIENCE)
        assert isinstance(event, Denied)
        assert [finding.id for finding in event.findings] == ["policy.audience.denied"]
        scraped = service.metrics()
    grants = service.events("lease.granted")
    assert len({grant["lineage"] for grant in grants}) == 1
    assert [grant["seq"] for grant in grants] == list(range(len(grants)))
    assert max(grant["leases"] for grant in grants) == 3
    assert service.events("lease.ended", "attempt.refused") == []
    assert "\nbootlease_agent_leases 3\n" in scraped
    assert "\nbootlease_agent_denials_total 1\n" in scraped
    assert scraped.endswith("# EOF\n")
    assert service.end(signal.SIGTERM) == 0
    assert "STOPPING=1" in service.messages()
    assert not (service.folder / "api").exists()
    said = (service.folder / "agent.log").read_text()
    assert first.token not in said
    assert first.handle not in said


def test_restarts_continue_the_lineage(service: Service) -> None:
    """Stopped or killed at any moment, an agent goes on where the one before it was."""
    service.start()
    client = service.client()
    handle = None
    for number, delay in ((signal.SIGTERM, 0.0), (signal.SIGKILL, 0.0), (signal.SIGKILL, 0.15)):
        with client.lease([SCOPE], AUDIENCE, handle=handle) as stream:
            granted(stream)
            handle = stream.handle
        time.sleep(delay)
        service.end(number)
        service.start()
        client = service.client()
    before = len(service.events("lease.granted"))
    service.wait_for_grants(before + 1)
    grants = service.events("lease.granted")
    assert len({grant["lineage"] for grant in grants}) == 1
    assert [grant["seq"] for grant in grants] == sorted({grant["seq"] for grant in grants})
    assert len(service.events("node.enrolled")) == 1
    assert service.events("lineage.ended") == []


def test_reload(service: Service) -> None:
    """SIGHUP takes a good file over and refuses a wrong one; the manager is told of both."""
    service.configure(RULE.format(scope=SCOPE, uid=os.getuid() + 1, audience=AUDIENCE))
    service.start()
    wait_for(lambda: "READY=1" in service.messages())
    assert service.process is not None
    service.configure("[nonsense]\n")
    service.process.send_signal(signal.SIGHUP)
    (refused,) = wait_for(lambda: service.events("config.refused"))
    assert "nonsense: unknown key" in refused["error"]
    service.configure(KEEP + RULE.format(scope=SCOPE, uid=os.getuid(), audience=AUDIENCE))
    service.process.send_signal(signal.SIGHUP)
    wait_for(lambda: service.events("config.reloaded"))
    service.wait_for_grants(1)
    with service.client().lease([SCOPE], AUDIENCE) as stream:
        granted(stream)
    told = service.messages()
    assert sum(message.startswith("RELOADING=1\nMONOTONIC_USEC=") for message in told) == 2
    assert told.count("READY=1") == 3


def test_socket_of_the_service_manager(service: Service) -> None:
    """Workloads that connect before the agent runs are served once it does."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(service.folder / "api"))
        listener.listen()
        script = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True);"
            "os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[2], sys.argv[2:])"
        )
        early = socket.socket(socket.AF_UNIX)
        early.connect(str(service.folder / "api"))
        with (service.folder / "agent.log").open("ab") as log:
            service.process = subprocess.Popen(
                [
                    *(sys.executable, "-c", script, str(listener.fileno()), *BOOTLEASE),
                    *("node", "run", "--config", f"{service.folder}/agent.toml"),
                ],
                pass_fds=(listener.fileno(),),
                stderr=log,
                env={**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "workload"},
            )
    with early:
        early.settimeout(PATIENCE)
        early.sendall(
            b"GET /v1/info HTTP/1.1\r\nhost: localhost\r\nbootlease-workload: true\r\n\r\n"
        )
        assert early.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert service.end(signal.SIGTERM) == 0
    # It belongs to the service manager, which keeps what waits in it for the next agent.
    assert (service.folder / "api").exists()
