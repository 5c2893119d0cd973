"""Proof of possession: the holder signs each request with the confirmation key.

Specification: RFC 9449 (DPoP) §4.2 (proof), §4.3 (checks), §5 (token requests), §7 (protected
resources). The access token is an execution token; a CWT travels in HTTP as base64url text, and
``ath`` is over that text. In a request for a token there is none, and no ``ath``.

Server-provided nonces (§8, §9) are put into proofs, and not asked for where proofs are verified.
The caller must remember ``jti`` (§11.1) until the proof is too old to pass; see ``relyingparty``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from bootlease.errors import MalformedError, VerificationError
from bootlease.model import Finding
from bootlease.token import base64url, strictjson
from bootlease.token.jws import (
    encode_header,
    header_text,
    parse_header,
    sign_compact,
    verify_compact,
)
from bootlease.token.keys import Signer, algorithms_of
from bootlease.token.publickey import PublicKey

PROOF_TYP: Final = "dpop+jwt"
MAX_PROOF_BYTES: Final = 8 * 1024
DEFAULT_MAX_AGE: Final = 60
"""Seconds a proof may be old: a request's travel time, not a session (RFC 9449 §11.1)."""

_MAX_JTI: Final = 128
_MAX_INT: Final = (1 << 53) - 1
_PORTS: Final = {"http": 80, "https": 443}
_INVALID_SIGNATURE: Final = Finding(
    "pop.signature.invalid", "The proof's signature does not verify."
)


@dataclass(frozen=True, slots=True)
class VerifiedProof:
    """A proof that the holder of the confirmation key made this request.

    Attributes:
        jti: The proof's own id, once only within the time it may pass.
        issued_at: Seconds since the epoch, by the holder's clock.
        thumbprint: RFC 7638 thumbprint of the confirmation key.
    """

    jti: str
    issued_at: int
    thumbprint: bytes


def token_hash(access_token: str) -> str:
    """Return ``ath``: SHA-256 of the token's ASCII text, as base64url."""
    return base64url.encode(hashlib.sha256(access_token.encode("ascii")).digest())


def make_proof(
    signer: Signer,
    *,
    htm: str,
    htu: str,
    iat: int,
    jti: str,
    access_token: str | None,
    nonce: str | None = None,
) -> str:
    """Make a proof for one request.

    Args:
        signer: Signs with the confirmation key, wherever it lives.
        htm: HTTP method.
        htu: Target URL; its query and fragment are left out.
        iat: Seconds since the epoch.
        jti: An id never used before, at least 96 random bits.
        access_token: The token's text, as the Authorization header carries it; None in a request
            for a token.
        nonce: What the server asked the proof to hold (§8), if it did.

    Raises:
        MalformedError: ``htu`` is not an absolute URL.
    """
    header = {"alg": signer.algorithm.value, "typ": PROOF_TYP, "jwk": signer.public.jwk()}
    claims = {
        "jti": jti,
        "htm": htm,
        "htu": _target(htu),
        "iat": iat,
    }
    if access_token is not None:
        claims["ath"] = token_hash(access_token)
    if nonce is not None:
        claims["nonce"] = nonce
    return sign_compact(encode_header(header), strictjson.serialise(claims), signer)


