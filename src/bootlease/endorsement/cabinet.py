"""Microsoft cabinet files, as TrustedTpm.cab is one: what is in them, and the content.

Specifications: [MS-CAB] v20110304 (structures, checksum); [MS-MCI] (MSZIP: RFC 1951 blocks of
32 KiB, each marked ``CK``, each with the block before as its dictionary).

Only folders that are stored or compressed with MSZIP are unpacked; LZX and Quantum are told as
``UnpackableError``, for a program that knows them. Everything is bounded before it is used.

Not handled on purpose: cabinets that go on in another file, and the Authenticode signature behind
the cabinet, which must be verified before it is given to this program.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bootlease.errors import MalformedError

MAX_CABINET: Final = 64 * 1024 * 1024
MAX_FILES: Final = 16_384
MAX_UNPACKED: Final = 64 * 1024 * 1024
MAGIC: Final = b"MSCF"

_HEADER: Final = struct.Struct("<4xIIIIIBBHHHHH")
_RESERVES: Final = struct.Struct("<HBB")
_FOLDER: Final = struct.Struct("<IHH")
_FILE: Final = struct.Struct("<IIHHHH")
_DATA: Final = struct.Struct("<IHH")
_SIZES: Final = struct.Struct("<HH")
_HAS_PREVIOUS: Final = 1
_HAS_NEXT: Final = 2
_HAS_RESERVE: Final = 4
_MAJOR_VERSION: Final = 1
_METHOD: Final = 0x000F
_STORED: Final = 0
_MSZIP: Final = 1
_METHODS: Final = {2: "Quantum", 3: "LZX"}
_BLOCK: Final = 32_768
_MAX_PACKED: Final = _BLOCK + 6144
_MAX_NAME: Final = 256
_UTF8_NAME: Final = 0x80


class UnpackableError(MalformedError):
    """The cabinet is sound, but packed by a method that is not handled here."""


@dataclass(frozen=True, slots=True)
class _Folder:
    """A run of compressed blocks."""

    start: int
    blocks: int
    method: int


@dataclass(frozen=True, slots=True)
class CabinetFile:
    """A file in a cabinet.

    Attributes:
        name: Its path, with ``/`` between the parts.
        size: Its length.
        offset: Where it begins in its folder's content.
        folder: Its folder's number.
    """

    name: str
    size: int
    offset: int
    folder: int


@dataclass(frozen=True, slots=True)
class Cabinet:
    """A parsed cabinet; nothing in it is vouched for.

    Attributes:
        data: The whole file.
        files: What is in it.
    """

    data: bytes
    files: tuple[CabinetFile, ...]
    _folders: tuple[_Folder, ...]
    _reserve: int

    def unpack(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of each file.

        Raises:
            UnpackableError: A folder is packed by a method that is not handled here.
            MalformedError: The content is not as the cabinet says.
        """
        left = MAX_UNPACKED
        inside: dict[int, list[CabinetFile]] = {}
        for each in self.files:
            inside.setdefault(each.folder, []).append(each)
        for number, folder in enumerate(self._folders):
            if folder.method not in (_STORED, _MSZIP):
                method = _METHODS.get(folder.method, f"method {folder.method}")
                raise UnpackableError(f"the cabinet is packed with {method}")
            content = b"".join(self._blocks(folder, left))
            # Folders may share their blocks, so the cabinet's own size bounds nothing.
            left -= len(content)
            for each in inside.get(number, ()):
                if each.offset + each.size > len(content):
                    raise MalformedError("a file of the cabinet is longer than its folder")
                yield each.name, content[each.offset : each.offset + each.size]

    def _blocks(self, folder: _Folder, left: int) -> Iterator[bytes]:
        at, before = folder.start, b""
        for _ in range(folder.blocks):
            checksum, packed, unpacked = _read(_DATA, self.data, at)
            at += _DATA.size + self._reserve
            block = self.data[at : at + packed]
            at += packed
            left -= unpacked
            if len(block) != packed or packed > _MAX_PACKED or unpacked > _BLOCK:
                raise MalformedError("a block of the cabinet is longer than a block may be")
            if left < 0:
                raise MalformedError(f"the cabinet holds more than {MAX_UNPACKED} bytes")
            # 0 stands for "not computed".
            if checksum and checksum != _checksum(_SIZES.pack(packed, unpacked), _checksum(block)):
                raise MalformedError("a block of the cabinet has another checksum")
            before = block if folder.method == _STORED else _inflate(block, before)
            if len(before) != unpacked:
                raise MalformedError("a block of the cabinet has another length than it says")
            yield before


