"""What the service for Envoy lets pass, and each thing that it refuses, by itself."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any
from urllib.parse import unquote

import pytest

from bootlease.errors import TransportError
from bootlease.relyingparty import StaticKeys, TokenChecker, UnsafeNoContinuity
from bootlease.relyingparty.extauthz import ExtAuthz, Site
from bootlease.relyingparty.rules import BY_HANDLER, PUBLIC, Need
from bootlease.testing.tokens import (
    AUDIENCE,
    HOLDER,
    ISSUER,
    NOW,
    FakeIssuer,
    execution_claims,
)
from bootlease.token import KeySet, make_proof

ORIGIN = "https://tools.example"
ISSUED = FakeIssuer()
CLAIMS = execution_claims(scope=("tool:read", "repo:acme/*"))
TOKEN = ISSUED.jwt(CLAIMS)
NUMBERS = itertools.count()
RULES: dict[str, Need] = {
    "* /search": "tool:read",
    "* /repo/*": "repo:acme/x",
    "* /repo/secret/*": "repo:secret",
    "GET /edit": "tool:read",
    "PUT /edit": "tool:write",
    "GET /hello": PUBLIC,
}


class NoKeys:
    """A verifier that cannot be reached."""

    def key_set(self) -> KeySet:
        """Fail."""
        raise TransportError("no verifier")

    refresh = key_set


def checker(keys: Any = None, **options: Any) -> TokenChecker:
    """A checker at the time of the claims."""
    return TokenChecker(
        keys or StaticKeys(ISSUED.keys),
        issuer=ISSUER,
        audience=AUDIENCE,
        continuity=UnsafeNoContinuity(),
        clock=lambda: NOW,
        **options,
    )


def proof(url: str = f"{ORIGIN}/search", method: str = "GET") -> str:
    """A new proof by the holder."""
    jti = f"proof {next(NUMBERS)}"
    return make_proof(HOLDER, htm=method, htu=url, iat=NOW, jti=jti, access_token=TOKEN)


def ask(
    service: ExtAuthz | None = None,
    *,
    path: str = "/search",
    method: str = "GET",
    host: str = "tools.example",
    headers: list[tuple[bytes, bytes]] | None = None,
) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Ask as Envoy does; by default with what opens ``/search``."""
    service = service or ExtAuthz([Site(ORIGIN, checker(), RULES)])
    if headers is None:
        given = proof(f"{ORIGIN}{path}", method)
        headers = [(b"authorization", f"DPoP {TOKEN}".encode()), (b"dpop", given.encode())]
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("the question has no body")

    scope = {
        "type": "http",
        "method": method,
        "raw_path": path.encode(),
        "path": unquote(path),
        "query_string": b"q=1",
        "headers": [(b"host", host.encode()), *headers],
    }
    asyncio.run(service(scope, receive, send))
    start, body = sent
    assert (start["type"], body["type"]) == ("http.response.start", "http.response.body")
    answered = {name.decode(): value.decode() for name, value in start["headers"]}
    assert len(answered) == len(start["headers"])
    assert answered["content-length"] == str(len(body["body"]))
    return start["status"], answered, json.loads(body["body"] or b"{}")


def finding(answer: tuple[int, dict[str, str], dict[str, Any]]) -> str:
    """The one finding of a refusal."""
    assert not [name for name in answer[1] if name.startswith("x-bootlease")]
    (found,) = answer[2]["findings"]
    assert isinstance(found["id"], str)
    return found["id"]


def test_a_holder_passes_and_the_upstream_learns_who_it_is() -> None:
    """200, with the node, all its scope, the lease and its end."""
    status, headers, body = ask()
    assert (status, body) == (200, {})
    del headers["content-length"]
    assert headers == {
        "x-bootlease-node": CLAIMS.subject,
        "x-bootlease-scope": "tool:read repo:acme/*",
        "x-bootlease-lease": CLAIMS.lease_id.hex(),
        "x-bootlease-expires": str(CLAIMS.expires_at),
    }


def test_no_token_is_challenged() -> None:
    """401, and what to bring."""
    status, headers, _ = answer = ask(headers=[])
    assert status == 401
    assert headers["www-authenticate"].startswith("DPoP algs=")
    assert finding(answer) == "request.token.missing"


def test_a_token_without_proof_does_not_pass() -> None:
    """Envoy that does not forward ``dpop`` lets nobody in, and a thief neither."""
    answer = ask(headers=[(b"authorization", f"DPoP {TOKEN}".encode())])
    assert (answer[0], finding(answer)) == (401, "request.proof.missing")
    answer = ask(headers=[(b"authorization", f"Bearer {TOKEN}".encode())])
    assert (answer[0], finding(answer)) == (401, "request.token.missing")


