"""``examples/relying_party.py`` runs as it stands, and does what its documentation says."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from bootlease.relyingparty.auth import LeaseAuth
from bootlease.relyingparty.tokensource import Presentable
from bootlease.testing.publishing import PublishingVerifier, publishing
from bootlease.testing.tokens import AUDIENCE, HOLDER, execution_claims
from bootlease.token import ExecutionClaims

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "relying_party.py"
PAGE = ROOT / "docs" / "relying-party.md"
PATIENCE = 30.0


class Client:
    """A client that holds a lease.

    Attributes:
        url: The example's.
        verifier: Its verifier.
        scope: Scope names of the lease.
    """

    def __init__(self, url: str, verifier: PublishingVerifier) -> None:
        self.url = url
        self.verifier = verifier
        self.scope = ("tool:search",)

    def claims(self) -> ExecutionClaims:
        """Return the claims of a lease that begins now."""
        now = int(time.time())
        times = {"issued_at": now, "not_before": now, "expires_at": now + 60}
        return execution_claims(7, issuer=self.verifier.url, scope=self.scope, **times)

    def current(self) -> Presentable:
        """Be a token source."""
        return Presentable.of(self.verifier.issuer.cwt(self.claims()), HOLDER)

    def get(self, path: str) -> httpx2.Response:
        """Make a request with the lease."""
        with httpx2.Client(auth=LeaseAuth(self, origin=self.url), timeout=10) as client:
            return client.get(f"{self.url}{path}")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """The example in a process of its own, and a verifier that publishes."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with publishing(PublishingVerifier()) as verifier:
        arguments = ["--issuer", verifier.url, "--audience", AUDIENCE, "--base-url", url]
        with subprocess.Popen(
            [sys.executable, str(EXAMPLE), *arguments, "--port", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                _wait_for(f"{url}/healthz")
                yield Client(url, verifier)
            finally:
                process.terminate()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            assert httpx2.get(url).status_code == 200
        except httpx2.ConnectError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def test_the_example_serves_who_holds_a_lease(client: Client) -> None:
    """And nobody else."""
    answer = client.get("/search?q=tpm")
    assert answer.json()["result"] == "42 documents about tpm"
    assert answer.json()["node"] == execution_claims(7).subject
    assert httpx2.get(f"{client.url}/search?q=tpm").status_code == 401
    client.scope = ("tool:other",)
    assert client.get("/search?q=tpm").status_code == 403
    client.scope = ("tool:search",)


def test_the_example_stops_a_stream(client: Client) -> None:
    """Its second tool never ends, but with the lease."""
    auth = LeaseAuth(client, origin=client.url)
    with httpx2.Client(auth=auth, timeout=10) as http:
        began = time.monotonic()
        with pytest.raises(httpx2.RemoteProtocolError):
            _watch(http, client)
        assert time.monotonic() - began < 5
    assert client.get("/search?q=tpm").status_code == 401


def _watch(http: httpx2.Client, client: Client) -> None:
    with http.stream("GET", f"{client.url}/watch") as response:
        for line in response.iter_lines():
            assert line.startswith("nothing new")
            client.verifier.publish(revoked=[7])


def test_the_page_shows_the_example() -> None:
    """Every line of the page's first listing stands in the example."""
    listing = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)[0]
    known = {line.strip() for line in EXAMPLE.read_text().splitlines()}
    for line in filter(None, map(str.strip, listing.splitlines())):
        assert line in known, line
