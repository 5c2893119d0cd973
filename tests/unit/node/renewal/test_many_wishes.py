"""One agent for many wishes: lists that change within a lineage, denials, killed agents."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bootlease.errors import TransportError, VerificationError
from bootlease.evidence import parse_evidence
from bootlease.model import Effect, Finding
from bootlease.node.calls import UnavailableError
from bootlease.node.confirm import Confirmation, OwnKey
from bootlease.node.lease import EndReason
from bootlease.node.wish import LeaseWish
from bootlease.node.wishbook import NothingWishedError, Wishes
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.token import PublicKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.node.conftest import Rig

ONE = LeaseWish(("tool:search",), "https://tools.example", optional=True)
TWO = LeaseWish(("repo:acme",), "https://git.example", optional=True)
DENIED = Finding("policy.scope.denied", "The policy does not grant it.", seen="repo:acme")


def killed_once(call: str) -> Callable[[str], None]:
    """Return a hook that ends the agent's process at the first ``call``."""
    left = [KeyboardInterrupt()]

    def hook(name: str) -> None:
        if name == call and left:
            raise left.pop()

    return hook


def test_list_may_change_within_a_lineage(rig: Rig) -> None:
    """Wishes come and go from renewal to renewal: root and numbers go on, keys of others stay."""
    book = Wishes()
    one = book.add(ONE)
    agent = rig.start(book=book)
    first = agent.renew()
    two = book.add(TWO)
    second = agent.renew()
    book.remove(one)
    third = agent.renew()
    assert [lease.sequence for lease in (first, second, third)] == [0, 1, 2]
    roots = {
        token.claims.lineage.root for lease in (first, second, third) for token in lease.tokens
    }
    assert len(roots) == 1
    assert [holding.id for holding in second.holdings] == [one, two]
    assert [holding.id for holding in third.holdings] == [two]
    assert first.keys[0] is second.keys[0]
    assert second.keys[1] is third.keys[0]
    assert second.of(two) == second.holdings[1]
    assert third.of(one) is None


def test_keys_live_as_long_as_their_lineage(rig: Rig) -> None:
    """A new lineage has new keys, but for those of workloads' own."""
    book = Wishes()
    own = OwnKey(PublicKey.from_cryptography(ec.generate_private_key(ec.SECP256R1()).public_key()))
    book.add(ONE)
    book.add(TWO, own)
    agent = rig.start(book=book)
    before = agent.renew()
    rig.clock.pass_time(500)
    after = agent.renew()
    assert after.sequence == 0
    assert before.keys[0].public != after.keys[0].public
    assert before.keys[1] is after.keys[1] is own
    assert after.tokens[1].claims.confirmation == own.public
    assert own.signer is None


def test_kinds_of_keys_beside_each_other(rig: Rig) -> None:
    """Each wish has the kind of key that it asks for."""
    book = Wishes()
    book.add(ONE, Confirmation.PROCESS)
    book.add(TWO, Confirmation.TPM)
    lease = rig.start(book=book).renew()
    assert lease.keys[0].export() is not None
    assert lease.keys[1].export() is None
    for holding in lease.holdings:
        signer = holding.key.signer
        assert signer is not None
        assert signer.public == holding.token.claims.confirmation
        signer.sign(b"data")


def test_idle_without_wishes(rig: Rig) -> None:
    """With nothing to ask for the agent asks nobody, and lets go of what it held."""
    book = Wishes()
    agent = rig.start(book=book)
    calls: list[str] = []
    rig.verifier.before = calls.append
    outcome = agent.step()
    assert outcome.idle
    assert outcome.wait == 3600
    assert calls == []
    assert rig.handed.over == []
    wish = book.add(ONE)
    assert agent.step().granted is not None
    book.remove(wish)
    with pytest.raises(NothingWishedError):
        agent.renew()
    assert not rig.keeper.valid
    assert rig.handed.over == [(EndReason.UNWANTED, ())]


def test_a_lineage_outlives_a_moment_without_wishes(rig: Rig) -> None:
    """Who wishes soon after the last has gone continues the lineage."""
    book = Wishes()
    agent = rig.start(book=book)
    wish = book.add(ONE)
    agent.step()
    book.remove(wish)
    assert agent.step().idle
    rig.clock.pass_time(10)
    book.add(TWO)
    assert agent.renew().sequence == 1


def test_level_and_option_are_asked_for(rig: Rig) -> None:
    """What a wish says of its level and of being optional is in the evidence."""
    book = Wishes()
    book.add(dataclasses.replace(ONE, level=2))
    rig.start(book=book).renew()
    (request,) = parse_evidence(rig.verifier.received[0]).leases
    assert (request.level, request.optional) == (2, True)


