"""The operator's acts on nodes: letting them in, labelling, re-admitting and replacing them.

Each ends the lineage of the node and what it holds, so that whatever it has from now on was decided
by what the operator said now.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Depends, Request, Response

from bootlease.endorsement.labels import sorted_labels
from bootlease.errors import MalformedError
from bootlease.ports import EnrolledNode
from bootlease.token import strictjson
from bootlease.verifier.continuity.ending import EndKind
from bootlease.verifier.loglines import log_event
from bootlease.verifier.operators.access import JOIN_PREFIX, new_secret, secret_digest
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.routes.admin import node_members
from bootlease.verifier.routes.authentication import GATE, authenticate, author, json_answer
from bootlease.verifier.routes.contract import BODY, JSON, described, problems, success
from bootlease.verifier.routes.gate import with_upload
from bootlease.verifier.routes.nodes import identifier
from bootlease.verifier.service import Service

router: Final = APIRouter(prefix="/v1/admin", dependencies=[Depends(authenticate)])

_MAX_JOIN_TIME: Final = 30 * 86_400
_MAX_REASON: Final = 500
_SMALL_BODY: Final = 4096
_NODE_ID: Final = 32
_ON_A_NODE: Final = (*GATE, *BODY, ProblemKind.NOT_FOUND, ProblemKind.UNKNOWN_NODE)


@router.post(
    "/join-tokens",
    status_code=201,
    responses={201: success("A join token, shown once.", JSON), **problems(*GATE, *BODY)},
    openapi_extra=described(body=JSON, admin=True),
    response_class=Response,
)
async def make_join_token(request: Request) -> Response:
    """Make a join token: ``{"expires_in": seconds}``, and ``"labels": [label, ...]`` if any."""
    members = await with_upload(request, JSON, _SMALL_BODY, _object)
    seconds = _seconds(members)
    labels = _labels(members) if "labels" in members else ()
    if members.keys() - {"expires_in", "labels"}:
        raise MalformedError('a join token needs {"expires_in": seconds}, and may have "labels"')
    return await _token(request, seconds, labels=labels)


async def _token(
    request: Request, seconds: int, *, labels: tuple[str, ...] = (), replaces: bytes | None = None
) -> Response:
    service: Service = request.app.state.service
    token, now = new_secret(JOIN_PREFIX), service.clock.now()
    await service.store.add_join_token(
        secret_digest(token),
        now=now,
        expires_at=now + seconds,
        author=author(request),
        labels=labels,
        replaces=replaces,
    )
    log_event("join-token-made", expires_at=now + seconds, replaces=replaces)
    return json_answer({"join_token": token, "expires_at": now + seconds}, 201)


@router.post(
    "/nodes/{node}/labels",
    responses={200: success("The node with its labels.", JSON), **problems(*_ON_A_NODE)},
    openapi_extra=described(identifiers=["node"], body=JSON, admin=True),
    response_class=Response,
)
async def label_node(request: Request) -> Response:
    """Give a node these labels and no others: ``{"labels": [label, ...]}``."""
    service: Service = request.app.state.service
    node = identifier(request, "node")
    members = await with_upload(request, JSON, _SMALL_BODY, _object)
    if members.keys() != {"labels"}:
        raise MalformedError('a node is labelled by {"labels": [label, ...]}')
    labels, now = _labels(members), service.clock.now()
    before = await _demand_enrolled(service, node)
    labelled = _known(
        await service.store.operators.label(node, labels, now=now, author=author(request))
    )
    if labelled.enrolment.digest != before.enrolment.digest:
        # What rests on the labels of before ends with them.
        service.ending.node_ended(EndKind.ENROLLED_AGAIN, node, "given other labels", now)
    return await _told(service, labelled, "node-labelled")


@router.post(
    "/nodes/{node}/readmission",
    responses={200: success("The node, which may begin anew.", JSON), **problems(*_ON_A_NODE)},
    openapi_extra=described(identifiers=["node"], body=JSON, admin=True),
    response_class=Response,
)
async def readmit_node(request: Request) -> Response:
    """Let a node begin anew whose TPM was cleared, or that was revoked: ``{"reason": text}``."""
    service: Service = request.app.state.service
    node = identifier(request, "node")
    members = await with_upload(request, JSON, _SMALL_BODY, _object)
    reason = members.get("reason")
    if members.keys() != {"reason"} or type(reason) is not str:
        raise MalformedError('a node is re-admitted by {"reason": text}')
    if not 0 < len(reason) <= _MAX_REASON or not reason.isprintable():
        raise MalformedError(f"a reason has 1 to {_MAX_REASON} printable characters")
    now = service.clock.now()
    await service.store.operators.readmit(node, reason, now=now, author=author(request))
    readmitted = await _demand_enrolled(service, node)
    await service.registry.reload()
    service.ending.node_ended(EndKind.ENROLLED_AGAIN, node, "readmitted", now)
    return await _told(service, readmitted, "node-readmitted")


@router.post(
    "/nodes/{node}/replacement",
    responses={
        200: success("The node that took its place.", JSON),
        201: success("A join token for the node that will take its place, shown once.", JSON),
        **problems(*_ON_A_NODE),
    },
    openapi_extra=described(identifiers=["node"], body=JSON, admin=True),
    response_class=Response,
)
async def replace_node(request: Request) -> Response:
    """Let another node take the place of this one, which is revoked.

    ``{"by": node}`` names one that is enrolled; ``{"expires_in": seconds}`` makes a join token for
    one that is not.
    """
    service: Service = request.app.state.service
    node = identifier(request, "node")
    members = await with_upload(request, JSON, _SMALL_BODY, _object)
    if members.keys() == {"expires_in"}:
        await _demand_enrolled(service, node)
        return await _token(request, _seconds(members), replaces=node)
    if members.keys() != {"by"}:
        raise MalformedError('a node is replaced by {"by": node} or {"expires_in": seconds}')
    new = _node_id(members["by"])
    if new == node:
        raise MalformedError("a node cannot take its own place; re-admit it")
    now = service.clock.now()
    took = _known(await service.store.operators.replace(node, new, now=now, author=author(request)))
    await service.registry.reload()
    service.ending.node_ended(EndKind.REVOKED, node, f"replaced by {new.hex()}", now)
    service.ending.node_ended(EndKind.ENROLLED_AGAIN, new, f"took the place of {node.hex()}", now)
    return await _told(service, took, "node-replaced", replaces=node)


async def _object(body: bytes) -> dict[str, Any]:
    return strictjson.parse_object(body)


def _seconds(members: dict[str, Any]) -> int:
    seconds = members.get("expires_in")
    if type(seconds) is not int:
        raise MalformedError('a join token needs {"expires_in": seconds}')
    if not 0 < seconds <= _MAX_JOIN_TIME:
        raise MalformedError(f"expires_in is 1 to {_MAX_JOIN_TIME} seconds")
    return seconds


def _labels(members: dict[str, Any]) -> tuple[str, ...]:
    labels = members["labels"]
    if type(labels) is not list:
        raise MalformedError("labels are a list")
    return sorted_labels(labels)


def _node_id(text: object) -> bytes:
    try:
        node = bytes.fromhex(text) if type(text) is str else b""
    except ValueError as exc:
        raise MalformedError("by is not a node id in hex") from exc
    if len(node) != _NODE_ID:
        raise MalformedError("by is not a node id in hex")
    return node


async def _demand_enrolled(service: Service, node: bytes) -> EnrolledNode:
    return _known(await service.store.node(node))


def _known(node: EnrolledNode | None) -> EnrolledNode:
    if node is None:
        raise ProblemError(ProblemKind.UNKNOWN_NODE, "No node with this id is enrolled.")
    return node


async def _told(
    service: Service, node: EnrolledNode, event: str, *, replaces: bytes | None = None
) -> Response:
    named = node.enrolment.node
    log_event(event, node=named, replaces=replaces)
    return json_answer(node_members(node, await service.store.lineage(named)))
