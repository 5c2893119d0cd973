"""Whether a token counts, for who would rather ask than check.

Specification: RFC 7662. Asked with an admin credential of a role that may; the answer to a token
that does not count is ``{"active": false}``, whatever the reason, and nothing else.

Not handled: proof of possession. Who presents the token is for the relying party to check; ``cnf``
says with which key.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request, Response

from bootlease.errors import MalformedError, VerificationError
from bootlease.token import ExecutionClaims, base64url, parse_token, verify_token
from bootlease.verifier.routes.authentication import GATE, authenticate, json_answer
from bootlease.verifier.routes.contract import BODY, JSON, described, problems, success
from bootlease.verifier.routes.gate import with_upload
from bootlease.verifier.service import Service

FORM: Final = "application/x-www-form-urlencoded"
_MAX_FORM: Final = 64 * 1024
_MAX_FIELDS: Final = 8

router: Final = APIRouter(dependencies=[Depends(authenticate)])


@router.post(
    "/v1/introspect",
    responses={
        200: success("Whether the token counts, and what it says.", JSON),
        **problems(*GATE, *BODY),
    },
    openapi_extra=described(body=FORM, admin=True),
    response_class=Response,
)
async def introspect(request: Request) -> Response:
    """Tell whether a token counts now: ``token=…``."""
    service: Service = request.app.state.service
    token = await with_upload(request, FORM, _MAX_FORM, _token)
    claims = counting_claims(service, token, service.clock.now())
    return json_answer({"active": False} if claims is None else _members(claims))


async def _token(body: bytes) -> str:
    try:
        fields = parse_qs(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError as exc:
        raise MalformedError("the body is not a form") from exc
    tokens = fields.get("token", [])
    if len(tokens) != 1:
        raise MalformedError("the form holds one token")
    return tokens[0]


def counting_claims(service: Service, token: str, now: int) -> ExecutionClaims | None:
    """Return what a token says, if it counts.

    Signature by a key that counts, issuer, time, policy epoch and status all hold; that its lease
    lives is known of every lease that was granted here and is not over.
    """
    try:
        audience = parse_token(token)[1].audience
        verified = verify_token(
            token,
            service.statements.keys,
            now=now,
            issuer=service.issuer.url,
            audience=audience,
            leeway=0,
        )
        claims = verified.claims
    except (MalformedError, VerificationError):
        return None
    if claims.policy.epoch < service.registry.now.min_epoch(now):
        return None
    return claims if service.ending.live.is_live(claims.lease_id, now) else None


def _members(claims: ExecutionClaims) -> dict[str, Any]:
    return {
        "active": True,
        "iss": claims.issuer,
        "sub": claims.subject,
        "aud": claims.audience,
        "iat": claims.issued_at,
        "nbf": claims.not_before,
        "exp": claims.expires_at,
        "jti": base64url.encode(claims.lease_id),
        "scope": " ".join(claims.scope),
        "cnf": {"jkt": base64url.encode(claims.confirmation.thumbprint())},
    }
