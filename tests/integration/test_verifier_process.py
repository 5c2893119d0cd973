"""The verifier as a process: its folder, its life, its death, its commands."""

from __future__ import annotations

import functools
import json
import os
import re
import socket
import sqlite3
import ssl
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner, Result

from bootlease.cli import bootlease
from bootlease.cli.admin import activate, register
from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.evidence import LeaseAnswer
from bootlease.node.bundle import parse_bundle
from bootlease.store import SQLStore
from bootlease.testing.attesting_client import AttestingClient, finding_ids
from bootlease.testing.boot import SimulatedBoot
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import POLICY, REFERENCE, default_lease
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.testing.verifier_process import (
    COMMAND,
    VerifierProcess,
    free_port,
    run_cli,
    verifier_process,
)
from bootlease.verifier.setup import Founding, found

JOIN_POLICY = POLICY.replace('"any-endorsed"', '"join-token"')
KILLS = 10


Start = Callable[..., AbstractContextManager[VerifierProcess]]


@pytest.fixture
def start(private_folder: Path, local_ca: LocalCA, reference_file: bytes) -> Start:
    """Starts a verifier of the test's own."""
    return functools.partial(
        verifier_process,
        private_folder,
        policy=POLICY,
        roots=local_ca.roots_pem,
        references=[reference_file],
    )


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory, local_ca: LocalCA) -> Path:
    """The folder of a verifier that does not run."""
    folder = tmp_path_factory.mktemp("founded") / "verifier"
    found(
        folder,
        Founding("http://127.0.0.1:1", POLICY.encode(), [local_ca.roots_pem], []),
        SQLStore.open,
    )
    return folder


def command(*arguments: str, environment: dict[str, str] | None = None) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(bootlease, list(arguments), env=environment)


def client_of(
    process: VerifierProcess, ca: LocalCA, boot: SimulatedBoot, http: httpx2.Client
) -> AttestingClient:
    """A node of this verifier, not yet enrolled."""
    assert str(http.base_url).rstrip("/") == process.url
    return AttestingClient(http, SimulatedNode(ca, boot=boot), (default_lease(),))


@contextmanager
def connected(
    process: VerifierProcess, *, verify: ssl.SSLContext | bool = True
) -> Iterator[httpx2.Client]:
    """A connection."""
    with httpx2.Client(base_url=process.url, timeout=20, trust_env=False, verify=verify) as http:
        yield http


def test_init_makes_a_private_folder_and_refuses_to_do_it_twice(
    start: Start, private_folder: Path
) -> None:
    """Key 0600, folder 0700, credential hashed; a second init changes nothing."""
    with start() as process:
        folder = process.folder
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for name in ("signing-key.pem", "verifier.db", "verifier.json"):
            assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
        key = (folder / "signing-key.pem").read_bytes()
        for file in folder.iterdir():
            assert process.credential.encode() not in file.read_bytes()
        with pytest.raises(TransportError, match="already"):
            run_cli(
                *("verifier", "init", "--data", str(folder), "--issuer", process.url),
                *("--policy", str(private_folder / "policy.toml")),
                *("--ek-root", str(private_folder / "roots.pem")),
            )
        assert (folder / "signing-key.pem").read_bytes() == key
        assert process.stop() == 0


def test_an_init_that_fails_leaves_nothing_behind(private_folder: Path, local_ca: LocalCA) -> None:
    """A policy with a typo makes no verifier and no debris."""
    (private_folder / "policy.toml").write_text(POLICY.replace("life", "live"))
    (private_folder / "roots.pem").write_bytes(local_ca.roots_pem)
    with pytest.raises(TransportError, match=r"lease\.life"):
        run_cli(
            *("verifier", "init", "--data", str(private_folder / "v")),
            *("--issuer", "http://127.0.0.1:1", "--policy", str(private_folder / "policy.toml")),
            *("--ek-root", str(private_folder / "roots.pem")),
        )
    assert sorted(path.name for path in private_folder.iterdir()) == ["policy.toml", "roots.pem"]


