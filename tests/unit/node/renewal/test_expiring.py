"""The agent with expiring keys, on a simulated TPM."""

from __future__ import annotations

import dataclasses

import pytest

from bootlease.errors import MalformedError, TransportError
from bootlease.evidence import ExpiringKey, LeaseAnswer, parse_evidence
from bootlease.node.calls import UnavailableError
from bootlease.node.confirm import Confirmation
from bootlease.node.renewal.denials import DeniedError
from bootlease.node.renewal.keyring import KeyRing
from bootlease.node.wish import LeaseWish
from bootlease.node.wishbook import NoSuchKeyError, Wishes
from bootlease.testing.scripted_verifier import ScriptedVerifier
from bootlease.token import KeyProtection
from tests.unit.node.conftest import Rig

EXPIRING = LeaseWish(("tool:search",), "https://tools.example", level=3)
OTHER = LeaseWish(("repo:acme/x",), "https://tools.example", optional=True)


def sent(rig: Rig) -> list[ExpiringKey]:
    """Return the expiring keys of the evidence that was sent last."""
    keys = [lease.confirmation for lease in parse_evidence(rig.verifier.received[-1]).leases]
    return [key for key in keys if isinstance(key, ExpiringKey)]


def test_a_lease_comes_with_a_permit_for_its_key(rig: Rig) -> None:
    """The key signs as soon as the lease is handed out, and each renewal goes on with it."""
    agent = rig.start(EXPIRING, confirmation=Confirmation.TPM_EXPIRING)
    first = agent.renew()
    (key,) = first.keys
    assert first.tokens[0].claims.protection is KeyProtection.TPM_EXPIRING
    assert first.tokens[0].claims.level == 3
    assert key.export() is None
    assert key.signer is not None
    assert len(key.signer.sign(b"data")) == 64
    (before,) = sent(rig)
    assert agent.renew().keys == (key,)
    (after,) = sent(rig)
    assert before.public == after.public
    assert before.session != after.session


def test_a_new_lineage_brings_another_key(rig: Rig) -> None:
    """What was permitted once says nothing of a new start."""
    agent = rig.start(EXPIRING, confirmation=Confirmation.TPM_EXPIRING)
    first = agent.renew()
    rig.clock.pass_time(1000)
    assert agent.renew().keys != first.keys


def test_all_keys_of_one_evidence_share_a_session(rig: Rig) -> None:
    """A TPM has few; keys of other kinds need none."""
    book = Wishes()
    for kind in (Confirmation.TPM_EXPIRING, Confirmation.PROCESS, Confirmation.TPM_EXPIRING):
        book.add(EXPIRING if kind is Confirmation.TPM_EXPIRING else OTHER, kind)
    lease = rig.start(book=book).renew()
    one, other = sent(rig)
    assert one.session == other.session
    assert one.salt != other.salt
    for key in lease.keys:
        assert key.signer is not None
        assert key.signer.sign(b"data")


def test_a_denied_lease_leaves_its_key_without_a_permit(rig: Rig) -> None:
    """Permits go to the keys of the leases that were granted, each to its own."""
    book = Wishes()
    denied = book.add(OTHER, Confirmation.TPM_EXPIRING)
    book.add(EXPIRING, Confirmation.TPM_EXPIRING)
    rig.verifier.denies = frozenset(OTHER.scope)
    lease = rig.start(book=book).renew()
    assert list(lease.denied) == [denied]
    (key,) = lease.keys
    assert key.signer is not None
    assert key.signer.sign(b"data")


@pytest.mark.parametrize("lie", ["none", "longer", "altered"])
def test_an_answer_without_a_good_permit_grants_nothing(rig: Rig, lie: str) -> None:
    """A permit that is missing is noticed here, a wrong one by the TPM."""

    def forge(answer: LeaseAnswer) -> LeaseAnswer:
        (issued,) = answer.leases
        assert issued.permit is not None
        permit = {
            "none": None,
            "longer": dataclasses.replace(issued.permit, seconds=99_999),
            "altered": dataclasses.replace(issued.permit, signature=bytes(64)),
        }[lie]
        return dataclasses.replace(answer, leases=(dataclasses.replace(issued, permit=permit),))

    rig.verifier.forge = forge
    agent = rig.start(EXPIRING, confirmation=Confirmation.TPM_EXPIRING)
    with pytest.raises(TransportError, match=r"answer.permit.mismatch|permit|TPM2_Policy") as told:
        agent.renew()
    assert isinstance(told.value, UnavailableError) is (lie == "none")
    assert not rig.handed.out


