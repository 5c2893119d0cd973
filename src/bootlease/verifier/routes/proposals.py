"""The operator's routes to the two-person rule, and to what waits for a second person."""

from __future__ import annotations

import base64
from typing import Final

from fastapi import APIRouter, Depends, Request, Response

from bootlease.ports import Act
from bootlease.verifier.loglines import log_event
from bootlease.verifier.problems import ProblemKind
from bootlease.verifier.routes.acts import DOES, By, act, check_again, proposal_members
from bootlease.verifier.routes.authentication import (
    GATE,
    authenticate,
    credential_of_request,
    json_answer,
)
from bootlease.verifier.routes.contract import BODY, JSON, described, problems, success
from bootlease.verifier.routes.gate import with_upload
from bootlease.verifier.routes.nodes import identifier
from bootlease.verifier.service import Service

router: Final = APIRouter(prefix="/v1/admin", dependencies=[Depends(authenticate)])

_SMALL_BODY: Final = 4096


@router.get(
    "/two-person",
    responses={200: success("Whether the two-person rule holds.", JSON), **problems(*GATE)},
    openapi_extra=described(admin=True),
    response_class=Response,
)
async def show_rule(request: Request) -> Response:
    """Tell whether the two-person rule holds."""
    service: Service = request.app.state.service
    return json_answer({"demanded": await service.proposals.demanded()})


@router.post(
    "/two-person",
    responses={
        200: success("The rule is switched.", JSON),
        202: success("It waits for a second person.", JSON),
        **problems(*GATE, *BODY, ProblemKind.CONFLICT),
    },
    openapi_extra=described(body=JSON, admin=True),
    response_class=Response,
)
async def switch_rule(request: Request) -> Response:
    """Switch the two-person rule: ``{"demanded": true or false}``."""
    done = await with_upload(request, JSON, _SMALL_BODY, lambda body: act(request, Act.RULE, body))
    return json_answer(done.members, done.status)


@router.get(
    "/proposals",
    responses={200: success("What waits for a second person.", JSON), **problems(*GATE)},
    openapi_extra=described(admin=True),
    response_class=Response,
)
async def list_proposals(request: Request) -> Response:
    """List what waits for a second person, the oldest first."""
    service: Service = request.app.state.service
    waiting = await service.store.operators.proposals(now=service.clock.now())
    return json_answer({"proposals": [proposal_members(each) for each in waiting]})


@router.get(
    "/proposals/{proposal}",
    responses={
        200: success("One proposal, its document as base64.", JSON),
        **problems(*GATE, ProblemKind.NOT_FOUND),
    },
    openapi_extra=described(identifiers=["proposal"], admin=True),
    response_class=Response,
)
async def show_proposal(request: Request) -> Response:
    """Return a proposal with the very bytes that would be used."""
    service: Service = request.app.state.service
    proposal = await service.proposals.waiting(identifier(request, "proposal"))
    document = base64.b64encode(proposal.document).decode()
    return json_answer({**proposal_members(proposal), "document": document})


@router.post(
    "/proposals/{proposal}/approval",
    status_code=201,
    responses={
        200: success("It is done.", JSON),
        201: success("It is done.", JSON),
        **problems(*GATE, *BODY, ProblemKind.NOT_FOUND, ProblemKind.CONFLICT),
    },
    openapi_extra=described(identifiers=["proposal"], admin=True),
    response_class=Response,
)
async def approve(request: Request) -> Response:
    """Approve what another person proposed, and have it done; the body is empty."""
    service: Service = request.app.state.service
    credential, digest = credential_of_request(request), identifier(request, "proposal")
    waiting = await service.proposals.waiting(digest)
    await check_again(service, waiting.act, waiting.document)
    proposal, authors = await service.proposals.approve(digest, credential)
    log_event("approved", act=proposal.act.value, proposal=digest)
    done = await DOES[proposal.act](
        service, proposal.document, proposal.options, By(authors, credential, joint=True)
    )
    return json_answer({"act": proposal.act.value, **done.members}, done.status)
