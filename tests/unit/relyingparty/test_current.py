"""What a checker asks of continuity, at each use of a token, remembered or not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bootlease.errors import TransportError, VerificationError
from bootlease.relyingparty import StaticContinuity, StaticKeys, TokenChecker, UnsafeNoContinuity
from bootlease.testing.chains import chain, with_links
from bootlease.testing.tokens import (
    AUDIENCE,
    ISSUER,
    LIFE,
    NOW,
    VALID,
    FakeIssuer,
    execution_claims,
)
from bootlease.token import ExecutionClaims, PolicyClaim, TokenFormat
from bootlease.token.continuity import Continuity

ISSUED = FakeIssuer()
FORMS = pytest.mark.parametrize("form", list(TokenFormat), ids=lambda each: each.name)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        """Return what was set."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock at the time of issue."""
    return Clock()


@pytest.fixture
def source() -> StaticContinuity:
    """A statement by which nothing has ended; tests exchange it."""
    return StaticContinuity(ISSUED.continuity())


@pytest.fixture
def party(clock: Clock, source: StaticContinuity) -> TokenChecker:
    """A relying party that reads the statement."""
    return checker(clock, source)


def checker(clock: Clock, source: Any, **options: Any) -> TokenChecker:
    """Return a checker of the tests' audience."""
    keys = options.pop("keys", None) or StaticKeys(ISSUED.keys)
    return TokenChecker(
        keys, issuer=ISSUER, audience=AUDIENCE, continuity=source, clock=clock, **options
    )


def findings(party: TokenChecker, token: bytes | str) -> list[str]:
    """Return the ids of what is wrong."""
    with pytest.raises(VerificationError) as caught:
        party.check(token)
    return [each.id for each in caught.value.findings]


def ended(party: TokenChecker, claims: ExecutionClaims) -> list[str]:
    """Return the ids of what a second look at a token finds."""
    verified = checker(Clock(), UnsafeNoContinuity(), max_depth=8).check(ISSUED.cwt(claims))
    with pytest.raises(VerificationError) as caught:
        party.recheck(verified)
    return [each.id for each in caught.value.findings]


@FORMS
def test_a_token_against_which_nothing_is_said_passes(
    party: TokenChecker, form: TokenFormat
) -> None:
    """Whether it is new or remembered, and at a second look."""
    token = ISSUED.token(execution_claims(), form)
    verified = party.check(token)
    assert party.check(token) is verified
    party.recheck(verified)


REVOKED = [
    ({"revoked": [0]}, "token.revoked"),
    ({"min_epoch": 4}, "token.epoch.too-old"),
    ({"key_ids": "another"}, "token.key.withdrawn"),
]


def statement(changes: dict[str, Any]) -> Continuity:
    """Return a verified statement with other members."""
    if changes.get("key_ids") == "another":
        other = FakeIssuer(99)
        return other.continuity(key_ids=frozenset({other.signer.key_id}), sequence=2)
    return ISSUED.continuity(sequence=2, **changes)


@FORMS
@pytest.mark.parametrize(("changes", "expected"), REVOKED)
def test_what_the_statement_ends_is_refused_also_when_it_is_remembered(
    party: TokenChecker,
    source: StaticContinuity,
    form: TokenFormat,
    changes: dict[str, Any],
    expected: str,
) -> None:
    """A revoked lease, an ended epoch, a withdrawn key: at once, new or seen before."""
    old, new = (ISSUED.token(execution_claims(), form) for _ in range(2))
    verified = party.check(old)
    source.statement = statement(changes)
    assert findings(party, old) == [expected]
    assert findings(party, new) == [expected]
    with pytest.raises(VerificationError) as caught:
        party.recheck(verified)
    assert [each.id for each in caught.value.findings] == [expected]


def test_all_that_the_statement_says_is_told(party: TokenChecker, source: StaticContinuity) -> None:
    """Key, epoch and lease each have a finding."""
    other = FakeIssuer(99)
    members = {"revoked": [0], "min_epoch": 4, "key_ids": frozenset({other.signer.key_id})}
    source.statement = other.continuity(**members)
    assert findings(party, ISSUED.cwt(execution_claims())) == [
        "token.key.withdrawn",
        "token.epoch.too-old",
        "token.revoked",
    ]


def test_another_lease_is_not_concerned(party: TokenChecker, source: StaticContinuity) -> None:
    """The bit is the lease's own: those beside it end others."""
    source.statement = ISSUED.continuity(revoked=[4, 6, 5 + 256])
    assert party.check(ISSUED.cwt(execution_claims(5)))


