"""A relying party's checks of tokens and requests."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from bootlease.errors import MalformedError, VerificationError
from bootlease.relyingparty import ReplayCache, StaticKeys, TokenChecker, UnsafeNoContinuity
from bootlease.testing.tokens import (
    AUDIENCE,
    HOLDER,
    ISSUER,
    LIFE,
    NOW,
    FakeIssuer,
    execution_claims,
    fixed_signer,
)
from bootlease.token import KeySet, TokenFormat, base64url, make_proof
from bootlease.token.cwt import sign_cwt

ISSUED = FakeIssuer()
URL = "https://tools.example/run"


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        """Return what was set."""
        return self.now


class RotatingKeys:
    """A key source whose set a test exchanges."""

    def __init__(self, keys: KeySet, fresh: KeySet | None = None) -> None:
        self.keys = keys
        self.fresh = fresh
        self.refreshed = 0

    def key_set(self) -> KeySet:
        """Return the present set."""
        return self.keys

    def refresh(self) -> KeySet:
        """Exchange the set and count."""
        self.refreshed += 1
        self.keys = self.fresh or self.keys
        return self.keys


@pytest.fixture
def clock() -> Clock:
    """Return a clock at the time of issue."""
    return Clock()


def checker(clock: Clock, keys: Any = None, **options: Any) -> TokenChecker:
    """Return a checker of the tests' audience."""
    source = keys or StaticKeys(ISSUED.keys)
    options = {"continuity": UnsafeNoContinuity(), "clock": clock, **options}
    return TokenChecker(source, issuer=ISSUER, audience=AUDIENCE, **options)


def text_token(number: int = 0, token_format: TokenFormat = TokenFormat.JWT) -> str:
    """Return a token as HTTP carries it."""
    if token_format is TokenFormat.JWT:
        return ISSUED.jwt(execution_claims(number))
    return base64url.encode(ISSUED.cwt(execution_claims(number)))


_jti = itertools.count()


def request(token: str | None = None, **changes: Any) -> dict[str, Any]:
    """Return the arguments of a good request, changed."""
    token = token or text_token()
    options = {"htm": "POST", "htu": URL, "iat": NOW, "jti": str(next(_jti)), "access_token": token}
    proof = make_proof(HOLDER, **{**options, **changes})
    return {"authorization": f"DPoP {token}", "dpop": proof, "method": "POST", "url": URL}


def refusal(checker: TokenChecker, **arguments: Any) -> str:
    """Return the id of the first finding."""
    with pytest.raises(VerificationError) as caught:
        checker.check_request(**arguments)
    return caught.value.findings[0].id


@pytest.mark.parametrize("token_format", list(TokenFormat))
def test_good_request_passes(clock: Clock, token_format: TokenFormat) -> None:
    """Token and proof of either format are accepted, with the scope that is asked."""
    arguments = request(text_token(0, token_format))
    checked = checker(clock).check_request(**arguments, scope="repo:acme:widgets")
    assert checked.token.claims == execution_claims()
    assert checked.proof.thumbprint == HOLDER.public.thumbprint()


def test_scheme_is_compared_without_case(clock: Clock) -> None:
    """RFC 9110 §11.1: authentication schemes are case-insensitive."""
    arguments = request()
    arguments["authorization"] = "dpop" + arguments["authorization"][4:]
    assert checker(clock).check_request(**arguments)


def test_scope_that_is_not_granted_is_refused(clock: Clock) -> None:
    """What the token does not cover is not done."""
    assert refusal(checker(clock), **request(), scope="tools:write") == "token.scope.insufficient"


@pytest.mark.parametrize("authorization", [None, "", "DPoP", "Bearer {}", "Basic {}", "{}"])
def test_request_without_a_bound_token_is_refused(clock: Clock, authorization: str | None) -> None:
    """A bearer token is not accepted, nor is none."""
    arguments = request()
    token = arguments["authorization"].removeprefix("DPoP ")
    arguments["authorization"] = authorization and authorization.format(token)
    assert refusal(checker(clock), **arguments) == "request.token.missing"


@pytest.mark.parametrize("dpop", [None, ""])
def test_request_without_proof_is_refused(clock: Clock, dpop: str | None) -> None:
    """A stolen token alone is worth nothing."""
    assert refusal(checker(clock), **{**request(), "dpop": dpop}) == "request.proof.missing"


def test_proof_is_used_once(clock: Clock) -> None:
    """The same request again is a replay, as long as its proof could pass."""
    party, arguments = checker(clock), request()
    party.check_request(**arguments)
    assert refusal(party, **arguments) == "pop.replayed"
    clock.now = NOW + 65
    assert refusal(party, **arguments) == "pop.replayed"
    clock.now = NOW + 66
    assert refusal(party, **arguments) == "pop.too-old"


def test_proof_with_a_clock_ahead_is_used_once(clock: Clock) -> None:
    """A proof made by a clock that is ahead passes longer, and is remembered as long."""
    party, arguments = checker(clock), request(iat=NOW + 5)
    party.check_request(**arguments)
    clock.now = NOW + 70
    assert refusal(party, **arguments) == "pop.replayed"


