"""Does this token count, here and now?

Steps, in this order; the first three end the check, the fourth collects every finding:

1. form: CWT bytes, CWT as base64url text, or JWT;
2. signature, by the key and algorithm that the caller's key set holds (RFC 8725 §3.1);
3. profile, and claims that are ours and well-formed;
4. issuer, audience, expiry, not-before, issue time (RFC 7519 §4.1, RFC 8392 §3.1).
"""

from __future__ import annotations

from operator import itemgetter

from bootlease.errors import MalformedError, VerificationError
from bootlease.model import Finding
from bootlease.token import base64url
from bootlease.token.claims import ExecutionClaims
from bootlease.token.cwt import open_cwt, parse_cwt
from bootlease.token.jwt import open_jwt, parse_jwt
from bootlease.token.keys import KeySet
from bootlease.token.kinds import TokenFormat
from bootlease.token.verified import MAX_TOKEN_BYTES, VerifiedToken

DEFAULT_LEEWAY = 5
"""Seconds by which the relying party's clock and the verifier's may differ."""

_CWT_STARTS = frozenset({0xD2, 0xD8})


def unwrap(token: bytes | str) -> bytes | str:
    """Return the bytes of a CWT or the text of a JWT, told apart by form.

    Args:
        token: CWT bytes, or ASCII text or bytes of a base64url CWT or a compact JWT.

    Raises:
        MalformedError: Neither.
    """
    if len(token) > 2 * MAX_TOKEN_BYTES:
        raise MalformedError(f"a token has at most {MAX_TOKEN_BYTES} bytes")
    if isinstance(token, bytes):
        if token[:1] and token[0] in _CWT_STARTS:
            return token
        try:
            token = token.decode("ascii")
        except UnicodeDecodeError as exc:
            raise MalformedError("neither a CWT nor a JWT") from exc
    return token if "." in token else base64url.decode(token)


def parse_token(token: bytes | str) -> tuple[TokenFormat, ExecutionClaims]:
    """Read a token for display; nothing about it is verified.

    Raises:
        MalformedError: Not an execution token.
    """
    form = unwrap(token)
    if isinstance(form, bytes):
        return TokenFormat.CWT, parse_cwt(form)[1]
    return parse_jwt(form)


def verify_token(
    token: bytes | str,
    keys: KeySet,
    *,
    now: float,
    issuer: str,
    audience: str,
    leeway: int = DEFAULT_LEEWAY,
) -> VerifiedToken:
    """Prove that ``issuer`` granted this token, for ``audience``, and that it counts at ``now``.

    Does not prove who presents it (``pop.verify_proof``), nor that its scope covers what is
    asked (``scope.any_covers``), nor that it was not revoked since it was signed.

    Args:
        token: Unverified bytes or text.
        keys: The keys of ``issuer`` and of nobody else.
        now: Seconds since the epoch.
        issuer: The verifier's URL, exact.
        audience: The relying party's own name, exact.
        leeway: Seconds by which clocks may differ.

    Raises:
        MalformedError: Not an execution token.
        VerificationError: It does not count, with every reason of the last step.
    """
    form = unwrap(token)
    if isinstance(form, bytes):
        verified = open_cwt(VerifiedToken, form, keys)
        iss, aud, expires_at, not_before, issued_at = _CWT_CLAIMS(verified.members)
    else:
        verified = open_jwt(VerifiedToken, form, keys)
        iss, aud, expires_at, not_before, issued_at = _JWT_CLAIMS(verified.members)
    latest = now + leeway
    if (
        iss != issuer
        or aud != audience
        or not_before > latest
        or issued_at > latest
        or expires_at <= now - leeway
    ):
        raise VerificationError(*_findings(verified.claims, now, issuer, audience, leeway))
    return verified


_CWT_CLAIMS = itemgetter(1, 3, 4, 5, 6)
_JWT_CLAIMS = itemgetter("iss", "aud", "exp", "nbf", "iat")


def _findings(
    claims: ExecutionClaims, now: float, issuer: str, audience: str, leeway: int
) -> list[Finding]:
    clock, findings = str(int(now)), []
    if claims.issuer != issuer:
        findings.append(
            Finding(
                "token.issuer.mismatch",
                "The token was issued by another verifier.",
                expected=issuer,
                seen=claims.issuer,
            )
        )
    if claims.audience != audience:
        findings.append(
            Finding(
                "token.audience.mismatch",
                "The token is meant for another relying party.",
                expected=audience,
                seen=claims.audience,
            )
        )
    if claims.expires_at <= now - leeway:
        findings.append(expired(claims, now))
    if claims.not_before > now + leeway:
        findings.append(
            Finding(
                "token.not-yet-valid",
                "The token does not count yet.",
                expected=f"now not before {claims.not_before}",
                seen=clock,
            )
        )
    if claims.issued_at > now + leeway:
        findings.append(
            Finding(
                "token.issued.future",
                "The token says that it was issued in the future; a clock is wrong.",
                expected=f"now not before {claims.issued_at}",
                seen=clock,
            )
        )
    return findings


def expired(claims: ExecutionClaims, now: float) -> Finding:
    """Return the finding for a lease that has ended."""
    return Finding(
        "token.expired",
        f"The lease ended {max(0, int(now) - claims.expires_at)} s ago and was not renewed.",
        expected=f"now before {claims.expires_at}",
        seen=str(int(now)),
    )
