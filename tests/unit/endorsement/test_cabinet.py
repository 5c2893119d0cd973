"""Cabinets: what is in them, or malformed, within bounds."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.endorsement.cabinet import (
    MAX_FILES,
    UnpackableError,
    parse_cabinet,
)
from bootlease.errors import MalformedError

BLOCK = 32_768
STORED, MSZIP, LZX = 0, 1, 0x1503
FILES = {
    "setup.cmd": b"rem",
    "STM\\RootCA\\a.crt": b"A" * 40_000,
    "IFX\\b.cer": bytes(range(256)) * 300,
}


def checksum(data: bytes, seed: int = 0) -> int:
    """Return a block's checksum, the slow way."""
    for at in range(0, len(data) - len(data) % 4, 4):
        seed ^= int.from_bytes(data[at : at + 4], "little")
    return seed ^ int.from_bytes(data[len(data) - len(data) % 4 :], "big")


def cabinet(
    files: dict[str, bytes] = FILES,
    *,
    method: int = MSZIP,
    reserve: bytes = b"",
    data_reserve: int = 0,
    flags: int = 0,
    checked: bool = True,
    claim: int | None = None,
) -> bytes:
    """Return a cabinet of one folder."""
    content = b"".join(files.values())
    blocks, before = [], b""
    for start in range(0, len(content), BLOCK):
        plain = content[start : start + BLOCK]
        packed = plain
        if method == MSZIP:
            packer = (
                zlib.compressobj(wbits=-15, zdict=before) if before else zlib.compressobj(wbits=-15)
            )
            packed = b"CK" + packer.compress(plain) + packer.flush()
        before = plain
        sizes = struct.pack("<HH", len(packed), len(plain) if claim is None else claim)
        found = checksum(sizes, checksum(packed)) if checked else 0
        blocks.append(struct.pack("<I", found) + sizes + bytes(data_reserve) + packed)
    reserves = b""
    if reserve or data_reserve:
        flags |= 4
        reserves = struct.pack("<HBB", len(reserve), 0, data_reserve) + reserve
    head = 36 + len(reserves)
    entries, offset = b"", 0
    for name, data in files.items():
        entries += struct.pack("<IIHHHH", len(data), offset, 0, 0, 0, 0x80) + name.encode() + b"\0"
        offset += len(data)
    files_at = head + 8
    start = files_at + len(entries)
    body = b"".join(blocks)
    header = struct.pack(
        "<4sIIIIIBBHHHHH",
        *(b"MSCF", 0, start + len(body), 0, files_at, 0, 3, 1, 1, len(files), flags, 7, 0),
    )
    folder = struct.pack("<IHH", start, len(blocks), method)
    return header + reserves + folder + entries + body


def unpacked(data: bytes) -> dict[str, bytes]:
    """Return what is in a cabinet."""
    return dict(parse_cabinet(data).unpack())


@pytest.mark.parametrize("method", [STORED, MSZIP])
@pytest.mark.parametrize("checked", [True, False])
def test_what_was_packed_is_unpacked(method: int, checked: bool) -> None:  # noqa: FBT001 - a parameter
    """Names with slashes, contents over several blocks, each with the one before as dictionary."""
    expected = {name.replace("\\", "/"): data for name, data in FILES.items()}
    assert unpacked(cabinet(method=method, checked=checked)) == expected


def test_a_signature_and_its_reserve_are_passed_over() -> None:
    """TrustedTpm.cab has 20 reserved bytes in its head and a signature behind its end."""
    signed = cabinet(reserve=bytes(20), data_reserve=3) + b"signature"
    assert list(unpacked(signed)) == ["setup.cmd", "STM/RootCA/a.crt", "IFX/b.cer"]


def test_lzx_is_told_and_its_directory_read() -> None:
    """Who can unpack it is somebody else's affair; what is in it is known before."""
    parsed = parse_cabinet(cabinet(method=LZX))
    assert parsed.files[0].name == "setup.cmd"
    with pytest.raises(UnpackableError, match="LZX"):
        list(parsed.unpack())


def test_a_block_with_another_checksum_is_malformed() -> None:
    """Bytes that changed on the way are found."""
    data = bytearray(cabinet(method=STORED))
    data[-5] ^= 1
    with pytest.raises(MalformedError, match="checksum"):
        unpacked(bytes(data))


