"""Several outputs at once: what fails in one ends nothing in the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bootlease.errors import MalformedError, TransportError
from bootlease.model import Finding
from bootlease.node.config import Keep
from bootlease.node.confirm import Confirmation
from bootlease.node.keeping import Keeping
from bootlease.node.lease import EndReason, HeldLease
from bootlease.node.outputs import LeaseFiles, Outputs
from bootlease.node.state import StateDirectory
from bootlease.node.wish import LeaseWish
from bootlease.node.wishbook import Wishes

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Rig

WHY = (Finding("a.b", "It is so."),)
ONE = LeaseWish(("tool:search",), "https://tools.example", optional=True)
TWO = LeaseWish(("repo:acme",), "https://git.example", optional=True)


class Output:
    """An output that fails when it is told to."""

    def __init__(self) -> None:
        """Work."""
        self.fails_to_grant = self.fails_to_end = False
        self.told: list[object] = []

    def granted(self, lease: HeldLease) -> None:
        """Hand out."""
        if self.fails_to_grant:
            raise TransportError("disk full")
        self.told.append(lease)

    def ended(self, reason: EndReason, findings: tuple[Finding, ...]) -> None:
        """Take back."""
        if self.fails_to_end:
            raise TransportError("read-only")
        self.told.append((reason, findings))


@pytest.fixture
def lease(rig: Rig) -> HeldLease:
    """A genuine lease for two wishes."""
    return rig.start(ONE, TWO).renew()


def test_one_fails_to_grant(lease: HeldLease) -> None:
    """Who cannot hand out is told to take back; the others have the lease."""
    broken, sound = Output(), Output()
    broken.fails_to_grant = True
    said: list[str] = []
    Outputs([broken, sound], said.append).granted(lease)
    assert sound.told == [lease]
    assert broken.told == [(EndReason.UNUSABLE, ())]
    assert said == ["disk full"]


def test_all_fail_to_grant(lease: HeldLease) -> None:
    """A lease that could be handed out nowhere is none."""
    broken = Output()
    broken.fails_to_grant = True
    with pytest.raises(TransportError, match="disk full"):
        Outputs([broken], print).granted(lease)
    Outputs([], print).granted(lease)


def test_one_fails_to_end(lease: HeldLease) -> None:
    """All are told of the end; who failed is told again, the others are not."""
    broken, sound = Output(), Output()
    outputs = Outputs([broken, sound], print)
    outputs.granted(lease)
    broken.fails_to_end = True
    for _ in range(2):
        with pytest.raises(TransportError, match="read-only"):
            outputs.ended(EndReason.REFUSED, WHY)
    broken.fails_to_end = False
    outputs.ended(EndReason.REFUSED, WHY)
    assert sound.told == broken.told == [lease, (EndReason.REFUSED, WHY)]
    outputs.ended(EndReason.LAPSED, ())
    assert sound.told[-1] == (EndReason.LAPSED, ())


def test_outputs_come_and_go(lease: HeldLease) -> None:
    """An output that is dropped takes back what it handed out, and gets nothing more."""
    first, second = Output(), Output()
    outputs = Outputs([first], print)
    outputs.add(second)
    outputs.granted(lease)
    outputs.drop(second)
    outputs.granted(lease)
    assert first.told == [lease, lease]
    assert second.told == [lease, (EndReason.UNWANTED, ())]


def test_files_of_one_wish(lease: HeldLease, tmp_path: Path) -> None:
    """Files hold the token of their wish, and nothing once that is granted nothing."""
    second = lease.holdings[1]
    files = LeaseFiles(tmp_path / "token", tmp_path / "key", second.id)
    files.granted(lease)
    assert (tmp_path / "token").read_bytes() == second.encoded
    assert (tmp_path / "key").read_bytes() == second.key.export()
    assert files.paths == (tmp_path / "token", tmp_path / "key")
    other = HeldLease(lease.holdings[:1], lease.expires_at, lease.deadline, lease.life)
    files.granted(other)
    assert list(tmp_path.iterdir()) == []


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


def test_keeping_follows_the_configuration(tmp_path: Path, lease: HeldLease) -> None:
    """What stays in the configuration keeps its wish; what goes takes its files with it."""
    kept = Kept(tmp_path / "state")
    one = Keep(ONE, Confirmation.PROCESS, tmp_path / "one", None)
    two = Keep(TWO, Confirmation.PROCESS, tmp_path / "two", None)
    kept.keeping.apply([one, two])
    first = kept.wishes.snapshot()
    kept.outputs.granted(lease)
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
