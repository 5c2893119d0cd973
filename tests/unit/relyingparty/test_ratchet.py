"""The continuity statement in hand: it only gets newer, and ages by a clock that nobody sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.relyingparty import StaticKeys
from bootlease.relyingparty.ratchet import HeldContinuity, statement_text
from bootlease.testing.tokens import ISSUER, NOW, FakeIssuer
from bootlease.token import KeySet

ISSUED = FakeIssuer()
OTHER = FakeIssuer(99)
BOTH = frozenset({ISSUED.signer.key_id, OTHER.signer.key_id})


@dataclass
class Clocks:
    """A wall clock and one that nobody sets, both moved by the test."""

    wall: float = NOW
    steady: float = 100.0

    def now(self) -> float:
        """Return the wall clock."""
        return self.wall

    def monotonic(self) -> float:
        """Return the other one."""
        return self.steady


class Keys:
    """A key source that knows another set when asked again."""

    def __init__(self, keys: KeySet, fresh: KeySet | None = None) -> None:
        self.keys = keys
        self.fresh = fresh or keys
        self.refreshed = 0

    def key_set(self) -> KeySet:
        """Return the set."""
        return self.keys

    def refresh(self) -> KeySet:
        """Return the other one."""
        self.refreshed += 1
        self.keys = self.fresh
        return self.keys


def holding(clocks: Clocks, keys: Any = None, **options: Any) -> HeldContinuity:
    """Return an empty hand."""
    source = keys or StaticKeys(ISSUED.keys)
    options = {"issuer": ISSUER, "clock": clocks.now, "monotonic": clocks.monotonic, **options}
    return HeldContinuity(source, **options)


@pytest.fixture
def clocks() -> Clocks:
    """Clocks at the time of issue."""
    return Clocks()


def refusal(held: HeldContinuity, text: str, at: float = 100.0) -> list[str]:
    """Return the ids of what is wrong with a statement."""
    with pytest.raises(VerificationError) as caught:
        held.take(text, asked_at=at)
    return [each.id for each in caught.value.findings]


def test_an_empty_hand_is_no_permission(clocks: Clocks) -> None:
    """Before the first statement nothing is known, and all of its time is over."""
    held = holding(clocks)
    with pytest.raises(VerificationError) as caught:
        held.current()
    assert caught.value.findings[0].id == "continuity.missing"
    assert held.age() == 1
    assert held.valid is None


def test_a_statement_is_held_until_its_seconds_are_over(clocks: Clocks) -> None:
    """It counts from when it was asked for, by the clock that nobody sets, with no leeway."""
    held = holding(clocks)
    held.take(ISSUED.statement(expires_at=NOW + 10), asked_at=98)
    assert held.current().sequence == 1
    assert (held.age(), held.valid) == (0.2, 10)
    clocks.steady = 107.9
    assert held.current().sequence == 1
    clocks.steady = 108
    with pytest.raises(VerificationError) as caught:
        held.current()
    assert caught.value.findings[0].id == "continuity.stale"


def test_a_wall_clock_set_back_brings_nothing_to_life(clocks: Clocks) -> None:
    """Only the clock that nobody sets says how old the statement is."""
    held = holding(clocks)
    held.take(ISSUED.statement(expires_at=NOW + 10), asked_at=100)
    clocks.steady, clocks.wall = 110, NOW - 1000
    with pytest.raises(VerificationError, match="too old"):
        held.current()


def test_the_same_statement_again_counts_no_longer(clocks: Clocks) -> None:
    """Whoever repeats the last statement for ever does not keep it young."""
    held = holding(clocks)
    text = ISSUED.statement(expires_at=NOW + 10)
    held.take(text, asked_at=100)
    held.take(text, asked_at=109)
    assert held.age() == 0
    clocks.steady = 110
    with pytest.raises(VerificationError, match="too old"):
        held.current()


def test_a_newer_statement_takes_its_place(clocks: Clocks) -> None:
    """Of a higher number, same epoch and same time."""
    held = holding(clocks)
    held.take(ISSUED.statement(), asked_at=100)
    held.take(ISSUED.statement(sequence=2, revoked=[7]), asked_at=101)
    assert held.current().status.get(7) == 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"sequence": 4}, "continuity.sequence.back"),
        ({"sequence": 6, "min_epoch": 1}, "continuity.epoch.back"),
        ({"sequence": 6, "issued_at": NOW - 6}, "continuity.issued.back"),
        ({"sequence": 6, "issuer": "https://other.example"}, "continuity.issuer.mismatch"),
        ({"sequence": 6, "issued_at": NOW - 20, "expires_at": NOW - 5}, "continuity.stale"),
        ({"sequence": 6, "issued_at": NOW + 6}, "continuity.issued.future"),
    ],
)
def test_nothing_is_taken_back(clocks: Clocks, changes: dict[str, Any], expected: str) -> None:
    """The next one falls behind the one in hand neither by number nor by epoch nor by time."""
    held = holding(clocks)
    held.take(ISSUED.statement(sequence=5, min_epoch=2), asked_at=100)
    assert refusal(held, ISSUED.statement(**{"min_epoch": 2, **changes})) == [expected]
    assert held.current().sequence == 5


def test_a_clock_that_was_corrected_a_little_is_no_fault(clocks: Clocks) -> None:
    """A verifier's clock may go back by as much as clocks may differ."""
    held = holding(clocks)
    held.take(ISSUED.statement(), asked_at=100)
    held.take(ISSUED.statement(sequence=2, issued_at=NOW - 5), asked_at=100)
    assert held.current().sequence == 2


