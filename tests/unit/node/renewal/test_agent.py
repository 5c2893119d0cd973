"""The agent's decisions: what it sends, what it believes, when it lets go."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.evidence import parse_evidence
from bootlease.model import ClockInfo, Finding
from bootlease.node.calls import UnavailableError
from bootlease.node.confirm import Confirmation
from bootlease.node.lease import EndReason
from bootlease.node.wish import LeaseWish
from bootlease.testing.set_clock import SetClock
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.token import KeyProtection, LineageClaim

if TYPE_CHECKING:
    from collections.abc import Callable

    from bootlease.evidence import LeaseAnswer
    from bootlease.testing.local_ca import LocalCA
    from tests.unit.node.conftest import Rig

REFUSAL = Finding("eventlog.pcr4.unknown-boot-application", "The boot application is unknown.")


def fail_once(call: str, error: Exception) -> Callable[[str], None]:
    """Return a hook that raises ``error`` at the first ``call``, and never again."""
    left = [error]

    def hook(name: str) -> None:
        if name == call and left:
            raise left.pop()

    return hook


def test_first_lease(rig: Rig) -> None:
    """An agent that starts enrols, sends its whole log and holds the lease it asked for."""
    agent = rig.start()
    lease = agent.renew()
    claims = lease.tokens[0].claims
    assert rig.keeper.valid
    assert rig.handed.out
    assert claims.scope == ("tool:search",)
    assert claims.confirmation == lease.keys[0].public
    assert claims.lineage.seq == 0
    assert parse_evidence(rig.verifier.received[0]).logs["tcg"] == rig.node.event_log
    assert agent.node is not None
    assert claims.subject == agent.node.hex()


def test_renewals_chain(rig: Rig) -> None:
    """Renewals take one round trip, name the lease before, and send the log by digest only."""
    agent = rig.start()
    first = agent.renew()
    rig.verifier.before = fail_once("challenge", AssertionError("a second round trip"))
    for number in (1, 2, 3):
        rig.clock.pass_time(40)
        lease = agent.renew()
        lineage = lease.tokens[0].claims.lineage
        assert (lineage.root, lineage.seq) == (first.tokens[0].claims.evidence, number)
        assert parse_evidence(rig.verifier.received[-1]).logs == {}
        assert len(rig.verifier.received[-1]) < 2000
        assert rig.keeper.valid


def test_pace(rig: Rig) -> None:
    """A lease is renewed after a third of its life, and never after more."""
    agent = rig.start(jitter=lambda: 0.999)
    outcome = agent.step()
    assert 35 < outcome.wait <= 40
    rig.jitter = 0.0
    assert rig.start().step().wait == pytest.approx(40)


def test_two_wishes(rig: Rig) -> None:
    """Several leases come from one quote, each under a key of its own."""
    other = LeaseWish(("repo:acme",), "https://git.example")
    agent = rig.start(LeaseWish(("tool:search",), "https://tools.example"), other)
    lease = agent.renew()
    assert [token.claims.audience for token in lease.tokens] == [
        "https://tools.example",
        "https://git.example",
    ]
    assert lease.keys[0].public != lease.keys[1].public
    rig.clock.pass_time(40)
    assert agent.renew().tokens[0].claims.lineage.seq == 1


def test_key_in_the_tpm(rig: Rig) -> None:
    """A confirmation key in the TPM is certified by the AK and cannot be exported."""
    lease = rig.start(confirmation=Confirmation.TPM).renew()
    assert lease.tokens[0].claims.protection is KeyProtection.TPM
    assert lease.keys[0].export() is None


def test_key_stays_in_its_lineage(rig: Rig) -> None:
    """Renewals keep the confirmation key; a new lineage has another."""
    agent = rig.start()
    first = agent.renew().keys[0].public
    rig.clock.pass_time(40)
    assert agent.renew().keys[0].public == first
    rig.clock.pass_time(500)
    assert agent.renew().keys[0].public != first


def test_a_long_lineage_is_followed_by_another_without_a_gap(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent begins anew with full evidence while its lease lives, and is never without one."""
    monkeypatch.setattr("bootlease.node.renewal.agent.RENEWALS", 2)
    agent = rig.start()
    seen = []
    for _ in range(5):
        seen.append(agent.renew().tokens[0].claims.lineage.seq)
        assert rig.keeper.valid
        rig.clock.pass_time(40)
        assert rig.keeper.valid
    assert seen == [0, 1, 2, 0, 1]


