"""The filter, run by an interpreter of classic BPF that knows the instructions it uses."""

from __future__ import annotations

import errno
import os
import struct
from typing import Final

import pytest

from bootlease.leash import barred

ALLOWED: Final = 0x7FFF0000
REFUSED: Final = 0x00050000
X86_64, I386, AARCH64, ARM, RISCV = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028, 0xC00000F3
NEW_CGROUP, NEW_USER, TIOCSTI, TIOCLINUX, TCGETS = 0x02000000, 0x10000000, 0x5412, 0x541C, 0x5401

ABIS: Final = [
    ("x86_64", X86_64, 56, 272, 16),
    ("x86_64", I386, 120, 310, 54),
    ("aarch64", AARCH64, 220, 97, 29),
    ("aarch64", ARM, 120, 337, 54),
    ("riscv64", RISCV, 220, 97, 29),
]
"""Machine, AUDIT_ARCH, and the numbers of clone, unshare and ioctl."""


def judged(machine: str, architecture: int, number: int, *arguments: int) -> int:
    """Return what the filter makes of a system call: 0 where it is allowed, else errno."""
    whole = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number, architecture, 0, *whole)
    code = barred.program(machine)
    place = held = 0
    while True:
        kind, true, false, value = struct.unpack_from("<HBBI", code, place * 8)
        place += 1
        match kind:
            case 0x20:
                (held,) = struct.unpack_from("<I", data, value)
            case 0x15:
                place += true if held == value else false
            case 0x35:
                place += true if held >= value else false
            case 0x45:
                place += true if held & value else false
            case 0x06:
                return 0 if value == ALLOWED else value - REFUSED
            case _:
                raise AssertionError(kind)


@pytest.mark.parametrize(("machine", "architecture", "clone", "unshare", "ioctl"), ABIS)
def test_what_undoes_a_leash_is_refused(
    machine: str, architecture: int, clone: int, unshare: int, ioctl: int
) -> None:
    """A cgroup namespace, and typing into the terminal, are refused in every ABI of a machine."""
    assert judged(machine, architecture, clone, NEW_CGROUP | NEW_USER | 17) == errno.EPERM
    assert judged(machine, architecture, unshare, NEW_CGROUP) == errno.EPERM
    # The kernel looks at the lower half of a request alone.
    for request in (TIOCSTI, TIOCLINUX, TIOCSTI | 1 << 32):
        assert judged(machine, architecture, ioctl, 0, request) == errno.EPERM


@pytest.mark.parametrize(("machine", "architecture", "clone", "unshare", "ioctl"), ABIS)
def test_everything_else_is_allowed(
    machine: str, architecture: int, clone: int, unshare: int, ioctl: int
) -> None:
    """Forks, other namespaces, other requests and other calls are left alone."""
    assert judged(machine, architecture, clone, NEW_USER | 17, NEW_CGROUP) == 0
    assert judged(machine, architecture, unshare, NEW_USER) == 0
    assert judged(machine, architecture, ioctl, TIOCSTI, TCGETS) == 0
    assert judged(machine, architecture, 1, NEW_CGROUP, TIOCSTI) == 0


@pytest.mark.parametrize(("machine", "architecture", "clone"), [abi[:3] for abi in ABIS])
def test_clone3_is_as_if_it_were_not_there(machine: str, architecture: int, clone: int) -> None:
    """Its flags are out of a filter's sight; a C library then uses clone."""
    del clone
    assert judged(machine, architecture, 435) == errno.ENOSYS


@pytest.mark.parametrize(("machine", "architecture"), [("x86_64", AARCH64), ("aarch64", X86_64)])
def test_another_architecture_has_no_calls(machine: str, architecture: int) -> None:
    """What is not in the table of a machine is refused, not let by."""
    assert judged(machine, architecture, 1) == errno.ENOSYS


def test_x32_has_no_calls() -> None:
    """x32 has numbers of its own under the architecture of x86-64."""
    assert judged("x86_64", X86_64, 0x40000000 | 56, NEW_CGROUP) == errno.ENOSYS


def test_an_unknown_machine_has_no_filter() -> None:
    """A machine whose numbers are not known is an error, by which no workload starts."""
    with pytest.raises(OSError, match="Function not implemented") as caught:
        barred.program("s390x")
    assert caught.value.errno == errno.ENOSYS


def test_this_machine_has_one() -> None:
    """Left out, the machine is this one."""
    assert barred.program() == barred.program(os.uname().machine)
