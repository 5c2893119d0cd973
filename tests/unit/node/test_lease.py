"""The lease in hand: taking, ending, handing out."""

from __future__ import annotations

import dataclasses
import stat
from typing import TYPE_CHECKING

import pytest

from bootlease.errors import TransportError
from bootlease.model import Finding
from bootlease.node.lease import EndReason, HeldLease, LeaseKeeper
from bootlease.node.outputs import LeaseFiles

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Rig


@pytest.fixture
def lease(rig: Rig) -> HeldLease:
    """A genuine lease of 120 s that nobody keeps."""
    return rig.start().renew()


class Stuck:
    """An output whose files cannot be removed, or written."""

    def __init__(self, *, writable: bool) -> None:
        """Fail at writing, or at removing."""
        self.writable = writable
        self.removable = not writable
        self.removals = 0

    def granted(self, lease: HeldLease) -> None:
        """Write."""
        del lease
        if not self.writable:
            raise TransportError("disk full")

    def ended(self, reason: EndReason, findings: tuple[Finding, ...]) -> None:
        """Remove."""
        del reason, findings
        self.removals += 1
        if not self.removable:
            raise TransportError("read-only file system")


def test_files_and_their_modes(lease: HeldLease, tmp_path: Path) -> None:
    """Token and key are written for their owner alone, and both go when the lease ends."""
    files = LeaseFiles(tmp_path / "token", tmp_path / "key.pem")
    files.granted(lease)
    assert files.token is not None
    assert files.key is not None
    assert files.token.read_bytes() == lease.encoded[0]
    assert files.key.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    files.ended(EndReason.LAPSED, ())
    assert list(tmp_path.iterdir()) == []
    files.ended(EndReason.LAPSED, ())


def test_no_folder(lease: HeldLease, tmp_path: Path) -> None:
    """A token that cannot be written is an error of the machine, in one line."""
    with pytest.raises(TransportError, match="cannot write token file"):
        LeaseFiles(tmp_path / "missing" / "token").granted(lease)


def test_late_lease_is_not_taken(rig: Rig, lease: HeldLease) -> None:
    """A lease whose deadline has passed is never handed out."""
    late = dataclasses.replace(lease, deadline=rig.clock.boottime())
    keeper = LeaseKeeper(rig.clock, rig.handed)
    rig.handed.out = False
    with pytest.raises(TransportError, match="after the lease's end"):
        keeper.take(late)
    assert not keeper.valid
    assert not rig.handed.out


def test_closed_keeper_takes_nothing(rig: Rig, lease: HeldLease) -> None:
    """An answer that comes while the agent stops hands out nothing."""
    keeper = LeaseKeeper(rig.clock, rig.handed)
    keeper.close()
    with pytest.raises(TransportError, match="stopping"):
        keeper.take(lease)
    assert not rig.handed.out


def test_write_failure_holds_nothing(rig: Rig, lease: HeldLease) -> None:
    """A lease whose token cannot be handed out is not held, and nothing of it is left."""
    output = Stuck(writable=False)
    keeper = LeaseKeeper(rig.clock, output)
    with pytest.raises(TransportError, match="disk full"):
        keeper.take(lease)
    assert not keeper.valid
    assert output.removals == 1


def test_removal_is_tried_again(rig: Rig, lease: HeldLease) -> None:
    """A lease is over when its time has come even if its token cannot be taken back yet."""
    output = Stuck(writable=True)
    ended: list[EndReason] = []
    keeper = LeaseKeeper(rig.clock, output, lambda reason, _: ended.append(reason))
    keeper.take(lease)
    rig.clock.pass_time(120)
    with pytest.raises(TransportError, match="read-only"):
        keeper.enforce()
    assert ended == [EndReason.LAPSED]
    with pytest.raises(TransportError, match="read-only"):
        keeper.enforce()
    output.removable = True
    keeper.enforce()
    keeper.enforce()
    assert output.removals == 3
    assert ended == [EndReason.LAPSED]


def test_next_look(rig: Rig, lease: HeldLease) -> None:
    """The watcher looks again no later than at the deadline."""
    keeper = LeaseKeeper(rig.clock, rig.handed)
    assert keeper.next_look(0.01, 0.25) == 0.25
    keeper.take(lease)
    rig.clock.pass_time(119.9)
    assert keeper.next_look(0.01, 0.25) == pytest.approx(0.1)


def test_wall_clock_ends_it_too(rig: Rig, lease: HeldLease) -> None:
    """A lease ends at exp by the wall clock, though CLOCK_BOOTTIME would leave it more."""
    keeper = LeaseKeeper(rig.clock, rig.handed)
    keeper.take(dataclasses.replace(lease, deadline=1e9))
    rig.clock.wall = lease.expires_at - 1
    assert keeper.valid
    rig.clock.wall = float(lease.expires_at)
    assert not keeper.valid


def test_a_machine_that_was_suspended(rig: Rig, lease: HeldLease) -> None:
    """Time that passes while the machine sleeps counts: at the first look the lease is over."""
    ended: list[EndReason] = []
    keeper = LeaseKeeper(rig.clock, rig.handed, lambda reason, _: ended.append(reason))
    keeper.take(lease)
    # CLOCK_BOOTTIME goes on in sleep; the wall clock is set late, or never.
    rig.clock.boot += 3600
    assert keeper.next_look(0.005, 0.25) == 0.005
    keeper.enforce()
    assert ended == [EndReason.LAPSED]
    assert not rig.handed.out
