"""The operator's routes to admin credentials: made, listed, revoked."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Depends, Request, Response

from bootlease.ports import Act, CredentialRevocation, StoredCredential
from bootlease.verifier.loglines import log_event
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.routes.acts import act
from bootlease.verifier.routes.authentication import GATE, authenticate, author, json_answer
from bootlease.verifier.routes.contract import BODY, JSON, described, problems, success
from bootlease.verifier.routes.gate import with_upload
from bootlease.verifier.routes.nodes import identifier
from bootlease.verifier.service import Service

router: Final = APIRouter(prefix="/v1/admin", dependencies=[Depends(authenticate)])

_SMALL_BODY: Final = 4096
_REFUSED: Final = {
    CredentialRevocation.UNKNOWN: (
        ProblemKind.NOT_FOUND,
        "There is no such credential, or it was revoked before.",
    ),
    CredentialRevocation.LAST_OPERATOR: (
        ProblemKind.CONFLICT,
        "It is the last operator's: nobody could act for this verifier any more.",
    ),
    CredentialRevocation.LAST_PAIR: (
        ProblemKind.CONFLICT,
        "No two operators who are two persons would be left, to switch the two-person rule off.",
    ),
}


@router.post(
    "/credentials",
    status_code=201,
    responses={
        201: success("An admin credential, shown once.", JSON),
        202: success("It waits for a second person.", JSON),
        **problems(*GATE, *BODY),
    },
    openapi_extra=described(body=JSON, admin=True),
    response_class=Response,
)
async def make_credential(request: Request) -> Response:
    """Make an admin credential: ``{"label": text, "roles": [role, ...]}``."""
    done = await with_upload(
        request, JSON, _SMALL_BODY, lambda body: act(request, Act.CREDENTIAL, body)
    )
    return json_answer(done.members, done.status)


@router.get(
    "/credentials",
    responses={200: success("Every admin credential that was made.", JSON), **problems(*GATE)},
    openapi_extra=described(admin=True),
    response_class=Response,
)
async def list_credentials(request: Request) -> Response:
    """List admin credentials by what is known of them, the oldest first; none can be read back."""
    service: Service = request.app.state.service
    known = await service.store.credentials()
    return json_answer({"credentials": [_credential(each) for each in known]})


def _credential(credential: StoredCredential) -> dict[str, Any]:
    return {
        "id": credential.digest.hex(),
        "label": credential.label,
        "roles": [role.value for role in credential.roles],
        "created_at": credential.created_at,
        "made_by": None if credential.maker is None else credential.maker.hex(),
        "made_by_two": credential.joint,
        "revoked_at": credential.revoked_at,
    }


@router.post(
    "/credentials/{credential}/revocation",
    responses={
        200: success("The credential counts for nothing.", JSON),
        **problems(*GATE, ProblemKind.NOT_FOUND, ProblemKind.CONFLICT),
    },
    openapi_extra=described(identifiers=["credential"], admin=True),
    response_class=Response,
)
async def revoke_credential(request: Request) -> Response:
    """Revoke an admin credential; the body is empty."""
    service: Service = request.app.state.service
    digest = identifier(request, "credential")
    now = service.clock.now()
    outcome = await service.store.operators.revoke_credential(
        digest, now=now, author=author(request)
    )
    # First: whoever repeats what failed in between must not leave the credential to be used.
    await service.registry.reload()
    if outcome is not CredentialRevocation.REVOKED:
        raise ProblemError(*_REFUSED[outcome])
    log_event("credential-revoked", digest=digest)
    return json_answer({"id": digest.hex(), "revoked_at": now})
