"""Checks tokens, and requests that carry them, for one relying party.

Specifications: RFC 9449 §7.1 (the DPoP scheme). How a refusal is answered stands in ``refusals``.

What follows from the token alone is judged once for each token, and the verdict remembered:
signature, profile, issuer, audience (``token.verify``), and what is demanded besides (``demands``).
What may change while the token lives is judged at every use of it:

1. its time is not over;
2. the continuity statement in hand still counts;
3. the token's signing key, policy epoch and lease are not withdrawn by the statement, nor is any
   lease that it was delegated from;
4. the scope covers what is asked this time.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger import NoteKey
from bootlease.model import Finding
from bootlease.relyingparty.continuity import ContinuitySource, UnsafeNoContinuity
from bootlease.relyingparty.demands import Demands
from bootlease.relyingparty.keysource import KeySource
from bootlease.relyingparty.replay import ReplayCache
from bootlease.relyingparty.standing import Standing, standing_of
from bootlease.token import Tier
from bootlease.token import scope as scopes
from bootlease.token.continuity import Continuity, untimely
from bootlease.token.keys import KeySet
from bootlease.token.pop import DEFAULT_MAX_AGE, VerifiedProof, verify_proof
from bootlease.token.verified import VerifiedToken, unknown_key
from bootlease.token.verify import DEFAULT_LEEWAY, expired, verify_token

MAX_SEEN: Final = 10_000
"""Tokens remembered as checked: one per lease of a large fleet, 20 to 60 MB."""

_MAX_REMEMBERED: Final = 4096
"""Length of the longest token that is remembered. What a token carries outside its signature,
whoever has one can change and make long, and each form would be remembered by itself."""

MAX_LEEWAY: Final = 60
"""Seconds; clocks that differ by more are to be set, not forgiven."""

_Remembered = OrderedDict[bytes | str, Standing]
"""By the token as presented. A plain dict looks for its oldest entry past all that are gone."""

_SCHEME: Final = "dpop "


@dataclass(frozen=True, slots=True)
class CheckedRequest:
    """A request whose token and proof of possession were both verified."""

    token: VerifiedToken
    proof: VerifiedProof


class TokenChecker:
    """Checks tokens for one relying party; safe to share between threads."""

    def __init__(
        self,
        keys: KeySource,
        *,
        issuer: str,
        audience: str,
        continuity: ContinuitySource | UnsafeNoContinuity,
        max_depth: int = 0,
        min_tier: Tier = Tier.AFFIRMING,
        require_level: int | None = None,
        require_receipt: NoteKey | None = None,
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
            continuity: Says what was revoked.
            max_depth: Grants that may lie between a node's own lease and a token; 0 for none.
            min_tier: The worst appraisal of a node that is enough.
            require_level: The level, 0 to 3, at which the node must say that it enforces.
            require_receipt: The ledger's key: it must have signed that the ledger has the lease.
            clock: Seconds since the epoch.
            leeway: Seconds by which clocks may differ; 0 to ``MAX_LEEWAY``.
            proof_max_age: Seconds a proof of possession may be old.
            replay: Remembers proofs, for ``proof_max_age`` and twice ``leeway`` at least; share
                one between checkers that serve the same URLs.
            max_seen: Checked tokens to remember.

        Raises:
            ValueError: Issuer or audience is empty, or something is out of its bounds.
        """
        if not issuer or not audience:
            raise ValueError("a token checker needs an issuer and an audience")
        if not 0 <= leeway <= MAX_LEEWAY:
            raise ValueError(f"leeway is 0 to {MAX_LEEWAY} seconds")
        if continuity is None:
            raise ValueError("a token checker needs continuity, or UnsafeNoContinuity()")
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._continuity = None if isinstance(continuity, UnsafeNoContinuity) else continuity
        self._demands = Demands(
            max_depth=max_depth,
            min_tier=min_tier,
            require_level=require_level,
            require_receipt=require_receipt,
        )
        self._clock = clock
        self._leeway = leeway
        self._proof_max_age = proof_max_age
        # A proof may pass from leeway before its iat to max_age + leeway after.
        passes = proof_max_age + 2 * leeway
        self._replay = replay or ReplayCache(keep=passes + 1)
        if self._replay.keep < passes:
            raise ValueError(f"the replay cache forgets proofs that may pass for {passes} s")
        self._max_seen = max_seen
        # One value: no thread sees the tokens of one key set under the name of another.
        self._seen: tuple[KeySet | None, _Remembered] = (None, OrderedDict())
        self._lock = threading.Lock()

    @property
    def issuer(self) -> str:
        """Whose tokens are accepted."""
        return self._issuer

    @property
    def audience(self) -> str:
        """What tokens must be for."""
        return self._audience

    def check(
        self, token: bytes | str, *, scope: str | None = None, receipt: bytes | None = None
    ) -> VerifiedToken:
        """Prove that a token counts here and now; possession is not proven.

        Claims that nothing is judged by are read when they are first asked for, and may turn out
        malformed then; ``check_request`` reads all of them.

        Args:
            token: Unverified bytes or text.
            scope: A scope name that the token must cover; none covers what is not one.
            receipt: The ledger's proof beside a JWT, unverified.

        Raises:
            MalformedError: Not an execution token.
            VerificationError: It does not count, or does not cover ``scope``.
            TransportError: Keys or continuity cannot be had.
        """
        verified = self._check(token, scope, receipt)
        # Thousands of tokens are remembered, and who asks no more than this reads no claims.
        verified.forget_members()
        return verified

    def _check(self, token: bytes | str, scope: str | None, receipt: bytes | None) -> VerifiedToken:
        standing = self._standing(token, self._clock(), receipt)
        # A remembered token is remembered as genuine, never as current.
        self._demand_current(standing)
        if scope is not None:
            _demand_scope(standing.scope, scope)
        return standing.token

    def recheck(self, verified: VerifiedToken) -> None:
        """Prove that a token that this checker has checked counts still.

        Raises:
            VerificationError: It does not.
            TransportError: Keys or continuity cannot be had.
        """
        if self._keys.key_set().get(verified.key_id) is None:
            raise unknown_key(verified.key_id)
        self._demand_current(standing_of(verified))

    def remaining(self, verified: VerifiedToken) -> float:
        """Return for how many seconds a token can count still, its leeway included."""
        return verified.claims.expires_at + self._leeway - self._clock()

    @staticmethod
    def demand_scope(verified: VerifiedToken, scope: str) -> None:
        """Prove that a token covers a scope name.

        Raises:
            VerificationError: It does not, or ``scope`` is no scope name.
        """
        _demand_scope(verified.claims.scope, scope)

    def check_request(
        self,
        *,
        authorization: str | None,
        dpop: str | None,
        method: str,
        url: str,
        scope: str | None = None,
        receipt: bytes | None = None,
    ) -> CheckedRequest:
        """Prove that a request is made by the holder of a token that counts.

        Args:
            authorization: The request's one Authorization header.
            dpop: The request's one DPoP header.
            method: The request's method.
            url: The URL as the client sees it.
            scope: A scope name that the token must cover.
            receipt: The ledger's proof beside a JWT, unverified.

        Raises:
            MalformedError: Token or proof is not one.
            VerificationError: Token or proof is missing or does not count.
            TransportError: Keys or continuity cannot be had.
        """
        if not authorization or authorization[: len(_SCHEME)].lower() != _SCHEME:
            raise _missing("request.token.missing", "The request carries no DPoP-bound token.")
        text = authorization[len(_SCHEME) :].strip(" ")
        if not dpop:
            raise _missing("request.proof.missing", "The request carries no proof of possession.")
        if not text.isascii():
            raise MalformedError("the token is not ASCII text")
        verified = self._check(text, scope, receipt)
        confirmation = verified.claims.confirmation
        verified.forget_members()
        now = self._clock()
        proof = verify_proof(
            dpop,
            confirmation=confirmation,
            htm=method,
            htu=url,
            access_token=text,
            now=now,
            max_age=self._proof_max_age,
            leeway=self._leeway,
        )
        self._replay.take(proof.thumbprint + hashlib.sha256(proof.jti.encode()).digest(), now=now)
        return CheckedRequest(verified, proof)

    def _standing(self, token: bytes | str, now: float, receipt: bytes | None) -> Standing:
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
        standing = standing_of(verified)
        self._demands.verify(token, standing, receipt)
        self._remember(token, standing, keys)
        return standing

    def _verify(self, token: bytes | str, keys: KeySet, now: float) -> VerifiedToken:
        return verify_token(
            token,
            keys,
            now=now,
            issuer=self._issuer,
            audience=self._audience,
            leeway=self._leeway,
        )

    def _demand_current(self, standing: Standing) -> None:
        self._demand_unexpired(standing, self._clock())
        if self._continuity is None:
            return
        statement = self._continuity.current()
        # Again: it may have been waited for, and nothing counts for longer because of that.
        now = self._clock()
        self._demand_unexpired(standing, now)
        # One from the future means that this machine's clock was set back: what it would let
        # count again is over.
        if statement.expires_at <= now - self._leeway or statement.issued_at > now + self._leeway:
            raise VerificationError(*untimely(statement, now, self._leeway))
        status = statement.status
        if (
            standing.token.key_id not in statement.key_ids
            or standing.epoch < statement.min_epoch
            or status.get(standing.place)
            or (standing.parents and any(map(status.get, standing.parents)))
        ):
            raise VerificationError(*_ended(standing, statement))

    def _demand_unexpired(self, standing: Standing, now: float) -> None:
        if standing.expires_at <= now - self._leeway:
            raise VerificationError(expired(standing.token.claims, now))

    def _remember(self, token: bytes | str, standing: Standing, keys: KeySet) -> None:
        if self._max_seen <= 0 or len(token) > _MAX_REMEMBERED:
            return
        with self._lock:
            under, remembered = self._seen
            if keys is not under:
                # A withdrawn key takes every token it signed with it.
                remembered = OrderedDict()
                self._seen = (keys, remembered)
            while len(remembered) >= self._max_seen:
                remembered.popitem(last=False)
            remembered[token] = standing


