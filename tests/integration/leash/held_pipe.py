"""Hold the lock of the pipe that a process has as standard error: ``held_pipe.py PID FOLDER``.

Writes into it from memory whose page never comes, since it is a file's on a file system (FUSE) that
this program mounts in a mount namespace of its own, and of which it answers all but reads. The
kernel holds the pipe's lock meanwhile, and no write of others to it, with whatever flags, returns.
Prints ``held`` once that is so. Ends when it is killed, with its process group.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Final

LIBC: Final = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS: Final = 0x20000
CLONE_NEWUSER: Final = 0x10000000
MS_NOSUID_NODEV: Final = 6
PAGE: Final = 4096

# linux/fuse.h
LOOKUP, FORGET, GETATTR, OPEN, READ, INIT, INTERRUPT, OPENDIR, BATCH_FORGET = (
    *(1, 2, 3, 14, 15, 26, 36, 27, 42),
)
ROOT, FILE = 1, 2
IN_HEADER: Final = struct.Struct("<IIQQ")
OUT_HEADER: Final = struct.Struct("<IiQ")
DIRECTORY_MODE, FILE_MODE = 0o40755, 0o100644


def attributes(node: int) -> bytes:
    """Return fuse_attr."""
    mode, size = (DIRECTORY_MODE, 0) if node == ROOT else (FILE_MODE, PAGE)
    return struct.pack("<6Q10I", node, size, 8, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, PAGE, 0)


ANSWERS: Final[Mapping[int, Callable[[int], bytes]]] = {
    INIT: lambda _: struct.pack("<4I2H2I2HIQ16x", 7, 31, 65536, 0, 12, 12, 65536, 1, 0, 0, 0, 0),
    LOOKUP: lambda _: struct.pack("<4Q2I", FILE, 0, 60, 60, 0, 0) + attributes(FILE),
    GETATTR: lambda node: struct.pack("<Q2I", 60, 0, 0) + attributes(node),
    OPEN: lambda _: struct.pack("<Q2I", 1, 0, 0),
    OPENDIR: lambda _: struct.pack("<Q2I", 1, 0, 0),
}
UNANSWERED: Final = {FORGET, INTERRUPT, BATCH_FORGET}


def serve(device: int) -> None:
    """Answer whatever the kernel asks, but for a read."""
    while True:
        request = os.read(device, 1 << 17)
        _, kind, number, node = IN_HEADER.unpack_from(request)
        if kind == READ:
            os.write(1, b"held\n")
        elif kind not in UNANSWERED:
            answer = ANSWERS[kind](node) if kind in ANSWERS else b""
            os.write(device, OUT_HEADER.pack(OUT_HEADER.size + len(answer), 0, number) + answer)


def checked(result: int) -> None:
    """Raise what a call of the C library failed with."""
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mount(folder: str) -> int:
    """Mount the file system; return its device."""
    uid, gid = os.getuid(), os.getgid()
    checked(LIBC.unshare(CLONE_NEWUSER | CLONE_NEWNS))
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"0 {uid} 1"),
        ("gid_map", f"0 {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 - one write
            file.write(text)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    checked(LIBC.mount(b"held", folder.encode(), b"fuse", MS_NOSUID_NODEV, options))
    return device


def main(pid: str, folder: str) -> None:
    """Hold it."""
    pipe = os.open(f"/proc/{pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK)
    device = mount(folder)
    if os.fork() == 0:
        serve(device)
    # The server's alone: the kernel gives the file system up with it, and this process can end.
    os.close(device)
    file = os.open(f"{folder}/file", os.O_RDONLY)
    LIBC.mmap.restype = ctypes.c_void_p
    LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long]
    prot_read, map_private = 1, 2
    page = LIBC.mmap(None, PAGE, prot_read, map_private, file, 0)
    LIBC.write(pipe, ctypes.c_void_p(page), ctypes.c_size_t(PAGE))


if __name__ == "__main__":
    main(*sys.argv[1:])
