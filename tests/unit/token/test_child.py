"""What the token of a delegated lease says, and what it has from its parent."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Final

import pytest

from bootlease.testing.chains import KEYS, narrowed, pass_on, root_claims, sign_wish, trusting
from bootlease.testing.tokens import NOW
from bootlease.token import ExecutionClaims, KeyProtection, Tier, TrustVector, VerifierID
from bootlease.token.child import child_claims, root_of

PARENT: Final = root_claims(protection=KeyProtection.TPM, level=2)
GRANT: Final = trusting(sign_wish(narrowed(PARENT, 1), KEYS[0], PARENT.digest))
INHERITED: Final = {
    *("issuer", "subject", "appraisal_policies", "nonce", "lineage", "boot", "policy"),
    *("reference", "evidence"),
}


def child() -> ExecutionClaims:
    """Return the claims of the child."""
    return child_claims(
        PARENT,
        GRANT,
        KEYS[1].public,
        lease_id=b"l" * 12 + bytes(4),
        decision=b"d" * 32,
        verifier=VerifierID("other", "2"),
        now=NOW + 1,
    )


def test_a_child_claims_nothing_of_its_own_machine() -> None:
    """No tier, no vector, no enforcement level, and a key that may be anywhere."""
    made = child()
    assert (made.status, made.vector) == (Tier.NONE, TrustVector(instance_identity=0))
    assert (made.protection, made.level) == (KeyProtection.PROCESS, None)


def test_a_child_names_under_what_it_lives() -> None:
    """That is the root's; everything else is the grant's, or the verifier's that gives it."""
    made = child()
    same = {
        field.name
        for field in fields(ExecutionClaims)
        if field.init and getattr(made, field.name) == getattr(PARENT, field.name)
    }
    assert same == INHERITED | {"scope", "audience", "expires_at"}
    assert (made.scope, made.audience, made.expires_at) == (
        GRANT.scope,
        GRANT.audience,
        GRANT.expires_at,
    )
    assert made.confirmation == KEYS[1].public
    assert (made.issued_at, made.not_before) == (NOW + 1, NOW + 1)
    assert made.decision == b"d" * 32
    assert made.verifier.build == "2"


def test_the_root_keeps_what_was_appraised() -> None:
    """Also at the end of a longer chain, where no parent has it any more."""
    second = pass_on(child(), narrowed(child(), 2), KEYS[1])
    for claims in (child(), second):
        assert claims.delegation is not None
        root = claims.delegation.root
        assert root == root_of(claims) == root_of(PARENT)
        assert (root.status, root.decision) == (PARENT.status, PARENT.decision)
        assert (root.digest, root.lease_id) == (PARENT.digest, PARENT.lease_id)
        assert root.confirmation == PARENT.confirmation


def test_another_key_than_the_grants_gets_nothing() -> None:
    """The caller has mixed something up."""
    with pytest.raises(ValueError, match="another key"):
        child_claims(
            PARENT,
            GRANT,
            KEYS[2].public,
            lease_id=bytes(16),
            decision=bytes(32),
            verifier=PARENT.verifier,
            now=NOW,
        )


def test_the_audience_is_the_grants() -> None:
    """Whoever verified the grant decided that it is the lease's own; here it is only taken over."""
    made = child_claims(
        PARENT,
        replace(GRANT, audience="https://other.example"),
        KEYS[1].public,
        lease_id=bytes(16),
        decision=bytes(32),
        verifier=PARENT.verifier,
        now=NOW,
    )
    assert made.audience == "https://other.example"
