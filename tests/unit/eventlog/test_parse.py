"""Parsing of event logs: what is accepted, and every way a record can lie about itself."""

from __future__ import annotations

import struct

import pytest

from bootlease.errors import MalformedError
from bootlease.eventlog import (
    EventLogLimits,
    EventRecord,
    EventType,
    LogFormat,
    encode_event,
    encode_event_log,
    encode_sha1_event,
    encode_sha1_event_log,
    encode_spec_id_event,
    parse_event_log,
)
from bootlease.model import HashAlg

BANKS = (HashAlg.SHA1, HashAlg.SHA256)
SPEC_ID = encode_spec_id_event(BANKS)
NO_PCR = 0xFFFF_FFFF


def digests(data: bytes = b"x", banks: tuple[HashAlg, ...] = BANKS) -> dict[HashAlg, bytes]:
    """Digests of some data in some banks."""
    return {bank: bank.digest(data) for bank in banks}


def record(data: bytes = b"x", pcr: int = 4, kind: int = EventType.EV_ACTION) -> EventRecord:
    """A truthful record."""
    return EventRecord(pcr, kind, digests(data), data)


LOG = encode_event_log([record(b"one"), record(b"two", pcr=7), record(b"", pcr=5)], BANKS)
SHA1_LOG = encode_sha1_event_log([record(b"one"), record(b"two", pcr=7)])


def test_records_of_a_crypto_agile_log() -> None:
    """Records keep number, PCR, type, digests and data; the Spec ID event is number 0."""
    log = parse_event_log(LOG)
    assert log.format is LogFormat.CRYPTO_AGILE
    assert log.banks == BANKS
    assert log.digest_sizes == {HashAlg.SHA1: 20, HashAlg.SHA256: 32}
    assert [event.number for event in log.events] == [0, 1, 2, 3]
    assert [event.pcr for event in log.events] == [0, 4, 7, 5]
    assert log.events[0].digests == {}
    assert log.events[2].digests == digests(b"two")
    assert log.events[2].digest(HashAlg.SHA256) == HashAlg.SHA256.digest(b"two")
    assert log.events[2].digest(HashAlg.SHA384) is None
    assert log.events[2].unverified_data == b"two"
    assert log.padding == 0


def test_records_of_a_tcg_12_log() -> None:
    """A log without a Spec ID Event03 is read as SHA-1 only."""
    log = parse_event_log(SHA1_LOG)
    assert log.format is LogFormat.SHA1
    assert log.banks == (HashAlg.SHA1,)
    assert [event.unverified_data for event in log.events[1:]] == [b"one", b"two"]
    assert log.events[1].digests == {HashAlg.SHA1: HashAlg.SHA1.digest(b"one")}


def test_a_log_of_only_its_header() -> None:
    """A boot that measured nothing has a log with one event."""
    assert len(parse_event_log(SPEC_ID).events) == 1


@pytest.mark.parametrize("log", [LOG, SHA1_LOG], ids=["agile", "sha1"])
def test_every_cut_inside_a_record_is_refused(log: bytes) -> None:
    """A log cut anywhere but between records is malformed, also where the rest is zeros."""
    boundaries = set()
    for cut in range(len(log)):
        try:
            parse_event_log(log[:cut])
        except MalformedError:
            continue
        boundaries.add(cut)
    parsed = parse_event_log(log)
    assert len(boundaries) == len(parsed.events) - 1
    assert all(len(parse_event_log(log[:cut]).events) < len(parsed.events) for cut in boundaries)


def test_a_cut_within_a_zero_pcr_index_is_not_padding() -> None:
    """Zeros that may be the PCR index of a lost record are a truncation."""
    cut = LOG + struct.pack("<I", 0)
    with pytest.raises(MalformedError, match="truncated"):
        parse_event_log(cut)


@pytest.mark.parametrize("log", [LOG, SHA1_LOG], ids=["agile", "sha1"])
def test_zero_padding(log: bytes) -> None:
    """Zeros after the last record are padding."""
    parsed = parse_event_log(log + bytes(4096))
    assert parsed.padding == 4096
    assert parsed.events == parse_event_log(log).events


def test_ff_padding_belongs_to_ccel_only() -> None:
    """FF bytes after the last record are padding in a CCEL and garbage elsewhere."""
    padded = LOG + b"\xff" * 64
    with pytest.raises(MalformedError):
        parse_event_log(padded)
    assert parse_event_log(padded, ccel=True).padding == 64


