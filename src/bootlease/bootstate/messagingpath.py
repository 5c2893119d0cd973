"""Text of the messaging nodes of a device path: networks, USB, disks by their bus.

Specification: UEFI 2.11 §10.3.4 (messaging device path), §10.6.1.6 (text of a node); where that
leaves a choice, the text is EDK II's.

Functions take the bytes after a node's header and raise ``struct.error`` or ``ValueError`` for
bytes of another shape, whereupon the caller writes the node in its generic form.
Not handled: NVDIMM namespaces, REST services and NVMe over fabrics, written in the generic form.
"""

from __future__ import annotations

import ipaddress
import struct
import uuid
from collections.abc import Callable
from typing import Final

from bootlease.eventlog.bodies import utf16_text

_MAC_SIZE: Final = 32
_ETHERNET_TYPES: Final = (0, 1)
_ETHERNET_SIZE: Final = 6
_PROTOCOLS: Final = {6: "TCP", 17: "UDP"}
_IPV6_ORIGINS: Final = {0: "Static", 1: "StatelessAutoConfigure"}
_PARITIES: Final = "DNEOMS"
_STOP_BITS: Final = ("D", "1", "1.5", "2")
_USB_CLASSES: Final = {
    0x01: "UsbAudio",
    0x02: "UsbCDCControl",
    0x03: "UsbHID",
    0x06: "UsbImage",
    0x07: "UsbPrinter",
    0x08: "UsbMassStorage",
    0x09: "UsbHub",
    0x0A: "UsbCDCData",
    0x0B: "UsbSmartCard",
    0x0E: "UsbVideo",
    0xDC: "UsbDiagnostic",
    0xE0: "UsbWireless",
}
_ISCSI_HEADER_DIGEST, _ISCSI_DATA_DIGEST = 1 << 1, 1 << 3
_ISCSI_NO_AUTHENTICATION, _ISCSI_ONE_WAY = 1 << 11, 1 << 12
_IPV4_ADDRESS, _IPV6_ADDRESS = 4, 16


