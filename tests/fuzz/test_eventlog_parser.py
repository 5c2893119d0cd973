"""Whatever the bytes: a log, or MalformedError, never any other error."""

from __future__ import annotations

import hypothesis
from hypothesis import strategies as st

from bootlease.errors import MalformedError
from bootlease.eventlog import (
    Event,
    EventRecord,
    EventType,
    contradicts_digest,
    describe,
    encode_event_log,
    encode_sha1_event_log,
    encode_spec_id_event,
    encode_startup_locality,
    parse_event_log,
    replay,
    verified_data,
)
from bootlease.model import PCR_COUNT, HashAlg

BANKS = (HashAlg.SHA1, HashAlg.SHA256)

VARIABLE = bytes(16) + (2).to_bytes(8, "little") + (1).to_bytes(8, "little") + b"d\0b\0\x01"
PATH = b"\x04\x04\x08\x00\\\0a\0" + b"\x7f\xff\x04\x00"
IMAGE = bytes(24) + len(PATH).to_bytes(8, "little") + PATH
BODIES = (
    (EventType.EV_S_CRTM_VERSION, b"v\0001\0"),
    (EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, VARIABLE),
    (EventType.EV_EFI_VARIABLE_AUTHORITY, VARIABLE + b"\0"),
    (EventType.EV_SEPARATOR, bytes(4)),
    (EventType.EV_EFI_BOOT_SERVICES_APPLICATION, IMAGE),
    (EventType.EV_IPL, b"grub_cmd: linux ro\0"),
    (EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2, b"\x02Fv" + bytes(16)),
    (EventType.EV_NO_ACTION, b"StartupLocality\0\x03"),
)
RECORDS = [
    EventRecord(number % 8, kind, {bank: bank.digest(data) for bank in BANKS}, data)
    for number, (kind, data) in enumerate(BODIES)
]
SEEDS = (
    encode_event_log(RECORDS, BANKS),
    encode_sha1_event_log(RECORDS),
    encode_spec_id_event(BANKS, pcr=1) + encode_startup_locality(3, BANKS) + b"\xff" * 40,
)

seeds = st.sampled_from(SEEDS)
ccel = st.sampled_from([None, True, False])


def exercise(data: bytes, *, is_ccel: bool | None = None) -> None:
    """Run everything that reads a log; MalformedError from parsing is the only error."""
    try:
        log = parse_event_log(data, ccel=is_ccel)
    except MalformedError:
        return
    replayed = replay(log)
    assert all(0 <= pcr < PCR_COUNT for values in replayed.pcrs.values() for pcr in values)
    assert [event.number for event in log.events] == list(range(len(log.events)))
    for event in log.events:
        assert describe(event).isprintable()
        for bank in BANKS:
            verified_data(event, bank)
            contradicts_digest(event, bank)


@hypothesis.given(data=st.binary(max_size=400), is_ccel=ccel)
def test_random_bytes(*, data: bytes, is_ccel: bool | None) -> None:
    """Random bytes parse or are malformed."""
    exercise(data, is_ccel=is_ccel)


@hypothesis.given(data=st.binary(max_size=300), is_ccel=ccel)
def test_random_bytes_after_a_header(*, data: bytes, is_ccel: bool | None) -> None:
    """Random bytes after a valid Spec ID event parse or are malformed."""
    exercise(encode_spec_id_event(BANKS) + data, is_ccel=is_ccel)


@hypothesis.given(seed=seeds, changes=st.lists(st.tuples(st.integers(0), st.integers(0, 255))))
def test_changed_bytes(seed: bytes, changes: list[tuple[int, int]]) -> None:
    """A log with some bytes changed parses or is malformed."""
    mutable = bytearray(seed)
    for position, value in changes:
        mutable[position % len(seed)] = value
    exercise(bytes(mutable))


@hypothesis.given(seed=seeds, position=st.integers(0), bit=st.integers(0, 7))
def test_flipped_bits(seed: bytes, position: int, bit: int) -> None:
    """A log with one bit flipped parses or is malformed."""
    mutable = bytearray(seed)
    mutable[position % len(seed)] ^= 1 << bit
    exercise(bytes(mutable))


@hypothesis.given(
    seed=seeds, field=st.sampled_from([0, 1, 0x7FFF_FFFF, 0xFFFF_FFFF]), position=st.integers(0)
)
def test_extreme_fields(seed: bytes, field: int, position: int) -> None:
    """A log with an extreme value in any four bytes parses or is malformed."""
    at = position % (len(seed) - 4)
    exercise(seed[:at] + field.to_bytes(4, "little") + seed[at + 4 :])


@hypothesis.given(first=seeds, second=seeds, cut=st.integers(0), start=st.integers(0))
def test_spliced_logs(first: bytes, second: bytes, cut: int, start: int) -> None:
    """The beginning of one log before the end of another parses or is malformed."""
    exercise(first[: cut % (len(first) + 1)] + second[start % (len(second) + 1) :])


@hypothesis.given(
    kind=st.sampled_from(list(EventType)) | st.integers(0, 0xFFFF_FFFF),
    data=st.binary(max_size=200) | st.sampled_from([data for _, data in BODIES]),
    changes=st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=4),
)
def test_any_body_of_any_type(kind: int, data: bytes, changes: list[tuple[int, int]]) -> None:
    """Describing an event and checking its coverage never raise."""
    mutable = bytearray(data)
    for position, value in changes:
        if mutable:
            mutable[position % len(mutable)] = value
    event = Event(0, 0, kind, (HashAlg.SHA256,), (bytes(32),), bytes(mutable))
    assert describe(event).isprintable()
    assert verified_data(event, HashAlg.SHA256) is None