def test_restart_continues(rig: Rig) -> None:
    """A restarted agent continues the lineage without enrolling again."""
    rig.start().renew()
    rig.clock.pass_time(20)
    rig.verifier.before = fail_once("enrol", AssertionError("enrolled twice"))
    lease = rig.start().renew()
    assert lease.tokens[0].claims.lineage.seq == 1
    assert parse_evidence(rig.verifier.received[-1]).logs == {}


def test_restart_after_lapse(rig: Rig) -> None:
    """An agent restarted too late begins a new lineage with its whole log."""
    rig.start().renew()
    rig.clock.pass_time(200)
    lease = rig.start().renew()
    assert lease.tokens[0].claims.lineage.seq == 0
    assert "tcg" in parse_evidence(rig.verifier.received[-1]).logs


def test_other_boot(rig: Rig) -> None:
    """In another boot nothing is continued, but the enrolment stands."""
    rig.start().renew()
    memory = rig.kept.memory.in_boot("boot-2")
    assert memory.lineage is None
    assert memory.question is None
    assert memory.enrolment is not None


def test_lost_answer(rig: Rig) -> None:
    """Evidence whose answer was lost is sent again byte for byte, and gets that answer."""
    agent = rig.start()
    agent.renew()
    rig.clock.pass_time(40)
    rig.verifier.after = fail_once("lease", UnavailableError("cut off"))
    outcome = agent.step()
    assert isinstance(outcome.error, UnavailableError)
    assert rig.keeper.valid
    rig.clock.pass_time(outcome.wait)
    assert agent.renew().tokens[0].claims.lineage.seq == 1
    assert rig.verifier.received[-1] == rig.verifier.received[-2]


def test_answer_lost_for_good(rig: Rig) -> None:
    """Where the lost answer cannot be had again, a new lineage begins and no lease is dropped."""
    agent = rig.start()
    agent.renew()
    rig.clock.pass_time(40)
    rig.verifier.after = fail_once("lease", UnavailableError("cut off"))
    agent.step()
    rig.verifier.forget_challenges()
    lease = agent.renew()
    assert lease.tokens[0].claims.lineage.seq == 0
    assert "tcg" in parse_evidence(rig.verifier.received[-1]).logs
    assert rig.ended == []


def test_challenge_forgotten(rig: Rig) -> None:
    """A verifier that lost its challenges is asked for another; the lineage goes on."""
    agent = rig.start()
    agent.renew()
    rig.clock.pass_time(40)
    rig.verifier.forget_challenges()
    assert agent.renew().tokens[0].claims.lineage.seq == 1


def test_never_arrived(rig: Rig) -> None:
    """Evidence that never reached the verifier spends nothing: the lineage goes on."""
    agent = rig.start()
    agent.renew()
    rig.verifier.before = fail_once("lease", UnavailableError("no route", sent=False))
    agent.step()
    rig.clock.pass_time(119.5)
    rig.verifier.forget_challenges()
    assert agent.renew().tokens[0].claims.lineage.seq == 1


def test_log_asked_for(rig: Rig) -> None:
    """A verifier that lost the log gets it under the same quote."""
    agent = rig.start()
    agent.renew()
    rig.clock.pass_time(40)
    rig.verifier.forget_logs()
    assert agent.renew().tokens[0].claims.lineage.seq == 1
    first, second = (parse_evidence(data) for data in rig.verifier.received[-2:])
    assert first.quote == second.quote
    assert second.logs["tcg"] == rig.node.event_log


def test_node_forgotten(rig: Rig) -> None:
    """A verifier that does not know the node any more is enrolled with again."""
    agent = rig.start()
    agent.renew()
    assert agent.node is not None
    rig.verifier.forget_node(agent.node)
    rig.clock.pass_time(40)
    assert agent.renew().tokens[0].claims.lineage.seq == 0
    rig.verifier.forget_node(agent.node)
    rig.clock.pass_time(500)
    assert agent.renew().tokens[0].claims.lineage.seq == 0
    assert rig.ended == [EndReason.LAPSED]


