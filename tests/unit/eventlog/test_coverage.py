"""Which part of an event's data its digest proves."""

from __future__ import annotations

import struct

import pytest

from bootlease.eventlog import (
    Coverage,
    Event,
    EventType,
    VerifiedData,
    contradicts_digest,
    verified_data,
)
from bootlease.model import HashAlg

SHA256 = HashAlg.SHA256


def variable(name: str, value: bytes) -> bytes:
    """UEFI_VARIABLE_DATA in the global namespace."""
    encoded = name.encode("utf-16-le")
    return bytes(16) + struct.pack("<QQ", len(encoded) // 2, len(value)) + encoded + value


def event(kind: int, data: bytes, measured: bytes, bank: HashAlg = SHA256) -> Event:
    """An event with the digest of ``measured``."""
    return Event(1, 7, kind, (bank,), (bank.digest(measured),), data)


SECURE_BOOT = variable("SecureBoot", b"\x01")


@pytest.mark.parametrize(
    ("kind", "data", "measured", "covered", "coverage"),
    [
        (EventType.EV_SEPARATOR, bytes(4), bytes(4), bytes(4), Coverage.WHOLE),
        (0x8000_BEEF, b"any", b"any", b"any", Coverage.WHOLE),
        (
            EventType.EV_EFI_VARIABLE_DRIVER_CONFIG,
            SECURE_BOOT,
            SECURE_BOOT,
            SECURE_BOOT,
            Coverage.WHOLE,
        ),
        (
            EventType.EV_EFI_VARIABLE_BOOT,
            variable("BootOrder", b"\x01\x00"),
            b"\x01\x00",
            b"\x01\x00",
            Coverage.VARIABLE_VALUE,
        ),
        (
            EventType.EV_EFI_VARIABLE_DRIVER_CONFIG,
            SECURE_BOOT,
            b"\x01",
            b"\x01",
            Coverage.VARIABLE_VALUE,
        ),
        (
            EventType.EV_EFI_VARIABLE_AUTHORITY,
            variable("db", b"certificate") + b"\0",
            variable("db", b"certificate"),
            variable("db", b"certificate"),
            Coverage.ALL_BUT_LAST_BYTE,
        ),
        (EventType.EV_IPL, b"grub_cmd: ls\0", b"ls", b"ls", Coverage.TEXT),
        (EventType.EV_IPL, b"grub_cmd ls\0", b"ls\0", b"ls", Coverage.TEXT),
        (EventType.EV_IPL, b"kernel_cmdline: a: b\0", b"a: b", b"a: b", Coverage.TEXT),
        (EventType.EV_IPL, b"q\0u\0", b"q\0u\0\0", b"q\0u\0", Coverage.TEXT),
    ],
    ids=[
        "separator",
        "unknown-type",
        "variable",
        "boot-variable-value",
        "config-variable-value",
        "authority-extra-byte",
        "grub",
        "grub-old",
        "kernel-cmdline",
        "systemd-boot",
    ],
)
def test_covered_data(
    kind: int, data: bytes, measured: bytes, covered: bytes, coverage: Coverage
) -> None:
    """What comes back is exactly the bytes under the digest, and which part they are."""
    assert verified_data(event(kind, data, measured), SHA256) == VerifiedData(covered, coverage)


@pytest.mark.parametrize(
    ("kind", "data", "measured"),
    [
        (EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, SECURE_BOOT, variable("SecureBoot", b"\0")),
        (EventType.EV_EFI_VARIABLE_BOOT, b"short", b""),
        (EventType.EV_EFI_VARIABLE_BOOT2, variable("BootOrder", b"v"), b"v"),
        (EventType.EV_SEPARATOR, bytes(5), bytes(4)),
        (EventType.EV_IPL, b"kernel_cmdline: ro init=/bin/sh\0", b"ro"),
        (EventType.EV_IPL, b"other: ls\0", b"ls"),
        (EventType.EV_ACTION, b"grub_cmd: ls\0", b"ls"),
        (EventType.EV_EFI_BOOT_SERVICES_APPLICATION, b"path", b"image"),
        (EventType.EV_NO_ACTION, b"note", b"note"),
    ],
    ids=[
        "flipped-variable",
        "malformed-variable",
        "boot2-value",
        "separator-len-5",
        "longer-cmdline",
        "unknown-prefix",
        "grub-other-type",
        "image",
        "never-extended",
    ],
)
def test_uncovered_data(kind: int, data: bytes, measured: bytes) -> None:
    """Data that its digest is not over gives nothing."""
    assert verified_data(event(kind, data, measured), SHA256) is None


def test_only_the_bank_asked_for_counts() -> None:
    """A digest in another bank proves nothing in this one, and an absent one nothing at all."""
    banks, measured = (HashAlg.SHA1, SHA256), (b"data", b"other")
    digests = tuple(bank.digest(data) for bank, data in zip(banks, measured, strict=True))
    both = Event(1, 4, EventType.EV_ACTION, banks, digests, b"data")
    assert verified_data(both, HashAlg.SHA1) is not None
    assert verified_data(both, SHA256) is None
    assert verified_data(both, HashAlg.SHA384) is None


@pytest.mark.parametrize(
    ("kind", "data", "measured", "contradicts"),
    [
        (EventType.EV_SEPARATOR, bytes(4), bytes(4), False),
        (EventType.EV_SEPARATOR, bytes(4), b"other", True),
        (EventType.EV_IPL, b"grub_cmd: ls\0", b"rm", True),
        (EventType.EV_IPL, b"/vmlinuz\0", b"image", False),
        (EventType.EV_EFI_BOOT_SERVICES_APPLICATION, b"path", b"image", False),
    ],
    ids=["honest", "separator", "grub", "file", "image"],
)
def test_contradiction(*, kind: int, data: bytes, measured: bytes, contradicts: bool) -> None:
    """Only data that its type's digest must be over can contradict the digest."""
    assert contradicts_digest(event(kind, data, measured), SHA256) is contradicts
    assert not contradicts_digest(event(kind, data, measured), HashAlg.SHA384)
