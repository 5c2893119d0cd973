"""A relying party as it is deployed: real servers, a real client, a stream that is cut.

The verifier is one that publishes and does nothing else; ``bootlease.testing.tool_server`` is the
relying party. Times are taken where the client reads.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx2
import pytest

from bootlease.errors import VerificationError
from bootlease.relyingparty import FetchedKeys, StreamedContinuity, TokenChecker
from bootlease.relyingparty.auth import LeaseAuth
from bootlease.relyingparty.tokensource import Presentable
from bootlease.testing.publishing import PublishingVerifier, publishing
from bootlease.testing.served import served
from bootlease.testing.tokens import AUDIENCE, HOLDER, execution_claims
from bootlease.testing.tool_server import BEAT, tool_server

SCOPE = "tools:read"
LEEWAY = 1


@dataclass
class Site:
    """A verifier, a relying party, and a client that holds a lease.

    Attributes:
        verifier: What it publishes, a test changes.
        url: The relying party's.
        life: Seconds of the leases that the client gets.
        number: Which lease it is; its place in the status list.
    """

    verifier: PublishingVerifier
    url: str
    life: int = 60
    number: int = 7
    expires_at: int = field(default=0)

    def current(self) -> Presentable:
        """Be a token source: a lease that begins now."""
        now = int(time.time())
        self.expires_at = now + self.life
        claims = execution_claims(
            self.number,
            issuer=self.verifier.url,
            issued_at=now,
            not_before=now,
            expires_at=self.expires_at,
        )
        return Presentable.of(self.verifier.issuer.jwt(claims), HOLDER)

    def client(self) -> httpx2.Client:
        """Return a client that presents the lease."""
        return httpx2.Client(auth=LeaseAuth(self, origin=self.url), timeout=10)

    def listen(self, told: threading.Event) -> list[tuple[float, float]]:
        """Read the stream until it is cut; return when each line was written and read."""
        read: list[tuple[float, float]] = []
        with pytest.raises(httpx2.RemoteProtocolError):
            self._follow(read, told)
        return read

    def _follow(self, read: list[tuple[float, float]], told: threading.Event) -> None:
        with self.client() as client, client.stream("GET", f"{self.url}/stream") as response:
            assert response.status_code == 200
            for line in response.iter_lines():
                read.append((float(line), time.time()))
                told.set()


@pytest.fixture
def site() -> Iterator[Site]:
    """Everything served."""
    with contextlib.ExitStack() as stack:
        verifier = stack.enter_context(publishing(PublishingVerifier(valid=3)))
        client = stack.enter_context(httpx2.Client())
        keys = FetchedKeys(f"{verifier.url}/.well-known/jwks.json", client=client)
        continuity = stack.enter_context(
            StreamedContinuity(f"{verifier.url}/v1/continuity", keys, issuer=verifier.url)
        )
        checker = TokenChecker(
            keys, issuer=verifier.url, audience=AUDIENCE, continuity=continuity, leeway=LEEWAY
        )
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        app = tool_server(checker, scope=SCOPE, base_url=f"http://127.0.0.1:{port}")
        yield Site(verifier, stack.enter_context(served(app, port=port)))


def test_a_client_with_a_lease_is_served(site: Site) -> None:
    """Every request with a proof of its own."""
    with site.client() as client:
        for _ in range(3):
            answer = client.get(f"{site.url}/search?q=everything")
            assert answer.json()["node"] == execution_claims(7).subject
    assert httpx2.get(f"{site.url}/search").status_code == 401
    assert httpx2.get(f"{site.url}/elsewhere").status_code == 403


def test_a_stream_ends_with_its_lease(site: Site) -> None:
    """At its end and the leeway, and is not taken for a whole answer."""
    site.life = 1
    read = site.listen(threading.Event())
    end = site.expires_at + LEEWAY
    assert len(read) > 10
    assert end - 0.3 < read[-1][0] <= end
    assert read[-1][1] <= end + 0.1


def test_a_stream_ends_with_a_revocation(site: Site) -> None:
    """Pushed by the verifier: long before the lease would have ended, or any poll."""
    told = threading.Event()
    revoked: list[float] = []

    def revoke() -> None:
        assert told.wait(10)
        time.sleep(0.3)
        revoked.append(time.time())
        site.verifier.publish(revoked=[site.number])

    thread = threading.Thread(target=revoke)
    thread.start()
    read = site.listen(told)
    thread.join()
    assert read[-1][1] - revoked[0] < 0.5
    assert read[-1][0] > revoked[0] - 3 * BEAT
    with site.client() as client:
        refused = client.get(f"{site.url}/search")
    assert refused.status_code == 401
    assert refused.json()["findings"][0]["id"] == "token.revoked"


def test_a_stream_ends_when_the_verifier_is_silent(site: Site) -> None:
    """When its last statement is too old; then requests are answered with 503."""
    told, silenced = threading.Event(), []

    def silence() -> None:
        assert told.wait(10)
        silenced.append(time.time())
        site.verifier.status = 503
        site.verifier.streaming = False

    thread = threading.Thread(target=silence)
    thread.start()
    read = site.listen(told)
    thread.join()
    assert read[-1][1] - silenced[0] < site.verifier.valid + 0.3
    with site.client() as client:
        refused = client.get(f"{site.url}/search")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["findings"][0]["id"] == "continuity.stale"


def test_an_ended_epoch_is_refused(site: Site) -> None:
    """As soon as it is published."""
    with site.client() as client:
        assert client.get(f"{site.url}/search").status_code == 200
        site.verifier.publish(min_epoch=4)
        time.sleep(0.2)
        refused = client.get(f"{site.url}/search")
    assert refused.json()["findings"][0]["id"] == "token.epoch.too-old"


def test_a_body_is_not_waited_for(site: Site) -> None:
    """A request that announces a gigabyte and sends none of it is refused at once."""
    host, port = site.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        began = time.monotonic()
        connection.sendall(
            b"GET /search HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert time.monotonic() - began < 2


def test_repeated_headers_are_refused_by_a_real_server(site: Site) -> None:
    """The server passes both on; neither is chosen."""
    found = site.current()
    headers = [("Authorization", f"DPoP {found.token}"), ("DPoP", "x"), ("DPoP", "y")]
    answer = httpx2.get(f"{site.url}/search", headers=headers)
    assert answer.status_code == 400
    assert answer.json()["findings"][0]["id"] == "request.header.repeated"


def test_many_streams_end_with_one_revocation(site: Site) -> None:
    """One look at the leases of all requests under way is enough."""
    told = [threading.Event() for _ in range(20)]
    ends: list[float] = []

    def listen(event: threading.Event) -> None:
        ends.append(site.listen(event)[-1][1])

    threads = [threading.Thread(target=listen, args=(event,)) for event in told]
    for thread in threads:
        thread.start()
    assert all(event.wait(10) for event in told)
    revoked = time.time()
    site.verifier.publish(revoked=[site.number])
    for thread in threads:
        thread.join()
    assert len(ends) == 20
    assert max(ends) - revoked < 1


def test_a_checker_alone_learns_of_it_too(site: Site) -> None:
    """Who needs no server uses the same object."""
    found = site.current()
    with httpx2.Client() as client:
        keys = FetchedKeys(f"{site.verifier.url}/.well-known/jwks.json", client=client)
        with StreamedContinuity(
            f"{site.verifier.url}/v1/continuity", keys, issuer=site.verifier.url
        ) as continuity:
            checker = TokenChecker(
                keys, issuer=site.verifier.url, audience=AUDIENCE, continuity=continuity
            )
            checker.check(found.token)
            site.verifier.publish(revoked=[site.number])
            with pytest.raises(VerificationError, match="ended before its time"):
                _check_for(5, checker, found.token)


def _check_for(seconds: float, checker: TokenChecker, token: str) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        checker.check(token)
        time.sleep(0.005)
