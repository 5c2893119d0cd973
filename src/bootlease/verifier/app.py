"""The verifier over HTTP: routes, errors as problem documents, headers.

Specifications: RFC 9110 (HTTP), RFC 9457 (problem details), OpenAPI 3.1.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bootlease import __version__
from bootlease.errors import MalformedError
from bootlease.ports import StoreBusyError, StoreUnavailableError
from bootlease.verifier.bodies import announced_length, tiers_of_operators, tiers_of_strangers
from bootlease.verifier.loglines import log_event
from bootlease.verifier.problems import (
    MEDIA_TYPE,
    ProblemError,
    ProblemKind,
    encode_problem,
    problem_members,
)
from bootlease.verifier.routes import (
    admin,
    continuity,
    credentials,
    discovery,
    events,
    explanations,
    introspection,
    ledger,
    nodes,
    operators,
    proofs,
    proposals,
    public,
    revocations,
    roots,
    streams,
    tokens,
)
from bootlease.verifier.routes.contract import complete
from bootlease.verifier.routes.listening import Listeners
from bootlease.verifier.service import Service

_CLOSES: Final = frozenset({ProblemKind.TOO_LARGE, ProblemKind.TIMEOUT, ProblemKind.MEDIA})
"""After these the rest of the body may still come: the connection is not used again."""
_MAX_DETAIL: Final = 500
_ROUTING: Final = {404: ProblemKind.NOT_FOUND, 405: ProblemKind.METHOD}
_RawHeaders = list[tuple[bytes, bytes]]
_ID_BYTES: Final = 8
ROUTES: Final = (
    nodes,
    admin,
    revocations,
    introspection,
    continuity,
    operators,
    credentials,
    proposals,
    roots,
    proofs,
    explanations,
    public,
    discovery,
    events,
    streams,
    ledger,
    tokens,
)
"""The modules whose routes the application has."""
_OFTEN: Final = re.compile(r"/v1/nodes/([0-9a-f]{64})/(challenges|leases)")
_ROUTES: Final[dict[str, Callable[[Request], Awaitable[Response]]]] = {
    "challenges": nodes.challenge,
    "leases": nodes.lease,
}
_ON_EVERY_ANSWER: Final = (b"x-content-type-options", b"nosniff")
_NOT_KEPT: Final = (b"cache-control", b"no-store")


def build_app(service: Service) -> FastAPI:
    """Return the ASGI application of a verifier."""
    app = FastAPI(
        title="bootlease verifier",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Nothing of a request leaves this process because a variable of its environment says so.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.service = service
    app.state.listeners = Listeners(service.limits)
    app.state.strangers = tiers_of_strangers(service.limits)
    app.state.operators = tiers_of_operators(service.limits)
    for routes in ROUTES:
        app.include_router(routes.router)
    for kind, answer in _ANSWERS.items():
        app.add_exception_handler(kind, answer)
    app.add_exception_handler(Exception, _on_defect)
    app.add_middleware(_Shortcut)
    app.add_middleware(_Headers)
    build = app.openapi
    app.openapi = lambda: complete(build())  # type: ignore[method-assign]  # FastAPI's documented way
    return app


class _Headers:
    """Gives every answer its request id and the headers that all of them carry."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._ids = _request_ids()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = next(self._ids)
        scope["state"]["request_id"] = request_id

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _completed(message["headers"], request_id)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _completed(headers: Iterable[tuple[bytes, bytes]], request_id: str) -> _RawHeaders:
    complete = [*headers, _ON_EVERY_ANSWER, (b"x-request-id", request_id.encode("ascii"))]
    if all(name != _NOT_KEPT[0] for name, _ in complete):
        complete.append(_NOT_KEPT)
    return complete


def _request_ids() -> Iterator[str]:
    # The system is asked for randomness once for many: each time costs a turn of the interpreter.
    while True:
        digits = secrets.token_hex(_ID_BYTES * 512)
        for start in range(0, len(digits), _ID_BYTES * 2):
            yield digits[start : start + _ID_BYTES * 2]


class _Shortcut:
    """Takes what nodes ask all day past the router, by the very functions that it would call.

    The router, and what FastAPI puts around each route, cost as much as a P-256 verification.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = None
        if scope["type"] == "http" and scope["method"] == "POST":
            found = _OFTEN.fullmatch(scope["path"])
        if found is None:
            await self._app(scope, receive, send)
            return
        scope["path_params"] = {"node": found[1]}
        request = Request(scope, receive)
        try:
            answer = await _ROUTES[found[2]](request)
        except tuple(_ANSWERS) as exc:
            answer = await _on_known(request, exc)
        await answer(scope, receive, send)


def _answer(request: Request, error: ProblemError) -> Response:
    members: dict[str, Any] = problem_members(error)
    members["request"] = request.scope.get("state", {}).get("request_id", "")
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    if error.kind is ProblemKind.UNAUTHORIZED:
        headers["www-authenticate"] = 'Bearer realm="bootlease"'
    if error.kind in _CLOSES or _is_unread(request):
        headers["connection"] = "close"
    return Response(
        encode_problem(members), error.kind.status, media_type=MEDIA_TYPE, headers=headers
    )


def _is_unread(request: Request) -> bool:
    # A long body that is not wanted is not received either.
    if request.scope.get("state", {}).get("body_read"):
        return False
    try:
        service: Service = request.app.state.service
        return announced_length(request) > service.limits.small
    except ProblemError:
        return True


async def _on_problem(request: Request, exc: Exception) -> Response:
    if not isinstance(exc, ProblemError):
        raise exc
    return _answer(request, exc)


async def _on_malformed(request: Request, exc: Exception) -> Response:
    return _answer(request, ProblemError(ProblemKind.MALFORMED, str(exc)[:_MAX_DETAIL]))


async def _on_busy(request: Request, exc: Exception) -> Response:
    return _answer(request, ProblemError(ProblemKind.BUSY, f"{exc}.", retry_after=1))


async def _on_unavailable(request: Request, exc: Exception) -> Response:
    # The cause may name files: it is for the log.
    log_event("store-unavailable", reason=str(exc))
    return _answer(
        request,
        ProblemError(
            ProblemKind.UNAVAILABLE, "The verifier cannot reach its store.", retry_after=2
        ),
    )


async def _on_routing(request: Request, exc: Exception) -> Response:
    status = exc.status_code if isinstance(exc, HTTPException) else 404
    kind = _ROUTING.get(status, ProblemKind.MALFORMED)
    answer = _answer(request, ProblemError(kind, "See /openapi.json for what there is."))
    if isinstance(exc, HTTPException) and exc.headers:
        answer.headers.update(exc.headers)
    return answer


async def _on_defect(request: Request, _: Exception) -> Response:
    # The traceback goes to the log, by the server; the client learns nothing of it.
    answer = _answer(request, ProblemError(ProblemKind.DEFECT, "The verifier failed; see its log."))
    # This answer is given outside of everything that completes the others.
    request_id = request.scope.get("state", {}).get("request_id", "")
    answer.raw_headers = _completed(answer.raw_headers, request_id)
    return answer


_ANSWERS: Final[dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]]] = {
    ProblemError: _on_problem,
    MalformedError: _on_malformed,
    StoreBusyError: _on_busy,
    StoreUnavailableError: _on_unavailable,
    HTTPException: _on_routing,
}


async def _on_known(request: Request, exc: Exception) -> Response:
    answers = (answer for kind, answer in _ANSWERS.items() if isinstance(exc, kind))
    return await next(answers)(request, exc)