def verify_proof(
    proof: str,
    *,
    confirmation: PublicKey,
    htm: str,
    htu: str,
    access_token: str | None,
    now: float,
    max_age: int = DEFAULT_MAX_AGE,
    leeway: int = 5,
) -> VerifiedProof:
    """Prove that the holder of ``confirmation`` made this request with this token, recently.

    Does not prove that the proof is used for the first time: remember its ``jti``.

    Args:
        proof: Unverified text of the DPoP header.
        confirmation: The key that the verified token confirms.
        htm: The request's method.
        htu: The request's URL as the client must have seen it, proxies undone.
        access_token: The token's text as presented; None where a token is asked for.
        now: Seconds since the epoch.
        max_age: Seconds a proof may be old.
        leeway: Seconds by which clocks may differ.

    Raises:
        MalformedError: Not a proof.
        VerificationError: Not this holder's, this request's, this token's, or not now.
    """
    header = parse_header(header_text(proof, max_bytes=MAX_PROOF_BYTES))
    # RFC 9449 §4.3: type, then key and algorithm; the key is the token's, the header only agrees.
    if header["typ"] != PROOF_TYP:
        raise _refused("pop.typ.mismatch", "The DPoP header is not a proof of possession.")
    if PublicKey.from_jwk(header.get("jwk")) != confirmation:
        raise _refused(
            "pop.key.mismatch", "The proof is made with a key that the token does not confirm."
        )
    algorithm = next(
        (a for a in algorithms_of(confirmation.kind) if header["alg"] in a.jose_names), None
    )
    if algorithm is None:
        raise _refused(
            "pop.algorithm.mismatch",
            "The proof names an algorithm that does not belong to its key.",
        )
    payload = verify_compact(proof, confirmation.load_jose(), algorithm, invalid=_INVALID_SIGNATURE)
    claims = strictjson.parse_object(payload)
    jti, iat = _identity(claims)
    findings = [
        *_request_findings(claims, htm, htu, access_token),
        *_time_findings(iat, now, max_age, leeway),
    ]
    if findings:
        raise VerificationError(*findings)
    return VerifiedProof(jti, iat, confirmation.thumbprint())


def proof_key(proof: str) -> PublicKey:
    """Return the key that a proof says has made it, unverified: where no token names one.

    Raises:
        MalformedError: Not a proof.
    """
    return PublicKey.from_jwk(
        parse_header(header_text(proof, max_bytes=MAX_PROOF_BYTES)).get("jwk")
    )


def _identity(claims: dict[str, Any]) -> tuple[str, int]:
    jti, iat = claims.get("jti"), claims.get("iat")
    if type(jti) is not str or not 0 < len(jti) <= _MAX_JTI or not jti.isprintable():
        raise MalformedError(f"the proof's jti is not text of 1 to {_MAX_JTI} characters")
    if type(iat) is not int or not 0 <= iat <= _MAX_INT:
        raise MalformedError("the proof's iat is not a time")
    return jti, iat


def _request_findings(
    claims: dict[str, Any], htm: str, htu: str, access_token: str | None
) -> Iterable[Finding]:
    method, target, bound = claims.get("htm"), claims.get("htu"), claims.get("ath")
    wanted = None if access_token is None else token_hash(access_token)
    if type(method) is not str or type(target) is not str or type(bound) is not type(wanted):
        raise MalformedError("the proof lacks htm, htu or ath")
    if method != htm:
        yield Finding(
            "pop.method.mismatch",
            "The proof is for another method.",
            expected=htm,
            seen=method[:32],
        )
    if _target(target) != _target(htu):
        yield Finding(
            "pop.url.mismatch", "The proof is for another URL.", expected=htu, seen=target[:256]
        )
    if bound != wanted:
        yield Finding("pop.token.mismatch", "The proof is for another token.")


def _time_findings(iat: int, now: float, max_age: int, leeway: int) -> Iterable[Finding]:
    if iat > now + leeway:
        yield Finding(
            "pop.issued.future",
            "The proof was made in the future; a clock is wrong.",
            seen=str(iat),
        )
    if now - iat > max_age + leeway:
        yield Finding("pop.too-old", f"The proof is older than {max_age} s.", seen=str(iat))


def _target(url: str) -> str:
    """Return ``url`` as proofs compare it (RFC 9449 §4.3 step 9, RFC 3986 §6.2.2-3)."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as exc:
        raise MalformedError("URL cannot be parsed") from exc
    if parts.scheme not in _PORTS or not host or parts.username is not None:
        raise MalformedError("URL is not an absolute http or https URL")
    if not url.isprintable() or " " in url:
        raise MalformedError("URL holds white space or control characters")
    name = f"[{host}]" if ":" in host else host
    where = name if port in {None, _PORTS[parts.scheme]} else f"{name}:{port}"
    return f"{parts.scheme}://{where}{parts.path or '/'}"


def _refused(id_: str, message: str) -> VerificationError:
    return VerificationError(Finding(id_, message))
