"""How a relying party says no over HTTP, in one table.

Specifications: RFC 6750 §3.1 and RFC 9449 §7.1 (challenges and error codes), RFC 9457 (problem
details), RFC 9110 §10.2.3 (``Retry-After``).

401 is for what another token or proof repairs, 403 for what this holder may not do, 503 for what is
no fault of the request: a relying party that cannot know what was revoked refuses a token that may
well be good.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from bootlease.errors import BootleaseError, TransportError, VerificationError

MEDIA_TYPE: Final = "application/problem+json"

_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _UNAVAILABLE = 400, 401, 403, 503
_CHALLENGE: Final = 'DPoP algs="ES256 ES384 EdDSA RS256 PS256"'
_RETRY_AFTER: Final = 1
_TITLES: Final = {
    _BAD_REQUEST: "The request is malformed",
    _UNAUTHORIZED: "The request is not authorized",
    _FORBIDDEN: "The lease does not allow this",
    _UNAVAILABLE: "Whether the lease still counts is not known",
}
_ERRORS: Final = (
    # The first row whose prefix fits decides.
    ("request.token.missing", _UNAUTHORIZED, None),
    ("request.header.", _BAD_REQUEST, "invalid_request"),
    ("request.path.", _BAD_REQUEST, "invalid_request"),
    ("request.proof.missing", _UNAUTHORIZED, "invalid_dpop_proof"),
    ("request.scope.", _FORBIDDEN, "insufficient_scope"),
    ("pop.replay.full", _UNAVAILABLE, None),
    ("pop.", _UNAUTHORIZED, "invalid_dpop_proof"),
    ("continuity.", _UNAVAILABLE, None),
    ("status.", _UNAVAILABLE, None),
    ("token.scope.insufficient", _FORBIDDEN, "insufficient_scope"),
    ("token.tier.insufficient", _FORBIDDEN, "insufficient_scope"),
    ("token.level.insufficient", _FORBIDDEN, "insufficient_scope"),
    ("token.depth.exceeded", _FORBIDDEN, "insufficient_scope"),
    ("", _UNAUTHORIZED, "invalid_token"),
)
_LONGEST: Final = 256


@dataclass(frozen=True, slots=True)
class Refusal:
    """How to answer a request that is refused.

    Attributes:
        status: HTTP status.
        www_authenticate: Value of the ``WWW-Authenticate`` header, where there is one.
        retry_after: Seconds after which trying again may help, where it may.
        body: The problem document.
    """

    status: int
    www_authenticate: str | None
    retry_after: int | None
    body: bytes

    def headers(self) -> list[tuple[str, str]]:
        """Return the answer's headers, names in lower case."""
        found = [("content-type", MEDIA_TYPE), ("cache-control", "no-store")]
        if self.www_authenticate is not None:
            found.append(("www-authenticate", self.www_authenticate))
        if self.retry_after is not None:
            found.append(("retry-after", str(self.retry_after)))
        return found


def refusal_for(error: BootleaseError) -> Refusal:
    """Return how to answer a request that a checker refused, or could not check."""
    first = error.findings[0].id if isinstance(error, VerificationError) else ""
    status, code = next(
        (status, code) for prefix, status, code in _ERRORS if first.startswith(prefix)
    )
    if isinstance(error, TransportError):
        status, code = _UNAVAILABLE, None
    challenge = None
    if status != _UNAVAILABLE:
        challenge = _CHALLENGE if code is None else _challenge(code, error)
    return Refusal(
        status,
        challenge,
        _RETRY_AFTER if status == _UNAVAILABLE else None,
        _problem(status, error),
    )


def _challenge(code: str, error: BootleaseError) -> str:
    text = str(error).replace("\\", " ").replace('"', "'")
    printable = "".join(c if " " <= c <= "~" else "?" for c in text)[:_LONGEST]
    return f'DPoP error="{code}", error_description="{printable}"'


def _problem(status: int, error: BootleaseError) -> bytes:
    members = {
        "type": "about:blank",
        "title": _TITLES[status],
        "status": status,
        "detail": str(error)[:_LONGEST],
    }
    if isinstance(error, VerificationError):
        members["findings"] = [finding.as_dict() for finding in error.findings]
    return json.dumps(members).encode()
