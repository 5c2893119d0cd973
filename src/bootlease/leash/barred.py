"""System calls that a workload may not make, since they would undo or outlive its leash.

- A cgroup namespace: with a user namespace beside it, whoever has the user id of the cgroups'
  owner, root first of all, mounts them anew, writable, and freezes the leash or slows it down.
- ``TIOCSTI`` and ``TIOCLINUX``: what they put into the caller's terminal is read and executed by
  the caller's shell, outside of the leash.

Specifications: seccomp(2), ioctl_tty(2), cgroup_namespaces(7); a classic BPF program over ``struct
seccomp_data``. ``clone3`` has its flags in memory, where no filter sees them: it is answered as by
a kernel that does not have it, and C libraries then use ``clone``. Architectures that the table
does not have, x32 among them, have no system calls at all.

Carried by the leash: nothing is imported that it would not need (see ``kernel``).
"""

from __future__ import annotations

import errno
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

_CLONE_NEWCGROUP: Final = 0x02000000
_TIOCSTI: Final = 0x5412
_TIOCLINUX: Final = 0x541C
_CLONE3: Final = 435
_X32: Final = 0x40000000

_TABLES: Final = {
    # AUDIT_ARCH of each ABI that the machine runs, and its numbers: clone, unshare, ioctl.
    "x86_64": ((0xC000003E, 56, 272, 16), (0x40000003, 120, 310, 54)),
    "aarch64": ((0xC00000B7, 220, 97, 29), (0x40000028, 120, 337, 54)),
    "riscv64": ((0xC00000F3, 220, 97, 29),),
}

_NUMBER_AT: Final = 0
_ARCHITECTURE_AT: Final = 4
_ARGUMENTS_AT: Final = 16
"""Offsets in ``struct seccomp_data``; of each argument the lower half, machines being
little-endian."""
_LOAD: Final = 0x20
_IF_EQUAL: Final = 0x15
_IF_AT_LEAST: Final = 0x35
_IF_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_INSTRUCTION: Final = struct.Struct("<HBBI")

_Instruction = tuple[int, int, int, int]


def program(machine: str | None = None) -> bytes:
    """Return the filter as the kernel takes it.

    Args:
        machine: Architecture as uname(2) names it; by default this one's.

    Raises:
        OSError: It is not known here.
    """
    name = os.uname().machine if machine is None else machine
    if name not in _TABLES:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), f"system calls of {name}")
    steps: list[_Instruction] = []
    for architecture, *numbers in _TABLES[name]:
        block = list(_block(*numbers))
        steps.append((_LOAD, 0, 0, _ARCHITECTURE_AT))
        steps.append((_IF_EQUAL, 0, len(block), architecture))
        steps += block
    steps.append(_refuse(errno.ENOSYS))
    return b"".join(_INSTRUCTION.pack(*step) for step in steps)


def _block(clone: int, unshare: int, ioctl: int) -> Iterator[_Instruction]:
    yield (_LOAD, 0, 0, _NUMBER_AT)
    yield (_IF_AT_LEAST, 0, 1, _X32)
    yield _refuse(errno.ENOSYS)
    yield (_IF_EQUAL, 0, 1, _CLONE3)
    yield _refuse(errno.ENOSYS)
    for call, argument, test, value in (
        (clone, 0, _IF_ANY_BIT, _CLONE_NEWCGROUP),
        (unshare, 0, _IF_ANY_BIT, _CLONE_NEWCGROUP),
        (ioctl, 1, _IF_EQUAL, _TIOCSTI),
        (ioctl, 1, _IF_EQUAL, _TIOCLINUX),
    ):
        yield (_LOAD, 0, 0, _NUMBER_AT)
        yield (_IF_EQUAL, 0, 3, call)
        yield (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument)
        yield (test, 0, 1, value)
        yield _refuse(errno.EPERM)
    yield (_RETURN, 0, 0, _ALLOW)


def _refuse(number: int) -> _Instruction:
    return (_RETURN, 0, 0, _ERRNO | number)
