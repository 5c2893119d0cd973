"""A real Envoy asks the ext_authz service, and a real upstream sees what it lets pass."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bootlease.relyingparty import StaticContinuity, StaticKeys, TokenChecker
from bootlease.relyingparty.extauthz import ExtAuthz, Site
from bootlease.relyingparty.rules import PUBLIC, Need
from bootlease.testing.envoy_process import envoy_process
from bootlease.testing.served import served
from bootlease.testing.tokens import AUDIENCE, HOLDER, ISSUER, FakeIssuer, execution_claims
from bootlease.testing.verifier_process import free_port
from bootlease.token import ExecutionClaims, make_proof
from bootlease.token.continuity import Continuity
from bootlease.token.statuslist import StatusList

EXAMPLE = Path(__file__).parents[2] / "examples" / "envoy.yaml"
ISSUED = FakeIssuer()
NUMBERS = itertools.count()


async def upstream(scope: Any, receive: Any, send: Any) -> None:
    """Tell what arrived."""
    del receive
    seen = [[name.decode(), value.decode()] for name, value in scope["headers"]]
    body = json.dumps({"path": scope["raw_path"].decode(), "headers": seen}).encode()
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def statement(*ended: int) -> Continuity:
    """What the verifier says now: these leases have ended."""
    now = int(time.time())
    key = ISSUED.signer.key_id
    return Continuity(ISSUER, now, now + 300, 1, 1, frozenset({key}), StatusList.of(ended), key)


@dataclasses.dataclass
class Proxied:
    """A site behind Envoy.

    Attributes:
        url: Where clients reach it.
        port: Where Envoy looks for the ext_authz service.
        continuity: What the verifier has said.
        service: The service.
    """

    url: str
    port: int
    continuity: StaticContinuity
    service: ExtAuthz

    def holder(self, path: str = "/search", method: str = "GET", **changes: Any) -> dict[str, str]:
        """The headers of a holder whose lease began now, but for the changes."""
        claims = current_claims(**changes)
        token = ISSUED.jwt(claims)
        proof = make_proof(
            HOLDER,
            htm=method,
            htu=f"{self.url}{path}",
            iat=int(time.time()),
            jti=f"proof {next(NUMBERS)}",
            access_token=token,
        )
        return {"Authorization": f"DPoP {token}", "DPoP": proof}

    def get(self, path: str = "/search", headers: Any = None) -> httpx2.Response:
        """GET by way of Envoy."""
        with httpx2.Client(trust_env=False, timeout=20) as client:
            return client.get(f"{self.url}{path}", headers=headers)


def current_claims(number: int = 0, **changes: Any) -> ExecutionClaims:
    """Claims of a lease that began now."""
    now = int(time.time())
    times = {"issued_at": now, "not_before": now, "expires_at": now + 120}
    return execution_claims(number, **{**times, "scope": ("tool:search",), **changes})


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    """The example's Envoy, on free ports, before an upstream that believes it."""
    listen, authz = free_port(), free_port()
    url = f"http://127.0.0.1:{listen}"
    continuity = StaticContinuity(statement())
    checker = TokenChecker(
        StaticKeys(ISSUED.keys), issuer=ISSUER, audience=AUDIENCE, continuity=continuity
    )
    rules: dict[str, Need] = {
        "GET /search": "tool:search",
        "* /admin/*": "tool:admin",
        "GET /hello": PUBLIC,
    }
    service = ExtAuthz([Site(url, checker, rules)])
    with served(upstream) as behind:
        ports = {"10000": str(listen), "9001": str(authz), "9002": behind.rpartition(":")[2]}
        text = re.sub(r"\b(10000|9001|9002)\b", lambda found: ports[found[0]], EXAMPLE.read_text())
        with envoy_process(tmp_path_factory.mktemp("envoy"), text, listen):
            yield Proxied(url, authz, continuity, service)


@pytest.fixture
def running(proxied: Proxied) -> Iterator[Proxied]:
    """The same, with its service up."""
    proxied.continuity.statement = statement()
    with served(proxied.service, port=proxied.port):
        yield proxied


def seen(answer: httpx2.Response) -> list[list[str]]:
    """The headers that the upstream got."""
    assert answer.status_code == 200, answer.text
    headers: list[list[str]] = answer.json()["headers"]
    return headers


def refused(answer: httpx2.Response) -> tuple[int, str]:
    """Status and finding of a refusal that the upstream never saw."""
    (found,) = answer.json()["findings"]
    return answer.status_code, found["id"]


def test_a_holder_reaches_the_upstream(running: Proxied) -> None:
    """It is told who calls; token and proof stay behind."""
    claims = current_claims()
    headers = dict(seen(running.get("/search?q=1", running.holder())))
    told = {name: value for name, value in headers.items() if name.startswith("x-bootlease")}
    assert told.keys() == {f"x-bootlease-{name}" for name in ("node", "scope", "lease", "expires")}
    assert told["x-bootlease-node"] == claims.subject
    assert told["x-bootlease-scope"] == "tool:search"
    assert not {"authorization", "dpop"} & headers.keys()


