"""Standing wishes: what a configuration asks for, and the files that its tokens go to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bootlease.errors import MalformedError
from bootlease.node.confirm import Confirmation
from bootlease.node.outputs import Outputs
from bootlease.node.service.config import Keep
from bootlease.node.service.keeping import Keeping
from bootlease.node.state import StateDirectory
from bootlease.node.wish import LeaseWish
from bootlease.node.wishbook import Wishes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.node.conftest import Rig

ONE = LeaseWish(("tool:search",), "https://tools.example", optional=True)
TWO = LeaseWish(("repo:acme",), "https://git.example", optional=True)


class Kept:
    """Standing wishes of a state directory."""

    def __init__(self, folder: Path) -> None:
        """Keep nothing."""
        self.wishes = Wishes(at_most=2)
        self.said: list[str] = []
        self.directory = StateDirectory(folder)
        outputs = Outputs([], self.said.append)
        self.keeping = Keeping(self.wishes, outputs, self.directory, self.said.append)
        self.outputs = outputs


def test_keeping_follows_the_configuration(tmp_path: Path, rig: Rig) -> None:
    """What stays in the configuration keeps its wish; what goes takes its files with it."""
    kept = Kept(tmp_path / "state")
    one = Keep(ONE, Confirmation.PROCESS, tmp_path / "one", None)
    two = Keep(TWO, Confirmation.PROCESS, tmp_path / "two", None)
    kept.keeping.apply([one, two])
    first = kept.wishes.snapshot()
    kept.outputs.granted(rig.start(ONE, TWO).renew())
    assert (tmp_path / "one").exists()
    assert (tmp_path / "two").exists()
    kept.keeping.apply([two])
    assert not (tmp_path / "one").exists()
    assert (tmp_path / "two").exists()
    assert kept.wishes.snapshot() == first[1:]
    kept.keeping.apply([])
    assert len(kept.wishes) == 0
    kept.directory.close()


def test_keeping_respects_what_is_somebody_elses(tmp_path: Path) -> None:
    """A file that no agent made refuses the whole change."""
    kept = Kept(tmp_path / "state")
    one = Keep(ONE, Confirmation.PROCESS, tmp_path / "one", None)
    kept.keeping.apply([one])
    (tmp_path / "two").write_text("mine")
    two = Keep(TWO, Confirmation.PROCESS, tmp_path / "two", None)
    with pytest.raises(MalformedError, match="is there already"):
        kept.keeping.apply([two])
    assert [wished.wish for wished in kept.wishes.snapshot()] == [ONE]
    kept.directory.close()


def test_keeping_more_than_fits(tmp_path: Path) -> None:
    """What the book has no room for is said, and the rest is kept."""
    kept = Kept(tmp_path / "state")
    many = [
        Keep(LeaseWish((f"s:{number}",), "a"), Confirmation.PROCESS, None, None)
        for number in range(3)
    ]
    kept.keeping.apply(many)
    assert len(kept.wishes) == 2
    assert kept.said == ["cannot keep s:2 for a: the agent keeps 2 leases already"]
    kept.directory.close()


def test_keeping_waits_for_room(tmp_path: Path) -> None:
    """What had no room is wished for once there is some, unless it is not to be kept any more."""
    kept = Kept(tmp_path / "state")
    guests = [kept.wishes.add(LeaseWish((f"guest:{number}",), "a")) for number in range(2)]
    one, two = (Keep(wish, Confirmation.PROCESS, None, None) for wish in (ONE, TWO))
    kept.keeping.apply([one, two])
    kept.keeping.again()
    kept.keeping.apply([two])
    for guest in guests:
        kept.wishes.remove(guest)
    kept.keeping.again()
    kept.keeping.again()
    assert [wished.wish for wished in kept.wishes.snapshot()] == [TWO]
    assert len(kept.said) == 3
    kept.directory.close()