def test_a_permit_that_nobody_asked_for_is_noticed(rig: Rig) -> None:
    """An answer for another key is not this one's."""
    given: list[LeaseAnswer] = []

    def keep(answer: LeaseAnswer) -> LeaseAnswer:
        given.append(answer)
        return answer

    rig.verifier.forge = keep
    rig.start(EXPIRING, confirmation=Confirmation.TPM_EXPIRING).renew()
    permit = given[0].leases[0].permit

    def forge(answer: LeaseAnswer) -> LeaseAnswer:
        (issued,) = answer.leases
        return dataclasses.replace(answer, leases=(dataclasses.replace(issued, permit=permit),))

    plain = Rig(rig.node)
    plain.verifier.forge = forge
    with pytest.raises(UnavailableError, match="permit"):
        plain.start().renew()


def test_without_a_leash_key_no_expiring_key_is_made(rig: Rig) -> None:
    """The bundle says whose permits count; the network does not."""
    book = Wishes()
    book.add(EXPIRING, Confirmation.TPM_EXPIRING)
    ring = KeyRing(rig.node, None, print)
    with pytest.raises(MalformedError, match="leash_key"):
        ring.keys(book.snapshot(), node=bytes(32), anew=True)


def after_a_new_leash_key(rig: Rig) -> None:
    """Hand out a bundle whose leash key is another than the verifier's."""
    other = ScriptedVerifier(rig.clock).bundle.leash_key
    rig.verifier.bundle = dataclasses.replace(rig.verifier.bundle, leash_key=other)


def test_a_leash_key_of_before_ends_no_other_lease(rig: Rig) -> None:
    """What needs its permits is denied, and asked for ever more slowly; the rest is renewed."""
    after_a_new_leash_key(rig)
    book = Wishes()
    denied = book.add(dataclasses.replace(EXPIRING, optional=True), Confirmation.TPM_EXPIRING)
    book.add(OTHER, Confirmation.PROCESS)
    agent = rig.start(book=book)
    lease = agent.renew()
    assert [holding.wish for holding in lease.holdings] == [OTHER]
    assert [each.id for each in lease.denied[denied]] == ["expiring-key.authority.mismatch"]
    again = agent.renew()
    assert again.expires_at >= lease.expires_at
    assert rig.ended == []


def test_a_leash_key_of_before_is_no_refusal_of_the_node(rig: Rig) -> None:
    """Where nothing else is wished for, the wish is denied; another begins at once."""
    after_a_new_leash_key(rig)
    book = Wishes()
    book.add(dataclasses.replace(EXPIRING, optional=True), Confirmation.TPM_EXPIRING)
    agent = rig.start(book=book)
    with pytest.raises(DeniedError, match="leash key"):
        agent.renew()
    added = book.add(OTHER, Confirmation.PROCESS)
    assert [holding.id for holding in agent.renew().holdings] == [added]


def test_with_the_new_leash_key_a_new_key_is_granted(rig: Rig) -> None:
    """An agent that starts with the new bundle makes its keys under it."""
    current = rig.verifier.bundle
    after_a_new_leash_key(rig)
    wish = dataclasses.replace(EXPIRING, optional=True)
    with pytest.raises(DeniedError):
        rig.start(wish, confirmation=Confirmation.TPM_EXPIRING).renew()
    rig.verifier.bundle = current
    (key,) = rig.start(wish, confirmation=Confirmation.TPM_EXPIRING).renew().keys
    assert key.signer is not None
    assert len(key.signer.sign(b"data")) == 64


def test_after_the_end_the_simulated_tpm_refuses(rig: Rig) -> None:
    """As a real one does (``tests/integration/test_expiring_keys``)."""
    agent = rig.start(EXPIRING, confirmation=Confirmation.TPM_EXPIRING)
    rig.verifier.life = 2
    (key,) = agent.renew().keys
    signer = key.signer
    assert signer is not None
    assert signer.sign(b"data")
    key._key.until -= 2  # type: ignore[attr-defined]  # one second was permitted
    with pytest.raises(TransportError, match="expired"):
        signer.sign(b"data")


def test_a_wish_that_no_permit_could_follow_is_not_taken() -> None:
    """It would fail at each renewal, and take the leases of all others along."""
    book = Wishes(expiring=False)
    with pytest.raises(NoSuchKeyError, match="leash_key"):
        book.add(EXPIRING, Confirmation.TPM_EXPIRING)
    book.add(EXPIRING, Confirmation.TPM)
    assert len(book) == 1
