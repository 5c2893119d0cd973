"""The operator's route to the proof of a lease, which ``bootlease ledger proof --url`` asks."""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Final

from fastapi import APIRouter, Depends, Request, Response

from bootlease.errors import MalformedError, VerificationError
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.routes.authentication import GATE, authenticate
from bootlease.verifier.routes.contract import JSON, described, problems, success
from bootlease.verifier.service import Service

_LEASE_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)

router: Final = APIRouter(prefix="/v1/admin", dependencies=[Depends(authenticate)])


def _described() -> dict[str, Any]:
    extra = described(admin=True)
    schema = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
    extra["parameters"] = [{"name": "lease", "in": "path", "required": True, "schema": schema}]
    return extra


@router.get(
    "/leases/{lease}/proof",
    responses={
        200: success("The proof file, as base64.", JSON),
        **problems(*GATE, ProblemKind.NOT_FOUND, ProblemKind.CONFLICT),
    },
    openapi_extra=_described(),
    response_class=Response,
)
async def lease_proof(request: Request) -> Response:
    """Return the proof of a lease, gathered from what is stored."""
    service: Service = request.app.state.service
    text: str = request.path_params["lease"]
    if _LEASE_ID.fullmatch(text) is None:
        raise ProblemError(
            ProblemKind.NOT_FOUND, "The lease in the path is not 32 lower-case hex digits."
        )
    try:
        proof = await service.store.lease_proof(bytes.fromhex(text))
    except VerificationError as exc:
        raise ProblemError(
            ProblemKind.CONFLICT, "The lease cannot be proven.", findings=exc.findings
        ) from exc
    except MalformedError as exc:
        raise ProblemError(ProblemKind.CONFLICT, f"A stored piece is malformed: {exc}.") from exc
    if proof is None:
        raise ProblemError(ProblemKind.NOT_FOUND, "No recorded decision granted this lease.")
    members = {"lease": text, "proof": base64.b64encode(proof).decode()}
    return Response(json.dumps(members).encode(), media_type=JSON)
