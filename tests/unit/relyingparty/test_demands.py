"""What a relying party demands of a token besides that it counts."""

from __future__ import annotations

from typing import Any

import pytest

from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger import encode_leaf
from bootlease.relyingparty import StaticKeys, TokenChecker, UnsafeNoContinuity
from bootlease.testing.chains import KEYS, narrowed, pass_on, root_claims
from bootlease.testing.sealing import SealedLedger
from bootlease.testing.tokens import AUDIENCE, ISSUER, NOW, FakeIssuer, execution_claims
from bootlease.token import Tier, TokenFormat, TrustVector, base64url
from bootlease.token.receipts import attach_receipt

ISSUED = FakeIssuer()
LEDGER = SealedLedger.create()
FORMS = pytest.mark.parametrize("form", list(TokenFormat), ids=lambda each: each.name)


def checker(**demands: Any) -> TokenChecker:
    """Return a checker that demands these."""
    return TokenChecker(
        StaticKeys(ISSUED.keys),
        issuer=ISSUER,
        audience=AUDIENCE,
        continuity=UnsafeNoContinuity(),
        clock=lambda: float(NOW),
        **demands,
    )


def refused(party: TokenChecker, token: bytes | str, **options: Any) -> list[str]:
    """Return the ids of what is wrong."""
    with pytest.raises(VerificationError) as caught:
        party.check(token, **options)
    return [each.id for each in caught.value.findings]


def with_tier(tier: Tier) -> dict[str, Any]:
    """Return claims of an appraisal of this tier."""
    vector = TrustVector() if tier is Tier.NONE else TrustVector(configuration=tier.value)
    return {"status": tier, "vector": vector}


ACCEPTED = {
    Tier.AFFIRMING: {Tier.AFFIRMING},
    Tier.WARNING: {Tier.AFFIRMING, Tier.WARNING},
    Tier.NONE: {Tier.AFFIRMING, Tier.WARNING, Tier.NONE},
}


@FORMS
@pytest.mark.parametrize("least", list(ACCEPTED), ids=lambda each: each.name)
@pytest.mark.parametrize("tier", list(Tier), ids=lambda each: each.name)
def test_the_appraisal_is_good_enough(form: TokenFormat, least: Tier, tier: Tier) -> None:
    """One that is worse than demanded is refused, as is one that says nothing."""
    token = ISSUED.token(execution_claims(**with_tier(tier)), form)
    if tier in ACCEPTED[least]:
        assert checker(min_tier=least).check(token)
    else:
        assert refused(checker(min_tier=least), token) == ["token.tier.insufficient"]


def test_only_an_affirming_appraisal_will_do_by_default() -> None:
    """Who wants less says so."""
    token = ISSUED.cwt(execution_claims(**with_tier(Tier.WARNING)))
    assert refused(checker(), token) == ["token.tier.insufficient"]


def test_nobody_may_ask_for_contraindicated_nodes() -> None:
    """There is no name for that danger, and so no way."""
    with pytest.raises(ValueError, match="unsound"):
        checker(min_tier=Tier.CONTRAINDICATED)


def test_the_tier_of_a_delegated_lease_is_its_nodes() -> None:
    """A child has no appraisal of its own."""
    root = root_claims(**with_tier(Tier.WARNING))
    child = pass_on(root, narrowed(root, 1), KEYS[0])
    token = ISSUED.jwt(child)
    assert refused(checker(max_depth=1), token) == ["token.tier.insufficient"]
    assert checker(max_depth=1, min_tier=Tier.WARNING).check(token)
    sound = root_claims()
    assert checker(max_depth=1).check(ISSUED.jwt(pass_on(sound, narrowed(sound, 1), KEYS[0])))