def test_a_readable_signing_key_is_not_used(start: Start) -> None:
    """Others may have read it: the verifier does not start."""
    with start() as process:
        process.stop()
        (process.folder / "signing-key.pem").chmod(0o640)
        with pytest.raises(TransportError, match="0640"):
            process.start()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--listen", "0.0.0.0:0"), "unsafe-plain-http"),
        (("--listen", "192.0.2.1:0"), "unsafe-plain-http"),
        (("--tls-cert", __file__), "go together"),
        (("--tls-cert", __file__, "--tls-key", __file__), "holds no PEM certificate"),
        (("--listen", "nonsense"), "HOST:PORT"),
    ],
)
def test_it_does_not_start_unsafely(founded: Path, options: tuple[str, ...], message: str) -> None:
    """Off loopback without TLS, or with half of it, is a clear refusal."""
    result = command("verifier", "serve", "--data", str(founded), *options)
    assert isinstance(result.exception, MalformedError)
    assert message in str(result.exception)


def test_a_second_server_and_a_used_port_are_said_plainly(start: Start) -> None:
    """One clear line and exit code 3."""
    with start() as process:
        again = ("verifier", "serve", "--data", str(process.folder))
        with pytest.raises(TransportError, match=r"bootlease: error: another verifier serves"):
            run_cli(*again, "--listen", "127.0.0.1:0")
        port = process.url.rpartition(":")[2]
        process.stop()
        done = None
        with closing(_listener(int(port))):
            done = subprocess.run(
                [*COMMAND, *again, "--listen", f"127.0.0.1:{port}"],
                capture_output=True,
                check=False,
                timeout=30,
            )
        assert done.returncode == 3
        assert done.stderr.decode().strip().endswith("it is in use")
        assert b"Traceback" not in done.stderr