@pytest.mark.parametrize("garbage", [b"\x01\x02\x03", bytes(64) + b"\x01", b"\xff" * 8 + bytes(8)])
@pytest.mark.parametrize("ccel", [None, True])
def test_garbage_after_the_last_record(*, garbage: bytes, ccel: bool | None) -> None:
    """Anything but uniform padding after the last record is refused."""
    with pytest.raises(MalformedError):
        parse_event_log(LOG + garbage, ccel=ccel)


@pytest.mark.parametrize("empty", [b"", bytes(64), bytes(1000)])
def test_an_empty_log(empty: bytes) -> None:
    """No bytes, or only padding, are no log."""
    with pytest.raises(MalformedError, match="empty"):
        parse_event_log(empty)


def test_ccel_is_known_by_the_register_of_its_header() -> None:
    """CCEL writers put the Spec ID event into register 1; the caller's word overrides."""
    header = encode_spec_id_event([HashAlg.SHA384], pcr=1)
    assert parse_event_log(header).format is LogFormat.CCEL
    assert parse_event_log(header, ccel=False).format is LogFormat.CRYPTO_AGILE
    assert parse_event_log(SPEC_ID, ccel=True).format is LogFormat.CCEL


def test_a_header_in_another_register() -> None:
    """A Spec ID event in PCR 2 is neither a PC client's nor a CCEL's."""
    with pytest.raises(MalformedError, match="PCR 2"):
        parse_event_log(encode_spec_id_event(BANKS, pcr=2))


def test_a_sha1_log_is_no_ccel() -> None:
    """A log in the TCG 1.2 format cannot be read as a CCEL."""
    with pytest.raises(MalformedError, match="CCEL"):
        parse_event_log(SHA1_LOG, ccel=True)


def test_digest_order_is_free() -> None:
    """Digests in another order than the header's name the same banks."""
    swapped = dict(reversed(digests(b"one").items()))
    log = parse_event_log(
        SPEC_ID
        + encode_event(4, EventType.EV_ACTION, swapped, b"one")
        + encode_event(4, EventType.EV_ACTION, digests(b"two"), b"two")
    )
    assert [event.digests for event in log.events[1:]] == [digests(b"one"), digests(b"two")]


def agile(count: int, parts: bytes, size: int = 0, data: bytes = b"") -> bytes:
    """A record with its fields as given, whatever they are."""
    header = struct.pack("<III", 4, EventType.EV_ACTION, count)
    return SPEC_ID + header + parts + struct.pack("<I", size) + data


SHA1_PART = struct.pack("<H20s", HashAlg.SHA1, b"\x11" * 20)
SHA256_PART = struct.pack("<H32s", HashAlg.SHA256, b"\x22" * 32)
SHA384_PART = struct.pack("<H48s", HashAlg.SHA384, b"\x33" * 48)


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (agile(0, b""), "0 digests"),
        (agile(3, SHA1_PART + SHA256_PART + SHA1_PART), "3 digests"),
        (agile(0xFFFF_FFFF, SHA1_PART + SHA256_PART), "4294967295 digests"),
        (agile(2, SHA256_PART + SHA256_PART), "twice"),
        (agile(2, SHA1_PART + SHA384_PART), "sha384"),
        (agile(2, SHA1_PART + SHA256_PART, size=1), "beyond the log"),
        (agile(2, SHA1_PART + SHA256_PART, size=0xFFFF_FFFF, data=b"x"), "beyond the log"),
    ],
    ids=["none", "too-many", "huge-count", "twice", "unlisted", "size-plus-1", "huge-size"],
)
def test_a_record_that_lies_about_itself(log: bytes, reason: str) -> None:
    """Counts, algorithms and sizes are compared with the header and the bytes at hand."""
    with pytest.raises(MalformedError, match=reason):
        parse_event_log(log)


@pytest.mark.parametrize("missing", BANKS)
def test_a_record_without_one_bank(missing: HashAlg) -> None:
    """A record that lacks a digest which the records before it have is refused."""
    some = {bank: digest for bank, digest in digests().items() if bank is not missing}
    with pytest.raises(MalformedError, match=missing.label):
        parse_event_log(LOG + encode_event(4, EventType.EV_ACTION, some, b"x"))


