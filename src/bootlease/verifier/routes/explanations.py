"""The operator's route to what explains a decision, which ``bootlease explain --url`` asks."""

from __future__ import annotations

import base64
import json
from typing import Final

from fastapi import APIRouter, Depends, Request, Response

from bootlease.errors import MalformedError, VerificationError
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.routes.authentication import GATE, authenticate
from bootlease.verifier.routes.contract import JSON, described, problems, success
from bootlease.verifier.routes.nodes import identifier
from bootlease.verifier.service import Service

router: Final = APIRouter(prefix="/v1/admin", dependencies=[Depends(authenticate)])


@router.get(
    "/decisions/{decision}/pieces",
    responses={
        200: success("All that the decision rests on, and the last good one, as base64.", JSON),
        **problems(*GATE, ProblemKind.NOT_FOUND, ProblemKind.CONFLICT),
    },
    openapi_extra=described(identifiers=["decision"], admin=True),
    response_class=Response,
)
async def decision_pieces(request: Request) -> Response:
    """Return what explains a decision, or the latest decision about a node."""
    service: Service = request.app.state.service
    try:
        found = await service.store.explanation_pieces(identifier(request, "decision"))
    except VerificationError as exc:
        raise ProblemError(
            ProblemKind.CONFLICT, "The decision cannot be explained.", findings=exc.findings
        ) from exc
    except MalformedError as exc:
        raise ProblemError(ProblemKind.CONFLICT, f"A stored record is malformed: {exc}.") from exc
    if found is None:
        raise ProblemError(ProblemKind.NOT_FOUND, "No decision of this digest is recorded.")
    digest, pieces = found
    members = {"decision": digest.hex(), "pieces": base64.b64encode(pieces).decode()}
    return Response(json.dumps(members).encode(), media_type=JSON)
