"""The Workload API as it is: verifier, agent and workloads are processes, beside a software TPM."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bootlease.errors import VerificationError
from bootlease.localapi import Denied, Ended, wire
from bootlease.model import HashAlg
from bootlease.reference import serialise_reference
from bootlease.testing.boot import simulate_boot
from bootlease.testing.examples import AUDIENCE, PCRS, SCOPE, grub_description, policy_text
from bootlease.testing.golden import golden_reference
from bootlease.testing.node_on_swtpm import booted_node
from bootlease.testing.verifier_process import verifier_process
from bootlease.token import PrivateKeySigner, base64url, make_proof, parse_token, verify_proof
from bootlease.workload import AgentGoneError, LeaseStream
from tests.integration.test_agent_service import Service, granted, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bootlease.testing.local_ca import LocalCA
    from bootlease.testing.swtpm import SoftwareTPMState

pytestmark = pytest.mark.swtpm

ROOT = Path(__file__).resolve().parents[2]
BOOTLEASE = (sys.executable, "-m", "bootlease")
OTHER_USER = 12345
RULES = f"""
[[workload]]
name = "tests"
uid = [{os.geteuid()}]
scope = ["{SCOPE}"]
audience = ["{AUDIENCE}"]
confirmation = ["process", "own", "tpm"]
leases = 128

[[workload]]
name = "other"
uid = [{OTHER_USER}]
scope = ["{SCOPE}"]
audience = ["{AUDIENCE}"]
"""
URL = f"{AUDIENCE}/search"


@pytest.fixture(scope="module")
def service(local_ca: LocalCA, software_tpm_state: SoftwareTPMState) -> Iterator[Service]:
    """A node, its verifier and its agent, for all tests of this module."""
    # Apart from pytest's own folders, which it closes to the other users that some tests are.
    folder = Path(tempfile.mkdtemp(prefix="bootlease-"))
    folder.chmod(0o711)
    boot = simulate_boot(grub_description(), (HashAlg.SHA256,))
    golden = serialise_reference(golden_reference(boot, pcrs=PCRS))
    (folder / "verifier-home").mkdir(mode=0o700)
    with (
        booted_node(software_tpm_state.clone(folder / "node"), grub_description()) as node,
        verifier_process(
            folder / "verifier-home",
            policy=policy_text(),
            roots=local_ca.roots_pem,
            references=[golden],
        ) as verifier,
    ):
        made = Service(folder / "a", node, verifier)
        made.folder.chmod(0o711)
        made.configure(RULES)
        made.start()
        made.client()
        yield made
        made.end(signal.SIGTERM)
        made.manager.close()
    shutil.rmtree(folder)


def bootlease(service: Service, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run a command as a workload would."""
    where = {wire.SOCKET_VARIABLE: str(service.folder / "api")}
    done = subprocess.run(
        [*BOOTLEASE, *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, **where, **environment},
    )
    return done.returncode, done.stdout, done.stderr


def check(service: Service, token: str, headers: dict[str, str], *, url: str = URL) -> None:
    """Have ``bootlease token verify`` check token and proof, as a relying party does."""
    keys = service.folder / "join.json"
    code, _, said = bootlease(
        service,
        *("token", "verify", token, "--keys", str(keys), "--issuer", service.verifier.url),
        *("--audience", AUDIENCE, "--scope", SCOPE),
        *("--proof", headers["DPoP"], "--method", "GET", "--url", url),
    )
    assert code == 0, said


def test_token_get(service: Service) -> None:
    """The command prints a token, or the headers of one request; both count."""
    asked = ("token", "get", "--scope", SCOPE, "--audience", AUDIENCE)
    code, printed, said = bootlease(service, *asked)
    assert code == 0, said
    _, claims = parse_token(base64url.decode(printed.strip()))
    assert (claims.scope, claims.audience) == ((SCOPE,), AUDIENCE)
    code, printed, said = bootlease(service, *asked, "--method", "GET", "--url", URL)
    assert code == 0, said
    headers = dict(line.split(": ", 1) for line in printed.splitlines())
    check(service, headers["Authorization"].removeprefix("DPoP "), headers)
    code, printed, said = bootlease(service, *asked, "--json", "--encoding", "jwt")
    assert code == 0, said
    members = json.loads(printed)
    assert members["token"].count(".") == 2
    assert (members["scope"], members["audience"]) == ([SCOPE], AUDIENCE)