def _listener(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


def test_it_serves_tls_and_a_unix_socket(
    start: Start, private_folder: Path, local_ca: LocalCA, good_boot: SimulatedBoot
) -> None:
    """A node enrols and attests over both."""
    ca, certificate, key = _server_certificate(private_folder)
    options = ("--tls-cert", str(certificate), "--tls-key", str(key))
    with start(options=options, scheme="https") as process:
        bundle = process.join_bundle("--tls-root", str(ca))
        assert bundle.tls_root == ca.read_text()
        with connected(process, verify=ssl.create_default_context(cafile=str(ca))) as http:
            client = client_of(process, local_ca, good_boot, http)
            client.enrol()
            client.renew()
        assert process.stop() == 0
        path = private_folder / "v.sock"
        serving = subprocess.Popen(
            [
                *(*COMMAND, "verifier", "serve"),
                *("--data", str(process.folder), "--listen", f"unix:{path}"),
            ],
            stderr=subprocess.PIPE,
        )
        assert serving.stderr is not None
        with serving, serving.stderr:
            assert b"listening on unix:" in serving.stderr.readline()
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            transport = httpx2.HTTPTransport(uds=str(path))
            with httpx2.Client(transport=transport, base_url="http://v") as http:
                client.http, client.challenge = http, None
                client.renew()
            serving.terminate()
            assert serving.wait(20) == 0
        assert not path.exists()


def _server_certificate(folder: Path) -> tuple[Path, Path, Path]:
    key, certificate = folder / "tls-key.pem", folder / "tls.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", str(key), "-out", str(certificate), "-days", "2"),
            *("-subj", "/CN=verifier", "-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, certificate, key


def test_a_join_token_lets_one_node_in_and_in_again(
    start: Start, local_ca: LocalCA, good_boot: SimulatedBoot
) -> None:
    """Bound to its first EK, which may retry; without one nobody enters."""
    with start(policy=JOIN_POLICY) as process, connected(process) as http:
        token = process.join_bundle("--join-token").join_token
        first = client_of(process, local_ca, good_boot, http)
        second = client_of(process, local_ca, good_boot, http)
        first.enrol(token)
        first.enrol(token)
        assert finding_ids(second.request_enrolment(token)) == {"enrolment.join-token.refused"}
        assert finding_ids(second.request_enrolment("guess")) == {"enrolment.join-token.refused"}
        assert finding_ids(second.request_enrolment()) == {"enrolment.join-token.missing"}
        first.renew()


def test_a_bundle_file_is_private_and_readable_by_an_agent(
    start: Start, private_folder: Path
) -> None:
    """Mode 0600, whatever was there before."""
    with start() as process:
        file = private_folder / "join.json"
        file.write_text("old")
        file.chmod(0o644)
        run_cli("verifier", "bundle", "--data", str(process.folder), "-o", str(file))
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert parse_bundle(file.read_bytes()).issuer == process.url


def test_the_operator_sees_nodes_and_decisions_and_changes_policy(
    start: Start,
    private_folder: Path,
    local_ca: LocalCA,
    good_boot: SimulatedBoot,
    reference_file: bytes,
) -> None:
    """The admin commands, over HTTP with the credential from file and environment."""
    with start() as process, connected(process) as http:
        client = client_of(process, local_ca, good_boot, http)
        client.enrol()
        client.leases = (default_lease(scope=("nothing",)),)
        refused = client.present(client.attest()).json()
        credential = private_folder / "credential"
        credential.write_text(process.credential + "\n")
        options = ("--verifier", process.url, "--credential-file", str(credential))
        environment = {"BOOTLEASE_ADMIN_CREDENTIAL": process.credential}

        listed = command("verifier", "nodes", *options, "--json")
        assert [each["node"] for each in json.loads(listed.stdout)["nodes"]] == [client.node.hex()]
        shown = command("verifier", "decision", refused["decision"], *options)
        assert shown.stdout.startswith("refused")
        assert "policy.scope.denied" in shown.stdout
        one = command(
            "verifier",
            "node",
            client.node.hex(),
            "--json",
            *("--verifier", process.url),
            environment=environment,
        )
        assert json.loads(one.stdout)["decisions"][0]["decision"] == refused["decision"]
        told = command("verifier", "node", client.node.hex(), *options).stdout
        assert re.search(rf"\d\d:\d\d UTC  refused  decision {refused['decision']}", told)
        assert "does not grant the scope nothing for https://" in shown.stdout

        policy = private_folder / "next.toml"
        policy.write_text(POLICY.replace('"tool:search"', '"nothing"'))
        run = CliRunner().invoke
        active = run(activate, [str(policy), *options])
        assert active.stdout == "policy default is active, epoch 2\n"
        client.challenge = None
        client.renew()

        other = json.loads(reference_file) | {"version": "2"}
        file = private_folder / "reference-2.json"
        file.write_text(json.dumps(other))
        added = run(register, [str(file), *options])
        assert "golden 2 is registered" in added.stdout
        assert "note: registered beside golden 1 (" in added.stderr
        assert "both are accepted" in added.stderr
        assert "was registered before" in run(register, [str(file), *options]).stdout
        typo = private_folder / "typo.toml"
        typo.write_text(POLICY.replace(f'"{REFERENCE}"', '"goldne"'))
        mistaken = run(activate, [str(typo), *options])
        assert isinstance(mistaken.exception, MalformedError)
        assert "goldne" in str(mistaken.exception)
        stranger = run(
            register,
            [str(file), "--verifier", process.url],
            env={"BOOTLEASE_ADMIN_CREDENTIAL": "x"},
        )
        assert isinstance(stranger.exception, VerificationError)
        assert "admin credential is not accepted" in str(stranger.exception)


def test_an_operator_reads_times_and_reasons(
    start: Start,
    private_folder: Path,
    local_ca: LocalCA,
    good_boot: SimulatedBoot,
) -> None:
    """UTC, not seconds; an id that is not known, or a wrong file, is said as such."""
    with start() as process, connected(process) as http:
        client = client_of(process, local_ca, good_boot, http)
        client.enrol()
        client.renew()
        credential = private_folder / "credential"
        credential.write_text(process.credential + "\n")
        options = ("--verifier", process.url, "--credential-file", str(credential))
        told = command("verifier", "nodes", *options).stdout
        assert re.fullmatch(rf"{client.node.hex()}  lease 0 until [-0-9]+ [:0-9]+ UTC\n", told)
        policy = private_folder / "policy.toml"
        nobody = command("verifier", "node", "00" * 32, *options)
        assert isinstance(nobody.exception, MalformedError)
        assert "No node with this id is enrolled" in str(nobody.exception)
        wrong = command("reference", "register", str(policy), *options)
        assert isinstance(wrong.exception, MalformedError)
        assert str(wrong.exception).startswith(f"{policy}: ")


def test_sigkill_loses_no_enrolment_and_leaves_no_unknown_token(
    start: Start, local_ca: LocalCA, good_boot: SimulatedBoot
) -> None:
    """Killed again and again under load: what a client was told, the database knows."""
    told = _Told()
    with start() as process:
        stop = threading.Event()
        workers = [
            threading.Thread(target=_attest_on, args=(process, local_ca, good_boot, told, stop))
            for _ in range(3)
        ]
        for worker in workers:
            worker.start()
        for kill in range(KILLS):
            stop.wait(0.15 + 0.05 * kill)
            process.kill()
            process.start()
        stop.set()
        for worker in workers:
            worker.join()
        process.stop()
        with closing(sqlite3.connect(process.folder / "verifier.db")) as database:
            nodes = {row[0] for row in database.execute("SELECT node FROM nodes")}
            decisions = {row[0] for row in database.execute("SELECT digest FROM decisions")}
            claims = b"".join(row[0] for row in database.execute("SELECT claims FROM decisions"))
            spent = database.execute(
                "SELECT count(*) FROM challenges WHERE spent_at IS NOT NULL"
            ).fetchone()[0]
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert told.failures == []
    assert len(told.answers) > 3 * KILLS
    assert told.nodes <= nodes
    assert {answer.decision for answer in told.answers} <= decisions
    assert all(answer.leases[0].claims_digest in claims for answer in told.answers)
    assert spent == len(decisions)


class _Told:
    """What clients were told by any of the lives of the verifier."""

    def __init__(self) -> None:
        self.nodes: set[bytes] = set()
        self.answers: list[LeaseAnswer] = []
        self.failures: list[str] = []


def _attest_on(
    process: VerifierProcess,
    ca: LocalCA,
    boot: SimulatedBoot,
    told: _Told,
    stop: threading.Event,
) -> None:
    client: AttestingClient | None = None
    while not stop.is_set():
        with connected(process) as http:
            try:
                if client is None:
                    client = client_of(process, ca, boot, http)
                client.http = http
                if not client.node:
                    told.nodes.add(client.enrol())
                told.answers.append(_resend(client))
                if len(client.answers) % 20 == 0:
                    client = None
            except (httpx2.TransportError, httpx2.RemoteProtocolError):
                stop.wait(0.05)
            except httpx2.HTTPStatusError as exc:
                told.failures.append(exc.response.text)


def _resend(client: AttestingClient) -> LeaseAnswer:
    """Renew; where the answer is lost, send the same bytes until there is one."""
    evidence = client.attest().encode()
    while True:
        try:
            response = client.present(evidence)
        except httpx2.TransportError:
            time.sleep(0.05)
            continue
        response.raise_for_status()
        return client.keep(response)


def test_nothing_is_left_after_a_stop(start: Start) -> None:
    """Exit code 0 on SIGTERM and no process, and the database closed cleanly."""
    with start() as process:
        pid = process.pid
        assert process.stop() == 0
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert not (process.folder / "verifier.db-wal").exists()
        assert free_port()