@FORMS
@pytest.mark.parametrize("said", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("demanded", [None, 0, 2, 3])
def test_the_level_is_high_enough(
    form: TokenFormat, demanded: int | None, said: int | None
) -> None:
    """Where one is demanded, nothing said is not even level 0."""
    token = ISSUED.token(execution_claims(level=said), form)
    party = checker(require_level=demanded)
    if demanded is None or (said is not None and said >= demanded):
        assert party.check(token)
    else:
        assert refused(party, token) == ["token.level.insufficient"]


@pytest.mark.parametrize("demands", [{"require_level": -1}, {"require_level": 4}])
def test_levels_are_0_to_3(demands: dict[str, Any]) -> None:
    """Another level is a mistake."""
    with pytest.raises(ValueError, match="require_level"):
        checker(**demands)


@pytest.mark.parametrize("depth", [-1, 9])
def test_depths_are_0_to_8(depth: int) -> None:
    """Longer chains are none."""
    with pytest.raises(ValueError, match="max_depth"):
        checker(max_depth=depth)
    assert checker(max_depth=8)


@pytest.mark.parametrize(("said", "seen"), [(None, "none"), (1, "1")])
def test_the_level_that_is_too_low_is_told(said: int | None, seen: str) -> None:
    """And that none was said."""
    with pytest.raises(VerificationError) as caught:
        checker(require_level=2).check(ISSUED.cwt(execution_claims(level=said)))
    (finding,) = caught.value.findings
    assert (finding.expected, finding.seen) == ("at least 2", seen)


def test_every_unmet_demand_is_told() -> None:
    """Depth, tier and level at once."""
    root = root_claims(**with_tier(Tier.WARNING))
    token = ISSUED.cwt(pass_on(root, narrowed(root, 1), KEYS[0]))
    assert refused(checker(require_level=1), token) == [
        "token.depth.exceeded",
        "token.tier.insufficient",
        "token.level.insufficient",
    ]


# -- receipts


def receipt_for(number: int = 0) -> Any:
    """Return the ledger's receipt for a lease."""
    claims = execution_claims(number)
    return LEDGER.append([encode_leaf(claims.decision, claims.digest)])[0]


def test_a_receipt_in_a_cwt_is_verified() -> None:
    """Binary, and as text in HTTP; remembered, it is not asked for again."""
    token = attach_receipt(ISSUED.cwt(execution_claims()), receipt_for().cose())
    party = checker(require_receipt=LEDGER.key)
    assert party.check(token) is party.check(token)
    assert party.check(base64url.encode(token))


def test_a_receipt_beside_a_jwt_is_verified() -> None:
    """It is handed over with the token."""
    token = ISSUED.jwt(execution_claims())
    party = checker(require_receipt=LEDGER.key)
    assert party.check(token, receipt=receipt_for().tlog_proof())


@FORMS
def test_without_receipt_nothing_passes_where_one_is_demanded(form: TokenFormat) -> None:
    """A lease whose decision nobody can prove later is none; elsewhere it is one."""
    token = ISSUED.token(execution_claims(), form)
    assert refused(checker(require_receipt=LEDGER.key), token) == ["token.receipt.missing"]
    assert checker().check(token)


def test_a_proof_beside_a_cwt_does_not_stand_in_for_its_receipt() -> None:
    """A CWT carries its own."""
    token = ISSUED.cwt(execution_claims())
    party = checker(require_receipt=LEDGER.key)
    proof = receipt_for().tlog_proof()
    assert refused(party, token, receipt=proof) == ["token.receipt.missing"]


def test_a_receipt_of_another_lease_or_ledger_proves_nothing() -> None:
    """In either form."""
    party = checker(require_receipt=LEDGER.key)
    other = attach_receipt(ISSUED.cwt(execution_claims()), receipt_for(1).cose())
    assert refused(party, other)[0].startswith("ledger.")
    jwt = ISSUED.jwt(execution_claims())
    assert refused(party, jwt, receipt=receipt_for(1).tlog_proof())[0].startswith("ledger.")
    stranger = checker(require_receipt=SealedLedger.create().key)
    own = attach_receipt(ISSUED.cwt(execution_claims()), receipt_for().cose())
    assert refused(stranger, own)[0].startswith("ledger.")


def test_what_is_no_receipt_is_malformed() -> None:
    """And is not passed over."""
    with pytest.raises(MalformedError):
        checker(require_receipt=LEDGER.key).check(ISSUED.jwt(execution_claims()), receipt=b"x")
