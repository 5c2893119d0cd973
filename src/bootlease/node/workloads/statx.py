"""Which file a path names, without asking the file system that it is on.

A workload may run a program from a file system of its own (FUSE). A plain ``stat`` would ask that
file system, which may never answer, and with it the agent would stand still for everybody.
``statx`` with AT_STATX_DONT_SYNC takes what the kernel knows.
"""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass
from typing import Final

_AT_FDCWD: Final = -100
_AT_NO_AUTOMOUNT: Final = 0x800
_AT_STATX_DONT_SYNC: Final = 0x4000
_STATX_INO: Final = 0x100
_SIZE: Final = 256
_MASK: Final = struct.Struct("=I")
_INODE: Final = struct.Struct("=Q")
_DEVICE: Final = struct.Struct("=II")
_INODE_AT: Final = 32
_DEVICE_AT: Final = 136
"""Offsets of stx_ino and stx_dev_major in struct statx (linux/stat.h), the same everywhere."""

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """A file, however many names it has; holds for as long as the file exists.

    Attributes:
        device: Major and minor number.
        inode: Its number there.
    """

    device: tuple[int, int]
    inode: int


def identify(path: str) -> FileIdentity | None:
    """Return the file that ``path`` names, links followed; None where there is none to be seen."""
    buffer = ctypes.create_string_buffer(_SIZE)
    failed = _LIBC.statx(
        ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(path)),
        ctypes.c_int(_AT_NO_AUTOMOUNT | _AT_STATX_DONT_SYNC),
        ctypes.c_uint(_STATX_INO),
        buffer,
    )
    if failed or not _MASK.unpack_from(buffer)[0] & _STATX_INO:
        return None
    device = _DEVICE.unpack_from(buffer, _DEVICE_AT)
    return FileIdentity((device[0], device[1]), _INODE.unpack_from(buffer, _INODE_AT)[0])
