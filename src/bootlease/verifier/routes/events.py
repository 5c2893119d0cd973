"""What receivers of security events ask: who transmits, with which keys, and what waits.

Specifications: OpenID Shared Signals Framework 1.0 §7 (transmitter configuration), §8.1.2 (status),
§8.1.4 (verification); RFC 8936 §2 (poll); RFC 6750 (the stream's secret as a bearer token).

Published is what there is. Streams are made by the operator, so there is no configuration endpoint,
and every stream is about every node, so subjects are neither added nor removed.

A poll may wait for events, for ``LONGEST_WAIT`` and only a few at a time for one stream.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from bootlease.errors import MalformedError
from bootlease.ports import DeliveryMethod, EventStream
from bootlease.token import strictjson
from bootlease.token.caep import MAX_TEXT
from bootlease.verifier.loglines import log_event
from bootlease.verifier.operators.access import bearer_digest
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.routes.contract import BODY, JSON, JWKS, described, problems, success
from bootlease.verifier.routes.gate import client_of, throttled, with_body
from bootlease.verifier.securityevents.streams import Outgoing, Streams
from bootlease.verifier.service import Service

router: Final = APIRouter()

LONGEST_WAIT: Final = 25.0
"""Seconds: below the half minute after which proxies give up."""
MOST_WAITING: Final = 4
"""Polls of one stream that wait at once; further ones are answered at once."""
MOST_EVENTS: Final = 100
"""Events in one answer, whatever ``maxEvents`` says."""
_MOST_NAMES: Final = 1_000
_MAX_NAME: Final = 128
_MAX_REQUEST: Final = 256 * 1024
_FRESH: Final = {"cache-control": "public, max-age=60"}
_POLL_MEMBERS: Final = frozenset({"maxEvents", "returnImmediately", "ack", "setErrs"})


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


@router.get(
    "/.well-known/ssf-configuration",
    responses={200: success("Who transmits security events, and how.", JSON), **problems()},
    response_class=Response,
)
async def ssf_configuration(request: Request) -> Response:
    """Describe this verifier as a transmitter of security events."""
    issuer = _service(request).issuer.url
    members = {
        "spec_version": "1_0",
        "issuer": issuer,
        "jwks_uri": f"{issuer}/.well-known/event-jwks.json",
        "delivery_methods_supported": [method.value for method in DeliveryMethod],
        "status_endpoint": f"{issuer}/v1/streams/status",
        "verification_endpoint": f"{issuer}/v1/streams/verification",
        "authorization_schemes": [{"spec_urn": "urn:ietf:rfc:6750"}],
        "default_subjects": "ALL",
    }
    return Response(json.dumps(members, indent=2), media_type=JSON, headers=_FRESH)


@router.get(
    "/.well-known/event-jwks.json",
    responses={200: success("The event keys as a JWK Set.", JWKS), **problems()},
    response_class=Response,
)
async def event_jwks(request: Request) -> Response:
    """Return the keys that sign security events, and nothing else."""
    body = json.dumps(_service(request).streams.keys.to_jwks())
    return Response(body, media_type=JWKS, headers=_FRESH)


_RECEIVER: Final = (ProblemKind.UNAUTHORIZED, ProblemKind.BUSY_CLIENT, ProblemKind.UNAVAILABLE)


@router.post(
    "/v1/streams/{stream}/poll",
    responses={200: success("Events that wait.", JSON), **problems(*_RECEIVER, *BODY)},
    openapi_extra={
        **described(body=JSON),
        "parameters": [
            {"name": "stream", "in": "path", "required": True, "schema": {"type": "string"}}
        ],
    },
    response_class=Response,
)
async def poll(request: Request) -> Response:
    """Take note of what the receiver has, and return what waits for it (RFC 8936 §2)."""
    streams, stream = _service(request).streams, _authenticated(request, None)
    if stream.method is not DeliveryMethod.POLL:
        raise _refused()
    asked = await with_body(request, JSON, _MAX_REQUEST, _parse_poll, client_of(request))
    if asked.errors:
        log_event("events-refused", stream=stream.id, count=len(asked.errors))
        streams.trouble[stream.id] = f"an event was refused: {asked.errors[0][1]}"
    elif asked.acknowledged:
        streams.trouble.pop(stream.id, None)
    await streams.settle(stream, [*asked.acknowledged, *(jti for jti, _ in asked.errors)])
    # One more than is given, to know whether there are more.
    events = await _awaited(streams, stream, asked)
    given = events[: asked.most]
    members: dict[str, Any] = {"sets": {each.jti: each.token for each in given}}
    if len(events) > len(given):
        members["moreAvailable"] = True
    return Response(json.dumps(members), media_type=JSON)


class _Poll:
    """What a receiver asks for.

    Args:
        members: Of the request.

    Attributes:
        most: Events it takes at once.
        at_once: It does not wait.
        acknowledged: Events that it has.
        errors: Events that it does not want, and why.
    """

    def __init__(self, members: dict[str, Any]) -> None:
        if not members.keys() <= _POLL_MEMBERS:
            raise MalformedError("a poll has no other members than those of RFC 8936")
        most = members.get("maxEvents", MOST_EVENTS)
        if type(most) is not int or most < 0:
            raise MalformedError("maxEvents is a number of events")
        self.most = min(most, MOST_EVENTS)
        at_once = members.get("returnImmediately", False)
        if type(at_once) is not bool:
            raise MalformedError("returnImmediately is true or false")
        self.at_once = at_once
        self.acknowledged = _names(members.get("ack", []))
        errors = members.get("setErrs", {})
        if type(errors) is not dict:
            raise MalformedError("setErrs is an object")
        self.errors = [(name, _error(why)) for name, why in errors.items()]
        _names(list(errors))


def _names(value: object) -> list[str]:
    if (
        type(value) is not list
        or len(value) > _MOST_NAMES
        or any(type(name) is not str or len(name) > _MAX_NAME for name in value)
    ):
        raise MalformedError(f"a poll names at most {_MOST_NAMES} events")
    return value


def _error(value: object) -> str:
    code = value.get("err") if isinstance(value, dict) else None
    if type(code) is not str or len(code) > _MAX_NAME or not code.isprintable():
        raise MalformedError("each of setErrs has an err")
    return code


async def _parse_poll(body: bytes) -> _Poll:
    return _Poll(strictjson.parse_object(body))


async def _awaited(streams: Streams, stream: EventStream, asked: _Poll) -> list[Outgoing]:
    if not asked.most:
        return []
    arrived = streams.arrivals(stream)
    events = await streams.outgoing(stream, at_most=asked.most + 1)
    waiting = streams.waiting
    if events or asked.at_once or waiting[stream.id] >= MOST_WAITING:
        return events
    waiting[stream.id] += 1
    try:
        async with asyncio.timeout(LONGEST_WAIT):
            await arrived.wait()
    except TimeoutError:
        return []
    finally:
        waiting[stream.id] -= 1
        if not waiting[stream.id]:
            del waiting[stream.id]
    return await streams.outgoing(stream, at_most=asked.most + 1)


@router.get(
    "/v1/streams/status",
    responses={200: success("A stream's status.", JSON), **problems(*_RECEIVER)},
    openapi_extra={
        **described(),
        "parameters": [
            {"name": "stream_id", "in": "query", "required": True, "schema": {"type": "string"}}
        ],
    },
    response_class=Response,
)
async def status(request: Request) -> Response:
    """Tell a receiver how its stream is (SSF §8.1.2)."""
    streams = _service(request).streams
    stream = _authenticated(request, request.query_params.get("stream_id", ""))
    members = {"stream_id": stream.id, "status": "enabled"}
    if (await streams.backlog(stream)).dropped:
        members["reason"] = "overflow: events were dropped"
    return Response(json.dumps(members), media_type=JSON)


@router.post(
    "/v1/streams/verification",
    status_code=204,
    responses={204: {"description": "The event is on its way."}, **problems(*_RECEIVER, *BODY)},
    openapi_extra=described(body=JSON),
    response_class=Response,
)
async def verification(request: Request) -> Response:
    """Send a receiver an event that shows that its stream works (SSF §8.1.4)."""
    service = _service(request)
    # The stream is named in the body, which nobody's is read for who is not some stream's receiver.
    digest = bearer_digest(request.headers.get("authorization"))
    stream = next(
        (each for each in service.streams.all() if _is_of(service.streams, each, digest)), None
    )
    if stream is None:
        raise _stranger(request)
    named, state = await with_body(
        request, JSON, service.limits.small, _parse_verification, client_of(request)
    )
    if named != stream.id:
        raise _refused()
    throttled(service.throttle.verifications, (stream.id,), service.clock.now())
    await service.streams.verify(stream, state)
    return Response(status_code=204)


async def _parse_verification(body: bytes) -> tuple[str, str | None]:
    members = strictjson.parse_object(body)
    if not {"stream_id"} <= members.keys() <= {"stream_id", "state"}:
        raise MalformedError("a verification has a stream_id, and may have a state")
    stream, state = members["stream_id"], members.get("state")
    if type(stream) is not str or (state is not None and type(state) is not str):
        raise MalformedError("stream_id and state are text")
    if state is not None and len(state) > MAX_TEXT:
        raise MalformedError(f"a state has at most {MAX_TEXT} characters")
    return stream, state


def _is_of(streams: Streams, stream: EventStream, digest: bytes | None) -> bool:
    return streams.authenticated(stream.id, digest) is not None


def _authenticated(request: Request, named: str | None) -> EventStream:
    name = request.path_params["stream"] if named is None else named
    digest = bearer_digest(request.headers.get("authorization"))
    stream = _service(request).streams.authenticated(name, digest)
    if stream is None:
        raise _stranger(request)
    return stream


def _stranger(request: Request) -> ProblemError:
    service = _service(request)
    throttled(service.throttle.logins, (client_of(request),), service.clock.now())
    log_event("stream-login-refused", client=client_of(request))
    return _refused()


def _refused() -> ProblemError:
    return ProblemError(
        ProblemKind.UNAUTHORIZED, "Send the stream's secret as a bearer token; its maker was told."
    )
