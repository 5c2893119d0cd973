"""Passing a lease on, and taking what was passed on: both sides of a delegation, for workloads.

Specifications: RFC 8693 §2 (token exchange), RFC 6749 §5.2 (errors), RFC 9449 §5 (proof of the key
that the token is for). What a grant is stands in ``token.grants``.

The holder of a lease makes a grant with ``grant_child`` and hands it to whoever has the other key,
together with its own token: neither opens anything without a key. The other one exchanges both at
the verifier with ``TokenExchange``, and holds a child lease then.

Nothing here renews: a child ends with its parent at the latest, and another needs another grant.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx2

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.findings import parse_findings
from bootlease.model import Finding, legible
from bootlease.relyingparty.fetching import TIMEOUT, require_safe
from bootlease.relyingparty.keysource import KeySource
from bootlease.token import (
    ExecutionClaims,
    PublicKey,
    Signer,
    TokenFormat,
    base64url,
    make_proof,
    parse_token,
    strictjson,
    verify_token,
)
from bootlease.token.delegation import holding_of, verify_chain
from bootlease.token.grants import make_grant, parse_grant, verify_grant
from bootlease.token.verify import unwrap

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name
JWT: Final = "urn:ietf:params:oauth:token-type:jwt"
MAX_ANSWER: Final = 128 * 1024

_JTI_BYTES: Final = 16
_MAX_TEXT: Final = 512
_MAX_FINDINGS: Final = 256
_OK, _REFUSED = 200, 400


def grant_child(
    parent: bytes | str,
    signer: Signer,
    child: PublicKey | bytes,
    *,
    scope: Sequence[str] | None = None,
    expires_in: int | None = None,
    depth: int = 0,
    clock: Callable[[], float] = time.time,
) -> str:
    """Pass on some of a lease that one holds.

    Args:
        parent: The lease's token; it is one's own and its signature is not checked.
        signer: Signs with the key that it confirms.
        child: The key granted to, or its RFC 7638 thumbprint.
        scope: Scope names; all of the lease's by default.
        expires_in: Seconds from now; as long as the lease by default.
        depth: How often the child may be passed on.
        clock: Seconds since the epoch.

    Returns:
        The grant: good for one child, at the verifier that gave the lease.

    Raises:
        MalformedError: ``parent`` is no token.
        VerificationError: The lease does not hold what is to be passed on, or is another key's.
        ValueError: A value has not its form.
    """
    _, claims = parse_token(parent)
    holding = holding_of(claims)
    now = int(clock())
    thumbprint = child if isinstance(child, bytes) else child.thumbprint()
    text = make_grant(
        signer,
        holding.head,
        thumbprint=thumbprint,
        scope=claims.scope if scope is None else scope,
        audience=claims.audience,
        expires_at=claims.expires_at if expires_in is None else now + expires_in,
        depth=depth,
        issued_at=now,
        jti=secrets.token_urlsafe(_JTI_BYTES),
    )
    # What the verifier would refuse is said here, to whoever can mend it.
    verify_grant(text, holding)
    return text


@dataclass(frozen=True, slots=True)
class DelegatedToken:
    """A child lease's token: verified, its chain too.

    Attributes:
        text: The token as HTTP carries it.
        format: Its form.
        claims: What it says.
        receipt: The ledger's receipt of a JWT; a CWT carries its own.
    """

    text: str
    format: TokenFormat
    claims: ExecutionClaims
    receipt: str | None


class TokenExchange:
    """A verifier's token endpoint, as the holder of a grant sees it.

    Args:
        issuer: The verifier's URL, exact; https unless on this machine.
        keys: Where its keys come from.
        client: Lends its TLS trust and timeouts.
        clock: Seconds since the epoch.

    Raises:
        ValueError: ``issuer`` is not https.
    """

    def __init__(
        self,
        issuer: str,
        keys: KeySource,
        *,
        client: httpx2.Client | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = require_safe(f"{issuer}/v1/token", "a token")
        self._issuer = issuer
        self._keys = keys
        self._client = client or httpx2.Client(timeout=TIMEOUT)
        self._clock = clock

    def exchange(
        self, parent: bytes | str, grant: str, signer: Signer, form: TokenFormat | None = None
    ) -> DelegatedToken:
        """Exchange a grant for the child lease's token.

        Args:
            parent: Token of the lease that was passed on.
            grant: What its holder signed.
            signer: Signs with the key granted to.
            form: ``JWT`` for one; by default the form of ``parent``.

        Raises:
            MalformedError: ``grant`` or ``parent`` has not its form.
            VerificationError: The verifier refuses, or what it gave does not verify.
            TransportError: It cannot be reached, or answers with something else.
        """
        wanted = parse_grant(grant)
        kind, _ = parse_token(parent)
        own = unwrap(parent)
        text = own if isinstance(own, str) else base64url.encode(own)
        members = {
            "grant_type": GRANT_TYPE,
            "subject_token": text,
            "subject_token_type": ACCESS_TOKEN if kind is TokenFormat.CWT else JWT,
            "bootlease_grant": grant,
        }
        if form is TokenFormat.JWT:
            members["requested_token_type"] = JWT
        answer = self._post(members, signer)
        token, receipt = answer.get("access_token"), answer.get("bootlease_receipt")
        if type(token) is not str or answer.get("token_type") != "DPoP":
            raise TransportError(f"{self._url} does not answer with a token bound to a key")
        if receipt is not None and type(receipt) is not str:
            raise TransportError(f"{self._url} answers with a receipt that is none")
        verified = verify_token(
            token,
            self._keys.key_set(),
            now=self._clock(),
            issuer=self._issuer,
            audience=wanted.audience,
        )
        claims = verified.claims
        if claims.confirmation != signer.public:
            raise _refused(
                "exchange.key.mismatch", "The verifier gave a token that confirms another key."
            )
        verify_chain(claims)
        return DelegatedToken(token, verified.format, claims, receipt)

    def _post(self, members: dict[str, str], signer: Signer) -> dict[str, Any]:
        proof = make_proof(
            signer,
            htm="POST",
            htu=self._url,
            iat=int(self._clock()),
            jti=secrets.token_urlsafe(_JTI_BYTES),
            access_token=None,
        )
        try:
            with self._client.stream(
                "POST", self._url, data=members, headers={"DPoP": proof}, follow_redirects=False
            ) as response:
                status, body = response.status_code, bytearray()
                deadline = time.monotonic() + TIMEOUT
                # Not in pieces of a size: those are given when they are full, which may be never.
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MAX_ANSWER:
                        raise TransportError(f"{self._url} answered with too much")
                    if time.monotonic() > deadline:
                        raise TransportError(f"{self._url} answered too slowly")
        except httpx2.HTTPError as exc:
            raise TransportError(f"cannot reach {self._url}: {exc}") from exc
        try:
            answer = strictjson.parse_object(bytes(body))
        except MalformedError as exc:
            raise TransportError(f"{self._url} answered {status} without JSON") from exc
        if status == _REFUSED and "error" in answer:
            try:
                findings = _findings(answer)
            except MalformedError as exc:
                raise TransportError(f"{self._url} refuses for no known reason: {exc}") from exc
            raise VerificationError(*findings)
        if status != _OK:
            raise TransportError(f"{self._url} answered {status}: {_line(answer.get('detail'))}")
        return answer


def _findings(answer: dict[str, Any]) -> tuple[Finding, ...]:
    """Return why the verifier refused, as it says it: unsigned.

    Raises:
        MalformedError: It says so in no known form.
    """
    made = parse_findings(answer.get("findings", []), at_most=_MAX_FINDINGS)
    error = answer["error"]
    told = answer.get("error_description", error)
    if type(error) is not str or type(told) is not str:
        raise MalformedError("an error and its description are text")
    said = f"The verifier refuses the exchange: {_line(told)}."
    return made or (Finding("exchange.refused", said, seen=_line(error)),)


def _line(value: object) -> str:
    return legible(value, at_most=_MAX_TEXT) if type(value) is str else ""


def _refused(id_: str, message: str) -> VerificationError:
    return VerificationError(Finding(id_, message))
