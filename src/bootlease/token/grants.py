"""A grant: what the holder of a lease signs so that another key gets a child of it.

Specifications: RFC 7515 (compact JWS), RFC 8725 §3.11 (explicit typing), RFC 7638 (thumbprints).
The form is this project's own. Header: ``typ`` ``bootlease-delegation+jwt``, ``alg``, and in
``jwk`` the granting holder's key, which must be the one that the lease confirms. Payload::

    {"parent": chain digest, "jkt": thumbprint of the key granted to, "scope": names,
     "aud": relying party, "exp": seconds, "depth": how often it may be passed on,
     "iat": seconds, "jti": an id of its own}

The *chain digest* of a lease that a node attested for is the claims digest of its token. Each
further one is SHA-256 over deterministic CBOR of what came before, and of nothing less::

    ["bootlease/delegation-chain/1", chain digest before, lease id, grant]

so that the last grant of a chain fixes all others, their order, and the lease that each became.

A member that is not in the list is refused, not ignored: it may be a restriction that the holder
relies on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from bootlease import cbor
from bootlease.errors import MalformedError, VerificationError
from bootlease.model import Finding
from bootlease.token import base64url, scope, strictjson
from bootlease.token.jws import (
    encode_header,
    header_text,
    parse_header,
    parse_payload,
    sign_compact,
    verify_compact,
)
from bootlease.token.keys import Signer, algorithms_of
from bootlease.token.publickey import PublicKey

GRANT_TYP: Final = "bootlease-delegation+jwt"
CHAIN_TYPE: Final = "bootlease/delegation-chain/1"

MAX_DEPTH: Final = 8
"""Grants in one chain; a policy may allow fewer."""

MAX_GRANT: Final = 8 * 1024
"""Characters of one grant: a scope has at most 4,127, twice grown by base64url, and an RSA key and
its signature 1,400."""

_DIGEST_SIZE: Final = 32
_MAX_JTI: Final = 128
_MAX_TEXT: Final = 512
_MAX_NUMBER: Final = (1 << 53) - 1
_MEMBERS: Final = frozenset({"parent", "jkt", "scope", "aud", "exp", "depth", "iat", "jti"})

_INVALID_SIGNATURE: Final = Finding(
    "delegation.signature.invalid", "The signature of a grant does not verify."
)
_WRONG_ALGORITHM: Final = Finding(
    "delegation.algorithm.mismatch",
    "A grant names an algorithm that does not belong to its key.",
)


@dataclass(frozen=True, slots=True)
class Grant:
    """A grant: unverified.

    Attributes:
        text: The compact JWS.
        algorithm: As its header names it.
        granter: The key that its header says has signed it.
        parent: Chain digest of the lease that is passed on.
        thumbprint: RFC 7638 thumbprint of the key granted to.
        scope: Scope names.
        audience: Relying party.
        expires_at: First second at which the child is over.
        depth: How many further grants may follow it.
        issued_at: Seconds since the epoch, by the holder's clock.
        jti: Its id; of one key, no two grants share one.
    """

    text: str
    algorithm: str
    granter: PublicKey
    parent: bytes
    thumbprint: bytes
    scope: tuple[str, ...]
    audience: str
    expires_at: int
    depth: int
    issued_at: int
    jti: str

    def __post_init__(self) -> None:
        for name, value in (("parent", self.parent), ("jkt", self.thumbprint)):
            if type(value) is not bytes or len(value) != _DIGEST_SIZE:
                raise ValueError(f"{name} of a grant is not {_DIGEST_SIZE} bytes")
        scope.check(self.scope)
        _require_text("aud", self.audience, _MAX_TEXT)
        _require_text("jti", self.jti, _MAX_JTI)
        _require_number("exp", self.expires_at, _MAX_NUMBER)
        _require_number("iat", self.issued_at, _MAX_NUMBER)
        _require_number("depth", self.depth, MAX_DEPTH - 1)
        if self.issued_at >= self.expires_at:
            raise ValueError("a grant is over before it is made")

    @property
    def digest(self) -> bytes:
        """SHA-256 of its text."""
        return hashlib.sha256(self.text.encode("ascii")).digest()

    @property
    def use(self) -> bytes:
        """SHA-256 that names the one use there is of it: by its key and ``jti``."""
        named = cbor.encode(["bootlease/delegation-use/1", self.granter.thumbprint(), self.jti])
        return hashlib.sha256(named).digest()


@dataclass(frozen=True, slots=True)
class VerifiedGrant(Grant):
    """A grant that the holder of a lease made, within what it holds. Made by ``verify_grant``."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What the holder of a lease may pass on; as good as the token that it was read from.

    Attributes:
        thumbprint: Of the holder's key.
        scope: Scope names.
        audience: Relying party.
        expires_at: First second at which it is over.
        depth: How many grants may follow.
        head: Chain digest.
        keys: Thumbprints of every holder so far, this one last.
        lease_ids: Of every lease so far, this one last.
    """

    thumbprint: bytes
    scope: tuple[str, ...]
    audience: str
    expires_at: int
    depth: int
    head: bytes
    keys: tuple[bytes, ...] = field(default=())
    lease_ids: tuple[bytes, ...] = field(default=())

    def within(self, depth: int) -> Holding:
        """Return the same under a bound of its own on how many grants may follow."""
        return replace(self, depth=min(self.depth, depth))

    def after(self, grant: VerifiedGrant, lease_id: bytes) -> Holding:
        """Return what the key granted to holds, once the grant has become a lease."""
        return Holding(
            thumbprint=grant.thumbprint,
            scope=grant.scope,
            audience=grant.audience,
            expires_at=grant.expires_at,
            depth=grant.depth,
            head=chain_digest(self.head, lease_id, grant.text),
            keys=(*self.keys, grant.thumbprint),
            lease_ids=(*self.lease_ids, lease_id),
        )


def chain_digest(before: bytes, lease_id: bytes, grant: str) -> bytes:
    """Return the chain digest of a lease that a grant became.

    Args:
        before: Chain digest of the lease that was passed on.
        lease_id: Of the child, 16 bytes.
        grant: The grant's text.
    """
    return hashlib.sha256(
        cbor.encode([CHAIN_TYPE, before, lease_id, grant.encode("ascii")])
    ).digest()


def make_grant(
    signer: Signer,
    parent: bytes,
    *,
    thumbprint: bytes,
    scope: Sequence[str],
    audience: str,
    expires_at: int,
    depth: int,
    issued_at: int,
    jti: str,
) -> str:
    """Make a grant.

    Args:
        signer: Signs with the key that the lease confirms.
        parent: Chain digest of the lease.
        thumbprint: RFC 7638 thumbprint of the key granted to.
        scope: Scope names, each covered by the lease's.
        audience: The lease's.
        expires_at: Seconds since the epoch, not after the lease's end.
        depth: How many further grants may follow; fewer than may follow the lease.
        issued_at: Seconds since the epoch.
        jti: An id never used before with this key, at least 96 random bits.

    Raises:
        ValueError: A value has not its form. That it is within what the lease holds is not
            checked: ``verify_grant`` does, here or at the verifier.
    """
    key = signer.public
    Grant(
        *("", signer.algorithm.value, key, parent, thumbprint, tuple(scope), audience),
        *(expires_at, depth, issued_at, jti),
    )
    header = {"alg": signer.algorithm.value, "typ": GRANT_TYP, "jwk": key.jwk()}
    members = {
        "parent": base64url.encode(parent),
        "jkt": base64url.encode(thumbprint),
        "scope": " ".join(scope),
        "aud": audience,
        "exp": expires_at,
        "depth": depth,
        "iat": issued_at,
        "jti": jti,
    }
    text = sign_compact(encode_header(header), strictjson.serialise(members), signer)
    if len(text) > MAX_GRANT:
        raise ValueError(f"a grant has at most {MAX_GRANT} characters")
    return text


def parse_grant(text: str) -> Grant:
    """Parse a grant; nothing about it is verified.

    Raises:
        MalformedError: It is none.
    """
    if not text.isascii():
        raise MalformedError("a grant is not ASCII text")
    header = parse_header(header_text(text, max_bytes=MAX_GRANT))
    if header["typ"] != GRANT_TYP:
        raise MalformedError(f"a grant has typ {GRANT_TYP}")
    granter = PublicKey.from_jwk(header.get("jwk"))
    members = strictjson.parse_object(parse_payload(text))
    if members.keys() != _MEMBERS:
        raise MalformedError(f"a grant has exactly the members {', '.join(sorted(_MEMBERS))}")
    try:
        return Grant(
            text=text,
            algorithm=header["alg"],
            granter=granter,
            parent=_digest(members["parent"]),
            thumbprint=_digest(members["jkt"]),
            scope=scope.parse(members["scope"]),
            audience=members["aud"],
            expires_at=members["exp"],
            depth=members["depth"],
            issued_at=members["iat"],
            jti=members["jti"],
        )
    except ValueError as exc:
        raise MalformedError(f"grant: {exc}") from exc


def verify_grant(text: str, holding: Holding) -> VerifiedGrant:
    """Prove that the holder of a lease made this grant, and within what it holds.

    Does not prove that the lease still counts, that ``text`` is used for the first time, nor that
    it is early enough: the caller compares ``expires_at`` and ``issued_at`` with its clock.

    Args:
        text: Unverified.
        holding: What the lease's verified token gives.

    Raises:
        MalformedError: It is no grant.
        VerificationError: With every check that failed, where the signature verifies.
    """
    grant = parse_grant(text)
    # Whose it says to be comes first: the signature would prove no more than that it is its own.
    if grant.granter.thumbprint() != holding.thumbprint:
        raise VerificationError(
            Finding(
                "delegation.key.mismatch",
                "A grant is made with another key than the lease before it confirms.",
                expected=base64url.encode(holding.thumbprint),
                seen=base64url.encode(grant.granter.thumbprint()),
            )
        )
    algorithm = next(
        (a for a in algorithms_of(grant.granter.kind) if grant.algorithm in a.jose_names), None
    )
    if algorithm is None:
        raise VerificationError(_WRONG_ALGORITHM)
    verify_compact(text, grant.granter.load_jose(), algorithm, invalid=_INVALID_SIGNATURE)
    findings = _wider(grant, holding)
    if findings:
        raise VerificationError(*findings)
    return VerifiedGrant(
        *(text, grant.algorithm, grant.granter, grant.parent, grant.thumbprint, grant.scope),
        *(grant.audience, grant.expires_at, grant.depth, grant.issued_at, grant.jti),
    )


def _wider(grant: Grant, holding: Holding) -> list[Finding]:
    """Return a finding for everything in which a grant goes beyond what its holder has."""
    findings = []
    if grant.parent != holding.head:
        findings.append(
            Finding(
                "delegation.parent.mismatch",
                "A grant passes on another lease than the one before it.",
                expected=base64url.encode(holding.head),
                seen=base64url.encode(grant.parent),
            )
        )
    if more := scope.uncovered(holding.scope, grant.scope):
        findings.append(
            Finding(
                "delegation.scope.wider",
                "A grant has a scope that the lease before it does not cover.",
                expected=" ".join(holding.scope),
                seen=" ".join(more),
            )
        )
    if grant.audience != holding.audience:
        findings.append(
            Finding(
                "delegation.audience.mismatch",
                "A grant is for another relying party than the lease before it.",
                expected=holding.audience,
                seen=grant.audience,
            )
        )
    if grant.expires_at > holding.expires_at:
        findings.append(
            Finding(
                "delegation.expires.later",
                "A grant ends later than the lease before it.",
                expected=f"at most {holding.expires_at}",
                seen=str(grant.expires_at),
            )
        )
    if grant.depth >= holding.depth:
        findings.append(
            Finding(
                "delegation.depth.exceeded",
                "A grant lets more grants follow than the lease before it allows.",
                expected=f"fewer than {holding.depth}",
                seen=str(grant.depth),
            )
        )
    if grant.thumbprint in holding.keys:
        findings.append(
            Finding(
                "delegation.key.repeated",
                "A grant is to a key that holds a lease of this chain already.",
                seen=base64url.encode(grant.thumbprint),
            )
        )
    return findings


def _digest(value: Any) -> bytes:  # noqa: ANN401 - unverified
    if type(value) is not str:
        raise MalformedError("a digest in a grant is no text")
    return base64url.decode(value)


def _require_text(name: str, value: object, at_most: int) -> None:
    if type(value) is not str or not 0 < len(value) <= at_most or not value.isprintable():
        raise ValueError(f"{name} of a grant is not text of 1 to {at_most} printable characters")


def _require_number(name: str, value: object, at_most: int) -> None:
    if type(value) is not int or not 0 <= value <= at_most:
        raise ValueError(f"{name} of a grant is not 0 to {at_most}")
