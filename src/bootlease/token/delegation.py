"""Delegation as a token states it, and whether its chain of grants holds together.

A token that was given for a grant names the lease that the chain began with, which a node attested
for, and every grant from there down to itself. What a grant is stands in ``grants``.

Form, in CWT: ``[[lease id, claims digest, decision digest, scope, audience, expires at, status,
COSE_Key], [lease id, thumbprint, grant], ...]``, the root first and then one array for each grant,
in the order in which they were made. In JWT ``{"root": {jti, digest, decision, scope, aud, exp,
ear_status, jwk}, "links": [{jti, jkt, grant}, ...]}``.

``verify_chain`` needs nothing but the token's claims. Whether the leases of the chain still count
is a question for the issuer's status list, under each of ``VerifiedChain.lease_ids``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from bootlease.errors import MalformedError, VerificationError
from bootlease.model import Finding
from bootlease.token import base64url, scope
from bootlease.token.ear import TIERS_BY_LABEL, Tier, tier_from_value
from bootlease.token.grants import MAX_DEPTH, MAX_GRANT, Holding, VerifiedGrant, verify_grant
from bootlease.token.publickey import PublicKey

_DIGEST_SIZE: Final = 32
_ID_SIZE: Final = 16
_MAX_NUMBER: Final = (1 << 53) - 1
_MAX_TEXT: Final = 512


@dataclass(frozen=True, slots=True)
class DelegationRoot:
    """The lease that the chain began with, which the node's own attestation gave.

    Attributes:
        lease_id: 16 bytes.
        digest: Claims digest of its token.
        decision: Digest of the decision record that granted it.
        scope: Scope names.
        audience: Relying party.
        expires_at: First second at which it is over.
        status: Tier of its attestation result; the delegated lease has none of its own.
        confirmation: Its holder's key.
    """

    lease_id: bytes
    digest: bytes
    decision: bytes
    scope: tuple[str, ...]
    audience: str
    expires_at: int
    status: Tier
    confirmation: PublicKey

    def __post_init__(self) -> None:
        _require_bytes("lease id", self.lease_id, _ID_SIZE)
        _require_bytes("claims digest", self.digest, _DIGEST_SIZE)
        _require_bytes("decision digest", self.decision, _DIGEST_SIZE)
        scope.check(self.scope)
        text = self.audience
        if type(text) is not str or not 0 < len(text) <= _MAX_TEXT or not text.isprintable():
            raise ValueError("the audience of a delegation's root is no printable text")
        if type(self.expires_at) is not int or not 0 <= self.expires_at <= _MAX_NUMBER:
            raise ValueError("the end of a delegation's root is no time")


@dataclass(frozen=True, slots=True)
class DelegationLink:
    """One grant, and the lease that it became.

    Attributes:
        lease_id: Of the lease made for this grant; the last one's is the token's own.
        thumbprint: RFC 7638 thumbprint of the key that it was granted to.
        grant: What the holder before signed: a compact JWS, unverified.
    """

    lease_id: bytes
    thumbprint: bytes
    grant: str

    def __post_init__(self) -> None:
        _require_bytes("lease id", self.lease_id, _ID_SIZE)
        _require_bytes("thumbprint", self.thumbprint, _DIGEST_SIZE)
        grant = self.grant
        if type(grant) is not str or not 0 < len(grant) <= MAX_GRANT or not grant.isascii():
            raise ValueError(f"a grant is ASCII text of 1 to {MAX_GRANT} characters")


@dataclass(frozen=True, slots=True)
class Delegation:
    """Where a delegated lease comes from: unverified until ``verify_chain`` says so.

    Attributes:
        root: The lease that the chain began with.
        links: Every grant, the first first; 1 to ``MAX_DEPTH``.
    """

    root: DelegationRoot
    links: tuple[DelegationLink, ...]

    def __post_init__(self) -> None:
        if type(self.links) is not tuple or not 0 < len(self.links) <= MAX_DEPTH:
            raise ValueError(f"a delegation has 1 to {MAX_DEPTH} grants")

    @property
    def depth(self) -> int:
        """How many grants lie between the node's own lease and this one."""
        return len(self.links)

    def to_cwt(self) -> list[list[Any]]:
        """Return the CWT form."""
        root = self.root
        return [
            [
                *(root.lease_id, root.digest, root.decision, " ".join(root.scope), root.audience),
                *(root.expires_at, root.status.value, root.confirmation.cose()),
            ],
            *([link.lease_id, link.thumbprint, link.grant] for link in self.links),
        ]

    @classmethod
    def from_cwt(cls, value: object) -> Delegation:
        """Read the decoded CWT form.

        Raises:
            ValueError: It has another form; or ``TypeError``.
        """
        first, *links = _array(value)
        lease_id, digest, decision, names, audience, expires_at, status, key = _array(first)
        root = DelegationRoot(
            *(lease_id, digest, decision, scope.parse(names), audience, expires_at),
            *(tier_from_value(status), PublicKey.from_cose(key)),
        )
        return cls(root, tuple(DelegationLink(*_array(link)) for link in links))

    def to_jwt(self) -> dict[str, Any]:
        """Return the JWT form."""
        root, text = self.root, base64url.encode
        return {
            "root": {
                "jti": text(root.lease_id),
                "digest": text(root.digest),
                "decision": text(root.decision),
                "scope": " ".join(root.scope),
                "aud": root.audience,
                "exp": root.expires_at,
                "ear_status": root.status.label,
                "jwk": root.confirmation.jwk(),
            },
            "links": [
                {"jti": text(link.lease_id), "jkt": text(link.thumbprint), "grant": link.grant}
                for link in self.links
            ],
        }

    @classmethod
    def from_jwt(cls, value: object) -> Delegation:
        """Read the decoded JWT form.

        Raises:
            ValueError: It has another form; or ``TypeError``, ``KeyError``, ``MalformedError``.
        """
        data = base64url.decode
        members = _map(value)
        first = _map(members["root"])
        root = DelegationRoot(
            lease_id=data(first["jti"]),
            digest=data(first["digest"]),
            decision=data(first["decision"]),
            scope=scope.parse(first["scope"]),
            audience=first["aud"],
            expires_at=first["exp"],
            status=_tier(first["ear_status"]),
            confirmation=PublicKey.from_jwk(first["jwk"]),
        )
        links = [_map(link) for link in _array(members["links"])]
        return cls(
            root,
            tuple(
                DelegationLink(data(link["jti"]), data(link["jkt"]), link["grant"])
                for link in links
            ),
        )

    def actors(self) -> dict[str, Any]:
        """Return RFC 8693's ``act``: who acts now, within it who granted, down to the root.

        For readers of logs: nothing is decided by it.
        """
        prints = [self.root.confirmation.thumbprint(), *(link.thumbprint for link in self.links)]
        actor: dict[str, Any] = {}
        for each in prints:
            within = {"act": actor} if actor else {}
            actor = {"sub": _THUMBPRINT_URI + base64url.encode(each), **within}
        return actor


