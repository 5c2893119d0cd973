"""Variables that an event's digest proves, and the memo of them."""

from __future__ import annotations

from bootlease.bootstate import variables
from bootlease.bootstate.variables import could_hold_secure_boot, read_variable
from bootlease.eventlog import Event, EventType
from bootlease.model import HashAlg
from bootlease.testing import efi
from bootlease.testing.boot_certificates import boot_certificate

SHA256 = HashAlg.SHA256
CONFIG = EventType.EV_EFI_VARIABLE_DRIVER_CONFIG
ON = efi.variable_data(efi.GLOBAL_VARIABLE, "SecureBoot", b"\x01")
OFF = efi.variable_data(efi.GLOBAL_VARIABLE, "SecureBoot", b"\x00")


def event(data: bytes, measured: bytes, kind: int = CONFIG) -> Event:
    """An event with the digest of ``measured``."""
    return Event(3, 7, kind, (SHA256,), (SHA256.digest(measured),), data)


def test_the_memo_never_answers_for_other_data() -> None:
    """An event with a known digest and other data is not given what belongs to that digest."""
    assert read_variable(event(ON, ON), SHA256, 0) is not None
    assert read_variable(event(OFF, ON), SHA256, 0) is None
    assert read_variable(event(ON, ON), SHA256, 0) is not None


def test_the_memo_never_answers_for_another_type() -> None:
    """The same body means something else under another type."""
    plain = read_variable(event(ON, ON), SHA256, 0)
    vouching = read_variable(event(ON, ON, EventType.EV_EFI_VARIABLE_AUTHORITY), SHA256, 0)
    assert plain is not None
    assert vouching is not None
    assert (plain.authority, vouching.authority is None) == (None, False)


def test_the_memo_answers_for_equal_bodies() -> None:
    """What one machine measured is read once for all that measured the same."""
    certificate = boot_certificate("Vendor CA")
    data = efi.variable_data(
        efi.IMAGE_SECURITY_DATABASE, "db", efi.x509_signature_list(certificate)
    )
    first = read_variable(event(data, data), SHA256, 0)
    second = read_variable(event(bytes(bytearray(data)), data), SHA256, 0)
    assert first is second


def test_the_memo_keeps_nothing_unproven() -> None:
    """Bodies that a digest is not over take no place in the memo, nor do types without end."""
    assert read_variable(event(ON, ON), SHA256, 0) is not None
    kept = variables._read_cached.cache_info().currsize
    for number in range(100):
        assert read_variable(event(ON + bytes([number]), ON), SHA256, 0) is None
        read_variable(event(ON, ON, 0x8000_1000 + number), SHA256, 0)
    assert variables._read_cached.cache_info().currsize <= kept + 1


def test_large_bodies_are_read_without_the_memo() -> None:
    """A body too large to be kept is read each time."""
    data = efi.variable_data(
        efi.IMAGE_SECURITY_DATABASE, "dbx", efi.sha256_signature_list([bytes(32)] * 2000)
    )
    first, second = (read_variable(event(data, data), SHA256, 0) for _ in range(2))
    assert first == second
    assert first is not second


def test_what_could_be_secure_boots() -> None:
    """An event that begins with a namespace of Secure Boot's is worth a look."""
    assert could_hold_secure_boot(event(ON, b""))
    assert not could_hold_secure_boot(event(b"UEFI Debug Mode", b""))
