"""The agent and the verifier as two processes, on a software TPM that really booted."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from bootlease.model import HashAlg
from bootlease.testing.boot import simulate_boot
from bootlease.testing.node_on_swtpm import ALL_BANKS
from bootlease.testing.policies import make_policy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bootlease.testing.boot_description import BootDescription
    from bootlease.testing.local_ca import LocalCA
    from bootlease.testing.node_on_swtpm import NodeOnSwtpm

pytestmark = pytest.mark.swtpm

PATIENCE = 30.0
AUDIENCE = "https://tools.example"
BOOTLEASE = (sys.executable, "-m", "bootlease")


def bootlease(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*BOOTLEASE, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def must(*arguments: str) -> str:
    """Run a command that must succeed; return what it printed."""
    done = bootlease(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@dataclass
class Site:
    """A verifier and a node, with the processes that run."""

    folder: Path
    node: NodeOnSwtpm
    port: int
    processes: list[subprocess.Popen[str]]

    def found(self, ca: LocalCA, ek: str, *, life: int = 9) -> None:
        """Make a verifier that accepts what the node has booted."""
        (self.folder / "log").write_bytes(self.node.event_log)
        (self.folder / "roots.pem").write_bytes(ca.roots_pem)
        (self.folder / "policy.toml").write_text(
            make_policy(enrolment__ek_algorithm=f'"{ek}"', lease__life=str(life))
        )
        must(
            *("reference", "learn", "--log", f"{self.folder}/log", "--name", "golden"),
            *("-o", f"{self.folder}/golden.json"),
        )
        must(
            *("verifier", "init", "--data", f"{self.folder}/verifier"),
            *("--issuer", f"http://127.0.0.1:{self.port}"),
            *("--policy", f"{self.folder}/policy.toml", "--ek-root", f"{self.folder}/roots.pem"),
            *("--reference", f"{self.folder}/golden.json"),
        )
        must(
            *("verifier", "bundle", "--data", f"{self.folder}/verifier"),
            *("-o", f"{self.folder}/join.json"),
        )

    def serve(self) -> subprocess.Popen[str]:
        """Start the verifier, and wait until it listens."""
        arguments = ("--data", f"{self.folder}/verifier", "--listen", f"127.0.0.1:{self.port}")
        with (self.folder / "verifier.log").open("a") as log:
            process = subprocess.Popen(
                [*BOOTLEASE, "verifier", "serve", *arguments], stdout=log, stderr=log, text=True
            )
        self.processes.append(process)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return process
        pytest.fail((self.folder / "verifier.log").read_text())

    def agent(self, *more: str) -> tuple[str, ...]:
        """Return the command line of an agent."""
        (self.folder / "log").write_bytes(self.node.event_log)
        return (
            *("node", "run", "--bundle", f"{self.folder}/join.json", "--tcti", self.node.tcti),
            *("--state", f"{self.folder}/state", "--log", f"{self.folder}/log"),
            *("--scope", "tool:search", "--audience", AUDIENCE),
            *("--token-file", f"{self.folder}/token", *more),
        )

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Start an agent."""
        with (self.folder / "agent.log").open("a") as log:
            process = subprocess.Popen([*BOOTLEASE, *self.agent(*more)], stderr=log, text=True)
        self.processes.append(process)
        return process

    def said(self) -> str:
        """Return what the agent said."""
        return (self.folder / "agent.log").read_text()

    def wait_for(self, what: str) -> None:
        """Wait until the agent has said ``what``."""
        end = time.monotonic() + PATIENCE
        while what not in self.said():
            if time.monotonic() > end:
                pytest.fail(f"the agent did not say {what!r} but: {self.said()}")
            time.sleep(0.02)

    def status(self) -> dict[str, Any]:
        """Return the agent's status."""
        shown = bootlease("node", "status", "--state", f"{self.folder}/state", "--json")
        status: dict[str, Any] = json.loads(shown.stdout)
        return status


