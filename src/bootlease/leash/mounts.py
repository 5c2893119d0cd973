"""What a workload sees of the file system that it could turn against its leash.

In the leash's own mount namespace: a /proc of its own, in which the processes outside are not to
be seen; no writing to cgroups, with which it could freeze its leash or leave; for root also no
writing to what the kernel obeys root in without a capability (/proc/sys holds ``core_pattern``,
a program that the kernel itself starts, outside).

Specifications: mount(2), proc(5) (mountinfo).

Not handled: files of services outside that act for whoever writes to them (cron, systemd units,
a container runtime's socket). docs/leash.md says what that means for root.
"""

from __future__ import annotations

import errno
import os

from bootlease.leash import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

_OPTION_FLAGS: Final = {
    "nosuid": kernel.MS_NOSUID,
    "nodev": kernel.MS_NODEV,
    "noexec": kernel.MS_NOEXEC,
    "noatime": 0x400,
    "nodiratime": 0x800,
    "relatime": 0x200000,
}
_OBEYED: Final = ("/proc/sys", "/proc/sysrq-trigger")


class Mount:
    """One line of mountinfo.

    Attributes:
        root: What of the file system is mounted there.
        point: Where.
        options: Options of this mount, such as ``nosuid``.
        kind: Type of file system.
        controllers: Options of the file system, which in cgroup v1 name its controllers.
    """

    __slots__ = ("controllers", "kind", "options", "point", "root")

    def __init__(self, line: str) -> None:
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        self.root = _plain(fields[3])
        self.point = _plain(fields[4])
        self.options = fields[5].split(",")
        self.kind, _, options = right.split(" ", 2)
        self.controllers = set(options.split(","))


def _plain(text: str) -> str:
    # proc(5): space, tab, newline and backslash are written in octal.
    for octal, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(octal, char)
    return text


def mounted() -> Iterator[Mount]:
    """Yield what is mounted in this process's namespace.

    Raises:
        OSError: /proc is not there.
    """
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:  # noqa: PTH123 - pathlib is not worth its megabyte in each leash
        for line in lines:
            yield Mount(line.rstrip("\n"))


def shut(*, root: bool) -> str:
    """Arrange this mount namespace, which must be the leash's own.

    Args:
        root: The workload has the user id of the host's root.

    Returns:
        What could not be had, for the log; empty where all is well.

    Raises:
        KernelError: Something that the leash rests on cannot be done.
    """
    # What is mounted outside later still comes in; nothing goes out.
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_SLAVE)
    for mount in list(mounted()):
        if mount.kind in ("cgroup", "cgroup2"):
            _read_only(mount.point, mount.options)
    lacking = _own_proc()
    if root:
        for path in _OBEYED:
            if os.path.exists(path):  # noqa: PTH110 - as below
                kernel.mount(path, path, None, kernel.MS_BIND)
                _read_only(path, ["nosuid", "nodev", "noexec"])
    return lacking


def _read_only(point: str, options: list[str]) -> None:
    kept = sum(_OPTION_FLAGS.get(option, 0) for option in options)
    try:
        kernel.mount(
            None, point, None, kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kept
        )
    except kernel.KernelError as exc:
        # Covered by another mount, or out of reach for this user, and so for the workload.
        if exc.errno not in (errno.EINVAL, errno.ENOENT, errno.EACCES):
            raise


def _own_proc() -> str:
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    try:
        kernel.mount("proc", "/proc", "proc", flags)
    except kernel.KernelError as exc:
        # Under a container runtime that covers parts of /proc, the kernel gives out no whole one.
        if exc.errno != errno.EPERM:
            raise
        return "no /proc of its own: the workload sees the processes outside"
    return ""
