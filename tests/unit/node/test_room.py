"""How long wishes may be, and how those who share the evidence share its bytes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.node.room import EACH, ROOM, Share, fits
from bootlease.node.wish import LeaseWish
from bootlease.node.wishbook import Holder, ShareTakenError, TooManyWishesError, Wishes

SHORT = LeaseWish(("a",), "b", optional=True)
LONG = LeaseWish(tuple(f"tool:{at:0123}" for at in range(32)), "b", optional=True)


def holder(rule: str) -> Holder:
    """Return a workload under a rule."""
    return Holder(rule, 10, 1000, None)


def fill(book: Wishes, wish: LeaseWish, rule: str, share: Share) -> int:
    """Wish for the same until the book takes no more; return how often it took it."""
    before = len(book)
    with contextlib.suppress(TooManyWishesError):
        while True:
            book.add(wish, holder=holder(rule), share=share)
    return len(book) - before


def test_a_greedy_rule_leaves_others_their_room() -> None:
    """Who wishes for much fills its own share of the evidence; the others' is still theirs."""
    book, share = Wishes(), Share(16, 48)
    greedy = fill(book, LONG, "greedy", share)
    assert 0 < greedy < 16
    assert fill(book, LONG, "second", share) == greedy
    assert fill(book, LONG, "third", share) == greedy


def test_who_shares_with_nobody_has_all_of_it() -> None:
    """A single rule is bounded by what evidence can carry alone."""
    alone = fill(Wishes(), LONG, "only", Share(16, 16))
    assert alone == 14


def test_what_stands_by_itself_comes_first() -> None:
    """Rules share what the standing wishes of the configuration leave."""
    book, without, share = Wishes(), Wishes(), Share(8, 16)
    for _ in range(6):
        book.add(LONG)
    left = fill(book, LONG, "one", share)
    assert left == fill(book, LONG, "two", share) == 4
    assert fill(without, LONG, "one", share) == 7


def test_a_withdrawn_wish_makes_room_in_its_share() -> None:
    """A share is of what is wished for at this moment."""
    book, share = Wishes(), Share(16, 32)
    first = book.add(LONG, holder=holder("one"), share=share)
    fill(book, LONG, "one", share)
    book.remove(first)
    book.add(LONG, holder=holder("one"), share=share)
    with pytest.raises(ShareTakenError, match="under rule one are as long as they may be"):
        book.add(LONG, holder=holder("one"), share=share)


def test_a_wish_counts_for_the_rule_it_was_handed_over_to() -> None:
    """After a reload the share of the new rule bears what was opened under the old one."""
    book, share = Wishes(), Share(16, 32)
    moved = book.add(LONG, holder=holder("old"), share=share)
    book.hand_over(moved, holder("new"))
    assert [wished.holder for wished in book.snapshot()] == [holder("new")]
    assert fill(book, LONG, "old", share) == fill(book, LONG, "new", share) + 1


def test_long_wishes_that_are_left_behind_fit() -> None:
    """What short wishes brought room for is not lost when they go: long ones never used it."""
    book = Wishes()
    short = [book.add(SHORT) for _ in range(200)]
    with contextlib.suppress(TooManyWishesError):
        for _ in range(56):
            book.add(LONG)
    assert len(book) < 256
    for wish_id in short:
        book.remove(wish_id)
    assert sum(len(each.wish.purpose()) for each in book.ask(0.0)) <= ROOM


@given(
    rules=st.lists(st.integers(1, 64), min_size=2, max_size=8).filter(lambda of: sum(of) <= 256),
    tries=st.lists(st.tuples(st.integers(0, 7), st.integers(1, 8000)), max_size=120),
)
def test_every_lease_has_its_room_whatever_others_took(
    rules: list[int], tries: list[tuple[int, int]]
) -> None:
    """However the others wished, each rule's leases may all be as long as its share says."""
    taken: list[list[int]] = [[] for _ in rules]
    for index, size in tries:
        own = taken[index % len(rules)]
        leases = rules[index % len(rules)]
        if len(own) < leases and Share(leases, sum(rules)).has_room([*own, size], ()):
            own.append(size)
    everything = [size for own in taken for size in own]
    assert fits(everything)
    modest = ROOM // min(64, sum(rules))
    assert modest >= EACH
    for own, leases in zip(taken, rules, strict=True):
        if not own:
            share = Share(leases, sum(rules))
            assert share.has_room([modest] * leases, ())
            assert fits([*everything, *([modest] * leases)])
