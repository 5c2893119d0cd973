"""What the verifier publishes of leases that ended: for relying parties, without a credential.

Specifications: draft-ietf-oauth-status-list-20 §8.1 (status list), docs/continuity.md.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response

from bootlease.token.claimparts import STATUS_PATH
from bootlease.token.continuity import CONTINUITY
from bootlease.token.statuslist import STATUS_CWT, STATUS_JWT
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.routes.contract import problems, success
from bootlease.verifier.routes.gate import client_of, throttled
from bootlease.verifier.routes.listening import EVENT_STREAM, Listeners, StatementStream
from bootlease.verifier.service import Service

router: Final = APIRouter()
_MAX_ACCEPT: Final = 1024


def _heard(request: Request) -> Service:
    service: Service = request.app.state.service
    throttled(service.throttle.statements, (client_of(request),), service.clock.now())
    return service


@router.get(
    STATUS_PATH,
    responses={
        200: {
            "description": "The status list, as a JWT or as a CWT.",
            "content": {
                STATUS_JWT: {"schema": {"type": "string"}},
                STATUS_CWT: {"schema": {"type": "string", "format": "binary"}},
            },
        },
        **problems(ProblemKind.BUSY_CLIENT, ProblemKind.NO_HISTORY),
    },
    response_class=Response,
)
async def status(request: Request) -> Response:
    """Tell which leases have ended before they expire."""
    service = _heard(request)
    if "time" in request.query_params:
        raise ProblemError(ProblemKind.NO_HISTORY, "Only the status list of now is published.")
    now = service.clock.now()
    if _wants_cwt(request):
        return Response(
            service.statements.status_cwt(now), media_type=STATUS_CWT, headers={"vary": "accept"}
        )
    return Response(
        service.statements.status_jwt(now), media_type=STATUS_JWT, headers={"vary": "accept"}
    )


def _wants_cwt(request: Request) -> bool:
    accepted = request.headers.get("accept", "")[:_MAX_ACCEPT].lower()
    kinds = [each.partition(";")[0].strip() for each in accepted.split(",")]
    # The one that is named first, where both are: a client that wants one names one.
    named = [each for each in kinds if each in {STATUS_CWT, STATUS_JWT}]
    return named[:1] == [STATUS_CWT]


@router.get(
    "/v1/continuity",
    responses={
        200: success("The continuity statement of this moment.", CONTINUITY),
        **problems(ProblemKind.BUSY_CLIENT),
    },
    response_class=Response,
)
async def continuity(request: Request) -> Response:
    """Tell what still counts."""
    service = _heard(request)
    return Response(service.statements.statement(service.clock.now()), media_type=CONTINUITY)


@router.get(
    "/v1/continuity/stream",
    responses={
        200: success("Every continuity statement from now on.", EVENT_STREAM),
        **problems(ProblemKind.BUSY_CLIENT),
    },
    response_class=Response,
)
async def continuity_stream(request: Request) -> Response:
    """Tell what still counts, now and whenever that changes."""
    service = _heard(request)
    client = client_of(request)
    listeners: Listeners = request.app.state.listeners
    listeners.demand_room(client)
    return StatementStream(service.statements, service.clock, listeners, client, service.limits)