def test_node_forgotten_for_ever(rig: Rig) -> None:
    """A verifier that forgets the node as often as it enrols is given up, for now."""
    agent = rig.start()

    def forget(call: str) -> None:
        if call == "challenge" and agent.node is not None:
            rig.verifier.forget_node(agent.node)

    rig.verifier.before = forget
    assert "ever another enrolment" in str(agent.step().error)


def test_refusal_ends_the_lease(rig: Rig) -> None:
    """A refusal takes the token back at once, and the next attempt is fresh and late."""
    agent = rig.start()
    agent.renew()
    rig.clock.pass_time(40)
    rig.verifier.refusal = (REFUSAL,)
    outcome = agent.step()
    assert isinstance(outcome.error, VerificationError)
    assert outcome.error.findings == (REFUSAL,)
    assert outcome.wait >= 7.5
    assert not rig.keeper.valid
    assert not rig.handed.out
    assert rig.ended == [EndReason.REFUSED]
    rig.verifier.refusal = ()
    lease = agent.renew()
    assert lease.tokens[0].claims.lineage.seq == 0
    assert "tcg" in parse_evidence(rig.verifier.received[-1]).logs


def test_refusals_slow_down(rig: Rig) -> None:
    """Each refusal in a row doubles the wait, up to five minutes."""
    agent = rig.start()
    rig.verifier.refusal = (REFUSAL,)
    waits = [agent.step().wait for _ in range(8)]
    assert waits[:4] == [7.5, 15.0, 30.0, 60.0]
    assert waits[-1] == 150.0


def test_refused_at_enrolment(rig: Rig) -> None:
    """A verifier that does not admit the node is a refusal, not a fault of the network."""
    finding = Finding("enrolment.not-admitted", "The node is not on the list.")
    rig.verifier.before = fail_once("enrol", VerificationError(finding))
    outcome = rig.start().step()
    assert isinstance(outcome.error, VerificationError)


def test_unreachable_backs_off(rig: Rig) -> None:
    """Failures in a row are answered ever more slowly, never beyond half a minute."""
    agent = rig.start()

    def down(call: str) -> None:
        raise UnavailableError(f"{call}: no route", sent=False)

    rig.verifier.before = down
    waits = [agent.step().wait for _ in range(8)]
    assert waits[:4] == [0.5, 1.0, 2.0, 4.0]
    assert waits[-1] == 15.0


def test_retry_after(rig: Rig) -> None:
    """A verifier that asks for patience gets it."""
    agent = rig.start()
    rig.verifier.before = fail_once("enrol", UnavailableError("busy", retry_after=77.0))
    assert agent.step().wait == 77.0


def test_malformed_request(rig: Rig) -> None:
    """A verifier that cannot read the evidence ends no lease, and gets other evidence next."""
    agent = rig.start()
    agent.renew()
    rig.clock.pass_time(40)
    rig.verifier.before = fail_once("lease", MalformedError("evidence is of version 1"))
    assert isinstance(agent.step().error, MalformedError)
    assert rig.keeper.valid
    assert agent.renew().tokens[0].claims.lineage.seq == 1


def test_outdated_challenge(rig: Rig) -> None:
    """A policy that asks for more than the challenge did costs a question, not the lineage."""
    agent = rig.start()
    agent.renew()
    rig.clock.pass_time(40)
    outdated = Finding("challenge.outdated", "The policy has changed.")
    rig.verifier.before = fail_once("lease", VerificationError(outdated))
    assert agent.renew().tokens[0].claims.lineage.seq == 1
    assert rig.ended == []


def test_tpm_reset(rig: Rig) -> None:
    """A TPM that was reset under the agent ends the lease; a new lineage begins."""
    agent = rig.start()
    agent.renew()
    clock = rig.node.clock_info
    rig.node.clock_info = dataclasses.replace(clock, reset_count=clock.reset_count + 1)
    rig.clock.pass_time(40)
    lease = agent.renew()
    assert rig.ended == [EndReason.REBOOTED]
    assert lease.tokens[0].claims.lineage.seq == 0
    assert lease.tokens[0].claims.boot.reset_count == clock.reset_count + 1


