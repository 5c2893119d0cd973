"""The agent as a process on a software TPM, against a verifier behind HTTP."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import ipaddress
import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bootlease.errors import VerificationError
from bootlease.evidence import Activation, EnrolmentRequest
from bootlease.model import Finding
from bootlease.node.client import ACTIVATE, CHALLENGE, ENROL, LEASE
from bootlease.node.clock import SystemClock
from bootlease.node.lease import LeaseKeeper
from bootlease.node.logs import EventLogFile
from bootlease.node.outputs import LeaseFiles
from bootlease.node.renewal.agent import NodeAgent
from bootlease.node.renewal.settings import Settings
from bootlease.node.state import StateDirectory
from bootlease.node.tpm.key_kinds import AKAlgorithm, EKAlgorithm
from bootlease.node.tpm.opening import TPMChoice, open_with_memory
from bootlease.node.wish import LeaseWish
from bootlease.testing.boot import simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.node_on_swtpm import ALL_BANKS
from bootlease.testing.scripted_verifier import ScriptedVerifier
from bootlease.token import verify_token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bootlease.node.bundle import JoinBundle
    from bootlease.testing.node_on_swtpm import NodeOnSwtpm
    from bootlease.testing.swtpm import SoftwareTPM

pytestmark = pytest.mark.swtpm

LIFE = 6
PATIENCE = 20.0
AUDIENCE = "https://tools.example"
REFUSAL = Finding("eventlog.pcr4.unknown-boot-application", "Event 23 is not in the reference.")


class Handler(BaseHTTPRequestHandler):
    """The routes of a verifier."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Serve one call."""
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        verifier = self.server.verifier
        self.server.calls.append(self.path)
        try:
            if self.path == "/v1/enrolments":
                self._answer(ENROL, verifier.enrol(EnrolmentRequest.parse(body)).encode())
            elif match := re.fullmatch("/v1/enrolments/([0-9a-f]{64})/activation", self.path):
                receipt = verifier.activate(bytes.fromhex(match[1]), Activation.parse(body))
                self._answer(ACTIVATE, receipt.encode())
            elif match := re.fullmatch("/v1/nodes/([0-9a-f]{64})/challenges", self.path):
                self._answer(CHALLENGE, verifier.challenge(bytes.fromhex(match[1])).encode())
            elif match := re.fullmatch("/v1/nodes/([0-9a-f]{64})/leases", self.path):
                self._answer(LEASE, verifier.lease(bytes.fromhex(match[1]), body).encode())
        except VerificationError as exc:
            findings = [finding.as_dict() for finding in exc.findings]
            content = json.dumps({"title": "Refused", "findings": findings}).encode()
            self._send(403, "application/problem+json", content)

    def _answer(self, call: Any, content: bytes) -> None:
        self._send(call.status, call.answer, content)

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """A verifier behind HTTP."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, verifier: ScriptedVerifier, port: int = 0) -> None:
        """Listen on the loopback."""
        super().__init__(("127.0.0.1", port), Handler)
        self.verifier = verifier
        self.calls: list[str] = []
        self.connections: list[socket.socket] = []
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection, and keep it in mind."""
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def handle_error(self, *_: object) -> None:
        """Say nothing of agents that went away."""

    def stop(self) -> None:
        """Stop listening, and cut every connection."""
        self.shutdown()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()
        self.thread.join()


