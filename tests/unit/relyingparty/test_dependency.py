"""FastAPI handlers that say which scope they need."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from bootlease.relyingparty import CheckedRequest, StaticContinuity, StaticKeys, TokenChecker
from bootlease.relyingparty.asgi import LeaseMiddleware
from bootlease.relyingparty.dependency import require
from bootlease.relyingparty.rules import BY_HANDLER, PUBLIC
from bootlease.testing.tokens import AUDIENCE, HOLDER, ISSUER, FakeIssuer, execution_claims
from bootlease.token import make_proof

ISSUED = FakeIssuer()
BASE = "https://tools.example"
_jti = itertools.count()

Reader = Annotated[CheckedRequest, Depends(require("tools:read"))]
Writer = Annotated[CheckedRequest, Depends(require("tools:write"))]


def headers(path: str, method: str = "GET") -> dict[str, str]:
    """Return the headers of a good request."""
    now = int(time.time())
    claims = execution_claims(issued_at=now, not_before=now, expires_at=now + 60)
    token = ISSUED.jwt(claims)
    proof = make_proof(
        HOLDER, htm=method, htu=BASE + path, iat=now, jti=str(next(_jti)), access_token=token
    )
    return {"Authorization": f"DPoP {token}", "DPoP": proof}


def application() -> FastAPI:
    """Return an application with handlers that demand, forget, and are public."""
    app = FastAPI()
    app.state.written = 0

    @app.get("/read")
    def read(caller: Reader) -> dict[str, str]:
        return {"node": caller.token.claims.subject}

    @app.post("/write")
    def write(caller: Writer, body: dict[str, Any]) -> dict[str, Any]:
        del caller
        app.state.written += 1
        return body

    @app.get("/forgotten")
    def forgotten() -> str:
        return "secret"

    @app.get("/open")
    def opened(caller: Reader) -> str:
        del caller
        return "never"

    @app.websocket("/talk")
    async def talk(socket: WebSocket, caller: Reader) -> None:
        await socket.accept()
        await socket.send_text(caller.token.claims.subject)
        await socket.close()

    @app.websocket("/command")
    async def command(socket: WebSocket, caller: Writer) -> None:
        del caller
        await socket.accept()

    return app


@pytest.fixture
def client() -> Iterator[TestClient]:
    """A client of the guarded application."""
    app = application()
    now = int(time.time())
    checker = TokenChecker(
        StaticKeys(ISSUED.keys),
        issuer=ISSUER,
        audience=AUDIENCE,
        continuity=StaticContinuity(ISSUED.continuity(issued_at=now)),
    )
    rules = {"* /*": BY_HANDLER, "GET /open": PUBLIC}
    app.add_middleware(LeaseMiddleware, checker=checker, base_url=BASE, rules=rules)
    with TestClient(app) as client:
        yield client


def test_a_covered_handler_gets_who_calls(client: TestClient) -> None:
    """The checked request is its argument."""
    answer = client.get("/read", headers=headers("/read"))
    assert answer.json() == {"node": execution_claims().subject}


def test_a_handler_that_is_not_covered_does_not_run(client: TestClient) -> None:
    """The answer is the middleware's refusal, with its finding."""
    answer = client.post("/write", headers=headers("/write", "POST"), json={})
    assert answer.status_code == 403
    assert answer.json()["findings"][0]["id"] == "token.scope.insufficient"
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    app: Any = client.app
    assert app.state.written == 0


def test_a_request_without_token_reads_no_body(client: TestClient) -> None:
    """The middleware refuses before FastAPI parses anything."""
    answer = client.post("/write", content=b"not json")
    assert answer.status_code == 401


def test_a_handler_that_forgets_gives_nothing_away(client: TestClient) -> None:
    """Nor does a path that has no handler."""
    for path in ("/forgotten", "/nowhere"):
        answer = client.get(path, headers=headers(path))
        assert answer.status_code == 403
        assert answer.json()["findings"][0]["id"] == "request.scope.undemanded"


def test_demanding_on_a_public_path_is_a_mistake(client: TestClient) -> None:
    """A rule and a handler that contradict each other are found by the first request."""
    with pytest.raises(RuntimeError, match="guards no such request"):
        client.get("/open")


def test_demanding_without_the_middleware_is_a_mistake() -> None:
    """Nothing was checked, so nothing is let pass."""
    with (
        TestClient(application()) as client,
        pytest.raises(RuntimeError, match="guards no such request"),
    ):
        client.get("/read", headers=headers("/read"))


@pytest.mark.parametrize("name", ["", "two words", "tool:*x"])
def test_what_is_no_scope_is_found_at_the_start(name: str) -> None:
    """A typo must not wait for the first request."""
    with pytest.raises(ValueError, match="is not a scope name"):
        require(name)


def test_a_websocket_demands_in_the_same_way(client: TestClient) -> None:
    """Covered, it is opened; otherwise the handshake is refused."""
    with client.websocket_connect("/talk", headers=headers("/talk")) as socket:
        assert socket.receive_text() == execution_claims().subject
    for path in ("/command", "/talk"):
        given = headers(path) if path == "/command" else {}
        with (
            pytest.raises(WebSocketDisconnect),
            client.websocket_connect(path, headers=given) as socket,
        ):
            pytest.fail("it was opened")


def test_what_a_handler_demands_is_what_it_said() -> None:
    """A dependency made here and now: the scope it names, and none other, is demanded."""
    app = FastAPI()

    @app.get("/read")
    def read(caller: Annotated[CheckedRequest, Depends(require("tools:read"))]) -> str:
        return caller.token.claims.subject

    @app.get("/forgotten")
    def refused(caller: Annotated[CheckedRequest, Depends(require("tools:write"))]) -> str:
        del caller
        return "never"

    guarded = LeaseMiddleware(
        app,
        checker=TokenChecker(
            StaticKeys(ISSUED.keys),
            issuer=ISSUER,
            audience=AUDIENCE,
            continuity=StaticContinuity(ISSUED.continuity(issued_at=int(time.time()))),
        ),
        base_url=BASE,
        rules={"* /*": BY_HANDLER},
    )
    client = TestClient(guarded, base_url=BASE)
    answer = client.get("/read", headers=headers("/read"))
    assert (answer.status_code, answer.json()) == (200, execution_claims().subject)
    answer = client.get("/forgotten", headers=headers("/forgotten"))
    assert answer.status_code == 403
    bare = TestClient(app, base_url=BASE, raise_server_exceptions=False)
    assert bare.get("/read").status_code == 500
