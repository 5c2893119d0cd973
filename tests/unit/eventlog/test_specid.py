"""The events that say how a log is to be read: Spec ID and startup locality."""

from __future__ import annotations

import struct

import pytest

from bootlease.errors import MalformedError
from bootlease.eventlog import (
    EventType,
    bank_label,
    encode_event,
    encode_sha1_event,
    encode_spec_id_event,
    encode_startup_locality,
    parse_event_log,
)
from bootlease.model import HashAlg

BANKS = (HashAlg.SHA256,)
UNKNOWN = 0x0099


def header(
    algorithms: list[tuple[int, int]],
    *,
    count: int | None = None,
    vendor: bytes = b"\0",
    signature: bytes = b"Spec ID Event03\0",
) -> bytes:
    """A Spec ID event with its fields as given, whatever they are."""
    body = signature + struct.pack("<IBBBB", 0, 0, 2, 0, 2)
    body += struct.pack("<I", len(algorithms) if count is None else count)
    body += b"".join(struct.pack("<HH", *algorithm) for algorithm in algorithms) + vendor
    return encode_sha1_event(0, EventType.EV_NO_ACTION, bytes(20), body)


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (header([]), "0 digest algorithms"),
        (header([(0x100 + n, 32) for n in range(17)]), "17 digest algorithms"),
        (header([(0x0B, 32)], count=0xFFFF_FFFF), "4294967295 digest algorithms"),
        (header([(0x0B, 32)], count=2), "does not fill"),
        (header([(0x0B, 20)]), "sha256 digests 20 bytes"),
        (header([(0x04, 32)]), "sha1 digests 32 bytes"),
        (header([(UNKNOWN, 0)]), "alg_0x0099 digests 0 bytes"),
        (header([(0x0B, 32), (0x0B, 32)]), "sha256 twice"),
        (header([(0x0B, 32)], vendor=b""), "does not fill"),
        (header([(0x0B, 32)], vendor=b"\x01"), "does not fill"),
        (header([(0x0B, 32)], vendor=b"\x00\x00"), "does not fill"),
        (header([(0x0B, 32)], signature=b"Spec ID Event02\0"), "does not fill"),
    ],
    ids=[
        "no-algorithms",
        "too-many",
        "huge-count",
        "list-cut",
        "sha256-short",
        "sha1-long",
        "size-0",
        "listed-twice",
        "vendor-missing",
        "vendor-beyond",
        "vendor-short",
        "renamed-02",
    ],
)
def test_an_impossible_header(log: bytes, reason: str) -> None:
    """A header whose parts do not add up is refused."""
    with pytest.raises(MalformedError, match=reason):
        parse_event_log(log)


def test_a_truncated_header_body() -> None:
    """A Spec ID event that ends before its list of algorithms is refused."""
    body = b"Spec ID Event03\0" + bytes(8)
    with pytest.raises(MalformedError, match="truncated"):
        parse_event_log(encode_sha1_event(0, EventType.EV_NO_ACTION, bytes(20), body))


def test_sixteen_algorithms_and_vendor_information() -> None:
    """The most algorithms that a TPM can have, and vendor information, are accepted."""
    log = parse_event_log(header([(0x100 + n, 32) for n in range(16)], vendor=b"\x03abc"))
    assert len(log.digest_sizes) == 16


def test_an_unknown_algorithm_has_the_size_the_header_states() -> None:
    """A bank this program does not know is skipped by the header's size."""
    parts = struct.pack("<H7s", UNKNOWN, b"unknown") + struct.pack("<H", HashAlg.SHA256)
    event = struct.pack("<III", 4, EventType.EV_ACTION, 2) + parts + bytes(32) + bytes(4)
    log = parse_event_log(header([(UNKNOWN, 7), (HashAlg.SHA256, 32)]) + event)
    assert log.events[1].digest(UNKNOWN) == b"unknown"
    assert [bank_label(bank) for bank in log.banks] == ["alg_0x0099", "sha256"]


def test_a_startup_locality_in_time() -> None:
    """A locality stated before PCR 0 is extended is the log's."""
    for locality in (0, 3, 4):
        log = encode_spec_id_event(BANKS) + encode_startup_locality(locality, BANKS)
        assert parse_event_log(log).startup_locality == locality


EXTEND = encode_event(0, EventType.EV_ACTION, {HashAlg.SHA256: bytes(32)}, b"")


def note(pcr: int, data: bytes) -> bytes:
    """An EV_NO_ACTION event."""
    return encode_event(pcr, EventType.EV_NO_ACTION, {HashAlg.SHA256: bytes(32)}, data)


@pytest.mark.parametrize(
    "events",
    [
        EXTEND + encode_startup_locality(3, BANKS),
        note(1, b"StartupLocality\0\x03"),
        note(0, b"startuplocality\0\x03"),
        encode_event(0, EventType.EV_ACTION, {HashAlg.SHA256: bytes(32)}, b"StartupLocality\0\x03"),
    ],
    ids=["late", "other-pcr", "other-signature", "other-type"],
)
def test_a_statement_that_does_not_count(events: bytes) -> None:
    """A locality stated late, for another PCR or in another event type changes nothing."""
    assert parse_event_log(encode_spec_id_event(BANKS) + events).startup_locality == 0


@pytest.mark.parametrize(
    "events",
    [
        note(0, b"StartupLocality\0\x07"),
        note(0, b"StartupLocality\0\x01"),
        note(0, b"StartupLocality\0"),
        note(0, b"StartupLocality"),
        note(0, b"StartupLocality\0\x03\x00"),
        EXTEND + note(0, b"StartupLocality\0"),
        encode_startup_locality(3, BANKS) + encode_startup_locality(0, BANKS),
    ],
    ids=["7", "1", "short", "no-nul", "long", "late-and-short", "two"],
)
def test_an_impossible_statement(events: bytes) -> None:
    """An illegal, truncated or contradictory startup locality is refused."""
    with pytest.raises(MalformedError, match=r"[Ss]tartup ?[Ll]ocalit"):
        parse_event_log(encode_spec_id_event(BANKS) + events)


def test_a_startup_locality_in_a_sha1_log() -> None:
    """The TCG 1.2 format carries the same statement."""
    body = b"StartupLocality\0\x03"
    log = parse_event_log(encode_sha1_event(0, EventType.EV_NO_ACTION, bytes(20), body))
    assert log.startup_locality == 3


def test_a_ccel_has_no_startup_locality() -> None:
    """A CCEL has no PCR 0, and the statement means nothing in it."""
    log = encode_spec_id_event(BANKS, pcr=1) + encode_startup_locality(3, BANKS)
    assert parse_event_log(log).startup_locality == 0
