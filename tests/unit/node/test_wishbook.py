"""The book of wishes: who may come and go while the agent attests."""

from __future__ import annotations

import threading

import pytest

from bootlease import cbor
from bootlease.node.confirm import Confirmation, ConfirmationKey, ProcessKey
from bootlease.node.wish import LeaseWish
from bootlease.node.wishbook import TooManyWishesError, Wishes, WishId

WISH = LeaseWish(("a",), "b", optional=True)


def steady() -> float:
    """Return no jitter: pauses of their full length."""
    return 1.0


def test_first_come_first_asked() -> None:
    """Wishes are asked for in the order in which they came, each under an id of its own."""
    book = Wishes()
    ids = [book.add(WISH), book.add(WISH, Confirmation.TPM), book.add(WISH)]
    assert [wished.id for wished in book.ask(0.0)] == ids
    assert [wished.key for wished in book.snapshot()][1] is Confirmation.TPM
    assert len(set(ids)) == len(book) == 3


def test_who_wishes_wakes() -> None:
    """A wish is told at once, and is new until it was asked for."""
    rung: list[int] = []
    book = Wishes(on_new=lambda: rung.append(1))
    book.add(WISH)
    assert rung == [1]
    assert book.has_new
    book.ask(0.0)
    assert not book.has_new


def test_withdrawn_is_not_asked_for() -> None:
    """A wish that is withdrawn is left out; withdrawing it again is harmless, ids never return."""
    book = Wishes()
    first = book.add(WISH)
    book.remove(first)
    book.remove(first)
    assert book.ask(0.0) == ()
    assert book.add(WISH) != first


def test_book_is_bounded() -> None:
    """A full book takes no wish, until one is withdrawn."""
    book = Wishes(at_most=2)
    first = book.add(WISH)
    book.add(WISH)
    with pytest.raises(TooManyWishesError, match="2 leases already"):
        book.add(WISH)
    book.remove(first)
    book.add(WISH)


def long_wish() -> LeaseWish:
    """Return a wish for as many and as long scope names as a lease may have."""
    return LeaseWish(tuple(f"tool:{at:0123}" for at in range(32)), "b", optional=True)


def evidence_bytes(book: Wishes, key: ConfirmationKey) -> int:
    """Return the size of the leases in evidence that asks for all of a book."""
    return sum(len(cbor.encode(each.wish.request(key).wire())) for each in book.ask(0.0))


def test_long_wishes_do_not_outgrow_evidence() -> None:
    """What a verifier would not read is never asked for; who withdraws makes room again."""
    book, key = Wishes(), ProcessKey()
    first = book.add(long_wish())
    for _ in range(13):
        book.add(long_wish(), key)
    with pytest.raises(TooManyWishesError, match="as long as evidence may be"):
        book.add(long_wish())
    assert evidence_bytes(book, key) <= 61 * 1024
    book.remove(first)
    book.add(long_wish())


@pytest.mark.parametrize("kind", Confirmation)
def test_a_book_of_short_wishes_can_be_full(kind: Confirmation) -> None:
    """As many leases as one quote can carry have room, wherever their keys live."""
    book = Wishes()
    wish = LeaseWish(("tool:search", "repo:acme/widgets"), "https://tools.example", level=3)
    for _ in range(256):
        book.add(wish, kind)
    assert len(book) == 256


@pytest.mark.parametrize("size", [0, 257])
def test_no_book_beyond_a_quote(size: int) -> None:
    """A book that one quote could not carry cannot be made."""
    with pytest.raises(ValueError, match="1 to 256"):
        Wishes(at_most=size)


def test_denied_alone_waits_ever_longer() -> None:
    """What was denied is asked for again after pauses that double, while others go on."""
    book = Wishes()
    kept, denied = book.add(WISH), book.add(WISH)
    now, pauses = 0.0, []
    for _ in range(7):
        assert [wished.id for wished in book.ask(now)] == [kept, denied]
        book.granted([kept])
        book.denied([denied], now, steady)
        assert [wished.id for wished in book.ask(now)] == [kept]
        began = now
        while len(book.ask(now)) == 1:
            now += 1.0
        pauses.append(now - began)
    assert pauses == [30, 60, 120, 240, 480, 900, 900]


def test_a_grant_forgets_denials() -> None:
    """After a grant the first pause is short again."""
    book = Wishes()
    wish = book.add(WISH)
    book.denied([wish], 0.0, steady)
    book.denied([wish], 0.0, steady)
    book.granted([wish])
    assert book.next_due(0.0) == 0
    book.denied([wish], 0.0, steady)
    assert book.next_due(0.0) == 30


def test_when_something_is_due() -> None:
    """An empty book is never due, one with a pause when it ends."""
    book = Wishes()
    assert book.next_due(0.0) is None
    wish = book.add(WISH)
    assert book.next_due(5.0) == 0
    book.denied([wish], 5.0, steady)
    assert book.next_due(15.0) == 20
    assert book.next_due(99.0) == 0


def test_outcomes_of_wishes_that_are_gone() -> None:
    """An answer that comes after its wish was withdrawn brings nothing back."""
    book = Wishes()
    book.granted([WishId(7)])
    book.denied([WishId(7)], 0.0, steady)
    assert len(book) == 0


def test_many_threads() -> None:
    """Workloads of many threads come and go while another one asks: none is lost, none stays."""
    book = Wishes()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            book.granted([wished.id for wished in book.ask(0.0)])

    def come_and_go() -> None:
        for _ in range(200):
            book.remove(book.add(WISH))

    asking = threading.Thread(target=ask)
    others = [threading.Thread(target=come_and_go) for _ in range(4)]
    asking.start()
    for each in others:
        each.start()
    for each in others:
        each.join()
    stop.set()
    asking.join()
    assert len(book) == 0
