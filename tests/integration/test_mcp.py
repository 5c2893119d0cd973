"""The example's FastMCP server and client, over HTTP: what a lease opens, and what it does not."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import pytest
from fastmcp.exceptions import ToolError

from bootlease.relyingparty import ReplayCache, StaticContinuity, StaticKeys, TokenChecker
from bootlease.relyingparty.tokensource import Presentable
from bootlease.testing.served import served
from bootlease.testing.tokens import HOLDER, ISSUER, FakeIssuer, execution_claims, fixed_signer
from bootlease.testing.verifier_process import free_port
from bootlease.token import PrivateKeySigner, make_proof
from bootlease.token.continuity import Continuity
from bootlease.token.statuslist import StatusList

EXAMPLES = Path(__file__).parents[2] / "examples"
ISSUED = FakeIssuer()
NUMBERS = itertools.count()
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
BEGIN = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    },
}
ACCEPT = {"accept": "application/json, text/event-stream"}


def example(name: str) -> ModuleType:
    """Load one of the examples."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def statement(*ended: int) -> Continuity:
    """What the verifier says now: these leases have ended."""
    now = int(time.time())
    key = ISSUED.signer.key_id
    return Continuity(ISSUER, now, now + 300, 1, 1, frozenset({key}), StatusList.of(ended), key)


@dataclasses.dataclass
class Running:
    """An MCP server that runs.

    Attributes:
        url: How clients reach it.
        continuity: What the verifier has said.
    """

    url: str
    continuity: StaticContinuity

    def lease(
        self, *scope: str, signer: PrivateKeySigner = HOLDER, life: int = 120, **changes: Any
    ) -> Presentable:
        """A lease that began now."""
        now = int(time.time())
        members: dict[str, Any] = {
            "issued_at": now,
            "not_before": now,
            "expires_at": now + life,
            "audience": f"{self.url}/mcp",
            "confirmation": signer.public,
            "scope": ("mcp:documents", *scope),
        }
        return Presentable.of(ISSUED.jwt(execution_claims(**{**members, **changes})), signer)

    def headers(
        self, lease: Presentable, path: str = "/mcp", method: str = "POST"
    ) -> dict[str, str]:
        """What a request of the holder carries."""
        proof = make_proof(
            lease.signer,
            htm=method,
            htu=f"{self.url}{path}",
            iat=int(time.time()),
            jti=f"proof {next(NUMBERS)}",
            access_token=lease.token,
        )
        return {**ACCEPT, "Authorization": f"DPoP {lease.token}", "DPoP": proof}

    def post(self, headers: dict[str, str]) -> httpx2.Response:
        """Send one message."""
        with httpx2.Client(trust_env=False, timeout=20) as client:
            return client.post(f"{self.url}/mcp", json=PING, headers=headers)


@dataclasses.dataclass
class Lent:
    """A source of one lease."""

    lease: Presentable

    def current(self) -> Presentable:
        """Return it."""
        return self.lease


@pytest.fixture(scope="module")
def module_server() -> Iterator[Running]:
    """The example's server; its verifier speaks through a statement that tests exchange."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    continuity = StaticContinuity(statement())
    checker = TokenChecker(
        StaticKeys(ISSUED.keys),
        issuer=ISSUER,
        audience=f"{url}/mcp",
        continuity=continuity,
        replay=ReplayCache(keep=71),
    )
    app = example("mcp_server").server(checker, url).http_app()
    with served(app, port=port, lifespan="on"):
        yield Running(url, continuity)


@pytest.fixture
def running(module_server: Running) -> Running:
    """The same, with nothing revoked."""
    module_server.continuity.statement = statement()
    return module_server


CLIENT = example("mcp_client")


def call(running: Running, lease: Presentable, tool: str, **arguments: str) -> str:
    """Call a tool as the example's client does."""

    async def called() -> str:
        async with CLIENT.client(running.url, Lent(lease)) as session:
            return str((await session.call_tool(tool, arguments)).data)

    return asyncio.run(called())


def test_a_client_calls_a_tool_with_token_and_proof(running: Running) -> None:
    """The example, from one end to the other."""
    lease = running.lease("tool:search")
    said = asyncio.run(CLIENT.search(running.url, Lent(lease), "kernels"))
    assert said == "42 documents about kernels"
    assert call(running, lease, "whoami") == lease.claims.subject


def test_a_wildcard_opens_what_it_covers(running: Running) -> None:
    """Scope names mean at a tool what they mean everywhere."""
    assert call(running, running.lease("tool:*"), "remove", name="x") == "x is gone"


def test_a_tool_outside_the_scope_is_not_there(running: Running) -> None:
    """Neither listed nor called."""
    lease = running.lease("tool:search")

    async def listed() -> set[str]:
        async with CLIENT.client(running.url, Lent(lease)) as session:
            return {tool.name for tool in await session.list_tools()}

    assert asyncio.run(listed()) == {"search", "whoami"}
    with pytest.raises(ToolError, match=r"insufficient permissions|not authorized"):
        call(running, lease, "remove", name="x")


def test_the_server_itself_asks_for_a_scope(running: Running) -> None:
    """403 insufficient_scope, and where to find out which."""
    lease = running.lease(scope=("tool:search",))
    answer = running.post(running.headers(lease))
    assert answer.status_code == 403
    challenge = answer.headers["www-authenticate"]
    assert 'error="insufficient_scope"' in challenge
    assert 'scope="mcp:documents"' in challenge