def test_other_ak(rig: Rig, local_ca: LocalCA) -> None:
    """A state directory that meets another TPM enrols it instead of pretending to be the first."""
    first = rig.start()
    first.renew()
    rig.node = SimulatedNode(local_ca)
    rig.node.event_log = b"log"
    second = rig.start()
    second.renew()
    assert first.node != second.node


def test_lineage_refused(rig: Rig) -> None:
    """A refusal that speaks of the lineage alone is followed by a new one at once."""
    agent = rig.start()
    agent.renew()
    rig.clock.pass_time(40)
    lineage = rig.kept.memory.lineage
    assert lineage is not None
    rig.kept.memory = dataclasses.replace(
        rig.kept.memory, lineage=dataclasses.replace(lineage, head=bytes(32))
    )
    agent = rig.start()
    assert agent.renew().tokens[0].claims.lineage.seq == 0


def test_lineage_refused_after_the_lapse(rig: Rig) -> None:
    """Where no lease is left to end, nobody is told of a refusal: the node is granted another."""
    agent = rig.start()
    agent.renew()
    lineage = rig.kept.memory.lineage
    assert lineage is not None
    rig.kept.memory = dataclasses.replace(
        rig.kept.memory, lineage=dataclasses.replace(lineage, head=bytes(32))
    )
    agent = rig.start()
    rig.handed.over.clear()
    assert agent.renew().tokens[0].claims.lineage.seq == 0
    assert EndReason.REFUSED not in [reason for reason, _ in rig.handed.over]


FORGERIES: dict[str, Callable[[LeaseAnswer], LeaseAnswer]] = {
    "sequence": lambda answer: dataclasses.replace(answer, sequence=answer.sequence + 1),
    "head": lambda answer: dataclasses.replace(answer, head=bytes(32)),
    "leases": lambda answer: dataclasses.replace(answer, leases=()),
    "claims": lambda answer: dataclasses.replace(
        answer, leases=(dataclasses.replace(answer.leases[0], claims_digest=bytes(32)),)
    ),
    "lease-id": lambda answer: dataclasses.replace(
        answer, leases=(dataclasses.replace(answer.leases[0], lease_id=bytes(16)),)
    ),
    "expiry": lambda answer: dataclasses.replace(
        answer, leases=(dataclasses.replace(answer.leases[0], expires_at=1 << 40),)
    ),
    "challenge": lambda answer: dataclasses.replace(
        answer, challenge=dataclasses.replace(answer.challenge, node=bytes(32))
    ),
}


@pytest.mark.parametrize("part", FORGERIES)
def test_forged_frame(rig: Rig, part: str) -> None:
    """What stands beside the token must agree with it; else the answer grants nothing."""
    agent = rig.start()
    rig.verifier.forge = FORGERIES[part]
    outcome = agent.step()
    assert isinstance(outcome.error, UnavailableError)
    assert "does not fit what was sent" in str(outcome.error)
    assert not rig.keeper.valid
    assert not rig.handed.out


def test_older_token(rig: Rig) -> None:
    """An answer that carries the token of an earlier renewal grants nothing."""
    kept: list[LeaseAnswer] = []

    def repeat(answer: LeaseAnswer) -> LeaseAnswer:
        kept.append(answer)
        return dataclasses.replace(answer, leases=kept[0].leases)

    agent = rig.start()
    rig.verifier.forge = repeat
    agent.renew()
    rig.clock.pass_time(40)
    outcome = agent.step()
    assert isinstance(outcome.error, UnavailableError)
    assert len(rig.handed.tokens) == 1


def test_token_of_other_node(rig: Rig, local_ca: LocalCA) -> None:
    """A genuine token of another node grants this one nothing."""
    other = type(rig)(SimulatedNode(local_ca))
    other.node.event_log = b"log"
    other.verifier = rig.verifier
    other.clock = rig.clock
    stolen: list[LeaseAnswer] = []

    def keep(answer: LeaseAnswer) -> LeaseAnswer:
        stolen.append(answer)
        return answer

    rig.verifier.forge = keep
    other.start().renew()
    rig.verifier.forge = lambda answer: dataclasses.replace(answer, leases=stolen[0].leases)
    outcome = rig.start().step()
    assert isinstance(outcome.error, UnavailableError)
    assert not rig.keeper.valid