def _ascii(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("latin-1")


def _ata(value: bytes) -> str:
    secondary, slave, unit = struct.unpack("<BBH", value)
    bus = "Secondary" if secondary else "Primary"
    return f"Ata({bus},{'Slave' if slave else 'Master'},0x{unit:x})"


def _scsi(value: bytes) -> str:
    target, unit = struct.unpack("<HH", value)
    return f"Scsi(0x{target:x},0x{unit:x})"


def _fibre(value: bytes) -> str:
    name, unit = struct.unpack("<4xQQ", value)
    return f"Fibre(0x{name:x},0x{unit:x})"


def _fibre_ex(value: bytes) -> str:
    name, unit = struct.unpack("<4x8s8s", value)
    return f"FibreEx(0x{name.hex()},0x{unit.hex()})"


def _i1394(value: bytes) -> str:
    (guid,) = struct.unpack("<4xQ", value)
    return f"I1394({guid:016x})"


def _usb(value: bytes) -> str:
    port, interface = struct.unpack("<BB", value)
    return f"USB(0x{port:x},0x{interface:x})"


def _usb_class(value: bytes) -> str:
    vendor, product, kind, subclass, protocol = struct.unpack("<HHBBB", value)
    name = _USB_CLASSES.get(kind)
    if name is not None:
        return f"{name}(0x{vendor:x},0x{product:x},0x{subclass:x},0x{protocol:x})"
    return f"UsbClass(0x{vendor:x},0x{product:x},0x{kind:x},0x{subclass:x},0x{protocol:x})"


def _usb_wwid(value: bytes) -> str:
    interface, vendor, product = struct.unpack_from("<HHH", value)
    serial = utf16_text(value[6:])
    return f'UsbWwid(0x{vendor:x},0x{product:x},0x{interface:x},"{serial}")'


def _sata(value: bytes) -> str:
    port, multiplier, unit = struct.unpack("<HHH", value)
    return f"Sata(0x{port:x},0x{multiplier:x},0x{unit:x})"


def _sas_ex(value: bytes) -> str:
    address, unit, topology, port = struct.unpack("<8s8sHH", value)
    head = f"SasEx(0x{address.hex()},0x{unit.hex()},0x{port:x},"
    kind = topology & 0x0F
    if kind > 2 or topology & 0x80:  # noqa: PLR2004 - 1 and 2 say how many bytes follow
        return f"{head}0x{topology:x},0,0,0)"
    if not kind:
        return f"{head}NoTopology,0,0,0)"
    words = (
        "SATA" if topology & 0x10 else "SAS",
        "External" if topology & 0x20 else "Internal",
        "Expanded" if topology & 0x40 else "Direct",
    )
    bay = "0" if kind == 1 else f"0x{(topology >> 8) + 1:x}"
    return f"{head}{','.join(words)},{bay})"


def _nvme(value: bytes) -> str:
    namespace, identifier = struct.unpack("<I8s", value)
    return f"NVMe(0x{namespace:x},{identifier[::-1].hex('-')})"


def _mac(value: bytes) -> str:
    address, kind = struct.unpack(f"<{_MAC_SIZE}sB", value)
    size = _ETHERNET_SIZE if kind in _ETHERNET_TYPES else _MAC_SIZE
    return f"MAC({address[:size].hex()},0x{kind:x})"


def _protocol(number: int) -> str:
    return _PROTOCOLS.get(number, f"0x{number:x}")


def _ipv4(value: bytes) -> str:
    local, remote, protocol, static = struct.unpack_from("<4s4s4xHB", value)
    words = [
        str(ipaddress.IPv4Address(remote)),
        _protocol(protocol),
        "Static" if static else "DHCP",
        str(ipaddress.IPv4Address(local)),
    ]
    rest = value[15:]
    if len(rest) == 2 * _IPV4_ADDRESS:
        words += [str(ipaddress.IPv4Address(rest[:4])), str(ipaddress.IPv4Address(rest[4:]))]
    return f"IPv4({','.join(words)})"


def _ipv6(value: bytes) -> str:
    local, remote, protocol, origin = struct.unpack_from("<16s16s4xHB", value)
    words = [
        ipaddress.IPv6Address(remote).exploded,
        _protocol(protocol),
        _IPV6_ORIGINS.get(origin, "StatefulAutoConfigure"),
        ipaddress.IPv6Address(local).exploded,
    ]
    rest = value[39:]
    if len(rest) == 1 + _IPV6_ADDRESS:
        words += [f"0x{rest[0]:x}", ipaddress.IPv6Address(rest[1:]).exploded]
    return f"IPv6({','.join(words)})"


def _dns(value: bytes) -> str:
    size = _IPV6_ADDRESS if value[:1] == b"\x01" else _IPV4_ADDRESS
    # An EFI_IP_ADDRESS takes 16 bytes, whichever of the two it holds.
    addresses = [value[at : at + size] for at in range(1, len(value) - 15, _IPV6_ADDRESS)]
    return f"Dns({','.join(str(ipaddress.ip_address(each)) for each in addresses)})"


def _uart(value: bytes) -> str:
    baud, bits, parity, stop = struct.unpack("<4xQBBB", value)
    return "Uart({},{},{},{})".format(
        baud or "DEFAULT",
        bits or "DEFAULT",
        _PARITIES[parity] if parity < len(_PARITIES) else "x",
        _STOP_BITS[stop] if stop < len(_STOP_BITS) else "x",
    )


def _iscsi(value: bytes) -> str:
    protocol, options, unit, group = struct.unpack_from("<HH8sH", value)
    words = (
        _ascii(value[14:]),
        f"0x{group:x}",
        f"0x{unit.hex()}",
        "CRC32C" if options & _ISCSI_HEADER_DIGEST else "None",
        "CRC32C" if options & _ISCSI_DATA_DIGEST else "None",
        "None"
        if options & _ISCSI_NO_AUTHENTICATION
        else "CHAP_UNI"
        if options & _ISCSI_ONE_WAY
        else "CHAP_BI",
        "reserved" if protocol else "TCP",
    )
    return f"iSCSI({','.join(words)})"


def _infiniband(value: bytes) -> str:
    flags, port, service, target, device = struct.unpack("<I16sQQQ", value)
    gid = str(uuid.UUID(bytes_le=port)).upper()
    return f"Infiniband(0x{flags:x},{gid},0x{service:x},0x{target:x},0x{device:x})"


def _bluetooth(value: bytes) -> str:
    (address,) = struct.unpack("<6s", value)
    return f"Bluetooth({address.hex()})"


def _bluetooth_le(value: bytes) -> str:
    address, kind = struct.unpack("<6sB", value)
    return f"BluetoothLE({address.hex()},0x{kind:02x})"


def _number(name: str, layout: str) -> Callable[[bytes], str]:
    """Return the form of nodes that hold numbers and nothing else."""
    packed = struct.Struct(layout)

    def text(value: bytes) -> str:
        return f"{name}({','.join(f'0x{number:x}' for number in packed.unpack(value))})"

    return text


def _vlan(value: bytes) -> str:
    (number,) = struct.unpack("<H", value)
    return f"Vlan({number})"


MESSAGING_FORMS: Final[dict[int, Callable[[bytes], str]]] = {
    1: _ata,
    2: _scsi,
    3: _fibre,
    4: _i1394,
    5: _usb,
    6: _number("I2O", "<I"),
    9: _infiniband,
    11: _mac,
    12: _ipv4,
    13: _ipv6,
    14: _uart,
    15: _usb_class,
    16: _usb_wwid,
    17: _number("Unit", "<B"),
    18: _sata,
    19: _iscsi,
    20: _vlan,
    21: _fibre_ex,
    22: _sas_ex,
    23: _nvme,
    24: lambda value: f"Uri({_ascii(value)})",
    25: _number("UFS", "<BB"),
    26: _number("SD", "<B"),
    27: _bluetooth,
    28: lambda value: f"Wi-Fi({_ascii(value)})",
    29: _number("eMMC", "<B"),
    30: _bluetooth_le,
    31: _dns,
}
"""Form of a messaging node by its subtype; the vendor-defined node is written like all such."""