def test_token_get_without_a_lease(service: Service) -> None:
    """Exit codes and errors say why there is none."""
    code, printed, said = bootlease(
        service, "token", "get", "--scope", "repo:x", "--audience", AUDIENCE
    )
    assert (code, printed) == (1, "")
    assert "workload.scope.not-permitted" in said
    nowhere = str(service.folder / "nowhere")
    code, _, said = bootlease(
        service, *("token", "get", "--scope", SCOPE, "--audience", AUDIENCE, "--socket", nowhere)
    )
    assert code == 3
    assert nowhere in said
    for wrong in (
        ["--scope", SCOPE],
        ["--audience", AUDIENCE],
        [],
        ["--scope", "a b", "--audience", AUDIENCE],
        ["--scope", SCOPE, "--audience", AUDIENCE, "--method", "GET"],
    ):
        assert bootlease(service, "token", "get", *wrong)[0] == 2


def test_under_a_guard_a_workload_has_its_guards_lease(service: Service) -> None:
    """Socket and handle in its environment are all that ``token get`` needs."""
    with service.client().lease([SCOPE], AUDIENCE) as stream:
        lease = granted(stream)
        environment = {wire.LEASE_VARIABLE: stream.handle}
        code, printed, said = bootlease(service, "token", "get", **environment)
        assert (code, printed.strip()) == (0, lease.token), said
        code, printed, said = bootlease(
            service, "token", "get", "--method", "GET", "--url", URL, "--json", **environment
        )
        assert code == 0, said
        check(service, lease.token, json.loads(printed)["headers"])


@pytest.mark.parametrize("confirmation", ["process", "tpm"])
def test_proofs_count(service: Service, confirmation: str) -> None:
    """Made in the agent or in the TPM, while renewals go on."""
    client = service.client()
    with client.lease([SCOPE], AUDIENCE, confirmation=confirmation) as stream:
        lease = granted(stream)
        check(service, lease.token, client.proof(stream.handle, "GET", f"{URL}?q=x"))
        _, claims = parse_token(lease.token_bytes())
        assert claims.protection.label == confirmation


def test_an_own_key_stays_with_its_workload(service: Service) -> None:
    """The token confirms it, and what it signs counts; the agent has no part in that."""
    client, own = service.client(), PrivateKeySigner(ec.generate_private_key(ec.SECP256R1()))
    with client.lease([SCOPE], AUDIENCE, key=own.public) as stream:
        lease = granted(stream)
        proof = make_proof(
            own, htm="GET", htu=URL, iat=int(time.time()), jti="x" * 16, access_token=lease.token
        )
        check(service, lease.token, {"DPoP": proof})
        with pytest.raises(VerificationError, match="workload's own"):
            client.proof(stream.handle, "GET", URL)
        (claims,) = {parse_token(lease.token_bytes())[1].confirmation}
        assert claims == own.public
        verify_proof(
            proof,
            confirmation=claims,
            htm="GET",
            htu=URL,
            access_token=lease.token,
            now=time.time(),
        )


_WORKLOAD = """
import os, sys
from bootlease.errors import VerificationError
from bootlease.workload import WorkloadClient
if sys.argv[4] != "-":
    os.setgroups([]); os.setgid(int(sys.argv[4])); os.setuid(int(sys.argv[4]))
try:
    with WorkloadClient(sys.argv[1], timeout=60).lease([sys.argv[2]], sys.argv[3]) as stream:
        print(stream.granted(60).lease_id, flush=True)
        sys.stdin.read()
except VerificationError as exc:
    print(exc.findings[0].id, flush=True)
"""


