"""Several outputs at once: what fails in one ends nothing in the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bootlease.errors import TransportError
from bootlease.model import Finding
from bootlease.node.lease import EndReason, HeldLease
from bootlease.node.outputs import LeaseFiles, Outputs
from bootlease.node.wish import LeaseWish

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