def test_refused_request_does_not_use_up_its_proof(clock: Clock) -> None:
    """Only a proof that was verified is remembered: nobody fills the cache with rubbish."""
    party, arguments = checker(clock, replay=ReplayCache(keep=70, capacity=1)), request()
    assert refusal(party, **{**arguments, "method": "GET"}) == "pop.method.mismatch"
    assert party.check_request(**arguments)


def test_two_holders_may_choose_the_same_jti(clock: Clock) -> None:
    """Proof ids belong to their key."""
    party, other = checker(clock), fixed_signer(13)
    party.check_request(**request(jti="same"))
    token = ISSUED.jwt(execution_claims(confirmation=other.public))
    proof = make_proof(other, htm="POST", htu=URL, iat=NOW, jti="same", access_token=token)
    assert party.check_request(authorization=f"DPoP {token}", dpop=proof, method="POST", url=URL)


def test_full_replay_cache_refuses_instead_of_forgetting(clock: Clock) -> None:
    """No room means no, until what is remembered is too old to be used again."""
    party = checker(clock, replay=ReplayCache(keep=70, capacity=2))
    first = request()
    party.check_request(**first)
    party.check_request(**request())
    assert refusal(party, **request()) == "pop.replay.full"
    assert refusal(party, **first) == "pop.replayed"
    clock.now = NOW + 70
    assert party.check_request(**request(iat=NOW + 70))


@pytest.mark.parametrize("token_format", list(TokenFormat))
def test_remembered_token_still_ends(clock: Clock, token_format: TokenFormat) -> None:
    """A token that was seen before is refused from its expiry on."""
    party, token = checker(clock), text_token(0, token_format)
    first = party.check(token)
    assert party.check(token) is first
    clock.now = NOW + LIFE + 5
    with pytest.raises(VerificationError) as caught:
        party.check(token)
    assert caught.value.findings[0].id == "token.expired"


def test_remembered_token_is_judged_by_each_scope(clock: Clock) -> None:
    """Being remembered is no answer to what is asked this time."""
    party, token = checker(clock), text_token()
    assert party.check(token, scope="tools:read")
    with pytest.raises(VerificationError):
        party.check(token, scope="tools:write")


def test_withdrawn_key_takes_remembered_tokens_with_it(clock: Clock) -> None:
    """When the key set changes, nothing is remembered from before."""
    keys = RotatingKeys(ISSUED.keys)
    party, token = checker(clock, keys), text_token()
    party.check(token)
    keys.keys = FakeIssuer(99).keys
    with pytest.raises(VerificationError) as caught:
        party.check(token)
    assert caught.value.findings[0].id == "token.key.unknown"


def test_unknown_key_is_looked_up_once(clock: Clock) -> None:
    """A rotation is noticed by the first token of the new key."""
    keys = RotatingKeys(FakeIssuer(99).keys, ISSUED.keys)
    party = checker(clock, keys)
    assert party.check(text_token())
    assert keys.refreshed == 1


def test_bad_signature_fetches_no_keys(clock: Clock) -> None:
    """Only an unknown key is a reason to ask for keys."""
    keys = RotatingKeys(ISSUED.keys)
    with pytest.raises(VerificationError):
        checker(clock, keys).check(text_token()[:-8] + "AAAAAAAA")
    assert keys.refreshed == 0


def test_memory_of_tokens_is_bounded(clock: Clock) -> None:
    """The oldest is forgotten, and checked anew when it comes again."""
    party = checker(clock, max_seen=2)
    tokens = [text_token(number) for number in range(3)]
    first, *_ = [party.check(token) for token in tokens]
    assert party.check(tokens[2]) is party.check(tokens[2])
    assert party.check(tokens[0]) is not first


def test_several_tokens_are_remembered(clock: Clock) -> None:
    """One does not push out another while there is room."""
    party, tokens = checker(clock), [text_token(number) for number in range(3)]
    first = [party.check(token) for token in tokens]
    assert all(party.check(token) is was for token, was in zip(tokens, first, strict=True))


@pytest.mark.parametrize("token_format", list(TokenFormat))
def test_what_is_remembered_is_small_and_says_the_same(
    clock: Clock, token_format: TokenFormat
) -> None:
    """Of thousands of tokens the payload is kept, from which the claims can be read."""
    party, token = checker(clock), ISSUED.token(execution_claims(), token_format)
    verified = party.check(token)
    assert not verified.members
    party.recheck(verified)
    assert verified.claims == execution_claims()
    assert party.check(token) is verified


def test_nothing_is_remembered_where_that_is_asked(clock: Clock) -> None:
    """A size of 0 turns the memory off."""
    party, token = checker(clock, max_seen=0), text_token()
    assert party.check(token) is not party.check(token)


@pytest.mark.parametrize(("issuer", "audience"), [("", "a"), ("a", "")])
def test_issuer_and_audience_are_demanded(issuer: str, audience: str) -> None:
    """There is no checker that accepts any audience."""
    with pytest.raises(ValueError, match="issuer and an audience"):
        TokenChecker(
            StaticKeys(ISSUED.keys),
            issuer=issuer,
            audience=audience,
            continuity=UnsafeNoContinuity(),
        )