def test_leeway_is_the_callers(clocks: Clocks) -> None:
    """Without leeway a second is too much."""
    held = holding(clocks, leeway=0)
    held.take(ISSUED.statement(), asked_at=100)
    assert refusal(held, ISSUED.statement(sequence=2, issued_at=NOW - 1)) == [
        "continuity.issued.back"
    ]


def test_an_unknown_key_is_looked_up_once(clocks: Clocks) -> None:
    """A rotation is noticed by the first statement that the new key signed."""
    keys = Keys(OTHER.keys, ISSUED.keys)
    held = holding(clocks, keys)
    held.take(ISSUED.statement(), asked_at=100)
    assert (held.current().sequence, keys.refreshed) == (1, 1)


def test_a_key_that_stays_unknown_is_refused(clocks: Clocks) -> None:
    """A stranger's statement is none, however often one looks."""
    keys = Keys(ISSUED.keys)
    assert refusal(holding(clocks, keys), OTHER.statement()) == ["continuity.key.unknown"]
    assert keys.refreshed == 1


def test_another_fault_than_the_key_fetches_no_keys(clocks: Clocks) -> None:
    """Strangers cannot make a relying party fetch keys with rubbish."""
    keys = Keys(ISSUED.keys)
    text = ISSUED.statement(issuer="https://other.example")
    assert refusal(holding(clocks, keys), text) == ["continuity.issuer.mismatch"]
    assert keys.refreshed == 0


def test_a_withdrawn_key_does_not_speak_again(clocks: Clocks) -> None:
    """Whoever stole it cannot list it anew, though the fetched key set has it still."""
    both = KeySet((*ISSUED.keys.keys, *OTHER.keys.keys))
    held = holding(clocks, StaticKeys(both))
    held.take(OTHER.statement(key_ids=BOTH), asked_at=100)
    held.take(ISSUED.statement(sequence=2), asked_at=100)
    assert refusal(held, OTHER.statement(sequence=3, key_ids=BOTH)) == ["continuity.key.unknown"]
    held.take(ISSUED.statement(sequence=3), asked_at=100)
    assert refusal(held, OTHER.statement(sequence=4, key_ids=BOTH)) == ["continuity.key.unknown"]


def test_where_every_key_was_withdrawn_nobody_speaks(clocks: Clocks) -> None:
    """A key set with nothing but withdrawn keys verifies nothing."""
    keys = Keys(KeySet((*ISSUED.keys.keys, *OTHER.keys.keys)))
    held = holding(clocks, keys)
    held.take(OTHER.statement(key_ids=BOTH), asked_at=100)
    held.take(ISSUED.statement(sequence=2), asked_at=100)
    keys.keys = OTHER.keys
    assert refusal(held, OTHER.statement(sequence=3)) == ["continuity.key.none-left"]


@pytest.mark.parametrize("text", ["", "a.b.c", "rubbish"])
def test_what_is_no_statement_is_malformed(clocks: Clocks, text: str) -> None:
    """And the one in hand stays."""
    held = holding(clocks)
    held.take(ISSUED.statement(), asked_at=100)
    with pytest.raises((MalformedError, VerificationError)):
        held.take(text, asked_at=100)
    assert held.current().sequence == 1


def test_keys_that_cannot_be_had_leave_the_hand_as_it_is(clocks: Clocks) -> None:
    """Without keys no statement can be checked."""

    class NoKeys(Keys):
        def key_set(self) -> KeySet:
            raise TransportError("no keys")

    with pytest.raises(TransportError):
        holding(clocks, NoKeys(ISSUED.keys)).take(ISSUED.statement(), asked_at=100)


def test_statement_text_is_ascii() -> None:
    """A body is text, white space around it ignored."""
    assert statement_text(b" a.b.c\n") == "a.b.c"
    with pytest.raises(MalformedError, match="ASCII"):
        statement_text("é".encode())
