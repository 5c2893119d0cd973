"""An answer must fit what was sent; each check has a case that breaks it alone."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bootlease.errors import VerificationError
from bootlease.evidence import DeniedLease, LeaseAnswer, TokenEncoding, parse_evidence
from bootlease.model import ClockInfo, Effect, Finding
from bootlease.node.renewal.answer import Expectation, verify_answer
from bootlease.node.wish import LeaseWish
from bootlease.token import LineageClaim, PublicKey
from bootlease.tpm import parse_attest

if TYPE_CHECKING:
    from tests.unit.node.conftest import Rig

AUDIENCE = "https://tools.example"


@dataclasses.dataclass
class Exchange:
    """A genuine answer with the expectation it meets."""

    answer: LeaseAnswer
    expected: Expectation
    now: float

    def findings(self) -> list[str]:
        """Return the ids of what does not fit."""
        with pytest.raises(VerificationError) as caught:
            verify_answer(self.answer, self.expected, now=self.now)
        return [finding.id for finding in caught.value.findings]


@pytest.fixture
def exchange(rig: Rig) -> Exchange:
    """A first lease, as it was answered."""
    answers: list[LeaseAnswer] = []

    def keep(answer: LeaseAnswer) -> LeaseAnswer:
        answers.append(answer)
        return answer

    rig.verifier.forge = keep
    agent = rig.start()
    lease = agent.renew()
    assert agent.node is not None
    evidence = parse_evidence(rig.verifier.received[0])
    challenge = dataclasses.replace(answers[0].challenge, nonce=evidence.binding.nonce)
    expected = Expectation(
        bundle=rig.verifier.bundle,
        node=agent.node,
        challenge=challenge,
        evidence=evidence.digest,
        clock=parse_attest(evidence.quote).clock_info,
        wishes=(LeaseWish(("tool:search",), AUDIENCE),),
        keys=(lease.keys[0].public,),
        lineage=LineageClaim(evidence.digest, 0),
    )
    return Exchange(answers[0], expected, float(rig.clock.now()))


def test_genuine(exchange: Exchange) -> None:
    """An answer that fits is verified, and gives its tokens in order."""
    tokens = verify_answer(exchange.answer, exchange.expected, now=exchange.now)
    assert [token.claims.audience for token in tokens] == [AUDIENCE]


OTHER_KEY = PublicKey.from_cryptography(ec.generate_private_key(ec.SECP256R1()).public_key())
OTHERS: dict[str, dict[str, Any]] = {
    "answer.scope.mismatch": {"wishes": (LeaseWish(("tool:all",), AUDIENCE),)},
    "token.audience.mismatch": {"wishes": (LeaseWish(("tool:search",), "https://x.example"),)},
    "answer.encoding.mismatch": {
        "wishes": (LeaseWish(("tool:search",), AUDIENCE, TokenEncoding.JWT),)
    },
    "answer.confirmation-key.mismatch": {"keys": (OTHER_KEY,)},
    "answer.level.mismatch": {"wishes": (LeaseWish(("tool:search",), AUDIENCE, level=3),)},
    "answer.evidence.mismatch": {"evidence": bytes(32)},
    "answer.boot.mismatch": {"clock": ClockInfo(0, 99, 0, safe=True)},
    "answer.lineage.mismatch": {"lineage": LineageClaim(bytes(32), 0)},
}


@pytest.mark.parametrize("finding", OTHERS)
def test_other_than_asked(exchange: Exchange, finding: str) -> None:
    """A token for something else than was asked is refused with the finding that names it."""
    exchange.expected = dataclasses.replace(exchange.expected, **OTHERS[finding])
    assert exchange.findings() == [finding]


def test_other_node(exchange: Exchange) -> None:
    """A token of another node is refused, and so is a next challenge that is another's."""
    exchange.expected = dataclasses.replace(exchange.expected, node=bytes(32))
    assert exchange.findings() == ["answer.challenge.mismatch", "answer.node.mismatch"]


def test_other_challenge(exchange: Exchange) -> None:
    """A token granted on another challenge is refused."""
    challenge = dataclasses.replace(exchange.expected.challenge, nonce=bytes(32))
    exchange.expected = dataclasses.replace(exchange.expected, challenge=challenge)
    assert exchange.findings() == ["answer.nonce.mismatch"]


def test_other_issuer(exchange: Exchange) -> None:
    """A token of another issuer under the same key is refused."""
    bundle = dataclasses.replace(exchange.expected.bundle, issuer="https://other.example")
    exchange.expected = dataclasses.replace(exchange.expected, bundle=bundle)
    assert exchange.findings() == ["token.issuer.mismatch"]