@pytest.mark.parametrize("claim", [0, 5, BLOCK + 1])
def test_a_block_that_says_another_length_is_malformed(claim: int) -> None:
    """A bomb is a block that unpacks to more than it says."""
    with pytest.raises(MalformedError):
        unpacked(cabinet(checked=False, claim=claim))


def test_a_bomb_is_not_unpacked() -> None:
    """However well zeros compress, a block has 32 KiB."""
    bomb = cabinet({"a": bytes(BLOCK)}, checked=False)
    packer = zlib.compressobj(9, wbits=-15)
    packed = b"CK" + packer.compress(bytes(50 * BLOCK)) + packer.flush()
    start = int.from_bytes(bomb[36:40], "little")
    block = struct.pack("<IHH", 0, len(packed), BLOCK) + packed
    forged = bytearray(bomb[:start] + block)
    forged[8:12] = len(forged).to_bytes(4, "little")
    with pytest.raises(MalformedError, match="too long"):
        unpacked(bytes(forged))


@pytest.mark.parametrize("flags", [1, 2])
def test_a_cabinet_of_a_set_is_malformed(flags: int) -> None:
    """Half of a set says nothing."""
    with pytest.raises(MalformedError, match="another file"):
        parse_cabinet(cabinet(flags=flags))


def test_more_files_than_bounds_allow_are_malformed() -> None:
    """The count is compared before anything is read by it."""
    data = bytearray(cabinet())
    data[28:30] = (MAX_FILES + 1).to_bytes(2, "little")
    with pytest.raises(MalformedError, match="more than"):
        parse_cabinet(bytes(data))


def test_sizes_beyond_bounds_are_malformed() -> None:
    """A directory that promises gigabytes is refused as such."""
    data = bytearray(cabinet())
    at = int.from_bytes(data[16:20], "little")
    data[at : at + 4] = b"\xff\xff\xff\x7f"
    with pytest.raises(MalformedError, match="more than"):
        parse_cabinet(bytes(data))


def folders(
    count: int, *, blocks: int, block: bytes, method: int = STORED, files: int = 1
) -> bytes:
    """Return a cabinet whose folders are all the same blocks, with empty files in the last."""
    entry = (struct.pack("<IIHHHH", 0, 0, count - 1, 0, 0, 0x80) + b"a\0") * files
    files_at = 36 + 8 * count
    start = files_at + len(entry)
    header = struct.pack(
        "<4sIIIIIBBHHHHH",
        *(b"MSCF", 0, start + blocks * len(block), 0, files_at, 0, 3, 1, count, files, 0, 7, 0),
    )
    runs = struct.pack("<IHH", start, blocks, method) * count
    return header + runs + entry + block * blocks


MSZIP_ZEROS = b"CK" + zlib.compress(bytes(BLOCK), 9, -15)


@pytest.mark.parametrize(
    "data",
    [
        folders(60_000, blocks=1000, block=struct.pack("<IHH", 0, 1, 1) + b"a"),
        folders(
            2_100,
            blocks=1,
            block=struct.pack("<IHH", 0, len(MSZIP_ZEROS), BLOCK) + MSZIP_ZEROS,
            method=MSZIP,
        ),
    ],
    ids=["many-small-blocks", "one-large-block"],
)
def test_folders_that_share_their_blocks_are_bounded_together(data: bytes) -> None:
    """What all folders hold counts, not what each of them does: blocks may be used again."""
    with pytest.raises(MalformedError, match="holds more than"):
        unpacked(data)


def test_files_of_many_folders_are_found_at_once() -> None:
    """A directory of 65,535 folders is not looked through for each of 16,384 files."""
    data = folders(65_535, blocks=0, block=b"", files=MAX_FILES)
    assert len(list(parse_cabinet(data).unpack())) == MAX_FILES


def test_every_truncation_is_malformed() -> None:
    """A shorter cabinet is never taken for a cabinet with less in it."""
    data = cabinet({"a.crt": b"abc", "b.crt": b"def"})
    for end in range(len(data)):
        with pytest.raises(MalformedError):
            unpacked(data[:end])


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=4))
def test_a_damaged_cabinet_unpacks_or_is_malformed(changes: list[tuple[int, int]]) -> None:
    """Whatever bytes come: files, or the one error."""
    data = bytearray(cabinet({"a.crt": b"abc" * 50, "b.crt": b"def"}))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        unpacked(bytes(data))
    except MalformedError:
        return