def test_the_lowest_epoch_that_counts_counts(party: TokenChecker, source: StaticContinuity) -> None:
    """The minimum is included."""
    source.statement = ISSUED.continuity(min_epoch=3)
    claims = execution_claims(policy=PolicyClaim("fleet", bytes(32), 3))
    assert party.check(ISSUED.cwt(claims))
    source.statement = ISSUED.continuity(min_epoch=3, revoked=[0])
    assert findings(party, ISSUED.cwt(claims)) == ["token.revoked"]


@pytest.mark.parametrize("seconds", [5, 6])
def test_a_stale_statement_refuses_everything(clock: Clock, seconds: int) -> None:
    """Silence is no proof that nothing was revoked: not beyond the leeway for clocks."""
    statement = ISSUED.continuity(expires_at=NOW + 10)
    party = checker(clock, StaticContinuity(statement))
    token = ISSUED.cwt(execution_claims())
    clock.now = NOW + 10 + 4.9
    verified = party.check(token)
    clock.now = NOW + 10 + seconds
    assert findings(party, token) == ["continuity.stale"]
    with pytest.raises(VerificationError):
        party.recheck(verified)


class Waited:
    """A source that is waited for."""

    def __init__(self, clock: Clock, statement: Continuity, seconds: float) -> None:
        self.clock, self.statement, self.seconds = clock, statement, seconds

    def current(self) -> Continuity:
        """Return the statement, a while later."""
        self.clock.now += self.seconds
        return self.statement


@FORMS
def test_what_expires_while_a_statement_is_waited_for_is_refused(
    clock: Clock, form: TokenFormat
) -> None:
    """A slow verifier, or whoever holds its answer back, does not lengthen a lease."""
    source = Waited(clock, ISSUED.continuity(expires_at=NOW + LIFE + 60), 0)
    party = checker(clock, source)
    old, new = (ISSUED.token(execution_claims(), form) for _ in range(2))
    clock.now = NOW + LIFE + 4
    verified = party.check(old)
    source.seconds = 1
    for refused in (old, new):
        clock.now = NOW + LIFE + 4
        assert findings(party, refused) == ["token.expired"]
    clock.now = NOW + LIFE + 4
    with pytest.raises(VerificationError) as caught:
        party.recheck(verified)
    assert [each.id for each in caught.value.findings] == ["token.expired"]


def test_a_statement_that_goes_stale_while_it_is_waited_for_is_refused(clock: Clock) -> None:
    """It is as old as it is when it is used."""
    party = checker(clock, Waited(clock, ISSUED.continuity(expires_at=NOW + 10), 10))
    clock.now = NOW + 4
    assert party.check(ISSUED.cwt(execution_claims()))
    clock.now = NOW + 5
    assert findings(party, ISSUED.cwt(execution_claims())) == ["continuity.stale"]


def test_what_expires_while_keys_are_waited_for_is_refused(clock: Clock) -> None:
    """Also of who chose to know of no revocation."""

    class Slow(StaticKeys):
        def key_set(self) -> Any:
            clock.now += 2
            return super().key_set()

    party = checker(clock, UnsafeNoContinuity(), keys=Slow(ISSUED.keys))
    clock.now = NOW + LIFE + 2
    assert party.check(ISSUED.cwt(execution_claims()))
    clock.now = NOW + LIFE + 3
    assert findings(party, ISSUED.cwt(execution_claims(1))) == ["token.expired"]


@FORMS
def test_a_clock_that_is_set_back_brings_no_lease_to_life(clock: Clock, form: TokenFormat) -> None:
    """The statement in hand is later than what the clock says now: the clock is wrong."""
    later = NOW + LIFE + 10
    statement = ISSUED.continuity(issued_at=later, expires_at=later + 60)
    party = checker(clock, StaticContinuity(statement))
    token = ISSUED.token(execution_claims(), form)
    clock.now = later
    assert findings(party, token) == ["token.expired"]
    clock.now = NOW + 1
    assert findings(party, token) == ["continuity.issued.future"]


def test_a_clock_may_be_behind_the_verifiers_by_the_leeway(clock: Clock) -> None:
    """And by no more."""
    party = checker(clock, StaticContinuity(ISSUED.continuity(issued_at=NOW + 5)))
    assert party.check(ISSUED.cwt(execution_claims()))
    clock.now -= 0.5
    assert findings(party, ISSUED.cwt(execution_claims())) == ["continuity.issued.future"]


def test_a_source_that_fails_refuses(clock: Clock) -> None:
    """Neither an error nor a refusal of the source lets anything pass."""

    class Failing:
        def current(self) -> Continuity:
            raise TransportError("gone")

    with pytest.raises(TransportError):
        checker(clock, Failing()).check(ISSUED.cwt(execution_claims()))


