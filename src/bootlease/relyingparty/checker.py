"""Checks tokens, and requests that carry them, for one relying party.

Specifications: RFC 9449 §7.1 (the DPoP scheme and its challenges), RFC 6750 §3.1 (error codes).
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bootlease.errors import MalformedError, VerificationError
from bootlease.model import Finding
from bootlease.relyingparty.keysource import KeySource
from bootlease.relyingparty.replay import ReplayCache
from bootlease.token import scope as scopes
from bootlease.token.keys import KeySet
from bootlease.token.pop import DEFAULT_MAX_AGE, VerifiedProof, verify_proof
from bootlease.token.verified import MAX_TOKEN_BYTES, VerifiedToken
from bootlease.token.verify import DEFAULT_LEEWAY, expired, verify_token

MAX_SEEN: Final = 10_000
"""Tokens remembered as checked: one per lease of a large fleet, some 30 MB."""

_SCHEME: Final = "dpop "
_UNAUTHORIZED, _FORBIDDEN = 401, 403


@dataclass(frozen=True, slots=True)
class CheckedRequest:
    """A request whose token and proof of possession were both verified."""

    token: VerifiedToken
    proof: VerifiedProof


@dataclass(frozen=True, slots=True)
class Refusal:
    """How to answer a request that is refused.

    Attributes:
        status: HTTP status.
        www_authenticate: Value of the ``WWW-Authenticate`` header.
    """

    status: int
    www_authenticate: str


class TokenChecker:
    """Checks tokens for one relying party; safe to share between threads."""

    def __init__(
        self,
        keys: KeySource,
        *,
        issuer: str,
        audience: str,
        clock: Callable[[], float] = time.time,
        leeway: int = DEFAULT_LEEWAY,
        proof_max_age: int = DEFAULT_MAX_AGE,
        replay: ReplayCache | None = None,
        max_seen: int = MAX_SEEN,
    ) -> None:
        """Prepare to check.

        Args:
            keys: Where ``issuer``'s keys come from.
            issuer: The verifier's URL, exact.
            audience: This relying party's own name, exact.
            clock: Seconds since the epoch.
            leeway: Seconds by which clocks may differ.
            proof_max_age: Seconds a proof of possession may be old.
            replay: Remembers proofs; share one between checkers that serve the same URLs.
            max_seen: Checked tokens to remember.

        Raises:
            ValueError: Issuer or audience is empty.
        """
        if not issuer or not audience:
            raise ValueError("a token checker needs an issuer and an audience")
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._leeway = leeway
        self._proof_max_age = proof_max_age
        # A proof may pass from leeway before its iat to max_age + leeway after.
        self._replay = replay or ReplayCache(keep=proof_max_age + 2 * leeway + 1)
        self._max_seen = max_seen
        # One value: no thread sees the tokens of one key set under the name of another.
        self._seen: tuple[KeySet | None, dict[bytes | str, VerifiedToken]] = (None, {})
        self._lock = threading.Lock()

    def check(self, token: bytes | str, *, scope: str | None = None) -> VerifiedToken:
        """Prove that a token counts here and now; possession is not proven.

        Args:
            token: Unverified bytes or text.
            scope: A scope name that the token must cover; none covers what is not one.

        Raises:
            MalformedError: Not an execution token.
            VerificationError: It does not count, or does not cover ``scope``.
            TransportError: The keys cannot be had.
        """
        now = self._clock()
        verified = self._verified(token, now)
        claims = verified.claims
        # A remembered token is remembered as genuine, never as current.
        if claims.expires_at <= now - self._leeway:
            raise VerificationError(expired(claims, now))
        if scope is not None and not scopes.any_covers(claims.scope, scope):
            raise VerificationError(
                Finding(
                    "token.scope.insufficient",
                    "The token does not cover what is asked.",
                    expected=scope,
                    seen=" ".join(claims.scope),
                )
            )
        return verified

    def check_request(
        self,
        *,
        authorization: str | None,
        dpop: str | None,
        method: str,
        url: str,
        scope: str | None = None,
    ) -> CheckedRequest:
        """Prove that a request is made by the holder of a token that counts.

        Args:
            authorization: The request's one Authorization header.
            dpop: The request's one DPoP header.
            method: The request's method.
            url: The URL as the client sees it.
            scope: A scope name that the token must cover.

        Raises:
            MalformedError: Token or proof is not one.
            VerificationError: Token or proof is missing or does not count.
            TransportError: The keys cannot be had.
        """
        if not authorization or authorization[: len(_SCHEME)].lower() != _SCHEME:
            raise _missing("request.token.missing", "The request carries no DPoP-bound token.")
        text = authorization[len(_SCHEME) :].strip(" ")
        if not dpop:
            raise _missing("request.proof.missing", "The request carries no proof of possession.")
        if not text.isascii():
            raise MalformedError("the token is not ASCII text")
        verified = self.check(text, scope=scope)
        now = self._clock()
        proof = verify_proof(
            dpop,
            confirmation=verified.claims.confirmation,
            htm=method,
            htu=url,
            access_token=text,
            now=now,
            max_age=self._proof_max_age,
            leeway=self._leeway,
        )
        self._replay.take(proof.thumbprint + hashlib.sha256(proof.jti.encode()).digest(), now=now)
        return CheckedRequest(verified, proof)

    def _verified(self, token: bytes | str, now: float) -> VerifiedToken:
        keys = self._keys.key_set()
        under, remembered = self._seen
        if keys is under:
            seen = remembered.get(token)
            if seen is not None:
                return seen
        try:
            verified = self._verify(token, keys, now)
        except VerificationError as exc:
            if exc.findings[0].id != "token.key.unknown":
                raise
            # A rotation may have happened since the keys were fetched.
            fresh = self._keys.refresh()
            if fresh is keys:
                raise
            keys = fresh
            verified = self._verify(token, keys, now)
        # Reading the claims proves the last of them before anybody acts on any.
        _ = verified.claims
        self._remember(token, verified, keys)
        return verified

    def _verify(self, token: bytes | str, keys: KeySet, now: float) -> VerifiedToken:
        return verify_token(
            token,
            keys,
            now=now,
            issuer=self._issuer,
            audience=self._audience,
            leeway=self._leeway,
        )

    def _remember(self, token: bytes | str, verified: VerifiedToken, keys: KeySet) -> None:
        if len(token) > 2 * MAX_TOKEN_BYTES or self._max_seen <= 0:
            return
        with self._lock:
            under, remembered = self._seen
            if keys is not under:
                # A withdrawn key takes every token it signed with it.
                remembered = {}
                self._seen = (keys, remembered)
            while len(remembered) >= self._max_seen:
                del remembered[next(iter(remembered))]
            remembered[token] = verified


def refusal_for(error: MalformedError | VerificationError) -> Refusal:
    """Return how to answer a request that ``check_request`` refused."""
    first = error.findings[0].id if isinstance(error, VerificationError) else "malformed"
    if first == "request.token.missing":
        # RFC 6750 §3.1: no error code where no credentials were given.
        return Refusal(_UNAUTHORIZED, 'DPoP algs="ES256 ES384 EdDSA RS256 PS256"')
    if first == "token.scope.insufficient":
        return Refusal(_FORBIDDEN, 'DPoP error="insufficient_scope"')
    kind = "invalid_token" if first.startswith(("token.", "malformed")) else "invalid_dpop_proof"
    description = str(error).replace("\\", " ").replace('"', "'")
    printable = "".join(c if " " <= c <= "~" else "?" for c in description)[:256]
    return Refusal(_UNAUTHORIZED, f'DPoP error="{kind}", error_description="{printable}"')


def _missing(id_: str, message: str) -> VerificationError:
    return VerificationError(Finding(id_, message))
