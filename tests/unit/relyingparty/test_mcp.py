"""FastMCP's authentication by leases: what it refuses to be configured as, and its small parts."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import httpx2
import pytest
from fastmcp import FastMCP
from fastmcp.server.auth import AccessToken, AuthContext
from fastmcp.tools.base import Tool

from bootlease.relyingparty import StaticKeys, TokenChecker, UnsafeNoContinuity
from bootlease.relyingparty.mcp import LeaseVerifier, ToolScopes
from bootlease.relyingparty.rules import PUBLIC, Need
from bootlease.testing.tokens import HOLDER, ISSUER, NOW, FakeIssuer, execution_claims
from bootlease.token import Algorithm, base64url, make_proof

ISSUED = FakeIssuer()
URL = "https://tools.example"


def verifier(audience: str = f"{URL}/mcp", **changes: Any) -> LeaseVerifier:
    """A verifier at the time of the claims."""
    checker = TokenChecker(
        StaticKeys(ISSUED.keys),
        issuer=ISSUER,
        audience=audience,
        continuity=UnsafeNoContinuity(),
        clock=lambda: NOW,
    )
    return LeaseVerifier(checker, **{"base_url": URL, "scope": "mcp:use", **changes})


def test_a_token_alone_is_not_accepted() -> None:
    """Whatever calls FastMCP's own hook, with a bearer token, gets nobody."""
    token = ISSUED.jwt(execution_claims(audience=f"{URL}/mcp", scope=("mcp:use",)))
    assert asyncio.run(verifier().verify_token(token)) is None


@pytest.mark.parametrize("audience", [URL, f"{URL}/mcp/", "https://other.example/mcp"])
def test_the_audience_is_the_servers_url(audience: str) -> None:
    """Otherwise clients would be told to ask for what is then refused."""
    with pytest.raises(ValueError, match="not the server's URL"):
        FastMCP("t", auth=verifier(audience)).http_app()


def test_the_url_may_have_another_beginning_than_the_paths() -> None:
    """An application mounted below another one."""
    auth = verifier(f"{URL}/below/mcp", resource_base_url=f"{URL}/below")
    (route,) = auth.get_routes("/mcp")
    assert route.path == "/.well-known/oauth-protected-resource/below/mcp"


def test_what_is_no_scope_name_is_refused_at_the_start() -> None:
    """A server that nobody could use, and a tool."""
    with pytest.raises(ValueError, match="scope name"):
        verifier(scope="two words")
    with pytest.raises(ValueError, match="scope name"):
        ToolScopes({"search": ""})
    with pytest.raises(ValueError, match="empty"):
        ToolScopes({})


@pytest.mark.parametrize(
    ("name", "scopes", "allowed"),
    [
        ("search", ["tool:search"], True),
        ("search", ["tool:*"], True),
        ("search", ["tool:remove"], False),
        ("search", [], False),
        ("search", None, False),
        ("unlisted", ["tool:*"], False),
    ],
)
def test_a_tool_is_for_whom_the_table_says(
    name: str,
    scopes: list[str] | None,
    allowed: bool,  # noqa: FBT001 - a case
) -> None:
    """By scope; what is not in the table is for nobody."""
    token = None if scopes is None else AccessToken(token="t", client_id="c", scopes=scopes)
    tool = Tool.from_function(lambda: "", name=name)
    assert ToolScopes({"search": "tool:search"})(AuthContext(token, tool)) is allowed


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/.well-known/oauth-protected-resource/mcp", 200),
        ("OPTIONS", "/.well-known/oauth-protected-resource/mcp", 200),
        ("POST", "/.well-known/oauth-protected-resource/mcp", 403),
        ("GET", "/healthz", 200),
        ("GET", "/metrics", 401),
        ("GET", "/nothing", 401),
        ("GET", "/mcp", 401),
        ("POST", "/mcp", 401),
        ("DELETE", "/mcp", 401),
    ],
)
def test_all_but_the_metadata_and_what_is_public_needs_a_lease(
    method: str, path: str, status: int
) -> None:
    """Also a route that somebody adds to the server: it is public only where a rule says so."""
    rules: dict[str, Need] = {"GET /healthz": PUBLIC}
    mcp: FastMCP[None] = FastMCP("t", auth=verifier(rules=rules))

    async def added(_: Any) -> Any:
        from starlette.responses import PlainTextResponse  # noqa: PLC0415 - where it is used

        return PlainTextResponse("ok")

    for route in ("/healthz", "/metrics"):
        mcp.custom_route(route, ["GET"])(added)

    async def asked() -> httpx2.Response:
        transport = httpx2.ASGITransport(mcp.http_app())
        async with httpx2.AsyncClient(transport=transport, base_url=URL) as client:
            headers = {"origin": URL, "access-control-request-method": "GET"}
            return await client.request(method, path, headers=headers)

    answer = asyncio.run(asked())
    assert answer.status_code == status
    if status == 401:
        where = f'{URL}/.well-known/oauth-protected-resource/mcp"'
        assert f'resource_metadata="{where}' in answer.headers["www-authenticate"]