@pytest.mark.parametrize("name", [b"authorization", b"dpop"])
def test_two_headers_of_one_name_do_not_pass(name: bytes) -> None:
    """The upstream might read the other one."""
    given = [(b"authorization", f"DPoP {TOKEN}".encode()), (b"dpop", proof().encode())]
    answer = ask(headers=[*given, (name, b"x")])
    assert (answer[0], finding(answer)) == (400, "request.header.repeated")


def test_a_proof_for_another_request_does_not_pass() -> None:
    """Method, path, host and scheme are those that Envoy saw."""
    for other in (
        proof(method="POST"),
        proof(f"{ORIGIN}/edit"),
        proof("http://tools.example/search"),
    ):
        given = [(b"authorization", f"DPoP {TOKEN}".encode()), (b"dpop", other.encode())]
        answer = ask(headers=given)
        assert answer[0] == 401
        assert finding(answer) in {"pop.method.mismatch", "pop.url.mismatch"}


def test_a_proof_passes_once() -> None:
    """The service remembers."""
    service = ExtAuthz([Site(ORIGIN, checker(), RULES)])
    given = [(b"authorization", f"DPoP {TOKEN}".encode()), (b"dpop", proof().encode())]
    assert ask(service, headers=given)[0] == 200
    answer = ask(service, headers=given)
    assert (answer[0], finding(answer)) == (401, "pop.replayed")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/repo/x", 200),
        ("GET", "/repo/x/y", 200),
        ("DELETE", "/repo/x", 200),
        ("GET", "/repo/secret/x", 403),
        ("GET", "/repo/secret/", 403),
        ("GET", "/edit", 200),
        ("PUT", "/edit", 403),
    ],
)
def test_the_narrowest_rule_names_the_scope(method: str, path: str, status: int) -> None:
    """A token for the wide branch does not open the narrow one below it."""
    answer = ask(method=method, path=path)
    assert answer[0] == status
    if status != 200:
        assert finding(answer) == "token.scope.insufficient"
        assert 'error="insufficient_scope"' in answer[1]["www-authenticate"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/searching"),
        ("GET", "/repo"),
        ("DELETE", "/edit"),
        ("POST", "/hello"),
    ],
)
def test_what_no_rule_is_about_does_not_pass(method: str, path: str) -> None:
    """Default deny, by path, and by method where the path has rules."""
    answer = ask(method=method, path=path)
    assert (answer[0], finding(answer)) == (403, "request.scope.unruled")


@pytest.mark.parametrize(
    "host", ["other.example", "tools.example:8443", "tools.example.", "tools.example:80", ""]
)
def test_another_host_does_not_pass(host: str) -> None:
    """Rules are about one site each; a public path of one is none of another."""
    for path in ("/search", "/hello"):
        answer = ask(host=host, path=path)
        assert (answer[0], finding(answer)) == (403, "request.scope.unknown-host")


def test_a_public_path_passes_without_a_token_and_tells_of_nobody() -> None:
    """Whatever the request carries is not looked at, and so is not said."""
    nothing: list[tuple[bytes, bytes]] = []
    for headers in (nothing, None):
        status, answered, _ = ask(path="/hello", headers=headers)
        assert (status, answered) == (200, {"content-length": "0"})


@pytest.mark.parametrize("reverse", [False, True])
def test_rules_for_one_path_are_found_whatever_stands_between(reverse: bool) -> None:  # noqa: FBT001 - a case
    """The order of rules says nothing: the narrowest decides, and all of its path are looked at."""
    rules: list[tuple[str, Need]] = [
        ("* /a/*", "tool:read"),
        ("* /b/*", "tool:read"),
        ("POST /a/*", "tool:write"),
        ("GET /a/x", "tool:write"),
    ]
    service = ExtAuthz([Site(ORIGIN, checker(), dict(rules[::-1] if reverse else rules))])
    assert ask(service, path="/a/y", method="GET")[0] == 200
    assert ask(service, path="/a/y", method="POST")[0] == 403
    assert ask(service, path="/a/x", method="GET")[0] == 403
    assert ask(service, path="/b/y", method="POST")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/repo/../search", "/repo/./x", "/repo/..", "//search", "/repo//x", "/repo/x;a=b/.."),
        *("/repo/%2e%2e/secret", "/repo/secret%2fx", "/repo/%5cx", "/repo/%252e%252e/x"),
        *("/repo/%3bx", "/repo/x%00"),
    ],
)
def test_a_path_with_two_readings_does_not_pass(path: str) -> None:
    """What rules and upstream might read differently is refused, whatever the token says."""
    answer = ask(path=path)
    assert (answer[0], finding(answer)) == (400, "request.path.ambiguous")