def test_continuity_is_demanded() -> None:
    """Who goes without says so in so many words."""
    with pytest.raises(ValueError, match="UnsafeNoContinuity"):
        checker(Clock(), continuity=None)


@pytest.mark.parametrize("leeway", [-1, 61])
def test_leeway_is_bounded(leeway: int) -> None:
    """A leeway of an hour would be a life of an hour."""
    with pytest.raises(ValueError, match="leeway"):
        checker(Clock(), leeway=leeway)
    assert checker(Clock(), leeway=0)
    assert checker(Clock(), leeway=60)


@pytest.mark.parametrize("token", ["é", "a.b.c", "", "AAAA"])
def test_malformed_token_in_a_request_is_malformed(clock: Clock, token: str) -> None:
    """What is no token is said to be none."""
    arguments = request()
    with pytest.raises((MalformedError, VerificationError)):
        checker(clock).check_request(**{**arguments, "authorization": f"DPoP {token}"})


def test_claims_outside_the_model_are_refused_at_the_check(clock: Clock) -> None:
    """The checker reads every claim before it accepts, whatever the issuer signed."""
    from bootlease.token import strictjson  # noqa: PLC0415
    from bootlease.token.jwt import _header  # noqa: PLC0415

    members = {**execution_claims().to_jwt(), "jti": "AAAA"}
    signer = ISSUED.signer
    payload = base64url.encode(strictjson.serialise(members))
    text = f"{_header(signer.algorithm, signer.key_id, TokenFormat.JWT)}.{payload}"
    with pytest.raises(MalformedError):
        checker(clock).check(f"{text}.{base64url.encode(signer.sign(text.encode()))}")


@pytest.mark.parametrize(
    ("keep", "options"), [(69.9, {}), (60, {"leeway": 1}), (70, {"leeway": 6})]
)
def test_a_replay_cache_must_not_forget_what_may_still_pass(
    clock: Clock, keep: float, options: dict[str, Any]
) -> None:
    """A shared one that forgets early would let a proof pass twice."""
    with pytest.raises(ValueError, match="forgets proofs"):
        checker(clock, replay=ReplayCache(keep=keep), **options)
    bound = {"proof_max_age": 3, "leeway": 2}
    assert checker(clock, replay=ReplayCache(keep=7), **bound)


def test_a_long_token_is_checked_but_not_remembered(clock: Clock) -> None:
    """What nobody signed can be made long by whoever has a token: it would fill the memory."""
    party = checker(clock)
    short, long = (
        base64url.encode(
            sign_cwt(execution_claims(), ISSUED.signer, unprotected={394: [bytes(size)]})
        )
        for size in (1024, 8 * 1024)
    )
    assert party.check(short) is party.check(short)
    assert party.check(long) is not party.check(long)
    assert party.check(long).claims == party.check(short).claims


def test_replay_cache_needs_room_and_time() -> None:
    """A cache that remembers nothing is a mistake."""
    for options in ({"keep": 0.0}, {"keep": 1.0, "capacity": 0}):
        with pytest.raises(ValueError, match="keeps something"):
            ReplayCache(**options)  # type: ignore[arg-type]  # mixed test options
    assert ReplayCache(keep=0.5, capacity=1).keep == 0.5


def test_the_token_is_what_follows_the_scheme(clock: Clock) -> None:
    """Blanks around it are HTTP's; any other white space is no part of a token."""
    token = text_token()
    arguments = request(token)
    blanks = {**arguments, "authorization": f"DPoP  {token} "}
    assert checker(clock).check_request(**blanks).token.claims == execution_claims()
    for odd in ("\t", "\n", "\N{NO-BREAK SPACE}"):
        with pytest.raises(MalformedError):
            checker(clock).check_request(**{**arguments, "authorization": f"DPoP {token}{odd}"})


@pytest.mark.parametrize("leeway", [0, 30])
def test_the_leeway_asked_for_holds_for_every_time(clock: Clock, leeway: int) -> None:
    """A token from further ahead than that is refused, and one from less far is not."""
    token = text_token()
    clock.now = NOW - leeway
    assert checker(clock, leeway=leeway).check(token)
    clock.now -= 1
    with pytest.raises(VerificationError) as caught:
        checker(clock, leeway=leeway).check(token)
    assert "token.issued.future" in [finding.id for finding in caught.value.findings]


def test_the_age_asked_for_is_that_of_proofs(clock: Clock) -> None:
    """And the leeway is theirs as well."""
    strict = {"proof_max_age": 5, "leeway": 0}
    clock.now = NOW + 5
    assert checker(clock, **strict).check_request(**request())
    clock.now = NOW + 6
    assert refusal(checker(clock, **strict), **request()) == "pop.too-old"
    clock.now = NOW
    assert refusal(checker(clock, **strict), **request(iat=NOW + 1)) == "pop.issued.future"
    lenient = checker(clock, leeway=30)
    assert lenient.check_request(**request(iat=NOW + 30))