def test_who_comes_without_a_token_is_told_where_to_ask(running: Running) -> None:
    """RFC 9728 §5.1: the challenge names the metadata, which names the verifier."""
    answer = running.post(ACCEPT)
    assert answer.status_code == 401
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith("DPoP algs=")
    url = challenge.partition('resource_metadata="')[2].partition('"')[0]
    assert url == f"{running.url}/.well-known/oauth-protected-resource/mcp"
    metadata = httpx2.get(url, trust_env=False).json()
    assert metadata["resource"] == f"{running.url}/mcp"
    assert [each.rstrip("/") for each in metadata["authorization_servers"]] == [ISSUER]
    assert metadata["scopes_supported"] == ["mcp:documents", "tool:remove", "tool:search"]
    assert metadata["dpop_bound_access_tokens_required"] is True
    assert "bearer_methods_supported" not in metadata


@pytest.mark.parametrize("scheme", ["Bearer", "DPoP"])
def test_a_stolen_token_opens_nothing(running: Running, scheme: str) -> None:
    """The thief has no key, whatever he calls the token."""
    lease = running.lease("tool:search")
    answer = running.post({**ACCEPT, "Authorization": f"{scheme} {lease.token}"})
    assert answer.status_code == 401
    assert "42" not in answer.text


def test_every_request_needs_a_proof_of_its_own(running: Running) -> None:
    """A request that was seen on its way cannot be sent again."""
    headers = running.headers(running.lease("tool:search"))
    assert running.post(headers).status_code < 500
    again = running.post(headers)
    assert again.status_code == 401
    assert again.json()["findings"][0]["id"] == "pop.replayed"


def test_a_proof_for_another_path_opens_nothing(running: Running) -> None:
    """Also one for the same server."""
    headers = running.headers(running.lease("tool:search"), "/other")
    assert running.post(headers).json()["findings"][0]["id"] == "pop.url.mismatch"


def test_a_token_for_another_server_opens_nothing(running: Running) -> None:
    """RFC 8707: the audience is this server's URL."""
    headers = running.headers(running.lease("tool:search", audience="https://other.example/mcp"))
    assert running.post(headers).json()["findings"][0]["id"] == "token.audience.mismatch"


def test_a_revoked_lease_opens_nothing_within_a_session(running: Running) -> None:
    """The session was opened while the lease counted; the next call is refused."""
    lease = running.lease("tool:search")

    async def revoked() -> str:
        async with CLIENT.client(running.url, Lent(lease)) as session:
            first = await session.call_tool("search", {"query": "x"})
            running.continuity.statement = statement(lease.claims.status_index)
            try:
                await session.call_tool("search", {"query": "x"})
            except Exception as exc:  # noqa: BLE001 - the client's own errors are many
                return f"{first.data}; {type(exc).__name__}"
        return "not refused"

    assert asyncio.run(revoked()).startswith("42 documents about x; ")
    answer = running.post(running.headers(lease))
    assert (answer.status_code, answer.json()["findings"][0]["id"]) == (401, "token.revoked")


def test_an_expired_lease_opens_nothing(running: Running) -> None:
    """The lease is over; the leeway too."""
    lease = running.lease("tool:search", life=-6, issued_at=1, not_before=1)
    answer = running.post(running.headers(lease))
    assert (answer.status_code, answer.json()["findings"][0]["id"]) == (401, "token.expired")


def test_a_session_belongs_to_the_key_that_opened_it(running: Running) -> None:
    """Another workload of the same node, with a lease of its own, is not let into it."""
    mine, other = running.lease("tool:search"), fixed_signer(815)
    theirs = running.lease("tool:search", signer=other)
    with httpx2.Client(trust_env=False, timeout=20) as client:
        opened = client.post(f"{running.url}/mcp", json=BEGIN, headers=running.headers(mine))
        assert opened.status_code == 200, opened.text
        session = {"mcp-session-id": opened.headers["mcp-session-id"]}

        def ping(lease: Presentable) -> int:
            headers = {**running.headers(lease), **session}
            return client.post(f"{running.url}/mcp", json=PING, headers=headers).status_code

        assert ping(mine) == 200
        assert ping(theirs) == 404
        assert ping(mine) == 200


def test_a_stream_ends_with_its_lease(running: Running) -> None:
    """What the server would say later, it says to nobody whose lease was revoked meanwhile."""
    lease = running.lease("tool:search")
    with httpx2.Client(trust_env=False, timeout=20) as client:
        opened = client.post(f"{running.url}/mcp", json=BEGIN, headers=running.headers(lease))
        headers = {
            **running.headers(lease, method="GET"),
            "mcp-session-id": opened.headers["mcp-session-id"],
            "accept": "text/event-stream",
        }
        with client.stream("GET", f"{running.url}/mcp", headers=headers) as stream:
            assert stream.status_code == 200
            running.continuity.statement = statement(lease.claims.status_index)
            revoked = time.monotonic()
            with pytest.raises(httpx2.RemoteProtocolError):
                list(stream.iter_bytes())
    assert time.monotonic() - revoked < 2