def parse_cabinet(data: bytes) -> Cabinet:
    """Parse a cabinet's directory; nothing is unpacked yet.

    Args:
        data: Unverified bytes.

    Raises:
        MalformedError: The bytes are no cabinet that this program can read.
    """
    if len(data) > MAX_CABINET:
        raise MalformedError(f"a cabinet of more than {MAX_CABINET} bytes")
    header = _read(_HEADER, data, 0)
    size, files_at, major = header[1], header[3], header[6]
    folders, files, flags = header[7:10]
    if data[: len(MAGIC)] != MAGIC or major != _MAJOR_VERSION or size > len(data):
        raise MalformedError("not a cabinet file, or one that is cut short")
    if flags & (_HAS_PREVIOUS | _HAS_NEXT):
        raise MalformedError("the cabinet goes on in another file")
    if files > MAX_FILES:
        raise MalformedError(f"the cabinet holds more than {MAX_FILES} files")
    at, folder_reserve, data_reserve = _HEADER.size, 0, 0
    if flags & _HAS_RESERVE:
        header_reserve, folder_reserve, data_reserve = _read(_RESERVES, data, at)
        at += _RESERVES.size + header_reserve
    # Behind the cabinet there may be a signature, which is no part of it.
    data = data[:size]
    runs = []
    for _ in range(folders):
        start, blocks, method = _read(_FOLDER, data, at)
        runs.append(_Folder(start, blocks, method & _METHOD))
        at += _FOLDER.size + folder_reserve
    # Each block of a folder but its last is full.
    if sum(run.blocks for run in runs) > MAX_UNPACKED // _BLOCK + folders:
        raise MalformedError(f"the cabinet holds more than {MAX_UNPACKED} bytes")
    return Cabinet(data, tuple(_files(data, files_at, files, len(runs))), tuple(runs), data_reserve)


def _files(data: bytes, at: int, count: int, folders: int) -> Iterator[CabinetFile]:
    total = 0
    for _ in range(count):
        size, offset, folder, _, _, attributes = _read(_FILE, data, at)
        at += _FILE.size
        end = data.find(b"\0", at, at + _MAX_NAME + 1)
        if end <= at or folder >= folders:
            raise MalformedError("a file of the cabinet has no name, or is in no folder of it")
        try:
            name = data[at:end].decode("utf-8" if attributes & _UTF8_NAME else "cp437")
        except UnicodeDecodeError as exc:
            raise MalformedError("a file of the cabinet has a name that is no text") from exc
        at = end + 1
        total += size
        if total > MAX_UNPACKED:
            raise MalformedError(f"the cabinet holds more than {MAX_UNPACKED} bytes")
        yield CabinetFile(name.replace("\\", "/"), size, offset, folder)


def _read(form: struct.Struct, data: bytes, at: int) -> tuple[int, ...]:
    try:
        return form.unpack_from(data, at)
    except struct.error as exc:
        raise MalformedError("the cabinet is cut short") from exc


def _inflate(block: bytes, before: bytes) -> bytes:
    if block[:2] != b"CK":
        raise MalformedError("a block of the cabinet is not packed as MSZIP")
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS, zdict=before)
    try:
        content = unpacker.decompress(block[2:], _BLOCK + 1)
    except zlib.error as exc:
        raise MalformedError("a block of the cabinet does not unpack") from exc
    if not unpacker.eof or len(content) > _BLOCK:
        raise MalformedError("a block of the cabinet does not end, or is too long")
    return content


def _checksum(data: bytes, seed: int = 0) -> int:
    """Return the checksum of [MS-CAB]: XOR of little-endian words, the rest big-endian."""
    whole = len(data) & ~3
    for (word,) in struct.iter_unpack("<I", data[:whole]):
        seed ^= word
    return seed ^ int.from_bytes(data[whole:], "big")