def test_expired(exchange: Exchange) -> None:
    """A token that is over by the verifier's clock is refused."""
    exchange.now += 200
    assert exchange.findings() == ["token.expired"]


NOTE = Finding("policy.scope.denied", "Not that.", Effect.NOTES)
SEARCH = LeaseWish(("tool:search",), AUDIENCE)
WANTED = LeaseWish(("tool:prod",), AUDIENCE)
OPTIONAL = dataclasses.replace(WANTED, optional=True)


def test_what_was_optional_may_be_left_out(exchange: Exchange) -> None:
    """The others are verified, and the answer says which wish each token is for."""
    key = exchange.expected.keys[0]
    for place, wishes in ((0, (OPTIONAL, SEARCH)), (1, (SEARCH, OPTIONAL))):
        denied = (DeniedLease(place, (NOTE,)),)
        answer = dataclasses.replace(exchange.answer, denied=denied)
        expected = dataclasses.replace(exchange.expected, wishes=wishes, keys=(key, key))
        (token,) = verify_answer(answer, expected, now=exchange.now)
        assert token.claims.scope == ("tool:search",)
        assert answer.granted() == (1 - place,)


def test_what_was_wanted_is_not_left_out(exchange: Exchange) -> None:
    """Only what the agent gave leave for may be missing."""
    key = exchange.expected.keys[0]
    exchange.expected = dataclasses.replace(
        exchange.expected, wishes=(WANTED, SEARCH), keys=(key, key)
    )
    denied = (DeniedLease(0, (NOTE,)),)
    exchange.answer = dataclasses.replace(exchange.answer, denied=denied)
    assert exchange.findings() == ["answer.denied.mismatch"]


def test_a_token_stands_at_its_own_wish(exchange: Exchange) -> None:
    """A verifier that says it left out the other one has granted what was not asked for there."""
    key = exchange.expected.keys[0]
    exchange.expected = dataclasses.replace(
        exchange.expected, wishes=(OPTIONAL, SEARCH), keys=(key, key)
    )
    denied = (DeniedLease(1, (NOTE,)),)
    exchange.answer = dataclasses.replace(exchange.answer, denied=denied)
    assert exchange.findings() == ["answer.denied.mismatch", "answer.scope.mismatch"]


@pytest.mark.parametrize("places", [(), (0, 1), (2,), (255,)])
def test_every_wish_is_granted_or_denied(exchange: Exchange, places: tuple[int, ...]) -> None:
    """None is missing without a word, and none is denied that was never asked for."""
    key = exchange.expected.keys[0]
    exchange.expected = dataclasses.replace(
        exchange.expected, wishes=(OPTIONAL, OPTIONAL), keys=(key, key)
    )
    denied = tuple(DeniedLease(place, (NOTE,)) for place in places)
    exchange.answer = dataclasses.replace(exchange.answer, denied=denied)
    assert exchange.findings() == ["answer.leases.mismatch"]


LEASE_FIELDS: dict[str, dict[str, Any]] = {
    "answer.lease-id.mismatch": {"lease_id": bytes(16)},
    "answer.expiry.mismatch": {"expires_at": 1 << 40},
    "answer.claims.mismatch": {"claims_digest": bytes(32)},
}


@pytest.mark.parametrize("finding", LEASE_FIELDS)
def test_beside_the_token(exchange: Exchange, finding: str) -> None:
    """What is said of a lease beside its token must be what the token says."""
    lease = dataclasses.replace(exchange.answer.leases[0], **LEASE_FIELDS[finding])
    exchange.answer = dataclasses.replace(exchange.answer, leases=(lease,))
    assert exchange.findings() == [finding]


def test_frame(exchange: Exchange) -> None:
    """Number of leases, sequence, head and next challenge must fit."""
    genuine = exchange.answer
    exchange.answer = dataclasses.replace(genuine, leases=())
    assert exchange.findings() == ["answer.leases.mismatch"]
    exchange.answer = dataclasses.replace(genuine, sequence=1)
    assert exchange.findings() == ["answer.sequence.mismatch"]
    exchange.answer = dataclasses.replace(genuine, head=bytes(32))
    assert exchange.findings() == ["answer.head.mismatch"]
    dead = dataclasses.replace(genuine.challenge, expires_at=genuine.challenge.issued_at)
    exchange.answer = dataclasses.replace(genuine, challenge=dead)
    assert exchange.findings() == ["answer.challenge.mismatch"]


def test_everything_is_told(exchange: Exchange) -> None:
    """All that does not fit is told at once."""
    exchange.expected = dataclasses.replace(
        exchange.expected, evidence=bytes(32), keys=(OTHER_KEY,)
    )
    assert set(exchange.findings()) == {
        "answer.evidence.mismatch",
        "answer.confirmation-key.mismatch",
    }