def test_expiry_is_looked_at_again_without_continuity(clock: Clock) -> None:
    """Also of who chose to know of no revocation."""
    party = checker(clock, UnsafeNoContinuity())
    verified = party.check(ISSUED.cwt(execution_claims()))
    party.recheck(verified)
    clock.now = NOW + LIFE + 5
    with pytest.raises(VerificationError) as caught:
        party.recheck(verified)
    assert [each.id for each in caught.value.findings] == ["token.expired"]


def test_a_key_that_left_the_key_set_is_noticed_at_a_second_look(clock: Clock) -> None:
    """A stream does not outlive the key that its token was signed with."""

    class Keys(StaticKeys):
        keys = ISSUED.keys

        def key_set(self) -> Any:
            return self.keys

    keys = Keys(ISSUED.keys)
    party = checker(clock, UnsafeNoContinuity(), keys=keys)
    verified = party.check(ISSUED.cwt(execution_claims()))
    keys.keys = FakeIssuer(99).keys
    with pytest.raises(VerificationError) as caught:
        party.recheck(verified)
    assert [each.id for each in caught.value.findings] == ["token.key.unknown"]


def test_remaining_time_includes_the_leeway(clock: Clock) -> None:
    """It is what is left until the check refuses, and negative afterwards."""
    party = checker(clock, UnsafeNoContinuity(), leeway=3)
    verified = party.check(ISSUED.cwt(execution_claims()))
    assert party.remaining(verified) == LIFE + 3
    clock.now = NOW + LIFE + 4
    assert party.remaining(verified) == -1


def test_a_scope_can_be_demanded_of_a_checked_token(party: TokenChecker) -> None:
    """Afterwards, by whoever knows only then which."""
    verified = party.check(ISSUED.cwt(execution_claims()))
    party.demand_scope(verified, "repo:acme:x")
    with pytest.raises(VerificationError) as caught:
        party.demand_scope(verified, "tools:write")
    assert [each.id for each in caught.value.findings] == ["token.scope.insufficient"]


# -- delegation


def index(lease_id: bytes) -> int:
    """Return a lease's place in the status list."""
    return int.from_bytes(lease_id[-4:], "big")


def test_a_delegated_lease_ends_with_any_that_it_came_from(
    clock: Clock, source: StaticContinuity
) -> None:
    """With the root, and with each link; its own end is told apart."""
    claims = chain(3, number=9)
    token = ISSUED.jwt(claims)
    party = checker(clock, source, max_depth=3)
    assert party.check(token)
    delegation = claims.delegation
    assert delegation is not None
    parents = [delegation.root.lease_id, *(link.lease_id for link in delegation.links[:-1])]
    assert len({index(each) for each in parents}) == 3
    for parent in parents:
        source.statement = ISSUED.continuity(revoked=[index(parent)])
        assert findings(party, token) == ["token.parent.revoked"]
        assert ended(party, claims) == ["token.parent.revoked"]
    source.statement = ISSUED.continuity(revoked=[index(claims.lease_id)])
    assert findings(party, token) == ["token.revoked"]


def test_a_chain_that_does_not_hold_is_refused(clock: Clock, source: StaticContinuity) -> None:
    """Whatever the issuer signed: a grant that is left out is noticed."""
    claims = chain(2)
    assert claims.delegation is not None
    broken = with_links(claims, claims.delegation.links[1:])
    party = checker(clock, source, max_depth=8)
    assert findings(party, ISSUED.cwt(broken))[0].startswith("delegation.")


@pytest.mark.parametrize(("depth", "limit"), [(1, 0), (3, 2)])
def test_depth_is_bounded(clock: Clock, source: StaticContinuity, depth: int, limit: int) -> None:
    """None by default; as many as are allowed, and no more."""
    token = ISSUED.cwt(chain(depth))
    assert findings(checker(clock, source, max_depth=limit), token) == ["token.depth.exceeded"]
    assert checker(clock, source, max_depth=depth).check(token)


def test_nothing_is_delegated_by_default(party: TokenChecker) -> None:
    """A relying party that says nothing takes leases that nodes attested for."""
    assert findings(party, ISSUED.cwt(chain(1))) == ["token.depth.exceeded"]


def test_a_statement_counts_for_as_long_as_it_says(clock: Clock, source: StaticContinuity) -> None:
    """The test's own statements are valid."""
    assert source.statement.expires_at == NOW + VALID
    assert replace(source.statement).key_id == ISSUED.signer.key_id
    del clock