@dataclass
class Site:
    """A verifier, a node, and the commands between them."""

    folder: Path
    node: NodeOnSwtpm
    verifier: ScriptedVerifier
    server: Server
    agents: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def token(self) -> Path:
        """The token file."""
        return self.folder / "token"

    @property
    def key(self) -> Path:
        """The key file."""
        return self.folder / "key.pem"

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.folder / "state"

    def arguments(self, command: str, *more: str) -> list[str]:
        """Return a command line of ``bootlease node``."""
        return [sys.executable, "-m", "bootlease", "node", command, *more]

    def agent(self, *more: str) -> list[str]:
        """Return the command line of an agent."""
        log = self.folder / "event log"
        log.write_bytes(self.node.event_log)
        return self.arguments(
            *("run", "--bundle", str(self.folder / "join.json"), "--tcti", self.node.tcti),
            *("--state", str(self.state), "--log", str(log), "--ek-algorithm", "ecc-p256"),
            *("--scope", "tool:search", "--audience", AUDIENCE),
            *("--token-file", str(self.token), "--key-file", str(self.key), *more),
        )

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Start an agent."""
        with (self.folder / "agent.log").open("a") as log:
            agent = subprocess.Popen(self.agent(*more), stderr=log, text=True)
        self.agents.append(agent)
        return agent

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def status(self) -> dict[str, Any]:
        """Return the agent's status."""
        shown = self.run(self.arguments("status", "--state", str(self.state), "--json"))
        status: dict[str, Any] = json.loads(shown.stdout)
        return status

    def said(self) -> str:
        """Return what the agents said."""
        return (self.folder / "agent.log").read_text()

    def wait_for(self, what: str, seconds: float = PATIENCE) -> float:
        """Wait until an agent has said ``what``; return when."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if what in self.said():
                return time.monotonic()
            time.sleep(0.02)
        pytest.fail(f"the agent did not say {what!r} but: {self.said()}")

    def wait_until_gone(self, path: Path, seconds: float = PATIENCE) -> float:
        """Wait until ``path`` is gone; return the wall clock then."""
        end = time.monotonic() + seconds
        while path.exists():
            assert time.monotonic() < end, self.said()
            time.sleep(0.01)
        return time.time()


def write_bundle(path: Path, bundle: JoinBundle) -> None:
    """Write a join bundle as a verifier does."""
    root = {} if bundle.tls_root is None else {"tls_root": bundle.tls_root}
    members = {
        "v": 1,
        "issuer": bundle.issuer,
        "keys": bundle.keys.to_jwks(),
        "ledger_key": str(bundle.ledger_key),
        **root,
    }
    path.write_text(json.dumps(members))


@pytest.fixture
def site(simulated_node: NodeOnSwtpm, tmp_path: Path) -> Iterator[Site]:
    """A booted node, and a verifier of short leases that grants what is well proven."""
    verifier = ScriptedVerifier(SystemClock(), life=LIFE)
    server = Server(verifier)
    verifier.bundle = dataclasses.replace(
        verifier.bundle, issuer=f"http://127.0.0.1:{server.server_port}"
    )
    folder = tmp_path / "a site"
    folder.mkdir()
    write_bundle(folder / "join.json", verifier.bundle)
    made = Site(folder, simulated_node, verifier, server)
    yield made
    for agent in made.agents:
        agent.kill()
        agent.wait()
    made.server.stop()


def test_kept_fresh_until_stopped(site: Site) -> None:
    """An agent enrols, hands out a token that verifies, renews it, and takes it back at SIGTERM."""
    agent = site.start()
    site.wait_for("lease 2 granted")
    token = verify_token(
        site.token.read_bytes(),
        site.verifier.bundle.keys,
        now=time.time(),
        issuer=site.verifier.bundle.issuer,
        audience=AUDIENCE,
    )
    assert token.claims.scope == ("tool:search",)
    assert stat.S_IMODE(site.token.stat().st_mode) == 0o600
    assert stat.S_IMODE(site.key.stat().st_mode) == 0o600
    status = site.status()
    assert (status["state"], status["running"], status["valid"]) == ("held", True, True)
    assert sum(path.endswith("/challenges") for path in site.server.calls) == 1
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(PATIENCE) == 0
    assert not site.token.exists()
    assert not site.key.exists()
    assert site.status()["state"] == "stopped"
    assert "Traceback" not in site.said()


def test_interrupted(site: Site) -> None:
    """Ctrl-C takes the token back and ends with 130."""
    agent = site.start()
    site.wait_for("lease 0 granted")
    agent.send_signal(signal.SIGINT)
    assert agent.wait(PATIENCE) == 130
    assert not site.token.exists()
    assert "Traceback" not in site.said()


def test_refused_at_run_time(site: Site) -> None:
    """A refusal takes the token back at once and shows the finding in the status."""
    site.start()
    site.wait_for("lease 0 granted")
    site.verifier.refusal = (REFUSAL,)
    site.wait_for("refused: Event 23 is not in the reference.")
    asked = len(site.verifier.received)
    assert not site.token.exists()
    status = site.status()
    assert status["state"] == "refused"
    assert status["findings"] == [REFUSAL.as_dict()]
    assert len(site.verifier.received) == asked
    shown = site.run(site.arguments("status", "--state", str(site.state)))
    assert shown.returncode == 1
    assert "eventlog.pcr4.unknown-boot-application" in shown.stdout


def test_lapses_at_the_deadline(site: Site) -> None:
    """Without a verifier the lease is kept to its deadline, never longer, and regained after."""
    site.start()
    site.wait_for("lease 0 granted")
    expires_at = site.status()["expires_at"]
    port = site.server.server_port
    site.server.stop()
    gone = site.wait_until_gone(site.token)
    assert expires_at - 1.5 < gone < expires_at + 0.5
    site.wait_for("has ended: lapsed")
    assert site.status()["state"] == "lapsed"
    site.server = Server(site.verifier, port)
    site.wait_for("lease 0 granted", 40)
    end = time.monotonic() + PATIENCE
    while not site.token.exists():
        assert time.monotonic() < end, site.said()
        time.sleep(0.05)


def test_hanging_verifier(site: Site) -> None:
    """A verifier that hangs in the middle of a renewal does not keep the token past its end."""
    site.start()
    site.wait_for("lease 0 granted")
    expires_at = site.status()["expires_at"]
    released = threading.Event()

    def hang(_: str) -> None:
        released.wait(30)

    site.verifier.before = hang
    gone = site.wait_until_gone(site.token)
    assert gone < expires_at + 0.5
    released.set()


def test_stops_though_the_verifier_hangs(site: Site) -> None:
    """Stopping does not wait for a verifier that hangs: the token goes at once."""
    agent = site.start()
    site.wait_for("lease 0 granted")
    entered, released = threading.Event(), threading.Event()

    def hang(_: str) -> None:
        entered.set()
        released.wait(30)

    site.verifier.before = hang
    assert entered.wait(PATIENCE)
    agent.send_signal(signal.SIGTERM)
    told = time.time()
    assert site.wait_until_gone(site.token) - told < 1
    assert agent.wait(6) == 0
    assert site.status()["state"] == "stopped"
    released.set()


def test_verifier_restarts(site: Site) -> None:
    """A verifier that is away for a moment costs no lease: the lineage goes on."""
    site.start()
    site.wait_for("lease 1 granted")
    port = site.server.server_port
    site.server.stop()
    site.wait_for("no renewal: cannot reach the verifier")
    site.server = Server(site.verifier, port)
    site.wait_for("lease 2 granted")
    assert "has ended" not in site.said()


def test_killed_agent_leaves_nothing_valid(site: Site) -> None:
    """What a killed agent left is removed by the next, which continues the lineage."""
    agent = site.start()
    site.wait_for("lease 0 granted")
    agent.kill()
    agent.wait()
    stale = site.token.read_bytes()
    site.start()
    site.wait_for("lease 1 granted")
    assert site.token.read_bytes() != stale
    assert site.server.calls.count("/v1/enrolments") == 1


def test_second_agent(site: Site) -> None:
    """A second agent on one state directory is refused, and harms the first one's token not."""
    site.start()
    site.wait_for("lease 0 granted")
    second = site.run(site.agent("--once"))
    assert second.returncode == 3
    assert re.fullmatch(r"bootlease: error: another agent \(process \d+\) .*\n", second.stderr)
    assert site.token.exists()


