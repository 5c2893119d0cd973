"""A fleet's node says what any node says, only cheaper."""

from __future__ import annotations

import secrets
import time

import pytest

from bootlease.errors import MalformedError
from bootlease.evidence import (
    Challenge,
    EnrolmentRequest,
    IssuedLease,
    LeaseAnswer,
    TokenEncoding,
    parse_evidence,
    verify_evidence,
)
from bootlease.model import HashAlg
from bootlease.testing.fleet import FleetImage, FleetNode
from bootlease.tpm import AttestationKey, accept_attestation_key, parse_public

NOW = 1_800_000_000
PCRS = {HashAlg.SHA256: (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14)}


@pytest.fixture(scope="module")
def image() -> FleetImage:
    """What the fleet has booted."""
    return FleetImage()


@pytest.fixture
def node(image: FleetImage) -> FleetNode:
    """An enrolled node with a challenge."""
    made = FleetNode(image)
    made.enrolled_as(secrets.token_bytes(32))
    made.take_challenge(challenge(made))
    return made


def challenge(node: FleetNode, life: int = 60) -> Challenge:
    """A fresh challenge."""
    return Challenge(secrets.token_bytes(32), node.node, NOW, NOW + life, PCRS)


def answer(following: Challenge, sequence: int = 0) -> LeaseAnswer:
    """A lease answer with a token that nobody reads."""
    digest = secrets.token_bytes(32)
    token = b"\x64head\x58\x20" * 4
    lease = IssuedLease(bytes(16), TokenEncoding.CWT, token, digest, NOW + 120)
    return LeaseAnswer(
        decision=digest,
        head=secrets.token_bytes(32),
        sequence=sequence,
        life=120,
        expires_in=120,
        leases=(lease,),
        challenge=following,
    )


def key_of(node: FleetNode) -> AttestationKey:
    """The AK, as a verifier would have accepted it."""
    request = EnrolmentRequest.parse(node.enrolment_request())
    return accept_attestation_key(parse_public(request.ak_public))


@pytest.mark.parametrize("head", [None, bytes(range(32))], ids=["first", "renewal"])
@pytest.mark.parametrize("full", [True, False], ids=["full", "by digest"])
def test_evidence_is_what_the_general_encoder_makes(
    node: FleetNode, image: FleetImage, head: bytes | None, *, full: bool
) -> None:
    """The joined bytes are a deterministic document that verifies in every part."""
    asked = challenge(node)
    node.take_challenge(asked)
    node.head = head
    encoded = node.evidence(full=full)
    evidence = parse_evidence(encoded)
    assert evidence.encode() == encoded
    verified = verify_evidence(evidence, asked, key_of(node), now=NOW)
    assert verified.previous == head
    assert verified.logs == ({"tcg": image.event_log} if full else {})
    assert verified.log_digests == {"tcg": image.log_digest}


def test_a_lineage_begins_with_the_log_and_goes_on_without(
    node: FleetNode, image: FleetImage
) -> None:
    """By default only the first evidence carries it."""
    assert len(node.evidence()) > len(image.event_log)
    node.take_answer(answer(challenge(node)), time.monotonic())
    assert len(node.evidence()) < 1_200 < len(image.event_log)


def test_two_quotes_for_one_challenge_differ(node: FleetNode) -> None:
    """The signature is fresh each time: a verifier cannot take one for the other."""
    assert node.evidence() != node.evidence()


def test_answers_are_read_alike_in_both_ways(image: FleetImage) -> None:
    """Cutting head and nonce out of an answer finds what decoding it finds."""
    one, other = FleetNode(image), FleetNode(image)
    for node in (one, other):
        node.enrolled_as(bytes(32))
        node.take_challenge(challenge(node))
    for sequence in range(3):
        made = answer(challenge(one), sequence)
        received = time.monotonic()
        one.take_answer(made, received)
        other.take_encoded_answer(made.encode(), received)
        assert (other.head, other.nonce) == (one.head, one.nonce)
        assert (other.head, other.nonce) == (made.head, made.challenge.nonce)
        assert other.asked_at == one.asked_at
        assert abs(other.fresh_until - one.fresh_until) < 1


def test_a_lease_counts_from_the_challenge_that_was_answered(node: FleetNode) -> None:
    """Not from the answer, and for the life that the answer names."""
    asked_at = node.asked_at
    node.take_answer(answer(challenge(node)), asked_at + 50)
    assert node.fresh_until == pytest.approx(asked_at + 120)
    node.take_encoded_answer(answer(challenge(node), 1).encode(), asked_at + 90)
    assert node.fresh_until == pytest.approx(asked_at + 50 + 120)


@pytest.mark.parametrize("size", [0, 1, 40, -60])
def test_what_is_no_answer_is_malformed(node: FleetNode, size: int) -> None:
    """A cut answer raises MalformedError and leaves the node where it was."""
    node.take_answer(answer(challenge(node)), time.monotonic())
    before = node.head, node.nonce
    with pytest.raises(MalformedError):
        node.take_encoded_answer(answer(challenge(node), 1).encode()[:size], time.monotonic())
    assert (node.head, node.nonce) == before


def test_other_pcrs_are_quoted_where_a_challenge_asks_for_them(node: FleetNode) -> None:
    """A changed selection in an answer is followed."""
    node.take_answer(answer(challenge(node)), time.monotonic())
    asked = Challenge(bytes(32), node.node, NOW, NOW + 60, {HashAlg.SHA256: (0, 7)})
    node.take_encoded_answer(answer(asked, 1).encode(), time.monotonic())
    verified = verify_evidence(parse_evidence(node.evidence()), asked, key_of(node), now=NOW)
    assert verified.previous == node.head


def test_without_a_challenge_there_is_no_quote(node: FleetNode) -> None:
    """Asking for one is our misuse."""
    node.begin_again()
    with pytest.raises(RuntimeError, match="no challenge"):
        node.evidence()
