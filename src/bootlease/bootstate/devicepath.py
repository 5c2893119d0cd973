"""Device paths as the text that firmware setup screens and boot managers show.

Specification: UEFI 2.11 §10.3 (nodes), §10.6.1.6 (text of a node); where that leaves a choice, the
text is EDK II's.

Whatever bytes a node holds, it has a text: one that is not of the shape its type demands, and one
of an unknown type, is written in the generic form with its bytes in hex. A text repeats what the
log says and is neither escaped nor attested here; its length is bounded.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Iterable
from typing import Final

from bootlease.bootstate.messagingpath import MESSAGING_FORMS
from bootlease.errors import MalformedError
from bootlease.eventlog.bodies import (
    END_OF_PATH,
    DevicePathNode,
    device_path_nodes,
    utf16_text,
)

MAX_PATH_TEXT: Final = 4096
"""Characters of a device path; firmware's own buffers are smaller."""

_MAX_HEX: Final = 64
_MESSAGING: Final = 3
_VENDOR_SUBTYPES: Final = {(1, 4): "VenHw", (3, 10): "VenMsg", (4, 3): "VenMedia"}
_GENERIC_NAMES: Final = {
    1: "HardwarePath",
    2: "AcpiPath",
    3: "Msg",
    4: "MediaPath",
    5: "BbsPath",
}
_VENDOR_SHORTCUTS: Final = {
    uuid.UUID("e0c14753-f9be-11d2-9a0c-0090273fc14d"): "VenPcAnsi()",
    uuid.UUID("dfa66065-b419-11d3-9a2d-0090273fc14d"): "VenVt100()",
    uuid.UUID("7baec70b-57e0-4c76-8e87-2f9e28088343"): "VenVt100Plus()",
    uuid.UUID("ad15a0d6-8bec-4acf-a073-d01de77e2d88"): "VenUtf8()",
    uuid.UUID("eba4e8d2-3858-41ec-a281-2647ba9660d0"): "DebugPort()",
}
_EISA_PNP: Final = 0x41D0
_ACPI_NAMES: Final = {
    0x0A03: "PciRoot",
    0x0A08: "PcieRoot",
    0x0604: "Floppy",
    0x0301: "Keyboard",
    0x0501: "Serial",
    0x0401: "ParallelPort",
}
_SIGNATURE_MBR, _SIGNATURE_GUID = 1, 2
_BBS_TYPES: Final = {1: "Floppy", 2: "HD", 3: "CDROM", 4: "PCMCIA", 5: "USB", 6: "Network"}
_RAM_DISKS: Final = {
    uuid.UUID("77ab535a-45fc-624b-5560-f7b281d1f96e"): "VirtualDisk",
    uuid.UUID("3d5abd30-4175-87ce-6d64-d2ade523c4bb"): "VirtualCD",
    uuid.UUID("5cea02c9-4d07-69d3-269f-4496fbe096f9"): "PersistentVirtualDisk",
    uuid.UUID("08018188-42cd-bb48-100f-5387d53ded3d"): "PersistentVirtualCD",
}


def device_path_text(nodes: Iterable[DevicePathNode]) -> str:
    """Return the text of a device path, cut at ``MAX_PATH_TEXT`` characters."""
    instances: list[list[str]] = [[]]
    for node in nodes:
        if node.type == END_OF_PATH:
            instances.append([])
        else:
            instances[-1].append(_node_text(node))
    text = ",".join("/".join(parts) for parts in instances)
    return text if len(text) <= MAX_PATH_TEXT else f"{text[:MAX_PATH_TEXT]}…"


def read_device_path(raw: bytes) -> str:
    """Return the text of an unverified device path.

    Raises:
        MalformedError: The bytes are no device path.
    """
    return device_path_text(device_path_nodes(raw))


def _node_text(node: DevicePathNode) -> str:
    key = (node.type, node.subtype)
    try:
        if key in _VENDOR_SUBTYPES:
            return _vendor(_VENDOR_SUBTYPES[key], node.value)
        form = MESSAGING_FORMS.get(key[1]) if key[0] == _MESSAGING else _FORMS.get(key)
        if form is not None:
            return form(node.value)
    except (struct.error, MalformedError, ValueError):
        # Not of the shape that its type demands; the generic form shows the bytes.
        return _generic(node)
    return _generic(node)


def _generic(node: DevicePathNode) -> str:
    name = _GENERIC_NAMES.get(node.type)
    head = f"Path({node.type},{node.subtype}" if name is None else f"{name}({node.subtype}"
    return f"{head},{_hex(node.value)})" if node.value else f"{head})"


def _hex(raw: bytes) -> str:
    return raw.hex() if len(raw) <= _MAX_HEX else f"{raw[:_MAX_HEX].hex()}…"


def _guid(raw: bytes) -> str:
    return str(uuid.UUID(bytes_le=raw)).upper()


