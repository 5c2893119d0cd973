"""Chains of delegated leases for tests: real signatures, keys that are no secret.

``ChainMaker`` does what holders and a verifier do, one grant after the other, and may be told to
make a grant that goes too far.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from bootlease.testing.tokens import NOW, execution_claims, fixed_signer
from bootlease.token import ExecutionClaims, PrivateKeySigner, VerifierID
from bootlease.token.child import child_claims
from bootlease.token.delegation import DelegationLink, holding_of
from bootlease.token.grants import MAX_DEPTH, VerifiedGrant, chain_digest, make_grant, parse_grant
from bootlease.token.statuslist import STATUS_RING

KEYS: Final = tuple(fixed_signer(8000 + number) for number in range(24))
"""Keys of holders."""

VERIFIER: Final = VerifierID("https://bootlease.dev", "bootlease 0.1.0")


@dataclass(frozen=True)
class Wish:
    """What a holder signs.

    Attributes:
        to: Number of the key granted to.
        scope: Scope names.
        audience: Relying party.
        expires_at: Seconds since the epoch.
        depth: How many grants may follow.
    """

    to: int
    scope: tuple[str, ...]
    audience: str
    expires_at: int
    depth: int


def root_claims(number: int = 0, holder: int = 0, **changes: object) -> ExecutionClaims:
    """Return the claims of a lease that a node attested for."""
    return execution_claims(number, confirmation=KEYS[holder].public, **changes)


def lease_id_of(grant: str) -> bytes:
    """Return the id of the lease that a grant becomes."""
    digest = hashlib.sha256(b"lease" + grant.encode()).digest()
    index = int.from_bytes(digest[12:16], "big") % STATUS_RING
    return digest[:12] + index.to_bytes(4, "big")


def sign_wish(wish: Wish, signer: PrivateKeySigner, parent: bytes, *, jti: str = "1") -> str:
    """Return the grant for a wish, whatever it is worth."""
    return make_grant(
        signer,
        parent,
        thumbprint=KEYS[wish.to].public.thumbprint(),
        scope=wish.scope,
        audience=wish.audience,
        expires_at=wish.expires_at,
        depth=wish.depth,
        issued_at=min(NOW, wish.expires_at - 1),
        jti=jti,
    )


def trusting(text: str) -> VerifiedGrant:
    """Return a grant as if it had been verified: what a careless issuer would do."""
    grant = parse_grant(text)
    return VerifiedGrant(
        *(text, grant.algorithm, grant.granter, grant.parent, grant.thumbprint, grant.scope),
        *(grant.audience, grant.expires_at, grant.depth, grant.issued_at, grant.jti),
    )


def chain_head(claims: ExecutionClaims) -> bytes:
    """Return the chain digest of a lease, its grants unchecked."""
    if claims.delegation is None:
        return claims.digest
    head = claims.delegation.root.digest
    for link in claims.delegation.links:
        head = chain_digest(head, link.lease_id, link.grant)
    return head


def pass_on(claims: ExecutionClaims, wish: Wish, signer: PrivateKeySigner) -> ExecutionClaims:
    """Return the claims of the child that an issuer which checks nothing would give for a wish."""
    grant = trusting(sign_wish(wish, signer, chain_head(claims)))
    return child_claims(
        claims,
        grant,
        KEYS[wish.to].public,
        lease_id=lease_id_of(grant.text),
        decision=hashlib.sha256(b"record" + grant.text.encode()).digest(),
        verifier=VERIFIER,
        now=claims.issued_at,
    )


def narrowed(claims: ExecutionClaims, to: int, **changes: object) -> Wish:
    """Return the widest wish that the holder of ``claims`` may sign, with some of it changed."""
    depth = holding_of(claims).depth if claims.delegation is not None else MAX_DEPTH
    widest = Wish(to, claims.scope, claims.audience, claims.expires_at, max(depth - 1, 0))
    return replace(widest, **changes)  # type: ignore[arg-type]  # the caller's words


def chain(length: int, *, number: int = 0) -> ExecutionClaims:
    """Return the claims at the end of a chain in which everybody passes on all that they may."""
    claims = root_claims(number)
    for to in range(1, length + 1):
        claims = pass_on(claims, narrowed(claims, to), KEYS[to - 1])
    return claims


def with_links(claims: ExecutionClaims, links: Sequence[DelegationLink]) -> ExecutionClaims:
    """Return the same token with other links in its chain."""
    if claims.delegation is None:
        raise ValueError("the token was not delegated")
    return replace(claims, delegation=replace(claims.delegation, links=tuple(links)))
