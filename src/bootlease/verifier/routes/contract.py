"""What the HTTP interface promises, for OpenAPI: media types, problems, parameters, security.

The description is made of the same tables that the routes use, and a test compares it with every
answer that the other tests have seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from bootlease.verifier.problems import MEDIA_TYPE, ProblemKind

ENROLMENT: Final = "application/vnd.bootlease.enrolment+cbor"
CREDENTIAL: Final = "application/vnd.bootlease.credential+cbor"
ACTIVATION: Final = "application/vnd.bootlease.activation+cbor"
RECEIPT: Final = "application/vnd.bootlease.enrolment-receipt+cbor"
CHALLENGE: Final = "application/vnd.bootlease.challenge+cbor"
EVIDENCE: Final = "application/vnd.bootlease.evidence+cbor"
LEASE: Final = "application/vnd.bootlease.lease+cbor"
COSE_KEYS: Final = "application/cose-key-set"
JWKS: Final = "application/jwk-set+json"
JSON: Final = "application/json"
TOML: Final = "application/toml"
PEM: Final = "application/x-pem-file"

ALWAYS: Final = (
    ProblemKind.MALFORMED,
    ProblemKind.METHOD,
    ProblemKind.LENGTH_WANTED,
    ProblemKind.DEFECT,
    ProblemKind.BUSY,
)
"""What any route may answer."""
BODY: Final = (
    ProblemKind.MALFORMED,
    ProblemKind.TIMEOUT,
    ProblemKind.TOO_LARGE,
    ProblemKind.MEDIA,
    ProblemKind.UNAVAILABLE,
)
"""What a route that reads a body may answer besides."""

SECURITY_SCHEME: Final = "adminCredential"
_BINARY: Final = {"type": "string", "format": "binary"}
_HEX_ID: Final = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}

_FINDING_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["id", "effect", "message"],
    "properties": {
        "id": {"type": "string", "description": "Stable dotted identifier."},
        "effect": {"enum": ["refuses", "notes"]},
        "message": {"type": "string"},
        "pcr": {"type": "integer"},
        "event": {"type": "integer"},
        "expected": {"type": "string"},
        "seen": {"type": "string"},
    },
}
_PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "enum": sorted(kind.uri for kind in ProblemKind)},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "findings": {"type": "array", "items": {"$ref": "#/components/schemas/Finding"}},
        "decision": {**_HEX_ID, "description": "Digest of the recorded decision."},
        "request": {"type": "string", "description": "As in the header x-request-id."},
    },
}


def problems(*kinds: ProblemKind) -> dict[int | str, dict[str, Any]]:
    """Return the problem responses of a route, with those that any route may give."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for kind in sorted({*kinds, *ALWAYS}, key=lambda each: (each.status, each.uri)):
        response = by_status.setdefault(
            kind.status,
            {"description": "", "content": {MEDIA_TYPE: {"schema": _PROBLEM}}},
        )
        response["description"] = "; ".join(filter(None, [response["description"], kind.title]))
    return by_status


def success(description: str, media_type: str) -> dict[str, Any]:
    """Return a success response."""
    schema = {"type": "object"} if media_type.endswith("json") else _BINARY
    return {"description": description, "content": {media_type: {"schema": schema}}}


def described(
    *, identifiers: Iterable[str] = (), body: str | None = None, admin: bool = False
) -> dict[str, Any]:
    """Return what OpenAPI cannot learn from a route's code.

    Args:
        identifiers: Names of the hex identifiers in the path.
        body: Media type of the request's body.
        admin: The route needs the admin credential.
    """
    extra: dict[str, Any] = {
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": _HEX_ID}
            for name in identifiers
        ]
    }
    if body is not None:
        extra["requestBody"] = {"required": True, "content": {body: {"schema": _BINARY}}}
    if admin:
        extra["security"] = [{SECURITY_SCHEME: []}]
    return extra


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Add the schemas and the security scheme to an OpenAPI document."""
    components = document.setdefault("components", {})
    components["schemas"] = {"Problem": _PROBLEM_SCHEMA, "Finding": _FINDING_SCHEMA}
    components["securitySchemes"] = {SECURITY_SCHEME: {"type": "http", "scheme": "bearer"}}
    return document