def test_denied_alone(rig: Rig) -> None:
    """A wish that is denied alone is told of, and not asked for in the next renewal."""
    book = Wishes()
    one, two = book.add(ONE), book.add(TWO)
    rig.verifier.denies = frozenset({"repo:acme"})
    agent = rig.start(book=book, jitter=lambda: 0.999)
    outcome = agent.step()
    assert outcome.granted is not None
    assert [holding.id for holding in outcome.granted.holdings] == [one]
    assert list(outcome.denied) == [two]
    assert outcome.denied[two][0].effect is Effect.NOTES
    assert outcome.granted.denied == outcome.denied
    rig.clock.pass_time(20)
    agent.step()
    assert len(parse_evidence(rig.verifier.received[-1]).leases) == 1
    rig.clock.pass_time(20)
    agent.step()
    assert len(parse_evidence(rig.verifier.received[-1]).leases) == 2
    assert rig.ended == []


def test_nothing_left_to_grant(rig: Rig) -> None:
    """Where every wish is denied, the wishes wait and the node does not count as refused."""
    book = Wishes()
    two = book.add(TWO)
    rig.verifier.refusal = (DENIED,)
    agent = rig.start(book=book, jitter=lambda: 0.999)
    outcome = agent.step()
    assert outcome.error is None
    assert outcome.denied == {two: (DENIED,)}
    assert 29 < outcome.wait <= 30
    assert rig.handed.over == []
    rig.verifier.refusal = ()
    book.add(ONE)
    lease = agent.step().granted
    assert lease is not None
    assert len(lease.holdings) == 1


def test_what_is_held_ends_where_all_is_denied(rig: Rig) -> None:
    """A policy that denies what it granted before ends it at once."""
    book = Wishes()
    book.add(ONE)
    agent = rig.start(book=book)
    agent.step()
    rig.verifier.refusal = (DENIED,)
    outcome = agent.step()
    assert list(outcome.denied.values()) == [(DENIED,)]
    assert rig.handed.over == [(EndReason.REFUSED, (DENIED,))]
    assert rig.ended == [EndReason.REFUSED]


def test_a_refused_node_is_no_denied_wish(rig: Rig) -> None:
    """A refusal with a finding about the node is one of the node, whatever else was found."""
    book = Wishes()
    book.add(ONE)
    other = Finding("quote.pcr.mismatch", "Another PCR.")
    rig.verifier.refusal = (DENIED, other)
    outcome = rig.start(book=book).step()
    assert isinstance(outcome.error, VerificationError)
    assert outcome.denied == {}
    assert rig.handed.over == [(EndReason.REFUSED, (DENIED, other))]


def test_a_wish_that_must_be_granted_is_refused(rig: Rig) -> None:
    """A denied wish that is not optional refuses, as it always did."""
    rig.verifier.refusal = (DENIED,)
    outcome = rig.start(dataclasses.replace(TWO, optional=False)).step()
    assert isinstance(outcome.error, VerificationError)


def test_killed_between_sending_and_answer(rig: Rig) -> None:
    """An agent killed before it had its answer is followed by one that goes on with the lineage."""
    agent = rig.start()
    first = agent.renew()
    rig.clock.pass_time(40)
    rig.verifier.after = killed_once("lease")
    with pytest.raises(KeyboardInterrupt):
        agent.renew()
    rig.clock.pass_time(5)
    lease = rig.start().renew()
    assert rig.verifier.received[-2] == rig.verifier.received[-3]
    assert lease.sequence == 2
    assert lease.tokens[0].claims.lineage.root == first.tokens[0].claims.lineage.root
    assert lease.keys[0].public != first.keys[0].public
    # What the dead agent's keys were granted was handed to nobody.
    assert [held.sequence for held in rig.handed.tokens] == [0, 2]
    assert len(rig.verifier.received) == 4


def test_killed_after_sending_the_log_that_was_asked_for(rig: Rig) -> None:
    """What was sent last is remembered: the same evidence, by now with its log."""
    agent = rig.start()
    agent.renew()
    rig.verifier.forget_logs()
    calls: list[str] = []

    def killed_at_the_second(call: str) -> None:
        calls.append(call)
        if calls == ["lease"]:
            raise KeyboardInterrupt

    rig.verifier.after = killed_at_the_second
    with pytest.raises(KeyboardInterrupt):
        agent.renew()
    assert rig.start().renew().sequence == 2
    assert rig.verifier.received[-2] == rig.verifier.received[-3]
    assert len(rig.verifier.received[-2]) > len(rig.verifier.received[-4])