def test_reboot(site: Site) -> None:
    """A TPM that was reset under a running agent ends the lease and begins a new lineage."""
    site.start()
    site.wait_for("lease 0 granted")
    site.node.boot(simulate_boot(grub_description(), ALL_BANKS))
    site.wait_for("has ended: rebooted")
    site.wait_for("a new lineage begins")


@pytest.mark.parametrize("encoding", ["cwt", "jwt"])
@pytest.mark.parametrize("confirmation", ["process", "tpm"])
def test_once(site: Site, encoding: str, confirmation: str) -> None:
    """One lease is got and left in its file; the status says how long it stands."""
    arguments = site.agent("--once", "--json", "--encoding", encoding)
    arguments += ["--confirmation", confirmation]
    if confirmation == "tpm":
        at = arguments.index("--key-file")
        del arguments[at : at + 2]
    done = site.run(arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "held"
    token = site.token.read_bytes()
    assert (token.count(b".") == 2) is (encoding == "jwt")
    assert site.key.exists() is (confirmation == "process")
    status = site.run(site.arguments("status", "--state", str(site.state)))
    assert status.returncode == 0
    assert "lease 0 held: tool:search for https://tools.example" in status.stdout
    assert "no agent is running" in status.stdout


def test_once_refused(site: Site) -> None:
    """One attempt that is refused ends with 1 and the finding."""
    site.verifier.refusal = (REFUSAL,)
    done = site.run(site.agent("--once"))
    assert done.returncode == 1
    assert done.stderr.count(f"{REFUSAL.message} [{REFUSAL.id}]") == 1
    assert site.status()["state"] == "refused"
    assert not site.token.exists()


def test_enrol_command(site: Site) -> None:
    """Enrolling prints the node id, the same each time, and keeps one attestation key."""
    command = site.arguments(
        *("enrol", "--bundle", str(site.folder / "join.json"), "--tcti", site.node.tcti),
        *("--state", str(site.state)),
    )
    first, second = (site.run(command) for _ in range(2))
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert re.fullmatch(r"[0-9a-f]{64}\n", first.stdout)
    assert first.stdout == second.stdout
    assert len(site.node.device.handles(0x81018000, 0x8101FFFF)) == 1


def test_collect_is_read_by_quote_verify(site: Site) -> None:
    """What `node collect` writes, `quote verify` accepts, and nothing stays in the TPM."""
    folder = site.folder / "collected"
    log = site.folder / "log"
    log.write_bytes(site.node.event_log)
    done = site.run(
        site.arguments(
            *("collect", "--tcti", site.node.tcti, "--nonce", "00ff" * 8, "--log", str(log)),
            *("--pcrs", "sha1:0+sha256:0-7,14", "-o", str(folder)),
        )
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "eventlog.bin").read_bytes() == site.node.event_log
    verified = site.run(
        [
            *(sys.executable, "-m", "bootlease", "quote", "verify", "--nonce", "00ff" * 8),
            *("--attest", str(folder / "attest.bin"), "--signature", str(folder / "signature.bin")),
            *("--ak", str(folder / "ak.pub"), "--pcrs", str(folder / "pcrs.json")),
            *("--require", "sha256:0-7,14"),
        ]
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert site.node.device.handles(0x81018000, 0x8101FFFF) == ()


def server_certificate() -> tuple[bytes, bytes]:
    """Return a self-signed certificate for the loopback and its key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "verifier")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    return pem, key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def test_tls_root_of_the_bundle(site: Site) -> None:
    """Over TLS the bundle's root is trusted, and no other."""
    pem, key = server_certificate()
    (site.folder / "tls.pem").write_bytes(pem + key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(site.folder / "tls.pem")
    site.server.socket = context.wrap_socket(site.server.socket, server_side=True)
    issuer = f"https://127.0.0.1:{site.server.server_port}"
    site.verifier.bundle = dataclasses.replace(site.verifier.bundle, issuer=issuer)
    for root, code in ((pem, 0), (server_certificate()[0], 3), (None, 3)):
        bundle = dataclasses.replace(
            site.verifier.bundle, tls_root=None if root is None else root.decode()
        )
        write_bundle(site.folder / "join.json", bundle)
        done = site.run(site.agent("--once"))
        assert done.returncode == code, done.stderr
        assert code == 0 or "certificate verify failed" in done.stderr


def wish_agent(
    verifier: ScriptedVerifier, tcti: str, choice: dict[str, Any], folder: Path
) -> tuple[NodeAgent, StateDirectory, Any]:
    """Return an agent on a TPM, without a network."""
    state = StateDirectory(folder / "state")
    device = open_with_memory(TPMChoice(tcti, **choice), state, print)
    clock = SystemClock()
    agent = NodeAgent(
        Settings(verifier.bundle, (LeaseWish(("a",), AUDIENCE),)),
        device=device,
        log=EventLogFile(folder / "log"),
        verifier=verifier,
        keeper=LeaseKeeper(clock, LeaseFiles()),
        store=state,
        clock=clock,
        jitter=lambda: 0.0,
        say=print,
    )
    return agent, state, device


@pytest.mark.parametrize(
    ("ek", "ak"),
    [
        (EKAlgorithm.RSA_2048, AKAlgorithm.ECC_P256),
        (EKAlgorithm.ECC_P256, AKAlgorithm.RSA_2048),
        (EKAlgorithm.ECC_P384, AKAlgorithm.ECC_P256),
    ],
)
def test_key_kinds_outlive_reboots(
    swtpm: SoftwareTPM, tmp_path: Path, ek: EKAlgorithm, ak: AKAlgorithm
) -> None:
    """With any EK and AK a node enrols once, and is the same node after a reboot."""
    verifier = ScriptedVerifier(SystemClock())
    (tmp_path / "log").write_bytes(b"log")
    choice: dict[str, Any] = {"ek_algorithm": ek, "ak_algorithm": ak}
    agent, state, device = wish_agent(verifier, swtpm.tcti, choice, tmp_path)
    first = agent.renew()
    name, handle = device.ak_public(), device.ak_handle
    device.close()
    state.close()
    swtpm.reboot()
    verifier.before = lambda call: pytest.fail("enrolled twice") if call == "enrol" else None
    # The choice was remembered.
    agent, state, device = wish_agent(verifier, swtpm.tcti, {}, tmp_path)
    second = agent.renew()
    assert (device.ak_public(), device.ak_handle) == (name, handle)
    assert device.ek_algorithm is ek
    assert second.tokens[0].claims.subject == first.tokens[0].claims.subject
    assert second.tokens[0].claims.lineage.seq == 0
    assert second.tokens[0].claims.boot.reset_count == first.tokens[0].claims.boot.reset_count + 1
    device.close()
    state.close()


def test_lost_attestation_key(swtpm: SoftwareTPM, tmp_path: Path) -> None:
    """A TPM that lost the attestation key gets another, and the node enrols again by itself."""
    verifier = ScriptedVerifier(SystemClock())
    (tmp_path / "log").write_bytes(b"log")
    agent, state, device = wish_agent(verifier, swtpm.tcti, {}, tmp_path)
    first = agent.renew()
    device.remove_ak()
    device.close()
    state.close()
    agent, state, device = wish_agent(verifier, swtpm.tcti, {}, tmp_path)
    second = agent.renew()
    assert second.tokens[0].claims.subject == first.tokens[0].claims.subject
    assert second.tokens[0].claims.lineage.seq == 0
    device.close()
    state.close()


def bare(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run ``bootlease node`` without any site."""
    environment = {**os.environ, "BOOTLEASE_STATE": str(folder / "state")}
    return subprocess.run(
        [sys.executable, "-m", "bootlease", "node", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )


def test_mistakes(tmp_path: Path) -> None:
    """Every mistake of an operator ends in one clear line and the exit code that belongs to it."""
    verifier = ScriptedVerifier(SystemClock())
    write_bundle(tmp_path / "join.json", verifier.bundle)
    (tmp_path / "log").write_bytes(simulate_boot(grub_description()).event_log)
    remote = dataclasses.replace(verifier.bundle, issuer="http://verifier.example")
    write_bundle(tmp_path / "remote.json", remote)
    (tmp_path / "bad.json").write_text("{}")
    bundle = ("--bundle", str(tmp_path / "join.json"))
    lease = ("--scope", "a", "--audience", "b")
    log = ("--log", str(tmp_path / "log"))
    nowhere = ("--tcti", f"swtpm:path={tmp_path}/none")
    cases: list[tuple[int, str, tuple[str, ...]]] = [
        (2, "No such command", ("rum",)),
        (2, "Missing option '--bundle'", ("run", *lease)),
        (2, "cannot read join bundle", ("run", "--bundle", "/none", *lease)),
        (2, "bad.json: join bundle lacks", ("enrol", "--bundle", str(tmp_path / "bad.json"))),
        (2, "without TLS", ("enrol", "--bundle", str(tmp_path / "remote.json"))),
        (2, "not a scope name", ("run", *bundle, "--scope", "a b", "--audience", "b")),
        (2, "does not exist", ("run", *bundle, *lease, "--log", "/none")),
        (2, "is not a folder", ("run", *bundle, *lease, *log, "--token-file", "/none/token")),
        (2, "--log FILE is needed", ("run", *bundle, *lease, *nowhere)),
        (2, "'rsa-1024' is not one of", ("enrol", *bundle, "--ek-algorithm", "rsa-1024")),
        (2, "key in the TPM", (
            *("run", *bundle, *lease, *log, "--confirmation", "tpm", "--key-file", "k"),
        )),
        (2, "name one file", (
            *("run", *bundle, *lease, *log, "--token-file", "k", "--key-file", "k"),
        )),
        (2, "hex digits", ("collect", "--nonce", "0", "--pcrs", "sha256:0", "-o", "x")),
        (2, "not a PCR", ("collect", "--nonce", "00", "--pcrs", "sha256:24", "-o", "x")),
        (2, "unknown hash", ("collect", "--nonce", "00", "--pcrs", "md5:0", "-o", "x")),
        (3, "no TPM at", ("run", *bundle, *lease, *log, *nowhere)),
        (3, "no TPM at", ("enrol", *bundle, *nowhere)),
        (2, "unknown TCTI 'nonsense'", ("enrol", *bundle, "--tcti", "nonsense")),
        (2, "unknown TCTI 'nonsense:'", ("run", *bundle, *lease, "--tcti", "nonsense:")),
        (2, "is not a TCG event log", (
            *("run", *bundle, *lease, *nowhere, "--log", str(tmp_path / "bad.json")),
        )),
        (3, "no agent has run", ("status", "--state", str(tmp_path / "other"))),
    ]  # fmt: skip
    for code, words, arguments in cases:
        done = bare(*arguments, folder=tmp_path)
        assert done.returncode == code, (arguments, done.stderr)
        assert words in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.stdout == "", arguments
        assert done.stderr.rstrip().rpartition("\n")[2].lower().count("error:") == 1, done.stderr


def test_without_the_extra(tmp_path: Path) -> None:
    """Without tpm2-pytss the command says what to install, and ends with 3."""
    verifier = ScriptedVerifier(SystemClock())
    write_bundle(tmp_path / "join.json", verifier.bundle)
    (tmp_path / "tpm2_pytss.py").write_text("raise ImportError('absent')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bootlease", "node", "enrol"),
            *("--bundle", str(tmp_path / "join.json"), "--state", str(tmp_path / "state")),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert done.returncode == 3, done.stderr
    assert "pip install 'bootlease[node]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_reader_of_statuses_goes(site: Site) -> None:
    """An agent whose statuses nobody reads any more takes its token back and ends with 141."""
    with (site.folder / "agent.log").open("a") as log:
        agent = subprocess.Popen(
            site.agent("--json"), stdout=subprocess.PIPE, stderr=log, text=True
        )
    site.agents.append(agent)
    site.wait_for("lease 0 granted")
    assert agent.stdout is not None
    agent.stdout.close()
    assert agent.wait(PATIENCE) == 141
    assert not site.token.exists()
    assert site.status()["state"] == "stopped"
    assert "Traceback" not in site.said()