_THUMBPRINT_URI: Final = "urn:ietf:params:oauth:jwk-thumbprint:sha-256:"
"""RFC 9278 §3."""


def _require_bytes(what: str, value: object, size: int) -> None:
    if type(value) is not bytes or len(value) != size:
        raise ValueError(f"the {what} of a delegation is not {size} bytes")


def _tier(value: object) -> Tier:
    if type(value) is not str or value not in TIERS_BY_LABEL:
        raise ValueError("the status of a delegation's root is no tier")
    return TIERS_BY_LABEL[value]


def _array(value: object) -> Sequence[Any]:
    if type(value) is not list:
        raise ValueError("a delegation lacks an array")
    return value


def _map(value: object) -> Mapping[str, Any]:
    if type(value) is not dict:
        raise ValueError("a delegation lacks an object")
    return value


class DelegatedLease(Protocol):
    """What this module asks of a token's claims."""

    @property
    def lease_id(self) -> bytes:
        """16 bytes."""

    @property
    def digest(self) -> bytes:
        """Of the claims."""

    @property
    def scope(self) -> tuple[str, ...]:
        """Scope names."""

    @property
    def audience(self) -> str:
        """Relying party."""

    @property
    def expires_at(self) -> int:
        """First second at which it is over."""

    @property
    def confirmation(self) -> PublicKey:
        """The holder's key."""

    @property
    def delegation(self) -> Delegation | None:
        """Where it comes from, if a holder delegated it."""


