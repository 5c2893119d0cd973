"""Event bodies, read just far enough to name what was measured.

Specifications: TCG PFP 1.06 §10.2.3 (UEFI_IMAGE_LOAD_EVENT), §10.2.6 (UEFI_VARIABLE_DATA),
§10.2.4 (firmware blobs); UEFI 2.11 §10.3 (device paths); GRUB 2 (strings in EV_IPL).

    UEFI_VARIABLE_DATA     GUID, UINT64 nameLength (in characters), UINT64 dataLength,
                           CHAR16 name[nameLength], BYTE data[dataLength]
    UEFI_IMAGE_LOAD_EVENT  UINT64 address, UINT64 length, UINT64 linkTimeAddress,
                           UINT64 lengthOfDevicePath, device path
    device path node       BYTE type, BYTE subtype, UINT16 length (of the whole node)

Bodies are unverified and of any shape: every length is compared with the bytes at hand before
it is used. What the bodies mean, and the text of a device path, is the matter of ``bootstate``.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from typing import Final, NamedTuple

from bootlease.errors import MalformedError

_VARIABLE: Final = struct.Struct("<16sQQ")
_IMAGE_LOAD: Final = struct.Struct("<QQQQ")
_NODE: Final = struct.Struct("<BBH")

_MEDIA_PATH: Final = 4
_FILE_PATH: Final = 4
_FIRMWARE_FILE: Final = 6
END_OF_PATH: Final = 0x7F
_END_ENTIRE_PATH: Final = 0xFF
_GUID_SIZE: Final = 16

_MAX_NODES: Final = 256
"""Paths of real devices have below 20 nodes."""

GRUB_PREFIXES: Final = (
    b"grub_cmd: ",
    b"kernel_cmdline: ",
    b"module_cmdline: ",
    b"grub_cmd ",
    b"grub_kernel_cmdline ",
    b"grub_module_cmdline ",
)
"""What GRUB writes before a measured string, the last three in the releases of RHEL 8.

The digest covers the string and never the prefix.
"""


@dataclass(frozen=True, slots=True)
class UEFIVariableData:
    """UEFI_VARIABLE_DATA, unverified.

    Attributes:
        vendor_guid: Namespace of the name.
        name: Variable name; lone surrogates are replaced.
        data: Value.
        size: Bytes of the body that the structure takes; known firmware logs more.
    """

    vendor_guid: uuid.UUID
    name: str
    data: bytes
    size: int


def parse_variable_data(body: bytes) -> UEFIVariableData:
    """Parse the body of an EV_EFI_VARIABLE_* event.

    Raises:
        MalformedError: A length exceeds the body.
    """
    if len(body) < _VARIABLE.size:
        raise MalformedError("a UEFI variable event is truncated")
    guid, name_length, data_length = _VARIABLE.unpack_from(body)
    data_start = _VARIABLE.size + 2 * name_length
    end = data_start + data_length
    if end > len(body):
        raise MalformedError("the name or value of a UEFI variable ends beyond its event")
    return UEFIVariableData(
        vendor_guid=uuid.UUID(bytes_le=guid),
        name=utf16_text(body[_VARIABLE.size : data_start]),
        data=body[data_start:end],
        size=end,
    )


class DevicePathNode(NamedTuple):
    """One node of a device path, unverified.

    Attributes:
        type: Node type, for example 4 for media.
        subtype: Meaning within that type.
        value: What follows the node's header.
    """

    type: int
    subtype: int
    value: bytes


def device_path_nodes(raw: bytes) -> tuple[DevicePathNode, ...]:
    """Split a device path into its nodes, up to the one that ends the entire path.

    A path that lacks that node ends with its bytes: firmware logs such paths.

    Raises:
        MalformedError: A node has an impossible length, or there are more than any device has.
    """
    nodes: list[DevicePathNode] = []
    position, end = 0, len(raw)
    while position + _NODE.size <= end:
        node_type, subtype, length = _NODE.unpack_from(raw, position)
        # A node of length 0 would be read forever.
        if length < _NODE.size or position + length > end:
            raise MalformedError("a device path node has an impossible length")
        if (node_type, subtype) == (END_OF_PATH, _END_ENTIRE_PATH):
            break
        if len(nodes) >= _MAX_NODES:
            raise MalformedError(f"a device path of more than {_MAX_NODES} nodes")
        value = raw[position + _NODE.size : position + length]
        nodes.append(DevicePathNode(node_type, subtype, value))
        position += length
    return tuple(nodes)


@dataclass(frozen=True, slots=True)
class UEFIImageLoadEvent:
    """UEFI_IMAGE_LOAD_EVENT, unverified.

    Attributes:
        device_path: Nodes of the device path.
        file_path: File path of the device path, empty where it names no file.
        firmware_file: GUID of a file in a firmware volume, where the path names one.
    """

    device_path: tuple[DevicePathNode, ...]
    file_path: str
    firmware_file: uuid.UUID | None


def parse_image_load_event(body: bytes) -> UEFIImageLoadEvent:
    """Parse the body of an EV_EFI_BOOT_SERVICES_* or EV_EFI_RUNTIME_SERVICES_DRIVER event.

    Raises:
        MalformedError: A length exceeds the body, or a node is shorter than its header.
    """
    if len(body) < _IMAGE_LOAD.size:
        raise MalformedError("an image load event is truncated")
    path_length = _IMAGE_LOAD.unpack_from(body)[3]
    end = _IMAGE_LOAD.size + path_length
    if end > len(body):
        raise MalformedError("a device path ends beyond its event")
    nodes = device_path_nodes(body[_IMAGE_LOAD.size : end])
    parts: list[str] = []
    firmware_file: uuid.UUID | None = None
    for node_type, subtype, value in nodes:
        if node_type == END_OF_PATH:
            break
        if (node_type, subtype) == (_MEDIA_PATH, _FILE_PATH):
            parts.append(utf16_text(value))
        elif (node_type, subtype) == (_MEDIA_PATH, _FIRMWARE_FILE):
            if len(value) != _GUID_SIZE:
                raise MalformedError("a firmware file node does not hold a GUID")
            firmware_file = uuid.UUID(bytes_le=value)
    path = "\\".join(part.strip("\\") for part in parts)
    rooted = bool(parts) and parts[0].startswith("\\")
    return UEFIImageLoadEvent(nodes, "\\" + path if rooted else path, firmware_file)


def split_grub_string(body: bytes) -> tuple[bytes, bytes] | None:
    """Split a string that GRUB measured into prefix and the text that its digest is over.

    Returns:
        The prefix and all bytes after it, ``None`` for a body without such a prefix.
    """
    for prefix in GRUB_PREFIXES:
        if body.startswith(prefix):
            return prefix, body[len(prefix) :]
    return None


def text_of(body: bytes) -> str | None:
    """Return a body as text if it looks like text: UTF-16 with ASCII, or ASCII or UTF-8.

    Returns:
        The text without trailing NULs, unescaped; ``None`` if the body is something else.
    """
    # An odd last byte is half of a UTF-16 NUL that some loaders leave off.
    wide = body[: len(body) & ~1]
    if wide and not any(wide[1::2]):
        text = wide[::2].rstrip(b"\0")
        return None if b"\0" in text else text.decode("latin-1")
    try:
        decoded = body.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in decoded else decoded


def utf16_text(raw: bytes) -> str:
    """Return UTF-16LE as text without trailing NULs; what is no character is replaced."""
    return raw.decode("utf-16-le", errors="replace").rstrip("\0")