def test_a_record_with_a_bank_that_was_idle() -> None:
    """A bank that earlier records leave out cannot begin in the middle of a log."""
    first = encode_event(4, EventType.EV_ACTION, digests(banks=(HashAlg.SHA1,)), b"x")
    later = encode_event(4, EventType.EV_ACTION, digests(), b"x")
    with pytest.raises(MalformedError, match="sha256"):
        parse_event_log(SPEC_ID + first + later)


def test_an_idle_bank() -> None:
    """A bank that the header lists and no record uses is idle, not an error."""
    first = encode_event(4, EventType.EV_ACTION, digests(banks=(HashAlg.SHA256,)), b"x")
    log = parse_event_log(SPEC_ID + first + first)
    assert log.banks == (HashAlg.SHA256,)
    assert set(log.digest_sizes) == set(BANKS)


def test_a_note_may_lack_a_bank() -> None:
    """EV_NO_ACTION is never extended, so which digests it has does not matter."""
    note = encode_event(0, EventType.EV_NO_ACTION, digests(banks=(HashAlg.SHA1,)), b"note")
    log = parse_event_log(LOG + note + encode_event(4, EventType.EV_ACTION, digests(), b"x"))
    assert log.banks == BANKS
    assert log.events[4].digests.keys() == {HashAlg.SHA1}


@pytest.mark.parametrize("pcr", [24, 25, 0x7FFF_FFFF, NO_PCR])
def test_a_pcr_that_does_not_exist(pcr: int) -> None:
    """An extending record for PCR 24 or above is refused in both formats."""
    with pytest.raises(MalformedError, match=f"PCR {pcr}"):
        parse_event_log(SPEC_ID + encode_event(pcr, EventType.EV_ACTION, digests(), b""))
    sha1 = encode_sha1_event(pcr, EventType.EV_ACTION, bytes(20), b"")
    with pytest.raises(MalformedError, match=f"PCR {pcr}"):
        parse_event_log(SHA1_LOG + sha1)


def test_a_note_without_a_pcr() -> None:
    """Windows writes 0xFFFFFFFF as the PCR of an EV_NO_ACTION record; 24 is still refused."""
    assert (
        parse_event_log(SPEC_ID + encode_event(NO_PCR, EventType.EV_NO_ACTION, digests(), b""))
        .events[1]
        .pcr
        == NO_PCR
    )
    with pytest.raises(MalformedError, match="PCR 24"):
        parse_event_log(SPEC_ID + encode_event(24, EventType.EV_NO_ACTION, digests(), b""))


def test_an_unknown_event_type() -> None:
    """A type that no specification names is opaque data that extends."""
    log = parse_event_log(encode_event_log([record(b"?", kind=0x8000_BEEF)], BANKS))
    assert log.events[1].type == 0x8000_BEEF
    assert log.events[1].unverified_data == b"?"


def test_a_second_spec_id_event_changes_nothing() -> None:
    """Digest sizes come from the first event only."""
    body = encode_spec_id_event([HashAlg.SHA512])[32:]
    second = encode_event(0, EventType.EV_NO_ACTION, digests(), body)
    tail = encode_event(4, EventType.EV_ACTION, digests(), b"x")
    log = parse_event_log(SPEC_ID + second + tail)
    assert set(log.digest_sizes) == set(BANKS)
    assert log.events[2].digests == digests()


def test_too_many_events() -> None:
    """The number of records is bounded in both formats."""
    limits = EventLogLimits(max_events=3)
    for log in (LOG, SHA1_LOG + encode_sha1_event(0, EventType.EV_ACTION, bytes(20), b"")):
        with pytest.raises(MalformedError, match="more than 3 events"):
            parse_event_log(log, limits=limits)
    assert parse_event_log(LOG, limits=EventLogLimits(max_events=4))


def test_too_many_bytes() -> None:
    """The length of a log is bounded."""
    with pytest.raises(MalformedError, match="bytes"):
        parse_event_log(LOG, limits=EventLogLimits(max_bytes=len(LOG) - 1))


def test_a_log_of_many_events() -> None:
    """Tens of thousands of records are read."""
    one = encode_event(8, EventType.EV_IPL, digests(b"grub"), b"grub")
    assert len(parse_event_log(SPEC_ID + one * 30_000).events) == 30_001
