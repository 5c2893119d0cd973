"""What anybody may read: configuration, keys, health.

Specifications: RFC 8615 (well-known URIs), RFC 7517 §8.5 (JWK Set media type), RFC 9679 §6
(``application/cose-key-set``).
"""

from __future__ import annotations

import json
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from bootlease.errors import TransportError
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.routes.contract import (
    ACTIVATION,
    CHALLENGE,
    COSE_KEYS,
    CREDENTIAL,
    ENROLMENT,
    EVIDENCE,
    JSON,
    JWKS,
    LEASE,
    RECEIPT,
    problems,
    success,
)
from bootlease.verifier.service import Service

router: Final = APIRouter()

_KEYS_FRESH: Final = {"cache-control": "public, max-age=60"}
"""Short, so that a rotated key is soon known; relying parties fetch again for an unknown key id."""


@router.get(
    "/.well-known/bootlease-configuration",
    responses={200: success("What this verifier is and speaks.", JSON), **problems()},
    response_class=Response,
)
async def configuration(request: Request) -> Response:
    """Describe this verifier."""
    service: Service = request.app.state.service
    issuer, active = service.issuer.url, service.registry.now.active
    members: dict[str, Any] = {
        "issuer": issuer,
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "cose_keys_uri": f"{issuer}/.well-known/cose-keys",
        "key_rotations_uri": f"{issuer}/.well-known/bootlease-key-rotations",
        "ledger_uri": f"{issuer}/ledger",
        "ledger_key": str(service.ledger_key),
        "enrolment_endpoint": f"{issuer}/v1/enrolments",
        "challenge_endpoint": f"{issuer}/v1/nodes/{{node}}/challenges",
        "lease_endpoint": f"{issuer}/v1/nodes/{{node}}/leases",
        "status_uri": f"{issuer}/v1/status",
        "continuity_uri": f"{issuer}/v1/continuity",
        "continuity_stream_uri": f"{issuer}/v1/continuity/stream",
        "introspection_endpoint": f"{issuer}/v1/introspect",
        "token_endpoint": f"{issuer}/v1/token",
        "token_encodings": ["cwt", "jwt"],
        "token_signing_algorithms": [key.algorithm.value for key in service.keys.keys],
        "media_types": {
            "enrolment": ENROLMENT,
            "credential": CREDENTIAL,
            "activation": ACTIVATION,
            "enrolment_receipt": RECEIPT,
            "challenge": CHALLENGE,
            "evidence": EVIDENCE,
            "lease": LEASE,
        },
        "max_evidence_bytes": service.longest_evidence,
    }
    if service.issuer.leash_key is not None:
        members["leash_key"] = service.issuer.leash_key.jwk()
    if active is not None:
        members["life"] = active.policy.lease.life
        members["policy_epoch"] = active.epoch
    body = json.dumps(members, indent=2).encode()
    return Response(body, media_type=JSON, headers=_KEYS_FRESH)


@router.get(
    "/.well-known/jwks.json",
    responses={200: success("The token keys as a JWK Set.", JWKS), **problems()},
    response_class=Response,
)
async def jwks(request: Request) -> Response:
    """Return the token keys as a JWK Set."""
    service: Service = request.app.state.service
    body = json.dumps(service.keys.to_jwks()).encode()
    return Response(body, media_type=JWKS, headers=_KEYS_FRESH)


@router.get(
    "/.well-known/cose-keys",
    responses={200: success("The token keys as a COSE_KeySet.", COSE_KEYS), **problems()},
    response_class=Response,
)
async def cose_keys(request: Request) -> Response:
    """Return the token keys as a COSE_KeySet."""
    service: Service = request.app.state.service
    return Response(service.keys.to_cose(), media_type=COSE_KEYS, headers=_KEYS_FRESH)


@router.get(
    "/.well-known/bootlease-key-rotations",
    responses={200: success("Which token key named which, oldest first.", JSON), **problems()},
    response_class=Response,
)
async def key_rotations(request: Request) -> Response:
    """Return every rotation of the token key, each signed by the key before."""
    service: Service = request.app.state.service
    statements = [each.statement for each in service.tokens.rotations]
    body = json.dumps({"rotations": statements}).encode()
    return Response(body, media_type=JSON, headers=_KEYS_FRESH)


@router.get(
    "/healthz",
    responses={200: success("The process is alive.", JSON), **problems()},
    response_class=Response,
)
async def healthz() -> Response:
    """Tell that the process is alive."""
    return Response(b'{"status":"ok"}', media_type=JSON)


@router.get(
    "/readyz",
    responses={
        200: success("The verifier can decide.", JSON),
        **problems(ProblemKind.UNAVAILABLE),
    },
    response_class=Response,
)
async def readyz(request: Request) -> Response:
    """Tell whether the store works and a policy is active."""
    service: Service = request.app.state.service
    try:
        await service.store.check()
    except TransportError as exc:
        raise ProblemError(ProblemKind.UNAVAILABLE, "The store does not work.") from exc
    epoch = service.registry.now.policy.epoch
    return Response(json.dumps({"status": "ready", "policy_epoch": epoch}), media_type=JSON)
