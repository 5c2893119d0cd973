"""The token endpoint: a holder's grant is exchanged for a child lease's token.

Specifications: RFC 8693 §2.1 to §2.2.2 (token exchange), RFC 6749 §3.2 (parameters), §5.1 and §5.2
(answers), RFC 9449 §5 (the DPoP header).

A refusal of the exchange is answered as RFC 6749 §5.2 says, with this project's findings in a
member; what keeps the request from being read or heard (length, media type, rate, store) is a
problem document, as on every route.

Not handled, and refused: actor tokens (the actor is the key that the DPoP header proves), target
services named by ``resource``. Parameters that RFC 8693 does not know are ignored (RFC 6749 §3.2).
"""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request, Response

from bootlease.token import TokenFormat
from bootlease.verifier.delegation.delegating import TOKEN_PATH
from bootlease.verifier.delegation.exchanges import (
    Exchanged,
    ExchangeError,
    ExchangeFault,
    ExchangeRequest,
)
from bootlease.verifier.loglines import log_event
from bootlease.verifier.problems import ProblemKind
from bootlease.verifier.routes.contract import BODY, JSON, described, problems, success
from bootlease.verifier.routes.gate import client_of, throttled, with_body
from bootlease.verifier.service import Service

router: Final = APIRouter()

FORM: Final = "application/x-www-form-urlencoded"
GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name
JWT: Final = "urn:ietf:params:oauth:token-type:jwt"
GRANT: Final = "bootlease_grant"

_REFUSED: Final = 400
_MAX_FIELDS: Final = 32
_MAX_DETAIL: Final = 500
_FORMS: Final = {ACCESS_TOKEN: None, JWT: TokenFormat.JWT}
_EXCHANGE: Final = {
    "type": "object",
    "required": ["grant_type", "subject_token", "subject_token_type", GRANT],
    "properties": {
        "grant_type": {"const": GRANT_TYPE},
        "subject_token": {"type": "string"},
        "subject_token_type": {"enum": [ACCESS_TOKEN, JWT]},
        "requested_token_type": {"enum": [ACCESS_TOKEN, JWT]},
        "scope": {"type": "string"},
        "audience": {"type": "string"},
        GRANT: {"type": "string", "description": "Compact JWS, typ bootlease-delegation+jwt."},
    },
}
_ERROR: Final[dict[str, Any]] = {
    "description": "The exchange is refused (RFC 6749 §5.2).",
    "content": {
        JSON: {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {
                    "error": {"enum": [fault.value for fault in ExchangeFault]},
                    "error_description": {"type": "string"},
                    "findings": {
                        "type": "array",
                        "items": {"$ref": "#/components/schemas/Finding"},
                    },
                },
            }
        }
    },
}


def _responses() -> dict[int | str, dict[str, Any]]:
    made = problems(*BODY, ProblemKind.BUSY_CLIENT)
    refused = made.get(_REFUSED, {"description": "", "content": {}})
    refused["description"] = f"{_ERROR['description']} {refused['description']}"
    refused["content"] = {**refused["content"], **_ERROR["content"]}
    return {200: success("The child lease's token.", JSON), **made, _REFUSED: refused}


def _described() -> dict[str, Any]:
    extra = described(body=FORM)
    extra["requestBody"]["content"][FORM] = {"schema": _EXCHANGE}
    extra["parameters"].append(
        {"name": "DPoP", "in": "header", "required": True, "schema": {"type": "string"}}
    )
    return extra


@router.post(
    TOKEN_PATH, responses=_responses(), openapi_extra=_described(), response_class=Response
)
async def exchange(request: Request) -> Response:
    """Exchange a grant for the token of a child lease."""
    service: Service = request.app.state.service
    client = client_of(request)
    throttled(service.throttle.exchanges, (client,), service.clock.now())

    async def work(body: bytes) -> Response:
        try:
            exchanged = await service.delegating.exchange(_read(body, _proof(request)))
        except ExchangeError as exc:
            service.counts["delegation-refused"] += 1
            return _refusal(exc)
        _tell(service, exchanged)
        return _answer(exchanged)

    return await with_body(request, FORM, service.limits.exchange, work, client)


def _proof(request: Request) -> str | None:
    # RFC 9449 §4.3 step 1: one header, or none of them is believed.
    proofs = request.headers.getlist("dpop")
    if len(proofs) > 1:
        raise ExchangeError(ExchangeFault.PROOF, "There is more than one DPoP header.")
    return proofs[0] if proofs else None


def _read(body: bytes, proof: str | None) -> ExchangeRequest:
    members = _members(body)
    kind = members.get("grant_type")
    if kind is None:
        raise ExchangeError(ExchangeFault.REQUEST, "grant_type is missing.")
    if kind != GRANT_TYPE:
        raise ExchangeError(ExchangeFault.GRANT_TYPE, f"grant_type is {GRANT_TYPE}, or nothing.")
    for name in ("subject_token", "subject_token_type", GRANT):
        if name not in members:
            raise ExchangeError(ExchangeFault.REQUEST, f"{name} is missing.")
    if "resource" in members:
        raise ExchangeError(ExchangeFault.TARGET, "A target is named by audience.")
    if "actor_token" in members or "actor_token_type" in members:
        raise ExchangeError(
            ExchangeFault.REQUEST, "There are no actor tokens here: the DPoP header says who acts."
        )
    for name in ("subject_token_type", "requested_token_type"):
        if members.get(name, ACCESS_TOKEN) not in _FORMS:
            raise ExchangeError(ExchangeFault.REQUEST, f"{name} is one of {', '.join(_FORMS)}.")
    return ExchangeRequest(
        parent=members["subject_token"],
        grant=members[GRANT],
        form=_FORMS[members.get("requested_token_type", ACCESS_TOKEN)],
        scope=members.get("scope"),
        audience=members.get("audience"),
        proof=proof,
    )


def _members(body: bytes) -> dict[str, str]:
    """Return the parameters (RFC 6749 §3.2): none twice, those without a value left out."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError as exc:
        raise ExchangeError(ExchangeFault.REQUEST, "The body is no form.") from exc
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ExchangeError(ExchangeFault.REQUEST, "A parameter is repeated.")
    return {name: value for name, value in members.items() if value}


def _answer(exchanged: Exchanged) -> Response:
    members = {
        "access_token": exchanged.token,
        "issued_token_type": ACCESS_TOKEN if exchanged.form is TokenFormat.CWT else JWT,
        "token_type": "DPoP",
        "expires_in": exchanged.expires_in,
        "scope": " ".join(exchanged.scope),
    }
    if exchanged.receipt is not None:
        members["bootlease_receipt"] = exchanged.receipt
    return Response(json.dumps(members).encode(), media_type=JSON)


def _refusal(error: ExchangeError) -> Response:
    # RFC 6749 §5.2: printable ASCII without quotes and backslashes.
    told = "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in str(error))
    members: dict[str, Any] = {
        "error": error.fault.value,
        "error_description": told[:_MAX_DETAIL],
    }
    if error.findings:
        members["findings"] = [finding.as_dict() for finding in error.findings]
    return Response(json.dumps(members).encode(), _REFUSED, media_type=JSON)


def _tell(service: Service, exchanged: Exchanged) -> None:
    if exchanged.again:
        service.counts["answered-again"] += 1
    else:
        service.counts["delegated"] += 1
        log_event("delegated", lease=exchanged.lease_id, expires_in=exchanged.expires_in)