@dataclass(frozen=True, slots=True)
class VerifiedChain:
    """A chain of grants in which each is within the one before. Made by ``verify_chain``.

    Attributes:
        root: The lease that the chain began with, as the issuer states it.
        grants: Every grant, the first first.
        holding: What the token's holder has at its end, and may pass on.
    """

    root: DelegationRoot
    grants: tuple[VerifiedGrant, ...]
    holding: Holding

    @property
    def depth(self) -> int:
        """How many grants lie between the node's own lease and the token."""
        return len(self.grants)

    @property
    def lease_ids(self) -> tuple[bytes, ...]:
        """Every lease of the chain, the root first: one that has ended ends the token."""
        return self.holding.lease_ids


def verify_chain(claims: DelegatedLease) -> VerifiedChain:
    """Prove that every holder of a delegated lease was given it by the one before, and no more.

    Each grant must be signed with the key of the holder before, name the chain so far, be within
    what that holder has in scope, audience, end and depth, and be to a key that is new in the
    chain; and the token must say what the last grant says. Does not prove that the leases of the
    chain still count: look up each of ``lease_ids`` in the issuer's status list. What the root
    lease says is the issuer's word.

    Args:
        claims: Of a token whose signature has been verified, with a delegation.

    Raises:
        VerificationError: With every check that failed up to the first link that breaks.
        ValueError: The claims have no delegation.
    """
    delegation = claims.delegation
    if delegation is None:
        raise ValueError("the token was not delegated")
    root = delegation.root
    holding = _own(root.confirmation, root.lease_id, root.digest, root)
    grants = []
    for link in delegation.links:
        try:
            grant = verify_grant(link.grant, holding)
        except MalformedError as exc:
            raise VerificationError(
                Finding("delegation.grant.malformed", f"A grant does not parse: {exc}.")
            ) from exc
        if link.thumbprint != grant.thumbprint:
            raise VerificationError(
                Finding(
                    "delegation.link.mismatch",
                    "The chain names another key than its grant is to.",
                    expected=base64url.encode(grant.thumbprint),
                    seen=base64url.encode(link.thumbprint),
                )
            )
        if link.lease_id in holding.lease_ids:
            raise VerificationError(
                Finding(
                    "delegation.lease.repeated",
                    "The chain has one lease twice.",
                    seen=link.lease_id.hex(),
                )
            )
        holding = holding.after(grant, link.lease_id)
        grants.append(grant)
    findings = _end_findings(claims, holding)
    if findings:
        raise VerificationError(*findings)
    return VerifiedChain(root, tuple(grants), holding)


def holding_of(claims: DelegatedLease) -> Holding:
    """Return what the holder of a token may pass on, the chain it comes from verified.

    Args:
        claims: Of a token whose signature has been verified.

    Raises:
        VerificationError: As ``verify_chain``.
    """
    if claims.delegation is not None:
        return verify_chain(claims).holding
    return _own(claims.confirmation, claims.lease_id, claims.digest, claims)


class _Extent(Protocol):
    @property
    def scope(self) -> tuple[str, ...]: ...

    @property
    def audience(self) -> str: ...

    @property
    def expires_at(self) -> int: ...


def _own(key: PublicKey, lease_id: bytes, digest: bytes, extent: _Extent) -> Holding:
    """Return what a lease gives to its holder that nobody delegated."""
    thumbprint = key.thumbprint()
    return Holding(
        *(thumbprint, extent.scope, extent.audience, extent.expires_at, MAX_DEPTH, digest),
        *((thumbprint,), (lease_id,)),
    )


def _end_findings(claims: DelegatedLease, holding: Holding) -> list[Finding]:
    """Return a finding where the token does not say what the last grant of its chain says.

    Equal, not merely narrower: what follows is measured by the grant, so a token that said less
    would let its holder pass on more than it has.
    """
    said = {
        "confirmation key": (claims.confirmation.thumbprint(), holding.thumbprint),
        "scope": (claims.scope, holding.scope),
        "audience": (claims.audience, holding.audience),
        "end": (claims.expires_at, holding.expires_at),
        "lease id": (claims.lease_id, holding.lease_ids[-1]),
    }
    return [
        Finding(
            "delegation.end.mismatch",
            f"The token's {name} is not that of the last grant of its chain.",
        )
        for name, (stated, granted) in said.items()
        if stated != granted
    ]
