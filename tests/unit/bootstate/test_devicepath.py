"""Device paths as text."""

from __future__ import annotations

import struct
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.bootstate.devicepath import MAX_PATH_TEXT, device_path_text, read_device_path
from bootlease.errors import MalformedError
from bootlease.eventlog.bodies import DevicePathNode
from bootlease.testing import efi

GUID = uuid.UUID("01234567-89ab-cdef-0123-456789abcdef")
G = GUID.bytes_le
TEXT = "01234567-89AB-CDEF-0123-456789ABCDEF"
VT100 = uuid.UUID("dfa66065-b419-11d3-9a2d-0090273fc14d").bytes_le
DISK = uuid.UUID("77ab535a-45fc-624b-5560-f7b281d1f96e").bytes_le
IPV6 = bytes([0x20, 0x01, 0x0D, 0xB8, *bytes(11), 1])
LONG6 = "2001:0db8:0000:0000:0000:0000:0000:0001"


@pytest.mark.parametrize(
    ("node_type", "subtype", "value", "text"),
    [
        (1, 1, b"\x00\x1d", "Pci(0x1d,0x0)"),
        (1, 2, b"\x03", "PcCard(0x3)"),
        (1, 3, struct.pack("<IQQ", 1, 16, 31), "MemoryMapped(0x1,0x10,0x1f)"),
        (1, 4, G, f"VenHw({TEXT})"),
        (1, 4, G + b"\x80\x01", f"VenHw({TEXT},8001)"),
        (1, 5, struct.pack("<I", 2), "Ctrl(0x2)"),
        (1, 6, struct.pack("<BQ", 1, 256), "BMC(0x1,0x100)"),
        (2, 1, struct.pack("<II", 0x0A0341D0, 0), "PciRoot(0x0)"),
        (2, 1, struct.pack("<II", 0x0A0841D0, 1), "PcieRoot(0x1)"),
        (2, 1, struct.pack("<II", 0x0C0241D0, 1), "Acpi(PNP0C02,0x1)"),
        (2, 1, struct.pack("<II", 0x12345678, 1), "Acpi(0x12345678,0x1)"),
        (2, 2, struct.pack("<III", 0x0A0341D0, 2, 0) + b"\0\0\0", "AcpiEx(PNP0A03,,0x2)"),
        (
            2,
            2,
            struct.pack("<III", 0x0A0341D0, 0, 0) + b"\0uid\0\0",
            "AcpiExp(PNP0A03,@@@0000,uid)",
        ),
        (2, 3, struct.pack("<II", 1, 2), "AcpiAdr(0x1,0x2)"),
        (3, 1, struct.pack("<BBH", 1, 0, 2), "Ata(Secondary,Master,0x2)"),
        (3, 2, struct.pack("<HH", 1, 2), "Scsi(0x1,0x2)"),
        (3, 3, struct.pack("<IQQ", 0, 3, 4), "Fibre(0x3,0x4)"),
        (3, 4, struct.pack("<IQ", 0, 5), "I1394(0000000000000005)"),
        (3, 5, b"\x0b\x00", "USB(0xb,0x0)"),
        (3, 6, struct.pack("<I", 6), "I2O(0x6)"),
        (3, 9, struct.pack("<I16sQQQ", 0, G, 1, 2, 3), f"Infiniband(0x0,{TEXT},0x1,0x2,0x3)"),
        (3, 10, G, f"VenMsg({TEXT})"),
        (3, 10, VT100, "VenVt100()"),
        (3, 11, bytes(range(6)) + bytes(26) + b"\x01", "MAC(000102030405,0x1)"),
        (
            3,
            12,
            struct.pack("<4s4sHHHB4s4s", b"\x0a\0\0\1", bytes(4), 0, 0, 6, 1, bytes(4), bytes(4)),
            "IPv4(0.0.0.0,TCP,Static,10.0.0.1,0.0.0.0,0.0.0.0)",
        ),
        (
            3,
            12,
            struct.pack("<4s4sHHHB", bytes(4), bytes(4), 0, 0, 9, 0),
            "IPv4(0.0.0.0,0x9,DHCP,0.0.0.0)",
        ),
        (
            3,
            13,
            struct.pack("<16s16sHHHBB16s", IPV6, IPV6, 0, 0, 17, 1, 64, IPV6),
            f"IPv6({LONG6},UDP,StatelessAutoConfigure,{LONG6},0x40,{LONG6})",
        ),
        (3, 14, struct.pack("<IQBBB", 0, 115200, 8, 1, 1), "Uart(115200,8,N,1)"),
        (3, 14, struct.pack("<IQBBB", 0, 0, 0, 9, 9), "Uart(DEFAULT,DEFAULT,x,x)"),
        (3, 15, struct.pack("<HHBBB", 1, 2, 8, 6, 80), "UsbMassStorage(0x1,0x2,0x6,0x50)"),
        (3, 15, struct.pack("<HHBBB", 1, 2, 0xFE, 6, 80), "UsbClass(0x1,0x2,0xfe,0x6,0x50)"),
        (3, 16, struct.pack("<HHH", 1, 2, 3) + efi.utf16("S"), 'UsbWwid(0x2,0x3,0x1,"S")'),
        (3, 17, b"\x02", "Unit(0x2)"),
        (3, 18, struct.pack("<HHH", 1, 0xFFFF, 0), "Sata(0x1,0xffff,0x0)"),
        (
            3,
            19,
            struct.pack("<HH8sH", 0, 0x802, bytes(8), 1) + b"iqn.x\0",
            "iSCSI(iqn.x,0x1,0x0000000000000000,CRC32C,None,None,TCP)",
        ),
        (3, 20, struct.pack("<H", 100), "Vlan(100)"),
        (3, 21, bytes(4) + b"\1" * 8 + b"\2" * 8, f"FibreEx(0x{'01' * 8},0x{'02' * 8})"),
        (
            3,
            22,
            struct.pack("<8s8sHH", bytes(8), bytes(8), 0x0132, 5),
            f"SasEx(0x{'00' * 8},0x{'00' * 8},0x5,SATA,External,Direct,0x2)",
        ),
        (
            3,
            22,
            struct.pack("<8s8sHH", bytes(8), bytes(8), 0, 5),
            f"SasEx(0x{'00' * 8},0x{'00' * 8},0x5,NoTopology,0,0,0)",
        ),
        (3, 23, struct.pack("<I", 1) + bytes(range(8)), "NVMe(0x1,07-06-05-04-03-02-01-00)"),
        (3, 24, b"http://a/b", "Uri(http://a/b)"),
        (3, 25, b"\x01\x02", "UFS(0x1,0x2)"),
        (3, 26, b"\x01", "SD(0x1)"),
        (3, 27, bytes(range(6)), "Bluetooth(000102030405)"),
        (3, 28, b"net".ljust(32, b"\0"), "Wi-Fi(net)"),
        (3, 29, b"\x01", "eMMC(0x1)"),
        (3, 30, bytes(range(6)) + b"\1", "BluetoothLE(000102030405,0x01)"),
        (3, 31, b"\0" + bytes([8, 8, 8, 8]) + bytes(12), "Dns(8.8.8.8)"),
        (3, 31, b"\1" + IPV6, "Dns(2001:db8::1)"),
        (4, 1, struct.pack("<IQQ16sBB", 2, 1, 3, G, 2, 2), f"HD(2,GPT,{TEXT},0x1,0x3)"),
        (4, 1, struct.pack("<IQQ16sBB", 2, 1, 3, G, 1, 1), "HD(2,MBR,0x01234567,0x1,0x3)"),
        (4, 1, struct.pack("<IQQ16sBB", 2, 1, 3, G, 1, 0), "HD(2,0,0,0x1,0x3)"),
        (4, 2, struct.pack("<IQQ", 0, 1, 2), "CDROM(0x0,0x1,0x2)"),
        (4, 3, G, f"VenMedia({TEXT})"),
        (4, 4, efi.utf16("\\EFI\\BOOT\\BOOTX64.EFI"), "\\EFI\\BOOT\\BOOTX64.EFI"),
        (4, 5, G, f"Media({TEXT})"),
        (4, 6, G, f"FvFile({TEXT})"),
        (4, 7, G, f"Fv({TEXT})"),
        (4, 8, struct.pack("<IQQ", 0, 1, 255), "Offset(0x1,0xff)"),
        (4, 9, struct.pack("<QQ16sH", 1, 2, DISK, 0), "VirtualDisk(0x1,0x2,0)"),
        (4, 9, struct.pack("<QQ16sH", 1, 2, G, 0), f"RamDisk(0x1,0x2,0,{TEXT})"),
        (5, 1, struct.pack("<HH", 2, 128) + b"Disk\0", "BBS(HD,Disk,0x80)"),
        (5, 1, struct.pack("<HH", 0xFFFF, 0) + b"\0", "BBS(0xffff,,0x0)"),
    ],
)
def test_nodes(node_type: int, subtype: int, value: bytes, text: str) -> None:
    """Each known node has the text that the specification and EDK II give it."""
    assert device_path_text([DevicePathNode(node_type, subtype, value)]) == text