def _ended(standing: Standing, statement: Continuity) -> list[Finding]:
    """Return what a continuity statement says against a token."""
    found = []
    key_id = standing.token.key_id
    if key_id not in statement.key_ids:
        found.append(
            Finding(
                "token.key.withdrawn",
                "The token is signed by a key that its verifier has withdrawn.",
                seen=key_id,
            )
        )
    if standing.epoch < statement.min_epoch:
        found.append(
            Finding(
                "token.epoch.too-old",
                "The lease was granted under a policy that no longer counts.",
                expected=f"at least {statement.min_epoch}",
                seen=str(standing.epoch),
            )
        )
    status = statement.status
    if status.get(standing.place):
        found.append(Finding("token.revoked", "The lease was ended before its time."))
    if any(map(status.get, standing.parents)):
        found.append(
            Finding(
                "token.parent.revoked",
                "A lease that this one was delegated from was ended before its time.",
            )
        )
    return found


def _demand_scope(granted: tuple[str, ...], scope: str) -> None:
    if not scopes.any_covers(granted, scope):
        raise VerificationError(
            Finding(
                "token.scope.insufficient",
                "The token does not cover what is asked.",
                expected=scope,
                seen=" ".join(granted),
            )
        )


def _missing(id_: str, message: str) -> VerificationError:
    return VerificationError(Finding(id_, message))
