"""Discovery, so that programs which know nothing of bootlease find keys and endpoints.

Specifications: OpenID Connect Discovery 1.0 §3 and §4, RFC 8414 §2 and §3, RFC 9449 §5.1.

There is nobody to log in, so there is no authorization endpoint, and ``response_types_supported``,
which both specifications demand, names what is never asked for over a redirect: as with other
issuers of workload tokens, ``id_token`` for OpenID Connect, and ``none`` for OAuth.

Not handled: an issuer with a path, whose OAuth document RFC 8414 §3.1 places outside of it: a proxy
that serves others at the same host has to send it here.
"""

from __future__ import annotations

import json
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from bootlease.token.keys import Algorithm
from bootlease.verifier.delegation.delegating import TOKEN_PATH
from bootlease.verifier.routes.contract import JSON, problems, success
from bootlease.verifier.routes.tokens import GRANT_TYPE
from bootlease.verifier.service import Service

router: Final = APIRouter()

_INTROSPECTION: Final = "/v1/introspect"
_FRESH: Final = {"cache-control": "public, max-age=60"}
_CLAIMS: Final = (
    *("iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf", "scope", "status"),
    *("eat_profile", "submods", "ear_status", "ear_verifier_id"),
    *("bootlease_lineage", "bootlease_boot", "bootlease_policy", "bootlease_reference"),
    *("bootlease_evidence", "bootlease_decision", "bootlease_key_protection"),
    *("bootlease_delegation", "act"),
)


@router.get(
    "/.well-known/openid-configuration",
    responses={200: success("Where an OpenID Connect library finds the keys.", JSON), **problems()},
    response_class=Response,
)
async def openid_configuration(request: Request) -> Response:
    """Describe the issuer to OpenID Connect libraries."""
    service: Service = request.app.state.service
    algorithms = sorted({key.algorithm.value for key in service.keys.keys})
    return _answer(
        {
            **_shared(service),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
            "claims_supported": _CLAIMS,
        }
    )


@router.get(
    "/.well-known/oauth-authorization-server",
    responses={
        200: success("Where an OAuth library finds endpoints.", JSON),
        **problems(),
    },
    response_class=Response,
)
async def oauth_authorization_server(request: Request) -> Response:
    """Describe the issuer to OAuth libraries."""
    service: Service = request.app.state.service
    return _answer({**_shared(service), "response_types_supported": ["none"]})


def _shared(service: Service) -> dict[str, Any]:
    issuer = service.issuer.url
    return {
        "issuer": issuer,
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "token_endpoint": f"{issuer}{TOKEN_PATH}",
        "grant_types_supported": [GRANT_TYPE],
        "token_endpoint_auth_methods_supported": ["none"],
        "introspection_endpoint": f"{issuer}{_INTROSPECTION}",
        "introspection_endpoint_auth_methods_supported": ["Bearer"],
        "dpop_signing_alg_values_supported": [algorithm.value for algorithm in Algorithm],
    }


def _answer(members: dict[str, Any]) -> Response:
    return Response(json.dumps(members, indent=2).encode(), media_type=JSON, headers=_FRESH)