@pytest.mark.parametrize(
    ("node_type", "subtype", "value", "text"),
    [
        (1, 1, b"\x00", "HardwarePath(1,00)"),
        (2, 2, b"", "AcpiPath(2)"),
        (3, 99, b"\x01\x02", "Msg(99,0102)"),
        (4, 7, b"\x01", "MediaPath(7,01)"),
        (5, 9, b"\x01", "BbsPath(9,01)"),
        (9, 9, b"\x01", "Path(9,9,01)"),
        (3, 99, bytes(100), f"Msg(99,{'00' * 64}…)"),
    ],
)
def test_nodes_of_an_unknown_shape(node_type: int, subtype: int, value: bytes, text: str) -> None:
    """A node of an unknown type, or not of its type's shape, shows its bytes."""
    assert device_path_text([DevicePathNode(node_type, subtype, value)]) == text


def test_a_whole_path() -> None:
    """Nodes are joined by slashes, instances by commas, up to the end of the path."""
    path = efi.disk_path("\\a.efi")
    text = read_device_path(path)
    assert text.startswith("PciRoot(0x0)/Pci(0x1,0x0)/HD(1,GPT,")
    assert text.endswith("/\\a.efi")
    instances = path[:-4] + bytes.fromhex("7f010400") + path + b"garbage behind the end"
    assert read_device_path(instances) == f"{text},{text}"


def test_bounds() -> None:
    """A path of very many nodes is malformed, a long one is cut."""
    node = bytes.fromhex("010106000000")
    with pytest.raises(MalformedError, match="nodes"):
        read_device_path(node * 257)
    assert len(read_device_path(efi.file_path("x" * 30_000))) == MAX_PATH_TEXT + 1


@pytest.mark.parametrize("raw", [bytes(4), b"\x01\x01\x03\x00", b"\x01\x01\xff\xff\x00"])
def test_impossible_lengths(raw: bytes) -> None:
    """A node shorter than its header, or longer than the path, is malformed (D23)."""
    with pytest.raises(MalformedError):
        read_device_path(raw)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 40), st.binary(max_size=64))))
def test_any_nodes_have_a_text(nodes: list[tuple[int, int, bytes]]) -> None:
    """Whatever bytes a node holds, the path has a text."""
    assert isinstance(device_path_text([DevicePathNode(*node) for node in nodes]), str)