def test_the_relying_party_needs_neither_fastmcp_nor_envoy() -> None:
    """They come with extras, and with one module each."""
    blocked = "import sys; sys.modules.update(dict.fromkeys(('fastmcp', 'mcp', 'envoy', 'jwt')));"
    modules = "bootlease.relyingparty, bootlease.relyingparty.extauthz, bootlease.cli"
    run = subprocess.run(
        [sys.executable, "-c", f"{blocked} import {modules}"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


def served(auth: LeaseVerifier, method: str, path: str) -> httpx2.Response:
    """Ask a server that is guarded so."""

    async def asked() -> httpx2.Response:
        mcp: FastMCP[None] = FastMCP("t", auth=auth)
        transport = httpx2.ASGITransport(mcp.http_app())
        async with httpx2.AsyncClient(transport=transport, base_url=URL) as client:
            return await client.request(method, path)

    return asyncio.run(asked())


def test_the_metadata_says_what_a_client_needs() -> None:
    """Who gives tokens, which scopes, and that each is bound to a key (RFC 9728 §2)."""
    auth = verifier(scopes_supported=["tool:*", "mcp:use"], resource_name="Tools")
    answer = served(auth, "GET", "/.well-known/oauth-protected-resource/mcp")
    assert answer.json() == {
        "resource": f"{URL}/mcp",
        "authorization_servers": [f"{ISSUER}/"],
        "scopes_supported": ["mcp:use", "tool:*"],
        "resource_name": "Tools",
        "dpop_signing_alg_values_supported": [each.value for each in Algorithm],
        "dpop_bound_access_tokens_required": True,
    }


def test_a_challenge_leads_to_the_metadata() -> None:
    """And names the scope; no other header is touched."""
    answer = served(verifier(), "POST", "/mcp")
    assert answer.status_code == 401
    where = f"{URL}/.well-known/oauth-protected-resource/mcp"
    told = f', scope="mcp:use", resource_metadata="{where}"'
    assert answer.headers["www-authenticate"].endswith(told)
    assert answer.headers["content-type"] == "application/problem+json"
    assert verifier().challenge() == b', scope="mcp:use"'


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize(("rest", "status"), [("", 404), ("/mcp", 200)])
def test_the_metadata_is_public(method: str, rest: str, status: int) -> None:
    """Whoever has no lease has to be told how to get one."""
    answer = served(verifier(), method, f"/.well-known/oauth-protected-resource{rest}")
    assert answer.status_code == status


def test_the_server_sees_who_asks_and_what() -> None:
    """The holder's key is the client, the lease's scope the token's, and the body is whole."""
    claims = execution_claims(audience=f"{URL}/mcp", scope=("mcp:use", "tool:a"))
    text = ISSUED.jwt(claims)
    proof = make_proof(HOLDER, htm="POST", htu=f"{URL}/mcp", iat=NOW, jti="j", access_token=text)
    seen: dict[str, Any] = {}

    async def server(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope, body=(await receive())["body"])
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Any:
        return {"type": "http.request", "body": b"asked", "more_body": False}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    app: Any = server
    for each in reversed(verifier().get_middleware()):
        app = each.cls(app, *each.args, **each.kwargs)
    headers = [
        (b"x-other", b"kept"),
        (b"authorization", f"DPoP {text}".encode()),
        (b"dpop", proof.encode()),
    ]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/mcp",
        "raw_path": b"/mcp",
        "query_string": b"",
        "headers": headers,
    }
    asyncio.run(app(scope, receive, send))
    assert sent[0] == {"type": "http.response.start", "status": 204, "headers": []}
    assert seen["body"] == b"asked"
    token = seen["user"].access_token
    assert (token.token, token.scopes) == (text, ["mcp:use", "tool:a"])
    assert token.client_id == base64url.encode(HOLDER.public.thumbprint())
    assert (token.expires_at, token.resource) == (claims.expires_at, f"{URL}/mcp")
    assert (token.subject, token.claims) == (claims.subject, claims.to_jwt())
    assert seen["auth"].scopes == ["mcp:use", "tool:a"]
    assert dict(seen["headers"])[b"authorization"] == f"Bearer {text}".encode()
    assert dict(seen["headers"])[b"x-other"] == b"kept"