@pytest.fixture
def site(simulated_node: NodeOnSwtpm, tmp_path: Path) -> Iterator[Site]:
    """A booted node and a place for its verifier."""
    made = Site(tmp_path, simulated_node, free_port(), [])
    yield made
    for process in made.processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("ek", "ak"), [("ecc-p256", "ecc-p256"), ("rsa-2048", "rsa-2048"), ("ecc-p384", "ecc-p256")]
)
def test_lease_is_kept(site: Site, local_ca: LocalCA, ek: str, ak: str) -> None:
    """With any EK and AK a node enrols, gets a token that verifies, and renews it."""
    site.found(local_ca, ek)
    site.serve()
    agent = site.start("--ek-algorithm", ek, "--ak-algorithm", ak, "--encoding", "jwt")
    site.wait_for("lease 1 granted")
    url = f"http://127.0.0.1:{site.port}"
    must(
        *("token", "verify", f"{site.folder}/token", "--keys", f"{url}/.well-known/jwks.json"),
        *("--issuer", url, "--audience", AUDIENCE, "--scope", "tool:search"),
    )
    assert site.status()["valid"] is True
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(10) == 0
    assert not (site.folder / "token").exists()
    assert "Traceback" not in site.said()


def test_verifier_killed(site: Site, local_ca: LocalCA) -> None:
    """A verifier that is killed and comes back goes on with the lineage: no lease is lost."""
    # Two thirds of it are left for a verifier to start on a busy machine.
    site.found(local_ca, "ecc-p256", life=45)
    verifier = site.serve()
    site.start("--ek-algorithm", "ecc-p256")
    site.wait_for("lease 1 granted")
    verifier.kill()
    verifier.wait()
    site.wait_for("no renewal: cannot reach the verifier")
    site.serve()
    site.wait_for("lease 2 granted")
    assert "has ended" not in site.said()


def test_changed_at_run_time(site: Site, local_ca: LocalCA) -> None:
    """A PCR that is extended at run time ends the lease at the next renewal."""
    site.found(local_ca, "ecc-p256")
    site.serve()
    site.start("--ek-algorithm", "ecc-p256")
    site.wait_for("lease 0 granted")
    site.node.device.pcr_extend(14, {HashAlg.SHA256: bytes(32)})
    site.wait_for("refused: ")
    status = site.status()
    assert status["state"] == "refused"
    assert any(finding.get("pcr") == 14 for finding in status["findings"])
    assert not (site.folder / "token").exists()


def test_booted_otherwise(site: Site, local_ca: LocalCA, boot_description: BootDescription) -> None:
    """A node that booted another command line is refused with the event that differs."""
    site.found(local_ca, "ecc-p256")
    site.serve()
    changed = boot_description.with_command_line(f"{boot_description.command_line} init=/bin/sh")
    site.node.boot(simulate_boot(changed, ALL_BANKS))
    done = bootlease(*site.agent("--once", "--ek-algorithm", "ecc-p256"))
    assert done.returncode == 1, done.stderr
    assert re.search(r"^bootlease: .*\[eventlog\.", done.stderr, re.MULTILINE), done.stderr
    assert not (site.folder / "token").exists()


def test_restarted_agent_continues(site: Site, local_ca: LocalCA) -> None:
    """An agent that is killed and started again goes on with the lineage."""
    site.found(local_ca, "ecc-p256")
    site.serve()
    agent = site.start("--ek-algorithm", "ecc-p256")
    site.wait_for("lease 0 granted")
    agent.kill()
    agent.wait()
    site.start()
    site.wait_for("lease 1 granted")


def test_wrong_ek(site: Site, local_ca: LocalCA) -> None:
    """An EK of another kind than the policy's is refused at enrolment, with 1."""
    site.found(local_ca, "ecc-p256")
    site.serve()
    done = bootlease(
        *("node", "enrol", "--bundle", f"{site.folder}/join.json", "--tcti", site.node.tcti),
        *("--state", f"{site.folder}/state", "--ek-algorithm", "rsa-2048"),
    )
    assert done.returncode == 1, done.stderr
    refusal, hint = done.stderr.splitlines()
    assert refusal.endswith("(expected ecc-p256, seen rsa-2048) [enrolment.ek-algorithm.mismatch]")
    assert hint.startswith("bootlease: hint: run with --ek-algorithm ecc-p256")
