"""Execution tokens for tests of relying parties: real signatures, invented claims.

A program that accepts bootlease tokens can be tested against these without a verifier: sign with
``FakeIssuer``, give its ``keys`` to the program's ``TokenChecker``.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from bootlease.token import (
    BootClaim,
    ExecutionClaims,
    KeyProtection,
    KeySet,
    LineageClaim,
    PolicyClaim,
    PrivateKeySigner,
    ReferenceClaim,
    Tier,
    TokenFormat,
    TrustVector,
    VerificationKey,
    VerifierID,
    sign_cwt,
    sign_jwt,
)
from bootlease.token.continuity import Continuity, Statement, sign_statement, verify_statement
from bootlease.token.statuslist import STATUS_RING, StatusList

ISSUER: Final = "https://verifier.example"
AUDIENCE: Final = "https://tools.example"
NOW: Final = 1_900_000_000
"""When the claims of ``execution_claims`` were issued."""

LIFE: Final = 120
VALID: Final = 300
"""Seconds for which a continuity statement counts."""


def fixed_signer(secret: int) -> PrivateKeySigner:
    """Return a P-256 signer whose key is the same in every run; its secret is public."""
    return PrivateKeySigner(ec.derive_private_key(secret, ec.SECP256R1()))


HOLDER: Final = fixed_signer(4711)
"""The confirmation key's signer."""


def execution_claims(number: int = 0, **changes: Any) -> ExecutionClaims:  # noqa: ANN401 - any claim
    """Return the claims of a renewal.

    Args:
        number: Makes digests and ids distinct.
        changes: Attributes of ``ExecutionClaims`` to set otherwise.
    """

    def digest(name: str) -> bytes:
        return hashlib.sha256(f"{name} {number}".encode()).digest()

    claims = ExecutionClaims(
        issuer=ISSUER,
        subject=digest("node").hex(),
        audience=AUDIENCE,
        issued_at=NOW,
        not_before=NOW,
        expires_at=NOW + LIFE,
        lease_id=digest("lease")[:12] + (number % STATUS_RING).to_bytes(4, "big"),
        scope=("tools:read", "repo:acme:*"),
        confirmation=HOLDER.public,
        protection=KeyProtection.PROCESS,
        verifier=VerifierID("https://bootlease.dev", "bootlease 0.1.0"),
        status=Tier.AFFIRMING,
        vector=TrustVector(instance_identity=2, configuration=2, executables=3, hardware=2),
        appraisal_policies=("fleet",),
        nonce=digest("nonce"),
        lineage=LineageClaim(digest("root"), 7, digest("prev")),
        boot=BootClaim(12, 0),
        policy=PolicyClaim("fleet", digest("policy"), 3),
        reference=ReferenceClaim("debian-12", digest("reference")),
        evidence=digest("evidence"),
        decision=digest("decision"),
    )
    return dataclasses.replace(claims, **changes)


class FakeIssuer:
    """Signs whatever claims it is given, with a key that is no secret."""

    def __init__(self, secret: int = 4712) -> None:
        """Use the P-256 key with this secret number."""
        self.signer: Final = fixed_signer(secret)
        self.keys: Final = KeySet((VerificationKey(self.signer.public),))

    def token(
        self, claims: ExecutionClaims, token_format: TokenFormat = TokenFormat.CWT
    ) -> bytes | str:
        """Return ``claims`` signed in the given format."""
        if token_format is TokenFormat.CWT:
            return self.cwt(claims)
        return sign_jwt(claims, self.signer, token_format)

    def statement(self, **changes: Any) -> str:  # noqa: ANN401 - any member
        """Return a signed continuity statement of the time ``NOW`` by which nothing has ended.

        Args:
            changes: Attributes of ``Statement`` to set otherwise, and ``revoked``: the status
                indexes of leases that have ended.
        """
        revoked: Iterable[int] = changes.pop("revoked", ())
        said: dict[str, Any] = {
            "issuer": ISSUER,
            "issued_at": NOW,
            "sequence": 1,
            "min_epoch": 0,
            "key_ids": frozenset({self.signer.key_id}),
            "status": StatusList.of(revoked),
            **changes,
        }
        said.setdefault("expires_at", said["issued_at"] + VALID)
        return sign_statement(Statement(**said), self.signer)

    def continuity(self, **changes: Any) -> Continuity:  # noqa: ANN401 - any member
        """Return the same, verified."""
        text, at = self.statement(**changes), changes.get("issued_at", NOW)
        issuer = changes.get("issuer", ISSUER)
        return verify_statement(text, self.keys, now=at, issuer=issuer, leeway=0)

    def cwt(self, claims: ExecutionClaims) -> bytes:
        """Return ``claims`` signed as a CWT."""
        return sign_cwt(claims, self.signer)

    def jwt(self, claims: ExecutionClaims) -> str:
        """Return ``claims`` signed as a JWT."""
        return sign_jwt(claims, self.signer)