def _workloads(service: Service, count: int, user: str = "-") -> list[subprocess.Popen[str]]:
    return [
        subprocess.Popen(
            [sys.executable, "-c", _WORKLOAD, str(service.folder / "api"), SCOPE, AUDIENCE, user],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]


def _first_words(processes: list[subprocess.Popen[str]]) -> list[str]:
    found = []
    for process in processes:
        assert process.stdout is not None
        found.append(process.stdout.readline().strip())
    return found


def test_many_processes_ride_in_one_quote(service: Service) -> None:
    """Each has a lease of its own; together they cost few renewals."""
    before = len(service.events("lease.granted"))
    processes = _workloads(service, 12)
    found = _first_words(processes)
    assert len(set(found)) == 12
    assert all(len(each) == 32 for each in found)
    assert len(service.events("lease.granted")) - before <= 8
    for process in processes:
        process.communicate()
    wait_for(
        lambda: len(service.events("workload.closed")) == len(service.events("workload.opened"))
    )


@pytest.mark.root
def test_each_user_has_what_its_rule_permits(service: Service) -> None:
    """One more user is served, a third is not."""
    processes = _workloads(service, 1, str(OTHER_USER)) + _workloads(service, 1, "12346")
    served, refused = _first_words(processes)
    assert len(served) == 32
    assert refused == "workload.peer.not-permitted"
    for process in processes:
        process.communicate()


def test_an_agent_that_comes_back_serves_the_same_handle(service: Service) -> None:
    """SIGKILL closes streams without a word; the lineage goes on under the next process."""
    with service.client().lease([SCOPE], AUDIENCE) as stream:
        first = granted(stream)
    with service.client().lease([SCOPE], AUDIENCE, handle=stream.handle) as held:
        second = granted(held)
        service.end(signal.SIGKILL)
        with pytest.raises(AgentGoneError, match="closed"):
            list(held)
        service.start()
        again: LeaseStream = service.client().lease([SCOPE], AUDIENCE, handle=stream.handle)
        with again:
            third = granted(again)
    assert first.sequence < second.sequence < third.sequence


def reload(service: Service, rules: str) -> None:
    """Have the agent take over other rules."""
    before = len(service.events("config.reloaded"))
    service.configure(rules)
    assert service.process is not None
    service.process.send_signal(signal.SIGHUP)
    wait_for(lambda: len(service.events("config.reloaded")) > before)


def test_rules_that_are_taken_back_end_a_lease(service: Service) -> None:
    """SIGHUP: its stream says so, and the agent asks for it no more."""
    with service.client().lease([SCOPE], AUDIENCE) as stream:
        granted(stream)
        reload(service, "")
        event = stream.next_event(30)
        while not isinstance(event, Denied):
            assert event is not None
            assert not isinstance(event, Ended)
            event = stream.next_event(30)
        assert event.findings[0].id == "workload.rule.withdrawn"
    reload(service, RULES)
    with service.client().lease([SCOPE], AUDIENCE) as stream:
        granted(stream)


def test_nothing_is_kept_on_disk(service: Service) -> None:
    """Neither token nor handle is in any file of the agent's."""
    with service.client().lease([SCOPE], AUDIENCE) as stream:
        lease = granted(stream)
        service.client().proof(stream.handle, "GET", URL)
        secrets = [lease.token.encode(), lease.token_bytes(), stream.handle.encode()]
        files = [path for path in service.folder.rglob("*") if path.is_file()]
        assert files
        for path in files:
            data = path.read_bytes()
            assert not any(secret in data for secret in secrets), path


def test_curl_is_a_client(service: Service) -> None:
    """The wire is what docs/workload-api.md says, for programs without our library."""
    curl = shutil.which("curl")
    assert curl is not None, "curl is missing: apt-get install curl"
    base = [curl, "--silent", "--unix-socket", f"{service.folder}/api", "--max-time", "30"]
    guard = ["-H", "Bootlease-Workload: true"]
    info = subprocess.run([*base, *guard, "http://agent/v1/info"], capture_output=True, check=True)
    assert json.loads(info.stdout)["issuer"] == service.verifier.url
    ssrf = subprocess.run([*base, "http://agent/v1/info"], capture_output=True, check=True)
    assert json.loads(ssrf.stdout)["findings"][0]["id"] == "workload.header.missing"
    handle = "A" * 43
    asked = json.dumps({"scope": [SCOPE], "audience": AUDIENCE, "handle": handle})
    with subprocess.Popen(
        [*base, *guard, "--no-buffer", "--json", asked, "http://agent/v1/leases"],
        stdout=subprocess.PIPE,
    ) as stream:
        assert stream.stdout is not None
        event = json.loads(stream.stdout.readline())
        assert (event["event"], event["handle"], event["scope"]) == ("granted", handle, [SCOPE])
        proof = subprocess.run(
            [
                *(*base, *guard, "-H", f"Bootlease-Lease: {handle}"),
                *("--json", json.dumps({"method": "GET", "url": URL}), "http://agent/v1/proofs"),
            ],
            capture_output=True,
            check=True,
        )
        check(service, event["token"], json.loads(proof.stdout)["headers"])
        stream.terminate()


def test_the_example_calls_a_tool(service: Service) -> None:
    """``examples/workload.py`` is answered while it holds a lease, by itself or guarded."""
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "bootlease.testing.tool_server"),
            *("--issuer", service.verifier.url, "--audience", AUDIENCE, "--scope", SCOPE),
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        wait_for(lambda: _listens(url))
        try:
            own = _example(service, "--scope", SCOPE, "--audience", AUDIENCE, "--times", "3", url)
            assert own.returncode == 0, own.stderr
            assert own.stdout.count("200 ") == 3
            with service.client().lease([SCOPE], AUDIENCE) as stream:
                granted(stream)
                guarded = _example(service, url, **{wire.LEASE_VARIABLE: stream.handle})
                assert guarded.returncode == 0, guarded.stderr
            over = _example(service, url, **{wire.LEASE_VARIABLE: stream.handle})
            assert over.returncode == 1
            assert "No lease with this handle" in over.stderr
        finally:
            server.terminate()


def _listens(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=5).status_code == 401
    except httpx2.TransportError:
        return False


def _example(
    service: Service, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    where = {wire.SOCKET_VARIABLE: str(service.folder / "api")}
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / "workload.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, **where, **environment},
    )