def _vendor(name: str, value: bytes) -> str:
    guid = uuid.UUID(bytes_le=value[:16])
    rest = value[16:]
    if name == "VenMsg" and not rest and guid in _VENDOR_SHORTCUTS:
        return _VENDOR_SHORTCUTS[guid]
    return f"{name}({_guid(value[:16])}{',' + _hex(rest) if rest else ''})"


def _pci(value: bytes) -> str:
    function, device = struct.unpack("<BB", value)
    return f"Pci(0x{device:x},0x{function:x})"


def _pc_card(value: bytes) -> str:
    (function,) = struct.unpack("<B", value)
    return f"PcCard(0x{function:x})"


def _memory_mapped(value: bytes) -> str:
    kind, start, end = struct.unpack("<IQQ", value)
    return f"MemoryMapped(0x{kind:x},0x{start:x},0x{end:x})"


def _controller(value: bytes) -> str:
    (number,) = struct.unpack("<I", value)
    return f"Ctrl(0x{number:x})"


def _bmc(value: bytes) -> str:
    kind, base = struct.unpack("<BQ", value)
    return f"BMC(0x{kind:x},0x{base:x})"


def _acpi(value: bytes) -> str:
    hid, uid = struct.unpack("<II", value)
    if hid & 0xFFFF != _EISA_PNP:
        return f"Acpi(0x{hid:08x},0x{uid:x})"
    number = hid >> 16
    name = _ACPI_NAMES.get(number)
    return f"Acpi(PNP{number:04X},0x{uid:x})" if name is None else f"{name}(0x{uid:x})"


def _eisa(identifier: int) -> str:
    letters = (chr(((identifier >> shift) & 0x1F) + 0x40) for shift in (10, 5, 0))
    return f"{''.join(letters)}{identifier >> 16:04X}"


def _acpi_ex(value: bytes) -> str:
    hid, uid, cid = struct.unpack_from("<III", value)
    hid_text, uid_text, cid_text = (
        part.decode("latin-1") for part in (*value[12:].split(b"\0"), b"", b"", b"")[:3]
    )
    if not hid_text and not cid_text and uid == 0:
        return f"AcpiExp({_eisa(hid)},{_eisa(cid)},{uid_text})"
    return "AcpiEx({},{},{})".format(
        _eisa(hid) if hid else hid_text,
        _eisa(cid) if cid else cid_text,
        f"0x{uid:x}" if uid else uid_text,
    )


def _acpi_adr(value: bytes) -> str:
    addresses = struct.unpack(f"<{len(value) // 4}I", value)
    return f"AcpiAdr({','.join(f'0x{address:x}' for address in addresses[:_MAX_HEX])})"


def _hard_drive(value: bytes) -> str:
    number, start, size, signature, _, kind = struct.unpack("<IQQ16sBB", value)
    if kind == _SIGNATURE_MBR:
        name = f"MBR,0x{int.from_bytes(signature[:4], 'little'):08x}"
    else:
        name = f"GPT,{_guid(signature)}" if kind == _SIGNATURE_GUID else f"{kind},0"
    return f"HD({number},{name},0x{start:x},0x{size:x})"


def _cdrom(value: bytes) -> str:
    entry, start, size = struct.unpack("<IQQ", value)
    return f"CDROM(0x{entry:x},0x{start:x},0x{size:x})"


def _offset(value: bytes) -> str:
    start, end = struct.unpack("<4xQQ", value)
    return f"Offset(0x{start:x},0x{end:x})"


def _ram_disk(value: bytes) -> str:
    start, end, kind, instance = struct.unpack("<QQ16sH", value)
    name = _RAM_DISKS.get(uuid.UUID(bytes_le=kind))
    if name is None:
        return f"RamDisk(0x{start:x},0x{end:x},{instance},{_guid(kind)})"
    return f"{name}(0x{start:x},0x{end:x},{instance})"


def _bbs(value: bytes) -> str:
    kind, status = struct.unpack_from("<HH", value)
    name = value[4:].split(b"\0", 1)[0].decode("latin-1")
    return f"BBS({_BBS_TYPES.get(kind, f'0x{kind:x}')},{name},0x{status:x})"


_FORMS: Final[dict[tuple[int, int], Callable[[bytes], str]]] = {
    (1, 1): _pci,
    (1, 2): _pc_card,
    (1, 3): _memory_mapped,
    (1, 5): _controller,
    (1, 6): _bmc,
    (2, 1): _acpi,
    (2, 2): _acpi_ex,
    (2, 3): _acpi_adr,
    (4, 1): _hard_drive,
    (4, 2): _cdrom,
    (4, 4): utf16_text,
    (4, 5): lambda value: f"Media({_guid(value)})",
    (4, 6): lambda value: f"FvFile({_guid(value)})",
    (4, 7): lambda value: f"Fv({_guid(value)})",
    (4, 8): _offset,
    (4, 9): _ram_disk,
    (5, 1): _bbs,
}
