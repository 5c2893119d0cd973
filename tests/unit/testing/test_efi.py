"""The UEFI structures are read back by the product's own parsers."""

from __future__ import annotations

import struct
import zlib

from cryptography import x509

from bootlease.eventlog.bodies import parse_image_load_event, parse_variable_data
from bootlease.testing import efi
from bootlease.testing.boot_certificates import boot_certificate


def test_variable_data_round_trip() -> None:
    """Vendor, name and content come back."""
    data = efi.variable_data(efi.IMAGE_SECURITY_DATABASE, "db", b"content")
    parsed = parse_variable_data(data)
    assert parsed.name == "db"
    assert parsed.data == b"content"
    assert parsed.vendor_guid == efi.IMAGE_SECURITY_DATABASE


def test_image_load_event_names_its_file() -> None:
    """The device path of a boot application shows the path it was loaded from."""
    event = efi.image_load_event(7, efi.disk_path("\\EFI\\BOOT\\BOOTX64.EFI"))
    assert parse_image_load_event(event).file_path == "\\EFI\\BOOT\\BOOTX64.EFI"


def test_signature_list_holds_a_real_certificate() -> None:
    """What follows header and owner is the certificate, of the length that the header says."""
    certificate = boot_certificate("Some Key")
    data = efi.x509_signature_list(certificate)
    whole, header, size = struct.unpack_from("<III", data, 16)
    assert (whole, header, size) == (len(data), 0, 16 + len(certificate))
    parsed = x509.load_der_x509_certificate(data[44:])
    parsed.verify_directly_issued_by(parsed)


def test_certificates_depend_on_their_name_only() -> None:
    """The same name gives the same bytes, another name another key."""
    first = boot_certificate("A")
    boot_certificate.cache_clear()
    assert boot_certificate("A") == first
    assert boot_certificate("B") != first


def test_gpt_header_checksum_is_right() -> None:
    """The header's CRC is that of the header with the field zero."""
    data = efi.gpt_data("EFI System Partition")
    header = bytearray(data[:92])
    (crc,) = struct.unpack_from("<I", header, 16)
    header[16:20] = bytes(4)
    assert crc == zlib.crc32(header)
    assert len(data) == 92 + 8 + 128
