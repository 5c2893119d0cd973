"""Replay: the PCRs that a log leads to."""

from __future__ import annotations

import hashlib
import struct

import pytest

from bootlease.eventlog import (
    EventRecord,
    EventType,
    encode_event,
    encode_event_log,
    encode_sha1_event,
    encode_sha1_event_log,
    encode_spec_id_event,
    encode_startup_locality,
    hashes,
    parse_event_log,
    replay,
)
from bootlease.model import HASH_CONSTRUCTORS, HashAlg

BANKS = (HashAlg.SHA1, HashAlg.SHA256)


def digests(data: bytes) -> dict[HashAlg, bytes]:
    """Digests of some data in all banks."""
    return {bank: bank.digest(data) for bank in BANKS}


def record(data: bytes, pcr: int = 0, kind: int = EventType.EV_ACTION) -> EventRecord:
    """A truthful record."""
    return EventRecord(pcr, kind, digests(data), data)


def extend(bank: HashAlg, start: bytes, *data: bytes) -> bytes:
    """The value of a PCR after some measurements."""
    for item in data:
        start = hashlib.new(bank.label, start + bank.digest(item)).digest()
    return start


def started_at(locality: int, bank: HashAlg = HashAlg.SHA256) -> bytes:
    """PCR 0 before its first extend."""
    return bytes(bank.size - 1) + bytes([locality])


def test_every_bank_is_replayed_from_zero() -> None:
    """Each bank is replayed on its own, and PCRs that are not extended are left out."""
    log = encode_event_log([record(b"a", 4), record(b"b", 7), record(b"c", 4)], BANKS)
    replayed = replay(parse_event_log(log))
    assert replayed.unreplayed == ()
    assert replayed.pcrs == {
        bank: {
            4: extend(bank, bytes(bank.size), b"a", b"c"),
            7: extend(bank, bytes(bank.size), b"b"),
        }
        for bank in BANKS
    }


def test_only_the_banks_asked_for() -> None:
    """A caller that needs one bank pays for one; a bank the log lacks is missing."""
    log = parse_event_log(encode_event_log([record(b"a")], BANKS))
    assert set(replay(log, (HashAlg.SHA256, HashAlg.SHA384)).pcrs) == {HashAlg.SHA256}


def test_a_sha1_log() -> None:
    """A TCG 1.2 log replays its one bank."""
    log = parse_event_log(encode_sha1_event_log([record(b"a", 4)]))
    assert replay(log).pcrs == {HashAlg.SHA1: {4: extend(HashAlg.SHA1, bytes(20), b"a")}}


def test_no_action_is_never_extended() -> None:
    """An EV_NO_ACTION record extends nothing even if it has a digest."""
    log = encode_event_log([record(b"a", 4), record(b"b", 4, EventType.EV_NO_ACTION)], BANKS)
    expected = extend(HashAlg.SHA256, bytes(32), b"a")
    assert replay(parse_event_log(log)).pcrs[HashAlg.SHA256] == {4: expected}


def test_an_idle_bank_has_no_pcrs() -> None:
    """A bank that the header lists and no record uses is named with no PCRs."""
    one = encode_event(4, EventType.EV_ACTION, {HashAlg.SHA256: bytes(32)}, b"")
    pcrs = replay(parse_event_log(encode_spec_id_event(BANKS) + one)).pcrs
    assert pcrs[HashAlg.SHA1] == {}
    assert set(pcrs[HashAlg.SHA256]) == {4}


def test_digest_order_does_not_matter() -> None:
    """A record with its digests in another order extends the same banks."""
    swapped = dict(reversed(digests(b"a").items()))
    usual = encode_event(4, EventType.EV_ACTION, digests(b"b"), b"b")
    other = encode_event(4, EventType.EV_ACTION, swapped, b"a")
    pcrs = replay(parse_event_log(encode_spec_id_event(BANKS) + usual + other + usual)).pcrs
    for bank in BANKS:
        assert pcrs[bank] == {4: extend(bank, bytes(bank.size), b"b", b"a", b"b")}


@pytest.mark.parametrize("locality", [0, 3, 4])
def test_pcr_0_starts_at_the_startup_locality(locality: int) -> None:
    """PCR 0 starts at the stated locality; other PCRs start at zero."""
    log = (
        encode_spec_id_event(BANKS)
        + encode_startup_locality(locality, BANKS)
        + encode_event(0, EventType.EV_S_CRTM_VERSION, digests(b"v"), b"v")
        + encode_event(1, EventType.EV_S_CRTM_VERSION, digests(b"v"), b"v")
    )
    pcrs = replay(parse_event_log(log)).pcrs[HashAlg.SHA256]
    assert pcrs[0] == extend(HashAlg.SHA256, started_at(locality), b"v")
    assert pcrs[1] == extend(HashAlg.SHA256, bytes(32), b"v")