def test_a_client_cannot_say_who_it_is(running: Proxied) -> None:
    """Names with our prefix are taken out of what clients send, in every spelling."""
    smuggled = [
        ("X-Bootlease-Node", "admin"),
        ("x-bootlease-node", "root"),
        ("x-bootlease-scope", "tool:admin"),
        ("x-bootlease-role", "admin"),
        ("X-BOOTLEASE-Other", "1"),
    ]
    headers = seen(running.get(headers=[*smuggled, *running.holder().items()]))
    ours = [(name, value) for name, value in headers if "bootlease" in name.lower()]
    assert len(ours) == len(dict(ours)) == 4
    assert dict(ours)["x-bootlease-node"] == current_claims().subject
    assert dict(ours)["x-bootlease-scope"] == "tool:search"


def test_nobody_is_told_of_at_a_public_path(running: Proxied) -> None:
    """Who need not say who it is cannot say that it is somebody."""
    smuggled = {"x-bootlease-node": "admin"}
    headers = dict(seen(running.get("/hello", smuggled)))
    assert not [name for name in headers if "bootlease" in name]


def test_an_underscore_is_no_other_spelling(running: Proxied) -> None:
    """Servers of the CGI tradition read ``x_bootlease_node`` as the same name."""
    answer = running.get(headers={"x_bootlease_node": "admin", **running.holder()})
    assert answer.status_code == 400


def test_without_a_token_nothing_passes(running: Proxied) -> None:
    """401 with the challenge."""
    answer = running.get()
    assert refused(answer) == (401, "request.token.missing")
    assert answer.headers["www-authenticate"].startswith("DPoP ")


def test_a_stolen_token_does_not_pass(running: Proxied) -> None:
    """The thief has the token, and the proof of the request that it was seen with."""
    given = running.holder()
    assert running.get(headers=given).status_code == 200
    assert refused(running.get(headers=given)) == (401, "pop.replayed")
    del given["DPoP"]
    assert refused(running.get(headers=given)) == (401, "request.proof.missing")
    given["Authorization"] = given["Authorization"].replace("DPoP", "Bearer")
    assert refused(running.get(headers=given)) == (401, "request.token.missing")


def test_an_expired_token_does_not_pass(running: Proxied) -> None:
    """The lease is over; the leeway too."""
    now = int(time.time())
    times: dict[str, Any] = {"issued_at": now - 60, "not_before": now - 60, "expires_at": now - 6}
    assert refused(running.get(headers=running.holder(**times))) == (401, "token.expired")


def test_a_revoked_token_does_not_pass(running: Proxied) -> None:
    """As soon as the verifier's statement says that the lease has ended."""
    assert running.get(headers=running.holder()).status_code == 200
    running.continuity.statement = statement(current_claims().status_index)
    assert refused(running.get(headers=running.holder())) == (401, "token.revoked")
    other = running.holder(lease_id=bytes(12) + b"\0\0\0\1")
    assert running.get(headers=other).status_code == 200


def test_a_stale_statement_lets_nothing_pass(running: Proxied) -> None:
    """Who cannot know what was revoked refuses, and says that it may be different later."""
    old = statement()
    running.continuity.statement = dataclasses.replace(
        old, issued_at=old.issued_at - 60, expires_at=old.issued_at - 6
    )
    assert running.get(headers=running.holder()).status_code == 503


def test_another_scope_does_not_pass(running: Proxied) -> None:
    """The path says what is needed; a path that nobody wrote a rule for, too."""
    answer = running.get("/admin/x", running.holder("/admin/x"))
    assert refused(answer) == (403, "token.scope.insufficient")
    answer = running.get("/other", running.holder("/other"))
    assert refused(answer) == (403, "request.scope.unruled")


@pytest.mark.parametrize(
    "path",
    [
        *(b"/search/../admin/x", b"/search/%2e%2e/admin/x", b"/admin%2fx", b"/admin%5cx"),
        *(
            b"/search/..%2fadmin/x",
            b"//admin/x",
            b"/./admin/x",
            b"/search;/../admin/x",
            b"/admin\\x",
        ),
        *(b"/search%00", b"/%61dmin/x"),
    ],
)
def test_no_spelling_of_a_path_passes_for_another(running: Proxied, path: bytes) -> None:
    """Sent as it is, with what opens ``/search``: it reaches neither ``/admin`` nor anything."""
    host, port = "127.0.0.1", int(running.url.rpartition(":")[2])
    headers = "".join(f"{name}: {value}\r\n" for name, value in running.holder().items())
    head = b"GET %b HTTP/1.1\r\nhost: %b:%d\r\nconnection: close\r\n%b\r\n" % (
        path,
        host.encode(),
        port,
        headers.encode(),
    )
    with socket.create_connection((host, port), 20) as connection:
        connection.sendall(head)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    assert answer.split(b" ")[1] in {b"307", b"400", b"401", b"403", b"404"}


def test_envoy_fails_closed_when_nobody_answers(proxied: Proxied) -> None:
    """The service is down: a request that would pass does not, and the upstream sees nothing."""
    answer = proxied.get(headers=proxied.holder())
    assert answer.status_code == 503
    assert "headers" not in answer.text


def test_envoy_fails_closed_when_the_service_errs(proxied: Proxied) -> None:
    """A service that breaks is one that does not answer."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    with served(broken, port=proxied.port):
        assert proxied.get(headers=proxied.holder()).status_code == 503
