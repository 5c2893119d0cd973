"""Bounded big-endian reading and writing of TPM structures.

Specification: TPM 2.0 Library part 1 §4.1 (all integers big-endian) and part 2 §10.4
(TPM2B: a UINT16 length, then that many bytes).

Not handled: TPML lists and unions, which differ from one structure to the next and
are read where the structure is.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from bootlease.errors import MalformedError

_U8: Final = struct.Struct(">B")
_U16: Final = struct.Struct(">H")
_U32: Final = struct.Struct(">I")


class Reader:
    """Reads a structure front to back and never past its end.

    Every method raises MalformedError when the bytes run out.

    Attributes:
        offset: Index of the next byte to read.
    """

    __slots__ = ("_data", "_size", "offset")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._size = len(data)
        self.offset = 0

    def u8(self) -> int:
        """Read a UINT8."""
        return int(self.unpack(_U8)[0])

    def u16(self) -> int:
        """Read a UINT16."""
        return int(self.unpack(_U16)[0])

    def u32(self) -> int:
        """Read a UINT32."""
        return int(self.unpack(_U32)[0])

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """Read the integers that ``layout`` describes."""
        offset = self.offset
        try:
            values = layout.unpack_from(self._data, offset)
        except struct.error as exc:
            raise MalformedError(
                f"{layout.size} bytes wanted, {self._size - offset} left", offset=offset
            ) from exc
        self.offset = offset + layout.size
        return values

    def take(self, size: int) -> bytes:
        """Read exactly ``size`` bytes."""
        start = self.offset
        end = start + size
        if end > self._size:
            raise MalformedError(f"{size} bytes wanted, {self._size - start} left", offset=start)
        self.offset = end
        return self._data[start:end]

    def sized(self, limit: int) -> bytes:
        """Read a TPM2B of at most ``limit`` bytes and return its content."""
        start = self.offset
        size = self.u16()
        if size > limit:
            raise MalformedError(f"length {size} is above the limit of {limit}", offset=start)
        return self.take(size)

    def rest(self) -> bytes:
        """Read all that is left."""
        start = self.offset
        self.offset = self._size
        return self._data[start:]

    def finish(self) -> None:
        """Demand that nothing is left: trailing bytes would be malleable (A19)."""
        left = self._size - self.offset
        if left:
            raise MalformedError(f"{left} bytes after the end of the structure", offset=self.offset)


def u16(value: int) -> bytes:
    """Write a UINT16."""
    return _U16.pack(value)


def u32(value: int) -> bytes:
    """Write a UINT32."""
    return _U32.pack(value)


def sized(content: bytes) -> bytes:
    """Write a TPM2B around ``content``."""
    return _U16.pack(len(content)) + content