def test_what_is_too_long_is_not_remembered(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A renewal that the next agent could not read back costs it a lineage, and no more."""
    monkeypatch.setattr("bootlease.node.renewal.pending.MAX_SENT", 64)
    agent = rig.start()
    agent.renew()
    rig.verifier.after = killed_once("lease")
    with pytest.raises(KeyboardInterrupt):
        agent.renew()
    assert rig.kept.sent is None


def test_killed_before_sending(rig: Rig) -> None:
    """Evidence that never arrived is decided when the next agent sends it; the lineage goes on."""
    agent = rig.start(confirmation=Confirmation.TPM)
    agent.renew()
    rig.clock.pass_time(40)
    rig.verifier.before = killed_once("lease")
    with pytest.raises(KeyboardInterrupt):
        agent.renew()
    assert rig.start().renew().sequence == 2


def test_killed_after_the_answer(rig: Rig) -> None:
    """What was answered and remembered is not sent again."""
    agent = rig.start()
    agent.renew()
    agent.renew()
    assert rig.start().renew().sequence == 2
    assert len(rig.verifier.received) == 3


def test_killed_and_the_verifier_forgot(rig: Rig) -> None:
    """Where the answer cannot be had any more, a new lineage begins without a fork."""
    agent = rig.start()
    agent.renew()
    rig.verifier.after = killed_once("lease")
    with pytest.raises(KeyboardInterrupt):
        agent.renew()
    rig.verifier.forget_challenges()
    assert rig.start().renew().sequence == 0


def test_killed_and_reset(rig: Rig) -> None:
    """What was sent before the TPM was reset is not sent after it."""
    agent = rig.start()
    agent.renew()
    rig.verifier.before = killed_once("lease")
    with pytest.raises(KeyboardInterrupt):
        agent.renew()
    rig.node.reboot()
    lease = rig.start().renew()
    assert lease.sequence == 0


def test_refusal_of_what_the_dead_agent_sent(rig: Rig) -> None:
    """A refusal of the old evidence ends the lineage; the new agent asks for itself."""
    agent = rig.start()
    agent.renew()
    rig.verifier.before = killed_once("lease")
    with pytest.raises(KeyboardInterrupt):
        agent.renew()
    rig.verifier.refusal = (DENIED,)

    def relent(call: str) -> None:
        if call == "challenge":
            rig.verifier.refusal = ()

    rig.verifier.before = relent
    assert rig.start().renew().sequence == 0


def test_what_a_dead_agent_sent_waits_for_the_log(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that cannot be read for a moment does not make a fork of what was sent before."""
    agent = rig.start()
    agent.renew()
    rig.verifier.after = killed_once("lease")
    with pytest.raises(KeyboardInterrupt):
        agent.renew()
    successor = rig.start()

    def unreadable(_: SimulatedNode) -> bytes:
        raise TransportError("cannot read the event log")

    with monkeypatch.context() as patched:
        patched.setattr(SimulatedNode, "event_log", property(unreadable), raising=False)
        with pytest.raises(TransportError, match="event log"):
            successor.renew()
    assert successor.renew().sequence == 2


def test_changed_list_waits_for_the_answer_that_is_due(rig: Rig) -> None:
    """A wish that comes while an answer is lost is asked for in the renewal after it."""
    book = Wishes()
    book.add(ONE)
    agent = rig.start(book=book)
    agent.renew()
    rig.verifier.after = lambda _: (_ for _ in ()).throw(UnavailableError("cut off"))
    with pytest.raises(TransportError):
        agent.renew()
    rig.verifier.after = lambda _: None
    book.add(TWO)
    assert len(agent.renew().holdings) == 1
    assert book.has_new
    lease = agent.renew()
    assert (lease.sequence, len(lease.holdings)) == (2, 2)


@pytest.mark.parametrize("call", ["expiring_key", "begin_permits", "redeem"])
def test_a_tpm_that_permits_no_expiring_key_ends_no_other_lease(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """What one workload's kind of key needs, and does not get, is that workload's loss alone."""
    book = Wishes()
    one = book.add(ONE)
    agent = rig.start(book=book)
    agent.renew()
    book.add(ONE, Confirmation.TPM_EXPIRING)

    def refuse(*_: object) -> None:
        raise TransportError("TPM_RC_FAILURE")

    monkeypatch.setattr(SimulatedNode, call, refuse)
    lease = agent.renew()
    assert lease.sequence == 1
    assert one in [holding.id for holding in lease.holdings]
