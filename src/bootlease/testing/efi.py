"""Writing the UEFI structures that firmware measures.

Specifications: UEFI 2.10 §3.1.3 (EFI_LOAD_OPTION), §5.3.2 (GPT header), §5.3.3 (GPT entry), §10.3
(device paths), §32.4.1 (EFI_SIGNATURE_LIST); TCG PFP 1.06 §10.2.5 (UEFI_IMAGE_LOAD_EVENT),
§10.2.6 (UEFI_VARIABLE_DATA), §10.2.8 (UEFI_GPT_DATA), §10.2.4 (UEFI_PLATFORM_FIRMWARE_BLOB).
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Sequence
from typing import Final

GLOBAL_VARIABLE: Final = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
IMAGE_SECURITY_DATABASE: Final = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
SHIM_LOCK: Final = uuid.UUID("605dab50-e046-4300-abb6-3dd810dd8b23")
CERT_X509: Final = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
CERT_SHA256: Final = uuid.UUID("c1c41626-504c-4092-aca9-41f936934328")
EFI_SYSTEM_PARTITION: Final = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
SIGNATURE_OWNER: Final = uuid.UUID("b5d6c1a4-6a4f-4b0e-8f0e-0c1d5e0a7b11")

_DISK: Final = uuid.UUID("6f1f7c1e-2f0b-4d6b-9b52-7c5d1f3a9e01")
_PARTITION: Final = uuid.UUID("6f1f7c1e-2f0b-4d6b-9b52-7c5d1f3a9e02")
_FIRST_BLOCK: Final = 2048
_BLOCKS: Final = 262144
_GPT_HEADER: Final = struct.Struct("<8sIIIIQQQQ16sQIII")
_GPT_ENTRY: Final = struct.Struct("<16s16sQQQ72s")
_LOAD_ACTIVE: Final = 1
_ADDRESS: Final = 0x1CE2A018
_END: Final = bytes.fromhex("7fff0400")


def utf16(text: str) -> bytes:
    """Return ``text`` in UTF-16LE with its NUL, as UEFI stores strings."""
    return (text + "\0").encode("utf-16-le")


def variable_data(guid: uuid.UUID, name: str, content: bytes) -> bytes:
    """Return UEFI_VARIABLE_DATA."""
    encoded = name.encode("utf-16-le")
    return guid.bytes_le + struct.pack("<QQ", len(name), len(content)) + encoded + content


def x509_signature_list(certificate: bytes) -> bytes:
    """Return an EFI_SIGNATURE_LIST that holds one certificate."""
    return _signature_list(CERT_X509, [certificate])


def sha256_signature_list(digests: Sequence[bytes]) -> bytes:
    """Return an EFI_SIGNATURE_LIST of image digests."""
    return _signature_list(CERT_SHA256, digests)


def signature_data(content: bytes) -> bytes:
    """Return EFI_SIGNATURE_DATA: the owner, then a certificate or digest."""
    return SIGNATURE_OWNER.bytes_le + content


def _signature_list(kind: uuid.UUID, contents: Sequence[bytes]) -> bytes:
    body = b"".join(signature_data(content) for content in contents)
    size = len(body) // len(contents)
    return kind.bytes_le + struct.pack("<III", 28 + len(body), 0, size) + body


def file_path(path: str) -> bytes:
    """Return a device path that only names a file."""
    return _file_node(path) + _END


def disk_path(path: str) -> bytes:
    """Return a device path of ``path`` on the first partition of the first disk."""
    acpi = bytes.fromhex("02010c00d041030a00000000")
    pci = bytes.fromhex("010106000001")
    partition = (
        struct.pack("<BBHIQQ", 4, 1, 42, 1, _FIRST_BLOCK, _BLOCKS)
        + _PARTITION.bytes_le
        + b"\x02\x02"
    )
    return acpi + pci + partition + _file_node(path) + _END


def _file_node(path: str) -> bytes:
    name = utf16(path)
    return struct.pack("<BBH", 4, 4, 4 + len(name)) + name


def load_option(description: str, path: str) -> bytes:
    """Return EFI_LOAD_OPTION, the content of a ``Boot####`` variable."""
    device_path = disk_path(path)
    return struct.pack("<IH", _LOAD_ACTIVE, len(device_path)) + utf16(description) + device_path


def image_load_event(length: int, device_path: bytes) -> bytes:
    """Return UEFI_IMAGE_LOAD_EVENT."""
    return struct.pack("<QQQQ", _ADDRESS, length, 0, len(device_path)) + device_path


def firmware_blob(base: int, length: int) -> bytes:
    """Return UEFI_PLATFORM_FIRMWARE_BLOB."""
    return struct.pack("<QQ", base, length)


def gpt_data(partition_name: str) -> bytes:
    """Return UEFI_GPT_DATA of a disk with one EFI system partition."""
    entry = _GPT_ENTRY.pack(
        EFI_SYSTEM_PARTITION.bytes_le,
        _PARTITION.bytes_le,
        _FIRST_BLOCK,
        _FIRST_BLOCK + _BLOCKS - 1,
        0,
        utf16(partition_name).ljust(72, b"\0")[:72],
    )
    table_crc = zlib.crc32(entry.ljust(128 * _GPT_ENTRY.size, b"\0"))
    header = _gpt_header(table_crc, 0)
    return _gpt_header(table_crc, zlib.crc32(header)) + struct.pack("<Q", 1) + entry


def _gpt_header(table_crc: int, own_crc: int) -> bytes:
    last = _FIRST_BLOCK + _BLOCKS + 33
    return _GPT_HEADER.pack(
        b"EFI PART",
        0x10000,
        _GPT_HEADER.size,
        own_crc,
        0,
        1,
        last,
        34,
        last - 33,
        _DISK.bytes_le,
        2,
        128,
        _GPT_ENTRY.size,
        table_crc,
    )