def test_token_signed_by_another(rig: Rig) -> None:
    """A token that no key of the join bundle signed grants nothing."""
    stranger = type(rig)(rig.node)
    rig.verifier.bundle = dataclasses.replace(
        rig.verifier.bundle, keys=stranger.verifier.bundle.keys
    )
    outcome = rig.start().step()
    assert isinstance(outcome.error, UnavailableError)
    assert "not trusted" in str(outcome.error)
    assert not rig.keeper.valid


def test_wrong_clock(rig: Rig) -> None:
    """A machine whose clock runs far ahead holds nothing and says that its clock is wrong."""
    rig.clock = SetClock(wall=rig.clock.wall + 600)
    rig.verifier.before = lambda _: rig.clock.pass_time(0.01)
    outcome = rig.start().step()
    assert isinstance(outcome.error, TransportError)
    assert "set the clock" in str(outcome.error)
    assert not rig.keeper.valid


def test_clock_behind(rig: Rig) -> None:
    """A machine whose clock is behind holds its lease no longer than CLOCK_BOOTTIME allows."""
    rig.clock = SetClock(wall=rig.clock.wall - 600)
    rig.start().renew()
    rig.clock.pass_time(119)
    assert rig.keeper.current() is not None
    rig.clock.pass_time(1)
    assert rig.keeper.current() is None
    assert not rig.handed.out


def test_unsafe_quote_is_sent_as_it_is(rig: Rig) -> None:
    """The agent presents what the TPM says of its clock; judging it is the verifier's."""
    truth = rig.node.clock_info
    rig.node.lie(clock_info=ClockInfo(1, truth.reset_count, truth.restart_count, safe=False))
    assert rig.start().renew().tokens[0].claims.lineage == LineageClaim(
        rig.handed.tokens[0].tokens[0].claims.evidence, 0
    )


HINT = (
    "hint: run with --ek-algorithm ecc-p256, or write"
    ' ek_algorithm = "ecc-p256" under [node] in its configuration'
)


@pytest.mark.parametrize(
    ("expected", "notes"),
    [("ecc-p256", [HINT]), ("ecc-p521", []), (None, [])],
)
def test_ek_of_another_kind(rig: Rig, expected: str | None, notes: list[str]) -> None:
    """A verifier that wants another endorsement key is answered with the option that has it."""
    finding = Finding(
        "enrolment.ek-algorithm.mismatch", "Another kind.", expected=expected, seen="rsa-2048"
    )
    rig.verifier.before = fail_once("enrol", VerificationError(finding))
    outcome = rig.start().step()
    assert getattr(outcome.error, "__notes__", []) == notes


def test_a_rotated_key_is_followed_once(rig: Rig) -> None:
    """What the bundle's key named is believed, over two rotations, and not asked for again."""
    agent = rig.start()
    agent.renew()
    rig.verifier.rotate_key()
    rig.verifier.rotate_key()
    asked: list[str] = []
    rig.verifier.before = asked.append
    for _ in range(2):
        rig.clock.pass_time(40)
        agent.renew()
    assert rig.keeper.valid
    assert asked == ["lease", "rotations", "lease"]


def test_a_key_that_no_trusted_one_named_is_not_followed(rig: Rig) -> None:
    """The lease in hand goes on; nothing new is believed, however often it is offered."""
    agent = rig.start()
    agent.renew()
    rig.verifier.rotate_key(announce=False)
    rig.verifier.rotate_key()
    for _ in range(2):
        with pytest.raises(UnavailableError, match="cannot be trusted"):
            agent.renew()
    assert rig.keeper.valid


def test_an_answer_that_is_wrong_otherwise_asks_for_no_rotations(rig: Rig) -> None:
    """Only a key that is not known is a reason to look for another."""
    agent = rig.start()
    asked: list[str] = []
    rig.verifier.before = asked.append
    rig.verifier.forge = lambda answer: dataclasses.replace(answer, head=bytes(32))
    with pytest.raises(UnavailableError, match="cannot be trusted"):
        agent.renew()
    assert "rotations" not in asked