def test_a_late_startup_locality_does_not_move_pcr_0() -> None:
    """A locality stated after PCR 0 was extended changes no start value."""
    first = encode_event(0, EventType.EV_S_CRTM_VERSION, digests(b"v"), b"v")
    log = encode_spec_id_event(BANKS) + first + encode_startup_locality(3, BANKS)
    pcrs = replay(parse_event_log(log)).pcrs[HashAlg.SHA256]
    assert pcrs[0] == extend(HashAlg.SHA256, bytes(32), b"v")


def test_an_hcrtm_sequence_starts_pcr_0_at_4() -> None:
    """An H-CRTM event that comes first in PCR 0 starts it at 4, whatever the locality."""
    hcrtm = encode_event(0, EventType.EV_EFI_HCRTM_EVENT, digests(b"H"), b"HCRTM")
    for notes in (b"", encode_startup_locality(3, BANKS)):
        log = encode_spec_id_event(BANKS) + notes + hcrtm
        pcrs = replay(parse_event_log(log)).pcrs[HashAlg.SHA256]
        assert pcrs[0] == extend(HashAlg.SHA256, started_at(4), b"H")


@pytest.mark.parametrize("pcr", [0, 1])
def test_an_hcrtm_event_elsewhere_starts_nothing(pcr: int) -> None:
    """An H-CRTM event that is not the first of PCR 0 is an ordinary extend."""
    log = encode_event_log([record(b"v"), record(b"H", pcr, EventType.EV_EFI_HCRTM_EVENT)], BANKS)
    pcrs = replay(parse_event_log(log)).pcrs[HashAlg.SHA256]
    data = (b"v", b"H") if pcr == 0 else (b"v",)
    assert pcrs[0] == extend(HashAlg.SHA256, bytes(32), *data)


def test_ccel_registers_by_index() -> None:
    """A CCEL's registers are named by their index, and an H-CRTM event starts nothing."""
    log = (
        encode_spec_id_event([HashAlg.SHA256], pcr=1)
        + encode_event(
            0, EventType.EV_EFI_HCRTM_EVENT, {HashAlg.SHA256: HashAlg.SHA256.digest(b"a")}, b""
        )
        + encode_event(1, EventType.EV_ACTION, {HashAlg.SHA256: HashAlg.SHA256.digest(b"a")}, b"a")
    )
    value = extend(HashAlg.SHA256, bytes(32), b"a")
    assert replay(parse_event_log(log)).pcrs == {HashAlg.SHA256: {0: value, 1: value}}


def with_extra_bank(algorithm: int) -> bytes:
    """A log with sha256 and a second bank of 32-byte digests."""
    body = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, 2)
    body += struct.pack("<HHHH", HashAlg.SHA256, 32, algorithm, 32) + b"\0"
    event = struct.pack("<IIIH32sH32s", 4, 5, 2, HashAlg.SHA256, bytes(32), algorithm, bytes(32))
    return encode_sha1_event(0, EventType.EV_NO_ACTION, bytes(20), body) + event + bytes(4)


def test_an_unknown_bank_is_left_unreplayed() -> None:
    """A bank whose hash nobody here knows is named, and the other banks are replayed."""
    replayed = replay(parse_event_log(with_extra_bank(0x0099)))
    assert replayed.unreplayed == (0x0099,)
    assert set(replayed.pcrs) == {HashAlg.SHA256}


def test_a_hash_this_build_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An OpenSSL without SM3 leaves that bank unreplayed instead of failing."""

    def absent(_: bytes) -> hashes.Hash:
        raise ValueError("unsupported hash type sm3")

    monkeypatch.setitem(HASH_CONSTRUCTORS, HashAlg.SM3_256, absent)
    hashes.hash_constructor.cache_clear()
    try:
        replayed = replay(parse_event_log(with_extra_bank(HashAlg.SM3_256)))
    finally:
        hashes.hash_constructor.cache_clear()
    assert replayed.unreplayed == (HashAlg.SM3_256,)
    assert set(replayed.pcrs) == {HashAlg.SHA256}
