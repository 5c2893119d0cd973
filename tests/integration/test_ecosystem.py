"""The examples as they are run: Envoy and an MCP server, with a verifier that revokes."""

from __future__ import annotations

import dataclasses
import itertools
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bootlease.evidence import TokenEncoding
from bootlease.testing.attesting_client import AttestingClient
from bootlease.testing.boot import SimulatedBoot
from bootlease.testing.envoy_process import envoy_process
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.policies import AUDIENCE, make_policy, permit
from bootlease.testing.scene import default_lease
from bootlease.testing.served import served
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.testing.tokens import HOLDER
from bootlease.testing.verifier_process import VerifierProcess, free_port, verifier_process
from bootlease.token import PrivateKeySigner, make_proof

EXAMPLES = Path(__file__).parents[2] / "examples"
PUSHED = 2.0
"""Seconds that a pushed revocation may take."""

NUMBERS = itertools.count()
MCP = free_port()
MCP_URL = f"http://127.0.0.1:{MCP}"
SCOPES = ("tool:search", "mcp:documents")


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, local_ca: LocalCA, reference_file: bytes
) -> Iterator[VerifierProcess]:
    """A verifier that grants what the examples ask for."""
    policy = make_policy(
        permit(SCOPES), lease__audiences=f'["{AUDIENCE}", "{MCP_URL}/mcp"]', lease__continuity="5"
    )
    with verifier_process(
        tmp_path_factory.mktemp("verifier"),
        policy=policy,
        roots=local_ca.roots_pem,
        references=[reference_file],
    ) as process:
        yield process


@pytest.fixture
def node(http: httpx2.Client, local_ca: LocalCA, good_boot: SimulatedBoot) -> AttestingClient:
    """An enrolled node."""
    client = AttestingClient(http, SimulatedNode(local_ca, boot=good_boot), ())
    client.enrol()
    return client


def lease(node: AttestingClient, *scope: str, audience: str = AUDIENCE) -> str:
    """Attest for one lease and return its token."""
    node.leases = (dataclasses.replace(default_lease(scope, audience), encoding=TokenEncoding.JWT),)
    return node.renew().leases[0].token.decode("ascii")


@contextmanager
def example(name: str, port: int, *arguments: str) -> Iterator[None]:
    """Run an example that listens on ``port``."""
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / name), "--port", str(port), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            _wait_for(port, process)
            yield
        finally:
            process.terminate()
            process.communicate(timeout=15)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def revoke(running: VerifierProcess, node: AttestingClient) -> None:
    """Revoke the node, as an operator does."""
    answer = node.http.post(
        "/v1/admin/revocations",
        json={"kind": "node", "subject": node.node.hex(), "reason": "stolen"},
        headers={"authorization": f"Bearer {running.credential}"},
    )
    answer.raise_for_status()


def time_until_refused(succeeds: Callable[[], bool]) -> float:
    """Seconds from now to the last success."""
    start = last = time.monotonic()
    while time.monotonic() < start + 3 * PUSHED:
        asked = time.monotonic()
        if not succeeds():
            return last - start
        last = asked
    raise AssertionError("never refused")


async def upstream(scope: Any, receive: Any, send: Any) -> None:
    """Answer whatever Envoy lets pass."""
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"42 documents"})


def test_behind_envoy_a_lease_opens_until_it_is_revoked(
    running: VerifierProcess, node: AttestingClient, tmp_path: Path
) -> None:
    """examples/envoy.yaml and examples/ext_authz.py; an upstream that knows nothing of tokens."""
    listen, authz = free_port(), free_port()
    url = f"http://127.0.0.1:{listen}"
    token = lease(node, "tool:search")
    with ExitStack() as stack:
        behind = stack.enter_context(served(upstream))
        ports = {"10000": str(listen), "9001": str(authz), "9002": behind.rpartition(":")[2]}
        text = (EXAMPLES / "envoy.yaml").read_text()
        text = re.sub(r"\b(10000|9001|9002)\b", lambda found: ports[found[0]], text)
        options = ("--issuer", running.url, "--audience", AUDIENCE, "--origin", url)
        stack.enter_context(example("ext_authz.py", authz, *options))
        stack.enter_context(envoy_process(tmp_path, text, listen))
        client = stack.enter_context(httpx2.Client(base_url=url, trust_env=False, timeout=20))

        def search() -> httpx2.Response:
            proof = make_proof(
                HOLDER,
                htm="GET",
                htu=f"{url}/search",
                iat=int(time.time()),
                jti=f"proof {next(NUMBERS)}",
                access_token=token,
            )
            headers = {"Authorization": f"DPoP {token}", "DPoP": proof}
            return client.get("/search", headers=headers)

        first = search()
        assert (first.status_code, first.text) == (200, "42 documents")
        revoke(running, node)
        assert time_until_refused(lambda: search().status_code == 200) < PUSHED
        assert search().json()["findings"][0]["id"] == "token.revoked"


def test_an_mcp_tool_answers_until_the_lease_is_revoked(
    running: VerifierProcess, node: AttestingClient, tmp_path: Path
) -> None:
    """examples/mcp_server.py and examples/mcp_client.py, which reads what a node's agent keeps."""
    key = ec.derive_private_key(4711, ec.SECP256R1())
    assert PrivateKeySigner(key).public == HOLDER.public
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    token = lease(node, *SCOPES, audience=f"{MCP_URL}/mcp")
    (tmp_path / "token").write_text(token)
    command = [
        *(sys.executable, str(EXAMPLES / "mcp_client.py"), "--url", MCP_URL),
        *("--token", str(tmp_path / "token"), "--key", str(tmp_path / "key.pem"), "kernels"),
    ]
    with example("mcp_server.py", MCP, "--issuer", running.url, "--url", MCP_URL):
        called = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        assert called.stdout == "42 documents about kernels\n"
        revoke(running, node)
        time.sleep(PUSHED)
        refused = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert refused.returncode != 0
        assert "42" not in refused.stdout
