"""What an agent says of its attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bootlease.errors import TransportError, VerificationError
from bootlease.model import Finding
from bootlease.node.lease import EndReason
from bootlease.node.observing import Outcome
from bootlease.node.reporter import Reporter
from bootlease.node.status import parse_status
from bootlease.node.wish import LeaseWish
from bootlease.node.wishbook import Holder, Wishes

if TYPE_CHECKING:
    from bootlease.node.status import Status

    from .conftest import Rig

GONE = Outcome(1.0, error=TransportError("cannot reach it"))


class Board:
    """Keeps the last status."""

    last: Status

    def report(self, status: Status) -> None:
        """Keep it."""
        self.last = status


@pytest.fixture
def board() -> Board:
    """Where the reporter publishes."""
    return Board()


@pytest.fixture
def reporter(rig: Rig, board: Board) -> Reporter:
    """A reporter that tells ``rig.said``."""
    return Reporter("https://v.example", board, rig.clock, rig.said.append)


def test_before_the_first_lease(rig: Rig, reporter: Reporter) -> None:
    """Without any lease so far there is nothing to renew."""
    reporter.stepped(GONE, None)
    assert rig.said == ["no lease yet: cannot reach it; next attempt in 1.0 s"]


def test_while_a_lease_holds(rig: Rig, reporter: Reporter) -> None:
    """A failed renewal says for how long the lease still holds."""
    lease = rig.start().renew()
    reporter.stepped(Outcome(40.0, granted=lease), b"")
    rig.clock.pass_time(40)
    reporter.stepped(GONE, b"")
    assert rig.said[-1] == (
        "no renewal: cannot reach it; the lease still holds for 80 s; next attempt in 1.0 s"
    )
    reporter.ended(EndReason.LAPSED, lease)
    reporter.stepped(GONE, b"")
    assert rig.said[-1] == "no lease: cannot reach it; next attempt in 1.0 s"


def test_notes_of_a_refusal(rig: Rig, reporter: Reporter, board: Board) -> None:
    """What to do next stands between the findings and the next attempt, and in the status."""
    refused = VerificationError(Finding("a.b", "It is so."))
    refused.add_note("hint: do otherwise")
    reporter.stepped(Outcome(8.0, error=refused), b"")
    assert rig.said == ["refused: It is so. [a.b]", "hint: do otherwise", "next attempt in 8 s"]
    assert board.last.notes == ("hint: do otherwise",)
    assert parse_status(board.last.encode()) == board.last
    reporter.stepped(GONE, b"")
    assert not board.last.notes


def test_the_status_says_whose_a_lease_is(rig: Rig, reporter: Reporter, board: Board) -> None:
    """What the agent saw of a workload goes with its wish, through the renewal, to the status."""
    book = Wishes()
    wish = LeaseWish(("tool:search",), "https://tools.example", level=2, optional=True)
    book.add(wish)
    book.add(wish, holder=Holder("search", 10, 1000, "/usr/bin/search"))
    lease = rig.start(book=book).renew()
    reporter.stepped(Outcome(40.0, granted=lease), b"")
    kept, opened = board.last.leases
    assert kept.workload is None
    assert opened.workload == Holder("search", 10, 1000, "/usr/bin/search")
    assert (opened.level, opened.expires_at) == (2, lease.expires_at)
