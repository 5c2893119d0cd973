"""Which events of a log a quote makes visible, and how a CCEL's registers stand for PCRs."""

from __future__ import annotations

import pytest

from bootlease.bootstate import AttestedLog
from bootlease.bootstate.ccel import register_of
from bootlease.eventlog import (
    EventRecord,
    EventType,
    encode_event_log,
    parse_event_log,
    replay,
)
from bootlease.model import HashAlg
from bootlease.testing.measurements import Measurement, attested_log

ACTION = EventType.EV_EFI_ACTION


def test_events_of_attested_pcrs_in_their_order() -> None:
    """Only attested PCRs are seen, each in its own order."""
    view = attested_log(
        Measurement(4, ACTION, b"a"),
        Measurement(5, ACTION, b"b"),
        Measurement(4, ACTION, b"c"),
        attested=(4, 7),
    )
    assert [event.unverified_data for event in view.events(4)] == [b"a", b"c"]
    assert view.events(5) == ()
    assert (view.attests(4), view.attests(7), view.attests(5)) == (True, True, False)


def test_events_that_extend_nothing_are_not_seen() -> None:
    """Anybody may append an EV_NO_ACTION record: it is in no PCR."""
    view = attested_log(Measurement(4, EventType.EV_NO_ACTION, b"trust me"))
    assert view.events(4) == ()


def test_the_quoted_bank_counts() -> None:
    """Data is verified under the quoted bank's digest, whatever another bank says (A7)."""
    digests = {
        HashAlg.SHA1: HashAlg.SHA1.digest(b"said"),
        HashAlg.SHA256: HashAlg.SHA256.digest(b"done"),
    }
    banks = list(digests)
    log = parse_event_log(encode_event_log([EventRecord(4, ACTION, digests, b"said")], banks))
    seen = [AttestedLog.of(replay(log), bank) for bank in banks]
    verified = [view.verified(view.events(4)[0]) for view in seen]
    assert verified[0] is not None
    assert verified[1] is None
    assert seen[1].digest(seen[1].events(4)[0]) == HashAlg.SHA256.digest(b"done")


def test_a_bank_that_the_log_lacks() -> None:
    """No fact can come from a bank without digests."""
    replayed = attested_log(Measurement(4, ACTION, b"a")).replayed
    with pytest.raises(ValueError, match="sha384"):
        AttestedLog.of(replayed, HashAlg.SHA384)


def test_registers_of_a_ccel() -> None:
    """A CCEL's index 1 holds Secure Boot, index 2 the boot loader, index 3 GRUB (D26)."""
    view = attested_log(
        Measurement(1, ACTION, b"configuration"),
        Measurement(2, ACTION, b"boot loader"),
        Measurement(3, ACTION, b"grub"),
        attested=(1, 2),
        ccel=True,
    )
    assert [event.unverified_data for event in view.events(7)] == [b"configuration"]
    assert [event.unverified_data for event in view.events(4)] == [b"boot loader"]
    assert view.events(8) == ()
    assert (view.attests(7), view.attests(1), view.attests(8)) == (True, True, False)
    assert view.events(0) == ()


def test_every_pcr_has_one_register_or_none() -> None:
    """Firmware and boot PCRs map to a register each; PCRs of dynamic launch to none."""
    assert [register_of(pcr) for pcr in range(16)] == [0, 1, 2, 2, 2, 2, 2, 1, *[3] * 8]
    assert {register_of(pcr) for pcr in range(16, 24)} == {-1}