@pytest.mark.parametrize("path", ["repo/x", "", "/repo/é", "*", "https://tools.example/search"])
def test_what_is_no_path_does_not_pass(path: str) -> None:
    """Nor does a target that a proof could not name."""
    assert ask(path=path, headers=[])[0] in {400, 401}


def test_an_encoded_letter_is_the_letter() -> None:
    """The rule is about what the upstream will read; the proof about what was sent."""
    assert ask(path="/repo/%61")[0] == 200
    answer = ask(path="/repo/%73ecret/x")
    assert finding(answer) == "token.scope.insufficient"


def test_dots_within_a_name_are_no_way_up() -> None:
    """Names with dots, escapes and the usual signs pass."""
    for path in ("/repo/a..b", "/repo/.well-known", "/repo/..x", "/repo/a%20b", "/repo/@x:1,2"):
        assert ask(path=path)[0] == 200


@pytest.mark.parametrize("host", ["tools.example", "TOOLS.example", "tools.example:443"])
def test_a_host_may_be_spelled_with_its_default_port(host: str) -> None:
    """Clients do; the proof names the origin."""
    assert ask(host=host)[0] == 200


def test_two_hosts_do_not_pass() -> None:
    """A request that names two sites is for none."""
    answer = ask(headers=[(b"host", b"tools.example")])
    assert finding(answer) == "request.scope.unknown-host"


def test_each_site_has_its_own_audience_and_rules() -> None:
    """A token for one site opens nothing at another."""
    other = TokenChecker(
        StaticKeys(ISSUED.keys),
        issuer=ISSUER,
        audience="https://other.example",
        continuity=UnsafeNoContinuity(),
        clock=lambda: NOW,
    )
    service = ExtAuthz(
        [Site(ORIGIN, checker(), RULES), Site("http://other.example:81", other, RULES)]
    )
    assert ask(service)[0] == 200
    answer = ask(service, host="other.example:81")
    assert finding(answer) == "token.audience.mismatch"


def test_without_a_verifier_envoy_hears_an_error() -> None:
    """503 is what ``failure_mode_allow: false`` turns into a refusal."""
    status, headers, _ = ask(ExtAuthz([Site(ORIGIN, checker(NoKeys()), RULES)]))
    assert status == 503
    assert not [name for name in headers if name.startswith("x-bootlease")]


@pytest.mark.parametrize(
    "origin",
    [
        *("", "tools.example", "https://", "https://tools.example/", "https://tools.example/a"),
        *("HTTPS://tools.example", "https://Tools.example", "https://tools.example:443"),
        *("https://user@tools.example", "ftp://tools.example", "https://tools.example?x"),
    ],
)
def test_a_site_is_an_origin(origin: str) -> None:
    """One spelling, for proofs are compared with it."""
    with pytest.raises(ValueError, match="not an origin"):
        Site(origin, checker(), RULES)


def test_an_upstream_does_not_demand_scopes_itself() -> None:
    """A proxy cannot take back what an upstream answers to whom it should not."""
    with pytest.raises(ValueError, match="withhold"):
        Site(ORIGIN, checker(), {"* /*": BY_HANDLER})


def test_a_service_without_sites_or_rules_is_told() -> None:
    """Empty is an error, never everything."""
    site = Site(ORIGIN, checker(), RULES)
    with pytest.raises(ValueError, match="ever pass"):
        Site(ORIGIN, checker(), {})
    for sites in ([], [site, site]):
        with pytest.raises(ValueError, match="host of its own"):
            ExtAuthz(sites)


def test_it_speaks_http_and_nothing_else() -> None:
    """A question over a WebSocket is none."""
    service = ExtAuthz([Site(ORIGIN, checker(), RULES)])
    with pytest.raises(ValueError, match="websocket"):
        asyncio.run(service({"type": "websocket"}, None, None))  # type: ignore[arg-type]  # unused


def test_a_question_without_a_target_does_not_pass() -> None:
    """A server that does not say what was asked for leaves nothing to judge."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/hello",
        "headers": [(b"host", b"tools.example")],
    }
    service = ExtAuthz([Site(ORIGIN, checker(), RULES)])
    asyncio.run(service(scope, None, send))  # type: ignore[arg-type]  # not called
    assert sent[0]["status"] == 401


@pytest.mark.parametrize(
    ("origin", "hosts"),
    [
        ("https://tools.example", {"tools.example", "tools.example:443"}),
        ("http://tools.example:8080", {"tools.example:8080"}),
        ("https://[2001:db8::1]", {"[2001:db8::1]", "[2001:db8::1]:443"}),
    ],
)
def test_a_site_has_its_origins_hosts(origin: str, hosts: set[str]) -> None:
    """A default port may be spelled out; no other port is its own."""
    assert Site(origin, checker(), RULES).hosts == hosts
