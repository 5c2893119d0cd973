"""The operator's routes to streams of security events."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from fastapi import APIRouter, Depends, Request, Response

from bootlease.errors import MalformedError
from bootlease.ports import DeliveryMethod, EventStream
from bootlease.token import strictjson
from bootlease.verifier.loglines import log_event
from bootlease.verifier.problems import ProblemKind
from bootlease.verifier.routes.authentication import GATE, authenticate, author, json_answer
from bootlease.verifier.routes.contract import BODY, JSON, described, problems, success
from bootlease.verifier.routes.gate import with_upload
from bootlease.verifier.securityevents.streams import Streams, Wanted
from bootlease.verifier.service import Service

router: Final = APIRouter(prefix="/v1/admin", dependencies=[Depends(authenticate)])

VERIFICATION_WAIT: Final = 5.0
"""Seconds that a verification waits for the receiver."""
_LOOK: Final = 0.05
_MAX_BODY: Final = 16 * 1024
_STREAM_PARAMETER: Final = {
    "parameters": [
        {"name": "stream", "in": "path", "required": True, "schema": {"type": "string"}}
    ],
}


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


@router.post(
    "/streams",
    status_code=201,
    responses={
        201: success("The stream, with its secret, which is shown once.", JSON),
        **problems(*GATE, *BODY, ProblemKind.CONFLICT),
    },
    openapi_extra=described(body=JSON, admin=True),
    response_class=Response,
)
async def create_stream(request: Request) -> Response:
    """Make a stream of security events."""
    service = _service(request)
    wanted = await with_upload(request, JSON, _MAX_BODY, _parse_wanted)
    stream, secret = await service.streams.create(wanted, author=author(request))
    log_event("stream-created", stream=stream.id, method=stream.method.value)
    return json_answer({**await _described(service, stream), "secret": secret}, 201)


async def _parse_wanted(body: bytes) -> Wanted:
    match strictjson.parse_object(body):
        case {"aud": str(audience), "delivery": dict(delivery), **rest} if not rest:
            return _wanted(audience, delivery)
        case _:
            raise MalformedError("a stream has an aud and a delivery, and nothing else")


def _wanted(audience: str, delivery: dict[str, Any]) -> Wanted:
    match delivery:
        case {"method": DeliveryMethod.POLL.value, **rest} if not rest:
            return Wanted(audience)
        case {"method": DeliveryMethod.PUSH.value, "endpoint_url": str(url), **rest}:
            header = rest.pop("authorization_header", None)
            if not rest and (header is None or type(header) is str):
                return Wanted(audience, url, header)
    raise MalformedError(
        "a delivery is a method (urn:ietf:rfc:8935 or urn:ietf:rfc:8936), to push with an"
        " endpoint_url and perhaps an authorization_header"
    )


@router.get(
    "/streams",
    responses={200: success("Every stream, and what waits in it.", JSON), **problems(*GATE)},
    openapi_extra=described(admin=True),
    response_class=Response,
)
async def list_streams(request: Request) -> Response:
    """List the streams, the oldest first."""
    service = _service(request)
    streams = [await _described(service, each) for each in service.streams.all()]
    return json_answer({"streams": streams})


async def _described(service: Service, stream: EventStream) -> dict[str, Any]:
    backlog = await service.streams.backlog(stream)
    delivery: dict[str, Any] = {"method": stream.method.value}
    if stream.method is DeliveryMethod.PUSH:
        delivery["endpoint_url"] = stream.endpoint
    else:
        delivery["endpoint_url"] = f"{service.issuer.url}/v1/streams/{stream.id}/poll"
    return {
        "stream_id": stream.id,
        "iss": service.issuer.url,
        "aud": stream.audience,
        "delivery": delivery,
        "created_at": stream.created_at,
        "state": "overflow" if backlog.dropped else "enabled",
        "queued": backlog.queued,
        "oldest_at": backlog.oldest_at,
        "dropped": backlog.dropped,
        "trouble": service.streams.trouble.get(stream.id),
    }


@router.delete(
    "/streams/{stream}",
    status_code=200,
    responses={
        200: success("The stream is gone, with what waited in it.", JSON),
        **problems(*GATE, ProblemKind.NOT_FOUND),
    },
    openapi_extra={**described(admin=True), **_STREAM_PARAMETER},
    response_class=Response,
)
async def remove_stream(request: Request) -> Response:
    """Delete a stream with what waits in it."""
    stream = request.path_params["stream"]
    await _service(request).streams.remove(stream, author=author(request))
    log_event("stream-removed", stream=stream)
    return json_answer({"stream_id": stream})


@router.post(
    "/streams/{stream}/verification",
    responses={
        200: success("Whether the receiver took an event in time.", JSON),
        **problems(*GATE, ProblemKind.NOT_FOUND),
    },
    openapi_extra={**described(admin=True), **_STREAM_PARAMETER},
    response_class=Response,
)
async def verify_stream(request: Request) -> Response:
    """Send an event that asks for nothing, and wait until the receiver has it."""
    streams = _service(request).streams
    stream = streams.get(request.path_params["stream"])
    started = time.monotonic()
    jti = await streams.verify(stream, None)
    delivered = await _delivered(streams, stream, jti, started + VERIFICATION_WAIT)
    return json_answer(
        {
            "stream_id": stream.id,
            "jti": jti,
            "delivered": delivered,
            "milliseconds": round(1000 * (time.monotonic() - started)),
            "trouble": streams.trouble.get(stream.id),
        }
    )


async def _delivered(streams: Streams, stream: EventStream, jti: str, until: float) -> bool:
    while await streams.waits(stream, jti):
        if time.monotonic() > until:
            return False
        await asyncio.sleep(_LOOK)
    return True
