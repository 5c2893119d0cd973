"""Who asks as an operator: what every route of theirs has its router depend on.

Specification: RFC 6750 §2.1 (the credential is a bearer token).
"""

from __future__ import annotations

import json
from typing import Final

from fastapi import Request, Response

from bootlease.ports import StoredCredential
from bootlease.verifier.loglines import log_event
from bootlease.verifier.operators.access import bearer_digest, credential_of
from bootlease.verifier.operators.logins import author_of
from bootlease.verifier.operators.roles import demand_role, roles_for
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.routes.contract import JSON
from bootlease.verifier.routes.gate import client_of, throttled
from bootlease.verifier.service import Service

GATE: Final = (
    ProblemKind.UNAUTHORIZED,
    ProblemKind.FORBIDDEN,
    ProblemKind.BUSY_CLIENT,
    ProblemKind.UNAVAILABLE,
)


async def authenticate(request: Request) -> None:
    """Let nobody pass without an admin credential of a role that may use the route (attack B8).

    Raises:
        ProblemError: None, a wrong one, or too many wrong ones from this client; or its role may
            not do this.
    """
    service: Service = request.app.state.service
    # Whoever has the credential is heard, whatever others did from the same address: there is
    # nothing to guess, so the rate only bounds what wrong ones cost and write into the log.
    digest = bearer_digest(request.headers.get("authorization"))
    client = client_of(request)
    known = None if digest is None else credential_of(digest, service.registry.now.credentials)
    if known is not None:
        await service.logins.seen(known, client)
        demand_role(known.roles, roles_for(request.method, request.scope["route"].path))
        request.state.author = author_of(known)
        request.state.credential = known
        return
    throttled(service.throttle.logins, (client,), service.clock.now())
    log_event("admin-login-refused", client=client)
    raise ProblemError(
        ProblemKind.UNAUTHORIZED, "Send the admin credential as a bearer token; init printed it."
    )


def json_answer(members: object, status: int = 200) -> Response:
    """Return an answer that a person can read too."""
    body = json.dumps(members, ensure_ascii=False, indent=2) + "\n"
    return Response(body.encode(), status, media_type=JSON)


def author(request: Request) -> str:
    """Return whose credential a request came with, as the ledger names them."""
    name: str = request.state.author
    return name


def credential_of_request(request: Request) -> StoredCredential:
    """Return the credential that a request came with."""
    credential: StoredCredential = request.state.credential
    return credential
