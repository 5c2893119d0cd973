"""The writer of event logs refuses what no log can hold."""

from __future__ import annotations

import pytest

from bootlease.eventlog import (
    EventRecord,
    EventType,
    encode_event,
    encode_event_log,
    encode_sha1_event,
    encode_sha1_event_log,
    parse_event_log,
)
from bootlease.model import HashAlg


def record(*banks: HashAlg) -> EventRecord:
    """A record with digests in some banks."""
    return EventRecord(4, EventType.EV_ACTION, {bank: bank.digest(b"x") for bank in banks}, b"x")


def test_a_log_reads_back() -> None:
    """What is written is read back, vendor information or not."""
    for vendor_info in (b"", b"vendor"):
        log = encode_event_log([record(HashAlg.SHA384)], [HashAlg.SHA384], vendor_info=vendor_info)
        event = parse_event_log(log).events[1]
        assert (event.pcr, event.type, event.unverified_data) == (4, EventType.EV_ACTION, b"x")
        assert event.digests == record(HashAlg.SHA384).digests


def test_a_sha1_log_reads_back() -> None:
    """A TCG 1.2 log starts with its own Spec ID event."""
    events = parse_event_log(encode_sha1_event_log([record(HashAlg.SHA1)])).events
    assert events[0].unverified_data.startswith(b"Spec ID Event02\0")
    assert events[1].digests == record(HashAlg.SHA1).digests


@pytest.mark.parametrize("banks", [(), (HashAlg.SHA1,), (HashAlg.SHA1, HashAlg.SHA256)])
def test_other_banks_than_the_log(banks: tuple[HashAlg, ...]) -> None:
    """A record must have exactly the log's banks."""
    with pytest.raises(ValueError, match="each bank"):
        encode_event_log([record(*banks)], [HashAlg.SHA256])


def test_wrong_digest_length() -> None:
    """A digest must have its algorithm's length."""
    with pytest.raises(ValueError, match="sha256 digest"):
        encode_event(0, 0, {HashAlg.SHA256: bytes(20)}, b"")
    with pytest.raises(ValueError, match="sha1 digest"):
        encode_sha1_event(0, 0, bytes(32), b"")
